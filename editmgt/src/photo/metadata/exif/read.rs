use image::metadata::Orientation;

use super::tags::{self, Directory, Fate};
use super::{Block, CameraData, Entry};
use crate::photo::metadata::bytes::{Order, part};
use crate::photo::metadata::preview::contains_picture;

/// Prefix of an EXIF segment in JPEG, which some writers also use in other containers. The sixth
/// byte is padding.
const PREFIX: &[u8] = b"Exif\0";

/// A TIFF structure: a byte order, a magic number, the position of the first directory; a directory
/// is a count, that many entries, and the position of the next (TIFF 6.0, section 2; BigTIFF has
/// wider numbers).
#[derive(Debug, Clone, Copy)]
pub(in crate::photo::metadata) struct Structure<'a> {
    bytes: &'a [u8],
    order: Order,
    big: bool,
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(in crate::photo::metadata) struct Raw<'a> {
    pub(in crate::photo::metadata) tag: u16,
    kind: u16,
    /// `None` if the bytes end before the value, or the type is unknown.
    pub(in crate::photo::metadata) value: Option<&'a [u8]>,
}

impl<'a> Structure<'a> {
    /// Also returns the offset of the first directory.
    pub(in crate::photo::metadata) fn new(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let order = match bytes.get(..2)? {
            b"II" => Order::Little,
            b"MM" => Order::Big,
            _ => return None,
        };
        let (big, first) = match order.u16(bytes, 2)? {
            42 => (false, u64::from(order.u32(bytes, 4)?)),
            43 => (true, order.u64(bytes, 8)?),
            _ => return None,
        };
        Some((Self { bytes, order, big }, usize::try_from(first).ok()?))
    }

    /// The entries of a directory, and the offset of the next (0: none); `None` if the bytes end
    /// before.
    pub(in crate::photo::metadata) fn directory(&self, at: usize) -> Option<(Vec<Raw<'a>>, usize)> {
        let (bytes, order) = (self.bytes, self.order);
        let (count, head, size, inline) = if self.big {
            (order.u64(bytes, at)?, 8, 20, 8)
        } else {
            (order.u16(bytes, at)?.into(), 2, 12, 4)
        };
        let length = usize::try_from(count).ok()?.checked_mul(size)?;
        let body = part(bytes, at.checked_add(head)?, length)?;
        let entries = body.chunks_exact(size).map(|entry| {
            let number = |at| self.long(entry, at);
            let (tag, kind) = (order.u16(entry, 0)?, order.u16(entry, 2)?);
            let value = || {
                let count = usize::try_from(number(4)?).ok()?;
                let length = count.checked_mul(kind_size(kind)?)?;
                if length <= inline {
                    return part(entry, size - inline, length);
                }
                part(bytes, usize::try_from(number(size - inline)?).ok()?, length)
            };
            Some(Raw { tag, kind, value: value() })
        });
        let entries = entries.collect::<Option<_>>()?;
        let next = self.long(bytes, at + head + length).unwrap_or(0);
        Some((entries, usize::try_from(next).unwrap_or(0)))
    }

    /// A count or position.
    fn long(&self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.big { self.order.u64(bytes, at) } else { self.order.u32(bytes, at).map(u64::from) }
    }

    /// The first number of an integer entry, of any width.
    pub(in crate::photo::metadata) fn integer(&self, raw: &Raw<'_>) -> Option<u64> {
        integer(raw.kind, &little_endian(raw.kind, raw.value?, self.order))
    }

    /// Reads the directories that a photo keeps.
    fn block(&self, first: usize) -> Option<Block> {
        let mut main = self.directory(first)?.0;
        let mut damaged = false;
        let mut find = |directory: &[Raw<'a>], pointer: u16| {
            let entry = directory.iter().find(|entry| entry.tag == pointer)?;
            let place = self.integer(entry).and_then(|at| usize::try_from(at).ok());
            let found = place.and_then(|at| Some(self.directory(at)?.0));
            damaged |= found.is_none();
            found
        };
        let exif = find(&main, tags::EXIF_POINTER).unwrap_or_default();
        let gps = find(&main, tags::GPS_POINTER).unwrap_or_default();
        let interop = find(&exif, tags::INTEROP_POINTER).unwrap_or_default();
        let orientation = main.iter().find(|entry| entry.tag == tags::ORIENTATION);
        let orientation = orientation.and_then(|entry| self.integer(entry));
        let orientation = orientation.and_then(|value| u8::try_from(value).ok());
        let mut had_private = false;
        // Overlapping values could make the copy larger than the block.
        let mut room = self.bytes.len();
        // EXIF tags that some writers put into the main directory are kept there.
        main.sort_by_key(|entry| entry.tag);
        let mut keep = |entries: Vec<Raw<'a>>, directory: Directory| {
            let mut kept: Vec<Entry> = Vec::new();
            for raw in entries {
                match directory.fate(raw.tag) {
                    Fate::File => continue,
                    Fate::Private => {
                        had_private = true;
                        continue;
                    }
                    Fate::Kept => {}
                }
                let value =
                    raw.value.filter(|value| (1..=12).contains(&raw.kind) && !value.is_empty());
                let Some(value) = value.filter(|value| value.len() <= room) else {
                    damaged |= raw.value.is_none_or(|value| !value.is_empty());
                    continue;
                };
                if contains_picture(value) {
                    had_private = true;
                    continue;
                }
                // Images of 16 bits per channel have a longer table.
                let levels = value.len() / 2;
                if raw.tag == tags::TRANSFER_FUNCTION && ![256, 3 * 256].contains(&levels) {
                    continue;
                }
                if kept.iter().any(|entry| entry.tag == raw.tag) {
                    damaged = true;
                    continue;
                }
                room -= value.len();
                let value = little_endian(raw.kind, value, self.order);
                kept.push(Entry { tag: raw.tag, kind: raw.kind, value });
            }
            kept.sort_by_key(|entry| entry.tag);
            kept
        };
        let camera = CameraData {
            order: self.order,
            main: keep(main, Directory::Main),
            exif: keep(exif, Directory::Exif),
            gps: keep(gps, Directory::Gps),
            interop: keep(interop, Directory::Interop),
        };
        let orientation = orientation.and_then(Orientation::from_exif);
        Some(Block { camera, orientation, had_private, damaged })
    }
}

/// Parses an EXIF block; `None` if it is not a TIFF structure.
pub(in crate::photo::metadata) fn read_block(bytes: &[u8]) -> Option<Block> {
    let bytes = match bytes.strip_prefix(PREFIX) {
        Some(rest) => rest.get(1..)?,
        None => bytes,
    };
    let (structure, first) = Structure::new(bytes)?;
    structure.block(first)
}

/// Reads the camera data of a TIFF file, which are among its own tags; also the entries of its
/// first directory and whether another image follows.
pub(in crate::photo::metadata) fn read_tiff(bytes: &[u8]) -> Option<(Block, Vec<Raw<'_>>, bool)> {
    let (structure, first) = Structure::new(bytes)?;
    let (entries, mut next) = structure.directory(first)?;
    // A page is reduced (a preview) or a mask if bit 0 or 2 of NewSubfileType is set.
    let mut more = false;
    for _page in 0..MAX_PAGES {
        let Some((page, following)) = structure.directory(next).filter(|_| next != 0) else {
            break;
        };
        let kind = page.iter().find(|entry| entry.tag == NEW_SUBFILE_TYPE);
        let kind = kind.and_then(|entry| structure.integer(entry)).unwrap_or(0);
        more |= kind & 0b101 == 0;
        next = following;
    }
    Some((structure.block(first)?, entries, more))
}

const NEW_SUBFILE_TYPE: u16 = 0x00fe;
/// Most pages visited: directories can form a loop.
const MAX_PAGES: usize = 100;

/// The first number of an integer value (little endian), of any width and sign.
pub(super) fn integer(kind: u16, value: &[u8]) -> Option<u64> {
    let order = Order::Little;
    let number = match kind {
        1 | 6 | 7 => i64::from(*value.first()?),
        3 | 8 => i64::from(order.u16(value, 0)?),
        4 | 9 | 13 => i64::from(order.u32(value, 0)?),
        16..=18 => i64::try_from(order.u64(value, 0)?).ok()?,
        _ => return None,
    };
    u64::try_from(number).ok()
}

/// Bytes of one number; `None` for unknown types.
fn kind_size(kind: u16) -> Option<usize> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16..=18 => Some(8),
        _ => None,
    }
}

fn little_endian(kind: u16, value: &[u8], order: Order) -> Vec<u8> {
    let mut value = value.to_vec();
    if order == Order::Big {
        reverse(kind, &mut value);
    }
    value
}

/// Reverses the bytes of each number.
pub(in crate::photo::metadata) fn reverse(kind: u16, value: &mut [u8]) {
    let width = match kind {
        3 | 8 => 2,
        4 | 5 | 9 | 10 | 11 | 13 => 4,
        12 | 16..=18 => 8,
        _ => 1,
    };
    value.chunks_exact_mut(width).for_each(<[u8]>::reverse);
}
