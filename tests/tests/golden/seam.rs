//! Visibility of the seam between photo and edit, for each way to mix them:
//! `cargo test --workspace --test golden seam -- --nocapture` prints the table in docs/edits.md.
//!
//! Two generated cases. *Drift*: the truth is the photo, and the codec returns it slightly blurred
//! and each channel a few levels brighter or darker, which makes seams visible. *Contrast*: a
//! bright edit in a dark photo reaches the seam, so that the ramp itself is visible.

use editmgt::photo::{Blend, ChangeMask, Composite};
use editmgt::{GridSize, HoldMask, PixelSize, ResizePlan};
use image::{Rgb, RgbImage, imageops};

const SIDE: u32 = 256;
/// Pixels per token.
const CELL: u32 = 16;
/// Held tokens on each side.
const RIM: u32 = 4;
/// Width of the band in which errors are counted, in pixels.
const BAND: u32 = 32;

/// Smooth colours, as of skies and walls, where seams are most visible.
fn photo() -> RgbImage {
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let (x, y) = (x as f32 / SIDE as f32, y as f32 / SIDE as f32);
        let wave = (6.0 * x).sin() * (5.0 * y).cos();
        Rgb([150.0 + 50.0 * wave, 120.0 + 80.0 * x, 200.0 - 90.0 * y].map(|value| value as u8))
    })
}

/// The codec's output for it.
fn decoded(photo: &RgbImage) -> RgbImage {
    let mut picture = imageops::blur(photo, 1.0);
    for pixel in picture.pixels_mut() {
        for (level, drift) in pixel.0.iter_mut().zip([6i16, -4, 5]) {
            *level = (i16::from(*level) + drift).clamp(0, 255) as u8;
        }
    }
    picture
}

fn change(feather: usize) -> ChangeMask {
    let cells = (SIDE / CELL) as usize;
    let inside = |i: usize| (RIM as usize..cells - RIM as usize).contains(&i);
    let held = (0..cells * cells).map(|i| !(inside(i / cells) && inside(i % cells))).collect();
    let hold = HoldMask::new(1, GridSize::new(cells, cells), held).unwrap();
    let plan = ResizePlan::native(PixelSize::new(SIDE as usize, SIDE as usize), 1).unwrap();
    ChangeMask::new(&hold, 0, &plan).unwrap().feathered(feather).unwrap()
}

/// The largest step between neighbours that is not in the truth, towards the inside of the edit:
/// the mean over all rows that cross the left seam and over the channels. `scale` converts a level
/// to lightness.
fn seam_error(picture: &RgbImage, truth: &RgbImage, scale: fn(u8) -> f64) -> f64 {
    let (seam, rows) = (RIM * CELL, RIM * CELL + BAND..SIDE - RIM * CELL - BAND);
    let (mut sum, mut count) = (0.0, 0.0);
    for y in rows {
        for channel in 0..3 {
            let step = |image: &RgbImage, x: u32| {
                let level = |x| scale(image.get_pixel(x, y).0[channel]);
                level(x) - level(x - 1)
            };
            let excess = |x| (step(picture, x) - step(truth, x)).abs();
            sum += (seam..seam + BAND).map(excess).fold(0.0, f64::max);
            count += 1.0;
        }
    }
    sum / count
}

fn composite(photo: &RgbImage, edit: &RgbImage, feather: usize, blend: Blend) -> RgbImage {
    let change = change(feather);
    Composite { photo, edit, change: &change, blend }.render().unwrap()
}

/// In levels of 255.
fn drift(feather: usize, blend: Blend) -> f64 {
    let photo = photo();
    seam_error(&composite(&photo, &decoded(&photo), feather, blend), &photo, f64::from)
}

/// In units of CIE lightness L*, 0 to 100, in which a step of 1 is just visible, dark or bright.
fn contrast(feather: usize, blend: Blend) -> f64 {
    let grey = |level| RgbImage::from_pixel(SIDE, SIDE, Rgb([level; 3]));
    let (photo, edit) = (grey(30), grey(220));
    seam_error(&composite(&photo, &edit, feather, blend), &photo, lightness)
}

/// Source: CIE 15 and IEC 61966-2-1.
fn lightness(level: u8) -> f64 {
    let value = f64::from(level) / 255.0;
    let light = if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) };
    if light <= 0.008856 { 903.3 * light } else { 116.0 * light.cbrt() - 16.0 }
}

#[test]
fn a_feather_hides_the_seam_and_file_values_hide_it_better_than_light() {
    println!(
        "| feather | drift, `srgb` | drift, `linear` | contrast, `srgb` | contrast, `linear` |"
    );
    println!("|---|---|---|---|---|");
    for feather in [0, 2, 4, 8, 16] {
        let both = [Blend::Srgb, Blend::Linear];
        let ([drift_srgb, drift_linear], [srgb, linear]) =
            (both.map(|blend| drift(feather, blend)), both.map(|blend| contrast(feather, blend)));
        println!("| {feather} | {drift_srgb:.1} | {drift_linear:.1} | {srgb:.1} | {linear:.1} |");
        // Over a drift of few levels both are straight lines; over a contrast they are not.
        assert!(drift_srgb <= drift_linear, "{feather}");
        match feather {
            // Nothing is mixed: the whole drift, and the whole contrast.
            0 => assert!(srgb == linear && srgb > 70.0 && (4.0..8.0).contains(&drift_srgb)),
            // The reason for file values as the default.
            _ => assert!(srgb < 0.75 * linear, "{feather}: {srgb} {linear}"),
        }
    }
    assert!(drift(8, Blend::Srgb) < 0.5 * drift(0, Blend::Srgb));
    assert_eq!(Blend::default(), Blend::Srgb);
}
