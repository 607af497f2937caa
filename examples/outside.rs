//! Change of pixels outside the requested region: the table in docs/edits.md.
//!
//! ```text
//! cargo run --release -p editmgt-examples --example outside -- MODEL "INSTRUCTION" SIZE PHOTO…
//! ```
//!
//! The centre of each photo is edited, with as many pixels as a square of SIZE, three times:
//! without any hold (the raw decode), with the tokens outside the mask held, and with the photo's
//! own pixels restored there.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use editmgt::photo::{GrayImage, RgbImage};
use editmgt::{CompositePolicy, EditRequest, Editor, HoldPolicy, Mask, Photo};
use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader, Luma};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, instruction, size, photos @ ..] = &args[..] else {
        return Err("usage: outside MODEL INSTRUCTION SIZE PHOTO…".into());
    };
    let size: usize = size.parse()?;
    let editor = Editor::builder(model).build()?;
    println!("| photo | raw decode | token hold only | hold with composite |");
    println!("|---|---|---|---|");
    for path in photos {
        let bytes = std::fs::read(path)?;
        let photo = editor.open_photo(Photo::from_bytes(&bytes)?);
        let drawing = middle(photo.photo().rgb());
        let mask = Mask::from_luma(drawing.clone());
        print!("| {} |", describe(Path::new(path), &bytes)?);
        for (mask, composite) in [
            (None, CompositePolicy::All),
            (Some(&mask), CompositePolicy::All),
            (Some(&mask), CompositePolicy::Held),
        ] {
            let hold = mask.map(|_| HoldPolicy::Mask).or(Some(HoldPolicy::Off));
            let mut request =
                EditRequest::new(instruction).size(size).hold(hold).composite(composite);
            request.mask = mask.map(|mask| Arc::new(mask.clone()));
            let result = photo.edit(request)?;
            print!(" {} |", outside(photo.photo().rgb(), result.image.rgb(), &drawing));
        }
        println!();
    }
    Ok(())
}

/// Name, kind of pixels, stored size, and orientation.
fn describe(path: &Path, bytes: &[u8]) -> Result<String, Box<dyn Error>> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let turn = match decoder.orientation()? {
        Orientation::NoTransforms => String::new(),
        turn => format!(", {turn:?}"),
    };
    let pixels = decoder.original_color_type();
    let name = path.file_name().unwrap_or_default().display();
    Ok(format!("{name}: {pixels:?}, {width}x{height}{turn}"))
}

/// White in the middle third of both sides.
fn middle(photo: &RgbImage) -> GrayImage {
    let (width, height) = photo.dimensions();
    GrayImage::from_fn(width, height, |x, y| {
        let inside = (width / 3..2 * width / 3).contains(&x);
        Luma([if inside && (height / 3..2 * height / 3).contains(&y) { 255 } else { 0 }])
    })
}

/// PSNR and share of changed bytes where the drawing is black.
fn outside(before: &RgbImage, after: &RgbImage, drawing: &GrayImage) -> String {
    let (mut bytes, mut changed, mut squares) = (0u64, 0u64, 0u64);
    for ((a, b), mask) in before.pixels().zip(after.pixels()).zip(drawing.pixels()) {
        if mask.0[0] > 0 {
            continue;
        }
        for (a, b) in a.0.iter().zip(b.0) {
            let off = u64::from(a.abs_diff(b));
            bytes += 1;
            changed += u64::from(off > 0);
            squares += off * off;
        }
    }
    let share = 100.0 * changed as f64 / bytes as f64;
    match squares {
        0 => format!("exact, {share:.0}%"),
        _ => {
            let error = squares as f64 / bytes as f64;
            format!("{:.1} dB, {share:.1}%", 10.0 * (255.0 * 255.0 / error).log10())
        }
    }
}
