//! Which model a command uses.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use editmgt::{Editor, EditorBuilder};

#[derive(Args)]
pub(crate) struct ModelArg {
    /// The model's folder [default: the small model in the program, for scenes of its own world]
    #[arg(short, long, value_name = "DIR", required = cfg!(not(feature = "embedded")))]
    model: Option<PathBuf>,
}

impl ModelArg {
    pub(crate) fn builder(&self) -> Result<EditorBuilder, Box<dyn Error>> {
        match &self.model {
            Some(folder) => Ok(Editor::builder(folder)),
            #[cfg(feature = "embedded")]
            None => Ok(Editor::embedded()),
            #[cfg(not(feature = "embedded"))]
            None => Err("--model: expected a model's folder, got none".into()),
        }
    }
}
