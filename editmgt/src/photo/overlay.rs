use colorous::VIRIDIS;
use editmgt_core::{Error, HoldMask, Result, ScoreMap};
use image::{Rgb, RgbImage};

use super::{ChangeMask, PixelSize, ResizePlan};

/// Ratio of the photo's length to the outline's width, so that it is visible at any size.
const LINE: usize = 400;

/// Overlay of the editable region on the photo.
///
/// The photo in grey; the score of each token as a colour of *viridis* (dark blue 0, yellow 1;
/// perceptually uniform); held tokens and pixels outside the model's image at half the brightness,
/// with a white outline around the rest. Editable pixels that the composite takes from the photo
/// are at three quarters of the brightness.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// The photo.
    pub photo: &'a RgbImage,
    /// The score map; `None` for no colours.
    pub scores: Option<&'a ScoreMap>,
    /// Which tokens were held.
    pub hold: &'a HoldMask,
    /// The edit's weight in each pixel, if the composite used one.
    pub change: Option<&'a ChangeMask>,
    /// Index of the image in the masks' batch.
    pub image: usize,
    /// The photo's resize plan.
    pub plan: &'a ResizePlan,
}

impl Overlay<'_> {
    /// Renders the overlay, of the photo's size.
    ///
    /// # Errors
    /// [`Error::Shape`] when photo, plan, scores and mask don't match.
    pub fn render(&self) -> Result<RgbImage> {
        let size = self.plan.photo();
        if PixelSize::of(self.photo) != size {
            return Err(Error::shape("photo of the overlay", size, PixelSize::of(self.photo)));
        }
        let grid = self.hold.size();
        let batch = self.scores.map_or(self.hold.batch(), ScoreMap::batch).min(self.hold.batch());
        if grid.is_empty() || self.image >= batch {
            let got = format!("{batch} masks of {grid}");
            return Err(Error::shape("hold mask", format!("image {}", self.image), got));
        }
        if let Some(scores) = self.scores.filter(|scores| scores.size() != grid) {
            return Err(Error::shape("score map", grid, scores.size()));
        }
        if let Some(change) = self.change.filter(|change| change.size() != size) {
            return Err(Error::shape("change mask", size, change.size()));
        }
        let held = &self.hold.held()[self.image * grid.len()..][..grid.len()];
        let scores = self.scores.map(|scores| scores.image(self.image));
        let (rows, columns) =
            (self.plan.token_rows(grid.height), self.plan.token_columns(grid.width));
        let token = |x: usize, y: usize| Some(rows[y]? * grid.width + columns[x]?);
        let stays = |x: usize, y: usize| token(x, y).is_none_or(|token| held[token]);
        let line = (size.longer() / LINE).max(1);
        let at_border = |x: usize, y: usize| {
            let (left, up) = (x.saturating_sub(line), y.saturating_sub(line));
            let right = (x + line).min(size.width - 1);
            let down = (y + line).min(size.height - 1);
            [(left, y), (right, y), (x, up), (x, down)].iter().any(|&(x, y)| stays(x, y))
        };
        Ok(RgbImage::from_fn(size.width as u32, size.height as u32, |x, y| {
            let [r, g, b] = self.photo.get_pixel(x, y).0.map(u32::from);
            let (x, y) = (x as usize, y as usize);
            // Rec. 601 luma.
            let grey = ((299 * r + 587 * g + 114 * b) / 1000) as u8;
            let colour = match (scores, token(x, y)) {
                (Some(scores), Some(token)) => {
                    let colour = VIRIDIS.eval_continuous(scores[token].into());
                    colour.as_array().map(|level| mean(level, grey))
                }
                _ => [grey; 3],
            };
            let put_back = self.change.is_some_and(|c| c.weights()[y * size.width + x] == 0);
            Rgb(if stays(x, y) {
                colour.map(|level| level / 2)
            } else if at_border(x, y) {
                [u8::MAX; 3]
            } else if put_back {
                colour.map(|level| level - level / 4)
            } else {
                colour
            })
        }))
    }
}

fn mean(a: u8, b: u8) -> u8 {
    (u16::from(a) + u16::from(b)).div_ceil(2) as u8
}

#[cfg(test)]
mod tests {
    use editmgt_core::GridSize;

    use super::*;

    #[test]
    fn overlay_has_score_colours_dark_held_tokens_and_an_outline() {
        let photo = RgbImage::from_pixel(16, 8, Rgb([100; 3]));
        let plan = ResizePlan::native(PixelSize::of(&photo), 1).unwrap();
        let grid = GridSize::new(1, 2);
        let hold = HoldMask::new(1, grid, vec![true, false]).unwrap();
        let scores = ScoreMap::new(1, grid, vec![0.0, 1.0]).unwrap();
        let overlay = Overlay {
            photo: &photo,
            scores: Some(&scores),
            hold: &hold,
            change: None,
            image: 0,
            plan: &plan,
        };
        let picture = overlay.render().unwrap();
        // The ends of viridis are #440154 and #fde725; each is mixed with the grey of the photo.
        let (low, high) = ([0x44, 0x01, 0x54], [0xfd, 0xe7, 0x25]);
        let mixed = |colour: [u8; 3]| colour.map(|level| mean(level, 100));
        for y in 0..8 {
            for x in 0..16 {
                let expected = match x {
                    0..8 => mixed(low).map(|level| level / 2),
                    8 => [255; 3],
                    _ => mixed(high),
                };
                assert_eq!(picture.get_pixel(x, y).0, expected, "{x},{y}");
            }
        }
        let bare = Overlay { scores: None, ..overlay }.render().unwrap();
        assert_eq!([0, 8, 15].map(|x| bare.get_pixel(x, 0).0[1]), [50, 255, 100]);
    }

    #[test]
    fn rejects_mismatched_parts() {
        let (photo, other) = (RgbImage::new(8, 8), RgbImage::new(8, 9));
        let plan = ResizePlan::native(PixelSize::of(&photo), 1).unwrap();
        let hold = HoldMask::none(1, GridSize::new(2, 2));
        let scores = ScoreMap::new(1, GridSize::new(2, 3), vec![0.0; 6]).unwrap();
        let fine = Overlay {
            photo: &photo,
            scores: None,
            hold: &hold,
            change: None,
            image: 0,
            plan: &plan,
        };
        assert!(fine.render().is_ok());
        for (what, overlay) in [
            ("another size", Overlay { photo: &other, ..fine }),
            ("no such image", Overlay { image: 1, ..fine }),
            ("another grid", Overlay { scores: Some(&scores), ..fine }),
        ] {
            assert!(overlay.render().is_err(), "{what}");
        }
    }
}
