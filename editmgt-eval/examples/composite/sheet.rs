//! A sheet of composites: photo, edit, eight times their difference.

use std::path::Path;

use editmgt::image::imageops::{self, FilterType};
use editmgt::image::{Rgb, RgbImage};
use editmgt::{CompositePolicy, Editor, HoldPolicy, Photo};
use editmgt_world::{Category, Split, World, trial};

use crate::edited::{IdealEdit, Outcome, request};

/// Side of an image on the sheet, pixels.
const SIDE: u32 = 160;
/// Between images, pixels.
const GAP: u32 = 4;
/// How many rows of three images beside each other.
const ACROSS: u32 = 3;
/// How many times differences are shown.
const TIMES: u8 = 8;

/// Scenes of the validation split with nothing held, then photos whose middle is recoloured.
pub(crate) fn write(world: &World, out: &Path, scenes: u64, photos: &[&str]) -> Outcome<()> {
    let editor = Editor::embedded().build()?;
    let request = request(&Some(HoldPolicy::Off)).composite(CompositePolicy::Visible);
    let mut rows = Vec::new();
    let local = (0..).filter(|&index| {
        let category = world.pair(Split::Validation, index).category;
        !matches!(category, Category::Background | Category::Style)
    });
    for index in local.take(scenes as usize) {
        let (_, example, result) = trial(&editor, world, (Split::Validation, index), &request)?;
        rows.push((example.pair.before, result.image.rgb().clone()));
    }
    for path in photos {
        rows.push(recoloured(&editor, path)?);
    }
    let count = rows.len() as u32;
    let (width, height) = (3 * ACROSS * (SIDE + GAP), count.div_ceil(ACROSS) * (SIDE + GAP));
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for (i, (photo, edit)) in (0..).zip(rows) {
        let difference = RgbImage::from_fn(photo.width(), photo.height(), |x, y| {
            let (a, b) = (photo.get_pixel(x, y).0, edit.get_pixel(x, y).0);
            Rgb([0, 1, 2].map(|c| a[c].abs_diff(b[c]).saturating_mul(TIMES)))
        });
        for (column, image) in [photo, edit, difference].iter().enumerate() {
            let shown = imageops::resize(image, SIDE, SIDE, FilterType::Nearest);
            let x = (3 * (i % ACROSS) + column as u32) * (SIDE + GAP);
            imageops::replace(&mut sheet, &shown, x.into(), (i / ACROSS * (SIDE + GAP)).into());
        }
    }
    sheet.save(out)?;
    Ok(())
}

/// A photo, and its composite with a true edit: the colours of a disk in its middle change places,
/// and the codec gives the tokens of both.
fn recoloured(editor: &Editor, path: &str) -> Outcome<(RgbImage, RgbImage)> {
    let photo = Photo::open(path)?;
    let rgb = imageops::resize(photo.rgb(), SIDE, SIDE, FilterType::Triangle);
    let middle = f64::from(SIDE) / 2.0;
    let truth = RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let [red, green, blue] = rgb.get_pixel(x, y).0;
        let off = (f64::from(x) - middle).hypot(f64::from(y) - middle);
        if off < middle / 2.0 { Rgb([blue, red, green]) } else { Rgb([red, green, blue]) }
    });
    let edit = IdealEdit::new(editor, rgb.clone(), truth)?;
    println!("{path}: noise of the codec {} levels", edit.noise()?);
    let image = edit.composite(editor)?;
    Ok((rgb, image))
}
