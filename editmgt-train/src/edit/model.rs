use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use editmgt_core::{Error, MgtTransformer, ReferenceInput, Result, StepInput, TextConditioning};
use editmgt_kernels::{Operands, WithOperands};
use editmgt_text::SmallText;
use editmgt_transformer::{MgtModel, TrainingOutput};

use super::{
    EditBatch, EditDataset, LossOptions, changed_cross_entropy, map_divergence, masked_nll_of,
    slot_cross_entropy, target_cross_entropy,
};
use crate::run::{Draws, TrainError, initialise};

/// All modules that are trained together.
#[derive(Module, Debug)]
pub struct EditModel {
    transformer: MgtModel,
    text: Option<SmallText>,
    changed_head: Option<Linear>,
    slot_head: Option<Linear>,
    reference_head: Option<Linear>,
    contents_head: Option<Linear>,
    /// The number of classes of each question about what a token shows; empty if that is unknown.
    #[module(skip)]
    content_classes: Vec<usize>,
    /// The double block after which it reads; the last if `None`.
    #[module(skip)]
    contents_block: Option<usize>,
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
    /// Combines the parts, with new heads of the transformer's `width` for which tokens change, if
    /// the loss needs them.
    pub fn new(parts: EditParts, loss: &LossOptions, width: usize, device: &Device) -> Self {
        let EditParts { transformer, text } = parts;
        let head = |weight: f32| (weight > 0.0).then(|| LinearConfig::new(width, 1).init(device));
        Self {
            transformer,
            text,
            changed_head: head(loss.changed_head_weight),
            slot_head: None,
            reference_head: head(loss.reference_head_weight),
            contents_head: None,
            content_classes: Vec::new(),
            contents_block: loss.contents_head_block,
        }
    }

    /// Adds a head, for the transformer's `width`, that classifies what each cell of the reference
    /// shows, if the loss needs one. With or without it the model knows then what the data tell
    /// about a token.
    ///
    /// # Errors
    /// [`TrainError::Option`] if the loss needs one, and the data don't tell what a token shows.
    pub fn with_contents_head(
        mut self,
        loss: &LossOptions,
        data: &dyn EditDataset,
        width: usize,
    ) -> Result<Self, TrainError> {
        let weight = loss.contents_head_weight;
        let classes = data.content_classes();
        self.content_classes = classes.clone();
        if weight == 0.0 {
            return Ok(self);
        }
        if classes.is_empty() {
            let expected = "0 for data that don't tell what a token shows";
            return Err(TrainError::option("contents_head_weight", expected, weight));
        }
        let device = self.devices().into_iter().next().unwrap_or_default();
        let head = LinearConfig::new(width, classes.iter().sum());
        self.contents_head = Some(head.init(&device));
        Ok(self)
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

    /// Initialises the heads, those that there are, from `draws`.
    pub fn with_drawn_heads(mut self, draws: &Draws) -> Self {
        let drawn = |head: Option<Linear>| head.map(|head| initialise(head, draws));
        self.changed_head = drawn(self.changed_head);
        self.reference_head = drawn(self.reference_head);
        self.contents_head = drawn(self.contents_head);
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

    /// Whether the heads on the reference are right, by the name of a metric, about each cell that
    /// shows an object: each question about it, and whether it changes, of those that do and of the
    /// others. `reference` is that after each double block.
    ///
    /// # Errors
    /// [`Error::Device`](editmgt_core::Error::Device) when the answers can't be read.
    pub(super) fn head_answers(
        &self,
        batch: &EditBatch,
        reference: &[Tensor<3>],
    ) -> Result<Vec<(String, Vec<bool>)>> {
        let Some(last) = reference.last() else { return Ok(Vec::new()) };
        let inner = self.transformer.inner_grid(batch.target.size());
        let questions = self.content_classes.len();
        let shows = batch.shows(inner, questions);
        let mut answers = Vec::new();
        if let Some(head) = &self.contents_head {
            let (truth, mut start) = (batch.contents(inner, questions), 0);
            let logits = self.contents(head, reference);
            for (question, &classes) in self.content_classes.iter().enumerate() {
                let best = logits.clone().narrow(1, start, classes).argmax(1);
                let best = best.try_into_vec_as::<i64>();
                let best = best.map_err(|e| Error::device("reading the best answers", e))?;
                start += classes;
                let right = (0..best.len())
                    .filter(|&cell| shows[cell])
                    .map(|cell| best[cell] == i64::from(truth[cell * questions + question]));
                answers.push((format!("reference/question_{question}"), right.collect()));
            }
        }
        if let Some(head) = &self.reference_head {
            let scores = head.forward(last.clone()).try_into_vec_as::<f32>();
            let scores = scores.map_err(|e| Error::device("reading the changes", e))?;
            let changed: Vec<bool> = batch.region(inner).iter().map(|&share| share > 0.0).collect();
            for (name, of) in [("reference/changes", true), ("reference/stays", false)] {
                let right = (0..scores.len())
                    .filter(|&cell| changed[cell] == of && shows[cell])
                    .map(|cell| (scores[cell] > 0.0) == of);
                answers.push((name.to_owned(), right.collect()));
            }
        }
        Ok(answers)
    }

    /// `[B * cells, all classes]` of the reference after each double block.
    fn contents(&self, head: &Linear, reference: &[Tensor<3>]) -> Tensor<2> {
        let block = self.contents_block.unwrap_or(reference.len() - 1);
        head.forward(reference[block].clone()).flatten(0, 1)
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
        let inner = self.transformer.inner_grid(batch.target.size());
        let weights = batch.weights(options);
        let logits = |features| self.transformer.logits(features);
        let mut loss = masked_nll_of(output.features.clone(), logits, &batch.target, &weights)?;
        if options.map_weight > 0.0 {
            let region = batch.region(inner);
            loss = loss + map_divergence(&output.maps, &region)? * options.map_weight;
        }
        if let Some(head) = &self.changed_head {
            let logits = head.forward(output.features).squeeze_dim(2);
            let cost = changed_cross_entropy(logits, &batch.changed)?;
            loss = loss + cost * options.changed_head_weight;
        }
        // Without a reference there is nothing to find in it.
        let Some(last) = output.reference.last() else { return Ok(loss) };
        if let Some(head) = &self.reference_head {
            let logits = head.forward(last.clone()).squeeze_dim(2);
            let changed: Vec<bool> =
                batch.region(inner).into_iter().map(|share| share > 0.0).collect();
            let shows = batch.shows(inner, self.content_classes.len());
            let cost = target_cross_entropy(logits, &changed, &shows)?;
            loss = loss + cost * options.reference_head_weight;
        }
        if let Some(head) = &self.contents_head {
            let logits = self.contents(head, &output.reference);
            let answers = batch.contents(inner, self.content_classes.len());
            let (cost, _) = slot_cross_entropy(logits, &self.content_classes, &answers)?;
            loss = loss + cost * options.contents_head_weight;
        }
        Ok(loss)
    }
}
