use editmgt_core::{Error, Result};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::window::Window;

/// A cell is right when its mean absolute error, in levels of 255, is at most this …
const PLAIN_TOLERANCE: f32 = 12.0;
/// … plus this share of its own contrast (the mean absolute deviation of the true cell and a
/// quarter of a cell around it): a codec blurs edges, not plains.
const CONTRAST_SHARE: f32 = 0.35;

/// Outcome of an edit.
///
/// The image is compared with the true one cell by cell, and with every alternative: each object
/// with every other shape and colour (including those disabled in the config), missing, of another
/// size, or one cell off to each side; the scene before; for a removal, anything left in the
/// object's place; for a motion, the object at both places; for background and style, all the
/// others. Alternatives that look like the true image (two colours of equal luma in greyscale) are
/// ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement<S = crate::Scene> {
    /// Strict success: `right`, no wrong cell outside the change, and at most 2% of the changed
    /// cells wrong: none of an object, one where a big one moves far, five where the whole image
    /// changes.
    pub success: bool,
    /// Whether the image is closer to the true scene than to every alternative, by the sum of
    /// absolute differences.
    pub right: bool,
    /// The scene closest to the image, which shows what went wrong unless it is the true one.
    pub nearest: S,
    /// Cells that hold a pixel of the true change.
    pub changed_cells: usize,
    /// Wrong cells among them.
    pub wrong_changed: usize,
    /// The other cells.
    pub outside_cells: usize,
    /// Wrong cells among them: these should be unchanged.
    pub wrong_outside: usize,
    /// Mean absolute error over the cells outside, 0..=1.
    pub outside_error: f32,
}

impl<S> Judgement<S> {
    /// Maps the scenes to another type.
    pub(crate) fn map_scene<T>(self, map: impl FnOnce(S) -> T) -> Judgement<T> {
        Judgement {
            success: self.success,
            right: self.right,
            nearest: map(self.nearest),
            changed_cells: self.changed_cells,
            wrong_changed: self.wrong_changed,
            outside_cells: self.outside_cells,
            wrong_outside: self.wrong_outside,
            outside_error: self.outside_error,
        }
    }
}

/// An edited image with its expected image.
pub(crate) struct Judged<'a, S> {
    pub(crate) scene: &'a S,
    pub(crate) truth: &'a RgbImage,
    pub(crate) before: &'a RgbImage,
    pub(crate) image: &'a RgbImage,
    /// Cells along each side.
    pub(crate) cells: u32,
    /// The share of the changed cells that may be wrong.
    pub(crate) wrong_changed_share: f32,
}

/// Judges an edited image against alternatives: scenes with the window where each differs from the
/// true one, and its pixels there.
///
/// # Errors
/// [`Error::Value`] when the image's size differs from the true one's.
pub(crate) fn judge<S: Clone + PartialEq>(
    judged: &Judged<'_, S>,
    alternatives: impl IntoIterator<Item = (S, Window, RgbImage)>,
) -> Result<Judgement<S>> {
    let &Judged { truth, before, image, cells, .. } = judged;
    if image.dimensions() != truth.dimensions() {
        let size = |image: &RgbImage| format!("{}x{}", image.width(), image.height());
        return Err(Error::value("image", size(truth), size(image)));
    }

    let mut nearest = judged.scene.clone();
    let mut least = 0;
    for (scene, window, alternative) in alternatives {
        // A tie is not a success: the image is ambiguous.
        match farther(&alternative, window, truth, image) {
            Some(margin) if margin <= least => (nearest, least) = (scene, margin),
            _ => {}
        }
    }
    let right = nearest == *judged.scene;

    let cell = truth.width() / cells;
    let (mut changed_cells, mut wrong_changed) = (0, 0);
    let (mut outside_cells, mut wrong_outside, mut outside_error) = (0, 0, 0.0);
    for (x, y) in
        (0..cells).flat_map(|row| (0..cells).map(move |column| (column * cell, row * cell)))
    {
        let window = Window { x, y, width: cell, height: cell };
        let off = error(window, image, truth);
        let limit =
            PLAIN_TOLERANCE + CONTRAST_SHARE * contrast(widened(window, cell / 4, truth), truth);
        let wrong = usize::from(off > limit);
        if error(window, before, truth) > 0.0 {
            changed_cells += 1;
            wrong_changed += wrong;
        } else {
            outside_cells += 1;
            wrong_outside += wrong;
            outside_error += off;
        }
    }
    let allowed = (judged.wrong_changed_share * changed_cells as f32) as usize;
    Ok(Judgement {
        success: right && wrong_outside == 0 && wrong_changed <= allowed,
        right,
        nearest,
        changed_cells,
        wrong_changed,
        outside_cells,
        wrong_outside,
        outside_error: outside_error / (255 * outside_cells.max(1)) as f32,
    })
}

/// How much farther the image is from an alternative, painted in this window, than from the true
/// image: the difference of the two sums of absolute differences. `None` if the alternative differs
/// from the true image by no more than a codec's error, such as red from blue in greyscale.
fn farther(
    alternative: &RgbImage,
    window: Window,
    truth: &RgbImage,
    image: &RgbImage,
) -> Option<i64> {
    let (mut values, mut apart, mut farther) = (0, 0, 0);
    for (Rgb(other), (x, y)) in alternative.pixels().zip(window.points()) {
        let (Rgb(truth), Rgb(image)) = (truth.get_pixel(x, y), image.get_pixel(x, y));
        if other == truth {
            continue;
        }
        values += 3;
        for ((&other, &truth), &value) in other.iter().zip(truth).zip(image) {
            apart += u32::from(other.abs_diff(truth));
            farther += i64::from(value.abs_diff(other)) - i64::from(value.abs_diff(truth));
        }
    }
    (apart as f32 > PLAIN_TOLERANCE * values as f32).then_some(farther)
}

/// The window enlarged by a number of pixels on each side, clipped to the image.
fn widened(window: Window, by: u32, picture: &RgbImage) -> Window {
    let (x, y) = (window.x.saturating_sub(by), window.y.saturating_sub(by));
    Window {
        x,
        y,
        width: (window.x + window.width + by).min(picture.width()) - x,
        height: (window.y + window.height + by).min(picture.height()) - y,
    }
}

fn pixels(window: Window, picture: &RgbImage) -> impl Iterator<Item = [f32; 3]> {
    window.points().map(|(x, y)| picture.get_pixel(x, y).0.map(f32::from))
}

fn values(window: Window) -> f32 {
    (3 * window.width * window.height) as f32
}

/// Mean absolute difference in levels.
fn error(window: Window, a: &RgbImage, b: &RgbImage) -> f32 {
    let differences = pixels(window, a).zip(pixels(window, b)).map(|(a, b)| absolute(a, b));
    differences.sum::<f32>() / values(window)
}

/// Mean absolute deviation from the window's mean, in levels.
fn contrast(window: Window, picture: &RgbImage) -> f32 {
    let mut mean = [0.0; 3];
    for pixel in pixels(window, picture) {
        mean.iter_mut().zip(pixel).for_each(|(mean, value)| *mean += value);
    }
    let mean = mean.map(|sum| 3.0 * sum / values(window));
    pixels(window, picture).map(|pixel| absolute(pixel, mean)).sum::<f32>() / values(window)
}

fn absolute(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum()
}
