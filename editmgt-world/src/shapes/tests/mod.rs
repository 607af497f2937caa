mod generator;
mod grammar;
mod judge;

use super::*;
use crate::random::Choose;
use crate::{Category, contact_sheet};

/// The shipped world.
fn world() -> World {
    World::new(WorldConfig::default()).unwrap()
}

/// Plans of every split and category, with the split that they came from.
fn plans(world: &World, each: u64) -> impl Iterator<Item = Plan> {
    Split::ALL.into_iter().flat_map(move |split| (0..each).map(move |i| world.plan(split, i)))
}
