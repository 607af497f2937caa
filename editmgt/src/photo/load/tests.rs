use std::io::Cursor;

use image::{ColorType, ImageFormat, Rgb, Rgba};

use super::*;

const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
    ImageFormat::Gif,
];

/// Four flat corners, recognisable after rotation, mirroring and JPEG.
fn corners(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, true) => Rgb([250, 20, 20]),
        (false, true) => Rgb([20, 250, 20]),
        (true, false) => Rgb([20, 20, 250]),
        (false, false) => Rgb([240, 240, 20]),
    })
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A JPEG with an EXIF segment that has only the orientation.
fn oriented_jpeg(stored: RgbImage, orientation: u8) -> Vec<u8> {
    let jpeg = encode(stored, ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01".to_vec();
    exif.extend_from_slice(&[1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    exif.extend_from_slice(&[0; 4]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    let (start, rest) = jpeg.split_at(2);
    [start, &[0xff, 0xe1], &length, &exif, rest].concat()
}

fn alike(got: &RgbImage, expected: &RgbImage) -> bool {
    // JPEG at its default quality keeps flat colours within a few levels, away from edges.
    let close = |x: u32, y: u32| {
        let (got, expected) = (got.get_pixel(x, y), expected.get_pixel(x, y));
        got.0.iter().zip(&expected.0).all(|(a, b)| a.abs_diff(*b) < 24)
    };
    let (width, height) = expected.dimensions();
    got.dimensions() == (width, height)
        && [(1, 1), (width - 2, 1), (1, height - 2), (width - 2, height - 2)]
            .iter()
            .all(|&(x, y)| close(x, y))
}

#[test]
fn every_format_is_read_by_its_content() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let image = corners(32, 16);
        // The name has no extension, or a wrong one.
        let path = dir.path().join("photo.png");
        std::fs::write(&path, encode(image.clone(), format)).unwrap();
        let photo = Photo::open(&path).unwrap();
        assert_eq!(photo.size(), PixelSize::new(16, 32), "{format:?}");
        assert!(alike(photo.rgb(), &image), "{format:?}");
        assert_eq!((photo.alpha(), photo.metadata()), (None, &Metadata::default()), "{format:?}");
    }
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new("testdata").join(name)).unwrap()
}

#[test]
fn reads_first_frame_of_an_animation_with_a_note() {
    for name in ["animation.gif", "animation.png", "animation.webp"] {
        let photo = Photo::from_bytes(&fixture(name)).unwrap();
        assert!(alike(photo.rgb(), &corners(32, 16)), "{name}");
        assert!(photo.is_animation(), "{name}");
        assert!(!photo.edited(photo.rgb().clone()).unwrap().is_animation(), "{name}: the result");
    }
    for format in FORMATS {
        let photo = Photo::from_bytes(&encode(corners(32, 16), format)).unwrap();
        assert!(!photo.is_animation(), "{format:?}");
    }
}

#[test]
fn cmyk_becomes_rgb() {
    let photo = Photo::from_bytes(&fixture("cmyk.jpg")).unwrap();
    assert!(alike(photo.rgb(), &corners(32, 16)), "{:?}", photo.rgb().get_pixel(1, 1));
    assert_eq!(photo.metadata(), &Metadata::default());
}

#[test]
fn exif_orientation_is_applied() {
    let upright = corners(48, 32);
    let (w, h) = upright.dimensions();
    // EXIF 2.32, table of tag 274: the sides of the scene that the stored row 0 and column 0 show.
    // For the stored pixel in column c and row r: its position in the upright image.
    type Place = fn(u32, u32, u32, u32) -> (u32, u32);
    let places: [(u8, Place); 8] = [
        (1, |c, r, _, _| (c, r)),
        (2, |c, r, w, _| (w - 1 - c, r)),
        (3, |c, r, w, h| (w - 1 - c, h - 1 - r)),
        (4, |c, r, _, h| (c, h - 1 - r)),
        (5, |c, r, _, _| (r, c)),
        (6, |c, r, w, _| (w - 1 - r, c)),
        (7, |c, r, w, h| (w - 1 - r, h - 1 - c)),
        (8, |c, r, _, h| (r, h - 1 - c)),
    ];
    for (orientation, place) in places {
        let (width, height) = if orientation < 5 { (w, h) } else { (h, w) };
        let stored = RgbImage::from_fn(width, height, |c, r| {
            let (x, y) = place(c, r, w, h);
            *upright.get_pixel(x, y)
        });
        let photo = Photo::from_bytes(&oriented_jpeg(stored, orientation)).unwrap();
        assert!(alike(photo.rgb(), &upright), "orientation {orientation}");
        let exif = photo.metadata().exif.as_ref().expect("kept");
        assert_eq!(exif[18..20], [0, 1], "orientation {orientation} is reset");
    }
    for nonsense in [0, 9, 255] {
        let photo = Photo::from_bytes(&oriented_jpeg(upright.clone(), nonsense)).unwrap();
        assert!(alike(photo.rgb(), &upright), "orientation {nonsense}");
    }
}

#[test]
fn every_pixel_type_becomes_rgb8() {
    let grey = |value: u8| Rgb([value; 3]);
    let cases: [(DynamicImage, ImageFormat, Rgb<u8>); 6] = [
        (GrayImage::from_pixel(8, 8, image::Luma([77])).into(), ImageFormat::Png, grey(77)),
        (GrayImage::from_pixel(8, 8, image::Luma([77])).into(), ImageFormat::Tiff, grey(77)),
        (
            image::ImageBuffer::from_pixel(8, 8, image::Luma([0x4d00_u16])).into(),
            ImageFormat::Png,
            grey(77),
        ),
        (
            image::ImageBuffer::from_pixel(8, 8, Rgb([0xffff_u16, 0x8080, 0x0101])).into(),
            ImageFormat::Png,
            Rgb([255, 128, 1]),
        ),
        (
            image::ImageBuffer::from_pixel(8, 8, Rgb([1.0_f32, 0.5, -3.0])).into(),
            ImageFormat::Tiff,
            Rgb([255, 128, 0]),
        ),
        (corners(8, 8).into(), ImageFormat::Gif, Rgb([250, 20, 20])), // a palette
    ];
    for (image, format, expected) in cases {
        let case = format!("{:?} as {format:?}", image.color());
        let photo = Photo::from_bytes(&encode(image, format)).unwrap();
        assert_eq!(photo.rgb().get_pixel(0, 0), &expected, "{case}");
        assert_eq!(photo.alpha(), None, "{case}");
    }
}

#[test]
fn alpha_is_kept_aside_and_turned_with_the_photo() {
    let image = RgbaImage::from_fn(9, 8, |x, y| Rgba([x as u8, y as u8, 7, (x * 8 + y) as u8]));
    let photo = Photo::from_bytes(&encode(image.clone(), ImageFormat::Png)).unwrap();
    let alpha = photo.alpha().unwrap();
    for (x, y, pixel) in image.enumerate_pixels() {
        assert_eq!(photo.rgb().get_pixel(x, y).0, pixel.0[..3]);
        assert_eq!(alpha.get_pixel(x, y).0, pixel.0[3..]);
    }
    let opaque = RgbaImage::from_pixel(8, 8, Rgba([1, 2, 3, 255]));
    assert_eq!(Photo::from_bytes(&encode(opaque, ImageFormat::Png)).unwrap().alpha(), None);
}

#[test]
fn only_rgb_profiles_are_kept() {
    let profile = |space: &[u8; 4]| [&[0; 16][..], space, &[0; 108]].concat();
    for (space, kept) in [(b"RGB ", true), (b"GRAY", false), (b"CMYK", false)] {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        image::ImageEncoder::set_icc_profile(&mut encoder, profile(space)).unwrap();
        let color = ColorType::Rgb8.into();
        image::ImageEncoder::write_image(encoder, &corners(8, 8), 8, 8, color).unwrap();
        let photo = Photo::from_bytes(&bytes).unwrap();
        assert_eq!(photo.metadata().icc_profile, kept.then(|| profile(space)));
    }
}

#[test]
fn rejects_missing_files_and_folders() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Photo::open(dir.path().join("none.png")).unwrap_err();
    assert!(matches!(missing, PhotoError::Read { .. }), "{missing}");
    assert!(missing.to_string().contains("none.png"), "{missing}");
    let folder = Photo::open(dir.path()).unwrap_err();
    assert!(matches!(folder, PhotoError::Folder { .. }), "{folder}");
}

#[test]
fn rejects_other_files_with_their_kind() {
    assert!(matches!(Photo::from_bytes(b""), Err(PhotoError::Empty { .. })));
    for (bytes, got) in [
        (&b"hello"[..], "\"hello\""),
        (&[0; 100], "\\x00"),
        (b"%PDF-1.7 more", "%PDF-1.7"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "Avif"),
        (b"P6\n8 8\n255\n", "Pnm"),
        (b"\x89PN", "PN"),
    ] {
        let error = Photo::from_bytes(bytes).unwrap_err();
        assert!(matches!(error, PhotoError::NotAnImage { .. }), "{error:?}");
        assert!(error.to_string().contains(got), "{error}");
    }
}

#[test]
fn rejects_truncated_files() {
    for format in FORMATS {
        let bytes = encode(corners(64, 48), format);
        for share in [0.1, 0.5, 0.9] {
            let cut = &bytes[..(bytes.len() as f64 * share) as usize];
            let result = Photo::from_bytes(cut);
            assert!(
                matches!(result, Err(PhotoError::Corrupt { .. })),
                "{format:?} cut to {share}: {result:?}"
            );
        }
    }
    // All but the end marker is present, or more.
    let jpeg = oriented_jpeg(corners(64, 48), 1);
    let whole = Photo::from_bytes(&jpeg).unwrap();
    let bare = &jpeg[..jpeg.len() - 2];
    for (file, note) in [
        (bare.to_vec(), PhotoNote::NoEndMarker),
        (jpeg[..jpeg.len() - 1].to_vec(), PhotoNote::NoEndMarker),
        ([bare, b"trailer"].concat(), PhotoNote::NoEndMarker),
        ([&jpeg[..], b"trailer"].concat(), PhotoNote::Trailer { bytes: 7 }),
        ([&jpeg[..], &jpeg].concat(), PhotoNote::Trailer { bytes: jpeg.len() }),
    ] {
        let photo = Photo::from_bytes(&file).unwrap();
        assert_eq!(photo.rgb(), whole.rgb());
        assert_eq!(photo.notes(), [note]);
    }
}

#[test]
fn random_damage_never_panics() {
    for format in FORMATS {
        let bytes = encode(corners(24, 16), format);
        let step = bytes.len().div_ceil(150);
        for at in (0..bytes.len()).step_by(step) {
            let _cut = Photo::from_bytes(&bytes[..at]);
            for value in [0, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _damaged = Photo::from_bytes(&damaged);
            }
        }
    }
    // A PNG detects damaged pixels by its checksums.
    let mut png = encode(corners(24, 16), ImageFormat::Png);
    let middle = png.len() / 2;
    png[middle] ^= 0x55;
    let error = Photo::from_bytes(&png).unwrap_err();
    assert!(matches!(error, PhotoError::Corrupt { format: "PNG", .. }), "{error:?}");
}

/// A small image whose header claims another size.
fn promising(format: ImageFormat, width: u16, height: u16) -> Vec<u8> {
    let mut bytes = encode(corners(8, 8), format);
    let (w, h) = match format {
        ImageFormat::Gif => (6, 8),
        ImageFormat::Bmp => (18, 22),
        _ => unreachable!("the place of the size is not known to these tests"),
    };
    bytes[w..w + 2].copy_from_slice(&width.to_le_bytes());
    bytes[h..h + 2].copy_from_slice(&height.to_le_bytes());
    bytes
}

#[test]
fn sizes_are_checked_before_pixels() {
    let limits = PhotoLimits::default();
    for format in [ImageFormat::Gif, ImageFormat::Bmp] {
        for (width, height, expected) in [
            (10_000, 10_000, Some(("max_pixels", limits.max_pixels))), // 100 megapixels
            (65_535, 8, Some(("max_side", limits.max_side))),
            (1, 600, None),
            (600, 1, None),
            (7, 7, None),
            (0, 600, None),
        ] {
            let error = Photo::from_bytes(&promising(format, width, height)).unwrap_err();
            let case = format!("{width}x{height} {format:?}: {error:?}");
            match (&error, expected) {
                (PhotoError::TooLarge { size, option, limit, .. }, Some(expected)) => {
                    assert_eq!((*option, *limit), expected, "{case}");
                    assert_eq!((size.width, size.height), (width.into(), height.into()));
                    assert!(error.to_string().contains(option), "{error}");
                }
                (PhotoError::TooSmall { .. }, None) => {}
                (PhotoError::Corrupt { .. } | PhotoError::Unsupported { .. }, None)
                    if width == 0 => {}
                _ => panic!("{case}"),
            }
        }
    }
}

#[test]
fn limits_are_the_callers() {
    let png = encode(corners(100, 60), ImageFormat::Png);
    for (limits, accepted) in [
        (PhotoLimits::default(), true),
        (PhotoLimits { max_pixels: 6000, ..Default::default() }, true),
        (PhotoLimits { max_pixels: 5999, ..Default::default() }, false),
        (PhotoLimits { max_side: 100, ..Default::default() }, true),
        (PhotoLimits { max_side: 99, ..Default::default() }, false),
        (PhotoLimits { max_pixels: u64::MAX, max_side: u64::MAX, max_bytes: u64::MAX }, true),
    ] {
        assert_eq!(Photo::from_bytes_within(&png, &limits).is_ok(), accepted, "{limits:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photo.png");
    std::fs::write(&path, &png).unwrap();
    let limit = |max_bytes| PhotoLimits { max_bytes, ..Default::default() };
    assert!(Photo::open_within(&path, &limit(png.len() as u64)).is_ok());
    let error = Photo::open_within(&path, &limit(png.len() as u64 - 1)).unwrap_err();
    assert!(matches!(error, PhotoError::FileTooLarge { .. }), "{error:?}");
}

#[test]
fn an_edited_photo_has_the_photos_size() {
    let photo = Photo::from_rgb(corners(16, 8)).unwrap();
    assert!(photo.edited(RgbImage::new(16, 8)).is_ok());
    assert!(photo.edited(RgbImage::new(8, 16)).is_err());
    assert!(Photo::from_rgb(RgbImage::new(16, 7)).is_err());
}
