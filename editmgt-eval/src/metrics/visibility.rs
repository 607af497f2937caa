use butteraugli::{ButteraugliParams, Img, RGB8, butteraugli};
use editmgt_world::Metrics;
use image::{GrayImage, RgbImage};

use super::sizes::check_sizes;
use crate::EvalError;

/// Smallest side for which the metric is defined.
const MIN_SIDE: u32 = 8;

/// Perceptual difference as a butteraugli distance: 0 for equal images, about 1 at the threshold of
/// visibility, unbounded above. libjxl's 3-norm, over all pixels and three octaves of the norm, so
/// that the worst regions dominate.
///
/// Source: the `butteraugli` crate, a port of libjxl's, after J. Alakuijala et al., "Guetzli:
/// perceptually guided JPEG encoder", 2017. The images are interpreted as sRGB on a screen of 80
/// nits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visibility {
    /// Of the whole image; `None` if a side is below 8 pixels.
    pub whole: Option<f64>,
    /// Inside the mask, with the reference substituted where it is 0; `None` without a mask, or if
    /// it is empty.
    pub inside: Option<f64>,
    /// Outside the mask, with the reference substituted where it is above 0; `None` without a mask,
    /// or if it is full.
    pub outside: Option<f64>,
}

impl Visibility {
    /// Compares `image` with `reference`; the inside is where the mask is above 0.
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

    /// The available values of `butteraugli`, `butteraugli_inside` and `butteraugli_outside`.
    pub fn named(&self) -> Metrics {
        let parts = [("", self.whole), ("_inside", self.inside), ("_outside", self.outside)];
        let known = parts.into_iter().filter_map(|(suffix, value)| Some((suffix, value?)));
        known.fold(Metrics::default(), |metrics, (suffix, value)| {
            metrics.with(format!("butteraugli{suffix}"), value)
        })
    }
}

/// The distance of images of equal size.
fn distance(image: &RgbImage, reference: &RgbImage) -> Option<f64> {
    let (width, height) = reference.dimensions();
    if width < MIN_SIDE || height < MIN_SIDE {
        return None;
    }
    let pixels = |image: &RgbImage| {
        let pixels: Vec<RGB8> = image.pixels().map(|pixel| RGB8::from(pixel.0)).collect();
        Img::new(pixels, width as usize, height as usize)
    };
    let (reference, image) = (pixels(reference), pixels(image));
    let result = butteraugli(reference.as_ref(), image.as_ref(), &ButteraugliParams::new());
    Some(result.expect("two images of one size, which is large enough").pnorm_3)
}
