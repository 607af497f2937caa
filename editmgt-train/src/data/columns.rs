use serde::{Deserialize, Serialize};

use crate::run::TrainError;

/// What the columns of a data set are called: those of published ones by name.
///
/// | layout | before | after | instruction | mask | category | group |
/// |---|---|---|---|---|---|---|
/// | `plain` | `before` | `after` | `instruction` | `mask` | `category` | |
/// | `crisp_edit` | `input_img` | `output_img` | `instruction` | | `type` | |
/// | `magic_brush` | `source_img` | `target_img` | `instruction` | `mask_img` | | `img_id` |
/// | `emu_edit` | `image` | `edited_image` | `instruction` | | `task` | |
///
/// Captions of the pictures are in `caption_before` and `caption_after` (`plain`), and in
/// `input_caption` and `output_caption` (`emu_edit`); the others have none.
///
/// `plain` is what `editmgt-lab world` writes. Sources: the data set cards of `osunlp/MagicBrush` and
/// `facebook/emu_edit_test_set_generations` (the published Emu Edit test set itself has no edited
/// pictures). The card of CrispEdit-2M could not be looked up; its names are those that public
/// programs read its files with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// What `editmgt-lab world` writes.
    #[default]
    Plain,
    /// CrispEdit-2M.
    CrispEdit,
    /// MagicBrush.
    MagicBrush,
    /// The Emu Edit test set with the pictures that Emu Edit made of it.
    EmuEdit,
}

impl Layout {
    /// The columns of this layout.
    pub fn columns(self) -> Columns {
        let columns = |before: &str, after: &str| Columns {
            before: before.into(),
            after: after.into(),
            instruction: "instruction".into(),
            mask: None,
            category: None,
            group: None,
            caption_before: None,
            caption_after: None,
        };
        let some = |name: &str| Some(name.to_owned());
        match self {
            Self::Plain => Columns {
                mask: some("mask"),
                category: some("category"),
                caption_before: some("caption_before"),
                caption_after: some("caption_after"),
                ..columns("before", "after")
            },
            Self::CrispEdit => {
                Columns { category: some("type"), ..columns("input_img", "output_img") }
            }
            Self::MagicBrush => Columns {
                mask: some("mask_img"),
                group: some("img_id"),
                ..columns("source_img", "target_img")
            },
            Self::EmuEdit => Columns {
                category: some("task"),
                caption_before: some("input_caption"),
                caption_after: some("output_caption"),
                ..columns("image", "edited_image")
            },
        }
    }
}

impl Columns {
    /// The names of all columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        let optional =
            [&self.mask, &self.category, &self.group, &self.caption_before, &self.caption_after];
        [&self.before, &self.after, &self.instruction]
            .into_iter()
            .chain(optional.into_iter().flatten())
    }
}

/// Names of columns. In a data set of folders, a column is a folder and a row is the files of one
/// stem in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Columns {
    /// The picture before.
    pub before: String,
    /// The picture after.
    pub after: String,
    /// The instruction.
    pub instruction: String,
    /// Where the edit is; need not be there, nor be filled in every row.
    pub mask: Option<String>,
    /// The kind of edit; need not be there, nor be filled in every row.
    pub category: Option<String>,
    /// Rows of one group are all learned from or all evaluated on; without it, each row is a group
    /// of its own. For data with several edits of one picture.
    pub group: Option<String>,
    /// What the picture before shows, in words; need not be there, nor be filled in every row.
    /// Evaluations read it, training does not.
    pub caption_before: Option<String>,
    /// What the picture after shows; the same.
    pub caption_after: Option<String>,
}

/// Names that replace those of a [`Layout`]; an empty one takes an optional column out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnNames {
    /// Replaces [`Columns::before`].
    pub before: Option<String>,
    /// Replaces [`Columns::after`].
    pub after: Option<String>,
    /// Replaces [`Columns::instruction`].
    pub instruction: Option<String>,
    /// Replaces [`Columns::mask`].
    pub mask: Option<String>,
    /// Replaces [`Columns::category`].
    pub category: Option<String>,
    /// Replaces [`Columns::group`].
    pub group: Option<String>,
    /// Replaces [`Columns::caption_before`].
    pub caption_before: Option<String>,
    /// Replaces [`Columns::caption_after`].
    pub caption_after: Option<String>,
}

impl ColumnNames {
    /// The columns of a layout with these names.
    ///
    /// # Errors
    /// [`TrainError::Option`] when a name is empty that must not be, or stands for two columns.
    pub fn over(&self, layout: Layout) -> Result<Columns, TrainError> {
        let usual = layout.columns();
        let needed = |name: &Option<String>, usual: String| name.clone().unwrap_or(usual);
        let optional = |name: &Option<String>, usual: Option<String>| {
            name.clone().or(usual).filter(|name| !name.is_empty())
        };
        let columns = Columns {
            before: needed(&self.before, usual.before),
            after: needed(&self.after, usual.after),
            instruction: needed(&self.instruction, usual.instruction),
            mask: optional(&self.mask, usual.mask),
            category: optional(&self.category, usual.category),
            group: optional(&self.group, usual.group),
            caption_before: optional(&self.caption_before, usual.caption_before),
            caption_after: optional(&self.caption_after, usual.caption_after),
        };
        let mut names = vec![&columns.before, &columns.after, &columns.instruction];
        // The pictures of a group may well be told by one of the other columns.
        names.extend(columns.mask.iter().chain(&columns.category));
        names.extend(columns.caption_before.iter().chain(&columns.caption_after));
        names.sort();
        if names.iter().any(|name| name.is_empty()) || names.windows(2).any(|two| two[0] == two[1])
        {
            let expected = "a name for each of before, after and instruction, none of them twice";
            return Err(TrainError::option("columns", expected, format!("{names:?}")));
        }
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_replace_those_of_the_layout() {
        let names = ColumnNames {
            before: Some("from".into()),
            mask: Some(String::new()),
            group: Some("from".into()),
            ..ColumnNames::default()
        };
        let columns = names.over(Layout::MagicBrush).unwrap();
        assert_eq!((&*columns.before, &*columns.after), ("from", "target_img"));
        assert_eq!((columns.mask, columns.group.as_deref()), (None, Some("from")));
        for layout in [Layout::Plain, Layout::CrispEdit, Layout::EmuEdit] {
            assert_eq!(ColumnNames::default().over(layout).unwrap(), layout.columns());
        }
    }

    #[test]
    fn names_that_cannot_be_told_apart_are_refused() {
        let twice = ColumnNames { after: Some("before".into()), ..ColumnNames::default() };
        let empty = ColumnNames { instruction: Some(String::new()), ..ColumnNames::default() };
        for names in [twice, empty] {
            let error = names.over(Layout::Plain).unwrap_err().to_string();
            assert!(error.starts_with("columns: expected"), "{error}");
        }
    }
}
