//! Which tokens a step keeps: those whose confidence is not below the cut.

/// Confidences closer than this to the cut are reported as ties.
const TIE: f32 = 1e-4;

/// Keeps logarithms of zero finite, as in the official scheduler.
const SMALLEST: f32 = 1e-20;

/// `ln p` plus Gumbel noise weighted by `temperature`; `uniform` in [0, 1) makes the noise.
pub(super) fn confidence(probability: f32, temperature: f32, uniform: f32) -> f32 {
    let gumbel = -ln(-ln(uniform));
    ln(probability) + temperature * gumbel
}

/// The logarithm rounded to f32 from f64, so that no platform's f32 logarithm decides a token.
fn ln(x: f32) -> f32 {
    f64::from(x.max(SMALLEST)).ln() as f32
}

/// The confidence below which tokens are masked again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    value: f32,
    /// Confidences within [`TIE`] of the cut, the cut itself left out.
    pub(super) ties: usize,
}

impl Cut {
    /// The cut that masks the `mask_len` least confident tokens (fewer where confidences are
    /// equal), or all of them where there are no more than `mask_len`.
    pub(super) fn new(confidences: &[f32], mask_len: usize) -> Self {
        if mask_len >= confidences.len() {
            return Self { value: f32::INFINITY, ties: 0 };
        }
        let mut sorted = confidences.to_vec();
        let (_, &mut value, _) = sorted.select_nth_unstable_by(mask_len, f32::total_cmp);
        let close = confidences.iter().filter(|c| (**c - value).abs() < TIE).count();
        Self { value, ties: close.saturating_sub(1) }
    }

    pub(super) fn masks(&self, confidence: f32) -> bool {
        confidence < self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_finite_at_the_edges() {
        let below_one = 1.0 - f32::EPSILON / 2.0;
        for (probability, uniform, expected) in [
            (1.0, (-1.0f32).exp(), 0.0),
            (f32::MAX, (-1.0f32).exp(), 88.722_84),
            (0.0, (-1.0f32).exp(), -46.051_7),
            (1.0, 0.0, -3.829_76),
            (1.0, below_one, 16.635_532),
        ] {
            let got = confidence(probability, 1.0, uniform);
            // One rounding of e^-1 and one of each logarithm.
            assert!((got - expected).abs() < 1e-5, "p {probability}, u {uniform}: {got}");
        }
        assert_eq!(confidence(0.5, 0.0, 0.0), 0.5f32.ln());
    }

    #[test]
    fn counts_no_ties_among_confidences_that_are_not_finite() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Cut::new(&[value; 3], 1).ties, 0, "{value}");
        }
    }

    #[test]
    fn cuts() {
        let row = [0.5, -1.0, 3.0, -1.0, 0.500_05];
        for (mask_len, masked, ties) in
            // The cut of 1 falls on the second of two equal values: strictly below, none is left.
            [(1, 0, 1), (2, 2, 1), (3, 3, 1), (4, 4, 0), (5, 5, 0), (9, 5, 0)]
        {
            let cut = Cut::new(&row, mask_len);
            let count = row.iter().filter(|&&c| cut.masks(c)).count();
            assert_eq!((count, cut.ties), (masked, ties), "mask_len {mask_len}");
        }
    }
}
