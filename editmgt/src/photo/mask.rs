use std::path::Path;

use editmgt_core::{GridSize, UserMask};
use image::GrayImage;

use super::resize::{ResizeFilter, resize_luma};
use super::{
    MaskReading, Origin, Photo, PhotoError, PhotoLimits, PhotoNote, PixelArea, PixelSize,
    ResizePlan,
};

/// Largest relative difference of the aspect ratios of mask and photo.
const ASPECT_TOLERANCE: f64 = 0.01;

/// Levels this close to black or white count as such in a file: JPEG artefacts.
const TRACE: u8 = 8;
/// Least brightness of a mask's brightest pixel.
const WHITE: u8 = 128;

/// User mask: white may change, black must stay.
///
/// Any size with the photo's aspect ratio, aligned with the upright photo. [`MaskReading`] selects
/// brightness or opacity. In a mask of two levels the brighter one counts as white and the darker
/// one as black.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    luma: GrayImage,
    origin: Origin,
    notes: Vec<PhotoNote>,
}

impl Mask {
    /// Reads a mask from an image file in any format of [`Photo::open`].
    ///
    /// # Errors
    /// Those of [`Photo::open`]; [`PhotoError::MaskDark`] without white pixels.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PhotoError> {
        Self::open_within(path, &PhotoLimits::default())
    }

    /// [`open`](Self::open) with custom limits.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_within(path: impl AsRef<Path>, limits: &PhotoLimits) -> Result<Self, PhotoError> {
        Self::open_reading(path, MaskReading::Auto, limits)
    }

    /// [`open_within`](Self::open_within), by brightness or by opacity.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_reading(
        path: impl AsRef<Path>,
        reading: MaskReading,
        limits: &PhotoLimits,
    ) -> Result<Self, PhotoError> {
        let path = path.as_ref();
        let picture = Photo::open_within(path, limits)?;
        Self::read(&picture, reading, Origin::File(path.to_owned()))
    }

    /// Converts a photo to a mask.
    ///
    /// # Errors
    /// [`PhotoError::MaskDark`] without white pixels.
    pub fn from_photo(picture: &Photo, reading: MaskReading) -> Result<Self, PhotoError> {
        Self::read(picture, reading, Origin::Memory)
    }

    fn read(picture: &Photo, reading: MaskReading, origin: Origin) -> Result<Self, PhotoError> {
        let mut luma = reading.levels(picture);
        let mut notes = picture.notes().to_vec();
        if reading.reads_alpha(picture) && picture.alpha().is_some() {
            notes.push(PhotoNote::MaskByOpacity);
        }
        match two_levels(&luma) {
            Some((0, u8::MAX)) => {}
            Some((black, white)) => {
                notes.push(PhotoNote::MaskLevels { black, white });
                luma.iter_mut().for_each(|level| *level = if *level == white { 255 } else { 0 });
            }
            None => luma.iter_mut().for_each(|level| {
                if *level <= TRACE {
                    *level = 0;
                } else if *level >= u8::MAX - TRACE {
                    *level = u8::MAX;
                }
            }),
        }
        let brightest = luma.iter().copied().max().unwrap_or(0);
        if brightest < WHITE {
            // As stored.
            let brightest = reading.levels(picture).iter().copied().max().unwrap_or(0);
            return Err(PhotoError::MaskDark { origin, brightest });
        }
        Ok(Self { luma, origin, notes })
    }

    /// A mask of grey levels: 255 may change, 0 must stay.
    pub fn from_luma(luma: GrayImage) -> Self {
        Self { luma, origin: Origin::Memory, notes: Vec::new() }
    }

    /// Remarks on how the file was interpreted.
    pub fn notes(&self) -> &[PhotoNote] {
        &self.notes
    }

    /// Height and width.
    pub fn size(&self) -> PixelSize {
        PixelSize::of(&self.luma)
    }

    /// Reduces the mask to the token grid: each token gets the exact white share of its area in the
    /// photo, and 0 outside the plan's area. A token may change if any of it is white.
    ///
    /// # Errors
    /// [`PhotoError::MaskAspect`] when the aspect ratios differ by more than 1% (or a pixel of the
    /// mask), [`PhotoError::MaskEmpty`] when no token may change, [`PhotoError::Value`] for an
    /// empty grid.
    pub fn on_grid(&self, plan: &ResizePlan, grid: GridSize) -> Result<UserMask, PhotoError> {
        self.check_aspect(plan.photo())?;
        self.finish(grid, UserMask::new(grid, white_share(&self.luma, plan, grid))?)
    }

    /// The smallest rectangle of the photo's pixels that contains all that may change; the whole
    /// photo for a black mask.
    ///
    /// # Errors
    /// [`PhotoError::MaskAspect`].
    pub fn bounds(&self, photo: PixelSize) -> Result<PixelArea, PhotoError> {
        self.check_aspect(photo)?;
        let white = || self.luma.enumerate_pixels().filter(|(_, _, level)| level.0[0] > 0);
        let range = |of: fn((u32, u32)) -> u32, mask: usize, photo: usize| {
            let positions = || white().map(|(x, y, _)| of((x, y)) as usize);
            let (first, last) = (positions().min()?, positions().max()?);
            let start = first * photo / mask;
            Some((start, ((last + 1) * photo).div_ceil(mask) - start))
        };
        let size = self.size();
        let rows = range(|(_, y)| y, size.height, photo.height);
        let columns = range(|(x, _)| x, size.width, photo.width);
        Ok(match (rows, columns) {
            (Some((top, height)), Some((left, width))) => {
                PixelArea { top, left, size: PixelSize::new(height, width) }
            }
            _ => PixelArea::whole(photo),
        })
    }

    /// The grey levels at the photo's size (bilinear): 255 may change, 0 must stay, levels between
    /// are mixed.
    ///
    /// # Errors
    /// [`PhotoError::MaskAspect`].
    pub fn levels(&self, photo: PixelSize) -> Result<GrayImage, PhotoError> {
        self.check_aspect(photo)?;
        Ok(resize_luma(&self.luma, photo, ResizeFilter::Bilinear))
    }

    /// Reduces the mask as the official pipeline does: resized to one pixel per token with an
    /// antialiased Lanczos filter in 8 bits, then white from level 128 on. Values are 0 or 1;
    /// aspect ratios are not checked.
    ///
    /// Differs from [`on_grid`](Self::on_grid) only at the border of the white area, because the
    /// filter's support is three tokens.
    ///
    /// Source: the pipeline's mask processor (diffusers `VaeImageProcessor`: resize, grey,
    /// binarise) with the token grid as its size. It rounds that down to multiples of the codec's
    /// factor, and so fails on other grids; any grid works here.
    ///
    /// # Errors
    /// [`PhotoError::MaskEmpty`], [`PhotoError::Value`] for an empty grid.
    pub fn on_grid_official(&self, grid: GridSize) -> Result<UserMask, PhotoError> {
        let values = if grid.is_empty() {
            Vec::new()
        } else {
            let size = PixelSize::new(grid.height, grid.width);
            let resized = resize_luma(&self.luma, size, ResizeFilter::Lanczos);
            resized.iter().map(|&level| f32::from(u8::from(level >= 128))).collect()
        };
        self.finish(grid, UserMask::new(grid, values)?)
    }

    fn finish(&self, grid: GridSize, mask: UserMask) -> Result<UserMask, PhotoError> {
        if (0..grid.len()).any(|token| mask.may_change(token)) {
            return Ok(mask);
        }
        Err(PhotoError::MaskEmpty { origin: self.origin.clone(), grid })
    }

    /// Checks that the mask has the photo's aspect ratio, as [`on_grid`](Self::on_grid) requires.
    ///
    /// # Errors
    /// [`PhotoError::MaskAspect`] with both sizes.
    pub fn check_aspect(&self, photo: PixelSize) -> Result<(), PhotoError> {
        let mask = self.size();
        let expected = |side: usize, of: usize, to: usize| side as f64 * to as f64 / of as f64;
        let close = |got: usize, expected: f64| {
            (got as f64 - expected).abs() <= (expected * ASPECT_TOLERANCE).max(1.0)
        };
        // A small mask has the photo's aspect ratio rounded to pixels, by either side.
        if close(mask.width, expected(mask.height, photo.height, photo.width))
            || close(mask.height, expected(mask.width, photo.width, photo.height))
        {
            return Ok(());
        }
        Err(PhotoError::MaskAspect { origin: self.origin.clone(), mask, photo })
    }
}

/// The levels of an image with exactly two, the darker first.
fn two_levels(luma: &GrayImage) -> Option<(u8, u8)> {
    let (darkest, brightest) = (luma.iter().min()?, luma.iter().max()?);
    let only = luma.iter().all(|level| level == darkest || level == brightest);
    (only && darkest != brightest).then_some((*darkest, *brightest))
}

/// Mean level of each cell, 0..1, row-major. A pixel on the border of two cells is divided between
/// them by area.
///
/// Computed in integers, so that a white mask is exactly 1 and a half white cell exactly one half.
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

/// Mapping along one axis from token cells over the model's and the photo's pixels to the mask's.
struct Side {
    mask: usize,
    photo: usize,
    /// Start and length of the plan's area in the photo.
    area: (usize, usize),
    /// Its position in the model's image.
    place: (usize, usize),
    model: usize,
    cells: usize,
}

impl Side {
    /// The mask's pixels that overlap a cell, each with the length of the overlap, in integer
    /// units.
    fn overlaps(&self, cell: usize) -> impl Iterator<Item = (u128, u128)> + Clone {
        let pixel = (self.cells * self.place.1) as u128 * self.photo as u128;
        let (start, end) = (self.boundary(cell), self.boundary(cell + 1));
        (start / pixel..end.div_ceil(pixel)).map(move |i| {
            let shared = end.min((i + 1) * pixel) - start.max(i * pixel);
            (i, shared)
        })
    }

    /// Start of a cell in the mask. Large photos and masks can exceed 64 bits.
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
    fn bounds_contain_all_that_may_change() {
        let photo = PixelSize::new(40, 60);
        let area =
            |top, left, height, width| PixelArea { top, left, size: PixelSize::new(height, width) };
        let mask = |pixels: &[(u32, u32)]| {
            let level = |x, y| image::Luma([u8::from(pixels.contains(&(x, y)))]);
            Mask::from_luma(GrayImage::from_fn(6, 4, level))
        };
        for (pixels, expected) in [
            (vec![(0, 0)], area(0, 0, 10, 10)),
            (vec![(5, 3)], area(30, 50, 10, 10)),
            (vec![(1, 2), (3, 1)], area(10, 10, 20, 30)),
            (vec![], area(0, 0, 40, 60)),
        ] {
            assert_eq!(mask(&pixels).bounds(photo).unwrap(), expected, "{pixels:?}");
        }
        // Rounded outwards.
        assert_eq!(mask(&[(1, 1)]).bounds(PixelSize::new(5, 7)).unwrap(), area(1, 1, 2, 2));
        let turned = mask(&[(0, 0)]).bounds(PixelSize::new(60, 40));
        assert!(matches!(turned, Err(PhotoError::MaskAspect { .. })), "{turned:?}");
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
    fn rejects_empty_mask() {
        let mask = Mask::from_luma(GrayImage::new(64, 64));
        let grid = GridSize::new(8, 8);
        for result in [on_grid(&mask, mask.size(), grid), mask.on_grid_official(grid)] {
            assert!(matches!(result, Err(PhotoError::MaskEmpty { .. })), "{result:?}");
        }
        let mask = left_half(16, 16);
        let plan = whole(mask.size(), GridSize::new(4, 4));
        assert!(mask.on_grid(&plan, GridSize::new(0, 4)).is_err());
        assert!(mask.on_grid_official(GridSize::new(0, 0)).is_err());
    }

    fn png(luma: &GrayImage) -> Photo {
        let mut png = std::io::Cursor::new(Vec::new());
        luma.write_to(&mut png, image::ImageFormat::Png).unwrap();
        Photo::from_bytes(png.get_ref()).unwrap()
    }

    #[test]
    fn two_levels_are_black_and_white() {
        for (black, white) in [(0, 255), (0, 1), (1, 2), (64, 192), (254, 255), (16, 235)] {
            let drawn =
                GrayImage::from_fn(16, 16, |x, _| image::Luma([if x < 8 { white } else { black }]));
            let mask = Mask::from_photo(&png(&drawn), MaskReading::Auto).unwrap();
            assert_eq!(mask.luma, left_half(16, 16).luma, "{black} {white}");
            let note = [PhotoNote::MaskLevels { black, white }];
            let expected = if (black, white) == (0, 255) { &[][..] } else { &note };
            assert_eq!(mask.notes(), expected);
        }
    }

    #[test]
    fn a_dark_mask_is_refused_with_its_brightest_level() {
        for (drawn, brightest) in [
            (GrayImage::new(16, 16), 0),
            (GrayImage::from_fn(16, 16, |x, _| image::Luma([x as u8])), 15),
            (GrayImage::from_pixel(16, 16, image::Luma([7])), 7),
        ] {
            let error = Mask::from_photo(&png(&drawn), MaskReading::Auto).unwrap_err();
            assert!(
                matches!(&error, PhotoError::MaskDark { brightest: got, .. } if *got == brightest)
            );
            assert!(error.to_string().contains(&format!("{brightest} of 255")), "{error}");
        }
    }

    #[test]
    fn traces_of_compression_are_black_and_white_and_soft_levels_stay() {
        let drawn = GrayImage::from_fn(16, 16, |x, _| {
            image::Luma([[0, 3, 8, 9, 100, 246, 247, 255][x as usize % 8]])
        });
        let mask = Mask::from_photo(&png(&drawn), MaskReading::Auto).unwrap();
        assert_eq!(mask.luma.as_raw()[..8], [0, 0, 0, 9, 100, 246, 255, 255]);
    }

    #[test]
    fn a_token_with_any_white_may_change() {
        let mut spot = GrayImage::new(64, 64);
        spot.put_pixel(30, 30, image::Luma([255]));
        let grid = GridSize::new(8, 8);
        let mask = on_grid(&Mask::from_luma(spot), PixelSize::new(64, 64), grid).unwrap();
        let free: Vec<usize> = (0..grid.len()).filter(|&token| mask.may_change(token)).collect();
        assert_eq!(free, [3 * 8 + 3]);
    }
}
