use std::path::PathBuf;

use burn::tensor::Device;
use editmgt::sampler::Timesteps;
use editmgt::{EditDefaults, EditError, EditRequest, Editor, Model};
use editmgt_core::{Error, VqCodec};
use editmgt_text::{SmallTextEncoder, WordTokenizer};

use super::{EditModel, EditParts, TimestepConvention};
use crate::run::{Metrics, TrainError};
use editmgt_world::{Example, Split, World, contact_sheet};
use editmgt_world::{Trial, TrialSummary, trial};

/// Additional measurements of an evaluation.
pub trait Probe {
    /// Measures a model, without autodiff, after `step` steps.
    ///
    /// # Errors
    /// Any failure to measure.
    fn measure(&self, model: EditModel, step: u64) -> Result<Metrics, TrainError>;
}

/// Edits held-out scenes with the public API, has the world judge the results, and saves a sheet of
/// the images.
pub(super) struct WorldProbe {
    pub(super) world: World,
    pub(super) codec: Box<dyn Fn() -> Result<Box<dyn VqCodec>, TrainError>>,
    pub(super) tokenizer: WordTokenizer,
    pub(super) timestep: TimestepConvention,
    pub(super) defaults: EditDefaults,
    pub(super) device: Device,
    /// The number of scenes of the validation split, from the first.
    pub(super) scenes: u64,
    /// The folder of the sheets.
    pub(super) samples: PathBuf,
}

/// Scenes per sheet.
const SHEET: usize = 21;

impl Probe for WorldProbe {
    fn measure(&self, model: EditModel, step: u64) -> Result<Metrics, TrainError> {
        let editor = self.editor(model)?;
        let request = EditRequest::default();
        let (mut trials, mut shown): (Vec<Trial>, Vec<Example>) = (Vec::new(), Vec::new());
        for index in 0..self.scenes {
            let edit = trial(&editor, &self.world, (Split::Validation, index), &request);
            let (trial, mut example, edited) = edit.map_err(as_stage)?;
            trials.push(trial);
            if shown.len() < SHEET {
                example.pair.after = edited.image.rgb().clone();
                shown.push(example);
            }
        }
        let summary = TrialSummary::of(&trials);
        std::fs::create_dir_all(&self.samples).map_err(TrainError::io(&self.samples))?;
        let path = self.samples.join(format!("step-{step:012}.png"));
        let mut sheet = std::io::Cursor::new(Vec::new());
        let pairs = shown.iter().map(|example| &example.pair).collect::<Vec<_>>();
        let encoded = contact_sheet(&pairs).write_to(&mut sheet, image::ImageFormat::Png);
        encoded.map_err(|e| TrainError::io(&path)(std::io::Error::other(e)))?;
        editmgt_store::write(&path, sheet.into_inner())?;
        let mut metrics = Metrics::default()
            .with("success", summary.all.success)
            .with("changed_outside", summary.local.tokens_changed_outside);
        for (category, means) in &summary.by_category {
            metrics = metrics.with(format!("success/{}", category.name()), means.success);
        }
        Ok(metrics)
    }
}

impl WorldProbe {
    fn editor(&self, model: EditModel) -> Result<Editor, TrainError> {
        let EditParts { transformer, text } = model.into_parts();
        let text = text.ok_or_else(|| Error::value("text encoder of the model", "one", "none"))?;
        let timesteps = match self.timestep {
            TimestepConvention::MaskRatio => Timesteps::MaskRatio,
            TimestepConvention::Official => Timesteps::Countdown,
        };
        let text = Box::new(SmallTextEncoder::new(text, self.tokenizer.clone())?);
        let (codec, transformer) = ((self.codec)()?, Box::new(transformer));
        let mut model = Model::new(codec, text, transformer, self.device.clone());
        model.scheduler = model.scheduler.with_timesteps(timesteps);
        model.defaults = self.defaults.clone();
        Editor::new(model).map_err(|error| as_stage(error.into()))
    }
}

fn as_stage(error: EditError) -> TrainError {
    match error {
        EditError::Stage(error) => error.into(),
        error => TrainError::option("edit_defaults", "options of an edit that works", error),
    }
}
