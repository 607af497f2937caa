use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::{Found, MAX_PROFILE};
use crate::photo::MetadataKind;
use crate::photo::PhotoNote;
use crate::photo::metadata::bytes::{Order, part};
use crate::photo::metadata::{Resolution, ResolutionUnit};

/// Longest unpacked text in bytes, against decompression bombs.
const MAX_TEXT: usize = 16 << 20;

/// Keyword of the text chunk that holds XMP.
pub(in crate::photo::metadata) const XMP_KEYWORD: &str = "XML:com.adobe.xmp";
/// Keywords of text chunks in which ImageMagick and GIMP stored blocks before PNG had chunks for
/// them.
const RAW_PROFILE: &[u8] = b"Raw profile type ";

/// A signature, then chunks of a length, a name, a body and a checksum, before and after the
/// pixels.
pub(super) fn read<'a>(bytes: &'a [u8], found: &mut Found<'a>) -> Option<()> {
    let mut raw_exif = None;
    let mut at = 8;
    let ended = loop {
        let (Some(length), Some(name)) = (Order::Big.u32(bytes, at), part(bytes, at + 4, 4)) else {
            break None;
        };
        let Some(body) = part(bytes, at + 8, length as usize) else { break None };
        chunk(name, body, found, &mut raw_exif);
        if name == b"IEND" {
            break Some(());
        }
        // In range: the body was read.
        at += 12 + length as usize;
    };
    // The dedicated chunk takes precedence over text.
    if found.exif.is_none() {
        found.exif = raw_exif.map(Cow::Owned);
    }
    ended
}

fn chunk<'a>(name: &[u8], body: &'a [u8], found: &mut Found<'a>, raw_exif: &mut Option<Vec<u8>>) {
    match name {
        b"iCCP" => {
            match after_keyword(body).and_then(|(_, rest)| unpack(rest.get(1..)?, MAX_PROFILE)) {
                Some(profile) => found.icc_profile = Some(Cow::Owned(profile)),
                None => found.damaged(MetadataKind::ColourProfile),
            }
        }
        b"cICP" => match body.first_chunk().filter(|_| body.len() == 4) {
            Some(cicp) => found.colours.cicp = Some(*cicp),
            None => found.damaged(MetadataKind::Colours),
        },
        b"sRGB" => found.colours.srgb_intent = body.first().copied(),
        b"gAMA" => match Order::Big.u32(body, 0) {
            Some(gamma) => found.colours.gamma = Some(gamma),
            None => found.damaged(MetadataKind::Colours),
        },
        b"cHRM" => {
            let mut values = [0; 8];
            let complete = values.iter_mut().enumerate().all(|(i, value)| {
                Order::Big.u32(body, 4 * i).is_some_and(|number| {
                    *value = number;
                    true
                })
            });
            if complete {
                found.colours.chromaticities = Some(values)
            } else {
                found.damaged(MetadataKind::Colours)
            }
        }
        b"eXIf" => {
            found.exif.get_or_insert(Cow::Borrowed(body));
        }
        b"pHYs" => {
            let unit = match body.get(8) {
                Some(1) => ResolutionUnit::Metre,
                _ => ResolutionUnit::Aspect,
            };
            let numbers = Order::Big.u32(body, 0).zip(Order::Big.u32(body, 4));
            found.resolution = numbers.and_then(|(x, y)| Resolution::whole(x, y, unit));
        }
        b"tEXt" | b"zTXt" | b"iTXt" => text(name, body, found, raw_exif),
        _ => {}
    }
}

fn text<'a>(name: &[u8], body: &'a [u8], found: &mut Found<'a>, raw_exif: &mut Option<Vec<u8>>) {
    let Some((keyword, rest)) = after_keyword(body) else { return };
    let raw = keyword.strip_prefix(RAW_PROFILE);
    if raw.is_none() && keyword != XMP_KEYWORD.as_bytes() {
        return;
    }
    let kind = match raw {
        None | Some(b"xmp") => MetadataKind::Xmp,
        Some(b"exif" | b"APP1" | b"app1") => MetadataKind::CameraData,
        Some(b"icc" | b"icm") => MetadataKind::ColourProfile,
        Some(b"iptc" | b"8bim") => {
            found.note(PhotoNote::Captions);
            return;
        }
        Some(_) => return,
    };
    let content = text_of(name, rest);
    let content = match raw {
        Some(_) => content.and_then(|content| raw_profile(&content)).map(Cow::Owned),
        None => content,
    };
    let Some(content) = content else {
        found.damaged(kind);
        return;
    };
    // APP1 is a JPEG segment: EXIF or XMP.
    match content.strip_prefix(super::jpeg::XMP_PREFIX) {
        Some(packet) => {
            found.xmp.get_or_insert(Cow::Owned(packet.to_vec()));
        }
        None if kind == MetadataKind::Xmp => {
            found.xmp.get_or_insert(content);
        }
        None if kind == MetadataKind::CameraData => {
            raw_exif.get_or_insert(content.into_owned());
        }
        None => {
            found.icc_profile.get_or_insert(content);
        }
    }
}

/// The keyword of a text or profile, and the bytes after its zero.
fn after_keyword(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().take(80).position(|byte| *byte == 0)?;
    Some((&body[..end], &body[end + 1..]))
}

/// The text of a chunk, after its keyword.
fn text_of<'a>(name: &[u8], rest: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    match name {
        b"tEXt" => Some(Cow::Borrowed(rest)),
        b"zTXt" => unpack(rest.get(1..)?, MAX_TEXT).map(Cow::Owned),
        _ => {
            let compressed = *rest.first()? != 0;
            // A language and a translated keyword come first.
            let mut parts = rest.get(2..)?.splitn(3, |byte| *byte == 0);
            let text = parts.nth(2)?;
            if compressed {
                unpack(text, MAX_TEXT).map(Cow::Owned)
            } else {
                Some(Cow::Borrowed(text))
            }
        }
    }
}

/// A zlib stream of at most `limit` bytes.
fn unpack(stream: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(stream).take(limit as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= limit).then_some(bytes)
}

/// A line end, a name, the length in decimal, then the bytes in hexadecimal, in lines.
fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_start();
    let (_name, rest) = text.split_at(text.iter().position(|byte| *byte == b'\n')?);
    let rest = rest.trim_ascii_start();
    let (length, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'\n')?);
    let length: usize = std::str::from_utf8(length).ok()?.trim().parse().ok()?;
    let digits = rest.iter().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Vec<u8> = digits
        .map(|byte| char::from(*byte).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (bytes.len() == length).then_some(bytes)
}
