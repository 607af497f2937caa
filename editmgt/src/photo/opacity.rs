//! Forms of opacity, and hidden pixels.

use std::borrow::Cow;

use image::{DynamicImage, GrayImage, Luma, Primitive, Rgb, RgbImage, RgbaImage};

use super::Photo;

/// Non-trivial opacity.
pub(super) enum Opacity {
    /// 0 in every pixel: a channel that its writer left empty.
    Nowhere,
    /// Neither 0 in every pixel nor opaque in every pixel.
    Varies(GrayImage),
}

impl Opacity {
    /// `None` when every pixel is opaque.
    pub(super) fn of(rgba: &RgbaImage) -> Option<Self> {
        let all = |value: u8| rgba.pixels().all(|pixel| pixel.0[3] == value);
        if all(u8::MAX) {
            return None;
        }
        if all(0) {
            return Some(Self::Nowhere);
        }
        let (width, height) = rgba.dimensions();
        Some(Self::Varies(GrayImage::from_fn(width, height, |x, y| {
            Luma([rgba.get_pixel(x, y).0[3]])
        })))
    }
}

/// Divides premultiplied colours by their opacity, at their bit depth. Colours above their opacity
/// are invalid and become the brightest; with opacity 0 they are undefined.
pub(super) fn unassociated(mut image: DynamicImage) -> DynamicImage {
    match &mut image {
        DynamicImage::ImageLumaA8(pixels) => divide::<_, 2>(pixels, 255.0),
        DynamicImage::ImageRgba8(pixels) => divide::<_, 4>(pixels, 255.0),
        DynamicImage::ImageLumaA16(pixels) => divide::<_, 2>(pixels, 65_535.0),
        DynamicImage::ImageRgba16(pixels) => divide::<_, 4>(pixels, 65_535.0),
        DynamicImage::ImageRgba32F(pixels) => {
            for [colours @ .., alpha] in pixels.as_chunks_mut::<4>().0 {
                let alpha = *alpha;
                colours.iter_mut().for_each(|c| *c = if alpha > 0.0 { *c / alpha } else { 0.0 });
            }
        }
        _ => {}
    }
    image
}

fn divide<T: Primitive, const N: usize>(samples: &mut [T], most: f64) {
    // Samples of 16 bits and their quotients are exact enough in f64 to round correctly.
    for pixel in samples.as_chunks_mut::<N>().0 {
        let alpha = pixel[N - 1].to_f64().expect("a sample of 8 or 16 bits is a number");
        for colour in &mut pixel[..N - 1] {
            let value = colour.to_f64().expect("a sample of 8 or 16 bits is a number");
            let straight = if alpha > 0.0 { (value * most / alpha).round().min(most) } else { 0.0 };
            *colour = T::from(straight).expect("0 to the largest sample");
        }
    }
}

/// The colours without the opacity.
pub(super) fn without(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLumaA8(_) => image.into_luma8().into(),
        DynamicImage::ImageLumaA16(_) => DynamicImage::ImageLuma16(image.into_luma16()),
        DynamicImage::ImageRgba16(_) => DynamicImage::ImageRgb16(image.into_rgb16()),
        DynamicImage::ImageRgba32F(_) => DynamicImage::ImageRgb32F(image.into_rgb32f()),
        image => image.into_rgb8().into(),
    }
}

/// Sides of the cells over which hidden colours are averaged, in pixels: each is a multiple of the
/// previous one, and the last covers any allowed image.
const CELLS: [u32; 5] = [8, 32, 128, 1024, u32::MAX];

/// Sets fully transparent pixels to the mean colour of the visible ones in the smallest cell around
/// them that has any. A photo without visible pixels is unchanged.
pub(super) fn fill_hidden<'a>(rgb: &'a RgbImage, alpha: &GrayImage) -> Cow<'a, RgbImage> {
    if alpha.iter().all(|&opacity| opacity > 0) {
        return Cow::Borrowed(rgb);
    }
    let mut filled = rgb.clone();
    let mut open: Vec<(u32, u32)> = (alpha.enumerate_pixels())
        .filter(|(_, _, opacity)| opacity.0[0] == 0)
        .map(|(x, y, _)| (x, y))
        .collect();
    for side in CELLS {
        if open.is_empty() {
            break;
        }
        let columns = rgb.width().div_ceil(side);
        let cell = |x: u32, y: u32| (y / side * columns + x / side) as usize;
        let mut sums = vec![[0_u64; 4]; (columns * rgb.height().div_ceil(side)) as usize];
        for ((x, y, colour), opacity) in rgb.enumerate_pixels().zip(alpha.iter()) {
            if *opacity > 0 {
                let [sum @ .., count] = &mut sums[cell(x, y)];
                sum.iter_mut().zip(colour.0).for_each(|(sum, value)| *sum += u64::from(value));
                *count += 1;
            }
        }
        open.retain(|&(x, y)| {
            let [r, g, b, count] = sums[cell(x, y)];
            if count > 0 {
                let mean = [r, g, b].map(|sum| ((sum + count / 2) / count) as u8);
                filled.put_pixel(x, y, Rgb(mean));
            }
            count == 0
        });
    }
    Cow::Owned(filled)
}

/// Restores the photo's own bytes where it is fully transparent, and returns the invisible share of
/// the changed pixels, weighted by opacity, 0..1; 0 for an opaque photo and for an edit without
/// changes.
pub(crate) fn keep_hidden(photo: &Photo, edited: &mut RgbImage) -> f32 {
    let Some(alpha) = photo.alpha() else { return 0.0 };
    let (mut changed, mut hidden) = (0_u64, 0_u64);
    for ((new, old), &opacity) in edited.pixels_mut().zip(photo.rgb().pixels()).zip(alpha.iter()) {
        if new != old {
            changed += 255;
            hidden += u64::from(255 - opacity);
        }
        if opacity == 0 {
            *new = *old;
        }
    }
    (hidden as f64 / changed.max(1) as f64) as f32
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba};

    use super::*;

    fn photo(image: &RgbaImage) -> Photo {
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, ImageFormat::Png).unwrap();
        Photo::from_bytes(png.get_ref()).unwrap()
    }

    #[test]
    fn associated_colours_are_divided_by_their_opacity() {
        let rgba = |pixel| DynamicImage::from(RgbaImage::from_pixel(1, 1, Rgba(pixel)));
        for (stored, expected) in [
            ([64, 32, 0, 128], [128, 64, 0, 128]),
            ([1, 2, 3, 255], [1, 2, 3, 255]),
            ([9, 0, 0, 0], [0, 0, 0, 0]),
            ([200, 0, 0, 100], [255, 0, 0, 100]), // brighter than its opacity allows
        ] {
            assert_eq!(unassociated(rgba(stored)), rgba(expected), "{stored:?}");
        }
    }

    #[test]
    fn hidden_colours_do_not_reach_the_model() {
        let with_hidden = |hidden: [u8; 3]| {
            photo(&RgbaImage::from_fn(70, 50, |x, y| match (x < 40, y < 40) {
                (true, true) => Rgba([200, 100, x as u8, 255]),
                (false, true) => Rgba([hidden[0], hidden[1], hidden[2], 0]),
                _ => Rgba([10, 20, 30, 1]),
            }))
        };
        let (black, red) = (with_hidden([0; 3]), with_hidden([240, 30, 10]));
        assert_ne!(black.rgb(), red.rgb());
        assert_eq!(black.visible_rgb(), red.visible_rgb());
        let filled = black.visible_rgb();
        for (x, y, pixel) in filled.enumerate_pixels() {
            if x < 40 || y >= 40 {
                assert_eq!(pixel, black.rgb().get_pixel(x, y), "{x},{y} is visible");
            } else {
                assert!(pixel.0[0] >= 10 && pixel.0[0] <= 200, "{x},{y}: {pixel:?}");
            }
        }
    }

    #[test]
    fn edit_keeps_hidden_pixels_and_reports_the_invisible_share() {
        let original =
            photo(&RgbaImage::from_fn(8, 8, |x, _| Rgba([7, 7, 7, if x < 4 { 0 } else { 255 }])));
        for (columns, share) in [(0..8, 0.5), (4..8, 0.0), (0..4, 1.0), (0..0, 0.0)] {
            let mut edited = original.rgb().clone();
            for (x, _, pixel) in edited.enumerate_pixels_mut() {
                if columns.contains(&x) {
                    *pixel = Rgb([90; 3]);
                }
            }
            assert_eq!(keep_hidden(&original, &mut edited), share, "{columns:?}");
            for (x, _, pixel) in edited.enumerate_pixels() {
                let own = x < 4 || !columns.contains(&x);
                assert_eq!(pixel.0[0], if own { 7 } else { 90 }, "{columns:?} {x}");
            }
        }
    }
}
