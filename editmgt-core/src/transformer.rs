use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    AttentionMaps, AttentionRequest, Error, GridSize, Result, TextConditioning, TokenGrid,
};

/// What a transformer is, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformerSpec {
    /// Codes it predicts: logits have this many classes.
    pub codebook_size: usize,
    /// The id that stands for "not decided yet".
    pub mask_token: u32,
    /// Number of double blocks; block indices `0..double_blocks`.
    pub double_blocks: usize,
    /// Number of single blocks; they follow the double blocks.
    pub single_blocks: usize,
    /// Tokens per cell inside the blocks, along each side: 2 with down/up blocks, else 1.
    pub grid_factor: usize,
    /// Width of the text rows it expects.
    pub text_size: usize,
    /// Width of the pooled text vector it expects.
    pub pooled_size: usize,
}

impl TransformerSpec {
    /// All blocks, double and single.
    pub fn blocks(&self) -> usize {
        self.double_blocks + self.single_blocks
    }
}

/// What the model is told about the picture besides text: SDXL-style micro-conditions.
///
/// Source: the official pipeline passes (width, height, crop, crop, aesthetic score 6).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MicroConditions {
    /// Width of the original picture, pixels.
    pub width: f32,
    /// Height of the original picture, pixels.
    pub height: f32,
    /// First crop coordinate (top in training), pixels.
    pub crop_top: f32,
    /// Second crop coordinate (left in training), pixels.
    pub crop_left: f32,
    /// Aesthetic score; the official code always passes 6.
    pub aesthetic_score: f32,
}

impl MicroConditions {
    /// An uncropped picture with the official aesthetic score.
    pub fn uncropped(height: usize, width: usize) -> Self {
        Self {
            width: width as f32,
            height: height as f32,
            crop_top: 0.0,
            crop_left: 0.0,
            aesthetic_score: 6.0,
        }
    }

    /// In the order in which the model reads them.
    pub fn values(&self) -> [f32; 5] {
        [self.width, self.height, self.crop_top, self.crop_left, self.aesthetic_score]
    }
}

/// The photo's own tokens that ride along as condition tokens.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceInput<'a> {
    /// `[B, h, w]` tokens; usually, but not necessarily, the canvas' own grid.
    pub tokens: &'a TokenGrid,
    /// γ >= 0: log γ is added to the attention logits between reference and all other tokens.
    /// 1 leaves them alone, 0 cuts the reference off.
    pub strength: f32,
}

/// One forward pass over a batch.
#[derive(Debug, Clone, Copy)]
pub struct StepInput<'a> {
    /// The canvas, `[B, H, W]`, with the mask token where nothing is decided.
    pub tokens: &'a TokenGrid,
    /// Condition tokens for an edit, `None` for text-to-image.
    pub reference: Option<ReferenceInput<'a>>,
    /// Text features of `B` prompts.
    pub text: &'a TextConditioning,
    /// One per batch item.
    pub micro: &'a [MicroConditions],
    /// One per batch item. Inference counts steps down (`n-1 … 0`); the official training passes
    /// `mask_ratio * 1000`. The model multiplies by 1000 once more.
    pub timestep: &'a [f32],
}

impl StepInput<'_> {
    /// Checks that the parts belong together and suit the model.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Value`], [`Error::TokenOutOfRange`] or [`Error::Grid`], each with
    /// what was expected and what came.
    pub fn check(&self, spec: &TransformerSpec) -> Result<()> {
        let batch = self.tokens.batch();
        if batch == 0 || self.tokens.size().is_empty() {
            return Err(Error::Grid {
                got: self.tokens.size(),
                why: "there is nothing to fill".into(),
            });
        }
        let limit = spec.mask_token as usize + 1;
        self.tokens.check_below(limit)?;
        let text = (self.text.hidden.dims(), self.text.pooled.dims());
        let expected_text = ([batch, self.text.rows(), spec.text_size], [batch, spec.pooled_size]);
        if text != expected_text {
            return Err(Error::shape(
                "text features (hidden, pooled)",
                format!("{expected_text:?}"),
                format!("{text:?}"),
            ));
        }
        if self.micro.len() != batch {
            return Err(Error::shape("micro-conditions", batch, self.micro.len()));
        }
        if self.timestep.len() != batch {
            return Err(Error::shape("timesteps", batch, self.timestep.len()));
        }
        if let Some(t) = self.timestep.iter().find(|t| !t.is_finite()) {
            return Err(Error::value("timestep", "a finite number", t));
        }
        if let Some(v) = self.micro.iter().flat_map(|m| m.values()).find(|v| !v.is_finite()) {
            return Err(Error::value("micro-condition", "a finite number", v));
        }
        if let Some(reference) = &self.reference {
            reference.tokens.check_below(limit)?;
            if reference.tokens.batch() != batch {
                return Err(Error::shape("reference batch", batch, reference.tokens.batch()));
            }
            if reference.tokens.size().is_empty() {
                return Err(Error::Grid {
                    got: reference.tokens.size(),
                    why: "an edit needs at least one reference token".into(),
                });
            }
            if !(reference.strength >= 0.0 && reference.strength.is_finite()) {
                return Err(Error::value(
                    "reference strength",
                    "a finite number, 0 or more",
                    reference.strength,
                ));
            }
        }
        Ok(())
    }
}

/// What a forward pass gives.
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// `[B, N, V]`: a row of unnormalised log-probabilities over the codebook for each of the
    /// `N = H*W` positions. (The official layout is `[B, V, H, W]`; classes last spares two
    /// transpositions of the largest tensor of a step.)
    pub logits: Tensor<3>,
    /// The maps that were asked for; `None` when nothing was.
    pub maps: Option<AttentionMaps>,
}

/// Predicts every token of the canvas from canvas, condition tokens and text.
///
/// Implementations keep no state between calls: strength, capture and timestep travel in the
/// request.
pub trait MgtTransformer: Send + Sync {
    /// Codebook, mask token, blocks.
    fn spec(&self) -> &TransformerSpec;

    /// One pass over the whole canvas.
    ///
    /// # Errors
    /// Those of [`StepInput::check`] and [`AttentionRequest::check`].
    fn forward(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput>;

    /// The grid inside the blocks for a token grid: what attention maps are shaped like.
    fn inner_grid(&self, tokens: GridSize) -> GridSize {
        tokens.div_ceil(self.spec().grid_factor)
    }
}
