use editmgt_core::{GridSize, HoldMask, HoldRequest, RegionHold, Result};

/// Lets a margin of tokens change around whatever a policy lets change.
///
/// Attention is often coarser than the tokens (an 8x8 map over 16x16 tokens), so the border of a
/// score map is off by a token or so; an edit that is one token too tight leaves a rim of what was
/// there before. Distances count as a king moves on a chess board. Where the policy holds nothing
/// or everything, the margin changes nothing.
pub struct HoldMargin {
    policy: Box<dyn RegionHold>,
    tokens: usize,
}

impl HoldMargin {
    /// A margin of `tokens` around what `policy` lets change; 0 is no margin.
    pub fn new(policy: Box<dyn RegionHold>, tokens: usize) -> Self {
        Self { policy, tokens }
    }
}

impl RegionHold for HoldMargin {
    fn needs_scores(&self) -> bool {
        self.policy.needs_scores()
    }

    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask> {
        let tight = self.policy.hold(request)?;
        if self.tokens == 0 || tight.held().is_empty() {
            return Ok(tight);
        }
        let size = tight.size();
        let images = tight.held().chunks(size.len());
        let held = images.flat_map(|held| shrink(held, size, self.tokens)).collect();
        HoldMask::new(tight.batch(), size, held)
    }

    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        self.policy.threshold(request, image)
    }
}

/// Still held: tokens whose whole neighbourhood was. Rows first, then columns.
fn shrink(held: &[bool], size: GridSize, margin: usize) -> Vec<bool> {
    let GridSize { height, width } = size;
    let around = |at: usize, length: usize| {
        at.saturating_sub(margin)..at.saturating_add(margin).saturating_add(1).min(length)
    };
    let rows: Vec<bool> = (0..held.len())
        .map(|i| around(i % width, width).all(|x| held[i / width * width + x]))
        .collect();
    (0..held.len())
        .map(|i| around(i / width, height).all(|y| rows[y * width + i % width]))
        .collect()
}

#[cfg(test)]
mod tests {
    use editmgt_core::ScoreMap;

    use super::*;
    use crate::{HoldAny, HoldThreshold};

    const SIZE: GridSize = GridSize::new(4, 5);

    fn held(values: [u8; 20], margin: usize) -> String {
        let values = values.iter().map(|&value| f32::from(value)).collect();
        let scores = ScoreMap::new(1, SIZE, values).unwrap();
        let policy = HoldMargin::new(Box::new(HoldThreshold::new(0.5).unwrap()), margin);
        assert!(policy.needs_scores());
        let request = HoldRequest::first(&scores, None);
        assert_eq!(policy.threshold(&request, 0), Some(0.5));
        let held = policy.hold(&request).unwrap();
        held.held().iter().map(|&held| if held { 'h' } else { '.' }).collect()
    }

    #[test]
    fn what_may_change_grows() {
        let spot = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (margin, expected) in [
            (0, "hhhhh.hhhhhhhhhhhhhh"),
            (1, "..hhh..hhh..hhhhhhhh"),
            (2, "...hh...hh...hh...hh"),
            (9, "...................."),
            (usize::MAX, "...................."),
        ] {
            assert_eq!(held(spot, margin), expected, "{margin}");
        }
        assert_eq!(held([0; 20], 3), "hhhhhhhhhhhhhhhhhhhh");
        assert_eq!(held([1; 20], 3), "....................");
    }

    #[test]
    fn images_do_not_touch() {
        let values = [[0.0; 19].to_vec(), vec![1.0], vec![0.0; 20]].concat();
        let scores = ScoreMap::new(2, SIZE, values).unwrap();
        let policy = HoldMargin::new(Box::new(HoldThreshold::new(0.5).unwrap()), 1);
        let held = policy.hold(&HoldRequest::first(&scores, None)).unwrap();
        assert_eq!(held.held().iter().filter(|&&held| !held).count(), 4);
        assert!(held.held()[20..].iter().all(|&held| held));
        let nothing = HoldMargin::new(Box::new(HoldAny::default()), 1);
        assert!(!nothing.needs_scores());
    }
}
