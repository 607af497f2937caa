use std::borrow::Cow;

use super::{Found, MAX_PROFILE};
use crate::photo::metadata::bytes::{Order, part};
use crate::photo::metadata::xmp;
use crate::photo::metadata::{Resolution, ResolutionUnit};
use crate::photo::{MetadataKind, PhotoNote};

pub(in crate::photo::metadata) const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const XMP_EXTENSION: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
const ICC_PREFIX: &[u8] = b"ICC_PROFILE\0";
const PHOTOSHOP: &[u8] = b"Photoshop 3.0\0";
/// Index of the images in the file (CIPA DC-007, Multi-Image Format).
const PICTURES: &[u8] = b"MPF\0";
/// ISO 21496-1: a gain map follows.
const GAIN_MAP: &[u8] = b"urn:iso:std:iso:ts:21496:-1\0";

const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;
const APP13: u8 = 0xed;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Segments of a marker, a length and a body, until the first scan (ITU-T T.81, annex B).
pub(super) fn read<'a>(bytes: &'a [u8], found: &mut Found<'a>) -> Option<()> {
    let mut profile = Vec::new();
    for (marker, at, body) in segments(bytes) {
        match marker {
            APP0 if body.starts_with(b"JFIF\0") => found.resolution = density(body),
            APP1 if body.starts_with(b"Exif\0") => {
                found.exif.get_or_insert(Cow::Borrowed(body));
            }
            APP1 if body.starts_with(XMP_PREFIX) => {
                found.xmp.get_or_insert(Cow::Borrowed(&body[XMP_PREFIX.len()..]));
            }
            APP1 if body.starts_with(XMP_EXTENSION) => found.note(PhotoNote::ExtendedXmp),
            APP2 if body.starts_with(ICC_PREFIX) => profile.push(&body[ICC_PREFIX.len()..]),
            APP2 if body.starts_with(GAIN_MAP) => found.note(PhotoNote::GainMap),
            APP2 if body.starts_with(PICTURES) => {
                let structure = bytes.get(at + PICTURES.len()..)?;
                match pictures(structure, body.len() - PICTURES.len()) {
                    Some(Pictures::GainMap) => found.note(PhotoNote::GainMap),
                    Some(Pictures::Others) => found.note(PhotoNote::MorePictures),
                    None => {}
                }
            }
            APP13 if body.starts_with(PHOTOSHOP) && has_captions(&body[PHOTOSHOP.len()..]) => {
                found.note(PhotoNote::Captions);
            }
            _ => {}
        }
    }
    if !profile.is_empty() {
        match join(profile) {
            Some(profile) => found.icc_profile = Some(Cow::Owned(profile)),
            None => found.damaged(MetadataKind::ColourProfile),
        }
    }
    Some(())
}

/// Marker, position of the body in `bytes`, and body of each segment before the first scan.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, usize, &[u8])> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            if *bytes.get(at)? != 0xff {
                return None;
            }
            let marker = *bytes.get(at + 1)?;
            match marker {
                // Padding.
                0xff => at += 1,
                START_OF_SCAN | END_OF_IMAGE => return None,
                // Markers without a segment.
                0x01 | 0xd0..=0xd8 => at += 2,
                _ => {
                    let length = usize::from(Order::Big.u16(bytes, at + 2)?);
                    let body = part(bytes, at + 4, length.checked_sub(2)?)?;
                    let body_at = at + 4;
                    at += 2 + length;
                    return Some((marker, body_at, body));
                }
            }
        }
    })
}

/// Version (2 bytes), unit, width's and height's density.
fn density(jfif: &[u8]) -> Option<Resolution> {
    let unit = match *jfif.get(7)? {
        1 => ResolutionUnit::Inch,
        2 => ResolutionUnit::Centimetre,
        _ => ResolutionUnit::Aspect,
    };
    let (x, y) = (Order::Big.u16(jfif, 8)?, Order::Big.u16(jfif, 10)?);
    Resolution::whole(x.into(), y.into(), unit)
}

/// Parts of a profile, each with its number from 1 and their count (ICC.1:2022, annex B.4); `None`
/// if one is missing.
fn join(mut parts: Vec<&[u8]>) -> Option<Vec<u8>> {
    parts.sort_by_key(|part| part.first().copied());
    let complete = parts.iter().enumerate().all(|(i, part)| {
        part.len() >= 2 && usize::from(part[0]) == i + 1 && usize::from(part[1]) == parts.len()
    });
    let length: usize = parts.iter().map(|part| part.len()).sum();
    (complete && length <= MAX_PROFILE)
        .then(|| parts.iter().flat_map(|part| &part[2..]).copied().collect())
}

enum Pictures {
    GainMap,
    Others,
}

/// Images listed by the index of a multi-image file besides the first and its previews; offsets
/// are relative to the start of `structure`, whose index has `length` bytes.
fn pictures(structure: &[u8], length: usize) -> Option<Pictures> {
    const ENTRIES: u16 = 0xb002;
    let index = structure.get(..length)?;
    let (reader, first) = crate::photo::metadata::exif::Structure::new(index)?;
    let order = if index.starts_with(b"MM") { Order::Big } else { Order::Little };
    let (entries, _) = reader.directory(first)?;
    let entries = entries.iter().find(|entry| entry.tag == ENTRIES)?.value?;
    let mut result = None;
    // Attributes, length, offset, two dependent images.
    for entry in entries.chunks_exact(16).skip(1) {
        let (kind, at) = (order.u32(entry, 0)? & 0xff_ffff, order.u32(entry, 8)? as usize);
        let picture = structure.get(at..).unwrap_or_default();
        let is_gain_map = segments(picture).any(|(marker, _, body)| {
            let packet = body.strip_prefix(XMP_PREFIX).filter(|_| marker == APP1);
            let cleaned = packet.and_then(|packet| xmp::clean(packet, None));
            cleaned.is_some_and(|packet| packet.had_gain_map)
                || (marker == APP2 && body.starts_with(GAIN_MAP))
        });
        if is_gain_map {
            return Some(Pictures::GainMap);
        }
        // Types from 0x010000 are previews of the first.
        if kind & 0xff_0000 != 0x01_0000 {
            result = Some(Pictures::Others);
        }
    }
    result
}

/// Whether Photoshop's resources hold captions in the form of IPTC: each resource is `8BIM`, a
/// number, a name, a length and a body, both padded to even lengths.
fn has_captions(mut resources: &[u8]) -> bool {
    const IPTC: u16 = 0x0404;
    let mut next = || {
        let rest = resources.strip_prefix(b"8BIM")?;
        let number = Order::Big.u16(rest, 0)?;
        let name = (1 + usize::from(*rest.get(2)?)).next_multiple_of(2);
        let length = Order::Big.u32(rest, 2 + name)? as usize;
        resources = rest.get((6 + name).checked_add(length.checked_next_multiple_of(2)?)?..)?;
        Some((number, length))
    };
    // The last body may lack its padding, so its number is checked before its end is computed.
    std::iter::from_fn(&mut next).any(|(number, length)| number == IPTC && length > 0)
        || resources.strip_prefix(b"8BIM").is_some_and(|rest| Order::Big.u16(rest, 0) == Some(IPTC))
}
