//! Adds blocks to files byte by byte, independently of the writers under test.

use super::*;

/// A PNG chunk.
pub(super) fn png_chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut check = flate2::Crc::new();
    check.update(name);
    check.update(body);
    let length = (body.len() as u32).to_be_bytes();
    [&length[..], name, body, &check.sum().to_be_bytes()].concat()
}

/// Inserts chunks after the header, or `late` before the end.
pub(super) fn png_with(chunks: &[Vec<u8>], late: bool) -> Vec<u8> {
    let png = plain(ImageFormat::Png);
    let at = if late { png.len() - 12 } else { 8 + 25 };
    [&png[..at], &chunks.concat(), &png[at..]].concat()
}

pub(super) fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16 + 2).to_be_bytes();
    [&[0xff, marker][..], &length, body].concat()
}

/// Replaces JFIF by these segments.
pub(super) fn jpeg_with(segments: &[Vec<u8>]) -> Vec<u8> {
    let jpeg = plain(ImageFormat::Jpeg);
    [&jpeg[..2], &segments.concat(), &jpeg[2 + 18..]].concat()
}

pub(super) fn webp_with(icc: Option<&[u8]>, after: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let simple = plain(ImageFormat::WebP);
    let chunk = |name: &[u8; 4], body: &[u8]| {
        let padding = vec![0; body.len() % 2];
        [&name[..], &(body.len() as u32).to_le_bytes(), body, &padding].concat()
    };
    let mut flags = if icc.is_some() { 1 << 5 } else { 0 };
    for (name, _) in after {
        flags |= if *name == b"EXIF" { 1 << 3 } else { 1 << 2 };
    }
    let (width, height) = rgb().dimensions();
    let extended = [flags, 0, 0, 0, (width - 1) as u8, 0, 0, (height - 1) as u8, 0, 0];
    let mut body = chunk(b"VP8X", &extended);
    body.extend(icc.map(|icc| chunk(b"ICCP", icc)).unwrap_or_default());
    body.extend(&simple[12..]);
    body.extend(after.iter().flat_map(|(name, bytes)| chunk(name, bytes)));
    [b"RIFF", &(body.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &body].concat()
}

/// A little-endian TIFF with additional tags: tag, type, count, value.
pub(super) fn tiff_with(
    tags: &[(u16, u16, u32, Vec<u8>)],
    exif: &[(u16, u16, u32, Vec<u8>)],
) -> Vec<u8> {
    let (width, height) = rgb().dimensions();
    let mut bytes = b"II*\0\0\0\0\0".to_vec();
    bytes.extend(rgb().as_raw());
    let long = |number: u32| number.to_le_bytes().to_vec();
    let short = |number: u16| number.to_le_bytes().to_vec();
    let directory = |bytes: &mut Vec<u8>, mut entries: Vec<(u16, u16, u32, Vec<u8>)>| {
        entries.sort_by_key(|entry| entry.0);
        let mut body = (entries.len() as u16).to_le_bytes().to_vec();
        for (tag, kind, count, mut value) in entries {
            if value.len() > 4 {
                let at = bytes.len() as u32;
                value.resize(value.len().next_multiple_of(2), 0);
                bytes.extend(value);
                value = at.to_le_bytes().to_vec();
            }
            value.resize(4, 0);
            body.extend(
                [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes()].concat(),
            );
            body.extend(value);
        }
        let at = bytes.len() as u32;
        bytes.extend(body);
        bytes.extend([0; 4]);
        at
    };
    let mut entries = vec![
        (256, 4, 1, long(width)),
        (257, 4, 1, long(height)),
        (258, 3, 3, [8_u16; 3].iter().flat_map(|bits| bits.to_le_bytes()).collect()),
        (259, 3, 1, short(1)),
        (262, 3, 1, short(2)),
        (273, 4, 1, long(8)),
        (277, 3, 1, short(3)),
        (278, 4, 1, long(height)),
        (279, 4, 1, long(width * height * 3)),
    ];
    entries.extend(tags.iter().cloned());
    if !exif.is_empty() {
        let at = directory(&mut bytes, exif.to_vec());
        entries.push((0x8769, 4, 1, long(at)));
    }
    let at = directory(&mut bytes, entries);
    bytes[4..8].copy_from_slice(&at.to_le_bytes());
    bytes
}

/// A BMP with BITMAPV5HEADER: code of its colours, the fields up to the intent, and a profile.
pub(super) fn bmp_v5(code: &[u8; 4], endpoints: &[u8], per_metre: u32, icc: &[u8]) -> Vec<u8> {
    let plain = plain(ImageFormat::Bmp);
    let pixels = &plain[54..];
    let mut header = plain[..54].to_vec();
    header.resize(14 + 124, 0);
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(10, &138_u32.to_le_bytes());
    put(14, &124_u32.to_le_bytes());
    put(14 + 24, &per_metre.to_le_bytes().repeat(2));
    put(14 + 56, &u32::from_be_bytes(*code).to_le_bytes());
    put(14 + 60, endpoints);
    put(14 + 112, &(124 + pixels.len() as u32).to_le_bytes());
    put(14 + 116, &(icc.len() as u32).to_le_bytes());
    [&header[..], pixels, icc].concat()
}

/// A GIF with an application extension of the name, in one-byte blocks or raw.
pub(super) fn gif_with(icc: &[u8], xmp: &[u8]) -> Vec<u8> {
    let gif = plain(ImageFormat::Gif);
    let mut at = 13;
    if gif[10] & 0x80 != 0 {
        at += 3 << ((gif[10] & 7) + 1);
    }
    let mut extensions = b"!\xff\x0bICCRGBG1012".to_vec();
    for block in icc.chunks(100) {
        extensions.push(block.len() as u8);
        extensions.extend(block);
    }
    extensions.push(0);
    extensions.extend(b"!\xff\x0bXMP DataXMP");
    extensions.extend(xmp);
    extensions.push(1);
    extensions.extend((0..=255).rev());
    extensions.push(0);
    [&gif[..at], &extensions, &gif[at..]].concat()
}
