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

#[test]
fn contents_of_cells_are_those_of_the_nearest_object() {
    let world = small();
    let far = object(Thing::Cat, Colour::Red, Size::Medium, (16, 16));
    let near = object(Thing::Apple, Colour::Blue, Size::Small, (40, 40));
    let contents = world.contents(&scene(&[far, near]), 16, 16);
    let class = |object: &Object| {
        [object.thing as u32 + 1, object.colour as u32 + 1, object.size as u32 + 1]
    };
    for row in 0..16 {
        for column in 0..16 {
            let expected = if (5..8).contains(&row) && (5..8).contains(&column) {
                class(&near)
            } else if (2..6).contains(&row) && (2..6).contains(&column) {
                class(&far)
            } else {
                [0; 3]
            };
            assert_eq!(contents[row * 16 + column], expected, "{row}, {column}");
        }
    }
    let classes = content_classes().map(|classes| classes as u32);
    assert!(contents.iter().all(|cell| cell.iter().zip(classes).all(|(got, all)| *got < all)));
}

#[test]
fn keys_replace_those_of_a_config() {
    use crate::WorldConfig;

    let keys = |json: &str| serde_json::from_str::<serde_json::Map<_, _>>(json).unwrap();
    let second = WorldConfig::second();
    let few = second.with_keys(&keys(r#"{"max_objects": 2, "categories": ["remove"]}"#)).unwrap();
    let expected = SpritesConfig {
        max_objects: 2,
        categories: vec![Category::Remove],
        ..SpritesConfig::default()
    };
    assert_eq!(few, expected.into());
    assert_eq!(second.with_keys(&keys("{}")).unwrap(), second);
    for (json, named) in [(r#"{"weather": 1}"#, "weather"), (r#"{"cells": "many"}"#, "cells")] {
        let error = second.with_keys(&keys(json)).unwrap_err().to_string();
        assert!(error.contains(named) || error.contains("string"), "{error}");
    }
}
