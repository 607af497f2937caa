use serde::{Deserialize, Serialize};

use super::edit::{Destination, Edit};
use super::names::{Background, Colour, Direction, Place, Shape, Size, Style};
use super::{Plan, World};
use crate::{Category, Split};

/// The meaning of an instruction as classes, one for each question; 0 is `not mentioned`.
///
/// A text encoder that predicts these has encoded all that an edit depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots(pub Vec<u32>);

impl Slots {
    /// Number of classes of each question: category, shape and colour of the target, size, shape
    /// and colour of the result, background, style, place, direction.
    pub const CLASSES: [usize; 10] = [
        Category::ALL.len(),
        1 + Shape::ALL.len(),
        1 + Colour::ALL.len(),
        1 + Size::ALL.len(),
        1 + Shape::ALL.len(),
        1 + Colour::ALL.len(),
        1 + Background::ALL.len(),
        1 + Style::ALL.len(),
        1 + Place::ALL.len(),
        1 + Direction::ALL.len(),
    ];

    /// The classes of a plan, as far as the instruction mentions them.
    pub(super) fn of(plan: &Plan) -> Self {
        let class = |index: usize| index as u32 + 1;
        let shape = |shape: Shape| class(shape as usize);
        let colour = |colour: Colour| class(colour as usize);
        let mut slots = [0; Self::CLASSES.len()];
        let [category, target_shape, target_colour, size, new_shape, new_colour, ..] = &mut slots;
        *category = plan.edit.category() as u32;
        if let Some(target) = plan.edit.target() {
            let mentioned = |name: &str| plan.phrase.split(' ').any(|word| word == name);
            *target_shape = if mentioned(target.shape.name()) { shape(target.shape) } else { 0 };
            *target_colour =
                if mentioned(target.colour.name()) { colour(target.colour) } else { 0 };
        }
        match plan.edit {
            Edit::Add { object, .. } => {
                (*size, *new_shape) = (class(object.size as usize), shape(object.shape));
                *new_colour = colour(object.colour);
            }
            Edit::Replace { shape: new, colour: painted, .. } => {
                (*new_shape, *new_colour) = (shape(new), painted.map_or(0, colour));
            }
            Edit::Colour { colour: new, .. } => *new_colour = colour(new),
            _ => {}
        }
        let [.., background, style, place, direction] = &mut slots;
        match plan.edit {
            Edit::Background { background: new } => *background = class(new as usize),
            Edit::Style { style: new } => *style = class(new as usize),
            Edit::Add { place: at, .. } => *place = class(at as usize),
            Edit::Motion { to: Destination::Place(to), .. } => *place = class(to as usize),
            Edit::Motion { to: Destination::Direction(way), .. } => {
                *direction = class(way as usize)
            }
            _ => {}
        }
        Self(slots.to_vec())
    }
}

impl World {
    /// The instruction of example `index` and its classes, without drawing an image.
    pub fn lesson(&self, split: Split, index: u64) -> (String, Slots) {
        let plan = self.plan(split, index);
        let slots = Slots::of(&plan);
        (plan.instruction, slots)
    }
}

#[cfg(test)]
mod tests {
    use super::super::WorldConfig;
    use super::*;
    use crate::Split;

    #[test]
    fn slots_are_the_meaning_of_the_instruction() {
        let world = World::new(WorldConfig::default()).unwrap();
        let mut seen = vec![std::collections::HashSet::new(); Slots::CLASSES.len()];
        for index in 0..700 {
            let (instruction, Slots(slots)) = world.lesson(Split::Train, index);
            assert_eq!(slots.len(), Slots::CLASSES.len());
            for ((&slot, classes), seen) in slots.iter().zip(Slots::CLASSES).zip(&mut seen) {
                assert!((slot as usize) < classes);
                seen.insert(slot);
            }
            let says = |name: &str| instruction.split(' ').any(|word| word == name);
            for (slot, names) in [(1, 4), (2, 5)] {
                let name = |class: u32| match slot {
                    1 => Shape::ALL[class as usize - 1].name(),
                    _ => Colour::ALL[class as usize - 1].name(),
                };
                for class in [slots[slot], slots[names]] {
                    assert!(class == 0 || says(name(class)), "{instruction}: {slots:?}");
                }
            }
        }
        // Every name occurs; the shipped world lacks two shapes and colours, two backgrounds, two
        // styles and a size.
        let counts: Vec<_> = seen.iter().map(|seen| seen.len()).collect();
        assert_eq!(counts, [7, 7, 7, 2, 7, 7, 7, 3, 10, 5]);
    }
}
