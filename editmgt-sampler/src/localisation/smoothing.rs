use editmgt_core::{Error, GridSize, Result};

use super::{adaptive, bilateral, gaussian, morphology, range};

/// The largest strength; it bounds the filters' windows.
pub const MAX_STRENGTH: f64 = 16.0;

/// How a score map is smoothed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filter {
    /// Gaussian of σ = 1.5 × strength, reduced where the local variance is high, which preserves
    /// edges.
    #[default]
    Adaptive,
    /// Gaussian of σ = 2 × strength.
    Gaussian,
    /// Bilateral on bytes: diameter 9, both σ 75, times strength.
    Bilateral,
    /// Opening, then closing, by a disk of radius 5 × strength, at least 3.
    Morphology,
}

/// A filter, followed by restoring peaks in part and the range of the map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    filter: Filter,
    strength: f64,
    preserve_peaks: bool,
}

impl Default for Smoothing {
    /// The adaptive filter at strength 1, peaks preserved: the official pipeline's choice.
    fn default() -> Self {
        Filter::default().into()
    }
}

impl From<Filter> for Smoothing {
    /// The filter at strength 1, peaks preserved.
    fn from(filter: Filter) -> Self {
        Self { filter, strength: 1.0, preserve_peaks: true }
    }
}

impl Smoothing {
    /// A filter of a strength (1 is the default), peaks preserved.
    ///
    /// # Errors
    /// [`Error::Value`] for a strength outside 0..=[`MAX_STRENGTH`], 0 excluded.
    pub fn new(filter: Filter, strength: f64) -> Result<Self> {
        if !(strength > 0.0 && strength <= MAX_STRENGTH) {
            let expected = format!("above 0, up to {MAX_STRENGTH}");
            return Err(Error::value("smoothing strength", expected, strength));
        }
        Ok(Self { strength, ..filter.into() })
    }

    /// Sets whether values above the 90th percentile are blended with 70% of their original value.
    pub fn with_preserve_peaks(mut self, preserve_peaks: bool) -> Self {
        self.preserve_peaks = preserve_peaks;
        self
    }

    /// Smooths a row-major map of `size`; the result spans the range of the input, unless the
    /// filter made it constant.
    pub(super) fn apply(&self, scores: &[f32], size: GridSize) -> Vec<f32> {
        let strength = self.strength;
        let mut smoothed = match self.filter {
            Filter::Adaptive => adaptive::adaptive(scores, size, 1.5 * strength),
            Filter::Gaussian => gaussian::gaussian(scores, size, 2.0 * strength),
            Filter::Bilateral => {
                let diameter = (9.0 * strength) as usize;
                bilateral::bilateral(scores, size, diameter, 75.0 * strength)
            }
            Filter::Morphology => {
                morphology::open_close(scores, size, ((5.0 * strength) as usize).max(3))
            }
        };
        if self.preserve_peaks {
            restore_peaks(scores, &mut smoothed);
        }
        restore_range(scores, &mut smoothed);
        smoothed
    }
}

fn restore_peaks(original: &[f32], smoothed: &mut [f32]) {
    let peak = percentile(original, 0.9);
    for (y, &x) in smoothed.iter_mut().zip(original) {
        if f64::from(x) > peak {
            *y = 0.7 * x + 0.3 * *y;
        }
    }
}

/// The quantile of the values at `fraction` (0..=1), linearly interpolated (numpy's default).
fn percentile(values: &[f32], fraction: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let rank = fraction * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    f64::from(below) + f64::from(above - below) * rank.fract()
}

fn restore_range(original: &[f32], smoothed: &mut [f32]) {
    let ((low, high), (min, max)) = (range(original), range(smoothed));
    if max > min {
        smoothed.iter_mut().for_each(|y| *y = (*y - min) / (max - min) * (high - low) + low);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        for (values, share, expected) in [
            (vec![3.0], 0.9, 3.0),
            (vec![2.0, 1.0], 0.5, 1.5),
            (vec![4.0, 0.0, 1.0, 2.0, 3.0], 0.9, 3.6),
            (vec![4.0, 0.0, 1.0, 2.0, 3.0], 1.0, 4.0),
        ] {
            // Three f64 operations.
            assert!((percentile(&values, share) - expected).abs() < 1e-12, "{values:?}");
        }
    }

    #[test]
    fn new_rejects_invalid_strengths() {
        for strength in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(Smoothing::new(Filter::Gaussian, strength).is_err(), "{strength}");
        }
    }
}
