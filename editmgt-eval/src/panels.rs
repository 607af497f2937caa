use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};

use crate::EvalError;

/// The images of one edit, for inspection.
#[derive(Debug, Clone, PartialEq)]
pub struct Panels {
    /// The photo.
    pub before: RgbImage,
    /// The true edited image, if known.
    pub truth: Option<RgbImage>,
    /// The score map, a pixel per token: black at 0, white at 1; `None` if not computed.
    pub map: Option<RgbImage>,
    /// The held tokens, a pixel per token: dark where held.
    pub held: Option<RgbImage>,
    /// The edited photo.
    pub after: RgbImage,
}

/// Names of the panels, in display order.
pub(crate) const PANELS: [&str; 5] = ["before", "map", "held", "after", "truth"];

impl Panels {
    /// Writes the panels into the folder `pictures` of a run: `000012-before.png` and so on.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    pub fn save(&self, dir: &Path, index: u64) -> Result<(), EvalError> {
        let folder = dir.join("pictures");
        std::fs::create_dir_all(&folder).map_err(EvalError::io(&folder))?;
        let pictures = [
            Some(&self.before),
            self.map.as_ref(),
            self.held.as_ref(),
            Some(&self.after),
            self.truth.as_ref(),
        ];
        for (name, picture) in PANELS.into_iter().zip(pictures) {
            let Some(picture) = picture else { continue };
            editmgt_store::write(panel_path(dir, index, name), png(picture))?;
        }
        Ok(())
    }
}

/// The image as the bytes of a PNG.
pub(crate) fn png(picture: &RgbImage) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).expect("an image in memory is a PNG");
    png.into_inner()
}

pub(crate) fn panel_path(dir: &Path, index: u64, panel: &str) -> PathBuf {
    dir.join("pictures").join(format!("{index:06}-{panel}.png"))
}
