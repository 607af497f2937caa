//! The table of `docs/edits.md` for every input and output format.

use super::containers::*;
use super::*;

/// Bytes of a JPEG preview of the image before the edit.
fn preview() -> Vec<u8> {
    let noise = (0..600_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
    b"\xff\xd8\xff\xe0".iter().copied().chain(noise).collect()
}

/// The same in base64.
fn preview_text() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    preview().iter().map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect()
}

/// A block with camera data, orientation 6, and a MakerNote and a thumbnail of the image before the
/// edit.
pub(super) fn exif() -> Vec<u8> {
    let preview = preview();
    let length = preview.len() as u32;
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()]
            .concat()
    };
    // Main directory at 8, EXIF at 50, thumbnail's at 80, then the values.
    let (exif, second, values) = (8 + 2 + 36 + 4_u32, 50_u32 + 2 + 24 + 4, 80_u32 + 2 + 24 + 4);
    bytes.extend(3_u16.to_le_bytes());
    bytes.extend(entry(0x010f, 2, 16, values));
    bytes.extend(entry(0x0112, 3, 1, 6));
    bytes.extend(entry(0x8769, 4, 1, exif));
    bytes.extend(second.to_le_bytes());
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(entry(0x927c, 7, length, values + 16));
    bytes.extend(entry(0xa002, 3, 1, 24));
    bytes.extend([0; 4]);
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(entry(0x0201, 4, 1, values + 16 + length));
    bytes.extend(entry(0x0202, 4, 1, length));
    bytes.extend([0; 4]);
    bytes.extend(b"Maker of photos\0");
    bytes.extend(&preview);
    bytes.extend(&preview);
    bytes
}

fn xmp() -> String {
    packet(&format!(
        "<tiff:Orientation>6</tiff:Orientation><xmp:Thumbnails><i:image>{}</i:image>\
         </xmp:Thumbnails>",
        preview_text()
    ))
}

/// An input with all metadata that the format supports: 300 pixels per inch along the stored width,
/// 150 along the height.
fn input(format: ImageFormat) -> Vec<u8> {
    let (exif, xmp, icc) = (exif(), xmp(), profile());
    match format {
        ImageFormat::Png => {
            let density = [&11_811_u32.to_be_bytes()[..], &5906_u32.to_be_bytes(), &[1]].concat();
            let text = [b"XML:com.adobe.xmp\0\0\0\0\0", xmp.as_bytes()].concat();
            png_with(
                &[
                    png_chunk(b"iCCP", &[b"name\0\0", &zlib(&icc)[..]].concat()),
                    png_chunk(b"pHYs", &density),
                    png_chunk(b"eXIf", &exif),
                    png_chunk(b"iTXt", &text),
                ],
                false,
            )
        }
        ImageFormat::Jpeg => {
            let mut jfxx = b"JFXX\0\x10".to_vec();
            jfxx.extend(preview());
            let mut resources = b"Photoshop 3.0\x008BIM\x04\x0c\0\0".to_vec();
            resources.extend((preview().len() as u32).to_be_bytes());
            resources.extend(preview());
            jpeg_with(&[
                segment(0xe0, b"JFIF\0\x01\x02\x01\x01\x2c\0\x96\0\0"),
                segment(0xe0, &jfxx),
                segment(0xe1, &[b"Exif\0\0", &exif[..]].concat()),
                segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", xmp.as_bytes()].concat()),
                segment(0xe2, &[b"ICC_PROFILE\0\x02\x02", &icc[100..]].concat()),
                segment(0xe2, &[b"ICC_PROFILE\0\x01\x02", &icc[..100]].concat()),
                segment(0xed, &resources),
            ])
        }
        ImageFormat::WebP => webp_with(Some(&icc), &[(b"EXIF", &exif), (b"XMP ", xmp.as_bytes())]),
        ImageFormat::Tiff => {
            let rational = |number: u32| [number.to_le_bytes(), 1_u32.to_le_bytes()].concat();
            let preview = preview();
            let length = preview.len() as u32;
            tiff_with(
                &[
                    (0x010f, 2, 16, b"Maker of photos\0".to_vec()),
                    (0x0112, 4, 1, vec![6, 0, 0, 0]),
                    (0x011a, 5, 1, rational(300)),
                    (0x011b, 5, 1, rational(150)),
                    (0x0128, 3, 1, vec![2, 0]),
                    (0x02bc, 1, xmp.len() as u32, xmp.into_bytes()),
                    (0x8649, 7, length, preview.clone()),
                    (0x8773, 7, icc.len() as u32, icc),
                ],
                &[(0x927c, 7, length, preview), (0xa002, 3, 1, vec![24, 0])],
            )
        }
        ImageFormat::Bmp => bmp_v5(b"MBED", &[0; 48], 11_811, &icc),
        ImageFormat::Gif => gif_with(&icc, xmp.as_bytes()),
        other => panic!("no input of {other:?}"),
    }
}

/// For camera data, ICC profile, XMP, resolution: `k` kept, `n` dropped with a note, `-` not in the
/// input (a WebP has its resolution in EXIF, and this one's EXIF has none).
const PAIRS: [(ImageFormat, &str, &str); 30] = [
    (ImageFormat::Png, "png", "kkkk"),
    (ImageFormat::Png, "jpg", "kkkk"),
    (ImageFormat::Png, "webp", "kkkk"),
    (ImageFormat::Png, "tiff", "kkkk"),
    (ImageFormat::Png, "bmp", "nknk"),
    (ImageFormat::Jpeg, "png", "kkkk"),
    (ImageFormat::Jpeg, "jpg", "kkkk"),
    (ImageFormat::Jpeg, "webp", "kkkk"),
    (ImageFormat::Jpeg, "tiff", "kkkk"),
    (ImageFormat::Jpeg, "bmp", "nknk"),
    (ImageFormat::WebP, "png", "kkk-"),
    (ImageFormat::WebP, "jpg", "kkk-"),
    (ImageFormat::WebP, "webp", "kkk-"),
    (ImageFormat::WebP, "tiff", "kkk-"),
    (ImageFormat::WebP, "bmp", "nkn-"),
    (ImageFormat::Tiff, "png", "kkkk"),
    (ImageFormat::Tiff, "jpg", "kkkk"),
    (ImageFormat::Tiff, "webp", "kkkk"),
    (ImageFormat::Tiff, "tiff", "kkkk"),
    (ImageFormat::Tiff, "bmp", "nknk"),
    (ImageFormat::Bmp, "png", "-k-k"),
    (ImageFormat::Bmp, "jpg", "-k-k"),
    (ImageFormat::Bmp, "webp", "-k-k"),
    (ImageFormat::Bmp, "tiff", "-k-k"),
    (ImageFormat::Bmp, "bmp", "-k-k"),
    (ImageFormat::Gif, "png", "-kk-"),
    (ImageFormat::Gif, "jpg", "-kk-"),
    (ImageFormat::Gif, "webp", "-kk-"),
    (ImageFormat::Gif, "tiff", "-kk-"),
    (ImageFormat::Gif, "bmp", "-kn-"),
];

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn every_pair_of_formats_keeps_or_notes_metadata_as_documented() {
    let options = SaveOptions::default();
    for (format, extension, fates) in PAIRS {
        let case = format!("{format:?} to {extension}");
        let photo = Photo::from_bytes(&input(format)).unwrap();
        let turned = fates.starts_with(['k', 'n']);
        let side = if turned { (16, 24) } else { (24, 16) };
        assert_eq!(photo.rgb().dimensions(), side, "{case}: orientation is applied");
        let file = saved(&photo, extension, &options);
        let back = Photo::from_bytes(&file).unwrap();
        assert_eq!(back.rgb().dimensions(), side, "{case}: and not twice");
        assert_eq!(back.notes(), [], "{case}");

        let kinds = [
            MetadataKind::CameraData,
            MetadataKind::ColourProfile,
            MetadataKind::Xmp,
            MetadataKind::Resolution,
        ];
        let got = back.metadata();
        let block = got.exif.as_deref().unwrap_or_default();
        let tags = contains(block, b"Maker of photos\0");
        let xmp = String::from_utf8(got.xmp.clone().unwrap_or_default()).unwrap();
        // Rotated, so width and height are swapped.
        let density = got.resolution.and_then(|resolution| resolution.per_metre(u32::MAX));
        let expected = match format {
            ImageFormat::Bmp => (11_811, 11_811),
            _ => (5906, 11_811),
        };
        let near = |(x, y): (u32, u32)| x.abs_diff(expected.0) <= 2 && y.abs_diff(expected.1) <= 2;
        let there = [
            tags,
            got.icc_profile == Some(profile()),
            xmp.contains("xmp:Rating=\"4\""),
            density.is_some_and(near),
        ];
        let losses = photo.losses("a".to_owned() + "." + extension, &options);
        for ((fate, kind), there) in fates.chars().zip(kinds).zip(there) {
            assert_eq!(there, fate == 'k', "{case}: {kind}");
            let noted = losses
                .iter()
                .any(|note| matches!(note, PhotoNote::NotWritten { what, .. } if *what == kind));
            assert_eq!(noted, fate == 'n', "{case}: {kind}: {losses:?}");
        }
        if fates.starts_with('k') {
            assert!(xmp.contains("<tiff:Orientation>1<"), "{case}: {xmp}");
            assert!(contains(block, b"\x02\xa0\x04\0\x01\0\0\0\x10\0\0\0"), "{case}: new width");
        }

        // No byte of a preview is left.
        for part in preview().chunks_exact(12).step_by(3) {
            assert!(!contains(&file, part), "{case}");
        }
        for part in preview_text().as_bytes().chunks_exact(12).step_by(3) {
            assert!(!contains(&file, part), "{case}");
        }

        let bare = SaveOptions { metadata: false, ..options.clone() };
        let back = Photo::from_bytes(&saved(&photo, extension, &bare)).unwrap();
        assert_eq!(back.metadata(), &Metadata::default(), "{case}");
        assert_eq!(photo.losses("a".to_owned() + "." + extension, &bare), [], "{case}");
    }
}

#[test]
fn private_camera_data_are_noted() {
    for (format, notes) in [
        (ImageFormat::Png, &[PhotoNote::PrivateCameraData][..]),
        (ImageFormat::Jpeg, &[PhotoNote::PrivateCameraData]),
        (ImageFormat::WebP, &[PhotoNote::PrivateCameraData]),
        (ImageFormat::Tiff, &[PhotoNote::PrivateCameraData]),
        (ImageFormat::Bmp, &[]),
        (ImageFormat::Gif, &[]),
    ] {
        assert_eq!(Photo::from_bytes(&input(format)).unwrap().notes(), notes, "{format:?}");
    }
}

#[test]
fn colours_stay_in_a_png_and_become_a_profile_elsewhere() {
    let chromaticities = [31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000];
    let wide = chromaticities.map(u32::to_be_bytes);
    let chunks = [
        (vec![png_chunk(b"gAMA", &100_000_u32.to_be_bytes())], 'c'),
        (vec![png_chunk(b"cHRM", wide.as_flattened())], 'c'),
        (vec![png_chunk(b"cICP", &[12, 13, 0, 1])], 'c'),
        (vec![png_chunk(b"cICP", &[9, 16, 0, 1])], 'c'),
        // No equivalent profile.
        (vec![png_chunk(b"cICP", &[2, 2, 0, 1])], 'n'),
        // The colour space of a photo without a profile.
        (vec![png_chunk(b"sRGB", &[1]), png_chunk(b"gAMA", &100_000_u32.to_be_bytes())], '-'),
        (vec![png_chunk(b"gAMA", &45_455_u32.to_be_bytes())], '-'),
        (vec![png_chunk(b"cICP", &[1, 13, 0, 1])], '-'),
    ];
    let options = SaveOptions::default();
    let lost = |note: &PhotoNote| {
        matches!(note, PhotoNote::NotWritten { what: MetadataKind::Colours, .. })
    };
    for (chunks, fate) in chunks {
        let photo = Photo::from_bytes(&png_with(&chunks, false)).unwrap();
        let png = Photo::from_bytes(&saved(&photo, "png", &options)).unwrap();
        assert!(!photo.metadata().colours.is_empty());
        assert_eq!(png.metadata(), photo.metadata());
        for extension in ["jpg", "webp", "tiff", "bmp"] {
            let back = Photo::from_bytes(&saved(&photo, extension, &options)).unwrap();
            let metadata = back.metadata();
            assert_eq!(metadata.icc_profile.is_some(), fate == 'c', "{extension}: {photo:?}");
            let losses = photo.losses(format!("a.{extension}"), &options);
            assert_eq!(losses.iter().any(lost), fate == 'n', "{extension}: {losses:?}");
        }
    }
    // Precedence: cICP, then the profile, then the others.
    let profile_chunk = png_chunk(b"iCCP", &[b"name\0\0", &zlib(&profile())[..]].concat());
    for (chunk, own) in [
        (png_chunk(b"cICP", &[12, 13, 0, 1]), false),
        (png_chunk(b"gAMA", &100_000_u32.to_be_bytes()), true),
        (png_chunk(b"cICP", &[2, 2, 0, 1]), true),
    ] {
        let photo = Photo::from_bytes(&png_with(&[chunk, profile_chunk.clone()], false)).unwrap();
        let back = Photo::from_bytes(&saved(&photo, "webp", &options)).unwrap();
        assert_eq!(back.metadata().icc_profile == Some(profile()), own);
        assert_eq!(photo.losses("a.webp", &options), []);
    }
}

#[test]
fn opacity_is_plain_in_every_format_that_has_it() {
    let alpha = GrayImage::from_fn(24, 16, |x, y| image::Luma([(x * 8 + y) as u8]));
    let mut rgba = Vec::new();
    for (colour, opacity) in rgb().pixels().zip(alpha.iter()) {
        rgba.extend(colour.0);
        rgba.push(*opacity);
    }
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(&rgba, 24, 16, ExtendedColorType::Rgba8).unwrap();
    let photo = Photo::from_bytes(&bytes).unwrap();
    let options = SaveOptions::default();
    for (extension, kept) in
        [("png", true), ("webp", true), ("tiff", true), ("bmp", true), ("jpg", false)]
    {
        let file = saved(&photo, extension, &options);
        let back = Photo::from_bytes(&file).unwrap();
        assert_eq!(back.alpha(), Some(&alpha).filter(|_| kept), "{extension}");
        assert!(!kept || back.rgb() == &rgb(), "{extension}");
        let losses = photo.losses(format!("a.{extension}"), &options);
        let note = PhotoNote::NotWritten { what: MetadataKind::Opacity, format: "JPEG" };
        assert_eq!(losses, if kept { vec![] } else { vec![note] }, "{extension}");
    }
    let file = saved(&photo, "tiff", &options);
    let (_, entries, _) = exif::read_tiff(&file).unwrap();
    let extra = entries.iter().find(|entry| entry.tag == 338).unwrap();
    assert_eq!(extra.value, Some(&[2, 0][..]), "unassociated");
}

#[test]
fn blocks_too_long_for_jpeg_are_noted() {
    let label = "many many words ".repeat(5_000);
    let text = [b"XML:com.adobe.xmp\0\0\0\0\0", packet(&label).as_bytes()].concat();
    let mut block = b"II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0".to_vec();
    block.extend((label.len() as u32).to_le_bytes());
    block.extend(b"\x1a\0\0\0\0\0\0\0");
    block.extend(label.as_bytes());
    let chunks = [png_chunk(b"eXIf", &block), png_chunk(b"iTXt", &text)];
    let photo = Photo::from_bytes(&png_with(&chunks, false)).unwrap();
    let options = SaveOptions::default();
    let losses = photo.losses("a.jpg", &options);
    for (note, kind) in losses.iter().zip([MetadataKind::CameraData, MetadataKind::Xmp]) {
        assert!(matches!(note, PhotoNote::TooLong { what, .. } if *what == kind), "{note}");
    }
    assert_eq!(losses.len(), 2);
    let jpeg = Photo::from_bytes(&saved(&photo, "jpg", &options)).unwrap();
    assert_eq!(jpeg.metadata(), &Metadata::default());
    let webp = Photo::from_bytes(&saved(&photo, "webp", &options)).unwrap();
    assert_eq!(webp.metadata(), photo.metadata());
}
