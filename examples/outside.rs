//! What an edit does to the pixels that nobody asked to change: the table in docs/edits.md.
//!
//! ```text
//! cargo run -p editmgt-examples --example outside -- MODEL examples/photos/cat.jpg
//! ```
//!
//! Eight files are made of the photo, in several formats, orientations and odd sizes. Of each the
//! middle is edited, three times: without any hold (the raw decode), with the tokens outside the
//! mask held, and with the photo's own pixels put back there.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Cursor;

use editmgt::photo::{GrayImage, RgbImage};
use editmgt::{EditRequest, Editor, Mask, Photo, Silent};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, Luma};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo] = &args[..] else { return Err("usage: outside MODEL PHOTO".into()) };
    let files = files(&std::fs::read(photo)?)?;
    let editor = Editor::builder(model).build()?;
    println!("| file | raw decode | token hold alone | hold with composite |");
    println!("|---|---|---|---|");
    for (name, bytes) in files {
        let photo = editor.open(Photo::decode(&bytes)?);
        let drawing = middle(photo.photo().rgb());
        let mask = Mask::from_luma(drawing.clone());
        print!("| {name} |");
        for (mask, composite) in [(None, false), (Some(&mask), false), (Some(&mask), true)] {
            let request =
                EditRequest { steps: Some(4), composite, ..EditRequest::new("make the cat black") };
            let result = photo.edit(mask, &request, &mut Silent)?;
            print!(" {} |", outside(photo.photo().rgb(), result.image.rgb(), &drawing));
        }
        println!();
    }
    Ok(())
}

/// What it is, and the file's content.
type File = (&'static str, Vec<u8>);

/// The photo as it is, and seven others made of it.
fn files(photo: &[u8]) -> Result<Vec<File>, Box<dyn Error>> {
    let upright = DynamicImage::ImageRgb8(Photo::decode(photo)?.rgb().clone());
    let sized = |width, height| upright.resize_exact(width, height, FilterType::Lanczos3);
    let mut veiled = sized(257, 171).into_rgba8();
    veiled.enumerate_pixels_mut().for_each(|(x, _, pixel)| pixel.0[3] = 255 - (x / 2) as u8);
    let wide = |image: DynamicImage| DynamicImage::ImageRgb16(image.into_rgb16());
    let made = [
        ("PNG, 333x221", sized(333, 221), ImageFormat::Png),
        ("PNG with alpha, 257x171", veiled.into(), ImageFormat::Png),
        ("PNG of 16 bits, turned, 201x303", wide(sized(303, 201).rotate90()), ImageFormat::Png),
        ("TIFF, mirrored, 640x427", sized(640, 427).fliph(), ImageFormat::Tiff),
        ("BMP, 150x97", sized(150, 97), ImageFormat::Bmp),
        ("WebP, a part of 299x123", upright.crop_imm(40, 90, 299, 123), ImageFormat::WebP),
        ("GIF (256 colours), 225x150", sized(225, 150), ImageFormat::Gif),
    ];
    let mut files = vec![("JPEG, on its side by EXIF, 451x300", photo.to_vec())];
    for (name, image, format) in made {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format)?;
        files.push((name, bytes.into_inner()));
    }
    Ok(files)
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
