use editmgt_world::Metrics;
use editmgt_world::decibels;
use image::{GrayImage, RgbImage};

use super::sizes::check_sizes;
use super::ssim::ssim_map;
use crate::EvalError;

/// Difference between two images, over all or some of their pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Number of compared pixels, 1 or more.
    pub pixels: usize,
    /// Mean absolute difference of the values, 0..=1.
    pub l1: f64,
    /// Mean squared difference of the values, 0..=1, as MagicBrush and Emu Edit report it.
    pub l2: f64,
    /// Peak signal-to-noise ratio, decibels; 88.1 for equal images ([`decibels`]).
    pub psnr: f64,
    /// Structural similarity, -1..=1: the mean of [`ssim_map`] over the pixels off the border;
    /// `None` if there are none.
    pub ssim: Option<f64>,
    /// The share of the pixels that differ in any channel, 0..=1.
    pub changed: f64,
}

/// Difference between two images: overall, inside a mask, and outside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Differences {
    /// All pixels.
    pub whole: Difference,
    /// Where the mask is above 0; `None` without a mask, or if it is empty.
    pub inside: Option<Difference>,
    /// Where the mask is 0; `None` without a mask, or if it is full.
    pub outside: Option<Difference>,
}

impl Differences {
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
        let ssim = ssim_map(image, reference)?;
        let over = |keep: &dyn Fn(usize) -> bool| {
            let mut sums = Sums::default();
            let pixels = image.pixels().zip(reference.pixels()).zip(&ssim).enumerate();
            for (_, ((a, b), ssim)) in pixels.filter(|(position, _)| keep(*position)) {
                sums.add(a.0, b.0, *ssim);
            }
            sums.difference()
        };
        let marked = |position: usize| mask.is_some_and(|mask| mask.as_raw()[position] > 0);
        Ok(Self {
            // A photo has pixels; an image without any equals itself.
            whole: over(&|_| true).unwrap_or(Difference::NONE),
            inside: mask.and_then(|_| over(&marked)),
            outside: mask.and_then(|_| over(&|position| !marked(position))),
        })
    }

    /// The available values of `l1`, `l2`, `psnr` and `ssim`, and the same with `_inside` and
    /// `_outside`.
    pub fn named(&self) -> Metrics {
        let parts = [("", Some(self.whole)), ("_inside", self.inside), ("_outside", self.outside)];
        let mut metrics = Metrics::default();
        for (suffix, difference) in parts {
            let Some(difference) = difference else { continue };
            metrics = metrics
                .with(format!("l1{suffix}"), difference.l1)
                .with(format!("l2{suffix}"), difference.l2)
                .with(format!("psnr{suffix}"), difference.psnr);
            if let Some(ssim) = difference.ssim {
                metrics = metrics.with(format!("ssim{suffix}"), ssim);
            }
        }
        metrics
    }
}

impl Difference {
    const NONE: Self = Self { pixels: 0, l1: 0.0, l2: 0.0, psnr: 0.0, ssim: None, changed: 0.0 };
}

/// Sums over pixels.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    pixels: usize,
    changed: usize,
    /// In levels of 255: sums of bytes are exact.
    absolute: u64,
    squared: u64,
    ssim: f64,
    ssim_pixels: usize,
}

impl Sums {
    fn add(&mut self, a: [u8; 3], b: [u8; 3], ssim: Option<f64>) {
        self.pixels += 1;
        self.changed += usize::from(a != b);
        for (a, b) in a.into_iter().zip(b) {
            let off = u64::from(a.abs_diff(b));
            self.absolute += off;
            self.squared += off * off;
        }
        if let Some(ssim) = ssim {
            self.ssim += ssim;
            self.ssim_pixels += 1;
        }
    }

    fn difference(self) -> Option<Difference> {
        if self.pixels == 0 {
            return None;
        }
        let values = (3 * self.pixels) as f64;
        let square = self.squared as f64 / values;
        Some(Difference {
            pixels: self.pixels,
            l1: self.absolute as f64 / values / 255.0,
            l2: square / (255.0 * 255.0),
            psnr: decibels(square),
            ssim: (self.ssim_pixels > 0).then(|| self.ssim / self.ssim_pixels as f64),
            changed: self.changed as f64 / self.pixels as f64,
        })
    }
}
