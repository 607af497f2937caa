use serde::{Deserialize, Serialize};

use super::names::{Background, Colour, Distance, Extreme, Side, Size, Style, Thing};
use super::scene::{Layout, Object, Scene};
use crate::Category;
use crate::shapes::{Direction, Place};

/// How an instruction names objects of a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// "the red dog".
    Full {
        /// Its colour.
        colour: Colour,
        /// What it is.
        thing: Thing,
    },
    /// "the dog", if there is one.
    Thing {
        /// What it is.
        thing: Thing,
    },
    /// "the red one", if one is red.
    Colour {
        /// Its colour.
        colour: Colour,
    },
    /// "the big dog", if one of the dogs is big.
    Size {
        /// How large it is.
        size: Size,
        /// What it is.
        thing: Thing,
    },
    /// "the left dog", "the biggest one": of two or more, if one is farther to that end than all
    /// others.
    Extreme {
        /// Which end.
        extreme: Extreme,
        /// The kind; all objects if `None`.
        thing: Option<Thing>,
    },
    /// "the second dog from the left", of three or more, no two of which start in one column.
    Second {
        /// What it is.
        thing: Thing,
        /// From the left; else from the right.
        from_left: bool,
    },
    /// "both dogs", if there are two.
    Both {
        /// What they are.
        thing: Thing,
    },
}

/// The kinds of [`Reference`], as configs name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// By colour and kind, which is always unambiguous.
    Full,
    /// By kind only.
    Thing,
    /// By colour only.
    Colour,
    /// By size and kind, or as the biggest or smallest.
    Size,
    /// By place.
    Place,
    /// By order: the second from the left.
    Order,
    /// Both of a kind.
    Both,
}

impl Naming {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Full, Self::Thing, Self::Colour, Self::Size, Self::Place, Self::Order, Self::Both];

    /// References of this kind that may apply to the object.
    pub(super) fn references(self, o: &Object) -> Vec<Reference> {
        let (thing, colour) = (o.thing, o.colour);
        let extremes = |of: &[Extreme]| -> Vec<Reference> {
            let named = of.iter().flat_map(|&extreme| {
                [Some(thing), None].map(|thing| Reference::Extreme { extreme, thing })
            });
            named.collect()
        };
        match self {
            Self::Full => vec![Reference::Full { colour, thing }],
            Self::Thing => vec![Reference::Thing { thing }],
            Self::Colour => vec![Reference::Colour { colour }],
            Self::Size => {
                let mut all = vec![Reference::Size { size: o.size, thing }];
                all.extend(extremes(&[Extreme::Biggest, Extreme::Smallest]));
                all
            }
            Self::Place => {
                extremes(&[Extreme::Left, Extreme::Right, Extreme::Top, Extreme::Bottom])
            }
            Self::Order => {
                [true, false].map(|from_left| Reference::Second { thing, from_left }).to_vec()
            }
            Self::Both => vec![Reference::Both { thing }],
        }
    }
}

impl Reference {
    /// The kind of this reference.
    pub fn naming(&self) -> Naming {
        match self {
            Self::Full { .. } => Naming::Full,
            Self::Thing { .. } => Naming::Thing,
            Self::Colour { .. } => Naming::Colour,
            Self::Size { .. } => Naming::Size,
            Self::Extreme { extreme: Extreme::Biggest | Extreme::Smallest, .. } => Naming::Size,
            Self::Extreme { .. } => Naming::Place,
            Self::Second { .. } => Naming::Order,
            Self::Both { .. } => Naming::Both,
        }
    }

    /// The objects that it refers to in a scene; `None` if there is none or it is ambiguous.
    pub fn resolve(&self, scene: &Scene) -> Option<Vec<Object>> {
        let of = |keep: &dyn Fn(&Object) -> bool| -> Vec<Object> {
            scene.objects.iter().copied().filter(|o| keep(o)).collect()
        };
        let only = |found: Vec<Object>| (found.len() == 1).then_some(found);
        match *self {
            Self::Full { colour, thing } => only(of(&|o| (o.colour, o.thing) == (colour, thing))),
            Self::Thing { thing } => only(of(&|o| o.thing == thing)),
            Self::Colour { colour } => only(of(&|o| o.colour == colour)),
            Self::Size { size, thing } => only(of(&|o| (o.size, o.thing) == (size, thing))),
            Self::Extreme { extreme, thing } => {
                let found = of(&|o| thing.is_none_or(|thing| o.thing == thing));
                if found.len() < 2 {
                    return None;
                }
                let rank = |o: &Object| {
                    let (x, y) = (i64::from(o.x), i64::from(o.y));
                    match extreme {
                        Extreme::Left => x,
                        Extreme::Right => -x,
                        Extreme::Top => y,
                        Extreme::Bottom => -y,
                        Extreme::Biggest => -i64::from(o.size.cells()),
                        Extreme::Smallest => i64::from(o.size.cells()),
                    }
                };
                let least = found.iter().map(rank).min()?;
                only(found.into_iter().filter(|o| rank(o) == least).collect())
            }
            Self::Second { thing, from_left } => {
                let mut found = of(&|o| o.thing == thing);
                found.sort_by_key(|o| o.x);
                let clear = found.len() > 2 && found.windows(2).all(|pair| pair[0].x < pair[1].x);
                let at = if from_left { 1 } else { found.len().checked_sub(2)? };
                clear.then(|| vec![found[at]])
            }
            Self::Both { thing } => {
                let found = of(&|o| o.thing == thing);
                (found.len() == 2).then_some(found)
            }
        }
    }
}

impl Reference {
    /// Whether the place in it, if any, is seen without comparing: of all objects that the name
    /// could mean, only the one that it does mean has its centre in that half of the picture.
    pub(super) fn is_clear(&self, scene: &Scene, layout: Layout) -> bool {
        let Self::Extreme { extreme, thing } = *self else { return true };
        let in_that_half = |o: &Object| {
            // Twice the centre.
            let (x, y) = (2 * o.x + layout.side(o.size), 2 * o.y + layout.side(o.size));
            match extreme {
                Extreme::Left => x < layout.canvas,
                Extreme::Right => x > layout.canvas,
                Extreme::Top => y < layout.canvas,
                Extreme::Bottom => y > layout.canvas,
                Extreme::Biggest | Extreme::Smallest => true,
            }
        };
        let could_mean = scene.objects.iter().filter(|o| thing.is_none_or(|t| o.thing == t));
        match extreme {
            Extreme::Biggest | Extreme::Smallest => true,
            _ => could_mean.filter(|o| in_that_half(o)).count() == 1,
        }
    }
}

/// Destination of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// One of nine places of the canvas.
    Place(Place),
    /// Beside another object.
    Beside(Side, Reference),
    /// An offset from the present position; not for a new object.
    Direction(Direction, Distance),
}

/// The full meaning of an instruction: the scene after is a function of the scene before and this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Adds an object.
    Add {
        /// What it is.
        thing: Thing,
        /// Its colour.
        colour: Colour,
        /// How large it is.
        size: Size,
        /// Where.
        to: Destination,
    },
    /// Removes objects.
    Remove {
        /// Which.
        what: Reference,
    },
    /// Replaces an object by another of the same size on the same ground line.
    Replace {
        /// Which.
        what: Reference,
        /// What it becomes.
        thing: Thing,
        /// Its new colour; `None` keeps the old one.
        colour: Option<Colour>,
    },
    /// Changes the colour of objects.
    Colour {
        /// Which.
        what: Reference,
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
        /// How.
        style: Style,
    },
    /// Moves an object.
    Motion {
        /// Which.
        what: Reference,
        /// Where to.
        to: Destination,
    },
}

impl Action {
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

    /// The reference to the target.
    pub fn what(&self) -> Option<&Reference> {
        match self {
            Self::Remove { what }
            | Self::Replace { what, .. }
            | Self::Colour { what, .. }
            | Self::Motion { what, .. } => Some(what),
            Self::Add { .. } | Self::Background { .. } | Self::Style { .. } => None,
        }
    }

    /// The scene after; `None` if the action is impossible, ambiguous, or changes nothing.
    pub(super) fn apply(&self, before: &Scene, layout: Layout) -> Option<Scene> {
        let targets = match self.what() {
            Some(what) => what.resolve(before)?,
            None => Vec::new(),
        };
        let rest = targets.iter().fold(before.clone(), |scene, target| scene.without(target));
        let after = match *self {
            Self::Background { background } => Scene { background, ..before.clone() },
            // A style loses information that further edits need.
            Self::Style { style } if before.style == Style::Normal => {
                Scene { style, ..before.clone() }
            }
            Self::Style { .. } => return None,
            Self::Remove { .. } => rest,
            Self::Add { thing, colour, size, to } => {
                put(before, before, Object { thing, colour, size, x: 0, y: 0 }, to, layout)?
            }
            Self::Replace { thing, colour, .. } => {
                let [target] = targets[..] else { return None };
                let colour = colour.unwrap_or(target.colour);
                rest.with(Object { thing, colour, ..target }, layout)?
            }
            Self::Colour { colour, .. } => {
                if targets.iter().any(|target| target.colour == colour) {
                    return None;
                }
                let painted = targets.iter().map(|target| Object { colour, ..*target });
                painted.fold(rest, |scene, object| scene.with_anyway(object, layout))
            }
            Self::Motion { to, .. } => {
                let [target] = targets[..] else { return None };
                put(before, &rest, target, to, layout)?
            }
        };
        (after != *before).then_some(after)
    }
}

/// Places an object in the scene `rest` at its destination, which refers to the scene `before`.
fn put(
    before: &Scene,
    rest: &Scene,
    object: Object,
    to: Destination,
    layout: Layout,
) -> Option<Scene> {
    let at = |(x, y): (u32, u32)| rest.with(Object { x, y, ..object }, layout);
    match to {
        Destination::Place(place) => at(layout.at(place, object.size)),
        Destination::Direction(way, distance) => {
            rest.with(layout.offset(&object, way, distance.cells() * layout.cell())?, layout)
        }
        Destination::Beside(side, reference) => {
            let [other] = reference.resolve(before)?[..] else { return None };
            if other == object {
                return None;
            }
            let there = |side| at(layout.beside(object.size, side, &other)?);
            match side {
                Side::Beside => there(Side::Right).or_else(|| there(Side::Left)),
                side => there(side),
            }
        }
    }
}
