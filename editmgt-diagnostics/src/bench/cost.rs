//! Cost of a whole edit by its load.

use burn::tensor::Tensor;
use editmgt::{EditError, EditRequest, Editor, HoldPolicy};
use editmgt_core::{ChaChaNoise, MicroConditions, TextConditioning, TokenGrid};
use editmgt_sampler::{EditLoop, Localisation, LoopInput, LoopStages, Strict, Temperature};
use serde::{Deserialize, Serialize};

use super::timing::{Measured, measured};
use super::{MAX_SIZE, inputs};

/// The instruction of the measured edits, within the small model's vocabulary.
const INSTRUCTION: &str = "make the red car blue";

/// A batch of edits to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditLoad {
    /// Both sides of each image, pixels.
    pub size: usize,
    /// Steps.
    pub steps: usize,
    /// Batch size.
    pub batch: usize,
    /// Number of blocks with attention capture, the last ones of the model. With 0 there is no
    /// score map and no hold; otherwise the hold policy is [`HoldPolicy::Auto`].
    pub layers: usize,
}

/// Cost of a batch of edits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EditCost {
    /// The load.
    #[serde(flatten)]
    pub load: EditLoad,
    /// Median seconds of the whole batch.
    pub median_seconds: f64,
    /// The fastest run.
    pub min_seconds: f64,
    /// The slowest run.
    pub max_seconds: f64,
    /// Mean CPU seconds of a run over all cores, with a resolution of 10 ms over the number of
    /// runs; `None` if the system doesn't report it.
    pub cpu_seconds: Option<f64>,
    /// Peak memory of the process during the runs, the model included, in bytes (host memory, not a
    /// GPU's); `None` if the system doesn't report it. On Linux the earlier peak is reset, but
    /// memory still retained by the process counts: for an independent number measure in a separate
    /// process.
    pub peak_memory_bytes: Option<u64>,
}

impl EditLoad {
    fn check(&self, editor: &Editor) -> Result<(), EditError> {
        let cell = editor.model().pixels_per_cell();
        if self.size == 0 || !self.size.is_multiple_of(cell) || self.size > MAX_SIZE {
            let expected = format!("a multiple of {cell} up to {MAX_SIZE}");
            return Err(EditError::option("size", expected, self.size));
        }
        for (option, value) in [("steps", self.steps), ("batch", self.batch)] {
            if value == 0 {
                return Err(EditError::option(option, "1 or more", value));
            }
        }
        let blocks = editor.model().transformer.spec().blocks();
        if self.layers > blocks {
            return Err(EditError::option("layers", format!("up to {blocks}"), self.layers));
        }
        Ok(())
    }
}

/// Measures whole edits: encoding of texts and images, all steps, decoding. Images are noise, and
/// no files are read or written. Guidance, strength and temperature are the model's defaults.
/// `warmup` runs precede the `repeat` measured ones.
///
/// # Errors
/// [`EditError::Option`] for an invalid load, [`EditError::Stage`] when a stage fails.
pub fn edit_cost(
    editor: &Editor,
    load: EditLoad,
    warmup: usize,
    repeat: usize,
) -> Result<EditCost, EditError> {
    load.check(editor)?;
    if repeat == 0 {
        return Err(EditError::option("repeat", "1 or more", repeat));
    }
    let device = &editor.model().device;
    let picture = inputs::picture(load.size, device);
    let pictures = picture.repeat_dim(0, load.batch);
    let Measured { spread, cpu_seconds, peak_memory_bytes, .. } =
        measured(device, warmup, repeat, || edit(editor, &load, pictures.clone()))?;
    Ok(EditCost {
        load,
        median_seconds: spread.median,
        min_seconds: spread.min,
        max_seconds: spread.max,
        cpu_seconds,
        peak_memory_bytes,
    })
}

/// Edits `[B, 3, H, W]` images.
fn edit(editor: &Editor, load: &EditLoad, pictures: Tensor<4>) -> Result<Tensor<4>, EditError> {
    let model = editor.model();
    let settings = editor.settings(&EditRequest::new(INSTRUCTION))?;
    let encode = |text: &str| model.text.encode(&vec![text; load.batch]);
    let text = encode(&settings.instruction)?;
    let negative: Option<TextConditioning> =
        if settings.guidance_scale > 1.0 { Some(encode(&settings.negative_prompt)?) } else { None };
    let reference = model.codec.encode(pictures)?;

    let spec = model.transformer.spec();
    let (first, last) = settings.temperature;
    let scheduler = Strict::new(model.scheduler.masking_schedule, Temperature::Range(first, last))
        .with_timesteps(model.scheduler.timesteps);
    let policy = if load.layers == 0 { HoldPolicy::Off } else { HoldPolicy::Auto };
    let hold = policy.stage(settings.hold_margin)?;
    let (consolidator, noise) = (settings.map_filter.stage(), ChaChaNoise::new(settings.seed));
    let stages = LoopStages::new(&*model.transformer, &scheduler, &consolidator, &*hold, &noise);
    let blocks = spec.blocks() - load.layers..spec.blocks();
    let canvas = TokenGrid::filled(load.batch, reference.size(), spec.mask_token);
    let micro = MicroConditions::uncropped(load.size, load.size);
    let input = LoopInput::new(text, canvas, micro, load.steps)
        .with_guidance(settings.guidance_scale, negative)
        .with_guidance_interval(settings.guidance_interval)
        .with_step_plan(settings.steps_plan)
        .with_guidance_reuse(settings.guidance_reuse)
        .with_reference(reference, settings.reference_strength)
        .with_localisation(Localisation::new(blocks.collect()));
    let mut edit = EditLoop::new(stages, input)?;
    edit.run(&mut editmgt_core::Silent, drop)?;
    Ok(model.codec.decode(edit.tokens())?)
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;

    const LOAD: EditLoad = EditLoad { size: 80, steps: 2, batch: 1, layers: 0 };

    #[test]
    fn whole_batches_are_edited() {
        let editor = Editor::embedded().build().unwrap();
        for load in [LOAD, EditLoad { layers: 2, batch: 2, ..LOAD }] {
            let pictures = inputs::picture(80, &editor.model().device).repeat_dim(0, load.batch);
            let edited = edit(&editor, &load, pictures).unwrap();
            assert_eq!(edited.dims(), [load.batch, 3, 80, 80]);
            let cost = edit_cost(&editor, load, 0, 2).unwrap();
            assert_eq!(cost.load, load);
            assert!(0.0 < cost.min_seconds && cost.min_seconds <= cost.median_seconds);
            assert!(cost.median_seconds <= cost.max_seconds);
            assert_eq!(cost.peak_memory_bytes.is_some(), cfg!(target_os = "linux"));
            let json = serde_json::to_string(&cost).unwrap();
            let read: EditCost = serde_json::from_str(&json).unwrap();
            // Fractions may lose their last bit in the conversion.
            assert!((read.median_seconds - cost.median_seconds).abs() < 1e-9);
            assert_eq!((read.load, read.peak_memory_bytes), (load, cost.peak_memory_bytes));
        }
    }

    #[test]
    fn rejects_invalid_loads() {
        let editor = Editor::embedded().build().unwrap();
        let blocks = editor.model().transformer.spec().blocks();
        for (load, repeat, named) in [
            (EditLoad { size: 90, ..LOAD }, 1, "size: expected a multiple of"),
            (EditLoad { size: 0, ..LOAD }, 1, "size"),
            (EditLoad { size: 2 * MAX_SIZE, ..LOAD }, 1, "size"),
            (EditLoad { steps: 0, ..LOAD }, 1, "steps: expected 1 or more, got 0"),
            (EditLoad { batch: 0, ..LOAD }, 1, "batch: expected 1 or more"),
            (EditLoad { layers: blocks + 1, ..LOAD }, 1, "layers: expected up to 5, got 6"),
            (LOAD, 0, "repeat: expected 1 or more"),
        ] {
            let error = edit_cost(&editor, load, 0, repeat).unwrap_err().to_string();
            assert!(error.starts_with(named), "{named}: {error}");
        }
    }
}
