//! A custom scheduler: fixes whole rows from top to bottom instead of the most confident tokens.
//!
//! ```text
//! cargo run -p editmgt-examples --example custom_scheduler -- MODEL PHOTO "make it red" OUT.png
//! ```
#![forbid(unsafe_code)]

use editmgt::sampler::{MaskingSchedule, Strict, Temperature};
use editmgt::{
    Editor, Error, Photo, Schedule, ScheduleRequest, StepResult, StepState, UnmaskScheduler,
};

struct RowByRow;

impl UnmaskScheduler for RowByRow {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule, Error> {
        Strict::new(MaskingSchedule::Linear, Temperature::Range(0.0, 0.0)).plan(request)
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult, Error> {
        let (size, mask, before) = (state.tokens.size(), state.mask_token, state.tokens);
        let left = state.schedule.mask_ratios[state.step];
        // The library's step at ratio 0 decides every token; then the lower rows are masked again.
        let mut all = state.schedule.clone();
        all.mask_ratios[state.step] = 0.0;
        let hold = state.hold;
        let strict = Strict::new(MaskingSchedule::Linear, Temperature::Range(0.0, 0.0));
        let mut result = strict.step(StepState { schedule: &all, ..state })?;
        let first = size.height - (size.height as f32 * left) as usize;
        for (i, id) in result.tokens.ids_mut().iter_mut().enumerate() {
            let held = hold.is_some_and(|hold| hold.held()[i]);
            if i % size.len() / size.width >= first && before.ids()[i] == mask && !held {
                *id = mask;
            }
        }
        let masked = |image| result.tokens.image(image).iter().filter(|&&id| id == mask).count();
        result.masked = (0..before.batch()).map(masked).collect();
        Ok(result)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo, instruction, out] = &args[..] else { return Err("four arguments".into()) };
    let editor = Editor::builder(model).scheduler(RowByRow).build()?;
    Ok(editor.edit(&Photo::open(photo)?, &**instruction)?.image.save(out)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn keeps_the_contract_of_a_scheduler() {
        let device = burn::tensor::Device::flex();
        editmgt_testkit::assert_scheduler_contract(&super::RowByRow, &device);
    }
}
