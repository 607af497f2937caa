use super::World;
use super::action::{Action, Destination, Reference};
use super::names::{Background, Colour, Distance, Extreme, Side, Size, Style, Thing};
use crate::shapes::{Direction, Place};
use crate::{Category, Split};

/// Number of classes of each question of a lesson: category; thing, colour, size, end and order of
/// the target, whether both are meant; thing, colour and size of the result; background; style;
/// place; direction; distance; side; thing and colour of the neighbour. 0 is `not mentioned`.
pub const fn lesson_classes() -> [usize; QUESTIONS] {
    [
        Category::ALL.len(),
        1 + Thing::ALL.len(),
        1 + Colour::ALL.len(),
        1 + Size::ALL.len(),
        1 + Extreme::ALL.len(),
        3,
        2,
        1 + Thing::ALL.len(),
        1 + Colour::ALL.len(),
        1 + Size::ALL.len(),
        1 + Background::ALL.len(),
        1 + Style::ALL.len(),
        1 + Place::ALL.len(),
        1 + Direction::ALL.len(),
        1 + Distance::ALL.len(),
        1 + Side::ALL.len(),
        1 + Thing::ALL.len(),
        1 + Colour::ALL.len(),
    ]
}

const QUESTIONS: usize = 18;

impl World {
    /// The instruction of example `index` and the classes of its first action, for the questions of
    /// [`lesson_classes`].
    pub fn lesson(&self, split: Split, index: u64) -> (String, Vec<u32>) {
        let plan = self.plan(split, index);
        let answers = answers(&plan.edit[0]).to_vec();
        (plan.instruction, answers)
    }
}

fn answers(action: &Action) -> [u32; QUESTIONS] {
    let class = |index: usize| index as u32 + 1;
    let mut answers = [0; QUESTIONS];
    answers[0] = action.category() as u32;
    match action.what().copied() {
        Some(Reference::Full { colour, thing }) => {
            (answers[1], answers[2]) = (class(thing as usize), class(colour as usize));
        }
        Some(Reference::Thing { thing }) => answers[1] = class(thing as usize),
        Some(Reference::Colour { colour }) => answers[2] = class(colour as usize),
        Some(Reference::Size { size, thing }) => {
            (answers[1], answers[3]) = (class(thing as usize), class(size as usize));
        }
        Some(Reference::Extreme { extreme, thing }) => {
            answers[1] = thing.map_or(0, |thing| class(thing as usize));
            answers[4] = class(extreme as usize);
        }
        Some(Reference::Second { thing, from_left }) => {
            (answers[1], answers[5]) = (class(thing as usize), if from_left { 1 } else { 2 });
        }
        Some(Reference::Both { thing }) => (answers[1], answers[6]) = (class(thing as usize), 1),
        None => {}
    }
    match *action {
        Action::Add { thing, colour, size, .. } => {
            answers[7] = class(thing as usize);
            (answers[8], answers[9]) = (class(colour as usize), class(size as usize));
        }
        Action::Replace { thing, colour, .. } => {
            answers[7] = class(thing as usize);
            answers[8] = colour.map_or(0, |colour| class(colour as usize));
        }
        Action::Colour { colour, .. } => answers[8] = class(colour as usize),
        Action::Background { background } => answers[10] = class(background as usize),
        Action::Style { style } => answers[11] = class(style as usize),
        Action::Remove { .. } | Action::Motion { .. } => {}
    }
    let to = match *action {
        Action::Add { to, .. } | Action::Motion { to, .. } => Some(to),
        _ => None,
    };
    match to {
        Some(Destination::Place(place)) => answers[12] = class(place as usize),
        Some(Destination::Direction(way, distance)) => {
            (answers[13], answers[14]) = (class(way as usize), class(distance as usize));
        }
        Some(Destination::Beside(side, other)) => {
            answers[15] = class(side as usize);
            if let Reference::Full { thing, .. } | Reference::Thing { thing } = other {
                answers[16] = class(thing as usize);
            }
            if let Reference::Full { colour, .. } = other {
                answers[17] = class(colour as usize);
            }
        }
        None => {}
    }
    answers
}
