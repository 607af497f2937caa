mod generator;
mod grammar;
mod judge;

use super::*;
use crate::random::Choose;
use crate::{Category, Split};

/// A small world with all relevant features.
fn small() -> World {
    World::new(SpritesConfig {
        step: 8,
        things: vec![Thing::Cat, Thing::Fish, Thing::Apple, Thing::Car],
        colours: vec![Colour::Red, Colour::Yellow, Colour::Blue],
        backgrounds: vec![Background::Meadow, Background::Snow, Background::Desert],
        ..SpritesConfig::default()
    })
    .unwrap()
}

/// Plans of every split and category, with the split that they came from.
fn plans(world: &World, each: u64) -> impl Iterator<Item = Plan> {
    Split::ALL.into_iter().flat_map(move |split| (0..each).map(move |i| world.plan(split, i)))
}

fn object(thing: Thing, colour: Colour, size: Size, (x, y): (u32, u32)) -> Object {
    Object { thing, colour, size, x, y }
}

fn scene(objects: &[Object]) -> Scene {
    let empty = Scene { background: Background::Meadow, style: Style::Normal, objects: Vec::new() };
    let layout = small().layout;
    objects.iter().fold(empty, |scene, object| scene.with_anyway(*object, layout))
}
