use editmgt_core::{Error, HoldMask, HoldRequest, RegionHold, Result, UserMask};

/// Holds all but the best-scoring share of each picture: at most that share may change.
///
/// The tokens with the highest scores may change, the first of equals in reading order; with a
/// user's mask, only those that it releases count as candidates (the budget stays a share of the
/// whole image). The number is rounded down, so a budget below one token holds everything. The
/// budget bounds the whole edit under [`Strict`](crate::Strict), where a held token stays held;
/// [`Parity`](crate::Parity) can free others at a later step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HoldBudget {
    share: f32,
}

impl HoldBudget {
    /// A budget in 0..=1 of the image.
    ///
    /// # Errors
    /// [`Error::Value`] outside 0..=1 or for NaN.
    pub fn new(share: f32) -> Result<Self> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::value("hold budget", "0..=1", share));
        }
        Ok(Self { share })
    }

    /// The share of the image that may change.
    pub fn share(&self) -> f32 {
        self.share
    }

    /// The positions of one image that may change, best first.
    fn free(&self, scores: &[f32], mask: Option<&UserMask>) -> Vec<usize> {
        let most = (f64::from(self.share) * scores.len() as f64).floor() as usize;
        let mut candidates: Vec<usize> =
            (0..scores.len()).filter(|&i| mask.is_none_or(|mask| mask.may_change(i))).collect();
        candidates.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        candidates.truncate(most);
        candidates
    }
}

impl RegionHold for HoldBudget {
    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask> {
        let &HoldRequest { scores, mask, .. } = request;
        if let Some(mask) = mask.filter(|mask| mask.size() != scores.size()) {
            return Err(Error::shape("user mask grid", scores.size(), mask.size()));
        }
        if let Some(score) = scores.values().iter().find(|score| score.is_nan()) {
            return Err(Error::value("scores", "numbers", score));
        }
        let n = scores.size().len();
        let mut held = vec![true; scores.values().len()];
        for image in 0..scores.batch() {
            for position in self.free(scores.image(image), mask) {
                held[image * n + position] = false;
            }
        }
        HoldMask::new(scores.batch(), scores.size(), held)
    }

    /// The lowest score that may change.
    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        let &HoldRequest { scores, mask, .. } = request;
        if image >= scores.batch() || mask.is_some_and(|mask| mask.size() != scores.size()) {
            return None;
        }
        let scores = scores.image(image);
        self.free(scores, mask).last().map(|&position| scores[position])
    }
}

#[cfg(test)]
mod tests {
    use editmgt_core::{GridSize, ScoreMap};

    use super::*;

    const SIZE: GridSize = GridSize::new(2, 5);

    fn held(share: f32, scores: &[f32], mask: Option<&UserMask>) -> String {
        let scores = ScoreMap::new(1, SIZE, scores.to_vec()).unwrap();
        let held =
            HoldBudget::new(share).unwrap().hold(&HoldRequest::first(&scores, mask)).unwrap();
        held.held().iter().map(|&held| if held { 'h' } else { '.' }).collect()
    }

    #[test]
    fn at_most_the_budget_may_change() {
        let scores = [0.1, 0.9, 0.3, 0.9, 0.2, 0.9, 0.4, -0.1, 1.1, 0.0];
        let right = UserMask::new(SIZE, [[0.0, 0.0, 1.0, 1.0, 1.0]; 2].concat()).unwrap();
        for (share, mask, expected) in [
            (0.0, None, "hhhhhhhhhh"),
            (0.09, None, "hhhhhhhhhh"),
            (0.1, None, "hhhhhhhh.h"),
            // Equal scores: the first ones.
            (0.3, None, "h.h.hhhh.h"),
            (1.0, None, ".........."),
            (0.3, Some(&right), "hh..hhhh.h"),
            (1.0, Some(&right), "hh...hh..."),
        ] {
            assert_eq!(held(share, &scores, mask), expected, "{share}");
        }
    }

    #[test]
    fn what_can_not_be_ranked_is_refused() {
        for share in [-0.1, 1.1, f32::NAN] {
            assert!(HoldBudget::new(share).is_err(), "{share}");
        }
        let budget = HoldBudget::new(0.5).unwrap();
        let nan = ScoreMap::new(1, GridSize::new(1, 2), vec![0.0, f32::NAN]).unwrap();
        let unmasked = HoldRequest::first(&nan, None);
        assert!(matches!(budget.hold(&unmasked), Err(Error::Value { .. })));
        let other = UserMask::new(SIZE, vec![1.0; 10]).unwrap();
        let request = HoldRequest::first(&nan, Some(&other));
        assert!(matches!(budget.hold(&request), Err(Error::Shape { .. })));
        assert_eq!(budget.threshold(&request, 0), None);
    }
}
