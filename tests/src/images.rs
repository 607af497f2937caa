//! Writes and reads test images.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Luma, RgbImage};

/// The upright image, and the orientation stored in the file.
pub fn read(path: &Path) -> (RgbImage, Orientation) {
    let mut decoder = ImageReader::open(path).unwrap().into_decoder().unwrap();
    let orientation = decoder.orientation().unwrap();
    let mut image = DynamicImage::from_decoder(decoder).unwrap();
    image.apply_orientation(orientation);
    (image.into_rgb8(), orientation)
}

/// A grey PNG, the level of each pixel given by its column.
pub fn png(width: u32, height: u32, level: impl Fn(u32) -> u8) -> Vec<u8> {
    let image = GrayImage::from_fn(width, height, |x, _| Luma([level(x)]));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A PNG whose header claims another size.
pub fn png_that_claims(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(16, 16, |_| 128);
    // The header: 8 bytes of signature, length and name of the chunk, then width and height.
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The checksum of PNG's chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ 0xEDB8_8320,
            _ => crc >> 1,
        })
    })
}

/// Share of the pixels in `columns` that are equal in both images.
pub fn equal(a: &RgbImage, b: &RgbImage, columns: std::ops::Range<u32>) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let pixels = || a.enumerate_pixels().filter(|(x, ..)| columns.contains(x));
    let equal = pixels().filter(|(x, y, pixel)| b.get_pixel(*x, *y) == *pixel).count();
    equal as f64 / pixels().count() as f64
}
