use std::collections::HashSet;

use image::RgbImage;

use super::*;

/// FNV-1a, as a name for bytes.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn the_first_examples_never_change() {
    // Pinned: a model is trained on these. If one must change, so must WORLD_VERSION.
    let world = world();
    let drawn = PINNED.map(|(split, index, ..)| {
        let pair = world.pair(split, index).pair;
        let changed = pair.changed.unwrap();
        let bytes = [pair.before.as_raw(), pair.after.as_raw(), changed.as_raw()];
        let pixels = hash(bytes.into_iter().flatten().copied());
        (split, index, pair.instruction, pixels)
    });
    let pinned =
        PINNED.map(|(split, index, wording, pixels)| (split, index, wording.into(), pixels));
    assert_eq!(drawn, pinned);
}

const PINNED: [(Split, u64, &str, u64); 4] = [
    (Split::Train, 0, "add a small purple star on the right side", 0xfa53_46a6_b574_85dd),
    (Split::Train, 10_000_000_005, "swap the blue star for a yellow cross", 0x7928_d658_26c0_0d71),
    (Split::Validation, 3, "colour the purple triangle blue", 0x6172_087b_a69d_4685),
    (Split::Test, 4, "turn the backdrop into sand", 0xc7cf_0c64_6a75_79ae),
];

#[test]
fn example_depends_on_seed_split_and_index_only() {
    let (world, again) = (world(), world());
    let example = world.pair(Split::Test, 9);
    world.pair(Split::Train, 1);
    assert_eq!(world.pair(Split::Test, 9), example);
    assert_eq!(again.pair(Split::Test, 9), example);

    let reseeded = World::new(WorldConfig { seed: 1, ..WorldConfig::default() }).unwrap();
    for other in
        [again.plan(Split::Test, 16), again.plan(Split::Train, 9), reseeded.plan(Split::Test, 9)]
    {
        assert_ne!(other.scene_before, example.scene_before);
    }
}

#[test]
fn no_scene_is_edited_in_two_splits_whatever_the_seeds() {
    // One small object on few cells: the same scenes repeat often.
    let crowded = |seed| {
        let config = WorldConfig {
            seed,
            max_objects: 1,
            positions: Positions::Cells,
            margin: 1,
            sizes: vec![Size::Big],
            shapes: vec![Shape::Circle, Shape::Star],
            colours: vec![Colour::Red, Colour::Blue],
            backgrounds: vec![Background::Sky, Background::Sand],
            ..WorldConfig::default()
        };
        World::new(config).unwrap()
    };
    let edited = |world: &World, split| -> HashSet<Scene> {
        let inverses = (0..1500).filter_map(|i| world.inverse(split, i)).map(|e| e.scene_before);
        (0..1500).map(|i| world.plan(split, i).scene_before).chain(inverses).collect()
    };
    let [train, validation, test] = [(3, Split::Train), (4, Split::Validation), (5, Split::Test)]
        .map(|(seed, split)| edited(&crowded(seed), split));
    assert!(train.len() < 1500, "the world is too large for this test to mean anything");
    assert!(train.is_disjoint(&validation) && train.is_disjoint(&test));
    assert!(validation.is_disjoint(&test));
}

#[test]
fn categories_take_turns_and_everything_with_a_name_comes_up() {
    let world = world();
    for (i, &category) in Category::ALL.iter().cycle().take(21).enumerate() {
        let pair = world.pair(Split::Validation, i as u64).pair;
        assert_eq!(pair.category, Some(category), "{i}");
    }

    let twice = vec![Category::Add, Category::Colour, Category::Add];
    let config = WorldConfig { categories: twice.clone(), ..WorldConfig::default() };
    let weighted = World::new(config).unwrap();
    let drawn: Vec<_> = (0..3).map(|i| weighted.plan(Split::Train, i).edit.category()).collect();
    assert_eq!(drawn, twice);

    let mut edits = HashSet::new();
    let (mut counts, mut kinds) = (HashSet::new(), HashSet::new());
    for plan in plans(&world, 1400) {
        counts.insert(plan.scene_before.objects.len());
        for o in &plan.scene_before.objects {
            kinds.insert((o.shape, o.colour, o.size));
        }
        edits.insert(match plan.edit {
            Edit::Add { place, .. } => format!("add {place:?}"),
            Edit::Replace { shape, colour, .. } => {
                format!("replace {shape:?} {}", colour.is_some())
            }
            Edit::Colour { colour, .. } => format!("colour {colour:?}"),
            Edit::Motion { to, .. } => format!("motion {to:?}"),
            Edit::Remove { .. } => "remove".into(),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(counts, HashSet::from([1, 2, 3]));
    assert_eq!(kinds.len(), 6 * 6);
    assert_eq!(edits.len(), 9 + 1 + 6 * 2 + 6 + 6 + 2 + (4 + 5), "{edits:?}");
}

#[test]
fn mask_is_the_difference_inside_the_edited_region() {
    let world = world();
    for example in Split::ALL.into_iter().flat_map(|s| (0..70).map(move |i| (s, i))) {
        let example = world.pair(example.0, example.1);
        let pair = &example.pair;
        let boxes: Vec<Object> =
            [example.edit.target().copied(), example.edit.result(world.layout)]
                .into_iter()
                .flatten()
                .collect();
        let inside = |x: u32, y: u32| {
            boxes.is_empty()
                || boxes.iter().any(|o| {
                    let side = world.layout.side(o.size);
                    (o.x..o.x + side).contains(&x) && (o.y..o.y + side).contains(&y)
                })
        };
        let mask = pair.changed.as_ref().unwrap();
        let mut changed = 0;
        for (x, y, value) in mask.enumerate_pixels() {
            let differs = pair.before.get_pixel(x, y) != pair.after.get_pixel(x, y);
            assert_eq!(value.0[0], if differs { 255 } else { 0 }, "{}", pair.instruction);
            assert!(!differs || inside(x, y), "{}: ({x}, {y}) changed", pair.instruction);
            changed += usize::from(differs);
        }
        assert!(changed >= 100, "{}: only {changed} pixels changed", pair.instruction);
    }
}

#[test]
fn inverses_lead_back() {
    let world = world();
    let mut categories = HashSet::new();
    for i in 0..140 {
        let Some(back) = world.inverse(Split::Train, i) else { continue };
        let there = world.pair(Split::Train, i);
        assert_eq!(back.pair.before, there.pair.after);
        assert_eq!(back.pair.after, there.pair.before);
        assert_eq!(back.pair.changed, there.pair.changed);
        assert!(back.pair.instruction.contains(back.pair.phrase.as_deref().unwrap()));
        categories.insert(there.edit.category());
    }
    // The styles of the shipped world lose the colours.
    assert!(!categories.contains(&Category::Style));
    assert_eq!(categories.len(), Category::ALL.len() - 1, "{categories:?}");
}

#[test]
fn positions_are_as_free_as_the_config_says() {
    let world = |positions| {
        World::new(WorldConfig { positions, canvas: 160, ..WorldConfig::default() }).unwrap()
    };
    let off = |world: &World, step: u32| {
        let objects = plans(world, 100)
            .flat_map(|plan| [plan.scene_before.objects, plan.scene_after.objects].concat());
        objects.filter(|o| o.x % step + o.y % step > 0).count()
    };
    let (pixels, cells) = (world(Positions::Pixels), world(Positions::Cells));
    let pairs = world(Positions::CellPairs);
    let cell = pairs.layout.cell();
    assert_eq!(off(&pairs, 2 * cell), 0);
    assert_eq!(off(&cells, cell), 0);
    assert!(off(&cells, 2 * cell) > 100);
    assert!(off(&pixels, cell) > 100);
    assert_eq!(pixels.pair(Split::Test, 2).pair.after.dimensions(), (160, 160));
}

#[test]
fn impossible_worlds_are_refused_by_name() {
    let json = |text: &str| World::new(WorldConfig::from_json(text)?);
    for (text, named) in [
        (r#"{"version": 1}"#, "version"),
        (r#"{"canvas": 101}"#, "canvas"),
        (r#"{"cells": 9}"#, "cells"),
        (r#"{"cells": 40}"#, "cells"),
        (r#"{"object_cells": 3}"#, "object_cells"),
        (r#"{"object_cells": 4}"#, "object_cells: expected 2 or 4, and at most a quarter"),
        (r#"{"canvas": 0}"#, "canvas"),
        (r#"{"canvas": 4096}"#, "canvas"),
        (r#"{"max_objects": 0}"#, "max_objects"),
        (r#"{"margin": 1}"#, "margin"),
        (r#"{"margin": 3, "positions": "cells"}"#, "margin"),
        (
            r#"{"max_objects": 4, "shapes": ["star", "ring"], "colours": ["red", "blue"]}"#,
            "max_objects",
        ),
        (r#"{"shapes": ["star"]}"#, "shapes"),
        (r#"{"colours": ["red", "red"]}"#, "twice"),
        (r#"{"backgrounds": ["sky"]}"#, "backgrounds"),
        (r#"{"sizes": []}"#, "sizes"),
        (r#"{"sizes": ["big"], "margin": 2}"#, "sizes"),
        (r#"{"styles": []}"#, "styles"),
        (r#"{"styles": ["normal"]}"#, "styles"),
        (r#"{"categories": []}"#, "categories"),
        (r#"{"shapes": ["blob", "star"]}"#, "blob"),
        (r#"{"colour": ["red"]}"#, "colour"),
        ("", "EOF"),
    ] {
        let message = json(text).unwrap_err().to_string();
        assert!(message.contains(named), "{text}: {message}");
    }
    // The smallest and the richest world that are allowed still have every category.
    for text in [
        r#"{"canvas": 64, "cells": 16, "object_cells": 4, "max_objects": 3, "shapes": ["star", "ring"], "colours": ["red", "blue"],
            "backgrounds": ["sky", "night"], "styles": ["drawing"], "sizes": ["big"],
            "positions": "cells", "margin": 1}"#,
        r#"{"canvas": 512, "cells": 16, "object_cells": 4, "max_objects": 6, "positions": "pixels", "sizes": ["regular", "big"],
            "styles": ["greyscale", "negative", "drawing"]}"#,
    ] {
        let world = json(text).unwrap();
        assert_eq!(plans(&world, 14).count(), 42);
    }
}

#[test]
fn colours_and_backgrounds_are_well_apart() {
    let apart = |a: [u8; 3], b: [u8; 3]| {
        a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>() as f32 / 3.0
    };
    let grey = |rgb: [u8; 3]| {
        (77.0 * f32::from(rgb[0]) + 150.0 * f32::from(rgb[1]) + 29.0 * f32::from(rgb[2])) / 256.0
    };
    let shipped = WorldConfig::default().colours;
    for (i, &a) in Colour::ALL.iter().enumerate() {
        for &b in &Colour::ALL[..i] {
            assert!(apart(a.rgb(), b.rgb()) >= 40.0, "{a:?} {b:?}");
        }
        for background in Background::ALL {
            for tone in background.tones() {
                assert!(apart(a.rgb(), tone) >= 40.0, "{a:?} {background:?}");
                let luma = (grey(a.rgb()) - grey(tone)).abs();
                assert!(luma >= 10.0 || !shipped.contains(&a), "{a:?} {background:?} in greyscale");
            }
        }
    }
    for (i, a) in Background::ALL.iter().enumerate() {
        for b in &Background::ALL[..i] {
            for (a_tone, b_tone) in a.tones().iter().flat_map(|a| b.tones().map(|b| (*a, b))) {
                assert!(apart(a_tone, b_tone) >= 20.0, "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn sheet_has_every_image() {
    let world = world();
    assert_eq!(contact_sheet(&[]), RgbImage::new(0, 0));
    let examples: Vec<_> = (0..5).map(|i| world.pair(Split::Train, i)).collect();
    let pairs: Vec<_> = examples.iter().map(|example| &example.pair).collect();
    let sheet = contact_sheet(&pairs);
    let holds = |picture: &RgbImage| {
        let (width, height) = (sheet.width() - picture.width(), sheet.height() - picture.height());
        (0..=height).flat_map(|y| (0..=width).map(move |x| (x, y))).any(|(x, y)| {
            picture.enumerate_pixels().all(|(u, v, pixel)| sheet.get_pixel(x + u, y + v) == pixel)
        })
    };
    for example in &examples {
        assert!(holds(&example.pair.before) && holds(&example.pair.after));
    }
}
