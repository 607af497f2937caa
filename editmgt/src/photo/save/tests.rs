use std::fs;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, GrayImage, ImageEncoder, RgbImage};

use super::*;

const EXIF: &[u8] = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0";

fn profile() -> Vec<u8> {
    [&[0; 16][..], b"RGB ", &[7; 108]].concat()
}

fn smooth(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 4) as u8, (y * 5) as u8, 60]))
}

/// A typical phone photo, as a PNG, which supports all metadata.
fn photo_with_everything() -> Photo {
    let rgba = image::RgbaImage::from_fn(40, 30, |x, y| {
        let [r, g, b] = smooth(40, 30).get_pixel(x, y).0;
        image::Rgba([r, g, b, (255 - x) as u8])
    });
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_icc_profile(profile()).unwrap();
    encoder.set_exif_metadata(EXIF.to_vec()).unwrap();
    encoder.write_image(&rgba, 40, 30, ExtendedColorType::Rgba8).unwrap();
    Photo::from_bytes(&bytes).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_extension_is_written_losslessly_or_nearly_and_leaves_nothing_else() {
    let photo = photo_with_everything();
    let options = SaveOptions::default();
    for (name, lossless) in [
        ("a.png", true),
        ("a.PNG", true),
        ("a.webp", true),
        ("a.tiff", true),
        ("a.tif", true),
        ("a.bmp", true),
        ("a.jpg", false),
        ("a.jpeg", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        check_writable(&path, photo.size(), &options).unwrap();
        assert_eq!(names(dir.path()), [""; 0], "{name}: a check leaves nothing");
        photo.save_with(&path, &options).unwrap();
        assert_eq!(names(dir.path()), [name], "nothing but the photo");
        let back = Photo::open(&path).unwrap();
        let off = back.rgb().iter().zip(photo.rgb().iter()).map(|(a, b)| a.abs_diff(*b)).max();
        // Smooth colours at quality 95 change by a few levels.
        assert!(off <= Some(if lossless { 0 } else { 8 }), "{name}: {off:?}");
        assert_eq!(back.alpha(), photo.alpha().filter(|_| lossless), "{name}");
    }
}

#[test]
fn an_opaque_photo_is_saved_without_alpha() {
    let dir = tempfile::tempdir().unwrap();
    let photo = Photo::from_rgb(smooth(20, 10)).unwrap();
    for name in ["a.png", "a.webp", "a.tif", "a.bmp"] {
        let path = dir.path().join(name);
        photo.save(&path).unwrap();
        assert_eq!(image::open(&path).unwrap().color(), image::ColorType::Rgb8, "{name}");
    }
}

#[test]
fn quality_changes_the_length_of_a_jpeg() {
    let dir = tempfile::tempdir().unwrap();
    let photo = Photo::from_rgb(smooth(64, 64)).unwrap();
    let length = |jpeg_quality| {
        let path = dir.path().join("a.jpg");
        photo.save_with(&path, &SaveOptions { jpeg_quality, ..Default::default() }).unwrap();
        fs::metadata(path).unwrap().len()
    };
    assert!(length(1) < length(95) && length(95) < length(100));
}

#[test]
fn unwritable_outputs_are_refused_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::create_dir(folder.join("taken.png")).unwrap();
    fs::write(folder.join("file"), "").unwrap();
    let before = names(folder);
    let small = PixelSize::new(8, 8);
    let quality = |jpeg_quality| SaveOptions { jpeg_quality, ..Default::default() };
    type Expected = fn(&PhotoError) -> bool;
    let cases: [(&str, PixelSize, SaveOptions, Expected); 11] = [
        ("none", small, quality(95), |e| matches!(e, PhotoError::UnknownExtension { .. })),
        ("a.gif", small, quality(95), |e| matches!(e, PhotoError::UnknownExtension { .. })),
        (".png", small, quality(95), |e| matches!(e, PhotoError::UnknownExtension { .. })),
        ("a.png.", small, quality(95), |e| matches!(e, PhotoError::UnknownExtension { .. })),
        ("taken.png", small, quality(95), |e| matches!(e, PhotoError::OutputIsFolder { .. })),
        ("no/such/a.png", small, quality(95), |e| matches!(e, PhotoError::NoFolder { .. })),
        ("file/a.png", small, quality(95), |e| matches!(e, PhotoError::NoFolder { .. })),
        ("a.jpg", small, quality(0), |e| matches!(e, PhotoError::Quality { got: 0 })),
        ("a.jpg", small, quality(101), |e| matches!(e, PhotoError::Quality { got: 101 })),
        ("a.webp", PixelSize::new(8, 16_385), quality(95), |e| {
            matches!(e, PhotoError::TooLargeForFormat { format: "WebP", max: 16_384, .. })
        }),
        ("a.jpg", PixelSize::new(65_536, 8), quality(95), |e| {
            matches!(e, PhotoError::TooLargeForFormat { format: "JPEG", max: 65_535, .. })
        }),
    ];
    let photo = Photo::from_rgb(RgbImage::new(8, 8)).unwrap();
    for (name, size, options, expected) in cases {
        let path = folder.join(name);
        let error = check_writable(&path, size, &options).unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        if size == small {
            let error = photo.save_with(&path, &options).unwrap_err();
            assert!(expected(&error), "{name}: {error:?}");
        }
        assert_eq!(names(folder), before, "{name}: nothing is left");
    }
}

/// Not even root can create a file there.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_to_is_refused() {
    let error = check_writable("/proc/a.png", PixelSize::new(8, 8), &SaveOptions::default());
    assert!(matches!(error, Err(PhotoError::Write { .. })), "{error:?}");
}

#[cfg(unix)]
#[test]
fn a_saved_photo_is_as_readable_as_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (photo, plain) = (dir.path().join("a.png"), dir.path().join("plain"));
    fs::write(&plain, "").unwrap();
    Photo::from_rgb(RgbImage::new(8, 8)).unwrap().save(&photo).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(photo), mode(plain));
}

#[test]
fn an_existing_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    fs::write(&path, "old").unwrap();
    let photo = Photo::from_rgb(smooth(12, 10)).unwrap();
    photo.save(&path).unwrap();
    assert_eq!(Photo::open(&path).unwrap(), photo);
}

#[test]
fn alpha_survives_an_edit() {
    let photo = photo_with_everything();
    let edited = photo.edited(RgbImage::new(40, 30)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    edited.save(&path).unwrap();
    let back = Photo::open(&path).unwrap();
    let alpha: Option<&GrayImage> = photo.alpha();
    assert_eq!((back.rgb(), back.alpha()), (edited.rgb(), alpha));
    assert_eq!(back.metadata(), photo.metadata());
}
