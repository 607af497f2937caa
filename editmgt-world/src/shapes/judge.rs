use editmgt_core::Result;
use image::RgbImage;

use super::Example;
use super::edit::Edit;
use super::names::{Background, Colour, Direction, Shape, Size, Style};
use super::paint::Painter;
use super::scene::{Layout, Object, Scene};
use crate::judge::{Judged, Judgement};
use crate::window::Window;

/// The share of the changed cells that may be wrong.
const WRONG_CHANGED_SHARE: f32 = 0.02;

/// Judges an edited image.
///
/// # Errors
/// [`editmgt_core::Error::Value`] when the image's size differs from the example's.
pub(super) fn judge(
    painter: &Painter,
    layout: Layout,
    example: &Example,
    image: &RgbImage,
) -> Result<Judgement<Scene>> {
    let judged = Judged {
        scene: &example.scene_after,
        truth: &example.pair.after,
        before: &example.pair.before,
        image,
        cells: layout.cells,
        wrong_changed_share: WRONG_CHANGED_SHARE,
    };
    let alternatives = alternatives(layout, example).into_iter().filter_map(|scene| {
        // Elsewhere the alternative equals the true image, at the same distance.
        let window = differing(&scene, &example.scene_after, layout)?;
        let picture = painter.paint_window(&scene, window);
        Some((scene, window, picture))
    });
    crate::judge::judge(&judged, alternatives)
}

/// Alternatives that differ from the true scene in one thing.
fn alternatives(layout: Layout, example: &Example) -> Vec<Scene> {
    let (before, after) = (&example.scene_before, &example.scene_after);
    let mut scenes = vec![before.clone()];
    for object in &after.objects {
        let rest = Scene {
            objects: after.objects.iter().copied().filter(|o| o != object).collect(),
            ..after.clone()
        };
        scenes.extend(lookalikes(layout, object).map(|other| placed(&rest, other)));
        scenes.push(rest);
    }
    match example.edit {
        Edit::Background { .. } => {
            let others = Background::ALL.iter();
            scenes.extend(others.map(|&background| Scene { background, ..after.clone() }));
        }
        Edit::Style { .. } => {
            scenes.extend(Style::ALL.iter().map(|&style| Scene { style, ..before.clone() }));
        }
        // After a removal any object could remain.
        Edit::Remove { object } => {
            scenes.extend(lookalikes(layout, &object).map(|other| placed(after, other)));
        }
        Edit::Motion { .. } => {
            scenes.extend(example.edit.result(layout).map(|object| placed(before, object)));
        }
        Edit::Add { .. } | Edit::Replace { .. } | Edit::Colour { .. } => {}
    }
    scenes
}

/// All objects that could be confused with this one.
fn lookalikes(layout: Layout, object: &Object) -> impl Iterator<Item = Object> {
    let o = *object;
    let kinds = Shape::ALL.iter().flat_map(move |&shape| {
        Colour::ALL.iter().map(move |&colour| Object { shape, colour, ..o })
    });
    let moved = Direction::ALL.iter().filter_map(move |&way| layout.offset(&o, way, layout.cell()));
    let sized = Size::ALL.iter().map(move |&size| {
        // Around the same centre, but within the margin.
        let (first, last) = layout.range(size);
        let centred = |at: u32| {
            (at + layout.side(o.size) / 2).saturating_sub(layout.side(size) / 2).clamp(first, last)
        };
        Object { size, x: centred(o.x), y: centred(o.y), ..o }
    });
    kinds.chain(moved).chain(sized)
}

/// The scene with one more object, ignoring collisions.
fn placed(scene: &Scene, object: Object) -> Scene {
    let mut scene = scene.clone();
    scene.objects.push(object);
    scene.objects.sort_by_key(|o| (o.y, o.x));
    scene
}

/// The window in which the images of two scenes can differ, if any.
fn differing(a: &Scene, b: &Scene, layout: Layout) -> Option<Window> {
    if (a.background, a.style) != (b.background, b.style) {
        return Some(layout.whole());
    }
    let only = |here: &Scene, there: &Scene| {
        let unshared = here.objects.iter().filter(|o| !there.objects.contains(o));
        unshared.map(|o| layout.window(o)).reduce(Window::union)
    };
    [only(a, b), only(b, a)].into_iter().flatten().reduce(Window::union)
}
