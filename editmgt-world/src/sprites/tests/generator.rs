use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[test]
fn an_example_depends_on_seed_split_and_index_only() {
    let (world, again) = (small(), small());
    let plan = world.plan(Split::Test, 9);
    assert_eq!(again.plan(Split::Test, 9), plan);
    assert_eq!(again.paint(&plan), world.paint(&plan));
    let config = SpritesConfig { seed: 1, ..world.config().clone() };
    let reseeded = World::new(config).unwrap();
    for other in
        [again.plan(Split::Test, 16), again.plan(Split::Train, 9), reseeded.plan(Split::Test, 9)]
    {
        assert_ne!(other.scene_before, plan.scene_before);
    }
}

#[test]
fn no_scene_is_edited_in_two_splits() {
    let config = SpritesConfig {
        step: 32,
        max_objects: 1,
        sizes: vec![Size::Big],
        ..small().config().clone()
    };
    let world = World::new(config).unwrap();
    let edited =
        |split| -> HashSet<Scene> { (0..300).map(|i| world.plan(split, i).scene_before).collect() };
    let [train, validation, test] = Split::ALL.map(edited);
    assert!(train.len() < 300, "the world is too large for this test to mean anything");
    assert!(train.is_disjoint(&validation) && train.is_disjoint(&test));
    assert!(validation.is_disjoint(&test));
}

#[test]
fn categories_take_turns_and_everything_comes_up() {
    let world = small();
    for (i, &category) in Category::ALL.iter().cycle().take(21).enumerate() {
        assert_eq!(world.plan(Split::Validation, i as u64).category(), category, "{i}");
    }
    let (mut namings, mut destinations, mut styles) =
        (HashSet::new(), HashSet::new(), HashSet::new());
    let mut counts = HashSet::new();
    for plan in plans(&world, 700) {
        counts.insert(plan.scene_before.objects.len());
        let action = &plan.edit[0];
        namings.extend(action.what().map(Reference::naming));
        match action {
            Action::Add { to, .. } | Action::Motion { to, .. } => {
                destinations.insert(std::mem::discriminant(to));
            }
            Action::Style { style } => {
                styles.insert(*style);
            }
            _ => {}
        }
    }
    assert_eq!(namings, Naming::ALL.into_iter().collect());
    assert_eq!(destinations.len(), 3);
    assert_eq!(styles.len(), Style::ALL.len() - 1);
    assert_eq!(counts, (1..=5).collect());
}

#[test]
fn mask_is_inside_the_edited_region() {
    let world = small();
    for plan in plans(&world, 42) {
        let pair = world.paint(&plan);
        let (before, after) = (&plan.scene_before, &plan.scene_after);
        let only = |here: &Scene, there: &Scene| -> Vec<Object> {
            here.objects.iter().copied().filter(|o| !there.objects.contains(o)).collect()
        };
        let boxes = [only(before, after), only(after, before)].concat();
        let inside = |x: u32, y: u32| {
            boxes.is_empty()
                || boxes.iter().any(|o| {
                    let area = world.layout.window(o);
                    (area.x..area.x + area.width).contains(&x)
                        && (area.y..area.y + area.height).contains(&y)
                })
        };
        let mut changed = 0;
        for (x, y, value) in pair.changed.as_ref().unwrap().enumerate_pixels() {
            let differs = pair.before.get_pixel(x, y) != pair.after.get_pixel(x, y);
            assert_eq!(value.0[0], if differs { 255 } else { 0 }, "{}", pair.instruction);
            assert!(!differs || inside(x, y), "{}: ({x}, {y}) changed", pair.instruction);
            changed += usize::from(differs);
        }
        assert!(changed >= 40, "{}: only {changed} pixels changed", pair.instruction);
    }
}

#[test]
fn what_stands_lower_is_in_front() {
    let world = small();
    let behind = object(Thing::Cat, Colour::Blue, Size::Big, (40, 40));
    let front = object(Thing::Apple, Colour::Red, Size::Big, (48, 56));
    let (both, alone) = (scene(&[front, behind]), scene(&[front]));
    assert_eq!(both.objects, [behind, front]);
    let (both, alone) = (world.picture(&both), world.picture(&alone));
    // The middle of the apple hides the cat.
    assert_eq!(both.get_pixel(72, 84), alone.get_pixel(72, 84));
    assert_ne!(both.get_pixel(50, 50), alone.get_pixel(50, 50));
}

#[test]
fn every_sprite_can_be_read_and_has_its_main_fills() {
    for &thing in Thing::ALL {
        let fills: Vec<_> = thing.drawing().fills().collect();
        for main in thing.main() {
            assert!(fills.contains(&main), "{thing:?}: {main:02x?} is no fill");
        }
    }
}

#[test]
fn things_colours_and_backgrounds_look_different() {
    let config = SpritesConfig { sizes: vec![Size::Medium], ..SpritesConfig::default() };
    let world = World::new(config).unwrap();
    let apart = |a: &Scene, b: &Scene, pixels: u32| {
        let (a, b) = (world.picture(a), world.picture(b));
        let sum: u32 = a.iter().zip(b.iter()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        f64::from(sum) / f64::from(3 * pixels)
    };
    let at = |thing, colour| scene(&[object(thing, colour, Size::Medium, (48, 64))]);
    for (i, &colour) in Colour::ALL.iter().enumerate() {
        for &other in &Colour::ALL[..i] {
            let distance = apart(&at(Thing::Apple, colour), &at(Thing::Apple, other), 32 * 32);
            assert!(distance > 8.0, "{colour:?}, {other:?}: {distance}");
        }
    }
    for (i, &thing) in Thing::ALL.iter().enumerate() {
        for &other in &Thing::ALL[..i] {
            let distance = apart(&at(thing, Colour::Blue), &at(other, Colour::Blue), 32 * 32);
            assert!(distance > 8.0, "{thing:?}, {other:?}: {distance}");
        }
    }
    for (i, &background) in Background::ALL.iter().enumerate() {
        for &other in &Background::ALL[..i] {
            let on = |background| Scene { background, ..scene(&[]) };
            let distance = apart(&on(background), &on(other), 128 * 128);
            assert!(distance > 12.0, "{background:?}, {other:?}: {distance}");
        }
    }
}

#[test]
fn two_steps_are_done_one_after_the_other() {
    let world = World::new(SpritesConfig { two_steps: true, ..small().config().clone() }).unwrap();
    for i in 0..70 {
        let plan = world.plan(Split::Test, i);
        let [first, second] = plan.edit[..] else { panic!("{plan:?}") };
        let between = first.apply(&plan.scene_before, world.layout).unwrap();
        assert_eq!(second.apply(&between, world.layout).unwrap(), plan.scene_after);
        assert!(plan.instruction.contains(" and ") || plan.instruction.contains(" then "));
    }
}

#[test]
fn impossible_worlds_are_refused_by_name() {
    for (text, named) in [
        (r#"{"kind": "sprites", "version": 9}"#, "version"),
        (r#"{"kind": "sprites", "canvas": 100}"#, "canvas"),
        (r#"{"kind": "sprites", "cells": 8}"#, "cells"),
        (r#"{"kind": "sprites", "step": 0}"#, "step"),
        (r#"{"kind": "sprites", "overlap": 99}"#, "overlap"),
        (r#"{"kind": "sprites", "max_objects": 0}"#, "max_objects"),
        (r#"{"kind": "sprites", "min_objects": 0}"#, "min_objects"),
        (r#"{"kind": "sprites", "min_objects": 3, "max_objects": 2}"#, "min_objects"),
        (r#"{"kind": "sprites", "things": ["cat"]}"#, "things"),
        (r#"{"kind": "sprites", "things": ["cat", "blob"]}"#, "blob"),
        (r#"{"kind": "sprites", "colours": ["red", "red"]}"#, "a repeated one"),
        (r#"{"kind": "sprites", "sizes": []}"#, "sizes"),
        (r#"{"kind": "sprites", "backgrounds": ["sea"]}"#, "backgrounds"),
        (r#"{"kind": "sprites", "styles": ["normal"]}"#, "styles"),
        (r#"{"kind": "sprites", "naming": ["thing"]}"#, "naming"),
        (r#"{"kind": "sprites", "categories": []}"#, "categories"),
        (r#"{"kind": "sprites", "shapes": ["star"]}"#, "shapes"),
        (r#"{"kind": "pixels"}"#, "pixels"),
    ] {
        let read = crate::WorldConfig::from_json(text).map(crate::World::new);
        let message = read.and_then(|world| world).unwrap_err().to_string();
        assert!(message.contains(named), "{text}: {message}");
    }
}

#[test]
fn scenes_have_the_least_number_of_objects() {
    let config = SpritesConfig { min_objects: 2, max_objects: 3, ..small().config().clone() };
    let world = World::new(config).unwrap();
    let counts: Vec<usize> =
        (0..70).map(|i| world.plan(Split::Train, i).scene_before.objects.len()).collect();
    // Nearly always there is room for two.
    assert!(counts.iter().filter(|&&count| count < 2).count() <= 2, "{counts:?}");
    assert!(counts.contains(&2) && counts.contains(&3));
}

#[test]
fn clear_places_are_the_half_of_the_picture_where_only_one_is() {
    let naming = vec![Naming::Full, Naming::Place];
    let categories = vec![Category::Remove];
    let base = SpritesConfig { naming, categories, ..small().config().clone() };
    let unclear = |clear_places: bool| {
        let world = World::new(SpritesConfig { clear_places, ..base.clone() }).unwrap();
        let (mut places, mut unclear) = (0, 0);
        for plan in (0..300).map(|i| world.plan(Split::Train, i)) {
            let Some(&Reference::Extreme { extreme, thing }) = plan.edit[0].what() else {
                continue;
            };
            places += 1;
            let middle = |o: &Object| {
                let half = world.layout.side(o.size) / 2;
                (o.x + half, o.y + half)
            };
            let half = base.canvas / 2;
            let alike = plan.scene_before.objects.iter();
            let alike = alike.filter(|o| thing.is_none_or(|thing| o.thing == thing));
            let there = alike.filter(|o| match (extreme, middle(o)) {
                (Extreme::Left, (x, _)) => x < half,
                (Extreme::Right, (x, _)) => x > half,
                (Extreme::Top, (_, y)) => y < half,
                (Extreme::Bottom, (_, y)) => y > half,
                other => panic!("{other:?} is no place"),
            });
            unclear += usize::from(there.count() != 1);
        }
        assert!(places > 30, "{places} of 300");
        unclear
    };
    assert_eq!(unclear(true), 0);
    assert!(unclear(false) > 10);
}

#[test]
fn a_config_survives_being_written_and_read() {
    for config in [crate::WorldConfig::second(), crate::WorldConfig::small()] {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(crate::WorldConfig::from_json(&text).unwrap(), config);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// For all steps, overlaps and numbers: objects are on the canvas, on the grid and no nearer to
    /// each other than allowed, and the action leads from one scene to the other.
    #[test]
    fn scenes_keep_the_rules(
        seed in 0u64..1000,
        step in prop::sample::select(vec![1u32, 4, 8, 16]),
        overlap in 0u32..=16,
        (min_objects, max_objects) in (1usize..=6).prop_flat_map(|most| (1..=most, Just(most))),
    ) {
        let sizes = SpritesConfig { min_objects, max_objects, ..small().config().clone() };
        let config = SpritesConfig { seed, step, overlap, ..sizes };
        let world = World::new(config).unwrap();
        for plan in (0..7).map(|i| world.plan(Split::Train, i)) {
            let applied = plan.edit[0].apply(&plan.scene_before, world.layout);
            prop_assert_eq!(applied.as_ref(), Some(&plan.scene_after));
            let objects = &plan.scene_before.objects;
            prop_assert!((1..=max_objects).contains(&objects.len()));
            for (i, a) in objects.iter().enumerate() {
                prop_assert!(world.layout.inside(a) && a.x % step == 0 && a.y % step == 0);
                for b in &objects[..i] {
                    prop_assert!((a.thing, a.colour) != (b.thing, b.colour));
                    let (a, b) = (world.layout.window(a), world.layout.window(b));
                    let shared = a.columns_in(b).len().min(a.rows_in(b).len());
                    prop_assert!(shared <= overlap as usize, "{shared} pixels");
                }
            }
        }
    }
}
