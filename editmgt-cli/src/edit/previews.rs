//! The options of previews.

use std::error::Error as StdError;
use std::path::PathBuf;

use clap::Args;
use editmgt_store::FileRoles;

use crate::progress::PreviewFolder;

/// Where previews are written.
#[derive(Args)]
pub(crate) struct PreviewArgs {
    /// Write a preview after each step into this folder, in the model's size
    #[arg(long, value_name = "DIR")]
    pub(crate) preview: Option<PathBuf>,
    /// Interval of previews in steps; the last step always has one
    #[arg(long, value_name = "STEPS", requires = "preview", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    preview_every: u32,
    /// Shrink factor of previews, which decodes fewer tokens
    #[arg(long, value_name = "TIMES", requires = "preview", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    preview_shrink: u32,
}

impl PreviewArgs {
    /// The folder, with this prefix of the names in it.
    pub(crate) fn folder(&self, prefix: &str) -> Option<PreviewFolder> {
        self.preview.clone().map(|folder| PreviewFolder {
            folder,
            every: self.preview_every as usize,
            shrink: self.preview_shrink as usize,
            prefix: prefix.to_owned(),
        })
    }

    /// Declares the previews as outputs.
    pub(crate) fn declare(&self, roles: &mut FileRoles) -> Result<(), Box<dyn StdError>> {
        let Some(folder) = &self.preview else { return Ok(()) };
        if !folder.is_dir() {
            let folder = folder.display();
            return Err(
                format!("{folder}: the folder for previews does not exist; create it").into()
            );
        }
        Ok(roles.outputs_in("preview", folder, is_preview)?)
    }
}

/// Whether a file of a preview folder is a preview: `step-0004.png`, `2-step-0004.png`; ignores
/// case, as some file systems do.
fn is_preview(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let Some((prefix, step)) = name.strip_suffix(".png").and_then(|name| name.rsplit_once("step-"))
    else {
        return false;
    };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    number(step) && (prefix.is_empty() || prefix.strip_suffix('-').is_some_and(number))
}
