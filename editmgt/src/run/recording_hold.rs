use editmgt_core::{HoldMask, HoldRequest, RegionHold, Result};

/// Wraps a policy; with `map`, scores are computed whether the policy reads them or not.
pub(super) struct RecordingHold {
    pub(super) hold: Box<dyn RegionHold>,
    /// Scores are wanted for a map.
    pub(super) map: bool,
}

impl RegionHold for RecordingHold {
    fn needs_scores(&self) -> bool {
        self.map || self.hold.needs_scores()
    }

    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask> {
        self.hold.hold(request)
    }

    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        self.hold.threshold(request, image)
    }
}
