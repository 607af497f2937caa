//! What is done with a photo, and what a model was trained for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CompositePolicy, EditRequest, HoldPolicy};
use crate::error::EditError;
use crate::photo::{MAX_SIDE, Margins};

/// What is done with a photo.
///
/// In JSON `"edit"`, `"inpaint"` and `{"outpaint": {"left": 256}}`; as words `edit`, `inpaint` and
/// `outpaint:256,0,0,0` (left, top, right, bottom).
///
/// ```
/// use editmgt::Task;
///
/// let task: Task = "outpaint:256,0,0,64".parse()?;
/// assert_eq!(serde_json::to_string(&task).unwrap(), r#"{"outpaint":{"left":256,"bottom":64}}"#);
/// assert_eq!(task.to_string(), "outpaint:256,0,0,64");
/// # Ok::<(), editmgt::EditError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Changes the photo as the instruction says. The photo's tokens are conditions of a model that
    /// was trained with them.
    #[default]
    Edit,
    /// Generates what the user's mask leaves white from a description of it. The other tokens are
    /// the photo's, known from the beginning.
    Inpaint,
    /// Generates margins around the photo: inpainting of a larger canvas.
    Outpaint(Margins),
}

impl Task {
    const WORDS: &str = "edit, inpaint or outpaint:LEFT,TOP,RIGHT,BOTTOM";

    /// What a model must be trained for.
    pub fn job(self) -> Job {
        match self {
            Self::Edit => Job::Edit,
            Self::Inpaint | Self::Outpaint(_) => Job::Inpaint,
        }
    }

    /// Whether known tokens stay and the others are generated.
    pub fn is_inpainting(self) -> bool {
        self.job() == Job::Inpaint
    }

    /// Checks the options that a task reads otherwise than an edit.
    pub(super) fn check(self, request: &EditRequest) -> Result<(), EditError> {
        if let Self::Outpaint(margins) = self {
            let Margins { left, top, right, bottom } = margins;
            let sides = [left, top, right, bottom];
            if sides.iter().all(|&side| side == 0) || sides.iter().any(|&side| side > MAX_SIDE) {
                let expected = format!("margins of 0 to {MAX_SIDE} pixels, at least one above 0");
                return Err(EditError::option("task", expected, self));
            }
            if request.mask.is_some() {
                request.check_mask(true)?;
            }
            if request.composite == Some(CompositePolicy::Visible) {
                let expected = "held or all with an outpainting";
                return Err(EditError::option("composite", expected, "visible"));
            }
        }
        match &request.hold {
            Some(hold) if self.is_inpainting() && *hold != HoldPolicy::Mask => {
                let expected = "mask with an inpainting, which keeps what its mask leaves black";
                Err(EditError::option("hold", expected, hold))
            }
            _ => Ok(()),
        }
    }
}

impl EditRequest {
    /// Checks whether there is a mask against what the options need. A mask may be elsewhere than
    /// in the request: that of a job of a batch is a file.
    ///
    /// # Errors
    /// [`EditError::Option`].
    pub(crate) fn check_mask(&self, has_mask: bool) -> Result<(), EditError> {
        match (self.task, has_mask) {
            (Task::Outpaint(_), true) => {
                let expected = "none with an outpainting, whose mask is the margins";
                Err(EditError::option("mask", expected, "one"))
            }
            (Task::Inpaint, false) => {
                let expected = "a mask, white where the photo is to be generated";
                Err(EditError::option("mask", expected, "none"))
            }
            (Task::Edit, false) => match &self.hold {
                Some(hold) if hold.needs_mask() => {
                    let expected = "a mask for this policy";
                    Err(EditError::option("hold", expected, format!("{hold} alone")))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edit => f.write_str("edit"),
            Self::Inpaint => f.write_str("inpaint"),
            Self::Outpaint(Margins { left, top, right, bottom }) => {
                write!(f, "outpaint:{left},{top},{right},{bottom}")
            }
        }
    }
}

impl FromStr for Task {
    type Err = EditError;

    fn from_str(text: &str) -> Result<Self, EditError> {
        let margins = |sides: &str| -> Option<Margins> {
            let sides: Option<Vec<usize>> =
                sides.split(',').map(|side| side.trim().parse().ok()).collect();
            let [left, top, right, bottom] = sides?[..] else { return None };
            Some(Margins { left, top, right, bottom })
        };
        let task = match text.trim() {
            "edit" => Some(Self::Edit),
            "inpaint" => Some(Self::Inpaint),
            other => other.strip_prefix("outpaint:").and_then(margins).map(Self::Outpaint),
        };
        task.ok_or_else(|| EditError::option("task", Self::WORDS, format!("{text:?}")))
    }
}

/// What a model was trained for.
///
/// In JSON `"edit"`, `"generate"` and `"inpaint"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// To change a photo by instruction.
    Edit,
    /// To generate images from text.
    Generate,
    /// To fill the masked part of an image from a description of it. Every masked generative
    /// transformer was.
    Inpaint,
}

impl Job {
    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Generate => "generate",
            Self::Inpaint => "inpaint",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use image::GrayImage;

    use super::*;
    use crate::photo::Mask;

    #[test]
    fn tasks_survive_text_and_json() {
        let margins = Margins { left: 4, top: 0, right: 2, bottom: 1 };
        for task in [Task::Edit, Task::Inpaint, Task::Outpaint(margins)] {
            assert_eq!(task.to_string().parse::<Task>().unwrap(), task);
            let json = serde_json::to_string(&task).unwrap();
            assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task, "{json}");
        }
        for bad in ["", "outpaint", "outpaint:", "outpaint:1,2,3", "outpaint:1,2,3,-4", "draw"] {
            let message = bad.parse::<Task>().unwrap_err().to_string();
            assert!(message.starts_with("task: expected edit, inpaint or outpaint"), "{message}");
        }
        for bad in [r#"{"outpaint":{"up":3}}"#, r#"{"outpaint":{"left":-3}}"#, r#""draw""#] {
            assert!(serde_json::from_str::<Task>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_that_a_task_does_not_have_are_refused() {
        let outpaint = |left| Task::Outpaint(Margins { left, ..Margins::default() });
        let plain = EditRequest::new("a meadow");
        let mask = Arc::new(Mask::from_luma(GrayImage::new(8, 8)));
        for (request, named) in [
            (plain.clone().task(outpaint(0)), "task: expected margins"),
            (plain.clone().task(outpaint(MAX_SIDE + 1)), "task: expected margins"),
            (plain.clone().task(outpaint(8)).mask(mask), "mask: expected none"),
            (
                plain.clone().task(outpaint(8)).composite(CompositePolicy::Visible),
                "composite: expected held or all",
            ),
            (plain.clone().task(Task::Inpaint).hold(HoldPolicy::Auto), "hold: expected mask"),
            (plain.clone().task(outpaint(8)).hold(HoldPolicy::Off), "hold: expected mask"),
        ] {
            let message = request.check().unwrap_err().to_string();
            assert!(message.starts_with(named), "{named}: {message}");
        }
        plain.clone().task(outpaint(8)).hold(HoldPolicy::Mask).check().unwrap();
        plain.task(Task::Inpaint).composite(CompositePolicy::Visible).check().unwrap();
    }
}
