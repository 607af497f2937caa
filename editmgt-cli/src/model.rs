//! Which model a command uses.

use std::path::PathBuf;

use clap::Args;
use editmgt::{Editor, EditorBuilder};

#[derive(Args)]
pub(crate) struct ModelArg {
    /// The model's folder
    #[arg(short, long, value_name = "DIR")]
    model: PathBuf,
}

impl ModelArg {
    pub(crate) fn builder(&self) -> EditorBuilder {
        Editor::builder(&self.model)
    }
}
