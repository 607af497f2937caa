//! Unusual locations of metadata, and damage.

use super::containers::*;
use super::pairs::exif;
use super::*;

fn read(bytes: &[u8], format: ImageFormat) -> Contents {
    Metadata::read(bytes, format, PixelSize::new(16, 24))
}

/// The form written by ImageMagick.
fn raw_profile(name: &str, bytes: &[u8]) -> Vec<u8> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<&str> =
        hex.as_bytes().chunks(72).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("\n{name}\n{:8}\n{}\n", bytes.len(), lines.join("\n")).into_bytes()
}

#[test]
fn png_has_exif_in_many_places() {
    let prefixed = [b"Exif\0\0", &exif()[..]].concat();
    let mut files = Vec::new();
    for (keyword, block) in [("exif", &prefixed), ("APP1", &prefixed), ("exif", &exif())] {
        let text = raw_profile(keyword, block);
        let start = format!("Raw profile type {keyword}\0").into_bytes();
        files.push(png_chunk(b"tEXt", &[&start, &text[..]].concat()));
        files.push(png_chunk(b"zTXt", &[&start, &b"\0"[..], &zlib(&text)].concat()));
        files.push(png_chunk(b"iTXt", &[&start, &b"\0\0\0\0"[..], &text].concat()));
        files.push(png_chunk(b"iTXt", &[&start, &b"\x01\0\0\0"[..], &zlib(&text)].concat()));
    }
    files.push(png_chunk(b"eXIf", &exif()));
    files.push(png_chunk(b"eXIf", &prefixed));
    for chunk in files {
        for late in [false, true] {
            let contents = read(&png_with(std::slice::from_ref(&chunk), late), ImageFormat::Png);
            assert_eq!(contents.orientation, Orientation::Rotate90, "{}", chunk.escape_ascii());
            assert!(contents.metadata.exif.is_some());
        }
    }
}

#[test]
fn dropped_metadata_is_noted() {
    let prefixed = |prefix: &[u8], body: &[u8]| [prefix, body].concat();
    let grey = [&[0; 16][..], b"GRAY", &[7; 108]].concat();
    let gain_map = packet("").replace(
        "<rdf:Description",
        "<rdf:Description \
        xmlns:hdrgm=\"http://ns.adobe.com/hdr-gain-map/1.0/\" hdrgm:Version=\"1.0\"",
    );
    let mut damaged_profile = b"ICC_PROFILE\0\x01\x02".to_vec();
    damaged_profile.extend(profile());
    let damaged = |what| PhotoNote::Damaged { what };
    let jpeg = |segments: &[Vec<u8>]| jpeg_with(segments);
    let adobe = b"http://ns.adobe.com/xap/1.0/\0";
    let captions = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x02\x1c\x02";
    let cases = [
        (jpeg(&[segment(0xe1, &prefixed(adobe, gain_map.as_bytes()))]), PhotoNote::GainMap),
        (jpeg(&[segment(0xe2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")]), PhotoNote::GainMap),
        (jpeg(&[segment(0xe1, b"http://ns.adobe.com/xmp/extension/\0..")]), PhotoNote::ExtendedXmp),
        (jpeg(&[segment(0xed, captions)]), PhotoNote::Captions),
        (jpeg(&[segment(0xe2, &damaged_profile)]), damaged(MetadataKind::ColourProfile)),
        (
            jpeg(&[segment(0xe2, &prefixed(b"ICC_PROFILE\0\x01\x01", &grey))]),
            PhotoNote::OtherProfile,
        ),
        (jpeg(&[segment(0xe1, b"Exif\0\0XX*\0")]), damaged(MetadataKind::CameraData)),
        (jpeg(&[segment(0xe1, &prefixed(adobe, b"<a>"))]), damaged(MetadataKind::Xmp)),
    ];
    for (bytes, note) in cases {
        assert_eq!(read(&bytes, ImageFormat::Jpeg).notes, [note]);
    }
    let bmp = |code| bmp_v5(code, &[0; 48], 0, &profile());
    assert_eq!(read(&bmp(b"LINK"), ImageFormat::Bmp).notes, [PhotoNote::LinkedProfile]);
    let cut = bmp(b"MBED");
    let contents = read(&cut[..cut.len() - 1], ImageFormat::Bmp);
    assert_eq!(contents.notes, [damaged(MetadataKind::ColourProfile)]);
    let gamma = png_with(&[png_chunk(b"gAMA", &[0; 4])], false);
    assert_eq!(read(&gamma, ImageFormat::Png).notes, [damaged(MetadataKind::Colours)]);
    let mut webp = webp_with(None, &[(b"EXIF", &exif())]);
    webp.truncate(webp.len() - 4);
    assert_eq!(read(&webp, ImageFormat::WebP).notes, [damaged(MetadataKind::CameraData)]);
}

/// A file of two images as written by phones: an index, and the second after the first.
fn two_pictures(second: &[Vec<u8>], kind: u32) -> Vec<u8> {
    let index = |at: u32| {
        let mut bytes =
            b"MPF\0II*\0\x08\0\0\0\x01\0\x02\xb0\x07\0\x20\0\0\0\x1a\0\0\0\0\0\0\0".to_vec();
        for (kind, at) in [(0x03_0000, 0), (kind, at)] {
            bytes.extend([kind, 100, at, 0].map(u32::to_le_bytes).as_flattened());
        }
        segment(0xe2, &bytes)
    };
    let first = jpeg_with(&[index(0)]);
    // Offsets are relative to the end of `MPF` and its zero.
    let first = jpeg_with(&[index(first.len() as u32 - (2 + 4 + 4))]);
    [first, jpeg_with(second)].concat()
}

#[test]
fn additional_images_are_noted() {
    let apple = packet("").replace("<rdf:Description", "<rdf:Description \
        xmlns:HDRGainMap=\"http://ns.apple.com/HDRGainMap/1.0/\" HDRGainMap:HDRGainMapVersion=\"65536\"");
    let apple = [b"http://ns.adobe.com/xap/1.0/\0", apple.as_bytes()].concat();
    for (second, kind, notes) in [
        (vec![segment(0xe1, &apple)], 0, &[PhotoNote::GainMap][..]),
        (vec![], 0x02_0002, &[PhotoNote::MorePictures]),
        (vec![], 0x01_0001, &[]), // a large preview
    ] {
        let bytes = two_pictures(&second, kind);
        assert_eq!(read(&bytes, ImageFormat::Jpeg).notes, notes);
    }
    let page = tiff_with(&[], &[]);
    assert_eq!(read(&page, ImageFormat::Tiff).notes, []);
    // Its next directory is itself.
    let mut pages = page.clone();
    let first: [u8; 4] = page[4..8].try_into().unwrap();
    let end = pages.len() - 4;
    pages[end..].copy_from_slice(&first);
    assert_eq!(read(&pages, ImageFormat::Tiff).notes, [PhotoNote::MorePictures]);
}

#[test]
fn bmp_has_calibrated_colours() {
    // Red, green and blue of sRGB as amounts, 2.30 fixed point, then 2.2 and 1.8 in 16.16.
    let xyz = [0.4124, 0.2126, 0.0193, 0.3576, 0.7152, 0.1192, 0.1805, 0.0722, 0.9505];
    let fixed = xyz.map(|value: f64| ((value * f64::from(1 << 30)) as i32).to_le_bytes());
    let endpoints = |gammas: [f64; 3]| {
        let gammas = gammas.map(|gamma| ((gamma * 65_536.0) as u32).to_le_bytes());
        [fixed.as_flattened(), gammas.as_flattened()].concat()
    };
    let bytes = bmp_v5(&[0; 4], &endpoints([1.0; 3]), 0, &[]);
    let colours = read(&bytes, ImageFormat::Bmp).metadata.colours;
    assert_eq!(colours.gamma, Some(100_000));
    let chromaticities = colours.chromaticities.unwrap();
    for (got, expected) in
        chromaticities.iter().zip([31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000])
    {
        assert!(got.abs_diff(expected) < 20, "{chromaticities:?}");
    }
    let bytes = bmp_v5(&[0; 4], &endpoints([1.8, 2.2, 2.2]), 0, &[]);
    let metadata = read(&bytes, ImageFormat::Bmp).metadata;
    assert!(metadata.icc_profile.is_some() && metadata.colours.is_empty());
    let bytes = bmp_v5(b"sRGB", &[0; 48], 0, &[]);
    assert_eq!(read(&bytes, ImageFormat::Bmp).metadata.colours.srgb_intent, Some(0));
}

/// A fixed sequence of numbers (xorshift).
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn damage_anywhere_never_panics_and_never_grows_a_block() {
    let text = [b"Raw profile type exif\0", &raw_profile("exif", &exif())[..]].concat();
    let xmp = packet("<xmp:Thumbnails><i:image>AAAA</i:image></xmp:Thumbnails>");
    let adobe = [b"http://ns.adobe.com/xap/1.0/\0", xmp.as_bytes()].concat();
    let seeds = [
        (ImageFormat::Png, png_with(&[png_chunk(b"tEXt", &text)], true)),
        (ImageFormat::Png, png_with(&[png_chunk(b"eXIf", &exif())], false)),
        (ImageFormat::Jpeg, jpeg_with(&[segment(0xe1, &[b"Exif\0\0", &exif()[..]].concat())])),
        (ImageFormat::Jpeg, two_pictures(&[segment(0xe1, &adobe)], 0)),
        (ImageFormat::Jpeg, jpeg_with(&[segment(0xe1, &adobe)])),
        (ImageFormat::WebP, webp_with(Some(&profile()), &[(b"EXIF", &exif())])),
        (
            ImageFormat::Tiff,
            tiff_with(&[(0x0112, 4, 1, vec![6, 0, 0, 0])], &[(0x9003, 2, 20, vec![b'.'; 20])]),
        ),
        (ImageFormat::Bmp, bmp_v5(b"MBED", &[1; 48], 2835, &profile())),
        (ImageFormat::Gif, gif_with(&profile(), xmp.as_bytes())),
    ];
    let mut sequence = Sequence(0x9e37_79b9_7f4a_7c15);
    for (format, seed) in &seeds {
        for _mutation in 0..1500 {
            let mut bytes = seed.clone();
            for _change in 0..=sequence.below(4) {
                // Most files have their metadata at the beginning.
                let reach = if sequence.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
                let at = sequence.below(reach);
                match sequence.below(5) {
                    0 => bytes[at] ^= 1 << sequence.below(8),
                    1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][sequence.below(5)],
                    2 => bytes.truncate(at.max(1)),
                    3 => {
                        let end = (at + 4).min(bytes.len());
                        bytes[at..end].fill(0xff);
                    }
                    _ => {
                        let from = sequence.below(bytes.len());
                        let length = sequence.below(16).min(bytes.len() - at.max(from));
                        bytes.copy_within(from..from + length, at);
                    }
                }
            }
            let metadata = read(&bytes, *format).metadata;
            let length = |block: &Option<Vec<u8>>| block.as_ref().map_or(0, Vec::len);
            // Values are copied once; a hundred entries and their directories may be added.
            assert!(length(&metadata.exif) <= bytes.len() + 2048);
            assert!(length(&metadata.xmp) <= bytes.len() + 64);
            assert!(
                length(&metadata.icc_profile) <= bytes.len() + 64 || *format == ImageFormat::Png
            );
        }
    }
}

#[test]
fn oversized_unpacked_profile_is_dropped() {
    let bomb = zlib(&vec![0; 17_000_000]);
    let bytes = png_with(&[png_chunk(b"iCCP", &[b"name\0\0", &bomb[..]].concat())], false);
    let contents = read(&bytes, ImageFormat::Png);
    assert_eq!(contents.metadata.icc_profile, None);
    assert_eq!(contents.notes, [PhotoNote::Damaged { what: MetadataKind::ColourProfile }]);
}
