//! Outside mask and feather an edited photo equals the photo, bit for bit: real and generated
//! photos, several formats, sizes and options. Compared pixels are read by `image` only.

use std::io::Cursor;

use editmgt::{Blend, EditRequest, EditResult, Editor, HoldPolicy, Mask, Photo, Resize};
use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Luma, Rgb,
    RgbImage, Rgba,
};
use proptest::prelude::*;

use crate::defaults::{masked, request, small};

/// An image with detail everywhere.
fn pixel(x: u32, y: u32) -> [u8; 4] {
    [x * 7, y * 5 + x, x * y + 40, 255 - x].map(|value| (value % 256) as u8)
}

fn rgb(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let [r, g, b, _] = pixel(x, y);
        Rgb([r, g, b])
    })
}

fn encode(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Pixels of 16 bits, none of which is an exact level of 8 bits.
fn sixteen(width: u32, height: u32) -> DynamicImage {
    let wide = |x, y| pixel(x, y).map(|level| (u16::from(level) * 257) ^ 0x55);
    let image = image::ImageBuffer::from_fn(width, height, |x, y| Rgba(wide(x, y)));
    DynamicImage::ImageRgba16(image)
}

/// The JPEG of an image stored on its side, with an EXIF orientation.
fn lying(width: u32, height: u32) -> Vec<u8> {
    let jpeg = encode(rgb(width, height).into(), ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01".to_vec();
    exif.extend_from_slice(&[1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    let (start, rest) = jpeg.split_at(2);
    [start, &[0xff, 0xe1], &length, &exif, rest].concat()
}

/// Real photos, and generated ones of the other kinds.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> =
        drawn().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    for entry in std::fs::read_dir("../examples/photos").unwrap() {
        let path = entry.unwrap().path();
        files.push((path.display().to_string(), std::fs::read(path).unwrap()));
    }
    assert!(files.len() >= 9 + 8, "photos are missing");
    files
}

fn drawn() -> Vec<(&'static str, Vec<u8>)> {
    let grey = |width, height| GrayImage::from_fn(width, height, |x, y| Luma([pixel(x, y)[1]]));
    let rgba = image::RgbaImage::from_fn(83, 64, |x, y| Rgba(pixel(x, y)));
    vec![
        ("PNG", encode(rgb(97, 61).into(), ImageFormat::Png)),
        ("PNG, grey", encode(grey(64, 64).into(), ImageFormat::Png)),
        ("PNG with alpha", encode(rgba.into(), ImageFormat::Png)),
        ("PNG of 16 bits", encode(sixteen(45, 71), ImageFormat::Png)),
        ("BMP", encode(rgb(33, 129).into(), ImageFormat::Bmp)),
        ("TIFF of 16 bits", encode(sixteen(60, 44), ImageFormat::Tiff)),
        ("WebP", encode(rgb(101, 55).into(), ImageFormat::WebP)),
        ("GIF", encode(rgb(48, 48).into(), ImageFormat::Gif)),
        ("JPEG on its side", lying(90, 67)),
    ]
}

/// The upright image, and its opacity.
fn read(bytes: &[u8]) -> (RgbImage, GrayImage) {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().unwrap();
    let mut decoder = reader.into_decoder().unwrap();
    let orientation = decoder.orientation().unwrap();
    let mut image = DynamicImage::from_decoder(decoder).unwrap();
    image.apply_orientation(orientation);
    let rgba = image.to_rgba8();
    let alpha =
        GrayImage::from_fn(rgba.width(), rgba.height(), |x, y| Luma([rgba.get_pixel(x, y).0[3]]));
    (image.into_rgb8(), alpha)
}

/// White in its middle, black outside, a grey border between.
fn mask(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        let edge = (x.min(width - 1 - x) * 8 / width).min(y.min(height - 1 - y) * 8 / height);
        Luma([[0, 0, 90, 255][edge.min(3) as usize]])
    })
}

/// The edit's contents are irrelevant here, only its region.
fn quick() -> EditRequest {
    request(40).steps(1).guidance_scale(1.0)
}

/// A result encoded in this format.
fn saved(result: &EditResult, name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    result.image.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn black_mask_area_is_the_photo_bit_for_bit() {
    let editor = Editor::new(small()).unwrap();
    for (name, bytes) in files() {
        let (before, opacity) = read(&bytes);
        let photo = editor.open_photo(Photo::from_bytes(&bytes).unwrap());
        let mask = mask(before.width(), before.height());
        let user = Mask::from_luma(mask.clone());
        for (resize, feather, blend, output) in [
            (Resize::Fit, 0, Blend::Srgb, "o.png"),
            (Resize::Pad, 3, Blend::Linear, "o.tiff"),
            (Resize::Crop, 9, Blend::Srgb, "o.webp"),
            (Resize::Fit, 9, Blend::Linear, "o.bmp"),
        ] {
            let context = format!("{name}, {resize:?}, feather {feather}, {blend:?}");
            let request = quick().resize(resize).feather(feather).blend(blend);
            let result = photo.edit(masked(&request, Some(&user))).unwrap();
            let (after, alpha) = read(&saved(&result, output));
            assert_eq!(after.dimensions(), before.dimensions(), "{context}");
            assert!(alpha == opacity, "{context}: another opacity");
            let mut changed = 0;
            for (x, y, pixel) in after.enumerate_pixels() {
                let own = before.get_pixel(x, y);
                match mask.get_pixel(x, y).0[0] {
                    0 => assert_eq!(pixel, own, "{context}: {x},{y}"),
                    _ => changed += usize::from(pixel != own),
                }
            }
            assert!(changed > 20, "{context}: only {changed} pixels changed");
        }
    }
}

#[test]
fn held_tokens_and_what_is_cropped_are_the_photo_bit_for_bit() {
    let editor = Editor::new(small()).unwrap();
    for (name, bytes) in files() {
        let (before, _) = read(&bytes);
        let photo = editor.open_photo(Photo::from_bytes(&bytes).unwrap());
        for (resize, feather) in [(Resize::Fit, 0), (Resize::Pad, 2), (Resize::Crop, 5)] {
            let hold = Some(HoldPolicy::Budget(0.3));
            let request = quick().resize(resize).feather(feather).hold(hold);
            let result = photo.edit(&request).unwrap();
            let (after, _) = read(&saved(&result, "o.png"));
            let grid = result.held.size();
            let rows = result.report.plan.token_rows(grid.height);
            let columns = result.report.plan.token_columns(grid.width);
            let mut own = 0;
            for (x, y, pixel) in after.enumerate_pixels() {
                let token = rows[y as usize].zip(columns[x as usize]);
                let stays = |(row, column)| result.held.held()[row * grid.width + column];
                if token.is_none_or(stays) {
                    assert_eq!(pixel, before.get_pixel(x, y), "{name}, {resize:?}: {x},{y}");
                    own += 1;
                }
            }
            assert!(own > 100, "{name}, {resize:?}: only {own} pixels were held");
        }
    }
}

/// A PNG stored in one of the eight EXIF orientations, and the image as it is shown. `alpha` 0 has
/// no opacity, 1 is a hole, 2 a ramp.
fn stored(width: u32, height: u32, orientation: u8, alpha: u8) -> (Vec<u8>, DynamicImage) {
    let opacity = |x: u32, y: u32| match alpha {
        1 if (x / 4 + y / 4).is_multiple_of(3) => 0,
        2 => (x * 255 / width) as u8,
        _ => 255,
    };
    let image = image::RgbaImage::from_fn(width, height, |x, y| {
        let [r, g, b, _] = pixel(x, y);
        Rgba([r, g, b, opacity(x, y)])
    });
    let mut image = DynamicImage::from(image);
    if alpha == 0 {
        image = image.into_rgb8().into();
    }
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    image.write_with_encoder(encoder).unwrap();
    image.apply_orientation(Orientation::from_exif(orientation).unwrap());
    (bytes, image)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_photos_keep_their_bytes_outside_random_masks(
        (width, height) in (16u32..64, 16u32..64),
        orientation in 1u8..=8,
        alpha in 0u8..3,
        (left, top, part) in (0.0f32..0.7, 0.0f32..0.7, 0.2f32..1.0),
        output in 0usize..4,
    ) {
        let (bytes, shown) = stored(width, height, orientation, alpha);
        let (before, opacity) = (shown.to_rgb8(), shown.to_rgba8());
        let (w, h) = before.dimensions();
        let (left, top) = ((left * w as f32) as u32, (top * h as f32) as u32);
        let inside = |x: u32, y: u32| {
            (left..left + (part * w as f32) as u32).contains(&x)
                && (top..top + (part * h as f32) as u32).contains(&y)
        };
        let level = |x, y| Luma([if inside(x, y) { 255 } else { 0 }]);
        let editor = Editor::new(small()).unwrap();
        let request = quick().mask(Mask::from_luma(GrayImage::from_fn(w, h, level)));
        let result = editor.edit(&Photo::from_bytes(&bytes).unwrap(), request).unwrap();
        let (after, after_opacity) = read(&saved(&result, ["o.png", "o.tiff", "o.webp", "o.bmp"][output]));
        prop_assert_eq!(after.dimensions(), (w, h));
        for (x, y, pixel) in after.enumerate_pixels() {
            prop_assert!(inside(x, y) || pixel == before.get_pixel(x, y), "{},{}", x, y);
            prop_assert_eq!(after_opacity.get_pixel(x, y).0[0], opacity.get_pixel(x, y).0[3]);
        }
    }
}
