use image::{RgbImage, imageops};

use super::*;

/// Simulates a codec: soft edges and small errors everywhere.
fn coded(image: &RgbImage) -> RgbImage {
    let mut image = imageops::blur(image, 0.7);
    let mut state = 1_u32;
    for value in image.iter_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // -6..=6
        let noise = (state >> 24) as i16 * 13 / 256 - 6;
        *value = value.saturating_add_signed(noise as i8);
    }
    image
}

/// Scenes after a wrong edit.
fn wrong_scenes(world: &World, plan: &Plan) -> Vec<(&'static str, Scene)> {
    let (before, after, layout) = (&plan.scene_before, &plan.scene_after, world.layout);
    let mut wrong = vec![("nothing happened", before.clone())];
    if let Some(object) = after.objects.last() {
        wrong.push(("an object is gone", after.without(object)));
    }
    if after.style != Style::Normal {
        return wrong;
    }
    for object in after.objects.iter().filter(|o| !before.objects.contains(o)) {
        let rest = after.without(object);
        let instead = |other| rest.with_anyway(other, layout);
        for &colour in world.config.colours.iter().filter(|&&c| c != object.colour) {
            wrong.push(("wrong colour", instead(Object { colour, ..*object })));
        }
        for &thing in world.config.things.iter().filter(|&&t| t != object.thing) {
            wrong.push(("wrong thing", instead(Object { thing, ..*object })));
        }
        for &size in world.config.sizes.iter().filter(|&&s| s != object.size) {
            let resized = Object { size, ..*object };
            if layout.inside(&resized) {
                wrong.push(("wrong size", instead(resized)));
            }
        }
        for object in before.objects.iter().filter(|o| !after.objects.contains(o)) {
            wrong.push(("left behind", after.with_anyway(*object, layout)));
        }
    }
    if let Action::Background { background } = plan.edit[0] {
        let others = world.config.backgrounds.iter().filter(|&&other| other != background);
        wrong.extend(
            others.map(|&background| ("wrong place", Scene { background, ..after.clone() })),
        );
    }
    wrong
}

#[test]
fn only_the_true_edit_succeeds() {
    let config = SpritesConfig {
        sizes: vec![Size::Medium, Size::Big],
        overlap: 0,
        ..small().config().clone()
    };
    let world = World::new(config).unwrap();
    for plan in plans(&world, 14) {
        let pair = world.paint(&plan);
        let judge = |image: &RgbImage| world.judge(&plan, &pair, image).unwrap();
        let say = &pair.instruction;
        let truth = judge(&pair.after);
        assert!(truth.success && truth.nearest == plan.scene_after, "{say}: {truth:?}");
        assert_eq!((truth.wrong_changed, truth.wrong_outside, truth.outside_error), (0, 0, 0.0));
        assert_eq!(truth.changed_cells + truth.outside_cells, 256);
        let soft = judge(&coded(&pair.after));
        assert!(soft.success, "{say}: {soft:?}");
        for (what, scene) in wrong_scenes(&world, &plan) {
            let picture = world.picture(&scene);
            for picture in [coded(&picture), picture] {
                let judgement = judge(&picture);
                assert!(!judgement.success, "{say}, but {what}: {judgement:?}");
            }
        }
    }
}

#[test]
fn a_wrong_cell_outside_fails_an_edit_and_one_inside_does_not() {
    let world = small();
    let before = scene(&[object(Thing::Cat, Colour::Red, Size::Medium, (48, 64))]);
    let action = Action::Remove { what: Reference::Thing { thing: Thing::Cat } };
    let plan = Plan {
        scene_after: action.apply(&before, world.layout).unwrap(),
        scene_before: before,
        edit: vec![action],
        instruction: "remove the cat".into(),
        phrase: "the cat".into(),
    };
    let pair = world.paint(&plan);
    for (cell, success) in [((56, 72), true), ((8, 8), false), ((120, 120), false)] {
        let mut image = pair.after.clone();
        for (u, v) in (0..8).flat_map(|v| (0..8).map(move |u| (u, v))) {
            image.get_pixel_mut(cell.0 + u, cell.1 + v).0.iter_mut().for_each(|v| *v ^= 0x40);
        }
        let judgement = world.judge(&plan, &pair, &image).unwrap();
        assert_eq!(judgement.wrong_changed + judgement.wrong_outside, 1);
        assert_eq!(judgement.success, success, "{cell:?}: {judgement:?}");
    }
}

#[test]
fn rejects_image_of_another_size() {
    let world = small();
    let plan = world.plan(Split::Test, 0);
    let message = world.judge(&plan, &world.paint(&plan), &RgbImage::new(80, 160));
    let message = message.unwrap_err().to_string();
    assert!(message.contains("128x128") && message.contains("80x160"), "{message}");
}
