use editmgt_core::{HoldMask, RegionHold, Result, ScoreMap, UserMask};

/// A hold policy whose scores someone may want to see, whether it reads them or not.
pub(super) struct Watched {
    pub(super) hold: Box<dyn RegionHold>,
    /// Someone does.
    pub(super) map: bool,
}

impl RegionHold for Watched {
    fn needs_scores(&self) -> bool {
        self.map || self.hold.needs_scores()
    }

    fn hold(&self, scores: &ScoreMap, mask: Option<&UserMask>, step: usize) -> Result<HoldMask> {
        self.hold.hold(scores, mask, step)
    }

    fn threshold(&self, scores: &ScoreMap, mask: Option<&UserMask>, image: usize) -> Option<f32> {
        self.hold.threshold(scores, mask, image)
    }
}
