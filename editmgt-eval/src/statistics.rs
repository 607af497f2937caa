//! Means, how sure they are, and whether two runs differ.

use editmgt_world::Draws;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap: enough for two digits of an interval's ends.
const RESAMPLES: usize = 2000;
/// Choices of signs that a paired test draws …
const SIGN_DRAWS: usize = 10_000;
/// … unless there are so few differences that it can count every one of them.
const COUNTED: usize = 12;
/// Sums of the same numbers in another order differ by rounding, and are equal.
const ROUNDING: f64 = 1e-12;

/// A mean and its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// How many values.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Estimate {
    /// The mean and its percentile bootstrap interval (Efron, 1979), a function of the values, in
    /// their order, and the seed. `None` without values.
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

/// The middle of some values, or the mean of the two middle ones; `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| quantile(&sorted, 0.5))
}

/// Between the two nearest of sorted values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// The chance of a mean at least as far from 0 as that of these paired differences, if the sign of
/// each were an accident: a two-sided permutation test. With up to 12 differences every choice of
/// signs is counted; with more, 10,000 are drawn from the seed. `None` without differences.
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
    // The signs that were observed are one of the choices, so the chance is never 0.
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
            // The ends of the two intervals are of 2000 and 99,999 other resamples; one in a
            // hundred lies four hundredths of the interval off.
            let width = 0.05 * (sample.high - sample.low);
            assert!((got.low - sample.low).abs() < width, "{got:?}, not {}", sample.low);
            assert!((got.high - sample.high).abs() < width, "{got:?}, not {}", sample.high);
            let p = sign_flip_test(&sample.values, 1).unwrap();
            // Counted, the two agree; drawn, 10,000 draws have a deviation of 0.005.
            let tolerance = if sample.values.len() <= COUNTED { 1e-12 } else { 0.02 };
            assert!((p - sample.p).abs() < tolerance, "{p}, not {}", sample.p);
        }
    }

    #[test]
    fn the_seed_decides_and_nothing_else_does() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        assert_eq!(Estimate::of(&values, 3), Estimate::of(&values, 3));
        assert_ne!(Estimate::of(&values, 3), Estimate::of(&values, 4));
        assert_eq!(sign_flip_test(&values, 3), sign_flip_test(&values, 3));
        let one = Estimate::of(&[0.5], 0).unwrap();
        assert_eq!((one.n, one.mean, one.low, one.high), (1, 0.5, 0.5, 0.5));
        assert_eq!((Estimate::of(&[], 0), sign_flip_test(&[], 0)), (None, None));
        // No difference at all is no evidence of one.
        assert_eq!(sign_flip_test(&[0.0; 30], 0), Some(1.0));
    }
}
