//! Metadata of a photo.
//!
//! ```text
//! file ─► read::Found (raw blocks) ─► Metadata (checked, upright, without previews) ─► write
//! ```
//!
//! Nothing is copied verbatim: blocks that can contain the image before the edit, as a thumbnail, a
//! preview or a gain map, are rewritten without it ([`exif`], [`xmp`]). Other data that is dropped
//! or unreadable gives a [`PhotoNote`].

mod bytes;
mod colour;
mod exif;
mod preview;
mod read;
mod resolution;
mod write;
mod xmp;

use std::borrow::Cow;

use image::ImageFormat;
use image::metadata::Orientation;

use super::{MetadataKind, PhotoNote, PixelSize};
pub use colour::Colours;
use exif::{CameraData, is_quarter_turn};
use read::Found;
pub use resolution::{Resolution, ResolutionUnit};
pub(super) use write::{Pixels, encode, losses};

/// Metadata that is copied from the photo to the edited photo. None of it shows the image before
/// the edit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// ICC profile for RGB, if the file had one. (A profile for grey or CMYK pixels is dropped:
    /// photos are kept as RGB.)
    pub icc_profile: Option<Vec<u8>>,
    /// Colour space other than by a profile.
    pub colours: Colours,
    /// EXIF block (a TIFF structure): the tags that TIFF and EXIF define, upright, without
    /// thumbnail, previews and MakerNote.
    pub exif: Option<Vec<u8>>,
    /// XMP packet (XML in UTF-8), upright, without thumbnails and other images.
    pub xmp: Option<Vec<u8>>,
    /// Print size.
    pub resolution: Option<Resolution>,
}

/// Parsed metadata and orientation of a file.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) metadata: Metadata,
    /// Orientation to apply.
    pub(super) orientation: Orientation,
    pub(super) notes: Vec<PhotoNote>,
}

impl Metadata {
    /// Parses the metadata of a file whose pixels are stored as `stored`.
    ///
    /// Damaged metadata is dropped with a note; the photo is still read.
    pub(super) fn read(bytes: &[u8], format: ImageFormat, stored: PixelSize) -> Contents {
        let mut found = Found::read(bytes, format);
        if let Some(block) = found.exif.take().filter(|block| !block.is_empty()) {
            found.camera = exif::read_block(&block);
            if found.camera.is_none() {
                found.note(PhotoNote::Damaged { what: MetadataKind::CameraData });
            }
        }
        let mut applied = None;
        let mut camera = None;
        if let Some(block) = found.camera.take() {
            if block.had_private {
                found.note(PhotoNote::PrivateCameraData);
            }
            if block.damaged {
                found.note(PhotoNote::Damaged { what: MetadataKind::CameraData });
            }
            applied = block.orientation;
            camera = Some(block.camera);
        }
        let orientation = applied.unwrap_or(Orientation::NoTransforms);
        let quarter = is_quarter_turn(orientation);
        let size = if quarter { PixelSize::new(stored.width, stored.height) } else { stored };
        if let Some(camera) = &mut camera {
            camera.turn(orientation, size);
            camera.drop_empty_resolution();
        }
        let resolution = found
            .resolution
            .map(|resolution| if quarter { resolution.transposed() } else { resolution });
        let resolution = resolution.or_else(|| camera.as_ref()?.resolution());
        let xmp = found.xmp.take().filter(|packet| !packet.is_empty());
        let xmp = xmp.and_then(|packet| match xmp::clean(&packet, applied) {
            Some(packet) => {
                if packet.had_gain_map {
                    found.note(PhotoNote::GainMap);
                }
                Some(packet.xml)
            }
            None => {
                found.note(PhotoNote::Damaged { what: MetadataKind::Xmp });
                None
            }
        });
        if found.colours.check() {
            found.note(PhotoNote::Damaged { what: MetadataKind::Colours });
        }
        let profile = found.icc_profile.take().filter(|profile| !profile.is_empty());
        let icc_profile = profile.and_then(|profile| match colour_space(&profile) {
            Some(b"RGB ") => Some(profile.into_owned()),
            Some(_) => {
                found.note(PhotoNote::OtherProfile);
                None
            }
            None => {
                found.note(PhotoNote::Damaged { what: MetadataKind::ColourProfile });
                None
            }
        });
        let exif = camera.filter(|camera| !camera.is_empty()).map(|camera| camera.to_block());
        let metadata = Self { icc_profile, colours: found.colours, exif, xmp, resolution };
        Contents { metadata, orientation, notes: found.notes }
    }

    /// The ICC profile for a format without other colour metadata, and whether colours are lost.
    fn profile(&self) -> (Option<Cow<'_, [u8]>>, bool) {
        let own = self.icc_profile.as_deref().map(Cow::Borrowed);
        if own.is_some() && self.colours.cicp.is_none() {
            return (own, false);
        }
        match self.colours.to_profile() {
            Ok(profile) => (profile.map(Cow::Owned), false),
            Err(colour::Unconvertible) => {
                let lost = own.is_none();
                (own, lost)
            }
        }
    }

    fn camera(&self) -> Option<CameraData> {
        Some(exif::read_block(self.exif.as_ref()?)?.camera)
    }
}

/// Bytes 16 to 19 of an ICC profile name its colour space (ICC.1:2022, section 7.2).
fn colour_space(profile: &[u8]) -> Option<&[u8; 4]> {
    profile.get(16..)?.first_chunk()
}

#[cfg(test)]
mod tests;
