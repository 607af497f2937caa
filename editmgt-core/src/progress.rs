use crate::{Error, HoldMask, Result, ScoreMap, StepWork, TokenGrid};

/// The state of a sampling loop, from which a later call resumes with the same result as an
/// unbroken run.
///
/// Noise is addressed by step, and a step is a pure function of the canvas and, with
/// [cached steps](crate::StepPlan), of the canvases since the last full step, from which a resumed
/// loop rebuilds its cache. So there is no other state.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopProgress {
    /// Steps completed.
    pub completed: usize,
    /// The canvas after these steps.
    pub tokens: TokenGrid,
    /// The tokens that were held at some step.
    pub ever_held: HoldMask,
    /// The scores of the first step, if there were any.
    pub first_scores: Option<ScoreMap>,
    /// The scores of the last full step, if there were any.
    pub scores: Option<ScoreMap>,
    /// The scores of the first step on the model's attention grid, where there were any.
    pub first_cells: Option<ScoreMap>,
    /// Those of the last step.
    pub cells: Option<ScoreMap>,
    /// See [`StepResult::ties`](crate::StepResult::ties), over all steps.
    pub ties: usize,
    /// The canvas before each step since the last full one, that one included; empty if the next
    /// step needs no cache.
    pub since_full: Vec<TokenGrid>,
    /// The work of all steps.
    pub work: StepWork,
}

impl LoopProgress {
    /// The initial state: `canvas` before the first step.
    pub fn start(canvas: TokenGrid) -> Self {
        let ever_held = HoldMask::none(canvas.batch(), canvas.size());
        Self {
            completed: 0,
            tokens: canvas,
            ever_held,
            first_scores: None,
            scores: None,
            first_cells: None,
            cells: None,
            ties: 0,
            since_full: Vec::new(),
            work: StepWork::default(),
        }
    }

    /// Adds the hold mask of a step.
    ///
    /// # Errors
    /// [`Error::Shape`] for another batch or grid.
    pub fn hold(&mut self, held: &HoldMask) -> Result<()> {
        self.ever_held = self.ever_held.union(held)?;
        Ok(())
    }

    /// Checks that a loop of `steps` over `canvas` can resume from this state.
    ///
    /// # Errors
    /// [`Error::Shape`] for another batch or grid, [`Error::Value`] for more steps than planned, or
    /// for mask tokens where the canvas has none.
    pub fn check(&self, canvas: &TokenGrid, steps: usize, mask_token: u32) -> Result<()> {
        let shape = |tokens: &TokenGrid| format!("{} of {}", tokens.batch(), tokens.size());
        if shape(&self.tokens) != shape(canvas) {
            return Err(Error::shape("tokens to resume from", shape(canvas), shape(&self.tokens)));
        }
        if let Some(other) = self.since_full.iter().find(|&tokens| shape(tokens) != shape(canvas)) {
            return Err(Error::shape("tokens of cached steps", shape(canvas), shape(other)));
        }
        if self.completed > steps {
            let expected = format!("at most the {steps} planned steps");
            return Err(Error::value("completed steps", expected, self.completed));
        }
        let mut both = self.tokens.ids().iter().zip(canvas.ids());
        if both.any(|(&now, &start)| now == mask_token && start != mask_token) {
            let expected = "a canvas of the same edit";
            return Err(Error::value("tokens to resume from", expected, "other mask tokens"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GridSize;

    #[test]
    fn check_rejects_the_state_of_another_edit() {
        let size = GridSize::new(1, 3);
        let canvas = TokenGrid::new(1, size, vec![9, 9, 4]).unwrap();
        let mut progress = LoopProgress::start(canvas.clone());
        progress.check(&canvas, 2, 9).unwrap();
        progress.hold(&HoldMask::new(1, size, vec![true, false, false]).unwrap()).unwrap();
        progress.hold(&HoldMask::new(1, size, vec![false, false, true]).unwrap()).unwrap();
        assert_eq!(progress.ever_held.held(), [true, false, true]);
        assert!(progress.hold(&HoldMask::none(2, size)).is_err());

        let other = TokenGrid::new(1, size, vec![9, 4, 4]).unwrap();
        assert!(matches!(progress.check(&other, 2, 9), Err(Error::Value { .. })));
        assert!(matches!(progress.check(&canvas.repeat(2), 2, 9), Err(Error::Shape { .. })));
        progress.completed = 3;
        assert!(matches!(progress.check(&canvas, 2, 9), Err(Error::Value { .. })));
    }
}
