use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm};
use burn::tensor::{DType, Device, Tensor, activation};
use editmgt_core::{
    AttentionRequest, Error, MgtTransformer, Result, StepInput, StepOutput, TransformerSpec, Upload,
};
use editmgt_kernels::{BufferPool, Operands, WithOperands, linear_layer};

use crate::amused::capture::Capture;
use crate::amused::config::UVit2DConfig;
use crate::amused::layer::TransformerLayer;
use crate::amused::stack::{DownBlock, StackContext, TraceFn, UpBlock};
use crate::amused::trace::UVit2DPoint;
use crate::conditioning::{Mlp, micro_sinusoids};
use crate::embedding::TokenEmbedding;
use crate::head::MlmHead;
use crate::norm::{rms_norm, rms_norm_config};
use crate::requested::RequestedRows;

/// aMUSEd's transformer.
///
/// Built by [`UVit2DConfig::init`]; a forward pass is [`MgtTransformer::forward`]. It reads no
/// timestep and takes no reference. Activations have the dtype of the norms' weights; weights of
/// linear layers and the embedding table may be in half precision and are widened where they are
/// used. Norms, softmax and embedded numbers are computed in f32. The model has no state besides
/// its parameters.
///
/// Attention between image and text is offered for maps. The first `2 * num_res_blocks` blocks are
/// the convolutional ones, those of the way in and then those of the way out, with the mean of
/// their two attentions; the others are the layers. The text never attends to the image here, so
/// the map of a text row is the share of the attention it receives that comes from each cell. Self
/// attention of the image is not offered.
///
/// Source: aMUSEd (arXiv 2401.01808), from diffusers.
#[derive(Module, Debug)]
pub struct UVit2DModel {
    encoder_proj: Linear,
    encoder_proj_layer_norm: RmsNorm,
    embed: TokenEmbedding,
    cond_embed: Mlp,
    down_block: DownBlock,
    project_to_hidden_norm: RmsNorm,
    project_to_hidden: Linear,
    transformer_layers: Vec<TransformerLayer>,
    project_from_hidden_norm: RmsNorm,
    project_from_hidden: Linear,
    up_block: UpBlock,
    mlm_layer: MlmHead,
    #[module(skip)]
    spec: TransformerSpec,
    /// Channels of each embedded micro-condition.
    #[module(skip)]
    micro_channels: usize,
    /// Of the products of a pass.
    #[module(skip)]
    operands: Operands,
}

impl WithOperands for UVit2DModel {
    fn with_operands(self, operands: Operands) -> Self {
        Self { operands, ..self }
    }
}

impl UVit2DModel {
    /// The config must be valid.
    pub(super) fn new(config: &UVit2DConfig, device: &Device) -> Self {
        let (width, channels) = (config.hidden_size, config.block_out_channels);
        let (inner, epsilon) = (config.in_channels, config.layer_norm_eps);
        let linear =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_bias(false).init(device);
        let norm = |channels| rms_norm_config(channels, epsilon).init(device);
        let conditions = config.cond_embed_dim + config.micro_cond_embed_dim;
        Self {
            encoder_proj: linear(config.encoder_hidden_size, width),
            encoder_proj_layer_norm: norm(width),
            embed: TokenEmbedding::new(config.vocab_size, [inner, channels], epsilon, device),
            cond_embed: Mlp::new(conditions, width, false, device),
            down_block: DownBlock::new(config, device),
            project_to_hidden_norm: norm(channels),
            project_to_hidden: linear(channels, width),
            transformer_layers: (0..config.num_hidden_layers)
                .map(|_| TransformerLayer::new(config, device))
                .collect(),
            project_from_hidden_norm: norm(width),
            project_from_hidden: linear(width, channels),
            up_block: UpBlock::new(config, device),
            mlm_layer: MlmHead::new([channels, inner], config.codebook_size, epsilon, device),
            spec: config.spec(),
            micro_channels: config.micro_cond_encode_dim,
            operands: Operands::default(),
        }
    }

    /// [`MgtTransformer::forward`] that calls `trace` with every intermediate result.
    ///
    /// # Shapes
    /// Those of [`MgtTransformer::forward`]; for intermediate results see [`UVit2DPoint`].
    ///
    /// # Errors
    /// Those of [`MgtTransformer::forward`].
    pub fn forward_traced(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        mut trace: impl FnMut(UVit2DPoint, &Tensor<3>),
    ) -> Result<StepOutput> {
        self.check(input, request)?;
        let pass = || self.run(input, request, &mut trace);
        self.operands.install(|| BufferPool::current().install(pass))
    }

    fn check(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<()> {
        input.check(&self.spec)?;
        if input.reference.is_some() {
            return Err(Error::value(
                "reference",
                "none: this transformer (UVit2DModel) generates and inpaints, and has no stream for the \
                 tokens of a photo",
                "condition tokens",
            ));
        }
        let text_rows = input.text.rows();
        if text_rows == 0 {
            return Err(Error::shape("text rows", "at least one", 0));
        }
        request.check(self.spec.blocks(), input.tokens.batch(), text_rows)
    }

    fn run(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        trace: &mut TraceFn<'_>,
    ) -> Result<StepOutput> {
        let (device, dtype) = (self.encoder_proj.weight.val().device(), self.dtype());
        let grid = input.tokens.size();
        let inner = self.inner_grid(grid);

        let mut upload = Upload::default();
        let micro = upload.floats(micro_sinusoids(input.micro, self.micro_channels));
        let ids = upload.indices(input.tokens.ids().iter().map(|&id| id as usize))?;
        let rows = RequestedRows::new(request, &mut upload)?;
        let sent = upload.send(&device);

        let text = linear_layer(&self.encoder_proj, input.text.hidden.clone().cast(dtype));
        let text = rms_norm(&self.encoder_proj_layer_norm, text);
        trace(UVit2DPoint::Context, &text);
        let batch = input.tokens.batch();
        let micro = sent.floats(micro, [batch, 5 * self.micro_channels]).cast(dtype);
        trace(UVit2DPoint::MicroConditions, &micro.clone().unsqueeze_dim(1));
        let pooled = input.text.pooled.clone().cast(dtype);
        let conditioning = self.cond_embed.forward(Tensor::cat(vec![pooled, micro], 1));
        trace(UVit2DPoint::Conditioning, &conditioning.clone().unsqueeze_dim(1));
        let conditioning = activation::silu(conditioning);
        let context = StackContext { text: &text, conditioning: &conditioning, grid: inner };
        let mut capture = Capture::new(request, inner, rows.on_device(&sent));

        let x = self.embed.forward(sent.indices(ids, [batch, grid.height, grid.width]));
        trace(UVit2DPoint::Embedding, &x);
        let x = self.down_block.forward(x, grid, &context, &mut capture, trace);
        let x = linear_layer(&self.project_to_hidden, rms_norm(&self.project_to_hidden_norm, x));
        trace(UVit2DPoint::ToHidden, &x);
        let mut x = x;
        for (index, layer) in self.transformer_layers.iter().enumerate() {
            let block = self.spec.double_blocks + index;
            let probe = capture.as_mut().and_then(|capture| capture.probe(block));
            x = layer.forward(x, &text, &conditioning, probe, |part, x| {
                trace(UVit2DPoint::LayerPart(index, part), x);
            });
            trace(UVit2DPoint::Layer(index), &x);
        }
        let x = rms_norm(&self.project_from_hidden_norm, x);
        let x = linear_layer(&self.project_from_hidden, x);
        trace(UVit2DPoint::FromHidden, &x);
        let x = self.up_block.forward(x, grid, &context, &mut capture, trace);
        trace(UVit2DPoint::Output, &x);
        let logits = self.mlm_layer.forward(x);
        Ok(StepOutput { logits, maps: capture.map(Capture::finish).transpose()? })
    }

    /// The dtype of activations.
    fn dtype(&self) -> DType {
        self.encoder_proj_layer_norm.gamma.val().dtype()
    }
}

impl MgtTransformer for UVit2DModel {
    fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    /// A pass without a reference, which this model has no stream for.
    ///
    /// # Errors
    /// Those of the trait; [`Error::Value`] for an input with a reference.
    fn forward(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput> {
        self.forward_traced(input, request, |_, _| ())
    }

    fn takes_reference(&self) -> bool {
        false
    }
}
