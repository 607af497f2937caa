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

    /// The share of held tokens, 0..1; 0 for an empty mask.
    pub fn share(&self) -> f32 {
        match self.held.len() {
            0 => 0.0,
            n => self.held.iter().filter(|&&held| held).count() as f32 / n as f32,
        }
    }
}

/// The user's own word on where the edit may happen, on the token grid: `[height, width]`, one
/// for all images. 1 means "may change", 0 means "must stay".
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

    /// Whether the token at `position` may change: half or more of it is white.
    pub fn may_change(&self, position: usize) -> bool {
        self.values[position] >= 0.5
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

/// Decides which tokens are held at a step. Pure: the same arguments give the same mask.
pub trait RegionHold: Send + Sync {
    /// Whether scores are needed at all; without, attention is not captured.
    fn needs_scores(&self) -> bool {
        true
    }

    /// The tokens to hold at step `step` (0 is the first).
    ///
    /// # Errors
    /// [`Error::Shape`] when mask and scores have different grids; [`Error::Value`] when the
    /// policy needs a mask and none is given.
    fn hold(&self, scores: &ScoreMap, mask: Option<&UserMask>, step: usize) -> Result<HoldMask>;
}
