//! Random photo sizes to the model and back.

use burn::tensor::Device;
use editmgt::photo::PixelArea;
use editmgt::{GridSize, Mask, Photo, PixelSize, Resize, ResizePlan};
use image::{GrayImage, Luma, Rgb, RgbImage};
use proptest::prelude::*;

fn resizes() -> impl Strategy<Value = Resize> {
    prop_oneof![Just(Resize::Fit), Just(Resize::Pad), Just(Resize::Crop)]
}

prop_compose! {
    /// A plan and its multiple; `None` if the photo is too narrow for the model.
    fn plans()(height in 8usize..160, width in 8usize..160)(
        resize in resizes(),
        multiple in prop_oneof![Just(1usize), Just(4), Just(16)],
        cells in 1usize..12,
        height in Just(height),
        width in Just(width),
    ) -> Option<(ResizePlan, usize)> {
        let photo = PixelSize::new(height, width);
        Some((resize.plan(photo, None, multiple * cells, multiple).ok()?, multiple))
    }
}

fn noise(size: PixelSize) -> Photo {
    let level = |x: u32, y: u32, salt: u32| {
        ((x * 73 + y * 151 + salt * 29).wrapping_mul(2_654_435_761) >> 24) as u8
    };
    let pixel = |x, y| Rgb([level(x, y, 0), level(x, y, 1), level(x, y, 2)]);
    Photo::from_rgb(RgbImage::from_fn(size.width as u32, size.height as u32, pixel)).unwrap()
}

fn contains(area: PixelArea, y: usize, x: usize) -> bool {
    (area.top..area.top + area.size.height).contains(&y)
        && (area.left..area.left + area.size.width).contains(&x)
}

/// Whether the sizes have the same aspect ratio, up to one pixel.
fn alike(one: PixelSize, other: PixelSize) -> bool {
    let off = (one.height * other.width).abs_diff(one.width * other.height);
    off <= one.height.max(one.width) || off <= other.height.max(other.width)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_trip_keeps_the_size_and_the_pixels_outside_the_area(plan in plans()) {
        prop_assume!(plan.is_some());
        let Some((plan, multiple)) = plan else { return Ok(()) };
        let (photo, model) = (plan.photo(), plan.model());
        prop_assert!(model.height.is_multiple_of(multiple) && model.width.is_multiple_of(multiple));
        let (area, place) = (plan.area(), plan.place());
        prop_assert!(area.top + area.size.height <= photo.height, "{plan:?}");
        prop_assert!(area.left + area.size.width <= photo.width, "{plan:?}");
        prop_assert!(place.top + place.size.height <= model.height, "{plan:?}");
        prop_assert!(place.left + place.size.width <= model.width, "{plan:?}");
        prop_assert!(area.size == photo || place.size == model, "one of the two is whole");
        if area.size != photo || place.size != model {
            prop_assert!(alike(area.size, place.size), "stretched: {plan:?}");
        }

        let noise = noise(photo);
        let picture = plan.apply(&noise, &Device::flex()).unwrap();
        prop_assert_eq!(picture.dims(), [1, 3, model.height, model.width]);
        let back = plan.invert(picture.zeros_like(), &noise).unwrap();
        prop_assert_eq!((back.height() as usize, back.width() as usize), (photo.height, photo.width));
        for (x, y, pixel) in back.enumerate_pixels() {
            let own = noise.rgb().get_pixel(x, y);
            let expected = if contains(area, y as usize, x as usize) { &Rgb([0; 3]) } else { own };
            prop_assert_eq!(pixel, expected, "{},{} of {:?}", x, y, plan);
        }
        // Without resizing there is no loss.
        if area.size == place.size {
            prop_assert_eq!(&plan.invert(picture, &noise).unwrap(), noise.rgb());
        }
    }

    #[test]
    fn a_flat_photo_stays_flat(plan in plans(), level in any::<u8>()) {
        prop_assume!(plan.is_some());
        let Some((plan, _)) = plan else { return Ok(()) };
        let PixelSize { height, width } = plan.photo();
        let flat = RgbImage::from_pixel(width as u32, height as u32, Rgb([level; 3]));
        let photo = Photo::from_rgb(flat.clone()).unwrap();
        let picture = plan.apply(&photo, &Device::flex()).unwrap();
        prop_assert_eq!(plan.invert(picture, &photo).unwrap(), flat);
    }

    #[test]
    fn tokens_and_masks_lie_where_the_photo_does(plan in plans(), split in 0.0f64..1.0) {
        prop_assume!(plan.is_some());
        let Some((plan, multiple)) = plan else { return Ok(()) };
        let (photo, area) = (plan.photo(), plan.area());
        let grid: GridSize = plan.grid(multiple);
        let (rows, columns) = (plan.token_rows(grid.height), plan.token_columns(grid.width));
        prop_assert_eq!((rows.len(), columns.len()), (photo.height, photo.width));
        for (y, row) in rows.iter().enumerate() {
            prop_assert_eq!(row.is_some(), contains(area, y, area.left));
            prop_assert!(row.is_none_or(|row| row < grid.height));
        }
        for (x, column) in columns.iter().enumerate() {
            prop_assert_eq!(column.is_some(), contains(area, area.top, x));
            prop_assert!(column.is_none_or(|column| column < grid.width));
        }
        prop_assert!(rows.iter().flatten().is_sorted() && columns.iter().flatten().is_sorted());

        // The white part of a token in a mask is black in its negative; a token with a pixel of the
        // photo is visible.
        let border = (split * photo.width as f64) as u32;
        let levels = |turn: bool| {
            let level = |x, _| Luma([if (x < border) != turn { 255 } else { 0 }]);
            let luma = GrayImage::from_fn(photo.width as u32, photo.height as u32, level);
            Mask::from_luma(luma).on_grid(&plan, grid)
        };
        if let (Ok(mask), Ok(negative)) = (levels(false), levels(true)) {
            for row in rows.iter().flatten() {
                for column in columns.iter().flatten() {
                    let token = row * grid.width + column;
                    let sum = mask.values()[token] + negative.values()[token];
                    // Two roundings to f32.
                    prop_assert!((sum - 1.0).abs() < 1e-6, "{sum} at {row},{column}");
                }
            }
        }
    }
}
