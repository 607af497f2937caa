//! Against scikit-image, SciPy and NumPy: `scripts/make_metric_references.py` wrote the values in
//! `testdata`.

use image::{GrayImage, RgbImage};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct References {
    pictures: Vec<PairImages>,
    localisation: Vec<Localisation>,
}

#[derive(Deserialize)]
struct PairImages {
    name: String,
    whole: Expected,
    inside: Expected,
    outside: Expected,
    butteraugli: Parts,
}

#[derive(Deserialize)]
struct Parts {
    whole: f64,
    inside: f64,
    outside: f64,
}

#[derive(Deserialize)]
struct Expected {
    pixels: usize,
    l1: f64,
    l2: f64,
    psnr: f64,
    ssim: f64,
    changed: f64,
}

#[derive(Deserialize)]
struct Localisation {
    scores: Vec<f32>,
    truth: Vec<bool>,
    threshold: f32,
    auc: f64,
    iou: f64,
}

fn references() -> References {
    serde_json::from_str(include_str!("../../testdata/metrics.json")).unwrap()
}

fn image(name: &str) -> image::DynamicImage {
    image::open(format!("testdata/{name}.png")).unwrap()
}

fn before() -> RgbImage {
    image("before").to_rgb8()
}

fn mask() -> GrayImage {
    image("mask").to_luma8()
}

#[test]
fn differences_are_those_of_scikit_image() {
    let references = references();
    assert_eq!(references.pictures.len(), 3);
    for expected in references.pictures {
        let other = image(&expected.name).to_rgb8();
        let got = Differences::between(&other, &before(), Some(&mask())).unwrap();
        for (part, got, expected) in [
            ("whole", got.whole, &expected.whole),
            ("inside", got.inside.unwrap(), &expected.inside),
            ("outside", got.outside.unwrap(), &expected.outside),
        ] {
            assert_eq!(got.pixels, expected.pixels, "{part}");
            for (number, got, expected) in [
                ("l1", got.l1, expected.l1),
                ("l2", got.l2, expected.l2),
                ("psnr", got.psnr, expected.psnr),
                ("ssim", got.ssim.unwrap(), expected.ssim),
                ("changed", got.changed, expected.changed),
            ] {
                // Both sides compute in f64; the sums differ in their order.
                assert!((got - expected).abs() < 1e-9, "{part} {number}: {got}, not {expected}");
            }
        }
    }
}

#[test]
fn visibility_is_that_of_libjxl() {
    for expected in references().pictures {
        let name = expected.name;
        let other = image(&name).to_rgb8();
        let got = Visibility::between(&other, &before(), Some(&mask())).unwrap();
        for (part, got, expected) in [
            ("whole", got.whole, expected.butteraugli.whole),
            ("inside", got.inside, expected.butteraugli.inside),
            ("outside", got.outside, expected.butteraugli.outside),
        ] {
            let got = got.unwrap();
            // libjxl prints six decimals; both sides compute in f32.
            let close = (got - expected).abs() < 1e-6 + 1e-5 * expected;
            assert!(close, "{name} {part}: {got}, not {expected}");
        }
    }
}

#[test]
fn equal_images_have_no_visible_difference() {
    let picture = before();
    let (width, height) = picture.dimensions();
    let seen = |image: &RgbImage, mask: Option<&GrayImage>| {
        let seen = Visibility::between(image, &picture, mask).unwrap();
        (seen.whole, seen.inside, seen.outside)
    };
    assert_eq!(seen(&picture, None), (Some(0.0), None, None));
    let all = GrayImage::from_pixel(width, height, image::Luma([1]));
    assert_eq!(seen(&picture, Some(&all)), (Some(0.0), Some(0.0), None));
    // A change inside does not count outside, however near.
    let mut changed = picture.clone();
    changed.put_pixel(20, 10, image::Rgb([255; 3]));
    let (whole, inside, outside) = seen(&changed, Some(&mask()));
    assert!(whole > Some(0.5) && inside == whole && outside == Some(0.0), "{whole:?} {outside:?}");
    let names: Vec<String> = Visibility::between(&changed, &picture, Some(&mask()))
        .unwrap()
        .named()
        .iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(names, ["butteraugli", "butteraugli_inside", "butteraugli_outside"]);
    let tiny = RgbImage::new(7, 20);
    assert_eq!(Visibility::between(&tiny, &tiny, None).unwrap().whole, None);
}

#[test]
fn localisation_is_that_of_scipy() {
    let references = references();
    assert_eq!(references.localisation.len(), 3);
    for expected in references.localisation {
        let area = auc(&expected.scores, &expected.truth).unwrap();
        assert!((area - expected.auc).abs() < 1e-12, "{area}, not {}", expected.auc);
        let found = above(&expected.scores, expected.threshold);
        let overlap = iou(&found, &expected.truth).unwrap().unwrap();
        assert!((overlap - expected.iou).abs() < 1e-12, "{overlap}, not {}", expected.iou);
    }
}

#[test]
fn equal_images_and_empty_regions() {
    let picture = before();
    let same = Differences::between(&picture, &picture, None).unwrap();
    assert_eq!((same.whole.l1, same.whole.l2, same.whole.changed), (0.0, 0.0, 0.0));
    assert!((same.whole.psnr - 88.13).abs() < 0.01 && same.whole.ssim == Some(1.0), "{same:?}");
    assert_eq!((same.inside, same.outside), (None, None));

    let (width, height) = picture.dimensions();
    let all = GrayImage::from_pixel(width, height, image::Luma([255]));
    let masked = Differences::between(&picture, &picture, Some(&all)).unwrap();
    assert_eq!((masked.inside, masked.outside), (Some(same.whole), None));
    let names: Vec<String> = masked.named().iter().map(|(name, _)| name.to_owned()).collect();
    let expected =
        ["l1", "l1_inside", "l2", "l2_inside", "psnr", "psnr_inside", "ssim", "ssim_inside"];
    assert_eq!(names, expected);

    // Only the border, where no window fits.
    let mut border = GrayImage::new(width, height);
    border.put_pixel(2, 2, image::Luma([1]));
    let bordered = Differences::between(&picture, &picture, Some(&border)).unwrap();
    assert_eq!(bordered.inside.map(|inside| (inside.pixels, inside.ssim)), Some((1, None)));
    assert_eq!(iou(&[false], &[false]).unwrap(), None);
}

#[test]
fn sizes_that_differ_are_refused() {
    let (picture, other) = (RgbImage::new(20, 16), RgbImage::new(16, 20));
    let mask = GrayImage::new(20, 15);
    for (error, expected) in [
        (
            Differences::between(&other, &picture, None).unwrap_err(),
            "image: expected 20x16 pixels, got 16x20 pixels",
        ),
        (
            Differences::between(&picture, &picture, Some(&mask)).unwrap_err(),
            "mask: expected 20x16 pixels, got 20x15 pixels",
        ),
        (
            Visibility::between(&picture, &picture, Some(&mask)).unwrap_err(),
            "mask: expected 20x16 pixels, got 20x15 pixels",
        ),
        (ssim_map(&other, &picture).unwrap_err(), "image: expected 20x16 pixels, got"),
        (iou(&[true], &[true, false]).unwrap_err(), "positions: expected 2, got 1"),
    ] {
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
