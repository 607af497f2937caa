//! A scheduler of your own: fixes whole rows from top to bottom instead of what the model is surest of.
//!
//! ```text
//! cargo run -p editmgt-examples --example custom_scheduler -- MODEL PHOTO "make it red" OUT.png
//! ```
#![forbid(unsafe_code)]

use editmgt::{
    EditRequest, Editor, Error, Photo, SaveOptions, Schedule, ScheduleRequest, Silent, StepResult,
    StepState, TokenGrid, UnmaskScheduler,
};

/// Fixes rows from top to bottom, the same number at each step, by the likeliest code.
struct RowByRow;

impl UnmaskScheduler for RowByRow {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule, Error> {
        let n = request.steps;
        if n == 0 || !(0.0 < request.starting_mask_ratio && request.starting_mask_ratio <= 1.0) {
            return Err(Error::value(
                "plan",
                "a step, and a ratio in (0, 1]",
                format!("{request:?}"),
            ));
        }
        Ok(Schedule {
            timesteps: (0..n).rev().map(|t| t as f32).collect(),
            mask_ratios: (1..=n).map(|done| 1.0 - done as f32 / n as f32).collect(),
            temperatures: vec![0.0; n],
        })
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult, Error> {
        let (size, mask) = (state.tokens.size(), state.mask_token);
        let best = state.logits.argmax(2).reshape([state.tokens.batch(), size.height, size.width]);
        let mut predicted = TokenGrid::from_tensor(best)?;
        for (i, guess) in predicted.ids_mut().iter_mut().enumerate() {
            if state.hold.is_some_and(|hold| hold.held()[i]) {
                let photo =
                    state.reference.ok_or_else(|| Error::value("hold", "a photo", "none"))?;
                *guess = photo.ids()[i];
            } else if state.tokens.ids()[i] != mask {
                *guess = state.tokens.ids()[i];
            }
        }
        let left = (size.height as f32 * state.schedule.mask_ratios[state.step]).floor() as usize;
        let mut tokens = predicted.clone();
        for (i, id) in tokens.ids_mut().iter_mut().enumerate() {
            let is_held = state.hold.is_some_and(|hold| hold.held()[i]);
            if i % size.len() / size.width >= size.height - left
                && state.tokens.ids()[i] == mask
                && !is_held
            {
                *id = mask;
            }
        }
        let count = |image| tokens.image(image).iter().filter(|&&id| id == mask).count();
        let masked = (0..tokens.batch()).map(count).collect();
        Ok(StepResult { masked, tokens, predicted, ties: 0 })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, photo, instruction, out] = &args[..] else {
        return Err("usage: custom_scheduler MODEL PHOTO INSTRUCTION OUT".into());
    };
    let editor = Editor::builder(folder).scheduler(RowByRow).build()?;
    let request = EditRequest::new(instruction).steps(8);
    let result = editor.edit(&Photo::open(photo)?, None, &request, &mut Silent)?;
    result.image.save(out, &SaveOptions::default())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    #[test]
    fn keeps_the_contract_of_a_scheduler() {
        editmgt_testkit::assert_scheduler_contract(&super::RowByRow, &Device::flex());
    }
}
