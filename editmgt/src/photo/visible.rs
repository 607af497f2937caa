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

/// The same in shares of the contrast in the pixel's token, if that is more: what a local codec
/// blurs beside an edge stays within the token.
const LOCAL_CONTRAST: [f32; 2] = [0.08, 0.16];

/// Mean change of a token's pixels above which the token shows the edit for its neighbours' sake:
/// a local codec decodes a token with those next to it.
const LOCAL_TOKEN: f32 = 12.0;

/// The ramp for a codec whose decode drifts everywhere with any change, in units of its noise.
/// Chosen on a simulated one; the official codec has not been measured.
const GLOBAL: (f32, f32) = (8.0, 32.0);

/// Mean change of a token's pixels above which a token with another id counts as changed, for such
/// a codec.
const GLOBAL_TOKEN: f32 = 4.0;

/// Ramp from the photo to the edit by the change of a pixel, in levels of 255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChangeThresholds {
    /// Up to this change: the photo's own.
    pub from: f32,
    /// From this change on: the edit.
    pub until: f32,
    /// A mean change of a token's pixels. A local codec: above it a token with the photo's id
    /// counts as changed, too. Others: above it a token with another id does.
    pub token: f32,
    /// Shares of the contrast in the pixel's token that `from` and `until` are at least: of what
    /// the edit has there, and of the largest change, the lesser. `None` for codecs that are not
    /// local.
    pub of_contrast: Option<[f32; 2]>,
}

impl ChangeThresholds {
    /// For a codec with this noise ([`codec_noise`]), local or not
    /// ([`VqCodec::is_local`](editmgt_core::VqCodec::is_local)).
    pub fn new(noise: f32, local: bool) -> Self {
        let unit = noise.clamp(NOISE.0, NOISE.1);
        let ((from, until), token) =
            if local { (LOCAL, LOCAL_TOKEN) } else { (GLOBAL, GLOBAL_TOKEN) };
        let of_contrast = local.then_some(LOCAL_CONTRAST);
        Self { from: from * unit, until: until * unit, token: token * unit, of_contrast }
    }

    /// For the pixels of a token with this contrast.
    fn for_contrast(self, contrast: u8) -> Self {
        let Some(shares) = self.of_contrast else { return self };
        let [from, until] = shares.map(|share| share * f32::from(contrast));
        Self { from: self.from.max(from), until: self.until.max(until), ..self }
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
/// A pixel shows the edit as far as that difference exceeds the codec's noise, only in tokens that
/// count as changed, and never in held ones. For a local codec those are tokens with another id
/// than the photo's, and others whose pixels differ much on average; there the difference from the
/// photo itself counts if it is less, and also has to exceed a share of the token's contrast, so
/// that blurred edges don't spread. For a non-local codec those are tokens with another id whose
/// pixels differ by more than the drift on average, and their eight neighbours.
#[derive(Debug, Clone, Copy)]
pub struct VisibleChange<'a> {
    /// The photo.
    pub photo: &'a RgbImage,
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
        let size = self.plan.photo();
        for image in [self.photo, self.edit, self.decoded_photo] {
            if PixelSize::of(image) != size {
                return Err(Error::shape("photo and decoded edit", size, PixelSize::of(image)));
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
        let mut change = differences(self.edit, self.decoded_photo);
        let unchanged = HoldMask::new(1, grid, self.unchanged(&change))?;
        let mask = ChangeMask::new(&unchanged, 0, self.plan)?;
        let thresholds = self.token_thresholds(&change);
        if self.thresholds.of_contrast.is_some() {
            for (change, of_photo) in change.iter_mut().zip(differences(self.edit, self.photo)) {
                *change = of_photo.min(*change);
            }
        }
        let columns = self.plan.token_columns(grid.width);
        let rows = self.plan.token_rows(grid.height);
        Ok(mask.weighted(|pixel| {
            let (row, column) = (rows[pixel / columns.len()], columns[pixel % columns.len()]);
            let (Some(row), Some(column)) = (row, column) else { return 0 };
            thresholds[row * grid.width + column].weight(change[pixel])
        }))
    }

    /// Whether each token keeps the photo's pixels in any case.
    fn unchanged(&self, change: &[u8]) -> Vec<bool> {
        let held = self.hold.held();
        let local = self.thresholds.of_contrast.is_some();
        let same = self.tokens.ids().iter().zip(self.reference.ids()).map(|(a, b)| a == b);
        let mut stays: Vec<bool> = held.to_vec();
        for ((stays, same), mean) in stays.iter_mut().zip(same).zip(self.token_means(change)) {
            let faint = mean <= self.thresholds.token.into();
            *stays |= if local { same && faint } else { same || faint };
        }
        if local {
            return stays;
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
        let sums = self.by_token(|(sum, count): &mut (u64, u64), pixel| {
            *sum += u64::from(change[pixel]);
            *count += 1;
        });
        sums.into_iter().map(|(sum, count)| sum as f64 / count.max(1) as f64).collect()
    }

    /// The thresholds of each token.
    fn token_thresholds(&self, change: &[u8]) -> Vec<ChangeThresholds> {
        if self.thresholds.of_contrast.is_none() {
            return vec![self.thresholds; self.hold.size().len()];
        }
        let contrasts = self.contrasts(change).into_iter();
        contrasts.map(|contrast| self.thresholds.for_contrast(contrast)).collect()
    }

    /// The contrast in each token: the largest range of a channel in the edit, at most the largest
    /// change; 0 without pixels.
    fn contrasts(&self, change: &[u8]) -> Vec<u8> {
        let (pixels, _) = self.edit.as_raw().as_chunks::<3>();
        // The largest change, and the least and the largest level of each channel.
        let found = self.by_token(|found: &mut (u8, Option<[[u8; 3]; 2]>), pixel| {
            let (levels, (most, range)) = (pixels[pixel], found);
            *most = change[pixel].max(*most);
            let [low, high] = range.get_or_insert([levels; 2]);
            for (channel, level) in levels.into_iter().enumerate() {
                low[channel] = low[channel].min(level);
                high[channel] = high[channel].max(level);
            }
        });
        let contrast = |(most, range): (u8, Option<[[u8; 3]; 2]>)| {
            let [low, high] = range.unwrap_or_default();
            high.into_iter().zip(low).map(|(high, low)| (high - low).min(most)).max()
        };
        found.into_iter().map(|found| contrast(found).unwrap_or_default()).collect()
    }

    /// For each token what `add` makes of the row-major indices of its pixels, from the default on.
    fn by_token<T: Clone + Default>(&self, add: impl Fn(&mut T, usize)) -> Vec<T> {
        let grid = self.hold.size();
        let mut tokens = vec![T::default(); grid.len()];
        let columns = self.plan.token_columns(grid.width);
        for (y, row) in self.plan.token_rows(grid.height).into_iter().enumerate() {
            let Some(row) = row else { continue };
            for (x, column) in columns.iter().enumerate() {
                let Some(column) = column else { continue };
                add(&mut tokens[row * grid.width + column], y * columns.len() + x);
            }
        }
        tokens
    }
}

/// The largest channel difference of each pixel.
fn differences(a: &RgbImage, b: &RgbImage) -> Vec<u8> {
    a.pixels().zip(b.pixels()).map(|(a, b)| difference(a, b)).collect()
}

#[cfg(test)]
mod tests {
    use editmgt_core::GridSize;
    use proptest::prelude::*;

    use super::*;
    use crate::photo::{Blend, Composite};

    #[test]
    fn thresholds_follow_the_noise_within_limits() {
        let of_contrast = Some([0.08, 0.16]);
        for (noise, local, from, until, token, of_contrast) in [
            (0.0, true, 4.0, 16.0, 12.0, of_contrast),
            (1.5, true, 6.0, 24.0, 18.0, of_contrast),
            (200.0, true, 8.0, 32.0, 24.0, of_contrast),
            (1.0, false, 8.0, 32.0, 4.0, None),
        ] {
            let expected = ChangeThresholds { from, until, token, of_contrast };
            assert_eq!(ChangeThresholds::new(noise, local), expected);
        }
        let thresholds = ChangeThresholds::new(1.0, true);
        for (change, weight) in [(0, 0), (4, 0), (10, 32768), (16, 65535), (255, 65535)] {
            assert_eq!(thresholds.weight(change), weight, "{change}");
        }
    }

    /// Tokens of 2x1 pixels, all new; which pixels show something of the edit.
    fn shown(photo: [u8; 6], decoded_photo: [u8; 6], edit: [u8; 6], local: bool) -> [bool; 6] {
        let size = GridSize::new(1, 3);
        let grid = |id| TokenGrid::new(1, size, vec![id; 3]).unwrap();
        let image = |levels: [u8; 6]| RgbImage::from_fn(6, 1, |x, _| Rgb([levels[x as usize]; 3]));
        let change = VisibleChange {
            photo: &image(photo),
            edit: &image(edit),
            decoded_photo: &image(decoded_photo),
            tokens: &grid(1),
            reference: &grid(0),
            hold: &HoldMask::new(1, size, vec![false; 3]).unwrap(),
            plan: &ResizePlan::native(PixelSize::new(1, 6), 1).unwrap(),
            thresholds: ChangeThresholds::new(1.0, local),
        };
        let mask = change.mask().unwrap();
        std::array::from_fn(|pixel| mask.weights()[pixel] > 0)
    }

    #[test]
    fn a_faint_pixel_beside_an_edge_of_the_edit_is_the_photos() {
        // An edge with its blur, a plain faint change, and an edge that was the photo's.
        let (photo, edit) = ([0, 0, 0, 0, 0, 250], [250, 15, 15, 15, 15, 15]);
        let expected = [true, false, true, true, true, true];
        assert_eq!(shown(photo, photo, edit, true), expected);
        assert_eq!(shown(photo, photo, edit, false), [true; 6]);
    }

    #[test]
    fn a_pixel_that_looks_like_the_photo_is_the_photos() {
        // The codec blurs the photo's own edge, and the edit has none there.
        let (photo, decoded) = ([0; 6], [0, 0, 60, 0, 60, 60]);
        assert_eq!(shown(photo, decoded, [0; 6], true), [false; 6]);
        // A codec that drifts is compared with itself only.
        let expected = [false, false, true, false, true, true];
        assert_eq!(shown(photo, decoded, [0; 6], false), expected);
        for local in [true, false] {
            assert_eq!(shown(photo, decoded, [200; 6], local), [true; 6]);
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
    /// held, the others are unchanged, of which the last looks otherwise beside the one before.
    fn weights(local: bool) -> Vec<u16> {
        let size = GridSize::new(1, 6);
        let grid = |ids: [u32; 6]| TokenGrid::new(1, size, ids.to_vec()).unwrap();
        let photo = RgbImage::new(12, 2);
        let levels = [90, 3, 90, 0, 12, 90];
        let edit = RgbImage::from_fn(12, 2, |x, _| Rgb([levels[x as usize / 2]; 3]));
        let hold = [false, false, true, false, false, false];
        let change = VisibleChange {
            photo: &photo,
            edit: &edit,
            decoded_photo: &photo,
            tokens: &grid([1, 1, 1, 0, 0, 0]),
            reference: &grid([0; 6]),
            hold: &HoldMask::new(1, size, hold.to_vec()).unwrap(),
            plan: &ResizePlan::native(PixelSize::new(2, 12), 1).unwrap(),
            thresholds: ChangeThresholds::new(1.0, local),
        };
        change.mask().unwrap().weights()[..12].to_vec()
    }

    #[test]
    fn only_changed_tokens_that_are_not_held_and_differ_visibly_show_the_edit() {
        let all = ChangeMask::ALL;
        assert_eq!(weights(true), [all, all, 0, 0, 0, 0, 0, 0, 0, 0, all, all]);
        assert_eq!(weights(false), [all, all, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
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
                photo: &photo, edit: &edit, decoded_photo: &decoded_photo, tokens: &tokens,
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
