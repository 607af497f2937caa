use image::{GrayImage, Rgb, RgbImage, imageops};

use crate::EditPair;

/// Pixels between the images of an example, and between examples.
const GAP: u32 = 8;
const SPACE: u32 = 28;
const PAGE: [u8; 3] = [255, 255, 255];
const FRAME: [u8; 3] = [206, 208, 214];
/// Colours of the mask.
const OFF: [u8; 3] = [38, 40, 48];
const ON: [u8; 3] = [255, 196, 64];

/// A contact sheet of pairs: before, after and the mask, in reading order. Images of another size
/// than the first example's are cropped or padded.
pub fn contact_sheet(examples: &[&EditPair]) -> RgbImage {
    let Some(first) = examples.first() else { return RgbImage::new(0, 0) };
    let (width, height) = first.before.dimensions();
    let block = 3 * width + 2 * GAP;
    // Enough columns for a roughly square sheet.
    let columns = ((examples.len() as f32 * (height + SPACE) as f32 / (block + SPACE) as f32)
        .sqrt())
    .round()
    .max(1.0) as u32;
    let rows = (examples.len() as u32).div_ceil(columns);
    let mut sheet = RgbImage::from_pixel(
        columns * (block + SPACE) + SPACE,
        rows * (height + SPACE) + SPACE,
        Rgb(PAGE),
    );
    for (i, example) in (0..).zip(examples) {
        let x = SPACE + i % columns * (block + SPACE);
        let y = SPACE + i / columns * (height + SPACE);
        let mask = example.changed.as_ref().map(tinted);
        let pictures = [Some(&example.before), Some(&example.after), mask.as_ref()];
        for (place, picture) in (0..).zip(pictures) {
            let x = x + place * (width + GAP);
            let frame = RgbImage::from_pixel(width + 2, height + 2, Rgb(FRAME));
            imageops::replace(&mut sheet, &frame, i64::from(x) - 1, i64::from(y) - 1);
            if let Some(picture) = picture {
                let cut = imageops::crop_imm(picture, 0, 0, width, height).to_image();
                imageops::replace(&mut sheet, &cut, x.into(), y.into());
            }
        }
    }
    sheet
}

fn tinted(mask: &GrayImage) -> RgbImage {
    RgbImage::from_fn(mask.width(), mask.height(), |x, y| {
        Rgb(if mask.get_pixel(x, y).0[0] > 0 { ON } else { OFF })
    })
}
