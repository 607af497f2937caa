//! Raw metadata blocks of each format, not yet validated.
//!
//! Readers trust no length: a block that ends after the file is damaged, and gives a note.

mod bmp;
mod gif;
mod jpeg;
mod png;
mod tiff;
mod webp;

use std::borrow::Cow;

use image::ImageFormat;

use super::exif::Block;
use super::{Colours, Resolution};
use crate::photo::{MetadataKind, PhotoNote};
pub(super) use jpeg::XMP_PREFIX;
pub(super) use png::XMP_KEYWORD;

/// Longest ICC profile in bytes: the largest in use have two million, and 255 segments of a JPEG
/// hold 16.7 million.
const MAX_PROFILE: usize = 16_000_000;

/// The blocks of a file.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub(super) icc_profile: Option<Cow<'a, [u8]>>,
    pub(super) colours: Colours,
    /// An EXIF block, if the format has one.
    pub(super) exif: Option<Cow<'a, [u8]>>,
    /// A TIFF file's own tags.
    pub(super) camera: Option<Block>,
    pub(super) xmp: Option<Cow<'a, [u8]>>,
    pub(super) resolution: Option<Resolution>,
    pub(super) notes: Vec<PhotoNote>,
}

impl<'a> Found<'a> {
    pub(super) fn read(bytes: &'a [u8], format: ImageFormat) -> Self {
        let mut found = Self::default();
        // A truncated file has the blocks before its end.
        let _ended = match format {
            ImageFormat::Png => png::read(bytes, &mut found),
            ImageFormat::Jpeg => jpeg::read(bytes, &mut found),
            ImageFormat::WebP => webp::read(bytes, &mut found),
            ImageFormat::Tiff => tiff::read(bytes, &mut found),
            ImageFormat::Bmp => bmp::read(bytes, &mut found),
            ImageFormat::Gif => gif::read(bytes, &mut found),
            _ => None,
        };
        found
    }

    pub(super) fn note(&mut self, note: PhotoNote) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn damaged(&mut self, what: MetadataKind) {
        self.note(PhotoNote::Damaged { what });
    }
}
