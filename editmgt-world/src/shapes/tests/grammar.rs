use std::collections::{HashMap, HashSet};

use super::*;
use crate::shapes::grammar::wording;

/// Enumerates all choices, like an odometer.
#[derive(Default)]
struct Odometer {
    /// Choice and number of options, in the order in which they were asked for.
    wheels: Vec<(usize, usize)>,
    at: usize,
}

impl Choose for Odometer {
    fn index(&mut self, n: usize) -> usize {
        if self.at == self.wheels.len() {
            self.wheels.push((0, n));
        }
        self.at += 1;
        self.wheels[self.at - 1].0
    }
}

impl Odometer {
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, n)) = self.wheels.pop() {
            if choice + 1 < n {
                self.wheels.push((choice + 1, n));
                return true;
            }
        }
        false
    }
}

/// All instructions for an edit of a scene, with their phrases.
fn all_sayings(edit: &Edit, scene: &Scene) -> Vec<(String, String)> {
    let mut odometer = Odometer::default();
    let mut all = Vec::new();
    loop {
        let wording = wording(edit, scene, &mut odometer);
        all.push((wording.instruction, wording.phrase));
        if !odometer.advance() {
            return all;
        }
    }
}

/// Every edit of a scene that the world knows, possible or not.
fn all_edits(world: &World, scene: &Scene) -> Vec<Edit> {
    let config = world.config();
    let mut edits: Vec<Edit> = config
        .backgrounds
        .iter()
        .map(|&background| Edit::Background { background })
        .chain(config.styles.iter().map(|&style| Edit::Style { style }))
        .collect();
    for (&shape, &colour) in
        config.shapes.iter().flat_map(|s| config.colours.iter().map(move |c| (s, c)))
    {
        for (&size, &place) in
            config.sizes.iter().flat_map(|s| Place::ALL.iter().map(move |p| (s, p)))
        {
            let (x, y) = world.layout.at(place, size);
            edits.push(Edit::Add { object: Object { shape, colour, size, x, y }, place });
        }
    }
    for &object in &scene.objects {
        edits.push(Edit::Remove { object });
        for &shape in config.shapes.iter().filter(|&&shape| shape != object.shape) {
            edits.push(Edit::Replace { object, shape, colour: None });
            let coloured = |&colour| Edit::Replace { object, shape, colour: Some(colour) };
            edits.extend(config.colours.iter().map(coloured));
        }
        edits.extend(config.colours.iter().map(|&colour| Edit::Colour { object, colour }));
        let ways = Direction::ALL.iter().map(|&way| Destination::Direction(way));
        let places = Place::OF_MOTION.iter().map(|&place| Destination::Place(place));
        edits.extend(ways.chain(places).map(|to| Edit::Motion { object, to }));
    }
    edits
}

#[test]
fn no_instruction_means_two_things_in_one_scene() {
    let world = world();
    let vocabulary: HashSet<String> = world.vocabulary().into_iter().collect();
    let mut instructions = 0;
    for i in 0..8 {
        let scene = world.plan(Split::Test, i).scene_before;
        let mut meanings: HashMap<String, Scene> = HashMap::new();
        for edit in all_edits(&world, &scene) {
            let Some(after) = edit.apply(&scene, world.layout) else { continue };
            for (instruction, phrase) in all_sayings(&edit, &scene) {
                assert!(instruction.contains(&phrase), "{instruction}: {phrase}");
                for word in instruction.split(' ') {
                    assert!(vocabulary.contains(word), "{instruction}: {word:?}");
                }
                let meaning = meanings.entry(instruction.clone()).or_insert_with(|| after.clone());
                assert_eq!(*meaning, after, "{instruction}");
            }
        }
        instructions += meanings.len();
    }
    assert!(instructions > 20_000, "only {instructions}");
}

/// The objects of the scene that a phrase could refer to.
fn meant<'a>(phrase: &str, scene: &'a Scene) -> Vec<&'a Object> {
    let fits =
        |o: &Object, word: &str| [o.shape.name(), o.colour.name(), "one", "shape"].contains(&word);
    scene.objects.iter().filter(|o| phrase.split(' ').all(|word| fits(o, word))).collect()
}

#[test]
fn a_phrase_names_exactly_the_edited_object() {
    let world = world();
    let mut short = 0;
    for plan in plans(&world, 700) {
        if let Some(target) = plan.edit.target() {
            assert_eq!(meant(&plan.phrase, &plan.scene_before), [target], "{}", plan.instruction);
            short += usize::from(!plan.phrase.contains(' '));
        }
    }
    assert!(short > 50, "a shape alone is seldom enough: {short}");
}

#[test]
fn vocabulary_has_every_word_of_the_instructions() {
    let world = world();
    let mut wording = HashSet::new();
    let mut longest = 0;
    for plan in plans(&world, 7000) {
        longest = longest.max(plan.instruction.split(' ').count());
        wording.extend(plan.instruction.split(' ').map(str::to_string));
    }
    let mut wording: Vec<String> = wording.into_iter().collect();
    wording.sort();
    assert_eq!(wording, world.vocabulary());
    // Capacity required of a text encoder.
    assert_eq!(longest, LONGEST);

    let small = WorldConfig { styles: vec![Style::Drawing], ..WorldConfig::default() };
    let vocabulary = World::new(small).unwrap().vocabulary();
    assert!(!vocabulary.iter().any(|word| word == "invert"));
}

const LONGEST: usize = 10;
