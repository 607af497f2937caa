use serde::{Deserialize, Serialize};

use crate::{AttentionMaps, Error, GridSize, Result, TokenGrid};

/// Where the edit is: one score per token, `[batch, height, width]`. High means "change here".
///
/// Scores are rescaled to 0..1 before filtering; bicubic upsampling may leave that range by a
/// little, as in the official code.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreMap {
    batch: usize,
    size: GridSize,
    values: Vec<f32>,
}

impl ScoreMap {
    /// Takes `batch * size.len()` scores, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of scores differs.
    pub fn new(batch: usize, size: GridSize, values: Vec<f32>) -> Result<Self> {
        if values.len() != batch * size.len() {
            return Err(Error::shape("score map", batch * size.len(), values.len()));
        }
        Ok(Self { batch, size, values })
    }

    /// Number of images.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Height and width in tokens.
    pub fn size(&self) -> GridSize {
        self.size
    }

    /// All scores, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The scores of one image. Panics when `image >= batch`.
    pub fn image(&self, image: usize) -> &[f32] {
        let n = self.size.len();
        &self.values[image * n..(image + 1) * n]
    }

    /// Several maps of each image made one: `[B * maps, h, w]` to `[B, h, w]`, where the maps of
    /// an image follow each other.
    ///
    /// # Errors
    /// [`Error::Shape`] when the batch is no multiple of `maps`, or `maps` is 0.
    pub fn combine(&self, maps: usize, how: MapCombine) -> Result<Self> {
        if maps == 0 || !self.batch.is_multiple_of(maps) {
            let expected = format!("a multiple of {maps} maps (1 or more)");
            return Err(Error::shape("score maps", expected, self.batch));
        }
        let (batch, n) = (self.batch / maps, self.size.len());
        let value = |i: usize| {
            let of_map = |map: usize| self.values[(i / n * maps + map) * n + i % n];
            match how {
                MapCombine::Max => (0..maps).map(of_map).fold(f32::NEG_INFINITY, f32::max),
                MapCombine::Mean => (0..maps).map(of_map).sum::<f32>() / maps as f32,
            }
        };
        Self::new(batch, self.size, (0..batch * n).map(value).collect())
    }

    /// Least, largest and mean score of one image. Panics when `image >= batch`.
    pub fn stats(&self, image: usize) -> ScoreStats {
        let scores = self.image(image);
        let sum: f64 = scores.iter().map(|&score| f64::from(score)).sum();
        ScoreStats {
            min: scores.iter().copied().fold(f32::INFINITY, f32::min),
            max: scores.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            mean: (sum / scores.len().max(1) as f64) as f32,
        }
    }
}

/// How the score maps of several phrases become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapCombine {
    /// The largest score: what any phrase means may change.
    #[default]
    Max,
    /// The mean: what all phrases mean counts most.
    Mean,
}

/// A score map in three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreStats {
    /// The least score.
    pub min: f32,
    /// The largest score.
    pub max: f32,
    /// Their mean.
    pub mean: f32,
}

/// Which tokens must stay the photo's own: `[batch, height, width]`, `true` means held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldMask {
    batch: usize,
    size: GridSize,
    held: Vec<bool>,
}

impl HoldMask {
    /// Takes `batch * size.len()` flags, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of flags differs.
    pub fn new(batch: usize, size: GridSize, held: Vec<bool>) -> Result<Self> {
        if held.len() != batch * size.len() {
            return Err(Error::shape("hold mask", batch * size.len(), held.len()));
        }
        Ok(Self { batch, size, held })
    }

    /// A mask that holds nothing.
    pub fn none(batch: usize, size: GridSize) -> Self {
        Self { batch, size, held: vec![false; batch * size.len()] }
    }

    /// Number of images.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Height and width in tokens.
    pub fn size(&self) -> GridSize {
        self.size
    }

    /// All flags, row-major.
    pub fn held(&self) -> &[bool] {
        &self.held
    }

    /// What either of two masks holds.
    ///
    /// # Errors
    /// [`Error::Shape`] for another batch or grid.
    pub fn union(&self, other: &Self) -> Result<Self> {
        let shape = |mask: &Self| format!("{} of {}", mask.batch, mask.size);
        if shape(self) != shape(other) {
            return Err(Error::shape("hold mask", shape(self), shape(other)));
        }
        let either = self.held.iter().zip(&other.held).map(|(a, b)| a | b);
        Self::new(self.batch, self.size, either.collect())
    }

    /// The share of held tokens, 0..1; 0 for an empty mask.
    pub fn share(&self) -> f32 {
        match self.held.len() {
            0 => 0.0,
            n => self.held.iter().filter(|&&held| held).count() as f32 / n as f32,
        }
    }
}

/// A user's mask, reduced to the token grid: `[height, width]`, one for all images. 1 means "may
/// change", 0 means "must stay".
#[derive(Debug, Clone, PartialEq)]
pub struct UserMask {
    size: GridSize,
    values: Vec<f32>,
}

impl UserMask {
    /// Takes `size.len()` values in 0..=1, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] for a wrong number of values, [`Error::Value`] outside 0..=1 or for NaN.
    pub fn new(size: GridSize, values: Vec<f32>) -> Result<Self> {
        if values.len() != size.len() {
            return Err(Error::shape("user mask", size.len(), values.len()));
        }
        if let Some(v) = values.iter().find(|v| !(0.0..=1.0).contains(*v)) {
            return Err(Error::value("user mask", "values in 0..=1", v));
        }
        Ok(Self { size, values })
    }

    /// Height and width in tokens.
    pub fn size(&self) -> GridSize {
        self.size
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Whether the token at `position` may change: any of it is white. (The pixels that the mask
    /// leaves black are put back one by one after the edit.)
    pub fn may_change(&self, position: usize) -> bool {
        self.values[position] > 0.0
    }

    /// The canvas to start from: the photo's tokens, with `mask_token` where the mask is white.
    ///
    /// # Errors
    /// [`Error::Shape`] when the grids differ.
    pub fn masked(&self, reference: &TokenGrid, mask_token: u32) -> Result<TokenGrid> {
        if reference.size() != self.size {
            return Err(Error::shape("user mask grid", reference.size(), self.size));
        }
        let mut canvas = reference.clone();
        let n = self.size.len();
        for (i, id) in canvas.ids_mut().iter_mut().enumerate() {
            if self.may_change(i % n) {
                *id = mask_token;
            }
        }
        Ok(canvas)
    }
}

/// Turns the attention of several layers into one score per token.
pub trait AttentionConsolidator: Send + Sync {
    /// `[layers, B, cells]` attention to `[B, target]` scores. Any batch, any grid, any layers.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are no layers or no cells; [`Error::Value`] for NaN attention.
    fn consolidate(&self, maps: &AttentionMaps, target: GridSize) -> Result<ScoreMap>;
}

/// What a hold policy decides by.
#[derive(Debug, Clone, Copy)]
pub struct HoldRequest<'a> {
    /// The scores of this step.
    pub scores: &'a ScoreMap,
    /// Those of the first step, when the whole canvas was still to fill; of the same batch and
    /// grid.
    pub first: &'a ScoreMap,
    /// What the user says may change.
    pub mask: Option<&'a UserMask>,
    /// 0 is the first step.
    pub step: usize,
    /// The same scores on the model's attention grid, where the caller has them.
    pub cells: Option<CellScores<'a>>,
}

/// Score maps on the grid that the model's attention has, before they are upsampled to tokens.
#[derive(Debug, Clone, Copy)]
pub struct CellScores<'a> {
    /// The scores of this step.
    pub scores: &'a ScoreMap,
    /// Those of the first step; of the same batch and grid.
    pub first: &'a ScoreMap,
}

impl<'a> HoldRequest<'a> {
    /// The first step of an edit.
    pub fn first(scores: &'a ScoreMap, mask: Option<&'a UserMask>) -> Self {
        Self { scores, first: scores, mask, step: 0, cells: None }
    }
}

/// Decides which tokens are held at a step. Pure: the same request gives the same mask.
pub trait RegionHold: Send + Sync {
    /// Whether scores are needed at all; without, attention is not captured.
    fn needs_scores(&self) -> bool {
        true
    }

    /// The tokens to hold at a step, of the batch and grid of its scores.
    ///
    /// # Errors
    /// [`Error::Shape`] when mask and scores have different grids; [`Error::Value`] when the
    /// policy needs a mask and none is given.
    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask>;

    /// The score below which this policy holds tokens of one image, where it decides by one (for
    /// reports); `None` otherwise, and where it found none.
    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        let _ = (request, image);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_an_image_become_one() {
        let values = vec![0.0, 0.6, 0.2, 1.0, 0.5, 0.5, 0.1, 0.9];
        let maps = ScoreMap::new(4, GridSize::new(1, 2), values.clone()).unwrap();
        for (count, how, expected) in [
            (1, MapCombine::Max, values.clone()),
            (2, MapCombine::Max, vec![0.2, 1.0, 0.5, 0.9]),
            (2, MapCombine::Mean, vec![0.1, 0.8, 0.3, 0.7]),
            (4, MapCombine::Max, vec![0.5, 1.0]),
        ] {
            let combined = maps.combine(count, how).unwrap();
            assert_eq!(combined.batch(), 4 / count);
            for (got, expected) in combined.values().iter().zip(&expected) {
                // One sum of two numbers of about 1.
                assert!((got - expected).abs() < 1e-6, "{count} {how:?}");
            }
        }
        assert!(maps.combine(3, MapCombine::Max).is_err());
        assert!(maps.combine(0, MapCombine::Max).is_err());
        let stats = maps.stats(1);
        assert_eq!((stats.min, stats.max), (0.2, 1.0));
        assert!((stats.mean - 0.6).abs() < 1e-6);
    }
}
