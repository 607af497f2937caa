use butteraugli::{ButteraugliParams, Img, RGB8, butteraugli};
use editmgt_world::Metrics;
use image::{GrayImage, RgbImage};

use super::sizes::check_sizes;
use crate::EvalError;

/// Pixels of a side from which the metric is defined.
const LEAST_SIDE: u32 = 8;

/// How much of a difference people would see, a butteraugli distance each: 0 for equal pictures,
/// about 1 where a difference begins to be seen, without an upper end. It is libjxl's 3-norm, over
/// all pixels and three octaves of the norm, so that the worst places count most.
///
/// Source: the `butteraugli` crate, a port of libjxl's, which stands for J. Alakuijala et al.,
/// "Guetzli: perceptually guided JPEG encoder", 2017. The pictures are taken as sRGB on a screen of
/// 80 nits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visibility {
    /// Of the whole picture; `None` for one with a side below 8 pixels.
    pub whole: Option<f64>,
    /// Of the picture with the reference in place of it where the mask is 0; `None` without a mask,
    /// or where nothing is marked.
    pub inside: Option<f64>,
    /// Of the picture with the reference in place of it where the mask is above 0; `None` without a
    /// mask, or where everything is marked.
    pub outside: Option<f64>,
}

impl Visibility {
    /// Compares `image` with `reference`; a mask is above 0 inside.
    ///
    /// # Errors
    /// [`EvalError::Size`] when the two, or the mask, differ in size.
    pub fn between(
        image: &RgbImage,
        reference: &RgbImage,
        mask: Option<&GrayImage>,
    ) -> Result<Self, EvalError> {
        check_sizes(image, reference, mask)?;
        let (width, height) = reference.dimensions();
        let part = |inside: bool| {
            let mask = mask?;
            let kept = |x, y| (mask.get_pixel(x, y).0[0] > 0) == inside;
            let mut any = false;
            let part = RgbImage::from_fn(width, height, |x, y| {
                any |= kept(x, y);
                *if kept(x, y) { image } else { reference }.get_pixel(x, y)
            });
            any.then(|| distance(&part, reference)).flatten()
        };
        Ok(Self { whole: distance(image, reference), inside: part(true), outside: part(false) })
    }

    /// `butteraugli`, `butteraugli_inside` and `butteraugli_outside`, as far as they are there.
    pub fn named(&self) -> Metrics {
        let parts = [("", self.whole), ("_inside", self.inside), ("_outside", self.outside)];
        let known = parts.into_iter().filter_map(|(suffix, value)| Some((suffix, value?)));
        known.fold(Metrics::default(), |metrics, (suffix, value)| {
            metrics.with(format!("butteraugli{suffix}"), value)
        })
    }
}

/// Of pictures of one size.
fn distance(image: &RgbImage, reference: &RgbImage) -> Option<f64> {
    let (width, height) = reference.dimensions();
    if width < LEAST_SIDE || height < LEAST_SIDE {
        return None;
    }
    let pixels = |image: &RgbImage| {
        let pixels: Vec<RGB8> = image.pixels().map(|pixel| RGB8::from(pixel.0)).collect();
        Img::new(pixels, width as usize, height as usize)
    };
    let (reference, image) = (pixels(reference), pixels(image));
    let result = butteraugli(reference.as_ref(), image.as_ref(), &ButteraugliParams::new());
    Some(result.expect("two pictures of one size, which is large enough").pnorm_3)
}
