use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    ActiveRows, AttentionMaps, AttentionRequest, Error, GridSize, Result, StepCache,
    TextConditioning, TokenGrid,
};

/// The sizes of a transformer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformerSpec {
    /// Number of codes, and of classes of the logits.
    pub codebook_size: usize,
    /// The id of positions that are not decided yet.
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

/// SDXL-style micro-conditioning: size, crop, aesthetic score.
///
/// Source: the official pipeline passes (width, height, crop, crop, aesthetic score 6).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MicroConditions {
    /// Width of the original image, pixels.
    pub width: f32,
    /// Height of the original image, pixels.
    pub height: f32,
    /// First crop coordinate (top in training), pixels.
    pub crop_top: f32,
    /// Second crop coordinate (left in training), pixels.
    pub crop_left: f32,
    /// Aesthetic score; the official code always passes 6.
    pub aesthetic_score: f32,
}

impl MicroConditions {
    /// An uncropped image with the official aesthetic score.
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

/// The photo's tokens, appended to the sequence as condition tokens.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceInput<'a> {
    /// `[B, h, w]` tokens; the grid may differ from the canvas'.
    pub tokens: &'a TokenGrid,
    /// γ >= 0: log γ is added to the attention logits between the reference and all other tokens. 1
    /// is neutral; 0 removes the reference.
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
    /// Checks that the inputs are consistent with each other and with the model.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Value`], [`Error::TokenOutOfRange`] or [`Error::Grid`].
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

/// The output of a forward pass.
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// `[B, N, V]`: unnormalised log-probabilities over the codebook for each of the `N = H*W`
    /// positions. (The official layout is `[B, V, H, W]`; classes last avoids two transpositions of
    /// the largest tensor of a step.)
    pub logits: Tensor<3>,
    /// The requested maps; `None` if the request is empty.
    pub maps: Option<AttentionMaps>,
}

/// Predicts every token of the canvas from canvas, condition tokens and text.
///
/// Implementations keep no state between calls: strength, capture and timestep are part of the
/// input.
pub trait MgtTransformer: Send + Sync {
    /// Codebook, mask token, blocks.
    fn spec(&self) -> &TransformerSpec;

    /// One forward pass over the whole canvas.
    ///
    /// # Shapes
    /// - tokens of `input`: `[B, H, W]`, text features `[B, T, D]` and `[B, P]`
    /// - logits of the output: `[B, H * W, V]`
    ///
    /// # Errors
    /// Those of [`StepInput::check`] and [`AttentionRequest::check`].
    fn forward(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput>;

    /// Whether [`forward_cached`](Self::forward_cached) computes less than the whole canvas; if
    /// not, callers can use [`forward`](Self::forward).
    fn caches_steps(&self) -> bool {
        false
    }

    /// A forward pass of a [step plan](crate::StepPlan).
    ///
    /// Without `active`, a full step: the result of [`forward`](Self::forward); fills `cache`. With
    /// `active`, a partial step: computes only these cells, against what `cache` keeps of all
    /// others, and updates the cache. Idle cells, text and reference stay as they were when they
    /// were computed last. With all cells active and the input of the full step, the result is that
    /// of the full step.
    ///
    /// The default computes the whole canvas and keeps nothing.
    ///
    /// # Shapes
    /// - `input`: as in [`forward`](Self::forward)
    /// - logits of the output: `[B, H * W, V]`; with `active` `[B, slots, V]`, those of its
    ///   [positions](ActiveRows::positions), unspecified but finite outside the grid
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward) and [`ActiveRows::check`]; [`Error::Value`] for a
    /// partial step whose cache was not filled by a full step of the same shapes.
    fn forward_cached(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        cache: &mut StepCache,
        active: Option<&ActiveRows>,
    ) -> Result<StepOutput> {
        let _ = cache;
        if let Some(active) = active {
            active.check(input, request, self.spec())?;
        }
        let StepOutput { logits, maps } = self.forward(input, request)?;
        let logits = match active {
            Some(active) => active.select(logits)?,
            None => logits,
        };
        Ok(StepOutput { logits, maps })
    }

    /// Whether it takes the tokens of a photo as a reference, which an edit by instruction needs.
    /// `false` for a model that can only fill a canvas: [`forward`](Self::forward) then refuses an
    /// input with a reference as an [`Error::Value`].
    fn takes_reference(&self) -> bool {
        true
    }

    /// The grid inside the blocks for a token grid, which is the grid of attention maps.
    fn inner_grid(&self, tokens: GridSize) -> GridSize {
        tokens.div_ceil(self.spec().grid_factor)
    }
}
