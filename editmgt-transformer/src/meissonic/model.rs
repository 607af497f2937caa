use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm};
use burn::tensor::{DType, Device, Int, Tensor, activation};
use editmgt_core::{
    ActiveRows, AttentionRequest, Error, GridSize, ItemRows, MgtTransformer, ReferenceInput,
    Result, StepCache, StepInput, StepOutput, TextRows, TokenGrid, TransformerSpec, Upload,
    Uploaded,
};
use editmgt_kernels::{BufferPool, Operands, WithOperands};

use crate::conditioning::Mlp;
use crate::embedding::TokenEmbedding;
use crate::head::MlmHead;
use crate::meissonic::attention::KeyWeights;
use crate::meissonic::cached::{Keeping, reference};
use crate::meissonic::capture::Capture;
use crate::meissonic::config::{Connector, MgtConfig};
use crate::meissonic::connector::TextConnector;
use crate::meissonic::double_block::DoubleBlock;
use crate::meissonic::lora::{LinearRole, LinearRoles};
use crate::meissonic::memo::Memo;
use crate::meissonic::pass::{BlockContext, ReferenceContext, Stream, Streams};
use crate::meissonic::position::PositionEmbedding;
use crate::meissonic::rope::{Frequencies, Rotation};
use crate::meissonic::rows::linear_rows;
use crate::meissonic::single_block::SingleBlock;
use crate::meissonic::time_text::{MICRO, NumberParts, TimeTextEmbedding};
use crate::meissonic::trace::Trace;
use crate::norm::{EPSILON, rms_norm, rms_norm_config};
use crate::requested::RequestedRows;
use crate::resample::{PatchDown, PatchUp};

/// The masked generative transformer with condition tokens.
///
/// Built by [`MgtConfig::init`]; a forward pass is [`MgtTransformer::forward`]. Activations have
/// the dtype of the norms' weights, and so have all other parameters except the weights of linear
/// layers and the embedding table, which may be in half precision and are widened where they are
/// used. Norms, softmax and positions are computed in f32. The model has no state besides its
/// parameters, and positions that it keeps on the device from one step to the next.
///
/// Source: Meissonic (arXiv 2410.08261) and EditMGT, from the official implementation.
#[derive(Module, Debug)]
pub struct MgtModel {
    time_text_embed: TimeTextEmbedding,
    context_embedder: Linear,
    transformer_blocks: Vec<DoubleBlock>,
    single_transformer_blocks: Vec<SingleBlock>,
    embed: TokenEmbedding,
    mlm_layer: MlmHead,
    cond_embed: Mlp,
    encoder_proj_layer_norm: RmsNorm,
    project_to_hidden_norm: RmsNorm,
    project_to_hidden: Linear,
    project_from_hidden_norm: RmsNorm,
    project_from_hidden: Linear,
    down_block: Option<PatchDown>,
    up_block: Option<PatchUp>,
    connector: Option<TextConnector>,
    position_embed: Option<PositionEmbedding>,
    #[module(skip)]
    spec: TransformerSpec,
    #[module(skip)]
    frequencies: Frequencies,
    #[module(skip)]
    rotations: Memo<(usize, GridSize, Device), Rotation>,
    #[module(skip)]
    weights: Memo<(f32, [usize; 2], Device), Option<KeyWeights>>,
    /// Of the products of a pass.
    #[module(skip)]
    operands: Operands,
}

/// The output of [`MgtModel::forward_training`].
#[derive(Debug, Clone)]
pub struct TrainingOutput {
    /// `[B, N, D]`: the input of the head that computes logits ([`MgtModel::logits`]), and of
    /// auxiliary heads.
    pub features: Tensor<3>,
    /// `[B, cells, D]`: the reference after each double block, for auxiliary heads; empty without a
    /// reference.
    pub reference: Vec<Tensor<3>>,
    /// `[B, cells]` for each requested block: the attention from text rows to each cell of the
    /// inner grid, averaged over heads and rows.
    pub maps: Vec<Tensor<2>>,
}

impl MgtModel {
    /// The config must be valid.
    pub(crate) fn new(config: &MgtConfig, device: &Device) -> Self {
        let (width, head_dim) = (config.width(), config.attention_head_dim);
        let square = |bias| LinearConfig::new(width, width).with_bias(bias).init(device);
        let norm = || rms_norm_config(width, EPSILON).init(device);
        let connected = config.connector_type == Connector::Linear;
        Self {
            time_text_embed: TimeTextEmbedding::new(width, device),
            context_embedder: square(true),
            transformer_blocks: (0..config.num_layers)
                .map(|_| DoubleBlock::new(width, head_dim, device))
                .collect(),
            single_transformer_blocks: (0..config.num_single_layers)
                .map(|_| SingleBlock::new(width, head_dim, device))
                .collect(),
            embed: TokenEmbedding::new(config.vocab_size, [width; 2], EPSILON, device),
            mlm_layer: MlmHead::new([width; 2], config.codebook_size, EPSILON, device),
            cond_embed: Mlp::new(config.pooled_projection_dim + MICRO, width, false, device),
            encoder_proj_layer_norm: norm(),
            project_to_hidden_norm: norm(),
            project_to_hidden: square(false),
            project_from_hidden_norm: norm(),
            project_from_hidden: square(false),
            down_block: config.downsample.then(|| PatchDown::new(width, EPSILON, device)),
            up_block: config.upsample.then(|| PatchUp::new(width, EPSILON, device)),
            connector: connected
                .then(|| TextConnector::new(config.joint_attention_dim, width, device)),
            position_embed: (config.position_frequencies > 0)
                .then(|| PositionEmbedding::new(config.position_frequencies, width, device)),
            spec: config.spec(),
            frequencies: Frequencies { axes_dims: config.axes_dims_rope, theta: config.rope_theta },
            rotations: Memo::default(),
            weights: Memo::default(),
            operands: Operands::default(),
        }
    }

    /// [`MgtTransformer::forward`] that calls `trace` with every intermediate result.
    ///
    /// # Shapes
    /// Those of [`MgtTransformer::forward`]; for intermediate results see [`Trace`].
    ///
    /// # Errors
    /// Those of [`MgtTransformer::forward`].
    pub fn forward_traced(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        trace: impl FnMut(Trace<'_>),
    ) -> Result<StepOutput> {
        let (features, capture) = self.pass(input, request, trace, &mut Keeping::nothing())?;
        let logits = self.logits(features);
        Ok(StepOutput { logits, maps: capture.map(Capture::finish).transpose()? })
    }

    /// The last layer: features `[B, N, D]` of any tokens to their logits `[B, N, V]`.
    pub fn logits(&self, features: Tensor<3>) -> Tensor<3> {
        self.install(|| self.mlm_layer.forward(features))
    }

    /// A forward pass for training, up to the features from which [`logits`](Self::logits) are
    /// computed: all results, attention maps included, stay on the device and in
    /// the graph of an autodiff device.
    ///
    /// The maps are those of all items and all text rows in `blocks` (any order, no duplicates).
    ///
    /// # Shapes
    /// Those of [`MgtTransformer::forward`], to those of [`TrainingOutput`].
    ///
    /// # Errors
    /// Those of [`MgtTransformer::forward`].
    pub fn forward_training(
        &self,
        input: &StepInput<'_>,
        blocks: &[usize],
    ) -> Result<TrainingOutput> {
        let items = (0..input.tokens.batch()).map(|item| ItemRows { item, rows: TextRows::All });
        let request = AttentionRequest { blocks: blocks.into(), items: items.collect() };
        let mut seen = Vec::new();
        let keep = |trace: Trace<'_>| {
            if let Trace::Double { reference, .. } = trace {
                seen.extend(reference.cloned());
            }
        };
        let (features, capture) = self.pass(input, &request, keep, &mut Keeping::nothing())?;
        Ok(TrainingOutput {
            features,
            reference: seen,
            maps: capture.map(Capture::into_tensors).unwrap_or_default(),
        })
    }

    /// Channels of a token inside the blocks.
    pub fn width(&self) -> usize {
        self.context_embedder.weight.lazy_shape()[1]
    }

    /// Replaces the weights of the codes: their rows of the embedding table and of the layer that
    /// computes logits. The row of the mask token stays.
    ///
    /// With it, codes that look alike can start with similar weights ([`TokenGrid`] ids don't
    /// express that).
    ///
    /// # Shapes
    /// `inputs`, `outputs`: `[codes, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of codes or another width.
    pub fn with_code_rows(mut self, inputs: Tensor<2>, outputs: Tensor<2>) -> Result<Self> {
        let expected = [self.spec.codebook_size, self.width()];
        for rows in [&inputs, &outputs] {
            if rows.dims() != expected {
                let got = format!("{:?}", rows.dims());
                return Err(Error::shape("rows of the codes", format!("{expected:?}"), got));
            }
        }
        self.embed.set_first_rows(inputs);
        self.mlm_layer.set_rows(outputs);
        Ok(self)
    }

    /// A pass over the whole canvas to the features of its tokens, `[B, N, D]`; `kept` gets each
    /// block's keys and values.
    pub(crate) fn pass<'a>(
        &self,
        input: &StepInput<'_>,
        request: &'a AttentionRequest,
        trace: impl FnMut(Trace<'_>),
        kept: &mut Keeping,
    ) -> Result<(Tensor<3>, Option<Capture<'a>>)> {
        self.check(input, request)?;
        self.install(|| self.run(input, request, trace, kept))
    }

    /// Runs a pass with this model's operands, in the buffer pool of the caller.
    pub(crate) fn install<R>(&self, pass: impl FnOnce() -> R) -> R {
        self.operands.install(|| BufferPool::current().install(pass))
    }

    fn run<'a>(
        &self,
        input: &StepInput<'_>,
        request: &'a AttentionRequest,
        mut trace: impl FnMut(Trace<'_>),
        kept: &mut Keeping,
    ) -> Result<(Tensor<3>, Option<Capture<'a>>)> {
        let device = self.device();
        let grid = input.tokens.size();
        let inner = self.inner_grid(grid);
        let text_rows = input.text.rows();
        let reference = reference(input);

        let mut upload = Upload::default();
        let numbers = NumberParts::new(input, &mut upload);
        let mut ids = |tokens: &TokenGrid| {
            let part = upload.indices(tokens.ids().iter().map(|&id| id as usize))?;
            Ok((part, [tokens.batch(), tokens.size().height, tokens.size().width]))
        };
        let tokens = ids(input.tokens)?;
        let reference_tokens = reference.map(|input| ids(input.tokens)).transpose()?;
        let rows = RequestedRows::new(request, &mut upload)?;
        let sent = upload.send(&device);

        let context = self.context(input, reference, (&numbers, &sent), &mut trace);
        let embedded = self.embedded(sent.indices(tokens.0, tokens.1));
        trace(Trace::Embedding(&embedded));
        let mut streams = Streams {
            text: self.text_stream(input.text.hidden.clone()),
            image: self.image_stream(embedded, grid, Stream::Canvas),
            reference: reference.zip(reference_tokens).map(|(reference, (part, shape))| {
                let embedded = self.embedded(sent.indices(part, shape));
                self.image_stream(embedded, reference.tokens.size(), Stream::Reference)
            }),
        };
        let Streams { text, image, reference } = &streams;
        trace(Trace::Input { text, image, reference: reference.as_ref() });

        let mut capture = Capture::new(request, text_rows, inner, rows.on_device(&sent));
        for (block, layer) in self.transformer_blocks.iter().enumerate() {
            let probe = capture.as_mut().and_then(|capture| capture.probe(block));
            let keys;
            kept.free_old();
            (streams, keys) = layer.forward(streams, &context, probe);
            kept.keep(keys);
            let Streams { text, image, reference } = &streams;
            trace(Trace::Double { block, text, image, reference: reference.as_ref() });
        }

        let Streams { text, image, mut reference } = streams;
        let mut joint = Tensor::cat(vec![text, image], 1);
        let (last, layers) = self
            .single_transformer_blocks
            .split_last()
            .expect("a valid config has at least one single block");
        for (index, layer) in layers.iter().enumerate() {
            let block = self.spec.double_blocks + index;
            let probe = capture.as_mut().and_then(|capture| capture.probe(block));
            let keys;
            kept.free_old();
            (joint, reference, keys) = layer.forward(joint, reference, &context, probe);
            kept.keep(keys);
            trace(Trace::Single { block, joint: &joint, reference: reference.as_ref() });
        }
        let probe = capture.as_mut().and_then(|capture| capture.probe(self.spec.blocks() - 1));
        let image_rows = text_rows..text_rows + inner.len();
        kept.free_old();
        let (image, keys) = last.forward_rows(joint, reference, &context, probe, image_rows);
        kept.keep(keys);
        trace(Trace::Last(&image));

        let features = self.features(image, grid);
        trace(Trace::Output(&features));
        Ok((features, capture))
    }

    pub(crate) fn check(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<()> {
        input.check(&self.spec)?;
        let text_rows = input.text.rows();
        if text_rows == 0 {
            return Err(Error::shape("text rows", "at least one", 0));
        }
        request.check(self.spec.blocks(), input.tokens.batch(), text_rows)
    }

    /// The inputs that all blocks share: conditioning, rotations, reference strength.
    pub(crate) fn context(
        &self,
        input: &StepInput<'_>,
        reference: Option<ReferenceInput<'_>>,
        (numbers, sent): (&NumberParts, &Uploaded),
        trace: &mut impl FnMut(Trace<'_>),
    ) -> BlockContext {
        let dtype = self.dtype();
        let micro = numbers.micro(sent).cast(dtype);
        let pooled = Tensor::cat(vec![input.text.pooled.clone().cast(dtype), micro], 1);
        let pooled = self.cond_embed.forward(pooled);
        let (timestep, start) =
            (numbers.timestep(sent).cast(dtype), numbers.start(sent).cast(dtype));
        let conditioning = self.time_text_embed.forward(timestep, start, pooled.clone());
        trace(Trace::Conditioning {
            pooled: &pooled,
            canvas: &conditioning.canvas,
            reference: &conditioning.reference,
        });

        let text_rows = input.text.rows();
        let grid = self.inner_grid(input.tokens.size());
        let joint_rotation = self.rotation(text_rows, grid);
        BlockContext {
            conditioning: activation::silu(conditioning.canvas),
            text_rotation: joint_rotation.narrow(0, text_rows),
            image_rotation: joint_rotation.narrow(text_rows, grid.len()),
            joint_rotation,
            reference: reference.map(|reference| {
                let own_grid = self.inner_grid(reference.tokens.size());
                let canvas_keys = text_rows + grid.len();
                let (strength, keys) = (reference.strength, own_grid.len());
                ReferenceContext {
                    conditioning: activation::silu(conditioning.reference),
                    rotation: self.rotation(0, own_grid),
                    weights: self.key_weights(strength, [canvas_keys, keys]),
                }
            }),
        }
    }

    /// [`Rotation::new`], kept for the next step.
    fn rotation(&self, text_rows: usize, grid: GridSize) -> Rotation {
        let device = self.device();
        let compute = || Rotation::new(text_rows, grid, &self.frequencies, &device);
        // Devices are equal with and without autodiff, their tensors don't mix.
        if device.is_autodiff() {
            return compute();
        }
        self.rotations.get((text_rows, grid, device.clone()), compute)
    }

    /// [`KeyWeights::new`], kept for the next step.
    fn key_weights(&self, strength: f32, keys: [usize; 2]) -> Option<KeyWeights> {
        let device = self.device();
        let compute = || KeyWeights::new(strength, keys[0], keys[1], &device);
        if device.is_autodiff() {
            return compute();
        }
        self.weights.get((strength, keys, device.clone()), compute)
    }

    /// Checked ids `[B, H, W]` to features, `[B, H*W, D]`.
    pub(crate) fn embedded(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        self.embed.forward(ids)
    }

    pub(crate) fn mask_token(&self) -> u32 {
        self.spec.mask_token
    }

    pub(crate) fn device(&self) -> Device {
        self.context_embedder.weight.val().device()
    }

    pub(crate) fn blocks(&self) -> (&[DoubleBlock], &[SingleBlock]) {
        (&self.transformer_blocks, &self.single_transformer_blocks)
    }

    /// Text rows `[B, T, text_size]` to `[B, T, D]`.
    fn text_stream(&self, hidden: Tensor<3>) -> Tensor<3> {
        let hidden = hidden.cast(self.dtype());
        let hidden = match &self.connector {
            Some(connector) => connector.forward(hidden),
            None => hidden,
        };
        let hidden = linear_rows(&self.context_embedder, hidden, Stream::Canvas);
        rms_norm(&self.encoder_proj_layer_norm, hidden)
    }

    /// Embedded tokens `[B, H*W, D]` to the rows of the inner grid.
    fn image_stream(&self, embedded: Tensor<3>, grid: GridSize, stream: Stream) -> Tensor<3> {
        let merged = match &self.down_block {
            Some(down) => down.forward(embedded, grid),
            None => embedded,
        };
        let image = self.merged_stream(merged, stream);
        match &self.position_embed {
            Some(places) => {
                let places = places.forward(self.inner_grid(grid), image.dtype());
                image + places
            }
            None => image,
        }
    }

    fn merged_stream(&self, merged: Tensor<3>, stream: Stream) -> Tensor<3> {
        linear_rows(&self.project_to_hidden, rms_norm(&self.project_to_hidden_norm, merged), stream)
    }

    /// [`image_stream`](Self::image_stream) of some `cells`, `[B, R]`, of the inner grid of a
    /// canvas: their slots `[B, slots, D]`, `inside` as in [`PatchDown::forward_cells`], to `[B, R,
    /// D]`.
    pub(crate) fn cell_stream(
        &self,
        slots: Tensor<3>,
        inside: Option<Tensor<3>>,
        (inner, cells): (GridSize, Tensor<2, Int>),
    ) -> Tensor<3> {
        let merged = match &self.down_block {
            Some(down) => down.forward_cells(slots, inside),
            None => slots,
        };
        let image = self.merged_stream(merged, Stream::Canvas);
        match &self.position_embed {
            Some(places) => {
                let places = places.of_cells(inner, cells, image.dtype());
                image + places
            }
            None => image,
        }
    }

    /// Rows of the inner grid to the features of its tokens, `[B, H*W, D]`.
    fn features(&self, image: Tensor<3>, grid: GridSize) -> Tensor<3> {
        let image = self.output_rows(image);
        match &self.up_block {
            Some(up) => up.forward(image, grid),
            None => image,
        }
    }

    fn output_rows(&self, image: Tensor<3>) -> Tensor<3> {
        let image = rms_norm(&self.project_from_hidden_norm, image);
        linear_rows(&self.project_from_hidden, image, Stream::Canvas)
    }

    /// Some rows of the inner grid, `[B, R, D]`, to the logits of their slots, `[B, slots, V]`.
    pub(crate) fn cell_head(&self, cells: Tensor<3>) -> Tensor<3> {
        let cells = self.output_rows(cells);
        let slots = match &self.up_block {
            Some(up) => up.forward_cells(cells),
            None => cells,
        };
        self.mlm_layer.forward(slots)
    }

    /// Which streams go through each linear layer.
    pub(crate) fn linear_roles(&self) -> LinearRoles {
        let mut roles = LinearRoles::default();
        self.time_text_embed.declare_roles(&mut roles);
        roles.declare(LinearRole::Conditioning, self.cond_embed.layers());
        if let Some(connector) = &self.connector {
            connector.declare_roles(&mut roles);
        }
        roles.declare(LinearRole::Canvas, [&self.context_embedder, &self.project_from_hidden]);
        roles.declare(LinearRole::Shared, [&self.project_to_hidden]);
        self.transformer_blocks.iter().for_each(|block| block.declare_roles(&mut roles));
        self.single_transformer_blocks.iter().for_each(|block| block.declare_roles(&mut roles));
        roles
    }

    /// The dtype of activations.
    pub(crate) fn dtype(&self) -> DType {
        self.encoder_proj_layer_norm.gamma.val().dtype()
    }
}

impl WithOperands for MgtModel {
    fn with_operands(self, operands: Operands) -> Self {
        Self { operands, ..self }
    }
}

impl MgtTransformer for MgtModel {
    fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    fn forward(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput> {
        self.forward_traced(input, request, |_| ())
    }

    fn caches_steps(&self) -> bool {
        true
    }

    fn forward_cached(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        cache: &mut StepCache,
        active: Option<&ActiveRows>,
    ) -> Result<StepOutput> {
        match active {
            None => self.full_step(input, request, cache),
            Some(active) => self.partial_step(input, request, cache, active),
        }
    }
}
