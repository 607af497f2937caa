use std::array;

use editmgt_core::{Error, Result};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{ChangeMask, PixelSize};

/// Colour space in which photo and edit are mixed.
///
/// In JSON `"srgb"` and `"linear"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blend {
    /// The encoded values of the file.
    #[default]
    Srgb,
    /// Linear light, by sRGB's transfer function, whatever the photo's colour profile.
    Linear,
}

/// Restores the photo's own pixels outside the edit.
///
/// A codec changes every pixel slightly, even those of unchanged tokens. The composite restores the
/// photo's bytes in pixels of weight 0.
#[derive(Debug, Clone, Copy)]
pub struct Composite<'a> {
    /// The photo.
    pub photo: &'a RgbImage,
    /// The decoded edit, at the photo's size.
    pub edit: &'a RgbImage,
    /// Weight of the edit in each pixel.
    pub change: &'a ChangeMask,
    /// The colour space of the mixture.
    pub blend: Blend,
}

impl Composite<'_> {
    /// Renders the composite.
    ///
    /// # Errors
    /// [`Error::Shape`] when photo, edit and mask differ in size.
    pub fn render(&self) -> Result<RgbImage> {
        let size = PixelSize::of(self.photo);
        if PixelSize::of(self.edit) != size {
            return Err(Error::shape("decoded edit", size, PixelSize::of(self.edit)));
        }
        if self.change.size() != size {
            return Err(Error::shape("change mask", size, self.change.size()));
        }
        let light: [f32; 256] = array::from_fn(|level| light(level as f32 / 255.0));
        let mix = |photo: u8, edit: u8, weight: u16| match self.blend {
            Blend::Srgb => mix(photo, edit, weight),
            Blend::Linear => {
                let weight = f32::from(weight) / f32::from(ChangeMask::ALL);
                let (photo, edit) = (light[usize::from(photo)], light[usize::from(edit)]);
                (level(photo + (edit - photo) * weight) * 255.0).round() as u8
            }
        };
        let mut picture = self.edit.clone();
        let pixels = picture.pixels_mut().zip(self.photo.pixels());
        for ((edit, photo), &weight) in pixels.zip(self.change.weights()) {
            match weight {
                0 => *edit = *photo,
                ChangeMask::ALL => {}
                weight => {
                    for (edit, &photo) in edit.0.iter_mut().zip(&photo.0) {
                        *edit = mix(photo, *edit, weight);
                    }
                }
            }
        }
        Ok(picture)
    }
}

/// Mixes in this weight of the edit, rounded.
fn mix(photo: u8, edit: u8, weight: u16) -> u8 {
    let (all, weight) = (u32::from(ChangeMask::ALL), u32::from(weight));
    let sum = u32::from(photo) * (all - weight) + u32::from(edit) * weight;
    ((sum + all / 2) / all) as u8
}

/// Linear light of an sRGB value, 0..1 both. Source: IEC 61966-2-1.
fn light(level: f32) -> f32 {
    if level <= 0.04045 { level / 12.92 } else { ((level + 0.055) / 1.055).powf(2.4) }
}

/// The sRGB value of linear light, 0..1 both.
fn level(light: f32) -> f32 {
    if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use editmgt_core::{GridSize, HoldMask};

    use super::*;
    use crate::photo::ResizePlan;

    const BLENDS: [Blend; 2] = [Blend::Srgb, Blend::Linear];

    fn noise(height: u32, width: u32, salt: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let value = (x * 2_654_435 + y * 40_503 + salt).wrapping_mul(2_246_822_519) >> 8;
            image::Rgb([value as u8, (value >> 5) as u8, (value >> 11) as u8])
        })
    }

    /// A checkerboard of two masks.
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
            let plan = ResizePlan::native(PixelSize::of(&photo), 1).unwrap();
            for grid in [GridSize::new(4, 3), GridSize::new(1, 8), GridSize::new(8, 8)] {
                let hold = checkerboard(grid);
                for (feather, blend) in [(0, Blend::Srgb), (1, Blend::Srgb), (5, Blend::Linear)] {
                    let render = |image| {
                        let change = ChangeMask::new(&hold, image, &plan).unwrap();
                        let change = change.feathered(feather).unwrap();
                        let photo = &photo;
                        Composite { photo, edit: &edit, change: &change, blend }.render().unwrap()
                    };
                    let picture = render(1);
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
                    assert_eq!(render(0), edit, "nothing held");
                }
            }
        }
    }

    /// Half of black and half of white, as encoded values and as light.
    #[test]
    fn light_and_levels_mix_differently() {
        let photo = RgbImage::new(2, 1);
        let edit = RgbImage::from_pixel(2, 1, image::Rgb([255; 3]));
        let hold = HoldMask::new(1, GridSize::new(1, 2), vec![true, false]).unwrap();
        let plan = ResizePlan::native(PixelSize::new(1, 2), 1).unwrap();
        let change = ChangeMask::new(&hold, 0, &plan).unwrap().feathered(1).unwrap();
        for (blend, expected) in BLENDS.into_iter().zip([128, 188]) {
            let composite = Composite { photo: &photo, edit: &edit, change: &change, blend };
            let picture = composite.render().unwrap();
            assert_eq!(picture.as_raw()[..], [0, 0, 0, expected, expected, expected], "{blend:?}");
        }
    }

    #[test]
    fn mixing_an_image_with_itself_changes_nothing() {
        let photo = noise(16, 16, 3);
        let plan = ResizePlan::native(PixelSize::of(&photo), 1).unwrap();
        let hold = checkerboard(GridSize::new(2, 2));
        let change = ChangeMask::new(&hold, 1, &plan).unwrap().feathered(6).unwrap();
        for blend in BLENDS {
            let composite = Composite { photo: &photo, edit: &photo, change: &change, blend };
            assert_eq!(composite.render().unwrap(), photo, "{blend:?}");
        }
    }

    #[test]
    fn rejects_mismatched_parts() {
        let (photo, other) = (RgbImage::new(8, 8), RgbImage::new(8, 9));
        let change = |photo: &RgbImage| {
            let plan = ResizePlan::native(PixelSize::of(photo), 1).unwrap();
            ChangeMask::new(&HoldMask::none(1, GridSize::new(2, 2)), 0, &plan).unwrap()
        };
        let (change, another) = (change(&photo), change(&other));
        let blend = Blend::Srgb;
        let fine = Composite { photo: &photo, edit: &photo, change: &change, blend };
        assert!(fine.render().is_ok());
        assert!(Composite { edit: &other, ..fine }.render().is_err(), "another size");
        assert!(Composite { change: &another, ..fine }.render().is_err(), "another mask");
    }
}
