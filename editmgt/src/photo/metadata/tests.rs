//! Every input format, output format and item; and random damage.

use image::{ExtendedColorType, GrayImage, ImageEncoder, RgbImage};

use super::*;
use crate::photo::{Photo, SaveOptions};

mod containers;
mod damage;
mod pairs;

fn rgb() -> RgbImage {
    RgbImage::from_fn(24, 16, |x, y| image::Rgb([(x * 9) as u8, (y * 14) as u8, 60]))
}

/// An RGB profile with the byte 7 after the header.
fn profile() -> Vec<u8> {
    [&[0; 16][..], b"RGB ", &[7; 108]].concat()
}

fn packet(body: &str) -> String {
    format!(
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
         xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description \
         xmlns:xmp=\"http://ns.adobe.com/xap/1.0/\" \
         xmlns:i=\"http://ns.adobe.com/xap/1.0/g/img/\" \
         xmlns:tiff=\"http://ns.adobe.com/tiff/1.0/\" xmp:Rating=\"4\">{body}</rdf:Description>\
         </rdf:RDF></x:xmpmeta>"
    )
}

fn plain(format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::from(rgb()).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn saved(photo: &Photo, extension: &str, options: &SaveOptions) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a").with_extension(extension);
    photo.save_with(&path, options).unwrap();
    std::fs::read(path).unwrap()
}
