//! Instructions of actions. Wording is random, so the same action has many instructions.

use std::collections::BTreeSet;

use super::action::{Action, Destination, Naming, Reference};
use super::config::SpritesConfig;
use super::names::{Colour, Distance, Extreme, Side, Style};
use crate::random::Choose;
use crate::shapes::{Direction, Place};

/// `{it}` is the target of the action, `{to}` its new state or place.
const ADD: &[&str] = &["add {it} {to}", "put {it} {to}", "place {it} {to}", "draw {it} {to}"];
const REMOVE: &[&str] =
    &["remove {it}", "delete {it}", "erase {it}", "take away {it}", "get rid of {it}"];
const REPLACE: &[&str] = &[
    "replace {it} with {to}",
    "swap {it} for {to}",
    "turn {it} into {to}",
    "change {it} into {to}",
];
const COLOUR: &[&str] = &[
    "make {it} {to}",
    "paint {it} {to}",
    "turn {it} {to}",
    "colour {it} {to}",
    "color {it} {to}",
    "change the colour of {it} to {to}",
    "change the color of {it} to {to}",
];
const BACKGROUND: &[&str] = &[
    "change the background to {to}",
    "make the background {to}",
    "replace the background with {to}",
    "set the background to {to}",
];
const BACKGROUND_PLACE: &[&str] = &["put everything {to}", "move everything {to}"];
const MOTION: &[&str] = &["move {it} {to}", "shift {it} {to}", "slide {it} {to}"];
/// Between the two steps of an instruction.
const THEN: &[&str] = &["and", "then", "and then"];

const PICTURES: &[&str] = &["the picture", "the image"];
/// Names of an object without its kind.
const ANYTHING: &[&str] = &["one", "thing"];
const ARTICLES: &[&str] = &["a", "an", "the", "both", "second", "from the left", "from the right"];

/// An instruction, and its phrase that names the target.
pub(super) struct Wording {
    pub(super) instruction: String,
    pub(super) phrase: String,
}

/// A random instruction for successive actions.
pub(super) fn wording(actions: &[Action], choose: &mut impl Choose) -> Wording {
    let mut wording: Option<Wording> = None;
    for action in actions {
        let next = wording_of_one(action, choose);
        wording = Some(match wording {
            None => next,
            Some(Wording { instruction, phrase }) => {
                let then = *choose.pick(THEN);
                Wording {
                    instruction: format!("{instruction} {then} {}", next.instruction),
                    phrase,
                }
            }
        });
    }
    wording.unwrap_or(Wording { instruction: String::new(), phrase: String::new() })
}

fn wording_of_one(action: &Action, choose: &mut impl Choose) -> Wording {
    let (template, phrase, to) = match *action {
        Action::Add { thing, colour, size, to } => {
            let size = *choose.pick(size.words());
            let it = indefinite(&words(&[size, colour.name(), thing.name()]));
            (*choose.pick(ADD), it, destination(to, choose, Place::locatives))
        }
        Action::Remove { what } => (*choose.pick(REMOVE), name(what, choose), String::new()),
        Action::Replace { what, thing, colour } => {
            let new = indefinite(&words(&[colour.map_or("", Colour::name), thing.name()]));
            (*choose.pick(REPLACE), name(what, choose), new)
        }
        Action::Colour { what, colour } => {
            (*choose.pick(COLOUR), name(what, choose), colour.name().to_owned())
        }
        Action::Background { background } => {
            if choose.index(3) == 0 {
                let to = *choose.pick(background.locatives());
                (*choose.pick(BACKGROUND_PLACE), "everything".to_owned(), to.to_owned())
            } else {
                let to = *choose.pick(background.nouns());
                (*choose.pick(BACKGROUND), "the background".to_owned(), to.to_owned())
            }
        }
        Action::Style { style } => {
            let template = *choose.pick(style.templates());
            let it = if template.contains("{it}") { *choose.pick(PICTURES) } else { "it" };
            (template, it.to_owned(), String::new())
        }
        Action::Motion { what, to } => {
            (*choose.pick(MOTION), name(what, choose), destination(to, choose, Place::destinations))
        }
    };
    let instruction = template.replace("{it}", &phrase).replace("{to}", &to);
    Wording { instruction, phrase }
}

/// A noun phrase with its article.
fn name(reference: Reference, choose: &mut impl Choose) -> String {
    let noun = match reference {
        Reference::Full { colour, thing } => words(&[colour.name(), thing.name()]),
        Reference::Thing { thing } => thing.name().to_owned(),
        Reference::Colour { colour } => words(&[colour.name(), *choose.pick(ANYTHING)]),
        Reference::Size { size, thing } => words(&[*choose.pick(size.words()), thing.name()]),
        Reference::Extreme { extreme, thing } => {
            let thing = match thing {
                Some(thing) => thing.name(),
                None => *choose.pick(ANYTHING),
            };
            let after = extreme.locatives();
            if !after.is_empty() && choose.index(3) == 0 {
                words(&[thing, *choose.pick(after)])
            } else {
                words(&[*choose.pick(extreme.adjectives()), thing])
            }
        }
        Reference::Second { thing, from_left } => {
            let from = if from_left { "from the left" } else { "from the right" };
            words(&["second", thing.name(), from])
        }
        Reference::Both { thing } => return words(&["both", thing.plural()]),
    };
    words(&["the", &noun])
}

fn destination(
    to: Destination,
    choose: &mut impl Choose,
    places: fn(Place) -> &'static [&'static str],
) -> String {
    match to {
        Destination::Place(place) => (*choose.pick(places(place))).to_owned(),
        Destination::Beside(side, other) => {
            let side = *choose.pick(side.words());
            words(&[side, &name(other, choose)])
        }
        Destination::Direction(way, distance) => {
            let far = *choose.pick(distance.words());
            let way = *choose.pick(way.words());
            if distance == Distance::Far { words(&[far, way]) } else { words(&[way, far]) }
        }
    }
}

fn words(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

fn indefinite(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// All words of this world's instructions, sorted.
pub(super) fn vocabulary(config: &SpritesConfig) -> Vec<String> {
    let fixed = [ADD, REMOVE, REPLACE, COLOUR, BACKGROUND, BACKGROUND_PLACE, MOTION];
    let mut all: Vec<&str> = fixed.concat();
    all.extend([PICTURES, ANYTHING, ARTICLES].concat());
    if config.two_steps {
        all.extend(THEN);
    }
    all.extend(config.styles.iter().flat_map(|style: &Style| style.templates()));
    // "make it night"
    all.push("it");
    all.extend(config.things.iter().map(|thing| thing.name()));
    if config.naming.contains(&Naming::Both) {
        all.extend(config.things.iter().map(|thing| thing.plural()));
    }
    all.extend(config.colours.iter().map(|colour| colour.name()));
    for background in &config.backgrounds {
        all.extend(background.nouns());
        all.extend(background.locatives());
    }
    all.extend(config.sizes.iter().flat_map(|size| size.words()));
    all.extend(Extreme::ALL.iter().flat_map(|e| [e.adjectives(), e.locatives()].concat()));
    all.extend(Side::ALL.iter().flat_map(|side| side.words()));
    all.extend(Place::ALL.iter().flat_map(|p| [p.locatives(), p.destinations()].concat()));
    all.extend(Direction::ALL.iter().flat_map(|way| way.words()));
    all.extend(Distance::ALL.iter().flat_map(|distance| distance.words()));
    let words: BTreeSet<&str> = all
        .iter()
        .flat_map(|text| text.split_whitespace())
        .filter(|word| !word.starts_with('{'))
        .collect();
    words.into_iter().map(str::to_owned).collect()
}
