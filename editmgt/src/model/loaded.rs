//! The loaded parts of a model, each behind its trait.

use std::path::Path;

use burn::tensor::Device;
use editmgt_core::{MgtTransformer, TextEncoder, VqCodec};
use editmgt_sampler::SchedulerConfig;

use super::kind::ModelKind;
use super::options::ModelSource;
use crate::error::ModelError;
use crate::request::EditDefaults;

/// A loaded model. Any part can be replaced by a custom one before an [`Editor`](crate::Editor) is
/// built from it.
#[non_exhaustive]
pub struct Model {
    /// Photo to tokens and back.
    pub codec: Box<dyn VqCodec>,
    /// Instruction to features.
    pub text: Box<dyn TextEncoder>,
    /// Tokens to logits.
    pub transformer: Box<dyn MgtTransformer>,
    /// The schedule: how many tokens each step fixes.
    pub scheduler: SchedulerConfig,
    /// Default options of an edit.
    pub defaults: EditDefaults,
    /// The family that it belongs to.
    pub kind: ModelKind,
    /// What it was loaded from, for reports. Not checked against the parts: remove or replace it
    /// when you replace one. `None` for custom parts.
    pub source: Option<ModelSource>,
    /// The device of the tensors.
    pub device: Device,
}

impl Model {
    /// A model of your own parts: with the official schedule and no default options, on the device
    /// of the parts' tensors. The other fields can be set afterwards; [`check`](Self::check) says
    /// whether the parts are compatible.
    pub fn new(
        codec: Box<dyn VqCodec>,
        text: Box<dyn TextEncoder>,
        transformer: Box<dyn MgtTransformer>,
        device: Device,
    ) -> Self {
        let scheduler = SchedulerConfig::new(transformer.spec().mask_token);
        let defaults = EditDefaults::default();
        let kind = ModelKind::Custom;
        Self { codec, text, transformer, scheduler, defaults, kind, source: None, device }
    }

    /// The model, if its parts and its defaults are compatible; `root` is its folder.
    pub(crate) fn checked(self, root: &Path) -> Result<Self, ModelError> {
        self.check()?;
        let blocks = self.transformer.spec().blocks();
        match self.defaults.check_for(blocks, self.pixels_per_cell()) {
            Ok(()) => Ok(self),
            Err(cause) => Err(ModelError::Config { path: root.join(EditDefaults::FILE), cause }),
        }
    }

    /// Granularity of the image sides in pixels.
    pub fn pixels_per_cell(&self) -> usize {
        self.codec.spec().downsample_factor * self.transformer.spec().grid_factor
    }

    /// Checks that the parts are compatible; [`load`](Self::load) has done so.
    ///
    /// # Errors
    /// [`ModelError::Disagree`] with the two numbers.
    pub fn check(&self) -> Result<(), ModelError> {
        let transformer = self.transformer.spec();
        let (codec, text) = (self.codec.spec(), self.text.spec());
        let numbers = [
            ("codebook size", transformer.codebook_size, "codec", codec.codebook_size),
            ("text width", transformer.text_size, "text encoder", text.hidden_size),
            ("pooled text width", transformer.pooled_size, "text encoder", text.pooled_size),
            (
                "mask token",
                transformer.mask_token as usize,
                "scheduler",
                self.scheduler.mask_token_id as usize,
            ),
        ];
        for (what, left_value, right, right_value) in numbers {
            if left_value != right_value {
                let left = "transformer";
                return Err(ModelError::Disagree { what, left, left_value, right, right_value });
            }
        }
        Ok(())
    }
}
