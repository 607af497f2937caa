use editmgt_core::{Error, Result};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::edit::Edit;
use super::names::{Direction, Size, Style};
use super::paint::Painter;
use super::scene::{CELLS, Layout, Object, Scene};
use super::{Example, WorldConfig};

/// A cell is right when its mean absolute error, in levels of 255, is at most this …
const PLAIN_TOLERANCE: f32 = 12.0;
/// … plus this share of its own contrast (the mean absolute deviation of the true cell and a
/// quarter of a cell around it): a codec blurs edges, not plains.
const CONTRAST_SHARE: f32 = 0.35;
/// The share of the changed cells that may be wrong: none of an object's, at most five where the
/// whole picture changes.
const WRONG_CHANGED_SHARE: f32 = 0.02;

/// What became of an edit.
///
/// The picture is compared with the true one in cells of a sixteenth of the canvas (8x8 pixels at
/// 128), and with every alternative: for an edit of an object all shapes and colours at its
/// place, nothing there, the other sizes, the place one cell off to each side, the scene as it
/// was, and (for a motion) the object at both places; for the background and the style all the
/// others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Strict success: `right`, no cell wrong outside of the change, and at most 2% of the
    /// changed cells wrong (that is none for any object, up to five of 256 for the whole
    /// picture).
    pub success: bool,
    /// The true scene is nearer to the picture than every alternative, in the sum of absolute
    /// differences.
    pub right: bool,
    /// The scene that the picture is nearest to: what went wrong, when it is not the true one.
    pub nearest: Scene,
    /// Cells that hold a pixel of the true change.
    pub changed_cells: usize,
    /// Those of them that are wrong.
    pub wrong_changed: usize,
    /// The other cells.
    pub outside_cells: usize,
    /// Those of them that are wrong: they should be as they were.
    pub wrong_outside: usize,
    /// Mean absolute error over the cells outside, 0..=1.
    pub outside_error: f32,
}

/// Judges an edited picture.
///
/// # Errors
/// [`Error::Value`] when the picture has another size than the example's.
pub(super) fn judge(
    config: &WorldConfig,
    painter: &Painter,
    layout: Layout,
    example: &Example,
    image: &RgbImage,
) -> Result<Judgement> {
    let (truth, before) = (&example.pair.after, &example.pair.before);
    if image.dimensions() != truth.dimensions() {
        let size = |image: &RgbImage| format!("{}x{}", image.width(), image.height());
        return Err(Error::value("image", size(truth), size(image)));
    }

    let mut nearest = &example.scene_after;
    let mut least = distance(image, truth);
    let alternatives = alternatives(config, layout, example);
    for scene in &alternatives {
        let far = distance(image, &painter.paint(scene));
        // A tie is no success: the picture doesn't say which it is.
        if far <= least {
            (nearest, least) = (scene, far);
        }
    }
    let right = *nearest == example.scene_after;

    let cell = layout.cell();
    let (mut changed_cells, mut wrong_changed) = (0, 0);
    let (mut outside_cells, mut wrong_outside, mut outside_error) = (0, 0, 0.0);
    for (x, y) in
        (0..CELLS).flat_map(|row| (0..CELLS).map(move |column| (column * cell, row * cell)))
    {
        let window = Window { x, y, width: cell, height: cell };
        let error = window.error(image, truth);
        let limit =
            PLAIN_TOLERANCE + CONTRAST_SHARE * window.widened(cell / 4, truth).contrast(truth);
        let wrong = usize::from(error > limit);
        if window.error(before, truth) > 0.0 {
            changed_cells += 1;
            wrong_changed += wrong;
        } else {
            outside_cells += 1;
            wrong_outside += wrong;
            outside_error += error;
        }
    }
    let allowed = (WRONG_CHANGED_SHARE * changed_cells as f32) as usize;
    Ok(Judgement {
        success: right && wrong_outside == 0 && wrong_changed <= allowed,
        right,
        nearest: nearest.clone(),
        changed_cells,
        wrong_changed,
        outside_cells,
        wrong_outside,
        outside_error: outside_error / (255 * outside_cells.max(1)) as f32,
    })
}

/// What the picture might show instead; never the true scene.
fn alternatives(config: &WorldConfig, layout: Layout, example: &Example) -> Vec<Scene> {
    let (before, after) = (&example.scene_before, &example.scene_after);
    let mut scenes = vec![before.clone()];
    match example.edit {
        Edit::Background { .. } => {
            let others = config.backgrounds.iter();
            scenes.extend(others.map(|&background| Scene { background, ..after.clone() }));
        }
        Edit::Style { .. } => {
            scenes.extend(Style::ALL.iter().map(|&style| Scene { style, ..before.clone() }));
        }
        Edit::Add { .. }
        | Edit::Remove { .. }
        | Edit::Replace { .. }
        | Edit::Colour { .. }
        | Edit::Motion { .. } => {
            let result = example.edit.result(layout);
            let rest = result.and_then(|object| after.without(&object)).unwrap_or(after.clone());
            // Where nothing should be left, anything might be.
            let Some(object) = result.or(example.edit.target().copied()) else { return scenes };
            scenes.extend(lookalikes(config, layout, &object).map(|other| placed(&rest, other)));
            if let (Edit::Motion { .. }, Some(object)) = (example.edit, result) {
                scenes.push(placed(before, object));
            }
            scenes.push(rest);
        }
    }
    scenes.retain(|scene| scene != after);
    scenes
}

/// Every other object that could be taken for this one.
fn lookalikes(
    config: &WorldConfig,
    layout: Layout,
    object: &Object,
) -> impl Iterator<Item = Object> {
    let o = *object;
    let kinds = config.shapes.iter().flat_map(move |&shape| {
        config.colours.iter().map(move |&colour| Object { shape, colour, ..o })
    });
    let moved = Direction::ALL.iter().filter_map(move |&way| layout.offset(&o, way, layout.cell()));
    let sized = Size::ALL.iter().map(move |&size| {
        // Around the same centre, but not beyond the margin.
        let (first, last) = layout.range(size);
        let centred = |at: u32| {
            (at + layout.side(o.size) / 2).saturating_sub(layout.side(size) / 2).clamp(first, last)
        };
        Object { size, x: centred(o.x), y: centred(o.y), ..o }
    });
    kinds.chain(moved).chain(sized)
}

/// The scene with one more object, whatever stands in its way.
fn placed(scene: &Scene, object: Object) -> Scene {
    let mut scene = scene.clone();
    scene.objects.push(object);
    scene.objects.sort_by_key(|o| (o.y, o.x));
    scene
}

/// Sum of absolute differences.
fn distance(a: &RgbImage, b: &RgbImage) -> u64 {
    a.iter().zip(b.iter()).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum()
}

/// A rectangle of pixels inside a picture.
#[derive(Clone, Copy)]
struct Window {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Window {
    /// This and some pixels more to each side, as far as the picture goes.
    fn widened(self, by: u32, image: &RgbImage) -> Self {
        let (x, y) = (self.x.saturating_sub(by), self.y.saturating_sub(by));
        Self {
            x,
            y,
            width: (self.x + self.width + by).min(image.width()) - x,
            height: (self.y + self.height + by).min(image.height()) - y,
        }
    }

    fn pixels(self, image: &RgbImage) -> impl Iterator<Item = [f32; 3]> {
        let rows = self.y..self.y + self.height;
        rows.flat_map(move |y| (self.x..self.x + self.width).map(move |x| (x, y)))
            .map(|(x, y)| image.get_pixel(x, y).0.map(f32::from))
    }

    fn values(self) -> f32 {
        (3 * self.width * self.height) as f32
    }

    /// Mean absolute difference in levels.
    fn error(self, a: &RgbImage, b: &RgbImage) -> f32 {
        let differences = self.pixels(a).zip(self.pixels(b)).map(|(a, b)| absolute(a, b));
        differences.sum::<f32>() / self.values()
    }

    /// Mean absolute deviation from the window's mean, in levels.
    fn contrast(self, image: &RgbImage) -> f32 {
        let mut mean = [0.0; 3];
        for pixel in self.pixels(image) {
            mean.iter_mut().zip(pixel).for_each(|(mean, value)| *mean += value);
        }
        let mean = mean.map(|sum| 3.0 * sum / self.values());
        self.pixels(image).map(|pixel| absolute(pixel, mean)).sum::<f32>() / self.values()
    }
}

fn absolute(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum()
}
