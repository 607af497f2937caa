//! EXIF blocks: a TIFF structure of camera data.
//!
//! A block is never copied verbatim. It is parsed into [`CameraData`], which has the tags defined
//! by TIFF and EXIF, and written from that. So nothing remains of a thumbnail (its directory is the
//! second), of a preview in private tags, or of bytes between the values.

mod read;
mod tags;
mod write;

use image::metadata::Orientation;

use super::Resolution;
use super::bytes::Order;
use crate::photo::PixelSize;
pub(super) use read::{Structure, read_block, read_tiff, reverse};
pub(super) use tags::*;

/// A tag and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tag: u16,
    /// Type of the value's numbers, 1 to 12 (TIFF 6.0, section 2).
    pub(super) kind: u16,
    /// The numbers, each in little endian.
    pub(super) value: Vec<u8>,
}

/// The tags of a block that are kept with a photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CameraData {
    /// Byte order of the block, also used by texts in UTF-16.
    pub(super) order: Order,
    pub(super) main: Vec<Entry>,
    pub(super) exif: Vec<Entry>,
    pub(super) gps: Vec<Entry>,
    pub(super) interop: Vec<Entry>,
}

/// A parsed block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) camera: CameraData,
    /// Orientation to apply; `None` if the block has none.
    pub(super) orientation: Option<Orientation>,
    /// Whether tags without a public definition were dropped.
    pub(super) had_private: bool,
    /// Whether values were dropped because the block is truncated or inconsistent.
    pub(super) damaged: bool,
}

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;

impl CameraData {
    /// Without tags.
    pub(super) fn empty() -> Self {
        let none = Vec::new;
        Self { order: Order::Little, main: none(), exif: none(), gps: none(), interop: none() }
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.main, &self.exif, &self.gps, &self.interop].iter().all(|entries| entries.is_empty())
    }

    /// Adapts the tags to rotated pixels: `size` is theirs, upright.
    pub(super) fn turn(&mut self, orientation: Orientation, size: PixelSize) {
        for entry in &mut self.main {
            if entry.tag == ORIENTATION {
                *entry = Entry { tag: ORIENTATION, kind: SHORT, value: vec![1, 0] };
            }
        }
        for (tag, side) in [(PIXEL_X_DIMENSION, size.width), (PIXEL_Y_DIMENSION, size.height)] {
            for entry in self.exif.iter_mut().filter(|entry| entry.tag == tag) {
                entry.kind = LONG;
                entry.value = (side as u32).to_le_bytes().to_vec();
            }
        }
        if orientation != Orientation::NoTransforms {
            // Positions in the stored pixels.
            self.exif.retain(|entry| ![SUBJECT_AREA, SUBJECT_LOCATION].contains(&entry.tag));
        }
        if is_quarter_turn(orientation) {
            swap(&mut self.main, X_RESOLUTION, Y_RESOLUTION);
            swap(&mut self.exif, FOCAL_PLANE_X, FOCAL_PLANE_Y);
        }
    }

    /// The tags of the main directory.
    pub(super) fn resolution(&self) -> Option<Resolution> {
        let rational = |tag| {
            let entry = self.main.iter().find(|entry| entry.tag == tag)?;
            (entry.kind == RATIONAL).then_some(&entry.value[..])
        };
        let unit = self.main.iter().find(|entry| entry.tag == RESOLUTION_UNIT);
        let unit = unit.and_then(|entry| read::integer(entry.kind, &entry.value));
        let unit = unit.and_then(|unit| u32::try_from(unit).ok());
        Resolution::from_tags(rational(X_RESOLUTION)?, rational(Y_RESOLUTION)?, unit)
    }

    /// Removes meaningless resolution tags, as some TIFF writers add.
    pub(super) fn drop_empty_resolution(&mut self) {
        if self.resolution().is_none() {
            let tags = [X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT];
            self.main.retain(|entry| !tags.contains(&entry.tag));
        }
    }

    /// Replaces the resolution tags.
    pub(super) fn set_resolution(&mut self, resolution: Resolution) {
        let tags = [X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT];
        self.main.retain(|entry| !tags.contains(&entry.tag));
        let (x, y, unit) = resolution.tags();
        for (tag, (numerator, denominator)) in [(X_RESOLUTION, x), (Y_RESOLUTION, y)] {
            let value = [numerator.to_le_bytes(), denominator.to_le_bytes()].concat();
            self.main.push(Entry { tag, kind: RATIONAL, value });
        }
        let value = unit.to_le_bytes().to_vec();
        self.main.push(Entry { tag: RESOLUTION_UNIT, kind: SHORT, value });
        self.main.sort_by_key(|entry| entry.tag);
    }
}

/// Whether width and height are swapped.
pub(super) fn is_quarter_turn(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

fn swap(entries: &mut [Entry], one: u16, other: u16) {
    let place = |tag| entries.iter().position(|entry| entry.tag == tag);
    if let (Some(a), Some(b)) = (place(one), place(other)) {
        entries.swap(a, b);
        (entries[a].tag, entries[b].tag) = (one, other);
    }
}

#[cfg(test)]
mod tests;
