use editmgt::photo::Photo;

use super::hash::Fingerprint;
use super::{Columns, Skip, SkipCause, Skips};
use crate::run::TrainError;
use editmgt_world::Category;

/// A row whose words are in order; its pictures have not been looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Names the row for people, and in the cache: as long as the data stays where it is, the
    /// same row has the same name.
    pub(super) name: String,
    /// Changes whenever the files with its pictures do.
    pub(super) stamp: u64,
    /// A hash of the name of its group.
    pub(super) group: u64,
    pub(super) instruction: String,
    pub(super) category: Option<Category>,
    pub(super) captions: Captions,
}

/// What the pictures of a row show, in words, where the data says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captions {
    /// The picture before.
    pub before: Option<String>,
    /// The picture after.
    pub after: Option<String>,
}

/// The pictures of a row.
pub(super) struct Pictures {
    pub(super) before: Photo,
    pub(super) after: Photo,
    pub(super) mask: Option<Photo>,
}

/// Reads the pictures of the rows of a [`Listing`].
pub(super) trait PictureReader {
    /// Hands the pictures of the rows `wanted` over, one row after the other, in their order,
    /// which is ascending.
    ///
    /// # Errors
    /// Those of `each`, and files that can't be read at all.
    fn read(&self, wanted: &[usize], each: &mut EachPictures<'_>) -> Result<(), TrainError>;
}

/// Gets the pictures of a row, or what is wrong with them.
pub(super) type EachPictures<'a> =
    dyn FnMut(usize, Result<Pictures, Skip>) -> Result<(), TrainError> + 'a;

/// All rows of a data set.
pub(super) struct Listing {
    pub(super) rows: Vec<Row>,
    /// The rows whose words are not in order.
    pub(super) skips: Skips,
    pub(super) pictures: Box<dyn PictureReader>,
}

/// The words of a row as they stand in the data.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) instruction: Option<String>,
    pub(super) category: Option<String>,
    pub(super) group: Option<String>,
    pub(super) caption_before: Option<String>,
    pub(super) caption_after: Option<String>,
}

impl Words {
    /// Checks them.
    pub(super) fn into_row(self, name: String, stamp: u64, columns: &Columns) -> Result<Row, Skip> {
        let missing = || Skip::new(SkipCause::MissingColumn, format!("no {}", columns.instruction));
        let instruction = self.instruction.ok_or_else(missing)?.trim().to_owned();
        if instruction.is_empty() {
            return Err(Skip::new(SkipCause::EmptyInstruction, "there is nothing to do"));
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
        let caption = |said: Option<String>| {
            let said = said?.trim().to_owned();
            (!said.is_empty()).then_some(said)
        };
        let captions =
            Captions { before: caption(self.caption_before), after: caption(self.caption_after) };
        Ok(Row { name, stamp, group, instruction, category, captions })
    }
}
