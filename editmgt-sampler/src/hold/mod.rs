//! Which tokens must stay the photo's own.
//!
//! Source: EditMGT (arXiv 2512.11715), region-hold sampling; the threshold is `local_guidance` in
//! the official code.

mod auto;
mod budget;
mod margin;

pub use auto::{AutoThreshold, HoldAuto};
pub use budget::HoldBudget;
pub use margin::HoldMargin;

use editmgt_core::{Error, HoldMask, HoldRequest, RegionHold, Result};

/// Holds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldOff;

impl RegionHold for HoldOff {
    fn needs_scores(&self) -> bool {
        false
    }

    fn hold(&self, HoldRequest { scores, .. }: &HoldRequest<'_>) -> Result<HoldMask> {
        Ok(HoldMask::none(scores.batch(), scores.size()))
    }
}

/// Holds every token that scores below a threshold λ: the official `local_guidance`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HoldThreshold {
    threshold: f32,
}

impl HoldThreshold {
    /// A threshold λ in 0..=1. 0 holds nothing, as in the official code, even where upsampling
    /// pushed a score below 0; at 1 little more than the peak may change.
    ///
    /// # Errors
    /// [`Error::Value`] outside 0..=1 or for NaN.
    pub fn new(threshold: f32) -> Result<Self> {
        if !(0.0..=1.0).contains(&threshold) {
            return Err(Error::value("hold threshold", "0..=1", threshold));
        }
        Ok(Self { threshold })
    }

    /// λ.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }
}

impl RegionHold for HoldThreshold {
    fn needs_scores(&self) -> bool {
        self.threshold > 0.0
    }

    fn hold(&self, HoldRequest { scores, .. }: &HoldRequest<'_>) -> Result<HoldMask> {
        // NaN comparisons are false, so everything could change without an explanation.
        if self.threshold > 0.0
            && let Some(score) = scores.values().iter().find(|score| score.is_nan())
        {
            return Err(Error::value("scores", "numbers", score));
        }
        let held = |&score: &f32| self.threshold > 0.0 && score < self.threshold;
        let held = scores.values().iter().map(held).collect();
        HoldMask::new(scores.batch(), scores.size(), held)
    }

    fn threshold(&self, _: &HoldRequest<'_>, _: usize) -> Option<f32> {
        Some(self.threshold)
    }
}

/// Holds every token that the user's mask does not release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldUserMask;

impl RegionHold for HoldUserMask {
    fn needs_scores(&self) -> bool {
        false
    }

    fn hold(&self, HoldRequest { scores, mask, .. }: &HoldRequest<'_>) -> Result<HoldMask> {
        let size = scores.size();
        let mask = mask.ok_or_else(|| Error::value("user mask", "a mask of the tokens", "none"))?;
        if mask.size() != size {
            return Err(Error::shape("user mask grid", size, mask.size()));
        }
        let held: Vec<bool> = (0..size.len()).map(|i| !mask.may_change(i)).collect();
        HoldMask::new(scores.batch(), size, held.repeat(scores.batch()))
    }
}

/// Holds what any of several policies holds: a token may change only where all of them allow it,
/// for instance inside the user's mask *and* above the threshold.
///
/// ```
/// use editmgt_core::{GridSize, HoldRequest, RegionHold, ScoreMap, UserMask};
/// use editmgt_sampler::{HoldAny, HoldThreshold, HoldUserMask};
///
/// let size = GridSize::new(1, 3);
/// let scores = ScoreMap::new(1, size, vec![0.9, 0.1, 0.9])?;
/// let mask = UserMask::new(size, vec![1.0, 1.0, 0.0])?;
/// let both = HoldAny::new(vec![Box::new(HoldUserMask), Box::new(HoldThreshold::new(0.3)?)]);
/// let held = both.hold(&HoldRequest::first(&scores, Some(&mask)))?;
/// assert_eq!(held.held(), [false, true, true]);
/// # Ok::<(), editmgt_core::Error>(())
/// ```
#[derive(Default)]
pub struct HoldAny {
    policies: Vec<Box<dyn RegionHold>>,
}

impl HoldAny {
    /// Combines policies; none at all holds nothing.
    pub fn new(policies: Vec<Box<dyn RegionHold>>) -> Self {
        Self { policies }
    }
}

impl RegionHold for HoldAny {
    fn needs_scores(&self) -> bool {
        self.policies.iter().any(|policy| policy.needs_scores())
    }

    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask> {
        let scores = request.scores;
        let mut held = vec![false; scores.values().len()];
        for policy in &self.policies {
            let part = policy.hold(request)?;
            if (part.batch(), part.size()) != (scores.batch(), scores.size()) {
                return Err(Error::shape("hold mask grid", scores.size(), part.size()));
            }
            held.iter_mut().zip(part.held()).for_each(|(held, &part)| *held |= part);
        }
        HoldMask::new(scores.batch(), scores.size(), held)
    }

    /// That of the first policy that has one.
    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        self.policies.iter().find_map(|policy| policy.threshold(request, image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use editmgt_core::{GridSize, ScoreMap, UserMask};

    const SIZE: GridSize = GridSize::new(1, 4);

    fn scores() -> ScoreMap {
        // Bicubic upsampling overshoots 0..1 on both sides; the second image is all peak.
        let values = vec![-0.1, 0.0, 0.5, 1.1, 1.0, 1.0, 1.0, 1.0];
        ScoreMap::new(2, SIZE, values).unwrap()
    }

    fn mask() -> UserMask {
        UserMask::new(SIZE, vec![1.0, 0.0, 0.2, 0.5]).unwrap()
    }

    fn held(policy: &dyn RegionHold) -> String {
        let held = policy.hold(&HoldRequest::first(&scores(), Some(&mask()))).unwrap();
        held.held().iter().map(|&held| if held { 'h' } else { '.' }).collect()
    }

    #[test]
    fn policies() {
        let threshold = |t| HoldThreshold::new(t).unwrap();
        let both = HoldAny::new(vec![Box::new(HoldUserMask), Box::new(threshold(0.1))]);
        for (name, policy, expected, needs_scores) in [
            ("off", &HoldOff as &dyn RegionHold, "........", false),
            ("λ = 0", &threshold(0.0), "........", false),
            ("λ = 0.5 is strict", &threshold(0.5), "hh......", true),
            ("λ = 1", &threshold(1.0), "hhh.....", true),
            ("user mask", &HoldUserMask, ".h...h..", false),
            ("user mask and threshold", &both, "hh...h..", true),
            ("nothing combined", &HoldAny::default(), "........", false),
        ] {
            assert_eq!(held(policy), expected, "{name}");
            assert_eq!(policy.needs_scores(), needs_scores, "{name}");
        }
    }

    #[test]
    fn what_can_not_be_decided_is_an_error() {
        for threshold in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
            assert!(HoldThreshold::new(threshold).is_err(), "{threshold}");
        }
        let nan = ScoreMap::new(1, SIZE, vec![0.0, f32::NAN, 0.5, 1.0]).unwrap();
        let on_nan = |t| HoldThreshold::new(t).unwrap().hold(&HoldRequest::first(&nan, None));
        assert!(matches!(on_nan(0.5), Err(Error::Value { .. })));
        assert_eq!(on_nan(0.0).unwrap().share(), 0.0, "the scores are not read");
        let other = UserMask::new(GridSize::new(2, 2), vec![1.0; 4]).unwrap();
        let hold = |mask| HoldUserMask.hold(&HoldRequest::first(&scores(), mask));
        assert!(matches!(hold(None), Err(Error::Value { .. })));
        assert!(matches!(hold(Some(&other)), Err(Error::Shape { .. })));
    }
}
