//! Styles: functions of a whole image.

use image::{Rgb, RgbImage};

use super::names::Style;

/// Side of a pixel-art pixel, on a canvas of 128.
const LARGE_PIXEL: u32 = 4;

/// Renders the image in a style.
pub(super) fn rendered(picture: RgbImage, style: Style) -> RgbImage {
    match style {
        Style::Normal => picture,
        Style::Night => mapped(picture, |[r, g, b]| {
            let part =
                |value: u8, share: u32, least: u32| (least + u32::from(value) * share / 256) as u8;
            // Colours lose a part of their differences, too.
            let grey = luma([r, g, b]);
            let dim = |value: u8| ((3 * u32::from(value) + u32::from(grey)) / 4) as u8;
            [part(dim(r), 88, 6), part(dim(g), 104, 10), part(dim(b), 150, 34)]
        }),
        Style::Sepia => mapped(picture, |pixel| {
            let grey = u32::from(luma(pixel));
            [30 + grey * 222 / 255, 18 + grey * 208 / 255, 6 + grey * 178 / 255].map(|v| v as u8)
        }),
        Style::Greyscale => mapped(picture, |pixel| [luma(pixel); 3]),
        Style::Poster => {
            mapped(picture, |pixel| pixel.map(|value| (u32::from(value) * 4 / 256 * 85) as u8))
        }
        Style::PixelArt => large_pixels(&picture),
        Style::Pencil => pencil(&picture),
    }
}

fn mapped(mut picture: RgbImage, map: impl Fn([u8; 3]) -> [u8; 3]) -> RgbImage {
    picture.pixels_mut().for_each(|Rgb(pixel)| *pixel = map(*pixel));
    picture
}

/// Rec. 601 luma, rounded to an integer.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b) + 128) >> 8) as u8
}

/// Squares of their mean colour, rounded to steps of 24.
fn large_pixels(picture: &RgbImage) -> RgbImage {
    let side = (LARGE_PIXEL * picture.width() / 128).max(1);
    let mut large = picture.clone();
    for y in (0..picture.height()).step_by(side as usize) {
        for x in (0..picture.width()).step_by(side as usize) {
            let inside = || {
                let columns = x..(x + side).min(picture.width());
                (y..(y + side).min(picture.height()))
                    .flat_map(move |v| columns.clone().map(move |u| (u, v)))
            };
            let mut sum = [0u32; 3];
            for (u, v) in inside() {
                let Rgb(pixel) = picture.get_pixel(u, v);
                sum.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u32::from(value));
            }
            let count = inside().count() as u32;
            let mean = sum.map(|sum| (((sum / count + 12) / 24) * 24).min(255) as u8);
            inside().for_each(|(u, v)| large.put_pixel(u, v, Rgb(mean)));
        }
    }
    large
}

/// Dark where the luminance changes, else paper with faint shading.
fn pencil(picture: &RgbImage) -> RgbImage {
    let at = |x: u32, y: u32| {
        let (x, y) = (x.min(picture.width() - 1), y.min(picture.height() - 1));
        let Rgb([r, g, b]) = *picture.get_pixel(x, y);
        // Strokes follow colours, too: two colours of equal luma have an edge between them.
        [i32::from(luma([r, g, b])), (i32::from(r) - i32::from(b)) / 2]
    };
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let (here, right, below) = (at(x, y), at(x + 1, y), at(x, y + 1));
        let edge: i32 =
            (0..2).map(|i| (here[i] - right[i]).abs() + (here[i] - below[i]).abs()).sum();
        let paper = 214 + here[0] * 38 / 255;
        let tone = (paper - 3 * (edge - 6).clamp(0, 70)).max(34);
        Rgb([tone as u8, tone as u8, (tone - 4) as u8])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_of_known_pixels() {
        let of = |pixel: [u8; 3], style| {
            rendered(RgbImage::from_pixel(8, 8, Rgb(pixel)), style).get_pixel(3, 3).0
        };
        assert_eq!(of([255, 0, 0], Style::Greyscale), [77; 3]);
        assert_eq!(of([255, 255, 255], Style::Sepia), [252, 226, 184]);
        assert_eq!(of([130, 63, 255], Style::Poster), [170, 0, 255]);
        assert_eq!(of([0, 0, 0], Style::Night), [6, 10, 34]);
        assert_eq!(of([9, 9, 9], Style::Normal), [9; 3]);
        let [r, g, b] = of([255, 255, 255], Style::Pencil);
        assert!(r == g && r > 245 && b > 240, "a plain is paper");
    }

    #[test]
    fn pencil_draws_edges_and_pixel_art_means() {
        let half =
            RgbImage::from_fn(128, 128, |x, _| Rgb(if x < 62 { [200, 40, 40] } else { [250; 3] }));
        let drawn = rendered(half.clone(), Style::Pencil);
        assert!(drawn.get_pixel(61, 9).0[0] < 100 && drawn.get_pixel(30, 9).0[0] > 200);
        let large = rendered(half, Style::PixelArt);
        // Pixels 60 to 63 are half of one, half of the other.
        assert_eq!(large.get_pixel(60, 5), large.get_pixel(63, 5));
        assert_ne!(large.get_pixel(59, 5), large.get_pixel(60, 5));
        assert_ne!(large.get_pixel(60, 5), large.get_pixel(64, 5));
    }
}
