//! Means, bootstrap intervals, and paired tests of two runs.

use editmgt_world::Draws;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap: enough for two digits of the interval's ends.
const RESAMPLES: usize = 2000;
/// Random sign choices of a paired test …
const SIGN_DRAWS: usize = 10_000;
/// … unless all choices can be enumerated, up to this many differences.
const COUNTED: usize = 12;
/// Tolerance for rounding: sums of the same numbers in another order are equal.
const ROUNDING: f64 = 1e-12;

/// A mean and its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number of values.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Estimate {
    /// The mean and its percentile bootstrap interval (Efron, 1979); a pure function of the values,
    /// in order, and the seed. `None` without values.
    pub fn of(values: &[f64], seed: u64) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = |sum: f64| sum / n as f64;
        let mut draws = Draws::new(seed).stream("bootstrap", 0);
        let mut means: Vec<f64> =
            (0..RESAMPLES).map(|_| mean((0..n).map(|_| values[draws.below(n)]).sum())).collect();
        means.sort_by(f64::total_cmp);
        Some(Self {
            n,
            mean: mean(values.iter().sum()),
            low: quantile(&means, 0.025),
            high: quantile(&means, 0.975),
        })
    }
}

/// The median; `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| quantile(&sorted, 0.5))
}

/// Linear interpolation between sorted values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// Two-sided sign-flip permutation test: the probability of a mean at least as far from 0 as that
/// of these paired differences under random signs. With up to 12 differences all sign choices are
/// enumerated; with more, 10,000 are drawn from the seed. `None` without differences.
pub fn sign_flip_test(differences: &[f64], seed: u64) -> Option<f64> {
    if differences.is_empty() {
        return None;
    }
    let scale: f64 = differences.iter().map(|d| d.abs()).sum();
    let observed = differences.iter().sum::<f64>().abs() - ROUNDING * scale;
    let as_far = |flipped: &mut dyn FnMut(usize) -> bool| {
        let signed = differences.iter().enumerate();
        let sum: f64 = signed.map(|(i, &d)| if flipped(i) { -d } else { d }).sum();
        sum.abs() >= observed
    };
    if differences.len() <= COUNTED {
        let choices = 1u32 << differences.len();
        let far = (0..choices).filter(|signs| as_far(&mut |i| signs >> i & 1 == 1)).count();
        return Some(far as f64 / f64::from(choices));
    }
    let mut draws = Draws::new(seed).stream("signs", 0);
    let far = (0..SIGN_DRAWS).filter(|_| as_far(&mut |_| draws.below(2) == 1)).count();
    // The observed signs are one of the choices, so the p-value is never 0.
    Some((far + 1) as f64 / (SIGN_DRAWS + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        values: Vec<f64>,
        mean: f64,
        low: f64,
        high: f64,
        p: f64,
    }

    #[test]
    fn intervals_and_chances_are_those_of_scipy() {
        let samples: Vec<Sample> =
            serde_json::from_str(include_str!("../testdata/statistics.json")).unwrap();
        assert_eq!(samples.len(), 3);
        for sample in samples {
            let got = Estimate::of(&sample.values, 1).unwrap();
            assert!((got.mean - sample.mean).abs() < 1e-12);
            // The ends of the two intervals come from 2000 and 99,999 other resamples; one in a
            // hundred differs by four hundredths of the interval.
            let width = 0.05 * (sample.high - sample.low);
            assert!((got.low - sample.low).abs() < width, "{got:?}, not {}", sample.low);
            assert!((got.high - sample.high).abs() < width, "{got:?}, not {}", sample.high);
            let p = sign_flip_test(&sample.values, 1).unwrap();
            // Enumerated p-values agree exactly; with 10,000 draws the deviation is 0.005.
            let tolerance = if sample.values.len() <= COUNTED { 1e-12 } else { 0.02 };
            assert!((p - sample.p).abs() < tolerance, "{p}, not {}", sample.p);
        }
    }

    #[test]
    fn results_depend_on_the_seed_only() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        assert_eq!(Estimate::of(&values, 3), Estimate::of(&values, 3));
        assert_ne!(Estimate::of(&values, 3), Estimate::of(&values, 4));
        assert_eq!(sign_flip_test(&values, 3), sign_flip_test(&values, 3));
        let one = Estimate::of(&[0.5], 0).unwrap();
        assert_eq!((one.n, one.mean, one.low, one.high), (1, 0.5, 0.5, 0.5));
        assert_eq!((Estimate::of(&[], 0), sign_flip_test(&[], 0)), (None, None));
        // Differences of 0 are no evidence.
        assert_eq!(sign_flip_test(&[0.0; 30], 0), Some(1.0));
    }
}
