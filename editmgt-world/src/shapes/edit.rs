use serde::{Deserialize, Serialize};

use super::names::{Background, Colour, Direction, Place, Shape, Style};
use super::scene::{Layout, Object, Scene};
use crate::Category;

/// The full meaning of an instruction: the scene after is a function of the scene before and this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Adds an object at a place.
    Add {
        /// The new object, at the coordinates of the place.
        object: Object,
        /// The place named by the instruction.
        place: Place,
    },
    /// Removes an object.
    Remove {
        /// The object.
        object: Object,
    },
    /// Replaces an object by another of the same size at the same place.
    Replace {
        /// The object before.
        object: Object,
        /// The new shape.
        shape: Shape,
        /// Its new colour; `None` keeps the old one.
        colour: Option<Colour>,
    },
    /// Changes an object's colour.
    Colour {
        /// The object before.
        object: Object,
        /// The new colour.
        colour: Colour,
    },
    /// Changes everything behind the objects.
    Background {
        /// The new background.
        background: Background,
    },
    /// Renders the scene differently.
    Style {
        /// The new style; the negative of a negative is the normal rendering.
        style: Style,
    },
    /// Moves an object by the width of a regular object in one direction, or to a place.
    Motion {
        /// The object before.
        object: Object,
        /// The destination.
        to: Destination,
    },
}

/// Destination of a motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// A width of a regular object in this direction.
    Direction(Direction),
    /// One of [`Place::OF_MOTION`].
    Place(Place),
}

impl Edit {
    /// The category.
    pub fn category(&self) -> Category {
        match self {
            Self::Add { .. } => Category::Add,
            Self::Remove { .. } => Category::Remove,
            Self::Replace { .. } => Category::Replace,
            Self::Colour { .. } => Category::Colour,
            Self::Background { .. } => Category::Background,
            Self::Style { .. } => Category::Style,
            Self::Motion { .. } => Category::Motion,
        }
    }

    /// The object that the instruction refers to in the scene before.
    pub fn target(&self) -> Option<&Object> {
        match self {
            Self::Remove { object }
            | Self::Replace { object, .. }
            | Self::Colour { object, .. }
            | Self::Motion { object, .. } => Some(object),
            Self::Add { .. } | Self::Background { .. } | Self::Style { .. } => None,
        }
    }

    /// The object of the scene after that replaces the target, or is new.
    pub(super) fn result(&self, layout: Layout) -> Option<Object> {
        match *self {
            Self::Add { object, .. } => Some(object),
            Self::Replace { object, shape, colour } => {
                Some(Object { shape, colour: colour.unwrap_or(object.colour), ..object })
            }
            Self::Colour { object, colour } => Some(Object { colour, ..object }),
            Self::Motion { object, to: Destination::Direction(way) } => {
                layout.shifted(&object, way)
            }
            Self::Motion { object, to: Destination::Place(place) } => {
                let (x, y) = layout.at(place, object.size);
                Some(Object { x, y, ..object })
            }
            Self::Remove { .. } | Self::Background { .. } | Self::Style { .. } => None,
        }
    }

    /// The scene after; `None` if the edit is impossible, changes nothing, or would leave two
    /// objects with the same description.
    pub(super) fn apply(&self, before: &Scene, layout: Layout) -> Option<Scene> {
        let after = match *self {
            Self::Background { background } => Scene { background, ..before.clone() },
            Self::Style { style: Style::Negative } if before.style == Style::Negative => {
                Scene { style: Style::Normal, ..before.clone() }
            }
            // Other styles have lost information that further edits need.
            Self::Style { style } if before.style == Style::Normal => {
                Scene { style, ..before.clone() }
            }
            Self::Style { .. } => return None,
            Self::Remove { object } => before.without(&object)?,
            Self::Add { .. } => before.with(self.result(layout)?, layout)?,
            Self::Replace { object, .. }
            | Self::Colour { object, .. }
            | Self::Motion { object, .. } => {
                before.without(&object)?.with(self.result(layout)?, layout)?
            }
        };
        (after != *before).then_some(after)
    }

    /// The inverse edit, if an instruction can express it exactly: a removed object must have stood
    /// at a named place, and an image without colours cannot be coloured.
    pub(super) fn inverse(&self, before: &Scene, layout: Layout) -> Option<Self> {
        match *self {
            Self::Add { object, .. } => Some(Self::Remove { object }),
            Self::Remove { object } => Some(Self::Add { object, place: layout.place_of(&object)? }),
            Self::Replace { object, colour, .. } => Some(Self::Replace {
                object: self.result(layout)?,
                shape: object.shape,
                colour: colour.map(|_| object.colour),
            }),
            Self::Colour { object, .. } => {
                Some(Self::Colour { object: self.result(layout)?, colour: object.colour })
            }
            Self::Background { .. } => Some(Self::Background { background: before.background }),
            Self::Style { style } => (style == Style::Negative).then_some(*self),
            Self::Motion { object, to } => {
                let back = match to {
                    Destination::Direction(way) => Destination::Direction(way.opposite()),
                    Destination::Place(_) => Destination::Place(
                        layout.place_of(&object).filter(|p| Place::OF_MOTION.contains(p))?,
                    ),
                };
                Some(Self::Motion { object: self.result(layout)?, to: back })
            }
        }
    }
}
