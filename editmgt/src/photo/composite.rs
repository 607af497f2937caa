use editmgt_core::{Error, HoldMask, Result};
use image::RgbImage;

use super::PixelSize;

/// Widest feather, pixels.
const MAX_FEATHER: usize = 4096;

/// Puts the photo's own pixels back where its tokens were held.
///
/// A codec changes every pixel a little, also those of tokens that were never touched. After
/// this, held pixels are the photo's own bytes.
#[derive(Debug, Clone, Copy)]
pub struct Composite<'a> {
    /// The photo.
    pub photo: &'a RgbImage,
    /// The decoded edit, at the photo's size.
    pub edit: &'a RgbImage,
    /// Which tokens were held. The grid covers the whole photo.
    pub hold: &'a HoldMask,
    /// Which image of the mask's batch this is.
    pub image: usize,
    /// How many pixels the edit takes to fade in, counted from the nearest held pixel (the larger
    /// of its horizontal and vertical distance); 0 is a hard edge. The ramp lies on the edit's
    /// side: held pixels stay exact.
    pub feather: usize,
}

impl Composite<'_> {
    /// The picture.
    ///
    /// # Errors
    /// [`Error::Shape`] when photo and edit differ in size, or the mask is empty or has no such
    /// image; [`Error::Value`] for a feather above 4096.
    pub fn render(&self) -> Result<RgbImage> {
        let size = PixelSize::of(self.photo);
        if PixelSize::of(self.edit) != size {
            return Err(Error::shape("decoded edit", size, PixelSize::of(self.edit)));
        }
        if self.hold.size().is_empty() || self.image >= self.hold.batch() {
            let got = format!("{} masks of {}", self.hold.batch(), self.hold.size());
            return Err(Error::shape("hold mask", format!("image {}", self.image), got));
        }
        if self.feather > MAX_FEATHER {
            let expected = format!("0 to {MAX_FEATHER} pixels");
            return Err(Error::value("feather", expected, self.feather));
        }
        // A pixel `steps` away from the held ones is all edit.
        let steps = self.feather as u16 + 1;
        let mut distance = self.held_pixels(size, steps);
        if self.feather > 0 {
            spread(&mut distance, size.width);
        }
        let mut picture = self.edit.clone();
        let pixels = picture.pixels_mut().zip(self.photo.pixels());
        for ((edit, photo), &distance) in pixels.zip(&distance) {
            for (edit, &photo) in edit.0.iter_mut().zip(&photo.0) {
                *edit = mix(photo, *edit, distance, steps);
            }
        }
        Ok(picture)
    }

    /// 0 for held pixels, `far` for the others.
    fn held_pixels(&self, size: PixelSize, far: u16) -> Vec<u16> {
        let grid = self.hold.size();
        let held = &self.hold.held()[self.image * grid.len()..][..grid.len()];
        let mut pixels = Vec::with_capacity(size.height * size.width);
        for y in 0..size.height {
            let row = y * grid.height / size.height * grid.width;
            pixels.extend((0..size.width).map(|x| {
                let token = row + x * grid.width / size.width;
                if held[token] { 0 } else { far }
            }));
        }
        pixels
    }
}

/// Replaces each value by the distance to the nearest 0 where that is smaller: forwards from the
/// neighbours before a pixel, then backwards from those after it.
fn spread(distance: &mut [u16], width: usize) {
    let Some(last) = distance.len().checked_sub(1) else { return };
    let relax = |distance: &mut [u16], i: usize, backwards: bool| {
        let at = |j: usize| distance[if backwards { last - j } else { j }];
        let x = i % width;
        let mut nearest = at(i);
        if x > 0 {
            nearest = nearest.min(at(i - 1) + 1);
        }
        if i >= width {
            let above = i - width;
            nearest = nearest.min(at(above) + 1);
            if x > 0 {
                nearest = nearest.min(at(above - 1) + 1);
            }
            if x + 1 < width {
                nearest = nearest.min(at(above + 1) + 1);
            }
        }
        distance[if backwards { last - i } else { i }] = nearest;
    };
    for backwards in [false, true] {
        for i in 0..distance.len() {
            relax(distance, i, backwards);
        }
    }
}

/// `distance` of `steps` parts edit, rounded; exact at both ends.
fn mix(photo: u8, edit: u8, distance: u16, steps: u16) -> u8 {
    let (distance, steps) = (u32::from(distance), u32::from(steps));
    let sum = u32::from(photo) * (steps - distance) + u32::from(edit) * distance;
    ((sum + steps / 2) / steps) as u8
}

#[cfg(test)]
mod tests {
    use editmgt_core::GridSize;

    use super::*;

    fn noise(height: u32, width: u32, salt: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let value = (x * 2_654_435 + y * 40_503 + salt).wrapping_mul(2_246_822_519) >> 8;
            image::Rgb([value as u8, (value >> 5) as u8, (value >> 11) as u8])
        })
    }

    /// The second of two masks: a checkerboard.
    fn checkerboard(size: GridSize) -> HoldMask {
        let held = (0..2 * size.len())
            .map(|i| i >= size.len() && (i / size.width + i % size.width).is_multiple_of(2))
            .collect();
        HoldMask::new(2, size, held).unwrap()
    }

    #[test]
    fn held_pixels_are_the_photos_bytes_and_the_rest_is_the_edit() {
        for (height, width) in [(64, 48), (37, 91), (8, 8)] {
            let (photo, edit) = (noise(height, width, 1), noise(height, width, 2));
            for grid in [GridSize::new(4, 3), GridSize::new(1, 8), GridSize::new(8, 8)] {
                let hold = checkerboard(grid);
                for feather in [0, 1, 5] {
                    let composite =
                        Composite { photo: &photo, edit: &edit, hold: &hold, image: 1, feather };
                    let picture = composite.render().unwrap();
                    let mut own = 0;
                    for (x, y, pixel) in picture.enumerate_pixels() {
                        let row = y as usize * grid.height / height as usize;
                        let column = x as usize * grid.width / width as usize;
                        if hold.held()[grid.len() + row * grid.width + column] {
                            assert_eq!(pixel, photo.get_pixel(x, y), "{x},{y}");
                            own += 1;
                        } else if feather == 0 {
                            assert_eq!(pixel, edit.get_pixel(x, y), "{x},{y}");
                        }
                    }
                    assert!(own > 0);
                    let first = Composite { image: 0, ..composite };
                    assert_eq!(first.render().unwrap(), edit, "nothing held");
                }
            }
        }
    }

    #[test]
    fn the_feather_is_a_ramp_on_the_edits_side() {
        let photo = RgbImage::new(8, 8);
        let edit = RgbImage::from_pixel(8, 8, image::Rgb([200; 3]));
        // The left half is held.
        let hold = HoldMask::new(1, GridSize::new(1, 2), vec![true, false]).unwrap();
        for (feather, row) in [
            (0, [0, 0, 0, 0, 200, 200, 200, 200]),
            (1, [0, 0, 0, 0, 100, 200, 200, 200]),
            (3, [0, 0, 0, 0, 50, 100, 150, 200]),
        ] {
            let composite =
                Composite { photo: &photo, edit: &edit, hold: &hold, image: 0, feather };
            let picture = composite.render().unwrap();
            for y in 0..8 {
                let got: Vec<u8> = (0..8).map(|x| picture.get_pixel(x, y).0[0]).collect();
                assert_eq!(got, row, "feather {feather}, row {y}");
            }
        }
    }

    #[test]
    fn the_distance_is_the_larger_of_both_directions() {
        let (height, width) = (9, 13);
        for zeros in [vec![(4, 6)], vec![(0, 0), (8, 12)], vec![(2, 11), (7, 1), (5, 5)]] {
            let mut distance = vec![100; height * width];
            zeros.iter().for_each(|&(y, x)| distance[y * width + x] = 0);
            spread(&mut distance, width);
            for y in 0..height {
                for x in 0..width {
                    let expected = zeros.iter().map(|z| y.abs_diff(z.0).max(x.abs_diff(z.1))).min();
                    assert_eq!(Some(distance[y * width + x].into()), expected, "{zeros:?} {y},{x}");
                }
            }
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (photo, other) = (RgbImage::new(8, 8), RgbImage::new(8, 9));
        let hold = HoldMask::none(1, GridSize::new(2, 2));
        let empty = HoldMask::none(1, GridSize::new(0, 2));
        let fine = Composite { photo: &photo, edit: &photo, hold: &hold, image: 0, feather: 0 };
        assert!(fine.render().is_ok());
        for (what, composite) in [
            ("another size", Composite { edit: &other, ..fine }),
            ("no such image", Composite { image: 1, ..fine }),
            ("no tokens", Composite { hold: &empty, ..fine }),
            ("an endless feather", Composite { feather: usize::MAX, ..fine }),
        ] {
            assert!(composite.render().is_err(), "{what}");
        }
    }
}
