use super::*;

const SIDES: [usize; 11] = [8, 17, 96, 333, 480, 768, 1024, 1536, 3000, 4032, 6000];
/// (side, multiple): the published model with and without down/up blocks, and tiny ones.
const TARGETS: [(usize, usize); 5] = [(1024, 32), (1024, 16), (512, 32), (512, 16), (64, 8)];

fn relative_distortion(plan: &ResizePlan) -> f64 {
    let ratio = |size: PixelSize| size.width as f64 / size.height as f64;
    (ratio(plan.model) / ratio(plan.photo)).ln().abs()
}

#[test]
fn fit_satisfies_its_bounds_for_any_size() {
    for (side, multiple) in TARGETS {
        for height in SIDES {
            for width in SIDES {
                let photo = PixelSize::new(height, width);
                let ratio = photo.longer() as f64 / photo.shorter() as f64;
                let plan = ResizePlan::fit(photo, side, multiple);
                if ratio > ratio_limit(side, multiple) {
                    assert!(plan.is_err(), "{photo} at {side}");
                    continue;
                }
                let plan = plan.unwrap();
                let context = format!("{photo} at {side}/{multiple}: {}", plan.model);
                for side in [plan.model.height, plan.model.width] {
                    assert!(side >= multiple && side.is_multiple_of(multiple), "{context}");
                }
                // Rounding moves a side by at most half a multiple; the result is no worse.
                let short = side as f64 / ratio.sqrt() / multiple as f64;
                let long = side as f64 * ratio.sqrt() / multiple as f64;
                let rounded = |ideal: f64| (ideal.round() / ideal).ln();
                let (short, long) = (rounded(short), rounded(long));
                let bound = (long - short).abs() + AREA_WEIGHT * (long + short).abs();
                assert!(relative_distortion(&plan) <= bound + 1e-9, "{context}");
                let area = (plan.model.height * plan.model.width) as f64;
                let off = (area / (side * side) as f64).ln().abs();
                // Near one multiple per side, half a multiple is much; otherwise little.
                assert!(off <= bound / AREA_WEIGHT + 1e-9, "{context}: area off by {off}");
            }
        }
    }
}

#[test]
fn the_usual_proportions_are_kept_exactly() {
    for ((height, width), model) in [
        ((1024, 1024), (1024, 1024)),
        ((3000, 3000), (1024, 1024)),
        ((3024, 4032), (864, 1152)),
        ((4032, 3024), (1152, 864)),
        ((4000, 6000), (832, 1248)),
        ((896, 1152), (896, 1152)), // suits already: no resize
    ] {
        let plan = ResizePlan::fit(PixelSize::new(height, width), 1024, 32).unwrap();
        assert_eq!((plan.model.height, plan.model.width), model, "{height}x{width}");
        let plan = ResizePlan::fit(PixelSize::new(height, width), 1024, 16).unwrap();
        assert!(relative_distortion(&plan) < 1e-9, "{height}x{width} at 16");
    }
}

#[test]
fn impossible_plans_are_refused() {
    let photo = PixelSize::new(100, 200);
    for (what, plan) in [
        ("multiple 0", ResizePlan::fit(photo, 64, 0)),
        ("side 0", ResizePlan::fit(photo, 0, 16)),
        ("side below the multiple", ResizePlan::fit(photo, 8, 16)),
        ("huge side", ResizePlan::fit(photo, usize::MAX, 16)),
        ("empty photo", ResizePlan::fit(PixelSize::new(0, 0), 64, 16)),
        ("flat photo", ResizePlan::fit(PixelSize::new(0, 9), 64, 16)),
        ("not native", ResizePlan::native(photo, 16)),
        ("native 0", ResizePlan::native(PixelSize::new(0, 16), 16)),
        ("exact multiple 0", ResizePlan::exact(photo, photo, 0)),
        ("square of 0", ResizePlan::square(photo, 0, 16)),
        ("square of 100", ResizePlan::square(photo, 100, 16)),
    ] {
        assert!(matches!(plan, Err(Error::Value { .. })), "{what}: {plan:?}");
    }
}

#[test]
fn round_trip_keeps_the_size_and_the_content() {
    let device = Device::flex();
    for (height, width) in [(48, 64), (61, 37), (200, 130), (8, 40)] {
        // A smooth image survives resampling; noise would not.
        let rgb = RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 200 / width) as u8, (y * 200 / height) as u8, 90])
        });
        let photo = Photo::from_rgb(rgb).unwrap();
        for plan in [
            ResizePlan::fit(photo.size(), 64, 8).unwrap(),
            ResizePlan::square(photo.size(), 64, 8).unwrap(),
            ResizePlan::pad(photo.size(), 64, 8).unwrap(),
            ResizePlan::crop(photo.size(), 64, 8).unwrap(),
            ResizePlan::native(photo.size(), 1).unwrap(),
        ] {
            let picture = plan.apply(&photo, &device).unwrap();
            assert_eq!(picture.dims(), [1, 3, plan.model.height, plan.model.width]);
            let back = plan.invert(picture, &photo).unwrap();
            assert_eq!(PixelSize::of(&back), photo.size());
            let off = back.iter().zip(photo.rgb().iter()).map(|(a, b)| a.abs_diff(*b)).max();
            // 8 rows stretched over 200 levels: 25 levels a row, of which a resample to
            // fewer rows may lose most of one.
            let tolerance = if plan.model == plan.photo { 0 } else { 25 };
            assert!(off <= Some(tolerance), "{plan:?}: {off:?}");
        }
    }
}

#[test]
fn rejects_wrong_images() {
    let device = Device::flex();
    let plan = ResizePlan::native(PixelSize::new(8, 16), 8).unwrap();
    let other = Photo::from_rgb(RgbImage::new(8, 16)).unwrap();
    assert!(matches!(plan.apply(&other, &device), Err(Error::Shape { .. })));
    let fine = Tensor::zeros([1, 3, 8, 16], &device);
    assert!(matches!(plan.invert(fine, &other), Err(Error::Shape { .. })));
    let photo = Photo::from_rgb(RgbImage::new(16, 8)).unwrap();
    let turned = Tensor::zeros([1, 3, 16, 8], &device);
    assert!(matches!(plan.invert(turned, &photo), Err(Error::Shape { .. })));
    let nan = Tensor::full([1, 3, 8, 16], f32::NAN, &device);
    assert!(matches!(plan.invert(nan, &photo), Err(Error::Value { .. })));
    let outside = Tensor::full([1, 3, 8, 16], 7.0, &device);
    assert!(plan.invert(outside, &photo).unwrap().iter().all(|&value| value == 255));
}

#[test]
fn around_a_mask_keeps_the_photos_resolution_where_the_mask_fits() {
    let area =
        |top, left, height, width| PixelArea { top, left, size: PixelSize::new(height, width) };
    // At 1024 a 3:2 photo is edited at 1248x832.
    let photo = PixelSize::new(4000, 6000);
    for (mask, expected) in [
        // Centred on the mask, and inside the photo.
        (area(2000, 3000, 100, 200), area(1634, 2476, 832, 1248)),
        (area(0, 0, 10, 10), area(0, 0, 832, 1248)),
        (area(3990, 5990, 10, 10), area(3168, 4752, 832, 1248)),
        // The largest that is not resized, and the next.
        (area(1000, 1000, 554, 832), area(861, 792, 832, 1248)),
        (area(1000, 1000, 1200, 400), area(700, 0, 1800, 2700)),
        (area(0, 0, 4000, 6000), area(0, 0, 4000, 6000)),
    ] {
        let plan = ResizePlan::around(photo, mask, 1024, 32).unwrap();
        assert_eq!(plan.model, PixelSize::new(832, 1248));
        assert_eq!(plan.area, expected, "{mask:?}");
        assert_eq!(plan.place, PixelArea::whole(plan.model));
    }
    // A photo smaller than the model's image.
    let small = PixelSize::new(400, 600);
    let plan = ResizePlan::around(small, area(10, 10, 50, 50), 1024, 32).unwrap();
    assert_eq!(plan, ResizePlan::fit(small, 1024, 32).unwrap());

    for mask in [area(0, 0, 0, 10), area(0, 0, 4001, 10), area(3999, 0, 2, 1)] {
        let plan = ResizePlan::around(photo, mask, 1024, 32);
        assert!(matches!(plan, Err(Error::Value { what: "mask", .. })), "{mask:?}: {plan:?}");
    }
    let plan = Resize::Mask.plan(photo, None, 1024, 32);
    assert!(plan.unwrap_err().to_string().contains("a mask to edit around"));
}

#[test]
fn around_a_mask_leaves_the_rest_of_the_photo() {
    let photo = RgbImage::from_fn(90, 60, |x, y| image::Rgb([x as u8, y as u8, 7]));
    let photo = Photo::from_rgb(photo).unwrap();
    let mask = PixelArea { top: 20, left: 50, size: PixelSize::new(6, 4) };
    let plan = ResizePlan::around(photo.size(), mask, 24, 8).unwrap();
    let device = Device::flex();
    let picture = plan.apply(&photo, &device).unwrap();
    // At the photo's resolution: the same pixels there and back.
    assert_eq!(plan.area.size, plan.model);
    assert_eq!(plan.invert(picture.clone(), &photo).unwrap(), *photo.rgb());
    let black = plan.invert(picture * 0.0, &photo).unwrap();
    let changed = black.pixels().zip(photo.rgb().pixels()).filter(|(a, b)| a != b).count();
    assert_eq!(changed, plan.model.height * plan.model.width);
}
