//! Comparison of results with expected values.

use burn::tensor::Tensor;
use editmgt_core::TokenGrid;
use serde::Serialize;

use super::VerifyError;
use super::golden::GoldenTensor;

/// Kind and result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Measure {
    /// Numbers, against an absolute tolerance.
    Values {
        /// Largest absolute difference; infinite if one side is NaN.
        max_abs: f64,
        /// Largest difference relative to the largest expected magnitude.
        max_rel: f64,
        /// Largest absolute difference that passes.
        tolerance: f64,
        /// Share of values that may exceed the tolerance, 0..1 (usually 0).
        may_exceed: f64,
        /// Share of values that exceed the tolerance.
        exceeding: f64,
    },
    /// Decisions (token ids, masks, counts): all must be equal.
    Tokens {
        /// Number of differing decisions.
        differ: usize,
        /// Number of decisions.
        total: usize,
    },
}

/// One line of a verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The name of the golden tensor, or a description.
    pub name: String,
    /// The outcome.
    pub measure: Measure,
    /// The verdict.
    pub pass: bool,
}

impl Comparison {
    /// Compares numbers with an absolute tolerance.
    pub fn values(name: impl Into<String>, got: &[f32], expected: &[f32], tolerance: f64) -> Self {
        Self::mostly(name, got, expected, tolerance, 0.0)
    }

    /// Compares numbers, of which a share `may_exceed` may exceed the tolerance.
    pub fn mostly(
        name: impl Into<String>,
        got: &[f32],
        expected: &[f32],
        tolerance: f64,
        may_exceed: f64,
    ) -> Self {
        let (mut max_abs, mut magnitude, mut beyond) = (0.0f64, 0.0f64, 0usize);
        for (&got, &expected) in got.iter().zip(expected) {
            let difference = match (got.is_nan(), expected.is_nan()) {
                (false, false) if got == expected => 0.0, // equal infinities
                (false, false) => (f64::from(got) - f64::from(expected)).abs(),
                (true, true) => 0.0,
                _ => f64::INFINITY,
            };
            max_abs = max_abs.max(difference);
            magnitude = magnitude.max(f64::from(expected).abs());
            beyond += usize::from(difference > tolerance);
        }
        let mut exceeding = beyond as f64 / expected.len().max(1) as f64;
        if got.len() != expected.len() || expected.is_empty() {
            (max_abs, exceeding) = (f64::INFINITY, 1.0);
        }
        let max_rel = if max_abs == 0.0 { 0.0 } else { max_abs / magnitude.max(f64::MIN_POSITIVE) };
        let measure = Measure::Values { max_abs, max_rel, tolerance, may_exceed, exceeding };
        Self { name: name.into(), measure, pass: exceeding <= may_exceed }
    }

    /// Compares a tensor, whose shape must equal the golden one's.
    ///
    /// # Errors
    /// [`VerifyError::Stage`] when the read-back fails.
    pub fn tensor<const D: usize>(
        got: Tensor<D>,
        expected: &GoldenTensor<f32>,
        tolerance: f64,
    ) -> Result<Self, VerifyError> {
        let same_shape = got.dims()[..] == expected.shape[..];
        let got = got
            .try_into_vec_as::<f32>()
            .map_err(|e| editmgt_core::Error::device("reading a result", e))?;
        let got = if same_shape { &got[..] } else { &[] };
        Ok(Self::values(&expected.name, got, &expected.values, tolerance))
    }

    /// Compares decisions.
    pub fn decisions<T: PartialEq>(name: impl Into<String>, got: &[T], expected: &[T]) -> Self {
        let total = expected.len();
        let differ = if got.len() == total {
            got.iter().zip(expected).filter(|(got, expected)| got != expected).count()
        } else {
            total.max(1)
        };
        let pass = differ == 0;
        Self { name: name.into(), measure: Measure::Tokens { differ, total }, pass }
    }

    /// Compares token grids.
    pub fn tokens(name: impl Into<String>, got: &TokenGrid, expected: &TokenGrid) -> Self {
        let same = got.batch() == expected.batch() && got.size() == expected.size();
        Self::decisions(name, if same { got.ids() } else { &[] }, expected.ids())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let nan = f32::NAN;
        for (got, expected, pass) in [
            (vec![1.0, 2.0], vec![1.0, 2.0005], true),
            (vec![1.0, 2.0], vec![1.0, 2.1], false),
            (vec![1.0], vec![1.0, 2.0], false),
            (vec![], vec![], false),
            (vec![nan], vec![1.0], false),
            (vec![1.0], vec![nan], false),
            (vec![nan], vec![nan], true),
            (vec![f32::NEG_INFINITY], vec![f32::NEG_INFINITY], true),
            (vec![f32::INFINITY], vec![1.0], false),
        ] {
            let comparison = Comparison::values("x", &got, &expected, 1e-3);
            assert_eq!(comparison.pass, pass, "{got:?} against {expected:?}: {comparison:?}");
        }
        assert!(Comparison::mostly("x", &[0.0; 4], &[0.0, 0.0, 0.0, 9.0], 1e-3, 0.25).pass);
        assert!(!Comparison::decisions("x", &[1, 2], &[1, 3]).pass);
        assert!(!Comparison::decisions("x", &[1], &[1, 3]).pass);
    }
}
