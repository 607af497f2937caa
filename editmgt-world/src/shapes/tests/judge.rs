use image::{RgbImage, imageops};

use super::*;

/// Simulates a codec: soft edges and small errors everywhere.
fn coded(image: &RgbImage) -> RgbImage {
    let mut image = imageops::blur(image, 1.0);
    let mut state = 1_u32;
    for value in image.iter_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // -8..=8
        let noise = (state >> 24) as i16 * 17 / 256 - 8;
        *value = value.saturating_add_signed(noise as i8);
    }
    image
}

fn scene_with(scene: &Scene, object: Object) -> Scene {
    let mut scene = scene.clone();
    scene.objects.push(object);
    scene
}

/// Scenes after a wrong edit.
fn wrong_scenes(world: &World, example: &Example) -> Vec<(&'static str, Scene)> {
    let after = &example.scene_after;
    let mut wrong = vec![("nothing happened", example.scene_before.clone())];
    let others: Vec<Object> = {
        let result = example.edit.result(world.layout);
        after.objects.iter().copied().filter(|o| Some(*o) != result).collect()
    };
    if let Some(other) = others.first() {
        wrong.push(("another object is gone", after.without(other).unwrap()));
    }
    // Another style makes some colours indistinguishable.
    if let (Some(other), true) = (others.first(), after.style == Style::Normal) {
        let turned = Object { colour: next(Colour::ALL, other.colour), ..*other };
        wrong.push((
            "another object changed its colour",
            scene_with(&after.without(other).unwrap(), turned),
        ));
    }
    match example.edit {
        Edit::Background { .. } => {
            let background = next(Background::ALL, after.background);
            wrong.push(("wrong background", Scene { background, ..after.clone() }));
        }
        Edit::Style { .. } => {
            let style = next(Style::ALL, after.style);
            wrong.push(("wrong style", Scene { style, ..after.clone() }));
        }
        Edit::Remove { object } => {
            let ghost = Object { shape: next(Shape::ALL, object.shape), ..object };
            wrong.push(("replaced, not removed", scene_with(after, ghost)));
        }
        _ => {
            let object = example.edit.result(world.layout).unwrap();
            let rest = after.without(&object).unwrap();
            let instead = |other: Object| scene_with(&rest, other);
            wrong.push(("nothing there", rest.clone()));
            for &colour in Colour::ALL.iter().filter(|&&c| c != object.colour) {
                wrong.push(("wrong colour", instead(Object { colour, ..object })));
            }
            for &shape in Shape::ALL.iter().filter(|&&s| s != object.shape) {
                wrong.push(("wrong shape", instead(Object { shape, ..object })));
            }
            for &way in Direction::ALL {
                if let Some(moved) = world.layout.offset(&object, way, world.layout.cell()) {
                    wrong.push(("wrong place", instead(moved)));
                }
            }
            if let Edit::Motion { .. } = example.edit {
                wrong.push(("left behind", scene_with(&example.scene_before, object)));
            }
        }
    }
    if example.edit.category() != Category::Style {
        wrong.push(("style changed too", Scene { style: Style::Negative, ..after.clone() }));
    }
    wrong
}

fn next<T: Copy + PartialEq>(all: &[T], of: T) -> T {
    let at = all.iter().position(|&other| other == of).unwrap();
    all[(at + 1) % all.len()]
}

#[test]
fn only_the_true_edit_succeeds() {
    let world = world();
    for (split, i) in Split::ALL.into_iter().flat_map(|split| (0..7).map(move |i| (split, i))) {
        let example = world.pair(split, i);
        let judge = |image: &RgbImage| world.judge(&example, image).unwrap();
        let say = &example.pair.instruction;

        let truth = judge(&example.pair.after);
        assert!(truth.success && truth.nearest == example.scene_after, "{say}: {truth:?}");
        assert_eq!((truth.wrong_changed, truth.wrong_outside, truth.outside_error), (0, 0, 0.0));
        assert_eq!(truth.changed_cells + truth.outside_cells, 100);
        let soft = judge(&coded(&example.pair.after));
        assert!(soft.success, "{say}: {soft:?}");

        for (what, scene) in wrong_scenes(&world, &example) {
            let picture = world.picture(&scene);
            for picture in [coded(&picture), picture] {
                let judgement = judge(&picture);
                assert!(!judgement.success, "{say}, but {what}: {judgement:?}");
            }
        }
    }
}

#[test]
fn one_wrong_cell_is_counted_where_it_is() {
    let world = world();
    // An object tolerates none, a whole image a few where it changed.
    for (i, bears_one) in [(0, false), (4, true)] {
        let example = world.pair(Split::Test, i);
        for cell in (0..100).step_by(3) {
            let (x, y) = (cell % 10 * 16, cell / 10 * 16);
            let mut image = example.pair.after.clone();
            for (u, v) in (0..16).flat_map(|v| (0..16).map(move |u| (u, v))) {
                image.get_pixel_mut(x + u, y + v).0.iter_mut().for_each(|value| *value ^= 0x80);
            }
            let judgement = world.judge(&example, &image).unwrap();
            let wrong = (judgement.wrong_changed, judgement.wrong_outside);
            let changed = (0..256).any(|p| {
                let mask = example.pair.changed.as_ref().unwrap();
                mask.get_pixel(x + p % 16, y + p / 16).0[0] > 0
            });
            assert_eq!(wrong, if changed { (1, 0) } else { (0, 1) }, "({x}, {y})");
            assert_eq!(judgement.success, changed && bears_one, "({x}, {y}): {judgement:?}");
        }
    }
}

#[test]
fn rejects_image_of_another_size() {
    let world = world();
    let example = world.pair(Split::Test, 0);
    let message = world.judge(&example, &RgbImage::new(80, 160)).unwrap_err().to_string();
    assert!(message.contains("160x160") && message.contains("80x160"), "{message}");
}
