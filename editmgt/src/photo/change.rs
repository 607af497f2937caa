use editmgt_core::{Error, HoldMask, Result};

use super::{Mask, PhotoError, PixelSize, ResizePlan};

/// Widest feather in pixels.
pub(crate) const MAX_FEATHER: usize = 4096;

/// Weight of the edit in each pixel of a photo: 0 keeps the photo's byte, [`ALL`](Self::ALL) takes
/// the edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeMask {
    size: PixelSize,
    weights: Vec<u16>,
}

impl ChangeMask {
    /// The weight of a fully edited pixel.
    pub const ALL: u16 = u16::MAX;

    /// 0 for the pixels of held tokens and for those outside the plan's area, [`ALL`](Self::ALL)
    /// for the others. A pixel on the border of two tokens belongs to the one that contains its
    /// upper left corner.
    ///
    /// # Errors
    /// [`Error::Shape`] when the mask is empty or has no image of this index.
    pub fn new(hold: &HoldMask, image: usize, plan: &ResizePlan) -> Result<Self> {
        let grid = hold.size();
        if grid.is_empty() || image >= hold.batch() {
            let got = format!("{} masks of {grid}", hold.batch());
            return Err(Error::shape("hold mask", format!("image {image}"), got));
        }
        let held = &hold.held()[image * grid.len()..][..grid.len()];
        let columns = plan.token_columns(grid.width);
        let mut weights = Vec::with_capacity(plan.photo().height * plan.photo().width);
        for row in plan.token_rows(grid.height) {
            weights.extend(columns.iter().map(|column| match (row, column) {
                (Some(row), Some(column)) if !held[row * grid.width + column] => Self::ALL,
                _ => 0,
            }));
        }
        Ok(Self { size: plan.photo(), weights })
    }

    /// Multiplies by the user's mask, pixel by pixel: black pixels keep the photo's bytes even in a
    /// token that is mostly white, and grey ones are a mixture.
    /// # Errors
    /// [`PhotoError::MaskAspect`].
    pub fn within(mut self, mask: &Mask) -> Result<Self, PhotoError> {
        let levels = mask.levels(self.size)?;
        for (weight, &level) in self.weights.iter_mut().zip(levels.iter()) {
            *weight = times(*weight, level.into(), 255);
        }
        Ok(self)
    }

    /// Fades the edit in over this many pixels, by the distance to the nearest pixel of weight 0
    /// (the larger of the horizontal and the vertical distance); 0 leaves a hard edge. The ramp is
    /// on the edit's side: the photo's pixels stay exact.
    ///
    /// # Errors
    /// [`Error::Value`] above 4096.
    pub fn feathered(mut self, feather: usize) -> Result<Self> {
        if feather > MAX_FEATHER {
            return Err(Error::value("feather", format!("0 to {MAX_FEATHER} pixels"), feather));
        }
        if feather == 0 {
            return Ok(self);
        }
        // A pixel `steps` away from the photo's has the full weight.
        let steps = feather as u16 + 1;
        let near = |&weight: &u16| if weight == 0 { 0 } else { steps };
        let mut distance: Vec<u16> = self.weights.iter().map(near).collect();
        spread(&mut distance, self.size.width, 1);
        for (weight, distance) in self.weights.iter_mut().zip(distance) {
            *weight = times(*weight, distance.into(), steps.into());
        }
        Ok(self)
    }

    /// Multiplies by a weight for each pixel, by its row-major index.
    pub(crate) fn weighted(mut self, weight: impl Fn(usize) -> u16) -> Self {
        for (i, own) in self.weights.iter_mut().enumerate() {
            *own = times(*own, weight(i).into(), Self::ALL.into());
        }
        self
    }

    /// Fades the edit out over `feather` pixels around its visible part (the larger of the
    /// horizontal and the vertical distance), multiplied by `released`. Weights only decrease where
    /// `released` is below [`ALL`](Self::ALL): the ramp is on the photo's side.
    ///
    /// # Errors
    /// [`Error::Value`] above 4096, [`Error::Shape`] for a mask of another size.
    pub fn grown(mut self, feather: usize, released: &Self) -> Result<Self> {
        if feather > MAX_FEATHER {
            return Err(Error::value("feather", format!("0 to {MAX_FEATHER} pixels"), feather));
        }
        if released.size != self.size {
            return Err(Error::shape("released pixels", self.size, released.size));
        }
        if feather > 0 {
            let step = Self::ALL.div_ceil(feather as u16 + 1);
            let mut missing: Vec<u16> = self.weights.iter().map(|&own| Self::ALL - own).collect();
            spread(&mut missing, self.size.width, step);
            for (weight, missing) in self.weights.iter_mut().zip(missing) {
                *weight = Self::ALL - missing;
            }
        }
        Ok(self.weighted(|i| released.weights[i]))
    }

    /// Height and width of the photo.
    pub fn size(&self) -> PixelSize {
        self.size
    }

    /// The weights, row-major.
    pub fn weights(&self) -> &[u16] {
        &self.weights
    }
}

/// `weight * part / whole`, rounded.
fn times(weight: u16, part: u32, whole: u32) -> u16 {
    ((u32::from(weight) * part + whole / 2) / whole) as u16
}

/// Replaces each value by a neighbour's plus `step` if that is smaller: a forward pass over the
/// preceding neighbours, then a backward pass over the following ones.
fn spread(distance: &mut [u16], width: usize, step: u16) {
    let Some(last) = distance.len().checked_sub(1) else { return };
    let relax = |distance: &mut [u16], i: usize, backwards: bool| {
        let at = |j: usize| distance[if backwards { last - j } else { j }];
        let x = i % width;
        let mut nearest = at(i);
        if x > 0 {
            nearest = nearest.min(at(i - 1).saturating_add(step));
        }
        if i >= width {
            let above = i - width;
            nearest = nearest.min(at(above).saturating_add(step));
            if x > 0 {
                nearest = nearest.min(at(above - 1).saturating_add(step));
            }
            if x + 1 < width {
                nearest = nearest.min(at(above + 1).saturating_add(step));
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

#[cfg(test)]
mod tests {
    use editmgt_core::GridSize;
    use image::GrayImage;

    use super::*;

    /// The left half of an 8x8 image is held.
    fn half() -> ChangeMask {
        let hold = HoldMask::new(1, GridSize::new(1, 2), vec![true, false]).unwrap();
        let plan = ResizePlan::native(PixelSize::new(8, 8), 1).unwrap();
        ChangeMask::new(&hold, 0, &plan).unwrap()
    }

    #[test]
    fn the_feather_is_a_ramp_on_the_edits_side() {
        for (feather, row) in [
            (0, [0, 0, 0, 0, 65535, 65535, 65535, 65535]),
            (1, [0, 0, 0, 0, 32768, 65535, 65535, 65535]),
            (3, [0, 0, 0, 0, 16384, 32768, 49151, 65535]),
        ] {
            let mask = half().feathered(feather).unwrap();
            for y in 0..8 {
                assert_eq!(mask.weights()[8 * y..][..8], row, "feather {feather}, row {y}");
            }
        }
        assert!(half().feathered(MAX_FEATHER + 1).is_err());
    }

    #[test]
    fn grows_outward_within_what_is_released() {
        let size = PixelSize::new(1, 8);
        let mask = |weights: [u16; 8]| ChangeMask { size, weights: weights.to_vec() };
        let released = mask([0, 65535, 65535, 65535, 65535, 65535, 32768, 65535]);
        let visible = mask([0, 0, 0, 65535, 20000, 0, 0, 0]);
        for (feather, expected) in [
            (0, [0, 0, 0, 65535, 20000, 0, 0, 0]),
            (1, [0, 0, 32767, 65535, 32767, 0, 0, 0]),
            (3, [0, 32767, 49151, 65535, 49151, 32767, 8192, 0]),
        ] {
            let grown = visible.clone().grown(feather, &released).unwrap();
            assert_eq!(grown.weights(), expected, "{feather}");
        }
        assert!(visible.clone().grown(MAX_FEATHER + 1, &released).is_err());
        assert!(visible.grown(1, &half()).is_err(), "another size");
    }

    #[test]
    fn a_users_mask_keeps_its_softness_and_its_black_pixels() {
        let levels = [255, 255, 255, 255, 0, 51, 102, 255];
        let mask =
            Mask::from_luma(GrayImage::from_fn(8, 8, |x, _| image::Luma([levels[x as usize]])));
        let soft = half().within(&mask).unwrap();
        assert_eq!(soft.weights()[..8], [0, 0, 0, 0, 0, 13107, 26214, 65535]);
        // The ramp also begins at the mask's black pixels.
        let soft = soft.feathered(1).unwrap();
        assert_eq!(soft.weights()[..8], [0, 0, 0, 0, 0, 6554, 26214, 65535]);
        let other = Mask::from_luma(GrayImage::new(8, 16));
        assert!(matches!(half().within(&other), Err(PhotoError::MaskAspect { .. })));
    }

    #[test]
    fn pixels_outside_the_plans_area_stay() {
        let photo = PixelSize::new(40, 100);
        let plan = ResizePlan::crop(photo, 64, 32).unwrap();
        assert_eq!(plan.model(), PixelSize::new(32, 96), "the case tests a crop");
        let hold = HoldMask::none(1, GridSize::new(2, 6));
        let mask = ChangeMask::new(&hold, 0, &plan).unwrap();
        let inside = plan.area();
        assert!(inside.size != photo);
        for y in 0..40 {
            for x in 0..100 {
                let row = (inside.top..inside.top + inside.size.height).contains(&y);
                let column = (inside.left..inside.left + inside.size.width).contains(&x);
                assert_eq!(mask.weights()[100 * y + x] > 0, row && column, "{y},{x}");
            }
        }
    }

    #[test]
    fn the_distance_is_the_larger_of_both_directions() {
        let (height, width) = (9, 13);
        for zeros in [vec![(4, 6)], vec![(0, 0), (8, 12)], vec![(2, 11), (7, 1), (5, 5)]] {
            let mut distance = vec![100; height * width];
            zeros.iter().for_each(|&(y, x)| distance[y * width + x] = 0);
            spread(&mut distance, width, 1);
            for y in 0..height {
                for x in 0..width {
                    let expected = zeros.iter().map(|z| y.abs_diff(z.0).max(x.abs_diff(z.1))).min();
                    assert_eq!(Some(distance[y * width + x].into()), expected, "{zeros:?} {y},{x}");
                }
            }
        }
    }

    #[test]
    fn rejects_masks_of_another_size_or_aspect() {
        let plan = ResizePlan::native(PixelSize::new(8, 8), 1).unwrap();
        let empty = HoldMask::none(1, GridSize::new(0, 2));
        assert!(ChangeMask::new(&empty, 0, &plan).is_err());
        let hold = HoldMask::none(1, GridSize::new(2, 2));
        assert!(ChangeMask::new(&hold, 1, &plan).is_err());
    }
}
