use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

/// What kind of edit an instruction asks for: the seven categories of CrispEdit-2M.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Adds an object.
    Add,
    /// Removes objects.
    Remove,
    /// Replaces an object.
    Replace,
    /// Changes an object's colour.
    Colour,
    /// Changes everything behind the objects.
    Background,
    /// Renders the whole image differently.
    Style,
    /// Moves an object.
    Motion,
}

impl Category {
    /// All categories.
    pub const ALL: [Self; 7] = [
        Self::Add,
        Self::Remove,
        Self::Replace,
        Self::Colour,
        Self::Background,
        Self::Style,
        Self::Motion,
    ];

    /// The name in configs and reports.
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

    /// The category of this name in a data set, ignoring case: its own name, and `color`,
    /// `background change` and `motion change`, as in CrispEdit-2M. `None` for any other.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim().to_lowercase().replace(['_', '-'], " ");
        Some(match name.strip_suffix(" change").unwrap_or(&name) {
            "add" => Self::Add,
            "remove" => Self::Remove,
            "replace" => Self::Replace,
            "colour" | "color" => Self::Colour,
            "background" => Self::Background,
            "style" => Self::Style,
            "motion" => Self::Motion,
            _ => return None,
        })
    }
}

/// One example: an image, an instruction, and the edited image.
#[derive(Debug, Clone, PartialEq)]
pub struct EditPair {
    /// The image.
    pub before: RgbImage,
    /// The instruction.
    pub instruction: String,
    /// The image after the edit, of the same size.
    pub after: RgbImage,
    /// 255 where the two differ, 0 elsewhere; `None` if unknown.
    pub changed: Option<GrayImage>,
    /// The kind of edit, if known.
    pub category: Option<Category>,
    /// The phrase of the instruction that names the edited object, if known.
    pub phrase: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_by_the_names_of_data_sets() {
        for category in Category::ALL {
            let name = serde_json::to_value(category).unwrap();
            assert_eq!(Category::from_name(name.as_str().unwrap()), Some(category));
        }
        for (name, expected) in [
            ("color", Some(Category::Colour)),
            ("Background change", Some(Category::Background)),
            (" motion_change\n", Some(Category::Motion)),
            ("global", None),
            ("", None),
        ] {
            assert_eq!(Category::from_name(name), expected, "{name}");
        }
    }
}
