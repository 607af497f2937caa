use editmgt_core::{HoldMask, HoldRequest, RegionHold, Result};

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

    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask> {
        self.hold.hold(request)
    }

    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        self.hold.threshold(request, image)
    }
}
