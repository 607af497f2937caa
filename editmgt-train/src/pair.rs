use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

/// What kind of edit an instruction asks for: the seven categories of CrispEdit-2M.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Something appears.
    Add,
    /// Something disappears.
    Remove,
    /// Something becomes something else.
    Replace,
    /// Something changes its colour.
    Colour,
    /// Everything behind the objects changes.
    Background,
    /// The whole picture is rendered differently.
    Style,
    /// Something moves.
    Motion,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Add,
        Self::Remove,
        Self::Replace,
        Self::Colour,
        Self::Background,
        Self::Style,
        Self::Motion,
    ];

    /// As in configs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Replace => "replace",
            Self::Colour => "colour",
            Self::Background => "background",
            Self::Style => "style",
            Self::Motion => "motion",
        }
    }
}

/// One example: a picture, what to change in it, and how it should look then.
#[derive(Debug, Clone, PartialEq)]
pub struct EditPair {
    /// The picture.
    pub before: RgbImage,
    /// The instruction.
    pub instruction: String,
    /// The picture after the edit, of the same size.
    pub after: RgbImage,
    /// 255 where the two differ, 0 elsewhere; `None` when it is not known.
    pub changed: Option<GrayImage>,
    /// The kind of edit, where it is known.
    pub category: Option<Category>,
    /// The words of the instruction that name what is edited, where they are known.
    pub phrase: Option<String>,
}
