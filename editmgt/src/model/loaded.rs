//! The loaded parts of a model, each behind its trait.

use std::path::Path;

use burn::tensor::Device;
use editmgt_core::{MgtTransformer, TextEncoder, VqCodec};
use editmgt_sampler::SchedulerConfig;

use super::options::ModelSource;
use crate::error::ModelError;
use crate::request::EditDefaults;

/// A loaded model. Any part can be replaced by your own before an [`Editor`](crate::Editor) is
/// made of it.
pub struct Model {
    /// Photo to tokens and back.
    pub codec: Box<dyn VqCodec>,
    /// Instruction to features.
    pub text: Box<dyn TextEncoder>,
    /// Tokens to logits.
    pub transformer: Box<dyn MgtTransformer>,
    /// How many tokens are fixed when.
    pub scheduler: SchedulerConfig,
    /// How it wants to be used.
    pub defaults: EditDefaults,
    /// What it was loaded from, for reports; not checked against the parts, so take it away (or
    /// set your own) when you replace one. `None` for parts of your own.
    pub source: Option<ModelSource>,
    /// Where the tensors live.
    pub device: Device,
}

impl Model {
    /// The model, when its parts and its defaults belong together; `root` is where it is from.
    pub(crate) fn checked(self, root: &Path) -> Result<Self, ModelError> {
        self.check()?;
        let blocks = self.transformer.spec().blocks();
        match self.defaults.check_for(blocks, self.pixels_per_cell()) {
            Ok(()) => Ok(self),
            Err(source) => Err(ModelError::Config { path: root.join(EditDefaults::FILE), source }),
        }
    }

    /// What both sides of the pictures that it works on are multiples of.
    pub fn pixels_per_cell(&self) -> usize {
        self.codec.spec().downsample_factor * self.transformer.spec().grid_factor
    }

    /// Checks that the parts belong together; [`load`](Self::load) has done so.
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
