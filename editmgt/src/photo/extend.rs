use image::{GrayImage, Luma, RgbImage, imageops};
use serde::{Deserialize, Serialize};

use super::{Mask, Photo, PhotoError, PhotoLimits, PixelSize};

/// Pixels to add on each side of a photo, upright.
///
/// ```
/// use editmgt::photo::{Margins, PixelSize};
///
/// let margins = Margins { left: 256, bottom: 64, ..Margins::default() };
/// let canvas = margins.canvas(PixelSize::new(300, 400))?;
/// assert_eq!(canvas, PixelSize::new(364, 656));
/// # Ok::<(), editmgt::PhotoError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Margins {
    /// Columns on the left.
    #[serde(skip_serializing_if = "is_zero")]
    pub left: usize,
    /// Rows at the top.
    #[serde(skip_serializing_if = "is_zero")]
    pub top: usize,
    /// Columns on the right.
    #[serde(skip_serializing_if = "is_zero")]
    pub right: usize,
    /// Rows at the bottom.
    #[serde(skip_serializing_if = "is_zero")]
    pub bottom: usize,
}

fn is_zero(pixels: &usize) -> bool {
    *pixels == 0
}

impl Margins {
    /// The size of a photo with these margins.
    ///
    /// # Errors
    /// [`PhotoError::CanvasTooLarge`] above the default [`PhotoLimits`].
    pub fn canvas(self, photo: PixelSize) -> Result<PixelSize, PhotoError> {
        let Self { left, top, right, bottom } = self;
        let height = photo.height.saturating_add(top).saturating_add(bottom);
        let width = photo.width.saturating_add(left).saturating_add(right);
        let PhotoLimits { max_pixels, max_side, .. } = PhotoLimits::default();
        let pixels = (height as u64).saturating_mul(width as u64);
        let canvas = PixelSize::new(height, width);
        if pixels > max_pixels || canvas.longer() as u64 > max_side {
            return Err(PhotoError::CanvasTooLarge { photo, canvas, max_pixels, max_side });
        }
        Ok(canvas)
    }
}

impl Photo {
    /// The photo with margins that repeat its outermost pixels, opaque there, and a mask that is
    /// white on the margins: what an outpainting begins with. Metadata and notes are kept.
    ///
    /// # Errors
    /// Those of [`Margins::canvas`].
    pub fn extended(&self, margins: Margins) -> Result<(Self, Mask), PhotoError> {
        let canvas = margins.canvas(self.size())?;
        let Margins { left, top, .. } = margins;
        let (width, height) = (canvas.width as u32, canvas.height as u32);
        let nearest = |at: u32, start: usize, length: u32| {
            (at as usize).saturating_sub(start).min(length as usize - 1) as u32
        };
        let photo = self.rgb();
        let rgb = RgbImage::from_fn(width, height, |x, y| {
            *photo.get_pixel(nearest(x, left, photo.width()), nearest(y, top, photo.height()))
        });
        let alpha = self.alpha().map(|alpha| {
            let mut opaque = GrayImage::from_pixel(width, height, Luma([u8::MAX]));
            imageops::replace(&mut opaque, alpha, left as i64, top as i64);
            opaque
        });
        let mut mask = GrayImage::from_pixel(width, height, Luma([u8::MAX]));
        let black = GrayImage::new(photo.width(), photo.height());
        imageops::replace(&mut mask, &black, left as i64, top as i64);
        Ok((self.on_canvas(rgb, alpha), Mask::from_luma(mask)))
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb, Rgba, RgbaImage};

    use super::*;

    #[test]
    fn the_photo_stays_and_the_margins_repeat_its_border() {
        let pixel = |x: u32, y: u32| Rgb([x as u8, y as u8, 7]);
        let photo = Photo::from_rgb(RgbImage::from_fn(10, 8, pixel)).unwrap();
        let margins = Margins { left: 3, top: 2, right: 0, bottom: 5 };
        let (canvas, mask) = photo.extended(margins).unwrap();
        assert_eq!(canvas.size(), PixelSize::new(15, 13));
        let levels = mask.levels(canvas.size()).unwrap();
        for (x, y, got) in canvas.rgb().enumerate_pixels() {
            let inside = (3..13).contains(&x) && (2..10).contains(&y);
            let expected = pixel(x.saturating_sub(3).min(9), y.saturating_sub(2).min(7));
            assert_eq!(*got, expected, "{x},{y}");
            assert_eq!(levels.get_pixel(x, y).0[0], if inside { 0 } else { 255 }, "{x},{y}");
        }
    }

    #[test]
    fn margins_are_opaque() {
        let rgba = RgbaImage::from_pixel(8, 8, Rgba([1, 2, 3, 40]));
        let photo = Photo::try_from(DynamicImage::ImageRgba8(rgba)).unwrap();
        let (canvas, _) = photo.extended(Margins { right: 4, ..Margins::default() }).unwrap();
        let alpha = canvas.alpha().unwrap();
        assert_eq!((alpha.get_pixel(7, 0).0[0], alpha.get_pixel(8, 0).0[0]), (40, 255));
    }

    #[test]
    fn canvases_beyond_the_limits_are_refused() {
        let photo = PixelSize::new(1000, 1000);
        let left = |left| Margins { left, ..Margins::default() }.canvas(photo);
        assert!(left(20_000).is_ok());
        for margin in [31_769, 1 << 40, usize::MAX] {
            let error = left(margin).unwrap_err();
            assert!(matches!(error, PhotoError::CanvasTooLarge { .. }), "{margin}: {error}");
        }
        let all = Margins { left: 4000, top: 4000, right: 4000, bottom: 4000 };
        let message = all.canvas(photo).unwrap_err().to_string();
        assert!(message.contains("9000x9000") && message.contains("50000000"), "{message}");
    }
}
