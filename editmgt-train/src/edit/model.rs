use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use editmgt_core::{MgtTransformer, ReferenceInput, Result, StepInput, TextConditioning};
use editmgt_kernels::{Operands, WithOperands};
use editmgt_text::SmallText;
use editmgt_transformer::{MgtModel, TrainingOutput};

use super::{EditBatch, LossOptions, changed_cross_entropy, map_divergence, masked_nll};
use crate::run::{Draws, initialise};

/// All modules that are trained together.
#[derive(Module, Debug)]
pub struct EditModel {
    transformer: MgtModel,
    text: Option<SmallText>,
    changed_head: Option<Linear>,
    slot_head: Option<Linear>,
}

impl WithOperands for EditModel {
    fn with_operands(self, operands: Operands) -> Self {
        let Self { transformer, text, .. } = self;
        Self {
            transformer: transformer.with_operands(operands),
            text: text.map(|text| text.with_operands(operands)),
            ..self
        }
    }
}

/// The parts of an [`EditModel`].
#[derive(Debug, Clone)]
pub struct EditParts {
    /// The transformer.
    pub transformer: MgtModel,
    /// The text encoder, if it is trained.
    pub text: Option<SmallText>,
}

impl EditModel {
    /// Combines the parts, with a new head of the transformer's `width` if the loss needs one.
    pub fn new(parts: EditParts, loss: &LossOptions, width: usize, device: &Device) -> Self {
        let EditParts { transformer, text } = parts;
        let wanted = loss.changed_head_weight > 0.0;
        let changed_head = wanted.then(|| LinearConfig::new(width, 1).init(device));
        Self { transformer, text, changed_head, slot_head: None }
    }

    /// Adds a head that classifies the pooled text; `classes` are those of each question.
    pub fn with_slot_head(mut self, classes: &[usize]) -> Self {
        self.slot_head = self.text.as_ref().map(|text| {
            let device = text.devices().into_iter().next().unwrap_or_default();
            LinearConfig::new(text.spec().pooled_size, classes.iter().sum()).init(&device)
        });
        self
    }

    /// Classifies the pooled text: `[B, all classes]` logits; `None` without the head.
    pub(super) fn slots(&self, text: &TextConditioning) -> Option<Tensor<2>> {
        self.slot_head.as_ref().map(|head| head.forward(text.pooled.clone()))
    }

    /// Replaces the head, if there is one, by one initialised from `draws`.
    pub fn with_drawn_head(mut self, draws: &Draws) -> Self {
        self.changed_head = self.changed_head.map(|head| initialise(head, draws));
        self
    }

    /// The transformer.
    pub fn transformer(&self) -> &MgtModel {
        &self.transformer
    }

    /// The parts that an edit needs.
    pub(super) fn into_parts(self) -> EditParts {
        EditParts { transformer: self.transformer, text: self.text }
    }

    /// Replaces the transformer by `change` of it.
    pub(super) fn map_transformer(
        mut self,
        change: impl FnOnce(MgtModel) -> Result<MgtModel>,
    ) -> Result<Self> {
        self.transformer = change(self.transformer)?;
        Ok(self)
    }

    /// The text encoder, if it is trained.
    pub fn text(&self) -> Option<&SmallText> {
        self.text.as_ref()
    }

    /// Forward pass over a batch, with the attention maps of `blocks`.
    ///
    /// # Errors
    /// Those of [`MgtModel::forward_training`].
    pub fn forward(
        &self,
        batch: &EditBatch,
        text: &TextConditioning,
        blocks: &[usize],
    ) -> Result<TrainingOutput> {
        let reference =
            batch.reference.as_ref().map(|tokens| ReferenceInput { tokens, strength: 1.0 });
        let input = StepInput {
            tokens: &batch.canvas,
            reference,
            text,
            micro: &batch.micro,
            timestep: &batch.timestep,
        };
        self.transformer.forward_training(&input, blocks)
    }

    /// The loss of a batch, `[1]`.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward) and of the losses.
    pub fn loss(
        &self,
        batch: &EditBatch,
        text: &TextConditioning,
        options: &LossOptions,
    ) -> Result<Tensor<1>> {
        let output = self.forward(batch, text, &options.map_blocks)?;
        let weights = batch.weights(options);
        let mut loss = masked_nll(output.logits, &batch.target, &weights)?;
        if options.map_weight > 0.0 {
            let region = batch.region(self.transformer.inner_grid(batch.target.size()));
            loss = loss + map_divergence(&output.maps, &region)? * options.map_weight;
        }
        if let Some(head) = &self.changed_head {
            let logits = head.forward(output.features).squeeze_dim(2);
            let cost = changed_cross_entropy(logits, &batch.changed)?;
            loss = loss + cost * options.changed_head_weight;
        }
        Ok(loss)
    }
}
