use editmgt_core::{Error, HoldMask, Result, TokenGrid};
use image::{Rgb, RgbImage};
use serde::Serialize;

use super::{ChangeMask, PixelSize, ResizePlan};

/// The least and the most noise of a codec, levels of 255, that thresholds are scaled with: a codec
/// without noise still rounds, and a very noisy one must not hide edits. These and the constants
/// below are measured in `docs/notes/visible-composite.md`.
const NOISE: (f32, f32) = (1.0, 2.0);

/// From which change a pixel of a local codec shows some of the edit, and from which all of it, in
/// units of the codec's noise.
const LOCAL: (f32, f32) = (4.0, 16.0);

/// The same for a codec whose decode drifts everywhere with any change. Chosen on a simulated one;
/// the official codec has not been measured.
const GLOBAL: (f32, f32) = (8.0, 32.0);

/// Mean change of a token's pixels above which the token counts as changed, for such a codec.
const GLOBAL_TOKEN: f32 = 4.0;

/// Ramp from the photo to the edit by the change of a pixel, in levels of 255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChangeThresholds {
    /// Up to this change: the photo's own.
    pub from: f32,
    /// From this change on: the edit.
    pub until: f32,
    /// The mean change of a token's pixels above which the token counts as changed; `None` if every
    /// token with another id does.
    pub token: Option<f32>,
}

impl ChangeThresholds {
    /// For a codec with this noise ([`codec_noise`]), local or not
    /// ([`VqCodec::is_local`](editmgt_core::VqCodec::is_local)).
    pub fn new(noise: f32, local: bool) -> Self {
        let unit = noise.clamp(NOISE.0, NOISE.1);
        let (from, until) = if local { LOCAL } else { GLOBAL };
        let token = (!local).then_some(GLOBAL_TOKEN * unit);
        Self { from: from * unit, until: until * unit, token }
    }

    /// The weight of a pixel that changes by this many levels.
    fn weight(&self, change: u8) -> u16 {
        let share = ((f32::from(change) - self.from) / (self.until - self.from)).clamp(0.0, 1.0);
        let smooth = share * share * (3.0 - 2.0 * share);
        (smooth * f32::from(ChangeMask::ALL)).round() as u16
    }
}

/// The noise of a codec on one image, in levels of 255: the median over the pixels of the largest
/// channel difference.
///
/// # Errors
/// [`Error::Shape`] for images of different sizes.
pub fn codec_noise(image: &RgbImage, decoded: &RgbImage) -> Result<f32> {
    let size = PixelSize::of(image);
    if PixelSize::of(decoded) != size {
        return Err(Error::shape("decoded photo", size, PixelSize::of(decoded)));
    }
    let mut counts = [0usize; 256];
    for (a, b) in image.pixels().zip(decoded.pixels()) {
        counts[usize::from(difference(a, b))] += 1;
    }
    let half = image.pixels().len().div_ceil(2);
    let mut below = 0;
    let median = counts.iter().position(|count| {
        below += count;
        below >= half
    });
    Ok(median.unwrap_or_default() as f32)
}

/// The largest channel difference.
fn difference(a: &Rgb<u8>, b: &Rgb<u8>) -> u8 {
    a.0.iter().zip(b.0).map(|(&a, b)| a.abs_diff(b)).max().unwrap_or_default()
}

/// Visible change: the difference between the decoded edit and the photo's own codec round trip.
///
/// A pixel shows the edit as far as that difference exceeds the codec's noise, only in tokens whose
/// id differs from the photo's, and never in held ones. For a non-local codec, a token counts as
/// changed only if the mean difference of its pixels exceeds the drift; its eight neighbours are
/// included.
#[derive(Debug, Clone, Copy)]
pub struct VisibleChange<'a> {
    /// The decoded edit, at the photo's size.
    pub edit: &'a RgbImage,
    /// The photo's own tokens decoded, at the photo's size.
    pub decoded_photo: &'a RgbImage,
    /// The tokens of the edit, of one image.
    pub tokens: &'a TokenGrid,
    /// The photo's own tokens.
    pub reference: &'a TokenGrid,
    /// Which tokens were held, of one image.
    pub hold: &'a HoldMask,
    /// The photo's resize plan.
    pub plan: &'a ResizePlan,
    /// The thresholds.
    pub thresholds: ChangeThresholds,
}

impl VisibleChange<'_> {
    /// The weights of the photo's pixels.
    ///
    /// # Errors
    /// [`Error::Shape`] when the parts don't match.
    pub fn mask(&self) -> Result<ChangeMask> {
        let photo = self.plan.photo();
        for image in [self.edit, self.decoded_photo] {
            if PixelSize::of(image) != photo {
                return Err(Error::shape("decoded edit", photo, PixelSize::of(image)));
            }
        }
        let grid = self.hold.size();
        let shape = |batch, size| format!("{batch} of {size}");
        for tokens in [self.tokens, self.reference] {
            if (tokens.batch(), tokens.size(), self.hold.batch()) != (1, grid, 1) {
                let got = shape(tokens.batch(), tokens.size());
                return Err(Error::shape("tokens", shape(1, grid), got));
            }
        }
        let pixels = self.edit.pixels().zip(self.decoded_photo.pixels());
        let change: Vec<u8> = pixels.map(|(edit, photo)| difference(edit, photo)).collect();
        let unchanged = HoldMask::new(1, grid, self.unchanged(&change))?;
        let mask = ChangeMask::new(&unchanged, 0, self.plan)?;
        Ok(mask.weighted(|pixel| self.thresholds.weight(change[pixel])))
    }

    /// Whether each token keeps the photo's pixels in any case.
    fn unchanged(&self, change: &[u8]) -> Vec<bool> {
        let held = self.hold.held();
        let ids = self.tokens.ids().iter().zip(self.reference.ids()).zip(held);
        let mut stays: Vec<bool> = ids.map(|((a, b), &held)| a == b || held).collect();
        let Some(threshold) = self.thresholds.token else { return stays };
        for (stays, mean) in stays.iter_mut().zip(self.token_means(change)) {
            *stays |= mean <= f64::from(threshold);
        }
        let grid = self.hold.size();
        let (height, width) = (grid.height, grid.width);
        let near = |i: usize| {
            let (y, x) = (i / width, i % width);
            (y.saturating_sub(1)..(y + 2).min(height))
                .any(|y| (x.saturating_sub(1)..(x + 2).min(width)).any(|x| !stays[y * width + x]))
        };
        (0..held.len()).map(|i| held[i] || !near(i)).collect()
    }

    /// The mean change of each token's pixels; 0 without pixels.
    fn token_means(&self, change: &[u8]) -> Vec<f64> {
        let grid = self.hold.size();
        let mut sums = vec![(0u64, 0u64); grid.len()];
        let columns = self.plan.token_columns(grid.width);
        let rows = self.plan.token_rows(grid.height);
        for (row, line) in rows.iter().zip(change.chunks(columns.len().max(1))) {
            let Some(row) = row else { continue };
            for (column, &change) in columns.iter().zip(line) {
                let Some(column) = column else { continue };
                let (sum, count) = &mut sums[row * grid.width + column];
                *sum += u64::from(change);
                *count += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| sum as f64 / count.max(1) as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use editmgt_core::GridSize;
    use proptest::prelude::*;

    use super::*;
    use crate::photo::{Blend, Composite};

    #[test]
    fn thresholds_follow_the_noise_within_limits() {
        for (noise, local, from, until, token) in [
            (0.0, true, 4.0, 16.0, None),
            (1.5, true, 6.0, 24.0, None),
            (200.0, true, 8.0, 32.0, None),
            (1.0, false, 8.0, 32.0, Some(4.0)),
        ] {
            let expected = ChangeThresholds { from, until, token };
            assert_eq!(ChangeThresholds::new(noise, local), expected);
        }
        let thresholds = ChangeThresholds::new(1.0, true);
        for (change, weight) in [(0, 0), (4, 0), (10, 32768), (16, 65535), (255, 65535)] {
            assert_eq!(thresholds.weight(change), weight, "{change}");
        }
    }

    #[test]
    fn noise_is_a_median() {
        let photo = RgbImage::new(3, 1);
        let mut decoded = photo.clone();
        decoded.put_pixel(1, 0, Rgb([1, 3, 2]));
        decoded.put_pixel(2, 0, Rgb([255, 0, 0]));
        assert_eq!(codec_noise(&photo, &decoded).unwrap(), 3.0);
        assert!(codec_noise(&photo, &RgbImage::new(1, 1)).is_err());
    }

    /// Tokens of 2x2 pixels: the first is new and visible, the second drifts, the third is new but
    /// held, the others are unchanged.
    fn weights(local: bool) -> Vec<u16> {
        let size = GridSize::new(1, 5);
        let grid = |ids: [u32; 5]| TokenGrid::new(1, size, ids.to_vec()).unwrap();
        let decoded_photo = RgbImage::new(10, 2);
        let levels = [90, 3, 90, 0, 90];
        let edit = RgbImage::from_fn(10, 2, |x, _| Rgb([levels[x as usize / 2]; 3]));
        let hold = HoldMask::new(1, size, vec![false, false, true, false, false]).unwrap();
        let change = VisibleChange {
            edit: &edit,
            decoded_photo: &decoded_photo,
            tokens: &grid([1, 1, 1, 0, 0]),
            reference: &grid([0; 5]),
            hold: &hold,
            plan: &ResizePlan::native(PixelSize::new(2, 10), 1).unwrap(),
            thresholds: ChangeThresholds::new(1.0, local),
        };
        change.mask().unwrap().weights()[..10].to_vec()
    }

    #[test]
    fn only_new_tokens_that_are_not_held_and_differ_visibly_show_the_edit() {
        let all = ChangeMask::ALL;
        let expected = [all, all, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(weights(true), expected);
        assert_eq!(weights(false), expected);
    }

    proptest! {
        #[test]
        fn bytes_outside_the_change_are_the_photos(
            rows in 1usize..5, columns in 1usize..5, height in 8usize..40, width in 8usize..40,
            seed in any::<u64>(), local in any::<bool>(), feather in 0usize..6,
        ) {
            let size = GridSize::new(rows, columns);
            let random = |i: usize, salt: u64| {
                let x = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.wrapping_add(salt);
                (x.wrapping_mul(0xD134_2543_DE82_EF95) >> 33) as u32
            };
            let ids = |salt| (0..size.len()).map(|i| random(i, salt) % 2).collect();
            let tokens = TokenGrid::new(1, size, ids(1)).unwrap();
            let reference = TokenGrid::new(1, size, ids(2)).unwrap();
            let held = (0..size.len()).map(|i| random(i, 3).is_multiple_of(3)).collect();
            let hold = HoldMask::new(1, size, held).unwrap();
            let image = |salt| RgbImage::from_fn(width as u32, height as u32, |x, y| {
                Rgb([random(y as usize * width + x as usize, salt) as u8; 3])
            });
            let (photo, edit, decoded_photo) = (image(4), image(5), image(6));
            let plan = ResizePlan::native(PixelSize::new(height, width), 1).unwrap();
            let change = VisibleChange {
                edit: &edit, decoded_photo: &decoded_photo, tokens: &tokens,
                reference: &reference, hold: &hold, plan: &plan,
                thresholds: ChangeThresholds::new(1.0, local),
            };
            let visible = change.mask().unwrap();
            let released = ChangeMask::new(&hold, 0, &plan).unwrap();
            let mask = visible.clone().grown(feather, &released).unwrap();
            let composite = Composite { photo: &photo, edit: &edit, change: &mask, blend: Blend::Srgb };
            let picture = composite.render().unwrap();
            let all = picture.pixels().zip(photo.pixels()).zip(mask.weights()).enumerate();
            for (i, ((pixel, photo), &weight)) in all {
                if released.weights()[i] == 0 {
                    prop_assert_eq!(weight, 0);
                }
                prop_assert!(weight >= visible.weights()[i], "the feather eats nothing");
                if weight == 0 {
                    prop_assert_eq!(pixel, photo);
                }
            }
            if feather == 0 {
                prop_assert_eq!(mask, visible);
            }
        }
    }
}
