use std::path::Path;

use editmgt_core::{GridSize, UserMask};
use image::GrayImage;

use super::resize::{ResizeFilter, resize_luma};
use super::{Origin, Photo, PhotoError, PhotoLimits, PixelSize, ResizePlan};

/// How far the proportions of mask and photo may differ.
const ASPECT_TOLERANCE: f64 = 0.01;

/// A drawing of where the edit may happen: white may change, black must stay.
///
/// Any size with the photo's proportions, drawn over the photo as it is shown (upright). Colours
/// count by their brightness, transparent areas as black.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    luma: GrayImage,
    origin: Origin,
}

impl Mask {
    /// Reads a mask from an image file, any format that [`Photo::open`] reads.
    ///
    /// # Errors
    /// Those of [`Photo::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PhotoError> {
        Self::open_within(path, &PhotoLimits::default())
    }

    /// [`open`](Self::open) with limits of your own.
    ///
    /// # Errors
    /// Those of [`Photo::open`].
    pub fn open_within(path: impl AsRef<Path>, limits: &PhotoLimits) -> Result<Self, PhotoError> {
        let path = path.as_ref();
        let picture = Photo::open_within(path, limits)?;
        Ok(Self { luma: brightness(&picture), origin: Origin::File(path.to_owned()) })
    }

    /// Takes grey levels: 255 may change, 0 must stay.
    pub fn from_luma(luma: GrayImage) -> Self {
        Self { luma, origin: Origin::Memory }
    }

    /// Height and width.
    pub fn size(&self) -> PixelSize {
        PixelSize::of(&self.luma)
    }

    /// The mask on the token grid: each token gets the white share of its area in the photo,
    /// exactly; one that lies outside what the plan shows of the photo gets 0. A token may change
    /// when half of it or more is white.
    ///
    /// # Errors
    /// [`PhotoError::MaskAspect`] when the proportions differ from the photo's by more than 1%
    /// (or a pixel of the mask), [`PhotoError::MaskEmpty`] when no token may change,
    /// [`PhotoError::Value`] for an empty grid.
    pub fn on_grid(&self, plan: &ResizePlan, grid: GridSize) -> Result<UserMask, PhotoError> {
        self.check_aspect(plan.photo())?;
        self.finish(grid, UserMask::new(grid, white_share(&self.luma, plan, grid))?)
    }

    /// The grey levels at the photo's size (bilinear): 255 may change, 0 must stay, what lies
    /// between may change a little.
    ///
    /// # Errors
    /// [`PhotoError::MaskAspect`].
    pub fn levels(&self, photo: PixelSize) -> Result<GrayImage, PhotoError> {
        self.check_aspect(photo)?;
        Ok(resize_luma(&self.luma, photo, ResizeFilter::Bilinear))
    }

    /// The mask on the token grid as the official pipeline makes it: resized to one pixel per token
    /// with an antialiased Lanczos filter in 8 bits, then white from level 128 on. No value between
    /// 0 and 1; the proportions are not checked.
    ///
    /// Differs from [`on_grid`](Self::on_grid) at the rim of the white area only: the filter looks
    /// three tokens far, so a token's neighbours have a say.
    ///
    /// Source: the pipeline's mask processor (diffusers `VaeImageProcessor`: resize, grey,
    /// binarise), which is given the token grid as its size. It rounds that down to multiples of
    /// the codec's factor, and so fails on other grids; here any grid will do.
    ///
    /// # Errors
    /// [`PhotoError::MaskEmpty`], [`PhotoError::Value`] for an empty grid.
    pub fn on_grid_official(&self, grid: GridSize) -> Result<UserMask, PhotoError> {
        let values = match grid.is_empty() {
            true => Vec::new(),
            false => {
                let size = PixelSize::new(grid.height, grid.width);
                let resized = resize_luma(&self.luma, size, ResizeFilter::Lanczos);
                resized.iter().map(|&level| f32::from(u8::from(level >= 128))).collect()
            }
        };
        self.finish(grid, UserMask::new(grid, values)?)
    }

    fn finish(&self, grid: GridSize, mask: UserMask) -> Result<UserMask, PhotoError> {
        if (0..grid.len()).any(|token| mask.may_change(token)) {
            return Ok(mask);
        }
        Err(PhotoError::MaskEmpty { origin: self.origin.clone(), grid })
    }

    /// Checks that the mask has the photo's proportions, which [`on_grid`](Self::on_grid) asks for.
    ///
    /// # Errors
    /// [`PhotoError::MaskAspect`] with both sizes.
    pub fn check_aspect(&self, photo: PixelSize) -> Result<(), PhotoError> {
        let mask = self.size();
        let expected = |side: usize, of: usize, to: usize| side as f64 * to as f64 / of as f64;
        let close = |got: usize, expected: f64| {
            (got as f64 - expected).abs() <= (expected * ASPECT_TOLERANCE).max(1.0)
        };
        // A small mask is the photo's shape rounded to pixels, by either of its sides.
        if close(mask.width, expected(mask.height, photo.height, photo.width))
            || close(mask.height, expected(mask.width, photo.width, photo.height))
        {
            return Ok(());
        }
        Err(PhotoError::MaskAspect { origin: self.origin.clone(), mask, photo })
    }
}

/// Rec. 601 luma in 16 binary places, as Pillow converts to grey, times opacity.
fn brightness(picture: &Photo) -> GrayImage {
    let (width, height) = picture.rgb().dimensions();
    GrayImage::from_fn(width, height, |x, y| {
        let [r, g, b] = picture.rgb().get_pixel(x, y).0.map(u32::from);
        let luma = (r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16;
        let opacity = picture.alpha().map_or(255, |alpha| alpha.get_pixel(x, y).0[0]);
        image::Luma([((luma * u32::from(opacity) + 127) / 255) as u8])
    })
}

/// Mean level of each cell, 0..1, row-major. A pixel on the border of two cells counts for each
/// with the part that lies in it.
///
/// In whole numbers, so that a white mask is exactly 1 and a half white cell exactly one half.
fn white_share(luma: &GrayImage, plan: &ResizePlan, grid: GridSize) -> Vec<f32> {
    let (mask, photo, model) = (PixelSize::of(luma), plan.photo(), plan.model());
    let (area, place) = (plan.area(), plan.place());
    let down = Side {
        mask: mask.height,
        photo: photo.height,
        area: (area.top, area.size.height),
        place: (place.top, place.size.height),
        model: model.height,
        cells: grid.height,
    };
    let across = Side {
        mask: mask.width,
        photo: photo.width,
        area: (area.left, area.size.width),
        place: (place.left, place.size.width),
        model: model.width,
        cells: grid.width,
    };
    let mut shares = Vec::with_capacity(grid.len());
    for row in 0..grid.height {
        let rows = down.overlaps(row);
        for column in 0..grid.width {
            let columns = across.overlaps(column);
            let (mut sum, mut whole) = (0, 0);
            for (y, height) in rows.clone() {
                for (x, width) in columns.clone() {
                    let level = luma.get_pixel(x as u32, y as u32).0[0];
                    sum += height * width * u128::from(level);
                    whole += height * width * 255;
                }
            }
            // A cell outside the photo has no pixels.
            shares.push(if whole == 0 { 0.0 } else { (sum as f64 / whole as f64) as f32 });
        }
    }
    shares
}

/// One side of the way from token cells over the model's pixels and the photo's to the mask's.
struct Side {
    mask: usize,
    photo: usize,
    /// Start and length of what the model sees of the photo.
    area: (usize, usize),
    /// Where that lies in the model's picture.
    place: (usize, usize),
    model: usize,
    cells: usize,
}

impl Side {
    /// The mask's pixels under a cell, each with the length that they share, in units in which
    /// everything is whole.
    fn overlaps(&self, cell: usize) -> impl Iterator<Item = (u128, u128)> + Clone {
        let pixel = (self.cells * self.place.1) as u128 * self.photo as u128;
        let (start, end) = (self.boundary(cell), self.boundary(cell + 1));
        (start / pixel..end.div_ceil(pixel)).map(move |i| {
            let shared = end.min((i + 1) * pixel) - start.max(i * pixel);
            (i, shared)
        })
    }

    /// Where a cell begins in the mask. Photos and masks can be long enough for more than 64 bits.
    fn boundary(&self, cell: usize) -> u128 {
        let (start, length) = (self.place.0 * self.cells, self.place.1 * self.cells);
        let inside = (cell * self.model).clamp(start, start + length) - start;
        let in_photo = inside as u128 * self.area.1 as u128 + self.area.0 as u128 * length as u128;
        in_photo * self.mask as u128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole photo on the grid.
    fn whole(photo: PixelSize, grid: GridSize) -> ResizePlan {
        ResizePlan::exact(photo, PixelSize::new(grid.height, grid.width), 1).unwrap()
    }

    fn on_grid(mask: &Mask, photo: PixelSize, grid: GridSize) -> Result<UserMask, PhotoError> {
        mask.on_grid(&whole(photo, grid), grid)
    }

    fn left_half(height: u32, width: u32) -> Mask {
        Mask::from_luma(GrayImage::from_fn(width, height, |x, _| {
            image::Luma([if x < width / 2 { 255 } else { 0 }])
        }))
    }

    #[test]
    fn a_token_gets_the_white_share_of_its_area() {
        // 6 columns over 4 tokens: 1.5 pixels a token, of which 3 are white.
        let mask = left_half(12, 6);
        let grid = on_grid(&mask, PixelSize::new(120, 60), GridSize::new(2, 4)).unwrap();
        assert_eq!(grid.values(), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        // 6 columns over 5 tokens: the third is white up to its half.
        let grid = on_grid(&mask, PixelSize::new(12, 6), GridSize::new(1, 5)).unwrap();
        assert_eq!(grid.values(), [1.0, 1.0, 0.5, 0.0, 0.0]);
        assert!(grid.may_change(2));
        // Fewer pixels than tokens.
        let grid = on_grid(&mask, PixelSize::new(12, 6), GridSize::new(1, 12)).unwrap();
        assert_eq!(grid.values()[..7], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn white_is_one_whatever_the_sizes() {
        for (height, width) in [(8, 8), (31, 33), (100, 97)] {
            let mask = Mask::from_luma(GrayImage::from_pixel(width, height, image::Luma([255])));
            for grid in [GridSize::new(1, 1), GridSize::new(7, 5), GridSize::new(64, 48)] {
                let values = on_grid(&mask, mask.size(), grid).unwrap();
                assert!(values.values().iter().all(|&value| value == 1.0), "{height} {grid}");
                assert_eq!(mask.on_grid_official(grid).unwrap(), values);
            }
        }
    }

    #[test]
    fn proportions_must_be_the_photos() {
        let grid = GridSize::new(4, 4);
        for (mask, photo, accepted) in [
            ((300, 400), (3000, 4000), true),
            ((300, 400), (3024, 4032), true),
            ((300, 403), (3000, 4000), true),
            ((300, 410), (3000, 4000), false),
            ((7, 10), (667, 1000), true), // as near as whole pixels come
            ((400, 300), (3000, 4000), false),
            ((8, 800), (8, 8), false),
        ] {
            let (photo, mask) = (PixelSize::new(photo.0, photo.1), left_half(mask.0, mask.1));
            let result = on_grid(&mask, photo, grid);
            let aspect = matches!(result, Err(PhotoError::MaskAspect { .. }));
            assert_eq!((result.is_ok(), aspect), (accepted, !accepted), "{:?}", mask.size());
        }
    }

    #[test]
    fn a_mask_that_lets_nothing_change_is_refused() {
        let mut spot = GrayImage::new(64, 64);
        spot.put_pixel(30, 30, image::Luma([255]));
        for luma in [GrayImage::new(64, 64), spot] {
            let mask = Mask::from_luma(luma);
            let grid = GridSize::new(8, 8);
            for result in [on_grid(&mask, mask.size(), grid), mask.on_grid_official(grid)] {
                assert!(matches!(result, Err(PhotoError::MaskEmpty { .. })), "{result:?}");
            }
        }
        let mask = left_half(16, 16);
        let plan = whole(mask.size(), GridSize::new(4, 4));
        assert!(mask.on_grid(&plan, GridSize::new(0, 4)).is_err());
        assert!(mask.on_grid_official(GridSize::new(0, 0)).is_err());
    }

    #[test]
    fn brightness_is_luma_and_transparent_is_black() {
        let image = image::RgbaImage::from_fn(8, 8, |x, _| {
            image::Rgba(match x {
                0 => [255, 255, 255, 255],
                1 => [255, 0, 0, 255],
                2 => [255, 255, 255, 0],
                3 => [255, 255, 255, 128],
                _ => [0, 0, 0, 255],
            })
        });
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, image::ImageFormat::Png).unwrap();
        let luma = brightness(&Photo::decode(png.get_ref()).unwrap());
        assert_eq!(luma.as_raw()[..5], [255, 76, 0, 128, 0]);
    }
}
