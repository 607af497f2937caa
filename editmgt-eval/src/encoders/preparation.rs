//! Image preprocessing for vision towers: the image processors of `transformers`.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use editmgt::config::{ConfigError, ConfigKeys, UnknownKeys};
use editmgt::photo::{PixelSize, ResizeFilter, resize_rgb};
use editmgt::{Error, ModelError, read_config};
use image::RgbImage;
use serde::Deserialize;
use serde_json::Value;

use super::BATCH;
use crate::encoders::Result;

const COMPONENT: &str = "image processor";
/// Far above the pictures of any tower.
const MAX_SIDE: usize = 1 << 14;

/// The library's image processor class, which determines the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Processor {
    /// `CLIPImageProcessor` and `BitImageProcessor`: resize the shorter side, then crop the centre.
    Clip,
    /// `ViTImageProcessor`: resize both sides, whatever the aspect ratio.
    Vit,
}

/// Image preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Preparation {
    resize: Resize,
    filter: ResizeFilter,
    /// The size of the result: the resized image, or its centre crop.
    size: PixelSize,
    /// The factor from bytes to the values from which the mean is subtracted.
    factor: f64,
    mean: [f32; 3],
    deviation: [f32; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resize {
    /// Resizes the shorter side to this length, with the aspect ratio kept.
    ShortestEdge(usize),
    /// Resizes both sides.
    Exact(PixelSize),
}

/// The keys of a `preprocessor_config.json`; missing or null keys have the class's default.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<u8>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Channels>,
    image_std: Option<Channels>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(
    untagged,
    expecting = "a size: expected a number, height and width, or {\"shortest_edge\": a number}"
)]
enum Size {
    Side(usize),
    Sides([usize; 2]),
    Edge(ShortestEdge),
    Exact(PixelSize),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortestEdge {
    shortest_edge: usize,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "image_mean or image_std: expected a number, or three in a list")]
enum Channels {
    All(f64),
    Each([f64; 3]),
}

impl Preparation {
    /// File name of the config.
    pub(super) const FILE: &str = "preprocessor_config.json";
    /// File name of the configs of all processors, which transformers 5 writes for a model with a
    /// tokeniser instead.
    pub(super) const ALL_FILE: &str = "processor_config.json";

    /// Reads the file in the folder `dir`, or the image processor in the file of all; `usual` is
    /// the class where the file names none.
    pub(super) fn read(
        dir: &Path,
        usual: Processor,
        unknown_keys: UnknownKeys,
    ) -> Result<Self, ModelError> {
        if !dir.join(Self::FILE).exists() && dir.join(Self::ALL_FILE).exists() {
            return read_config(dir, Self::ALL_FILE, |text| {
                Self::from_all(text, usual, unknown_keys)
            });
        }
        read_config(dir, Self::FILE, |text| Self::from_json_with(text, usual, unknown_keys))
    }

    /// Reads the `image_processor` in the text of a `processor_config.json`. The other keys are of
    /// processors that nothing here computes.
    fn from_all(
        text: &str,
        usual: Processor,
        unknown_keys: UnknownKeys,
    ) -> Result<Self, ConfigError> {
        let mut keys = ConfigKeys::read(COMPONENT, text, UnknownKeys::Accept)?;
        match keys.take("image_processor") {
            Some(Value::Object(image)) => {
                Self::from_json_with(&Value::Object(image).to_string(), usual, unknown_keys)
            }
            got => {
                let got = got.map_or("none".to_owned(), |value| value.to_string());
                unsupported("image_processor", "an object", got)
            }
        }
    }

    /// Reads the text of a `preprocessor_config.json`.
    fn from_json_with(
        text: &str,
        usual: Processor,
        unknown_keys: UnknownKeys,
    ) -> Result<Self, ConfigError> {
        let mut keys = ConfigKeys::read(COMPONENT, text, unknown_keys)?;
        // Names of classes, and where the library computes. Pictures here have three colours.
        keys.ignore(&["device", "disable_grouping", "do_convert_rgb", "processor_class"]);
        keys.ignore(&["data_format", "input_data_format", "return_tensors"]);
        keys.require("do_pad", &[false])?;
        let file: File = keys.parse()?;
        let processor = file.processor(usual)?;
        if file.do_resize == Some(false) {
            return unsupported("do_resize", "true", false);
        }
        let resize = file.resize(processor)?;
        let (mean, deviation) = match file.do_normalize {
            Some(false) => ([0.0; 3], [1.0; 3]),
            _ => file.normalisation(processor)?,
        };
        let factor = match file.do_rescale {
            Some(false) => 1.0,
            _ => file.rescale_factor.unwrap_or(1.0 / 255.0),
        };
        if !(factor > 0.0 && factor.is_finite()) {
            return unsupported("rescale_factor", "a finite number above 0", factor);
        }
        let (filter, size) = (file.filter(processor)?, file.crop(processor, resize)?);
        Ok(Self { resize, filter, size, factor, mean, deviation })
    }

    /// Checks that the result is a square of `side`, for towers of a fixed size.
    pub(super) fn check_square(&self, side: usize) -> Result<(), ModelError> {
        let sides = [self.size.height, self.size.width];
        match sides.into_iter().find(|&got| got != side) {
            None => Ok(()),
            Some(got) => Err(disagree("side of an image", side, got)),
        }
    }

    /// Checks that the result has at least one whole patch.
    pub(super) fn check_patch(&self, patch: usize) -> Result<(), ModelError> {
        let side = self.size.height.min(self.size.width);
        if side >= patch {
            Ok(())
        } else {
            Err(disagree("side of an image with a whole patch", patch, side))
        }
    }

    /// The preprocessed image, `[3, H, W]` row-major: bit for bit as the library.
    pub(super) fn values(&self, picture: &RgbImage) -> Result<Vec<f32>> {
        let (height, width) = (picture.height() as usize, picture.width() as usize);
        if height == 0 || width == 0 {
            return Err(Error::shape("image", "at least one pixel", format!("{width}x{height}")));
        }
        let resized = resize_rgb(picture, self.resize.of(height, width), self.filter);
        let PixelSize { height, width } = self.size;
        let top = (resized.height() as usize - height) / 2;
        let left = (resized.width() as usize - width) / 2;
        let mut values = Vec::with_capacity(3 * height * width);
        for channel in 0..3 {
            let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
            for y in top..top + height {
                for x in left..left + width {
                    let byte = resized.get_pixel(x as u32, y as u32).0[channel];
                    let value = (f64::from(byte) * self.factor) as f32;
                    values.push((value - mean) / deviation);
                }
            }
        }
        Ok(values)
    }

    /// Runs `encode` (`[B, 3, H, W]` to `[B, D]`) on images in batches; one feature per image.
    pub(super) fn batches(
        &self,
        pictures: &[&RgbImage],
        device: &Device,
        encode: impl Fn(Tensor<4>) -> Tensor<2>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut features = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(BATCH) {
            let mut values = Vec::new();
            for picture in batch {
                values.extend(self.values(picture)?);
            }
            let shape = [batch.len(), 3, self.size.height, self.size.width];
            let pictures = Tensor::from_data(TensorData::new(values, shape), device);
            features.extend(rows(encode(pictures))?);
        }
        Ok(features)
    }
}

/// The rows of `[B, D]` on the host.
pub(super) fn rows(features: Tensor<2>) -> Result<Vec<Vec<f32>>> {
    let [_, width] = features.dims();
    let values = features.try_into_vec_as::<f32>();
    let values = values.map_err(|e| Error::device("reading features", e))?;
    Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
}

impl Resize {
    /// The resized size. The library rounds down.
    fn of(self, height: usize, width: usize) -> PixelSize {
        match self {
            Self::Exact(size) => size,
            Self::ShortestEdge(edge) if width <= height => {
                PixelSize::new((edge * height) / width, edge)
            }
            Self::ShortestEdge(edge) => PixelSize::new(edge, (edge * width) / height),
        }
    }
}

impl File {
    fn processor(&self, usual: Processor) -> Result<Processor, ConfigError> {
        let named = self.image_processor_type.as_ref().or(self.feature_extractor_type.as_ref());
        let Some(named) = named else { return Ok(usual) };
        match named.strip_suffix("Fast").unwrap_or(named) {
            "CLIPImageProcessor" | "CLIPFeatureExtractor" | "BitImageProcessor" => {
                Ok(Processor::Clip)
            }
            "ViTImageProcessor" | "ViTFeatureExtractor" => Ok(Processor::Vit),
            _ => {
                let expected = "CLIPImageProcessor, BitImageProcessor or ViTImageProcessor";
                unsupported("image_processor_type", expected, named)
            }
        }
    }

    fn resize(&self, processor: Processor) -> Result<Resize, ConfigError> {
        let usual = || Size::Side(224);
        Ok(match (self.size.unwrap_or_else(usual), processor) {
            (Size::Side(side), Processor::Clip) => Resize::ShortestEdge(checked("size", side)?),
            (Size::Edge(edge), Processor::Clip) => {
                Resize::ShortestEdge(checked("size", edge.shortest_edge)?)
            }
            (Size::Edge(edge), Processor::Vit) => {
                return unsupported("size", "height and width", edge.shortest_edge);
            }
            (size, _) => Resize::Exact(size.exact("size")?),
        })
    }

    /// The size of the centre crop, or of the whole resized image.
    fn crop(&self, processor: Processor, resize: Resize) -> Result<PixelSize, ConfigError> {
        const KEY: &str = "do_center_crop";
        match (self.do_center_crop.unwrap_or(processor == Processor::Clip), processor, resize) {
            (true, Processor::Vit, _) => unsupported(KEY, "false with this class", true),
            (false, _, Resize::Exact(size)) => Ok(size),
            (false, _, Resize::ShortestEdge(_)) => {
                unsupported(KEY, "true, or a size of height and width", false)
            }
            (true, _, _) => {
                let crop = self.crop_size.unwrap_or(Size::Side(224)).exact("crop_size")?;
                let most = resize.of(1, 1);
                if crop.height <= most.height && crop.width <= most.width {
                    Ok(crop)
                } else {
                    // The library would pad.
                    unsupported("crop_size", format!("at most the size, {most}"), crop)
                }
            }
        }
    }

    /// Pillow's filter numbers.
    fn filter(&self, processor: Processor) -> Result<ResizeFilter, ConfigError> {
        let usual = if processor == Processor::Clip { 3 } else { 2 };
        match self.resample.unwrap_or(usual) {
            1 => Ok(ResizeFilter::Lanczos),
            2 => Ok(ResizeFilter::Bilinear),
            3 => Ok(ResizeFilter::Bicubic),
            other => unsupported("resample", "1 (Lanczos), 2 (bilinear) or 3 (bicubic)", other),
        }
    }

    fn normalisation(&self, processor: Processor) -> Result<([f32; 3], [f32; 3]), ConfigError> {
        let (mean, deviation) = match processor {
            // The mean and deviation of CLIP's training images.
            Processor::Clip => (
                Channels::Each([0.48145466, 0.4578275, 0.40821073]),
                Channels::Each([0.26862954, 0.26130258, 0.27577711]),
            ),
            Processor::Vit => (Channels::All(0.5), Channels::All(0.5)),
        };
        let mean = self.image_mean.unwrap_or(mean).each();
        let deviation = self.image_std.unwrap_or(deviation).each();
        if let Some(value) = mean.iter().find(|value| !value.is_finite()) {
            return unsupported("image_mean", "finite numbers", value);
        }
        match deviation.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
            Some(value) => unsupported("image_std", "finite numbers above 0", value),
            None => Ok((mean, deviation)),
        }
    }
}

impl Size {
    fn exact(self, key: &'static str) -> Result<PixelSize, ConfigError> {
        let size = match self {
            Self::Side(side) => PixelSize::new(side, side),
            Self::Sides([height, width]) => PixelSize::new(height, width),
            Self::Exact(size) => size,
            Self::Edge(edge) => return unsupported(key, "height and width", edge.shortest_edge),
        };
        Ok(PixelSize::new(checked(key, size.height)?, checked(key, size.width)?))
    }
}

impl Channels {
    fn each(self) -> [f32; 3] {
        match self {
            Self::All(value) => [value as f32; 3],
            Self::Each(values) => values.map(|value| value as f32),
        }
    }
}

fn checked(key: &'static str, side: usize) -> Result<usize, ConfigError> {
    if (1..=MAX_SIDE).contains(&side) {
        Ok(side)
    } else {
        unsupported(key, format!("1 to {MAX_SIDE}"), side)
    }
}

fn disagree(what: &'static str, model: usize, processor: usize) -> ModelError {
    ModelError::Disagree {
        what,
        left: "model",
        left_value: model,
        right: COMPONENT,
        right_value: processor,
    }
}

fn unsupported<T>(
    key: &'static str,
    expected: impl ToString,
    got: impl ToString,
) -> Result<T, ConfigError> {
    Err(ConfigError::unsupported(COMPONENT, key, expected, got))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoders::config::check_table;

    fn of(processor: Processor) -> impl Fn(&str, UnknownKeys) -> Result<Preparation, ConfigError> {
        move |text, unknown_keys| Preparation::from_json_with(text, processor, unknown_keys)
    }

    fn text(version: &str, name: &str) -> String {
        let path = Path::new("testdata/configs").join(version).join(name).with_extension("json");
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn processors_of_every_version_are_read() {
        // The file names the class, so that the usual one does not matter.
        for usual in [Processor::Clip, Processor::Vit] {
            let names = ["preprocessor_clip", "preprocessor_bit", "preprocessor_vit"];
            check_table(&names, of(usual));
        }
    }

    #[test]
    fn every_version_says_what_the_classes_compute() {
        for (name, resize, mean) in [
            ("preprocessor_clip", Resize::ShortestEdge(224), 0.48145466),
            ("preprocessor_bit", Resize::ShortestEdge(224), 0.48145466),
            ("preprocessor_vit", Resize::Exact(PixelSize::new(224, 224)), 0.5),
        ] {
            let first = text("transformers-4.44.2", name);
            let first = of(Processor::Clip)(&first, UnknownKeys::Refuse).unwrap();
            assert_eq!((first.resize, first.mean[0]), (resize, mean), "{name}");
            for version in ["4.47.1", "4.51.3", "4.57.1", "5.0.0", "5.24.0"] {
                let text = text(&format!("transformers-{version}"), name);
                let read = of(Processor::Clip)(&text, UnknownKeys::Refuse).unwrap();
                assert_eq!(read, first, "{version}/{name}");
            }
        }
    }

    #[test]
    fn the_file_of_all_processors_is_read_where_it_is_the_only_one() {
        let scratch = tempfile::tempdir().unwrap();
        let read = || {
            Preparation::read(scratch.path(), Processor::Clip, UnknownKeys::Refuse).map(|p| p.mean)
        };
        let missing = read().unwrap_err().to_string();
        assert!(missing.contains(Preparation::FILE), "{missing}");
        let all = scratch.path().join(Preparation::ALL_FILE);
        for version in ["transformers-5.0.0", "transformers-5.24.0"] {
            std::fs::write(&all, text(version, "processor_clip")).unwrap();
            assert_eq!(read().unwrap()[0], 0.48145466, "{version}");
        }
        for (bad, named) in [
            ("{}", "image_processor"),
            (r#"{"image_processor": 3}"#, "got 3"),
            (r#"{"image_processor": {"do_resize": false}}"#, "do_resize"),
            (r#"{"image_processor": {"sharpen": 1}}"#, "sharpen"),
        ] {
            std::fs::write(&all, bad).unwrap();
            let message = read().unwrap_err().to_string();
            assert!(message.contains(named), "{bad}: {message}");
            assert!(message.contains(Preparation::ALL_FILE), "{bad}: {message}");
        }
        let own = r#"{"image_mean": 0.25, "image_std": 1}"#;
        std::fs::write(scratch.path().join(Preparation::FILE), own).unwrap();
        assert_eq!(read().unwrap(), [0.25; 3]);
    }
}
