//! A scheduler that fixes whole rows from top to bottom instead of the most confident tokens:
//! `cargo run -p editmgt-examples --example custom_scheduler -- [PHOTO INSTRUCTION OUT]`
#![forbid(unsafe_code)]

use editmgt::sampler::{MaskingSchedule, Strict, Temperature};
use editmgt::{
    Editor, Error, Photo, Schedule, ScheduleRequest, StepResult, StepState, UnmaskScheduler,
};

pub(crate) struct RowByRow;

/// The library's scheduler, which takes the likeliest code of each token at temperature 0.
fn likeliest() -> Strict {
    Strict::new(MaskingSchedule::Linear, Temperature::Range(0.0, 0.0))
}

impl UnmaskScheduler for RowByRow {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule, Error> {
        likeliest().plan(request)
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult, Error> {
        let (size, mask, before, hold) =
            (state.tokens.size(), state.mask_token, state.tokens, state.hold);
        let left = (size.height as f32 * state.schedule.mask_ratios[state.step]) as usize;
        // A step to ratio 0 decides every token; then the lower rows are masked again.
        let mut all = state.schedule.clone();
        all.mask_ratios[state.step] = 0.0;
        let mut result = likeliest().step(StepState { schedule: &all, ..state })?;
        for (i, id) in result.tokens.ids_mut().iter_mut().enumerate() {
            let held = hold.is_some_and(|hold| hold.held()[i]);
            let below = i % size.len() / size.width >= size.height - left;
            *id = if below && before.ids()[i] == mask && !held { mask } else { *id };
        }
        let masked = |image| result.tokens.image(image).iter().filter(|&&id| id == mask).count();
        result.masked = (0..before.batch()).map(masked).collect();
        Ok(result)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [photo, instruction, out] = editmgt_examples::arguments("make the red car blue")?;
    let editor = Editor::embedded().scheduler(RowByRow).build()?;
    Ok(editor.edit(&Photo::open(photo)?, instruction)?.image.save(out)?)
}
