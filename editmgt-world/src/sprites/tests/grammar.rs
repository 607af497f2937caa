use std::collections::{HashMap, HashSet};

use super::*;
use crate::shapes::{Direction, Place};

/// Chooses the same in every place, modulo the number of options.
struct Always(usize);

impl Choose for Always {
    fn index(&mut self, n: usize) -> usize {
        self.0 % n
    }
}

/// A scene for all kinds of references: cats left to right red small, yellow big, blue medium, and
/// one apple.
fn crowd() -> Scene {
    scene(&[
        object(Thing::Cat, Colour::Red, Size::Small, (0, 80)),
        object(Thing::Cat, Colour::Yellow, Size::Big, (40, 80)),
        object(Thing::Cat, Colour::Blue, Size::Medium, (96, 40)),
        object(Thing::Apple, Colour::Red, Size::Medium, (40, 0)),
    ])
}

#[test]
fn references_name_what_they_say() {
    use Reference::*;
    let (cat, apple) = (Some(self::Thing::Cat), self::Thing::Apple);
    let extreme = |extreme, thing| Extreme { extreme, thing };
    for (reference, expected) in [
        (Full { colour: self::Colour::Red, thing: apple }, vec![(40, 0)]),
        (Full { colour: self::Colour::Blue, thing: apple }, vec![]),
        (Thing { thing: apple }, vec![(40, 0)]),
        // There are three.
        (Thing { thing: self::Thing::Cat }, vec![]),
        (Colour { colour: self::Colour::Blue }, vec![(96, 40)]),
        (Colour { colour: self::Colour::Red }, vec![]),
        (Size { size: self::Size::Big, thing: self::Thing::Cat }, vec![(40, 80)]),
        (Size { size: self::Size::Big, thing: apple }, vec![]),
        (extreme(self::Extreme::Left, cat), vec![(0, 80)]),
        (extreme(self::Extreme::Right, cat), vec![(96, 40)]),
        (extreme(self::Extreme::Top, None), vec![(40, 0)]),
        // Two cats start at one height.
        (extreme(self::Extreme::Bottom, cat), vec![]),
        (extreme(self::Extreme::Biggest, None), vec![(40, 80)]),
        (extreme(self::Extreme::Smallest, cat), vec![(0, 80)]),
        // A single object has no biggest one.
        (extreme(self::Extreme::Biggest, Some(apple)), vec![]),
        (Second { thing: self::Thing::Cat, from_left: true }, vec![(40, 80)]),
        (Second { thing: apple, from_left: true }, vec![]),
        (Both { thing: self::Thing::Cat }, vec![]),
    ] {
        let named = reference.resolve(&crowd()).unwrap_or_default();
        let at: Vec<_> = named.iter().map(|o| (o.x, o.y)).collect();
        assert_eq!(at, expected, "{reference:?}");
    }
    let pair = scene(&[
        object(self::Thing::Cat, self::Colour::Red, self::Size::Small, (0, 80)),
        object(self::Thing::Cat, self::Colour::Blue, self::Size::Small, (64, 80)),
    ]);
    assert_eq!(Both { thing: self::Thing::Cat }.resolve(&pair).unwrap().len(), 2);
}

#[test]
fn actions_lead_where_they_should() {
    let world = small();
    let cat = Reference::Thing { thing: Thing::Cat };
    let before = scene(&[
        object(Thing::Cat, Colour::Red, Size::Medium, (48, 64)),
        object(Thing::Apple, Colour::Red, Size::Big, (0, 80)),
    ]);
    let apple = Reference::Full { colour: Colour::Red, thing: Thing::Apple };
    let motion = |to| Action::Motion { what: cat, to };
    for (to, expected) in [
        (Destination::Direction(Direction::Right, Distance::Normal), Some((80, 64))),
        (Destination::Direction(Direction::Up, Distance::Near), Some((48, 48))),
        (Destination::Direction(Direction::Right, Distance::Far), Some((96, 64))),
        // The apple blocks the position.
        (Destination::Direction(Direction::Left, Distance::Far), None),
        (Destination::Place(Place::TopRight), Some((96, 0))),
        (Destination::Place(Place::Centre), Some((48, 48))),
        // On one line: 80 + 48 - 32.
        (Destination::Beside(Side::Right, apple), Some((48, 96))),
        (Destination::Beside(Side::Beside, apple), Some((48, 96))),
        (Destination::Beside(Side::Left, apple), None),
        (Destination::Beside(Side::Right, cat), None),
    ] {
        let after = motion(to).apply(&before, world.layout);
        let at = after.map(|scene| {
            let cat = scene.objects.iter().find(|o| o.thing == Thing::Cat).unwrap();
            (cat.x, cat.y)
        });
        assert_eq!(at, expected, "{to:?}");
    }
    let same = Action::Colour { what: cat, colour: Colour::Red };
    assert_eq!(same.apply(&before, world.layout), None, "it is red already");
    let unknown = Action::Remove { what: Reference::Thing { thing: Thing::Car } };
    assert_eq!(unknown.apply(&before, world.layout), None);
}

#[test]
fn no_instruction_means_two_things_in_one_scene() {
    let world = small();
    let vocabulary: HashSet<String> = world.vocabulary().into_iter().collect();
    let mut meanings: HashMap<(Scene, String), Scene> = HashMap::new();
    let mut draws = Draws::new((5, 0), Split::Test, 0, Purpose::Sprites);
    for i in 0..24 {
        let before = world.plan(Split::Test, i).scene_before;
        for &category in Category::ALL.iter().cycle().take(420) {
            let Some(action) = world.draw_action(category, &before, &mut draws) else { continue };
            let Some(after) = action.apply(&before, world.layout) else { continue };
            for way in 0..6 {
                let wording = crate::sprites::grammar::wording(&[action], &mut Always(way));
                assert!(wording.instruction.contains(&wording.phrase), "{}", wording.instruction);
                for word in wording.instruction.split(' ') {
                    assert!(vocabulary.contains(word), "{}: {word:?}", wording.instruction);
                }
                let key = (before.clone(), wording.instruction);
                let meaning = meanings.entry(key.clone()).or_insert_with(|| after.clone());
                assert_eq!(*meaning, after, "{}", key.1);
            }
        }
    }
    assert!(meanings.len() > 10_000, "only {}", meanings.len());
}

#[test]
fn instructions_fit_vocabulary_and_text_rows() {
    let world = World::new(SpritesConfig::default()).unwrap();
    let vocabulary: HashSet<String> = world.vocabulary().into_iter().collect();
    let mut longest = 0;
    for plan in plans(&world, 3000) {
        let words: Vec<&str> = plan.instruction.split(' ').collect();
        longest = longest.max(words.len());
        for word in words {
            assert!(vocabulary.contains(word), "{}: {word:?}", plan.instruction);
        }
    }
    // `text_rows` of configs/second-edit.toml is at least one more.
    assert!((12..=15).contains(&longest), "{longest}");
}

#[test]
fn answers_of_lessons_are_among_their_classes() {
    let world = small();
    let classes = lesson_classes();
    let mut seen = vec![HashSet::new(); classes.len()];
    for index in 0..1400 {
        let (_, answers) = world.lesson(Split::Train, index);
        assert_eq!(answers.len(), classes.len());
        for ((answer, classes), seen) in answers.iter().zip(classes).zip(&mut seen) {
            assert!((*answer as usize) < classes);
            seen.insert(*answer);
        }
    }
    assert!(seen.iter().all(|seen| seen.len() > 1), "{seen:?}");
}
