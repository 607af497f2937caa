use editmgt_core::{Error, Result};

use crate::MaskingSchedule;

/// Where a run starts that keeps something of a photo: the steps of strong change are left out.
///
/// Image to image masks the photo's tokens up to `mask_ratio` (see [`add_noise`](crate::add_noise))
/// and runs the steps from `first_step` on. They keep the index, and so the mask ratio and the
/// temperature, that they have in a whole run.
///
/// ```
/// use editmgt_sampler::{MaskingSchedule, StrengthStart};
///
/// let start = StrengthStart::new(0.5, 12, MaskingSchedule::Cosine)?;
/// assert_eq!((start.first_step, start.mask_ratio), (6, 0.70710677));
/// // Strength 1 is text to image.
/// let start = StrengthStart::new(1.0, 12, MaskingSchedule::Cosine)?;
/// assert_eq!((start.first_step, start.mask_ratio), (0, 1.0));
/// # Ok::<(), editmgt_core::Error>(())
/// ```
///
/// Source: the image-to-image pipeline of aMUSEd in diffusers. It masks nothing at strength 1 (its
/// list of timesteps wraps around) and returns the photo's reconstruction when no step is left;
/// here strength 1 masks everything, and no step is an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StrengthStart {
    /// Index of the first step that is run.
    pub first_step: usize,
    /// The share of the photo's tokens that is masked before it, 0..=1.
    pub mask_ratio: f32,
}

impl StrengthStart {
    /// The start of a run of `steps` steps. A strength of `s` runs the last `steps * s` of them,
    /// rounded down.
    ///
    /// # Errors
    /// [`Error::Value`] for a strength outside 0..=1, or so small that no step is left.
    pub fn new(strength: f64, steps: usize, masking: MaskingSchedule) -> Result<Self> {
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(Error::value("strength", "above 0, up to 1", strength));
        }
        // The product is that of the official code, in f64: 50 * 0.58 is just below 29.
        let run = (steps as f64 * strength) as usize;
        let first_step = steps.saturating_sub(run);
        if run == 0 {
            let least = 1.0 / steps.max(1) as f64;
            let expected = format!("at least {least:.4}, which leaves one of {steps} steps");
            return Err(Error::value("strength", expected, strength));
        }
        let mask_ratio = match first_step {
            0 => 1.0,
            first => masking.mask_ratio(first - 1, steps),
        };
        Ok(Self { first_step, mask_ratio })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_left_out_follow_the_official_product() {
        for (strength, steps, first_step) in
            [(0.58, 50, 22), (0.5, 12, 6), (0.8, 8, 2), (1.0, 8, 0), (0.13, 8, 7)]
        {
            let start = StrengthStart::new(strength, steps, MaskingSchedule::Linear).unwrap();
            assert_eq!(start.first_step, first_step, "{strength} of {steps}");
            let ratio = 1.0 - first_step as f32 / steps as f32;
            assert!((start.mask_ratio - ratio).abs() < 1e-6, "{strength} of {steps}");
        }
        for (strength, steps) in [(0.0, 8), (-1.0, 8), (1.01, 8), (f64::NAN, 8), (0.1, 8), (1.0, 0)]
        {
            assert!(StrengthStart::new(strength, steps, MaskingSchedule::Cosine).is_err());
        }
    }
}
