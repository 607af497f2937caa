//! Instructions of edits. Wording is random, so the same edit has many instructions; no instruction
//! has two meanings in one scene (a test enumerates all instructions).

use std::collections::BTreeSet;

use super::config::WorldConfig;
use super::edit::{Destination, Edit};
use super::names::{Background, Colour, Direction, Place, Shape, Size, Style};
use super::scene::{Object, Scene};
use crate::random::Choose;

/// `{it}` is the target of the edit, `{to}` its new state or place.
const ADD: &[&str] =
    &["add {it} {to}", "put {it} {to}", "draw {it} {to}", "place {it} {to}", "{to} add {it}"];
const REMOVE: &[&str] = &[
    "remove {it}",
    "delete {it}",
    "erase {it}",
    "take {it} away",
    "take away {it}",
    "get rid of {it}",
];
const REPLACE: &[&str] = &[
    "replace {it} with {to}",
    "swap {it} for {to}",
    "turn {it} into {to}",
    "change {it} into {to}",
    "put {to} in place of {it}",
];
const COLOUR: &[&str] = &[
    "make {it} {to}",
    "paint {it} {to}",
    "turn {it} {to}",
    "colour {it} {to}",
    "color {it} {to}",
    "change {it} to {to}",
    "change the colour of {it} to {to}",
    "change the color of {it} to {to}",
];
const BACKGROUND: &[&str] = &[
    "change {it} to {to}",
    "make {it} {to}",
    "set {it} to {to}",
    "turn {it} into {to}",
    "replace {it} with {to}",
    "use {to} as {it}",
];
const GREYSCALE: &[&str] = &[
    "make {it} black and white",
    "turn {it} black and white",
    "make {it} greyscale",
    "convert {it} to grayscale",
];
const NEGATIVE: &[&str] = &[
    "invert {it}",
    "invert the colours of {it}",
    "invert the colors of {it}",
    "turn {it} into a negative",
];
const DRAWING: &[&str] = &[
    "turn {it} into a drawing",
    "turn {it} into a line drawing",
    "make {it} a line drawing",
    "turn {it} into a sketch",
];
const MOTION: &[&str] = &["move {it} {to}", "shift {it} {to}", "slide {it} {to}"];

/// Names of the background and of the whole image.
const BACKGROUNDS: &[&str] = &["background", "backdrop"];
const PICTURES: &[&str] = &["picture", "image"];
/// Names of an object that is identified by its colour only.
const ANYTHING: &[&str] = &["one", "shape"];

/// Put before a noun when it is filled in.
const ARTICLES: [&str; 3] = ["a", "an", "the"];

/// An instruction, and its phrase that names the target.
pub(super) struct Wording {
    pub(super) instruction: String,
    pub(super) phrase: String,
}

/// A random instruction for an edit of a scene.
pub(super) fn wording(edit: &Edit, scene: &Scene, choose: &mut impl Choose) -> Wording {
    let templates = match edit {
        Edit::Add { .. } => ADD,
        Edit::Remove { .. } => REMOVE,
        Edit::Replace { .. } => REPLACE,
        Edit::Colour { .. } => COLOUR,
        Edit::Background { .. } => BACKGROUND,
        Edit::Style { style } => style_templates(*style),
        Edit::Motion { .. } => MOTION,
    };
    let template = *choose.pick(templates);
    let (phrase, new) = match edit {
        Edit::Add { object, .. } => {
            let size = *choose.pick(object.size.words());
            (words(&[size, object.colour.name(), object.shape.name()]), true)
        }
        Edit::Background { .. } => ((*choose.pick(BACKGROUNDS)).to_string(), false),
        Edit::Style { .. } => ((*choose.pick(PICTURES)).to_string(), false),
        Edit::Remove { object }
        | Edit::Replace { object, .. }
        | Edit::Colour { object, .. }
        | Edit::Motion { object, .. } => (reference(object, scene, choose), false),
    };
    let to = match edit {
        Edit::Add { place, .. } => (*choose.pick(place.locatives())).to_string(),
        Edit::Replace { shape, colour, .. } => {
            indefinite(&words(&[colour.map_or("", Colour::name), shape.name()]))
        }
        Edit::Colour { colour, .. } => colour.name().to_string(),
        Edit::Background { background } => background.name().to_string(),
        Edit::Motion { to: Destination::Direction(way), .. } => {
            (*choose.pick(way.words())).to_string()
        }
        Edit::Motion { to: Destination::Place(place), .. } => {
            (*choose.pick(place.destinations())).to_string()
        }
        Edit::Remove { .. } | Edit::Style { .. } => String::new(),
    };
    let it = if new { indefinite(&phrase) } else { format!("the {phrase}") };
    Wording { instruction: template.replace("{it}", &it).replace("{to}", &to), phrase }
}

fn style_templates(style: Style) -> &'static [&'static str] {
    match style {
        Style::Normal => &[],
        Style::Greyscale => GREYSCALE,
        Style::Negative => NEGATIVE,
        Style::Drawing => DRAWING,
    }
}

/// A phrase that refers to this object and no other of the scene.
fn reference(object: &Object, scene: &Scene, choose: &mut impl Choose) -> String {
    let only =
        |same: &dyn Fn(&Object) -> bool| scene.objects.iter().filter(|o| same(o)).count() == 1;
    // The full description twice: it is the most natural.
    let mut options = vec![words(&[object.colour.name(), object.shape.name()]); 2];
    if only(&|o| o.shape == object.shape) {
        options.push(object.shape.name().to_string());
    }
    if only(&|o| o.colour == object.colour) {
        let noun = *choose.pick(ANYTHING);
        options.push(words(&[object.colour.name(), noun]));
    }
    choose.pick(&options).clone()
}

fn words(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

fn indefinite(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// All words of this world's instructions, sorted.
pub(super) fn vocabulary(config: &WorldConfig) -> Vec<String> {
    let fixed = [ADD, REMOVE, REPLACE, COLOUR, BACKGROUND, MOTION, BACKGROUNDS, PICTURES, ANYTHING];
    let mut all: Vec<&str> = fixed.concat();
    all.extend(ARTICLES);
    all.extend(config.styles.iter().flat_map(|&style| style_templates(style)));
    all.extend(config.shapes.iter().map(|shape: &Shape| shape.name()));
    all.extend(config.colours.iter().map(|colour| colour.name()));
    all.extend(config.backgrounds.iter().map(|background: &Background| background.name()));
    all.extend(config.sizes.iter().flat_map(|size: &Size| size.words()));
    all.extend(
        Place::ALL.iter().flat_map(|place| [place.locatives(), place.destinations()].concat()),
    );
    all.extend(Direction::ALL.iter().flat_map(|way| way.words()));
    let words: BTreeSet<&str> = all
        .iter()
        .flat_map(|text| text.split_whitespace())
        .filter(|word| !word.starts_with('{'))
        .collect();
    words.into_iter().map(str::to_string).collect()
}
