//! Error measures of values, distributions, maps and images.

use serde::Serialize;

/// The error of many values, in units of the root mean square of the exact ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ValueError {
    /// Root mean square of the errors.
    pub relative_rms: f64,
    /// The largest error.
    pub relative_max: f64,
    /// Values that are infinite or NaN; they are ignored above.
    pub not_finite: usize,
}

impl ValueError {
    /// Error of `got` relative to `exact`, value by value. Exact values are finite; if all of them
    /// are 0, errors are in units of 1.
    /// errors are in units of 1.
    pub(super) fn new<'a>(pairs: impl IntoIterator<Item = (&'a [f32], &'a [f32])>) -> Self {
        let (mut exact_squares, mut squares, mut max) = (0.0, 0.0, 0.0f64);
        let (mut count, mut not_finite) = (0usize, 0);
        for (exact, got) in pairs {
            for (&exact, &got) in exact.iter().zip(got) {
                if !got.is_finite() {
                    not_finite += 1;
                    continue;
                }
                let (exact, error) = (f64::from(exact), f64::from(got) - f64::from(exact));
                exact_squares += exact * exact;
                squares += error * error;
                max = max.max(error.abs());
                count += 1;
            }
        }
        let rms = |squares: f64| (squares / count.max(1) as f64).sqrt();
        let unit = if exact_squares > 0.0 { rms(exact_squares) } else { 1.0 };
        Self { relative_rms: rms(squares) / unit, relative_max: max / unit, not_finite }
    }
}

/// Comparison of the distributions at many positions.
#[derive(Debug, Default)]
pub(super) struct Distributions {
    positions: usize,
    same_best: usize,
    finite: usize,
    divergence: f64,
}

impl Distributions {
    /// Adds the logits of one position.
    pub(super) fn add(&mut self, exact: &[f32], got: &[f32]) {
        self.positions += 1;
        // NaN is never the best.
        if !got.iter().all(|logit| logit.is_finite()) {
            return;
        }
        self.finite += 1;
        self.same_best += usize::from(best(exact) == best(got));
        let (whole, other) = (log_sum_exp(exact), log_sum_exp(got));
        let terms = exact.iter().zip(got).map(|(&exact, &got)| {
            let log = f64::from(exact) - whole;
            log.exp() * (log - (f64::from(got) - other))
        });
        self.divergence += terms.sum::<f64>();
    }

    /// The share of the positions, 0..1, with the same most likely code.
    pub(super) fn same_best(&self) -> f64 {
        self.same_best as f64 / self.positions.max(1) as f64
    }

    /// The mean divergence, nats.
    pub(super) fn divergence(&self) -> Option<f64> {
        // Rounding can leave a sum of zeros slightly below 0.
        (self.finite > 0).then(|| (self.divergence / self.finite as f64).max(0.0))
    }
}

fn best(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)))
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

/// The largest error of a map in units of its range (largest minus smallest value); 0 for a flat
/// map without errors, infinite for one with errors or non-finite values.
pub(super) fn map_error(exact: &[f32], got: &[f32]) -> f64 {
    let (least, largest) =
        exact.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let errors = exact.iter().zip(got).map(|(exact, got)| {
        let error = f64::from(*got) - f64::from(*exact);
        if error.is_nan() { f64::INFINITY } else { error.abs() }
    });
    match errors.fold(0.0, f64::max) {
        0.0 => 0.0,
        error => error / f64::from(largest - least),
    }
}

/// Peak signal-to-noise ratio, dB, of two images with values 0..1; `None` if they are equal or a
/// value is NaN.
pub(super) fn psnr(exact: &[f32], got: &[f32]) -> Option<f64> {
    let squares = exact.iter().zip(got).map(|(exact, got)| {
        let difference = f64::from(exact.clamp(0.0, 1.0)) - f64::from(got.clamp(0.0, 1.0));
        difference * difference
    });
    let mean = squares.sum::<f64>() / exact.len() as f64;
    (mean > 0.0).then(|| -10.0 * mean.log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_in_units_of_the_exact_values() {
        let (exact, got) = ([3.0, 0.0, -4.0, 5.0], [3.5, 0.0, -4.0, f32::INFINITY]);
        let error = ValueError::new([(&exact[..2], &got[..2]), (&exact[2..], &got[2..])]);
        // The root mean square of 3, 0 and -4 is √(25 / 3), that of the errors √(0.25 / 3).
        assert!((error.relative_rms - 0.1).abs() < 1e-12, "{error:?}");
        assert!((error.relative_max - 0.5 / (25.0f64 / 3.0).sqrt()).abs() < 1e-12, "{error:?}");
        assert_eq!(error.not_finite, 1);
        let zeros = ValueError::new([(&[0.0f32; 2][..], &[0.0, 2.0][..])]);
        assert_eq!((zeros.relative_rms, zeros.relative_max), (2f64.sqrt(), 2.0));
    }

    #[test]
    fn distributions_compare() {
        let log = |shares: [f32; 2]| shares.map(f32::ln);
        let mut all = Distributions::default();
        assert_eq!((all.same_best(), all.divergence()), (0.0, None));
        // A shift of all logits has no effect.
        all.add(&log([0.5, 0.5]), &log([0.5, 0.5]).map(|logit| logit + 30.0));
        assert!(all.same_best() == 1.0 && all.divergence().unwrap() < 1e-6);
        all.add(&log([0.75, 0.25]), &log([0.5, 0.5]));
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((all.divergence().unwrap() - expected / 2.0).abs() < 1e-6, "{all:?}");
        all.add(&log([0.75, 0.25]), &log([0.25, 0.75]));
        assert_eq!((all.same_best(), all.finite), (2.0 / 3.0, 3));
        for broken in [f32::NAN, f32::INFINITY] {
            all.add(&[0.0, 1.0], &[0.0, broken]);
        }
        assert_eq!((all.same_best(), all.finite), (0.4, 3));
    }

    #[test]
    fn map_and_image_errors() {
        for (exact, got, expected) in [
            ([0.25, 0.5, 0.75], [0.25, 0.5, 0.75], 0.0),
            ([0.25, 0.5, 0.75], [0.25, 0.375, 0.75], 0.25),
            ([0.5; 3], [0.5; 3], 0.0),
            ([0.5; 3], [0.5, 0.5, 0.25], f64::INFINITY),
            ([0.25, 0.5, 0.75], [0.25, f32::NAN, 0.75], f64::INFINITY),
        ] {
            assert_eq!(map_error(&exact, &got), expected, "{exact:?}, {got:?}");
        }
        // Half of white in one of four values; values above white are clipped.
        let psnr_of = |got| psnr(&[0.5, 1.0, 0.0, 1.0], got);
        let half = psnr_of(&[0.0, 1.5, 0.0, 1.0]).unwrap();
        assert!((half - 10.0 * 16f64.log10()).abs() < 1e-9, "{half}");
        assert_eq!(psnr_of(&[0.5, 1.0, -2.0, 7.0]), None);
        assert_eq!(psnr_of(&[f32::NAN, 1.0, 0.0, 1.0]), None);
    }
}
