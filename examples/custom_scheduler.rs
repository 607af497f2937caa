//! A scheduler of your own: reads the canvas line by line instead of by confidence.
//!
//! A masked transformer may fill its canvas in any order. The official schedule fixes what it is
//! most sure of; this one fixes whole rows from top to bottom, which makes it easy to see what the
//! order is worth. It needs nothing but the logits and the draw.
//!
//! ```text
//! cargo run -p editmgt-examples --example custom_scheduler -- MODEL PHOTO "make it red" OUT.png
//! ```
#![forbid(unsafe_code)]

use std::error::Error as StdError;

use editmgt::{
    ChaChaNoise, DtypePolicy, EditDefaults, EditLoop, Error, LoadOptions, LoopInput, LoopStages,
    MicroConditions, Model, ModelFolder, Photo, ResizePlan, Result, SaveOptions, Schedule,
    ScheduleRequest, Silent, StepResult, StepState, TokenGrid, UnmaskScheduler, check_writable,
    sampler::{Consolidator, HoldOff},
};

/// Fixes rows from top to bottom, the same number at each step.
struct RowByRow;

impl UnmaskScheduler for RowByRow {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule> {
        let n = request.steps;
        if n == 0 {
            return Err(Error::value("steps", "1 or more", 0));
        }
        Ok(Schedule {
            timesteps: (0..n).rev().map(|t| t as f32).collect(),
            mask_ratios: (1..=n).map(|done| 1.0 - done as f32 / n as f32).collect(),
            temperatures: vec![0.0; n],
        })
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult> {
        let StepState { schedule, step, logits, tokens, mask_token, .. } = state;
        // The likeliest code everywhere: no draw at all.
        let [batch, positions, _] = logits.dims();
        let size = tokens.size();
        let best = logits.argmax(2).reshape([batch, size.height, size.width]);
        let mut predicted = TokenGrid::from_tensor(best)?;
        for (guess, &known) in predicted.ids_mut().iter_mut().zip(tokens.ids()) {
            if known != mask_token {
                *guess = known;
            }
        }
        // Rows above `done` are fixed now, the others stay masked.
        let done = size.height - (size.height as f32 * schedule.mask_ratios[step]).floor() as usize;
        let mut next = predicted.clone();
        for (i, id) in next.ids_mut().iter_mut().enumerate() {
            let row = (i % positions) / size.width;
            if row >= done && tokens.ids()[i] == mask_token {
                *id = mask_token;
            }
        }
        let masked =
            (0..batch).map(|b| next.image(b).iter().filter(|&&id| id == mask_token).count());
        Ok(StepResult { masked: masked.collect(), tokens: next, predicted, ties: 0 })
    }
}

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, photo, instruction, out] = &args[..] else {
        return Err("usage: custom_scheduler MODEL PHOTO INSTRUCTION OUT".into());
    };
    let photo = Photo::open(photo)?;
    check_writable(out, photo.size(), &SaveOptions::default())?;
    let device = editmgt::open_default_device()?;
    let options = LoadOptions { dtype: DtypePolicy::choose(&device, None)?, device };
    let model = Model::load(&ModelFolder::open(folder.as_ref())?, &options)?;

    // What the editor does, with the scheduler swapped.
    let multiple = model.codec.spec().downsample_factor * model.transformer.spec().grid_factor;
    let plan = ResizePlan::fit(photo.size(), 32 * multiple, multiple)?;
    let reference = model.codec.encode(plan.apply(&photo, &model.device)?)?;
    let negative = EditDefaults::official().negative_prompt.unwrap_or_default();
    let input = LoopInput {
        text: model.text.encode(&[instruction])?,
        negative: Some(model.text.encode(&[&negative])?),
        guidance_scale: 6.0,
        guidance_interval: (0.0, 1.0),
        canvas: TokenGrid::filled(1, reference.size(), model.transformer.spec().mask_token),
        reference: Some(reference),
        reference_strength: 1.1,
        micro: MicroConditions::uncropped(plan.model().height, plan.model().width),
        steps: 8,
        localisation: Default::default(),
        user_mask: None,
        first_image: 0,
    };
    let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(0));
    let stages = LoopStages {
        transformer: &*model.transformer,
        scheduler: &RowByRow,
        consolidator: &consolidator,
        hold: &HoldOff,
        noise: &noise,
    };
    let mut edit = EditLoop::new(stages, input)?;
    edit.run(&mut Silent, |step| println!("step {}: {} masked", step.completed, step.masked))?;
    let image = plan.invert(model.codec.decode(edit.tokens())?, &photo)?;
    photo.edited(image)?.save(out, &SaveOptions::default())?;
    Ok(())
}
