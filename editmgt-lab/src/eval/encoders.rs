//! Options of the similarity metrics.

use std::path::PathBuf;

use clap::Args;
use editmgt::config::UnknownKeys;
use editmgt::{Editor, ModelError};
use editmgt_eval::encoders::{Clip, Dino, Encoders};
use editmgt_store::FileRoles;

#[derive(Args)]
pub(super) struct EncoderArgs {
    /// Measure similarity by the CLIPModel in this folder (Hugging Face layout: config.json,
    /// safetensors, preprocessor_config.json, tokeniser): to the true image, to the photo and, if
    /// the data has captions, to these
    #[arg(long, value_name = "DIR")]
    clip: Option<PathBuf>,
    /// Measure similarity by the ViTModel (DINO) or Dinov2Model in this folder, in the same layout
    #[arg(long, value_name = "DIR")]
    dino: Option<PathBuf>,
}

impl EncoderArgs {
    /// Declares the files of the encoders as inputs.
    pub(super) fn declare(&self, roles: &mut FileRoles) {
        for dir in [&self.clip, &self.dino].into_iter().flatten() {
            roles.input_tree("encoder", dir);
        }
    }

    /// Loads those that are wanted, where the editor computes; their configs are read as strictly
    /// as the editor's.
    pub(super) fn open(
        &self,
        editor: &Editor,
        unknown_keys: UnknownKeys,
    ) -> Result<Encoders, ModelError> {
        let device = &editor.model().device;
        Ok(Encoders {
            clip: self
                .clip
                .as_deref()
                .map(|dir| Clip::open_with(dir, device, unknown_keys))
                .transpose()?,
            dino: self
                .dino
                .as_deref()
                .map(|dir| Dino::open_with(dir, device, unknown_keys))
                .transpose()?,
        })
    }
}
