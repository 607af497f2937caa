use editmgt::photo::Photo;

use super::hash::Fingerprint;
use super::{Columns, Skip, SkipCause, Skips};
use crate::run::TrainError;
use editmgt_world::Category;

/// A row with validated text; images not yet read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Identifies the row in messages and in the cache; stable as long as the data stays at its
    /// path.
    pub(super) name: String,
    /// Changes whenever the row's image files do.
    pub(super) stamp: u64,
    /// A hash of the name of its group.
    pub(super) group: u64,
    pub(super) instruction: String,
    pub(super) category: Option<Category>,
    pub(super) captions: Captions,
}

/// The captions of a row's images, where available.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captions {
    /// The image before.
    pub before: Option<String>,
    /// The image after.
    pub after: Option<String>,
}

/// The images of a row.
pub(super) struct PairImages {
    pub(super) before: Photo,
    pub(super) after: Photo,
    pub(super) mask: Option<Photo>,
}

/// Reads the images of the rows of a [`Listing`].
pub(super) trait ImageReader {
    /// Passes the images of the rows `wanted` to `each`, in ascending order of rows.
    ///
    /// # Errors
    /// Those of `each`, and unreadable files.
    fn read(&self, wanted: &[usize], each: &mut EachImages<'_>) -> Result<(), TrainError>;
}

/// Receives the images of a row, or what is wrong with them.
pub(super) type EachImages<'a> =
    dyn FnMut(usize, Result<PairImages, Skip>) -> Result<(), TrainError> + 'a;

/// All rows of a data set.
pub(super) struct Listing {
    pub(super) rows: Vec<Row>,
    /// The rows without valid text.
    pub(super) skips: Skips,
    pub(super) pictures: Box<dyn ImageReader>,
}

/// The text fields of a row, not yet validated.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) instruction: Option<String>,
    pub(super) category: Option<String>,
    pub(super) group: Option<String>,
    pub(super) caption_before: Option<String>,
    pub(super) caption_after: Option<String>,
}

impl Words {
    /// Validates them.
    pub(super) fn into_row(self, name: String, stamp: u64, columns: &Columns) -> Result<Row, Skip> {
        let missing = || Skip::new(SkipCause::MissingColumn, format!("no {}", columns.instruction));
        let instruction = self.instruction.ok_or_else(missing)?.trim().to_owned();
        if instruction.is_empty() {
            return Err(Skip::new(SkipCause::EmptyInstruction, "the instruction is empty"));
        }
        let group = match (&columns.group, self.group) {
            (Some(_), Some(group)) => group,
            (Some(column), None) => {
                return Err(Skip::new(SkipCause::MissingColumn, format!("no {column}")));
            }
            (None, _) => name.clone(),
        };
        let group = Fingerprint::default().with(group).number();
        let category = self.category.and_then(|name| Category::from_name(&name));
        let caption = |text: Option<String>| {
            let text = text?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let captions =
            Captions { before: caption(self.caption_before), after: caption(self.caption_after) };
        Ok(Row { name, stamp, group, instruction, category, captions })
    }
}
