use serde::{Deserialize, Serialize};

use super::names::{Background, Colour, Direction, Place, Shape, Style};
use super::scene::{Layout, Object, Scene};
use crate::Category;

/// What an instruction asks for, in full: the scene after is a function of the scene before and
/// this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// An object appears at a place.
    Add {
        /// The new object; its coordinates are those of the place.
        object: Object,
        /// The place that the instruction names.
        place: Place,
    },
    /// An object disappears.
    Remove {
        /// The object.
        object: Object,
    },
    /// An object becomes another of the same size at the same place.
    Replace {
        /// The object before.
        object: Object,
        /// What it becomes.
        shape: Shape,
        /// Its new colour; `None` keeps the old one.
        colour: Option<Colour>,
    },
    /// An object changes its colour.
    Colour {
        /// The object before.
        object: Object,
        /// The new colour.
        colour: Colour,
    },
    /// Everything behind the objects changes.
    Background {
        /// The new background.
        background: Background,
    },
    /// The scene is rendered differently.
    Style {
        /// How; the negative of a negative is the normal rendering.
        style: Style,
    },
    /// An object goes a width of a regular object in one direction, or to a place.
    Motion {
        /// The object before.
        object: Object,
        /// Where to.
        to: Destination,
    },
}

/// Where something is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// A width of a regular object in this direction.
    Direction(Direction),
    /// One of [`Place::OF_MOTION`].
    Place(Place),
}

impl Edit {
    /// Its kind.
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

    /// The object that the instruction points at in the scene before.
    pub fn target(&self) -> Option<&Object> {
        match self {
            Self::Remove { object }
            | Self::Replace { object, .. }
            | Self::Colour { object, .. }
            | Self::Motion { object, .. } => Some(object),
            Self::Add { .. } | Self::Background { .. } | Self::Style { .. } => None,
        }
    }

    /// What stands in the scene after in place of the target, or anew.
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

    /// The scene after; `None` where the edit can't be done, changes nothing, or would leave two
    /// objects that words can't tell apart.
    pub(super) fn apply(&self, before: &Scene, layout: Layout) -> Option<Scene> {
        let after = match *self {
            Self::Background { background } => Scene { background, ..before.clone() },
            Self::Style { style: Style::Negative } if before.style == Style::Negative => {
                Scene { style: Style::Normal, ..before.clone() }
            }
            // Any other style has lost what it would take to go on from it.
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

    /// The edit that leads back, where words can say it exactly: a removed object must have stood
    /// at a named place, and a picture without colours can't be coloured.
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
