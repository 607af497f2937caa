//! The convolutional blocks around the layers, with attention to the text.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm};
use burn::tensor::{Device, Tensor, activation};
use editmgt_core::GridSize;
use editmgt_kernels::{add, linear_layer};

use crate::amused::attention::Attention;
use crate::amused::capture::{Capture, Probe};
use crate::amused::config::UVit2DConfig;
use crate::amused::conv_block::{ConvBlock, ConvPart};
use crate::amused::trace::{Stack, UVit2DPoint};
use crate::norm::{EPSILON, rms_norm, rms_norm_config};
use crate::resample::{PatchDown, PatchUp};

/// Two attentions to the text. (The name of the first says self attention in the original code,
/// which passes it the text all the same.)
#[derive(Module, Debug)]
struct TextAttention {
    /// From the layers' width to the blocks'; absent where they are equal.
    kv_mapper: Option<Linear>,
    norm1: RmsNorm,
    attn1: Attention,
    norm2: RmsNorm,
    attn2: Attention,
}

/// The inputs that all blocks share.
pub(super) struct StackContext<'a> {
    /// `[B, T, D]`.
    pub(super) text: &'a Tensor<3>,
    /// SiLU of the conditioning, `[B, D]`.
    pub(super) conditioning: &'a Tensor<2>,
    /// The grid of the layers.
    pub(super) grid: GridSize,
}

/// A function that sees intermediate results.
pub(super) type TraceFn<'t> = dyn FnMut(UVit2DPoint, &Tensor<3>) + 't;

impl TextAttention {
    fn new(config: &UVit2DConfig, device: &Device) -> Self {
        let (channels, width) = (config.block_out_channels, config.hidden_size);
        let mapper = LinearConfig::new(width, channels).with_bias(false);
        // The official code has this epsilon here whatever the config says.
        let norm = || rms_norm_config(channels, EPSILON).init(device);
        let attention = || Attention::new(channels, config.block_num_heads, device);
        Self {
            kv_mapper: (channels != width).then(|| mapper.init(device)),
            norm1: norm(),
            attn1: attention(),
            norm2: norm(),
            attn2: attention(),
        }
    }

    /// `[B, N, C]` with the text `[B, T, D]`, to `[B, N, C]`.
    fn forward(
        &self,
        x: Tensor<3>,
        text: &Tensor<3>,
        mut probe: Option<Probe<'_, '_>>,
        at: (Stack, usize),
        trace: &mut TraceFn<'_>,
    ) -> Tensor<3> {
        let text = match &self.kv_mapper {
            // As in the official code, SiLU is part of the mapping.
            Some(mapper) => linear_layer(mapper, activation::silu(text.clone())),
            None => text.clone(),
        };
        let (stack, block) = at;
        trace(UVit2DPoint::BlockText(stack, block), &text);
        let normed = rms_norm(&self.norm1, x.clone());
        let attended = self.attn1.forward(normed, text.clone(), probe.as_mut());
        trace(UVit2DPoint::BlockAttention(stack, block), &attended);
        let x = add(x, attended);
        let attended = self.attn2.forward(rms_norm(&self.norm2, x.clone()), text, probe.as_mut());
        add(x, attended)
    }
}

fn conv_blocks(config: &UVit2DConfig, device: &Device) -> Vec<ConvBlock> {
    let (channels, width) = (config.block_out_channels, config.hidden_size);
    (0..config.num_res_blocks)
        .map(|_| ConvBlock::new(channels, width, config.layer_norm_eps, device))
        .collect()
}

fn attention_blocks(config: &UVit2DConfig, device: &Device) -> Vec<TextAttention> {
    (0..config.num_res_blocks).map(|_| TextAttention::new(config, device)).collect()
}

/// Runs the blocks of a stack, the first of which is `first_block` in requests for attention.
fn run(
    (conv_blocks, attention_blocks): (&[ConvBlock], &[TextAttention]),
    x: Tensor<3>,
    context: &StackContext<'_>,
    (stack, first_block): (Stack, usize),
    capture: &mut Option<Capture<'_>>,
    trace: &mut TraceFn<'_>,
) -> Tensor<3> {
    let blocks = conv_blocks.iter().zip(attention_blocks).enumerate();
    blocks.fold(x, |x, (block, (convolutions, attention))| {
        let x = convolutions.forward(x, context.grid, context.conditioning, |part, x| {
            let point = match part {
                ConvPart::Depthwise => UVit2DPoint::Depthwise(stack, block),
                ConvPart::ResponseNorm => UVit2DPoint::ResponseNorm(stack, block),
            };
            trace(point, x);
        });
        trace(UVit2DPoint::Convolutions(stack, block), &x);
        let probe = capture.as_mut().and_then(|capture| capture.probe(first_block + block));
        let x = attention.forward(x, context.text, probe, (stack, block), trace);
        trace(UVit2DPoint::Block(stack, block), &x);
        x
    })
}

/// The way in: 2x2 tokens are merged first, where they are.
#[derive(Module, Debug)]
pub(super) struct DownBlock {
    downsample: Option<PatchDown>,
    res_blocks: Vec<ConvBlock>,
    attention_blocks: Vec<TextAttention>,
}

impl DownBlock {
    pub(super) fn new(config: &UVit2DConfig, device: &Device) -> Self {
        let (channels, epsilon) = (config.block_out_channels, config.layer_norm_eps);
        Self {
            downsample: config.downsample.then(|| PatchDown::new(channels, epsilon, device)),
            res_blocks: conv_blocks(config, device),
            attention_blocks: attention_blocks(config, device),
        }
    }

    /// `[B, H*W, C]` to `[B, cells, C]`, for a canvas of `grid`.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        grid: GridSize,
        context: &StackContext<'_>,
        capture: &mut Option<Capture<'_>>,
        trace: &mut TraceFn<'_>,
    ) -> Tensor<3> {
        let x = match &self.downsample {
            Some(down) => down.forward(x, grid),
            None => x,
        };
        trace(UVit2DPoint::Merged, &x);
        let blocks = (&*self.res_blocks, &*self.attention_blocks);
        run(blocks, x, context, (Stack::Down, 0), capture, trace)
    }
}

/// The way out: tokens are split again last.
#[derive(Module, Debug)]
pub(super) struct UpBlock {
    res_blocks: Vec<ConvBlock>,
    attention_blocks: Vec<TextAttention>,
    upsample: Option<PatchUp>,
}

impl UpBlock {
    pub(super) fn new(config: &UVit2DConfig, device: &Device) -> Self {
        let (channels, epsilon) = (config.block_out_channels, config.layer_norm_eps);
        Self {
            res_blocks: conv_blocks(config, device),
            attention_blocks: attention_blocks(config, device),
            upsample: config.upsample.then(|| PatchUp::new(channels, epsilon, device)),
        }
    }

    /// `[B, cells, C]` to `[B, H*W, C]`, for a canvas of `grid`.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        grid: GridSize,
        context: &StackContext<'_>,
        capture: &mut Option<Capture<'_>>,
        trace: &mut TraceFn<'_>,
    ) -> Tensor<3> {
        let blocks = (&*self.res_blocks, &*self.attention_blocks);
        let first_block = self.res_blocks.len();
        let x = run(blocks, x, context, (Stack::Up, first_block), capture, trace);
        match &self.upsample {
            Some(up) => up.forward(x, grid),
            None => x,
        }
    }
}
