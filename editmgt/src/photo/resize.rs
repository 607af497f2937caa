//! Resampling of 8-bit images, bit for bit as in Pillow.
//!
//! The official code resizes photos and masks with Pillow, and the codec selects the nearest code,
//! so that one grey level can flip a token. The arithmetic is therefore Pillow's: per axis, weights
//! in 64-bit floats, normalised, rounded to 22-bit fixed point; sums in 32-bit integers; rows
//! first, rounded to bytes, then columns. (`image::imageops::resize` keeps floats between the
//! passes, and a tenth to a fifth of all values then differ by one level.)

use std::f64::consts::PI;

use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

use super::PixelSize;

/// Resampling filter. When downsampling, each filter is widened by the factor to avoid aliasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResizeFilter {
    /// Triangle, support 1 pixel: the official image preparation.
    Bilinear,
    /// Cubic convolution with `a = -0.5`, support 2 pixels: sharper; the official example script's
    /// resize to the photo's size.
    Bicubic,
    /// Windowed sinc (Lanczos), support 3 pixels: the official mask preparation.
    Lanczos,
}

impl ResizeFilter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            _ if x >= self.support() => 0.0,
            Self::Bilinear => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic => ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0,
            Self::Lanczos => sinc(x) * sinc(x / 3.0),
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// Resizes an RGB image, bit for bit as Pillow's `Image.resize`.
///
/// # Panics
/// When a side of the image or of `size` is 0.
pub fn resize_rgb(image: &RgbImage, size: PixelSize, filter: ResizeFilter) -> RgbImage {
    let sides = [size.height, size.width, image.height() as usize, image.width() as usize];
    assert!(!sides.contains(&0), "images to resize and their results have pixels");
    let pixels = resample::<3>(image.as_raw(), PixelSize::of(image), size, filter);
    RgbImage::from_raw(size.width as u32, size.height as u32, pixels)
        .expect("resampling fills every pixel")
}

/// Resizes a grey image; no side may be 0.
pub(super) fn resize_luma(image: &GrayImage, size: PixelSize, filter: ResizeFilter) -> GrayImage {
    let pixels = resample::<1>(image.as_raw(), PixelSize::of(image), size, filter);
    GrayImage::from_raw(size.width as u32, size.height as u32, pixels)
        .expect("resampling fills every pixel")
}

fn resample<const C: usize>(
    pixels: &[u8],
    from: PixelSize,
    to: PixelSize,
    filter: ResizeFilter,
) -> Vec<u8> {
    let horizontal = (from.width != to.width)
        .then(|| mix_columns::<C>(pixels, from.width, &taps(from.width, to.width, filter)));
    let pixels = horizontal.as_deref().unwrap_or(pixels);
    if from.height == to.height {
        return pixels.to_vec();
    }
    mix_rows(pixels, to.width * C, &taps(from.height, to.height, filter))
}

/// The input pixels of an output pixel: `weights` for those from `start` on.
struct Taps {
    start: usize,
    weights: Vec<i32>,
}

/// Fractional bits of a weight. 8 bits for the byte and 2 for filters whose positive weights sum to
/// more than 1 leave 22 of 32.
const PRECISION: u32 = 22;
const HALF: i32 = 1 << (PRECISION - 1);

fn taps(from: usize, to: usize, filter: ResizeFilter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let widen = scale.max(1.0);
    let reach = filter.support() * widen;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let start = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from);
            let weights: Vec<f64> =
                (start..end).map(|j| filter.weight((j as f64 - centre + 0.5) / widen)).collect();
            let one = f64::from(1 << PRECISION) / weights.iter().sum::<f64>();
            let weights = weights.iter().map(|weight| (weight * one).round() as i32).collect();
            Taps { start, weights }
        })
        .collect()
}

fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn mix_columns<const C: usize>(pixels: &[u8], width: usize, taps: &[Taps]) -> Vec<u8> {
    let rows = pixels.len() / (width * C);
    let mut out = Vec::with_capacity(rows * taps.len() * C);
    for row in pixels.as_chunks::<C>().0.chunks_exact(width) {
        for Taps { start, weights } in taps {
            let mut sums = [HALF; C];
            for (pixel, weight) in row[*start..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.extend(sums.map(byte));
        }
    }
    out
}

fn mix_rows(pixels: &[u8], row_length: usize, taps: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(taps.len() * row_length);
    let mut sums = vec![HALF; row_length];
    for Taps { start, weights } in taps {
        sums.fill(HALF);
        let rows = pixels[start * row_length..].chunks_exact(row_length);
        for (row, weight) in rows.zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().copied().map(byte));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(height: u32, width: u32, channel: u32) -> GrayImage {
        GrayImage::from_fn(width, height, |x, y| {
            image::Luma([((x * 37 + y * 91 + channel * 53 + x * y * 7) % 256) as u8])
        })
    }

    /// Pillow 13.0's result for the pattern.
    #[test]
    fn equals_pillow() {
        use ResizeFilter::{Bicubic, Bilinear, Lanczos};
        let (down, up) = (PixelSize::new(3, 4), PixelSize::new(5, 7));
        #[rustfmt::skip]
        let cases: [(ResizeFilter, &[u8], &[u8]); 3] = [
            (Bilinear, &[117, 129, 122, 123, 119, 141, 131, 139, 132, 132, 129, 124], &[0, 13, 34, 56, 77, 98, 111, 36, 51, 73, 96, 119, 142, 156, 91, 107, 132, 157, 182, 207, 223, 146, 163, 190, 141, 92, 119, 137, 182, 200, 229, 131, 32, 61, 79]),
            (Bicubic, &[113, 131, 121, 122, 119, 140, 133, 139, 135, 131, 127, 124], &[0, 3, 27, 48, 69, 93, 106, 27, 38, 64, 93, 121, 147, 160, 88, 103, 132, 157, 182, 211, 226, 150, 173, 205, 145, 84, 115, 138, 185, 213, 245, 129, 12, 44, 72]),
            (Lanczos, &[112, 134, 120, 122, 118, 142, 134, 139, 135, 130, 126, 124], &[0, 3, 27, 44, 60, 85, 97, 20, 28, 55, 92, 128, 156, 165, 87, 101, 131, 157, 183, 213, 227, 151, 186, 213, 150, 86, 113, 148, 175, 223, 246, 125, 2, 25, 74]),
        ];
        for (filter, smaller, larger) in cases {
            assert_eq!(resize_luma(&pattern(10, 12, 0), down, filter).as_raw(), smaller);
            assert_eq!(resize_luma(&pattern(3, 4, 0), up, filter).as_raw(), larger);
        }
    }

    #[test]
    fn channels_do_not_mix() {
        let rgb = RgbImage::from_fn(12, 10, |x, y| {
            image::Rgb([0, 1, 2].map(|c| pattern(10, 12, c).get_pixel(x, y).0[0]))
        });
        for size in [PixelSize::new(3, 4), PixelSize::new(20, 7), PixelSize::new(10, 30)] {
            let got = resize_rgb(&rgb, size, ResizeFilter::Bicubic);
            for channel in 0..3 {
                let expected = resize_luma(&pattern(10, 12, channel), size, ResizeFilter::Bicubic);
                let got: Vec<u8> = got.pixels().map(|pixel| pixel.0[channel as usize]).collect();
                assert_eq!(&got, expected.as_raw(), "{size} channel {channel}");
            }
        }
    }

    #[test]
    fn the_same_size_is_the_same_image_and_flat_stays_flat() {
        let image = pattern(9, 14, 0);
        let flat = GrayImage::from_pixel(31, 17, image::Luma([200]));
        for filter in [ResizeFilter::Bilinear, ResizeFilter::Bicubic, ResizeFilter::Lanczos] {
            assert_eq!(resize_luma(&image, PixelSize::of(&image), filter), image);
            for size in [PixelSize::new(1, 1), PixelSize::new(5, 90), PixelSize::new(64, 2)] {
                let resized = resize_luma(&flat, size, filter);
                assert!(resized.pixels().all(|pixel| pixel.0 == [200]), "{filter:?} {size}");
            }
        }
    }
}
