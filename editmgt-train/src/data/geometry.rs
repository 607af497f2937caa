use burn::tensor::{Device, Tensor};
use editmgt::photo::{Photo, PixelSize, ResizePlan};
use editmgt_core::GridSize;

use super::hash::Fingerprint;
use super::row::PairImages;
use super::{Crop, ImageOptions, MaskReading, Skip, SkipCause};
use crate::run::Draws;

/// Largest relative difference between the aspect ratios of the two images of a pair.
const ASPECT_TOLERANCE: f64 = 0.01;

/// Transformation of a pair's images and its mask: resize, crop, optional mirroring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Geometry {
    /// The size before the crop: no side is shorter than the crop's.
    resized: PixelSize,
    /// The size after it.
    size: PixelSize,
    top: usize,
    left: usize,
    flip: bool,
}

impl Geometry {
    /// Crop number `number` of the row `name`, whose image before has size `photo`: a pure function
    /// of the arguments.
    pub(super) fn draw(
        options: &ImageOptions,
        photo: PixelSize,
        name: &str,
        number: usize,
    ) -> Self {
        let size = PixelSize::new(options.height as usize, options.width as usize);
        let resized = cover(photo, size);
        let room = (resized.height - size.height, resized.width - size.width);
        let address = Fingerprint::default().with(name).with((number as u64).to_le_bytes());
        let mut draws = Draws::new(options.seed).stream("crop", address.number());
        let (top, left) = match options.crop {
            Crop::Centre => (room.0 / 2, room.1 / 2),
            Crop::Random => (draws.below(room.0 + 1), draws.below(room.1 + 1)),
        };
        Self { resized, size, top, left, flip: draws.uniform() < options.flip }
    }

    /// An image of the pair: `[1, 3, H, W]`, RGB in 0..1.
    ///
    /// # Errors
    /// An image too narrow to be resized.
    pub(super) fn apply(&self, photo: &Photo, device: &Device) -> Result<Tensor<4>, Skip> {
        let narrow = |e| Skip::new(SkipCause::CorruptImage, e);
        let plan = ResizePlan::exact(photo.size(), self.resized, 1).map_err(narrow)?;
        let whole = plan.apply(photo, device).map_err(narrow)?;
        let (bottom, right) = (self.top + self.size.height, self.left + self.size.width);
        let crop = whole.slice([0..1, 0..3, self.top..bottom, self.left..right]);
        Ok(if self.flip { crop.flip([3]) } else { crop })
    }

    /// Whether the masked part of the edit overlaps each token's patch, row-major.
    pub(super) fn touched(&self, mask: &Photo, reading: MaskReading, grid: GridSize) -> Vec<bool> {
        let is_edit = edit_of(mask, reading);
        let from = mask.size();
        let spans = |from: usize, resized: usize, start: usize, size: usize, cells: usize| {
            let cells = Cells { from, resized, start, size, cells };
            (0..from).map(|pixel| cells.of(pixel)).collect::<Vec<_>>()
        };
        let Self { resized, size, .. } = *self;
        let rows = spans(from.height, resized.height, self.top, size.height, grid.height);
        let columns = spans(from.width, resized.width, self.left, size.width, grid.width);
        let mut touched = vec![false; grid.len()];
        for (y, rows) in rows.iter().enumerate() {
            for (x, columns) in columns.iter().enumerate() {
                if rows.is_empty() || columns.is_empty() || !is_edit(x as u32, y as u32) {
                    continue;
                }
                for row in rows.clone() {
                    touched[row * grid.width..][columns.clone()].fill(true);
                }
            }
        }
        if self.flip {
            touched.chunks_mut(grid.width).for_each(<[bool]>::reverse);
        }
        touched
    }
}

/// The mapping from a mask's pixels to the cells of the token grid, along one axis.
struct Cells {
    from: usize,
    resized: usize,
    start: usize,
    size: usize,
    cells: usize,
}

impl Cells {
    /// The cells that a pixel of the mask affects.
    fn of(&self, pixel: usize) -> std::ops::Range<usize> {
        let scale = self.resized as f64 / self.from as f64;
        // Resizing mixes pixels up to a pixel apart.
        let reach = if self.resized == self.from { 0.0 } else { 1.0 };
        let start = self.start as f64;
        let (first, last) = (pixel as f64 * scale - reach, (pixel + 1) as f64 * scale + reach);
        let cell = self.size as f64 / self.cells as f64;
        let clamp = |cell: f64| cell.clamp(0.0, self.cells as f64) as usize;
        clamp(((first - start) / cell).floor())..clamp(((last - start) / cell).ceil())
    }
}

/// The smallest size of about the aspect ratio of `photo` that covers `size`.
fn cover(photo: PixelSize, size: PixelSize) -> PixelSize {
    let ratio = |to: usize, from: usize| to as f64 / from as f64;
    let scale = ratio(size.height, photo.height).max(ratio(size.width, photo.width));
    let side = |from: usize, least: usize| ((from as f64 * scale).round() as usize).max(least);
    PixelSize::new(side(photo.height, size.height), side(photo.width, size.width))
}

/// Whether a mask marks a pixel of its own size: at half intensity or more.
pub(super) fn edit_of(mask: &Photo, reading: MaskReading) -> impl Fn(u32, u32) -> bool {
    let levels = reading.levels(mask);
    move |x, y| levels.get_pixel(x, y).0[0] >= 128
}

/// Checks that the images of a row match: see [`ImageOptions::accept_rescaled`].
pub(super) fn check_sizes(pictures: &PairImages, accept_rescaled: bool) -> Result<(), Skip> {
    let (before, after) = (pictures.before.size(), pictures.after.size());
    if before != after && !(accept_rescaled && same_shape(before, after)) {
        let detail = format!("{before} before, {after} after");
        return Err(Skip::new(SkipCause::SizeMismatch, detail));
    }
    match pictures.mask.as_ref().map(Photo::size) {
        Some(mask) if !same_shape(before, mask) => {
            let detail = format!("a mask of {mask} for an image of {before}");
            Err(Skip::new(SkipCause::MaskMismatch, detail))
        }
        _ => Ok(()),
    }
}

/// Whether the sizes have the same aspect ratio: to one in a hundred, or one pixel of rounding.
fn same_shape(one: PixelSize, other: PixelSize) -> bool {
    let near = |got: usize, of: usize, to: usize, from: usize| {
        let expected = of as f64 * to as f64 / from as f64;
        (got as f64 - expected).abs() <= (expected * ASPECT_TOLERANCE).max(1.0)
    };
    near(other.width, one.width, other.height, one.height)
        || near(other.height, one.height, other.width, one.width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{RgbImage, Rgba, RgbaImage};

    fn photo(width: u32, height: u32) -> Photo {
        // Every pixel encodes its position.
        let at = |x, y| image::Rgb([x as u8, y as u8, 0]);
        Photo::from_rgb(RgbImage::from_fn(width, height, at)).unwrap()
    }

    fn bytes(tensor: Tensor<4>) -> Vec<u8> {
        let values = tensor.try_into_vec_as::<f32>().unwrap();
        values.iter().map(|value| (value * 255.0).round() as u8).collect()
    }

    fn mask(width: u32, height: u32, white: impl Fn(u32, u32) -> bool) -> Photo {
        let level = |x, y| image::Rgb([if white(x, y) { 255 } else { 0 }; 3]);
        Photo::from_rgb(RgbImage::from_fn(width, height, level)).unwrap()
    }

    #[test]
    fn the_size_is_covered_and_the_middle_is_left() {
        for ((width, height), resized, (top, left)) in [
            ((32, 32), (16, 16), (0, 0)),
            ((64, 32), (16, 32), (0, 8)),
            ((32, 48), (24, 16), (4, 0)),
            ((8, 8), (16, 16), (0, 0)),
            ((33, 32), (16, 17), (0, 0)),
        ] {
            let options = ImageOptions::new(16, 16);
            let drawn = Geometry::draw(&options, PixelSize::new(height, width), "row", 0);
            assert_eq!((drawn.resized.height, drawn.resized.width), resized, "{width}x{height}");
            assert_eq!((drawn.top, drawn.left, drawn.flip), (top, left, false));
        }
    }

    #[test]
    fn a_crop_is_a_function_of_seed_row_and_number() {
        let options = ImageOptions { crop: Crop::Random, flip: 0.5, ..ImageOptions::new(16, 16) };
        let draw = |seed, name, number| {
            let options = ImageOptions { seed, ..options.clone() };
            Geometry::draw(&options, PixelSize::new(16, 1000), name, number)
        };
        assert_eq!(draw(1, "a", 0), draw(1, "a", 0));
        for other in [draw(2, "a", 0), draw(1, "b", 0), draw(1, "a", 1)] {
            assert_ne!(draw(1, "a", 0), other);
        }
        let drawn: Vec<Geometry> = (0..400).map(|number| draw(1, "a", number)).collect();
        let flips = drawn.iter().filter(|drawn| drawn.flip).count();
        // Five deviations of a binomial count: 50 of 400.
        assert!((150..250).contains(&flips), "{flips}");
        assert!(drawn.iter().all(|drawn| drawn.left <= 984));
        assert!(drawn.iter().any(|drawn| drawn.left < 100) && drawn.iter().any(|d| d.left > 884));
    }

    #[test]
    fn pair_is_cropped_and_mirrored_together() {
        let options = ImageOptions { crop: Crop::Random, flip: 1.0, ..ImageOptions::new(8, 8) };
        let geometry = Geometry::draw(&options, PixelSize::new(8, 40), "row", 3);
        let device = Device::flex();
        let photo = photo(40, 8);
        let crop = bytes(geometry.apply(&photo, &device).unwrap());
        assert_eq!(bytes(geometry.apply(&photo.clone(), &device).unwrap()), crop);
        let left = geometry.left as u8;
        let expected: Vec<u8> = (left..left + 8).rev().collect();
        assert_eq!(crop[..8], expected);
        assert_eq!(crop[64..80], [[0; 8], [1; 8]].concat());
    }

    #[test]
    fn mask_marks_the_tokens_it_overlaps() {
        let grid = GridSize::new(2, 4);
        let geometry = |photo: (usize, usize), flip: f32| {
            let options = ImageOptions { flip, ..ImageOptions::new(16, 32) };
            Geometry::draw(&options, PixelSize::new(photo.0, photo.1), "row", 0)
        };
        let touched = |geometry: Geometry, mask: &Photo| {
            let touched = geometry.touched(mask, MaskReading::Auto, grid);
            touched.iter().map(|&touched| u8::from(touched)).collect::<Vec<_>>()
        };
        let corner = mask(32, 16, |x, y| x >= 31 && y == 0);
        assert_eq!(touched(geometry((16, 32), 0.0), &corner), [0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(touched(geometry((16, 32), 1.0), &corner), [1, 0, 0, 0, 0, 0, 0, 0]);
        // Twice as large as the crop: a pixel next to the border of a token reaches over it.
        let inner = mask(64, 32, |x, y| x == 16 && y == 20);
        assert_eq!(touched(geometry((32, 64), 0.0), &inner), [0, 0, 0, 0, 1, 1, 0, 0]);
        // A quarter of the crop's size: a pixel of the mask covers half a token.
        let coarse = mask(8, 8, |x, y| x == 0 && y == 0);
        let square = Geometry::draw(&ImageOptions::new(32, 32), PixelSize::new(32, 32), "row", 0);
        let reached = square.touched(&coarse, MaskReading::Auto, GridSize::new(4, 4));
        assert_eq!(reached.iter().filter(|reached| **reached).count(), 1);
        // Cropped parts mark nothing.
        let outside = mask(64, 16, |x, _| x < 15);
        assert_eq!(touched(geometry((16, 64), 0.0), &outside), [0; 8]);
    }

    #[test]
    fn mask_is_read_by_brightness_or_opacity() {
        let hole = RgbaImage::from_fn(16, 16, |x, _| {
            Rgba(if x < 8 { [255, 255, 255, 0] } else { [255, 255, 255, 255] })
        });
        let mut png = std::io::Cursor::new(Vec::new());
        hole.write_to(&mut png, image::ImageFormat::Png).unwrap();
        let hole = Photo::from_bytes(png.get_ref()).unwrap();
        let geometry = Geometry::draw(&ImageOptions::new(16, 16), hole.size(), "row", 0);
        let grid = GridSize::new(1, 2);
        for (mask, reading, expected) in [
            (&hole, MaskReading::Auto, [true, false]),
            (&hole, MaskReading::Alpha, [true, false]),
            (&hole, MaskReading::Luma, [false, true]),
            (&mask(16, 16, |x, _| x >= 8), MaskReading::Auto, [false, true]),
            (&mask(16, 16, |x, _| x >= 8), MaskReading::Alpha, [false, false]),
        ] {
            assert_eq!(geometry.touched(mask, reading, grid), expected, "{reading:?}");
        }
    }

    #[test]
    fn rejects_mismatched_images() {
        let pair = |after: (u32, u32), mask: Option<(u32, u32)>| PairImages {
            before: photo(30, 20),
            after: photo(after.0, after.1),
            mask: mask.map(|(width, height)| photo(width, height)),
        };
        for (pictures, accept_rescaled, expected) in [
            (pair((30, 20), None), false, None),
            (pair((60, 40), None), false, Some(SkipCause::SizeMismatch)),
            (pair((60, 40), None), true, None),
            (pair((20, 30), None), true, Some(SkipCause::SizeMismatch)),
            (pair((30, 20), Some((15, 10))), false, None),
            (pair((30, 20), Some((30, 30))), false, Some(SkipCause::MaskMismatch)),
        ] {
            let cause = check_sizes(&pictures, accept_rescaled).err().map(|skip| skip.cause);
            assert_eq!(cause, expected, "{}", pictures.after.size());
        }
    }
}
