use editmgt_core::Result;
use image::RgbImage;

use super::names::Style;
use super::scene::{Layout, Object, Scene};
use super::{Plan, World};
use crate::judge::{Judged, Judgement};
use crate::shapes::Direction;
use crate::window::Window;
use crate::{Category, EditPair};

/// The share of the changed cells that may be wrong.
const WRONG_CHANGED_SHARE: f32 = 0.0626;

/// Judges an edited image.
pub(super) fn judge(
    world: &World,
    plan: &Plan,
    pair: &EditPair,
    image: &RgbImage,
) -> Result<Judgement<Scene>> {
    let judged = Judged {
        scene: &plan.scene_after,
        truth: &pair.after,
        before: &pair.before,
        image,
        cells: world.layout.cells,
        wrong_changed_share: WRONG_CHANGED_SHARE,
    };
    let alternatives = alternatives(world, plan).into_iter().filter_map(|scene| {
        // Elsewhere the alternative equals the true image, at the same distance.
        let window = differing(&scene, &plan.scene_after, world.layout)?;
        let picture = world.painter.paint_window(&scene, window);
        Some((scene, window, picture))
    });
    crate::judge::judge(&judged, alternatives)
}

/// Alternatives: the scene before; each object missing, of another kind, colour or size, or a cell
/// off; all other backgrounds and styles; for a removal any object left in the place, and the
/// removed one. In a style with indistinguishable colours only missing objects and other styles
/// count.
fn alternatives(world: &World, plan: &Plan) -> Vec<Scene> {
    let (before, after, layout) = (&plan.scene_before, &plan.scene_after, world.layout);
    let mut scenes = vec![before.clone()];
    for object in &after.objects {
        let rest = after.without(object);
        if after.style == Style::Normal {
            scenes.extend(lookalikes(world, object).map(|other| rest.with_anyway(other, layout)));
        }
        scenes.push(rest);
    }
    let has = |category| plan.edit.iter().any(|action| action.category() == category);
    if has(Category::Background) {
        let others = world.config.backgrounds.iter();
        scenes.extend(others.map(|&background| Scene { background, ..after.clone() }));
    }
    if has(Category::Style) {
        scenes.extend(Style::ALL.iter().map(|&style| Scene { style, ..after.clone() }));
    }
    // After a removal any object could remain.
    let gone = before.objects.iter().filter(|object| !after.objects.contains(object));
    for object in gone {
        if has(Category::Remove) && after.style == Style::Normal {
            scenes.extend(lookalikes(world, object).map(|other| after.with_anyway(other, layout)));
        }
        scenes.push(after.with_anyway(*object, layout));
    }
    scenes.retain(|scene| scene != after);
    scenes
}

/// All objects that could be confused with this one.
fn lookalikes<'a>(world: &'a World, object: &Object) -> impl Iterator<Item = Object> + use<'a> {
    let (o, layout, config) = (*object, world.layout, &world.config);
    let kinds = config.things.iter().flat_map(move |&thing| {
        config.colours.iter().map(move |&colour| Object { thing, colour, ..o })
    });
    let moved = Direction::ALL.iter().filter_map(move |&way| layout.offset(&o, way, layout.cell()));
    let sized = config.sizes.iter().map(move |&size| {
        // On the same ground line, around the same centre, but within the canvas.
        let (old, new) = (layout.side(o.size), layout.side(size));
        let last = layout.canvas - new;
        let x = (o.x + old / 2).saturating_sub(new / 2).min(last);
        Object { size, x, y: (o.y + old).saturating_sub(new).min(last), ..o }
    });
    kinds.chain(moved).chain(sized).filter(move |other| *other != o)
}

/// The window in which the images of two scenes can differ, if any.
fn differing(a: &Scene, b: &Scene, layout: Layout) -> Option<Window> {
    let styled = a.style != Style::Normal || b.style != Style::Normal;
    if (a.background, a.style) != (b.background, b.style) || styled && a != b {
        return Some(layout.whole());
    }
    let only = |here: &Scene, there: &Scene| {
        let unshared = here.objects.iter().filter(|o| !there.objects.contains(o));
        unshared.map(|o| layout.window(o)).reduce(Window::union)
    };
    [only(a, b), only(b, a)].into_iter().flatten().reduce(Window::union)
}
