use burn::tensor::{DType, Device, Tensor, TensorData};
use editmgt_core::{Error, GridSize, Result};
use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};

use super::resize::{ResizeFilter, resize_rgb};
use super::{Photo, PixelArea, PixelSize};

/// Longest side of the model's image in pixels: four times the largest size in use.
pub(crate) const MAX_SIDE: usize = 1 << 14;

/// Search range of [`ResizePlan::fit`] around the ideal size, as a share of a side.
const REACH: f64 = 0.1;

/// Weight of a deviation in area relative to one in aspect ratio in [`ResizePlan::fit`]: a slightly
/// larger or smaller image is hardly noticed, a stretched one is.
const AREA_WEIGHT: f64 = 0.1;

/// Sides of the part around a mask relative to the mask's own: the model needs to see what the edit
/// has to match.
const MASK_CONTEXT: f64 = 1.5;

/// How a photo is fitted to sides that the model supports.
///
/// In JSON `"fit"`, `"pad"`, `"crop"`, `"native"` and `"mask"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The whole photo, stretched by a few percent if its aspect ratio requires it:
    /// [`ResizePlan::fit`].
    #[default]
    Fit,
    /// The whole photo with its exact aspect ratio, padded: [`ResizePlan::pad`].
    Pad,
    /// The centre of the photo with its exact aspect ratio; the rest is not edited:
    /// [`ResizePlan::crop`].
    Crop,
    /// Not resized: [`ResizePlan::native`].
    Native,
    /// The part of the photo around the mask, at the photo's own resolution where the mask fits;
    /// the rest is not edited: [`ResizePlan::around`].
    Mask,
}

impl Resize {
    /// The plan for a photo; [`Native`](Self::Native) ignores `side`, and only [`Mask`](Self::Mask)
    /// reads `mask`, the area that may change ([`Mask::bounds`](super::Mask::bounds)).
    ///
    /// # Errors
    /// Those of the plan, and [`Error::Value`] for [`Mask`](Self::Mask) without a mask.
    pub fn plan(
        self,
        photo: PixelSize,
        mask: Option<PixelArea>,
        side: usize,
        multiple: usize,
    ) -> Result<ResizePlan> {
        match self {
            Self::Fit => ResizePlan::fit(photo, side, multiple),
            Self::Pad => ResizePlan::pad(photo, side, multiple),
            Self::Crop => ResizePlan::crop(photo, side, multiple),
            Self::Native => ResizePlan::native(photo, multiple),
            Self::Mask => match mask {
                Some(mask) => ResizePlan::around(photo, mask, side, multiple),
                None => Err(Error::value("resize mask", "a mask to edit around", "no mask")),
            },
        }
    }
}

/// Mapping between a photo of any size and the model's image.
///
/// ```text
/// photo              model
/// ┌─────────────┐    ┌─────────────┐
/// │ ┌─────────┐ │    │   ┌─────┐   │
/// │ │  area   │ │ ──►│   │place│   │
/// │ └─────────┘ │    │   └─────┘   │
/// └─────────────┘    └─────────────┘
/// ```
///
/// Except for [`crop`](Self::crop) and [`around`](Self::around) the area is the whole photo:
/// nothing is cropped. The same plan transforms the photo to the model's size and the result back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ResizePlan {
    photo: PixelSize,
    area: PixelArea,
    model: PixelSize,
    place: PixelArea,
    shrink: ResizeFilter,
    restore: ResizeFilter,
}

impl ResizePlan {
    /// The default: about as many pixels as a square of `side`, both sides multiples of `multiple`,
    /// with the aspect ratio preserved as far as possible.
    ///
    /// `multiple` is the codec's downsampling factor times the transformer's grid factor; `side` is
    /// the training size, for instance 1024. Of all sizes within about 10% of the ideal sides it
    /// selects the least distorted one (a deviation in area counts a tenth of a distortion): never
    /// worse than rounding both sides, and exact for the usual 1:1, 4:3 and 3:2 at 1024.
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

    /// The whole photo with its exact aspect ratio (up to a pixel of the model's image), centred in
    /// an image of [`fit`](Self::fit)'s size. The padding repeats the photo's outermost pixels, to
    /// avoid an edge that the model could mistake for content; [`invert`](Self::invert) removes it.
    ///
    /// # Errors
    /// Those of [`fit`](Self::fit).
    pub fn pad(photo: PixelSize, side: usize, multiple: usize) -> Result<Self> {
        let plan = Self::fit(photo, side, multiple)?;
        let place = PixelArea::centred(plan.model.largest_like(photo), plan.model);
        Ok(Self { place, ..plan })
    }

    /// The largest centred part of the photo with the aspect ratio of [`fit`](Self::fit)'s image
    /// (up to a pixel of the photo). Cropped pixels are not lost: [`invert`](Self::invert) keeps
    /// the photo's own pixels there.
    ///
    /// # Errors
    /// Those of [`fit`](Self::fit).
    pub fn crop(photo: PixelSize, side: usize, multiple: usize) -> Result<Self> {
        let plan = Self::fit(photo, side, multiple)?;
        let area = PixelArea::centred(photo.largest_like(plan.model), photo);
        Ok(Self { area, ..plan })
    }

    /// The part of the photo around `mask`, in an image of [`fit`](Self::fit)'s size. Where the
    /// mask takes at most two thirds of that size the part is not resized; a larger mask is shrunk
    /// with as much around it. Pixels outside the part stay the photo's ([`invert`](Self::invert)).
    /// In a photo smaller than the part this is [`fit`](Self::fit).
    ///
    /// # Errors
    /// Those of [`fit`](Self::fit); [`Error::Value`] for an empty mask or one that exceeds the
    /// photo.
    pub fn around(photo: PixelSize, mask: PixelArea, side: usize, multiple: usize) -> Result<Self> {
        let plan = Self::fit(photo, side, multiple)?;
        let (bottom, right) = (mask.top + mask.size.height, mask.left + mask.size.width);
        if mask.size.shorter() == 0 || bottom > photo.height || right > photo.width {
            return Err(Error::value("mask", format!("an area of a {photo} photo"), mask.size));
        }
        let scale = |mask: usize, model: usize| MASK_CONTEXT * mask as f64 / model as f64;
        let scale = scale(mask.size.height, plan.model.height)
            .max(scale(mask.size.width, plan.model.width))
            .max(1.0);
        let part = |model: usize, photo: usize| ((model as f64 * scale).ceil() as usize).min(photo);
        let size = PixelSize::new(
            part(plan.model.height, photo.height),
            part(plan.model.width, photo.width),
        );
        Ok(Self { area: mask.recentred(size, photo), ..plan })
    }

    /// No resizing, for a photo with sides that the codec supports.
    ///
    /// # Errors
    /// [`Error::Value`] when a side is not a multiple of `multiple`, or longer than 16,384.
    pub fn native(photo: PixelSize, multiple: usize) -> Result<Self> {
        Self::exact(photo, photo, multiple)
    }

    /// A square, whatever the photo's aspect ratio, as in the official example.
    ///
    /// # Errors
    /// Those of [`exact`](Self::exact).
    pub fn square(photo: PixelSize, side: usize, multiple: usize) -> Result<Self> {
        Self::exact(photo, PixelSize::new(side, side), multiple)
    }

    /// A chosen size. The photo is stretched to another aspect ratio; [`invert`](Self::invert)
    /// reverses this.
    ///
    /// # Errors
    /// [`Error::Value`] when a side of `model` is 0, not a multiple of `multiple`, or longer than
    /// 16,384, or the photo is empty.
    pub fn exact(photo: PixelSize, model: PixelSize, multiple: usize) -> Result<Self> {
        let suits = |side: usize| {
            (1..=MAX_SIDE).contains(&side) && multiple > 0 && side.is_multiple_of(multiple)
        };
        if !suits(model.height) || !suits(model.width) {
            let expected = format!("sides that are multiples of {multiple}, up to {MAX_SIDE}");
            return Err(Error::value("size of the image to edit", expected, model));
        }
        if photo.shorter() == 0 {
            return Err(Error::value("photo", "at least one pixel", photo));
        }
        Ok(Self {
            photo,
            area: PixelArea::whole(photo),
            model,
            place: PixelArea::whole(model),
            shrink: ResizeFilter::Bilinear,
            restore: ResizeFilter::Bicubic,
        })
    }

    /// Replaces the filters. By default [`Bilinear`](ResizeFilter::Bilinear) is used towards the
    /// model, as in the official preparation, and [`Bicubic`](ResizeFilter::Bicubic) for the
    /// result: sharper upsampling without the halos of Lanczos.
    pub fn with_filters(self, shrink: ResizeFilter, restore: ResizeFilter) -> Self {
        Self { shrink, restore, ..self }
    }

    /// The photo's size, upright.
    pub fn photo(&self) -> PixelSize {
        self.photo
    }

    /// The size of the model's image.
    pub fn model(&self) -> PixelSize {
        self.model
    }

    /// The part of the photo in the model's image: all of it, unless the plan crops.
    pub fn area(&self) -> PixelArea {
        self.area
    }

    /// Its position in the model's image: all of it, unless the plan pads.
    pub fn place(&self) -> PixelArea {
        self.place
    }

    /// For each row of the photo the token row that contains its upper edge, for a grid with this
    /// number of rows; `None` for rows outside the area.
    pub fn token_rows(&self, rows: usize) -> Vec<Option<usize>> {
        let (area, place) = (self.area, self.place);
        let (start, length) = (area.top, area.size.height);
        cells(
            self.photo.height,
            (start, length),
            self.model.height,
            (place.top, place.size.height),
            rows,
        )
    }

    /// For each column of the photo the token column that contains its left edge, as
    /// [`token_rows`](Self::token_rows).
    pub fn token_columns(&self, columns: usize) -> Vec<Option<usize>> {
        let (area, place) = (self.area, self.place);
        let (start, length) = (area.left, area.size.width);
        cells(
            self.photo.width,
            (start, length),
            self.model.width,
            (place.left, place.size.width),
            columns,
        )
    }

    /// The token grid of a codec with this downsampling factor. Panics when it is 0.
    pub fn grid(&self, downsample_factor: usize) -> GridSize {
        GridSize::new(self.model.height / downsample_factor, self.model.width / downsample_factor)
    }

    /// The model's input: `[1, 3, H, W]`, RGB in 0..1, f32. Fully transparent pixels have the
    /// colours of [`Photo::visible_rgb`].
    ///
    /// Source: the official `process_image` (8-bit bilinear resize, then division by 255).
    ///
    /// # Errors
    /// [`Error::Shape`] when the plan was made for a photo of another size.
    pub fn apply(&self, photo: &Photo, device: &Device) -> Result<Tensor<4>> {
        if photo.size() != self.photo {
            return Err(Error::shape("photo of this resize plan", self.photo, photo.size()));
        }
        let PixelArea { top, left, size } = self.area;
        let visible = photo.visible_rgb();
        let cut;
        let seen = if size == self.photo {
            &*visible
        } else {
            let [left, top, width, height] = [left, top, size.width, size.height].map(|n| n as u32);
            cut = imageops::crop_imm(&*visible, left, top, width, height).to_image();
            &cut
        };
        let resized = self.padded(resize_rgb(seen, self.place.size, self.shrink));
        let pixels = resized.as_raw().as_chunks::<3>().0;
        let planes = (0..3)
            .flat_map(|channel| pixels.iter().map(move |pixel| f32::from(pixel[channel]) / 255.0))
            .collect::<Vec<_>>();
        let shape = [1, 3, self.model.height, self.model.width];
        Ok(Tensor::from_data(TensorData::new(planes, shape), (device, DType::F32)))
    }

    /// Pads an image at `place` by repeating its outermost pixels.
    fn padded(&self, picture: RgbImage) -> RgbImage {
        let PixelArea { top, left, size } = self.place;
        if size == self.model {
            return picture;
        }
        let inside = |at: u32, start: usize, length: usize| {
            (at as usize).saturating_sub(start).min(length - 1) as u32
        };
        RgbImage::from_fn(self.model.width as u32, self.model.height as u32, |x, y| {
            *picture.get_pixel(inside(x, left, size.width), inside(y, top, size.height))
        })
    }

    /// Transforms the model's image to the photo's size: `[1, 3, H, W]`, RGB in 0..1 (clamped),
    /// rounded to bytes, without the padding, then resized. Pixels of `photo` outside the area are
    /// unchanged.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape, or a photo of another size; [`Error::Value`] for NaN,
    /// [`Error::Device`] when the read-back fails.
    pub fn invert(&self, picture: Tensor<4>, photo: &Photo) -> Result<RgbImage> {
        if photo.size() != self.photo {
            return Err(Error::shape("photo of this resize plan", self.photo, photo.size()));
        }
        self.restore(to_rgb(picture, self.model)?, photo)
    }

    /// As [`invert`](Self::invert), from bytes; `picture` has the model's size.
    pub(crate) fn restore(&self, mut picture: RgbImage, photo: &Photo) -> Result<RgbImage> {
        if self.place.size != self.model {
            let PixelArea { top, left, size } = self.place;
            let [left, top, width, height] = [left, top, size.width, size.height].map(|n| n as u32);
            picture = imageops::crop_imm(&picture, left, top, width, height).to_image();
        }
        if self.place.size != self.area.size {
            picture = resize_rgb(&picture, self.area.size, self.restore);
        }
        if self.area.size == self.photo {
            return Ok(picture);
        }
        let mut whole = photo.rgb().clone();
        imageops::replace(&mut whole, &picture, self.area.left as i64, self.area.top as i64);
        Ok(whole)
    }
}

/// Converts `[1, 3, H, W]`, RGB in 0..1 (clamped), to an image of `size`, rounded to bytes.
///
/// # Errors
/// [`Error::Shape`], [`Error::Value`] for NaN, [`Error::Device`].
pub(crate) fn to_rgb(picture: Tensor<4>, size: PixelSize) -> Result<RgbImage> {
    let PixelSize { height, width } = size;
    if picture.dims() != [1, 3, height, width] {
        let (expected, got) = ([1, 3, height, width], picture.dims());
        let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
        return Err(Error::shape("decoded image", expected, got));
    }
    let planes = picture
        .try_into_vec_as::<f32>()
        .map_err(|e| Error::device("reading the decoded image", e))?;
    if planes.iter().any(|value| value.is_nan()) {
        return Err(Error::value("decoded image", "numbers", "NaN"));
    }
    let area = height * width;
    let pixels = (0..area)
        .flat_map(|i| [planes[i], planes[area + i], planes[2 * area + i]])
        .map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8)
        .collect();
    Ok(RgbImage::from_raw(width as u32, height as u32, pixels).expect("three bytes for each pixel"))
}

/// For each of `photo` pixels the index of the cell, of `count`, that contains its start. The
/// pixels of `area` (start and length) are at `place` among `model` pixels, over which the cells
/// are spread.
fn cells(
    photo: usize,
    area: (usize, usize),
    model: usize,
    place: (usize, usize),
    count: usize,
) -> Vec<Option<usize>> {
    // In units of (a pixel of the model / the area's length), so that all values are integers.
    let cell = |i: usize| {
        let at = place.0 * area.1 + i.checked_sub(area.0)? * place.1;
        (i < area.0 + area.1).then(|| at * count / (area.1 * model))
    };
    (0..photo).map(cell).collect()
}

/// The largest aspect ratio with at least one `multiple` for the short side and at most
/// [`MAX_SIDE`] for the long one.
fn ratio_limit(side: usize, multiple: usize) -> f64 {
    let side = side as f64;
    (side / multiple as f64).min(MAX_SIDE as f64 / side).powi(2)
}

#[cfg(test)]
mod tests;
