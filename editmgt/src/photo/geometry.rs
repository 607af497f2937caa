use burn::tensor::{DType, Device, Tensor, TensorData};
use editmgt_core::{Error, GridSize, Result};
use image::RgbImage;
use serde::Serialize;

use super::resize::{ResizeFilter, resize_rgb};
use super::{Photo, PixelSize};

/// Longest side that a plan may ask the model for, pixels: four times what anyone has run.
pub(crate) const MAX_SIDE: usize = 1 << 14;

/// How far from the ideal [`ResizePlan::fit`] looks for a better shape, as a share of a side.
const REACH: f64 = 0.1;

/// What a deviation in area costs [`ResizePlan::fit`] compared with one in proportions: a picture
/// that is a little larger or smaller goes unnoticed, one that is stretched doesn't.
const AREA_WEIGHT: f64 = 0.1;

/// How a photo of any size maps onto the pixels that the model works on, and back.
///
/// The whole photo is always mapped; nothing is cropped. A plan is a record: the same plan takes
/// the photo to the model and the result back to the photo's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ResizePlan {
    photo: PixelSize,
    model: PixelSize,
    shrink: ResizeFilter,
    restore: ResizeFilter,
}

impl ResizePlan {
    /// The default: about as many pixels as a square of `side`, both sides multiples of
    /// `multiple`, proportions kept as well as that allows.
    ///
    /// `multiple` is the codec's downsampling factor times the transformer's grid factor; `side`
    /// is what the model was trained on, for instance 1024. Of all sizes within about 10% of the
    /// ideal sides it takes the one that distorts least (a larger or smaller area counts a tenth of
    /// a distortion): never worse than rounding both sides, and none at all for the usual 1:1, 4:3
    /// and 3:2 at 1024.
    ///
    /// # Errors
    /// [`Error::Value`] when `multiple` is 0, `side` is below `multiple` or above 16,384, or the
    /// photo is so narrow that its short side would get less than one multiple or its long side
    /// more than 16,384 pixels: a ratio above `(side / multiple)²` or `(16384 / side)²`.
    pub fn fit(photo: PixelSize, side: usize, multiple: usize) -> Result<Self> {
        if multiple == 0 || !(multiple..=MAX_SIDE).contains(&side) {
            let expected = format!("{} to {MAX_SIDE} pixels for this model", multiple.max(1));
            return Err(Error::value("size (the side of a square)", expected, side));
        }
        let ratio = photo.longer() as f64 / photo.shorter() as f64;
        let limit = ratio_limit(side, multiple);
        // An empty photo has no ratio.
        if ratio.is_nan() || ratio > limit {
            let expected = format!("sides in a ratio of at most {limit:.0}:1 at size {side}");
            return Err(Error::value("photo", expected, photo));
        }
        let (height, width) = (photo.height as f64, photo.width as f64);
        let scale = side as f64 / (height * width).sqrt() / multiple as f64;
        let (rows, columns) = (height * scale, width * scale);
        let candidates = |ideal: f64| {
            let low = (ideal * (1.0 - REACH)).floor() as usize;
            let high = (ideal * (1.0 + REACH)).ceil() as usize;
            low.max(1)..=high.min(MAX_SIDE / multiple)
        };
        let cost = |&(r, c): &(usize, usize)| {
            let (r, c) = (r as f64 / rows, c as f64 / columns);
            (c / r).ln().abs() + AREA_WEIGHT * (r * c).ln().abs()
        };
        let (rows, columns) = candidates(rows)
            .flat_map(|r| candidates(columns).map(move |c| (r, c)))
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .expect("the ratio leaves one multiple a side");
        Self::exact(photo, PixelSize::new(rows * multiple, columns * multiple), multiple)
    }

    /// No resize at all, for a photo whose sides suit the codec already.
    ///
    /// # Errors
    /// [`Error::Value`] when a side is no multiple of `multiple`, or longer than 16,384.
    pub fn native(photo: PixelSize, multiple: usize) -> Result<Self> {
        Self::exact(photo, photo, multiple)
    }

    /// A square, whatever the photo's proportions: what the official example does.
    ///
    /// # Errors
    /// Those of [`exact`](Self::exact).
    pub fn square(photo: PixelSize, side: usize, multiple: usize) -> Result<Self> {
        Self::exact(photo, PixelSize::new(side, side), multiple)
    }

    /// A size of your choice. Proportions that differ from the photo's stretch it; it is stretched
    /// back by [`invert`](Self::invert).
    ///
    /// # Errors
    /// [`Error::Value`] when a side of `model` is 0, no multiple of `multiple`, or longer than
    /// 16,384, or the photo is empty.
    pub fn exact(photo: PixelSize, model: PixelSize, multiple: usize) -> Result<Self> {
        let suits = |side: usize| {
            (1..=MAX_SIDE).contains(&side) && multiple > 0 && side.is_multiple_of(multiple)
        };
        if !suits(model.height) || !suits(model.width) {
            let expected = format!("sides that are multiples of {multiple}, up to {MAX_SIDE}");
            return Err(Error::value("size of the picture to edit", expected, model));
        }
        if photo.shorter() == 0 {
            return Err(Error::value("photo", "at least one pixel", photo));
        }
        Ok(Self { photo, model, shrink: ResizeFilter::Bilinear, restore: ResizeFilter::Bicubic })
    }

    /// The plan with other filters. By default [`Bilinear`](ResizeFilter::Bilinear) takes the photo
    /// to the model, as in the official preparation, and [`Bicubic`](ResizeFilter::Bicubic) takes
    /// the result back: sharper where it must grow, without the halos of Lanczos.
    pub fn with_filters(self, shrink: ResizeFilter, restore: ResizeFilter) -> Self {
        Self { shrink, restore, ..self }
    }

    /// The photo's size, upright.
    pub fn photo(&self) -> PixelSize {
        self.photo
    }

    /// The size that the model sees.
    pub fn model(&self) -> PixelSize {
        self.model
    }

    /// The token grid of a codec with this downsampling factor. Panics when that is 0.
    pub fn grid(&self, downsample_factor: usize) -> GridSize {
        GridSize::new(self.model.height / downsample_factor, self.model.width / downsample_factor)
    }

    /// The photo as the model reads it: `[1, 3, H, W]`, RGB in 0..1, f32.
    ///
    /// Source: the official `process_image` (8-bit bilinear resize, then division by 255).
    ///
    /// # Errors
    /// [`Error::Shape`] when the plan was made for a photo of another size.
    pub fn apply(&self, photo: &Photo, device: &Device) -> Result<Tensor<4>> {
        if photo.size() != self.photo {
            return Err(Error::shape("photo of this resize plan", self.photo, photo.size()));
        }
        let resized = resize_rgb(photo.rgb(), self.model, self.shrink);
        let pixels = resized.as_raw().as_chunks::<3>().0;
        let planes = (0..3)
            .flat_map(|channel| pixels.iter().map(move |pixel| f32::from(pixel[channel]) / 255.0))
            .collect::<Vec<_>>();
        let shape = [1, 3, self.model.height, self.model.width];
        Ok(Tensor::from_data(TensorData::new(planes, shape), (device, DType::F32)))
    }

    /// The model's picture at the photo's size: `[1, 3, H, W]`, RGB in 0..1 (what is outside is
    /// clamped), rounded to bytes, then resized.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape, [`Error::Value`] when a value is not a number,
    /// [`Error::Device`] when the picture can't be read back.
    pub fn invert(&self, picture: Tensor<4>) -> Result<RgbImage> {
        let PixelSize { height, width } = self.model;
        if picture.dims() != [1, 3, height, width] {
            let (expected, got) = ([1, 3, height, width], picture.dims());
            let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
            return Err(Error::shape("decoded picture", expected, got));
        }
        let planes = picture
            .try_into_vec_as::<f32>()
            .map_err(|e| Error::device("reading the decoded picture", e))?;
        if planes.iter().any(|value| value.is_nan()) {
            return Err(Error::value("decoded picture", "numbers", "NaN"));
        }
        let area = height * width;
        let pixels = (0..area)
            .flat_map(|i| [planes[i], planes[area + i], planes[2 * area + i]])
            .map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8)
            .collect();
        let picture = RgbImage::from_raw(width as u32, height as u32, pixels)
            .expect("three bytes for each pixel");
        Ok(if self.photo == self.model {
            picture
        } else {
            resize_rgb(&picture, self.photo, self.restore)
        })
    }
}

/// The largest ratio of a photo's sides that leaves one `multiple` for the short side and at most
/// [`MAX_SIDE`] for the long one.
fn ratio_limit(side: usize, multiple: usize) -> f64 {
    let side = side as f64;
    (side / multiple as f64).min(MAX_SIDE as f64 / side).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDES: [usize; 11] = [8, 17, 96, 333, 480, 768, 1024, 1536, 3000, 4032, 6000];
    /// (side, multiple): the published model with and without down/up blocks, and tiny ones.
    const TARGETS: [(usize, usize); 5] = [(1024, 32), (1024, 16), (512, 32), (512, 16), (64, 8)];

    fn relative_distortion(plan: &ResizePlan) -> f64 {
        let ratio = |size: PixelSize| size.width as f64 / size.height as f64;
        (ratio(plan.model) / ratio(plan.photo)).ln().abs()
    }

    #[test]
    fn fit_keeps_its_promises_for_any_size() {
        for (side, multiple) in TARGETS {
            for height in SIDES {
                for width in SIDES {
                    let photo = PixelSize::new(height, width);
                    let ratio = photo.longer() as f64 / photo.shorter() as f64;
                    let plan = ResizePlan::fit(photo, side, multiple);
                    if ratio > ratio_limit(side, multiple) {
                        assert!(plan.is_err(), "{photo} at {side}");
                        continue;
                    }
                    let plan = plan.unwrap();
                    let context = format!("{photo} at {side}/{multiple}: {}", plan.model);
                    for side in [plan.model.height, plan.model.width] {
                        assert!(side >= multiple && side.is_multiple_of(multiple), "{context}");
                    }
                    // Rounding moves a side by half a multiple at most; the choice is no worse.
                    let short = side as f64 / ratio.sqrt() / multiple as f64;
                    let long = side as f64 * ratio.sqrt() / multiple as f64;
                    let rounded = |ideal: f64| (ideal.round() / ideal).ln();
                    let (short, long) = (rounded(short), rounded(long));
                    let bound = (long - short).abs() + AREA_WEIGHT * (long + short).abs();
                    assert!(relative_distortion(&plan) <= bound + 1e-9, "{context}");
                    let area = (plan.model.height * plan.model.width) as f64;
                    let off = (area / (side * side) as f64).ln().abs();
                    // Down to one multiple a side, half a multiple is much; otherwise little.
                    assert!(off <= bound / AREA_WEIGHT + 1e-9, "{context}: area off by {off}");
                }
            }
        }
    }

    #[test]
    fn the_usual_proportions_are_kept_exactly() {
        for ((height, width), model) in [
            ((1024, 1024), (1024, 1024)),
            ((3000, 3000), (1024, 1024)),
            ((3024, 4032), (864, 1152)),
            ((4032, 3024), (1152, 864)),
            ((4000, 6000), (832, 1248)),
            ((896, 1152), (896, 1152)), // suits already: no resize
        ] {
            let plan = ResizePlan::fit(PixelSize::new(height, width), 1024, 32).unwrap();
            assert_eq!((plan.model.height, plan.model.width), model, "{height}x{width}");
            let plan = ResizePlan::fit(PixelSize::new(height, width), 1024, 16).unwrap();
            assert!(relative_distortion(&plan) < 1e-9, "{height}x{width} at 16");
        }
    }

    #[test]
    fn impossible_plans_are_refused() {
        let photo = PixelSize::new(100, 200);
        for (what, plan) in [
            ("multiple 0", ResizePlan::fit(photo, 64, 0)),
            ("side 0", ResizePlan::fit(photo, 0, 16)),
            ("side below the multiple", ResizePlan::fit(photo, 8, 16)),
            ("huge side", ResizePlan::fit(photo, usize::MAX, 16)),
            ("empty photo", ResizePlan::fit(PixelSize::new(0, 0), 64, 16)),
            ("flat photo", ResizePlan::fit(PixelSize::new(0, 9), 64, 16)),
            ("not native", ResizePlan::native(photo, 16)),
            ("native 0", ResizePlan::native(PixelSize::new(0, 16), 16)),
            ("exact multiple 0", ResizePlan::exact(photo, photo, 0)),
            ("square of 0", ResizePlan::square(photo, 0, 16)),
            ("square of 100", ResizePlan::square(photo, 100, 16)),
        ] {
            assert!(matches!(plan, Err(Error::Value { .. })), "{what}: {plan:?}");
        }
    }

    #[test]
    fn there_and_back_has_the_photos_size_and_looks_like_it() {
        let device = Device::flex();
        for (height, width) in [(48, 64), (61, 37), (200, 130), (8, 40)] {
            // A smooth picture survives resampling; noise would not.
            let rgb = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([(x * 200 / width) as u8, (y * 200 / height) as u8, 90])
            });
            let photo = Photo::from_rgb(rgb).unwrap();
            for plan in [
                ResizePlan::fit(photo.size(), 64, 8).unwrap(),
                ResizePlan::square(photo.size(), 64, 8).unwrap(),
                ResizePlan::native(photo.size(), 1).unwrap(),
            ] {
                let picture = plan.apply(&photo, &device).unwrap();
                assert_eq!(picture.dims(), [1, 3, plan.model.height, plan.model.width]);
                let back = plan.invert(picture).unwrap();
                assert_eq!(PixelSize::of(&back), photo.size());
                let off = back.iter().zip(photo.rgb().iter()).map(|(a, b)| a.abs_diff(*b)).max();
                // 8 rows stretched over 200 levels: 25 levels a row, of which a resample to
                // fewer rows may lose most of one.
                let tolerance = if plan.model == plan.photo { 0 } else { 25 };
                assert!(off <= Some(tolerance), "{plan:?}: {off:?}");
            }
        }
    }

    #[test]
    fn wrong_pictures_are_refused() {
        let device = Device::flex();
        let plan = ResizePlan::native(PixelSize::new(8, 16), 8).unwrap();
        let other = Photo::from_rgb(RgbImage::new(8, 16)).unwrap();
        assert!(matches!(plan.apply(&other, &device), Err(Error::Shape { .. })));
        let turned = Tensor::zeros([1, 3, 16, 8], &device);
        assert!(matches!(plan.invert(turned), Err(Error::Shape { .. })));
        let nan = Tensor::full([1, 3, 8, 16], f32::NAN, &device);
        assert!(matches!(plan.invert(nan), Err(Error::Value { .. })));
        let outside = Tensor::full([1, 3, 8, 16], 7.0, &device);
        assert!(plan.invert(outside).unwrap().iter().all(|&value| value == 255));
    }
}
