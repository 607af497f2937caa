use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{PixelShuffle, PixelShuffleConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use editmgt_kernels::conv2d;

use super::PatchVqConfig;
use crate::images::IMAGE_CHANNELS;
use crate::resnet::conv3x3;

/// Decodes codes into an image, coarsest level first. Without norms, so that distant parts of the
/// image don't influence each other.
#[derive(Module, Debug)]
pub(crate) struct PatchDecoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
}

/// The blocks of one resolution, and the upsampling to the next.
#[derive(Module, Debug)]
struct Level {
    blocks: Vec<ResidualBlock>,
    /// To four times the channels of the next level, for the pixel shuffle.
    upsample: Conv2d,
    shuffle: PixelShuffle,
}

/// `x + conv2(relu(conv1(relu(x))))`.
#[derive(Module, Debug)]
struct ResidualBlock {
    conv1: Conv2d,
    conv2: Conv2d,
}

impl PatchDecoder {
    /// A valid config has at least one level.
    pub(crate) fn new(config: &PatchVqConfig, device: &Device) -> Self {
        let channels = &config.decoder_channels;
        let conv = |channels| conv3x3(channels).init(device);
        let levels = channels.iter().enumerate().map(|(level, &here)| {
            let next = channels.get(level + 1).copied().unwrap_or(IMAGE_CHANNELS);
            let block = || ResidualBlock { conv1: conv([here, here]), conv2: conv([here, here]) };
            Level {
                blocks: (0..config.blocks_per_level).map(|_| block()).collect(),
                upsample: conv([here, 4 * next]),
                shuffle: PixelShuffleConfig::new(2).init(),
            }
        });
        Self { conv_in: conv([config.code_channels, channels[0]]), levels: levels.collect() }
    }

    /// `[B, C, h, w]` to `[B, 3, h*f, w*f]`, not clipped.
    pub(crate) fn forward(&self, codes: Tensor<4>) -> Tensor<4> {
        let x = self.levels.iter().fold(conv2d(&self.conv_in, codes), |x, level| {
            let x = level.blocks.iter().fold(x, |x, block| block.forward(x));
            level.shuffle.forward(conv2d(&level.upsample, relu(x)))
        });
        // Initial outputs are around 0; the offset centres them in the image's range.
        x + 0.5
    }

    /// Tokens around a tile on which its pixels depend: each convolution reaches one pixel of its
    /// level.
    pub(crate) fn margin(&self) -> usize {
        let of_level = |level: &Level| 2 * level.blocks.len() + 1;
        1 + self
            .levels
            .iter()
            .rev()
            .fold(0, |finer: usize, level| finer.div_ceil(2) + of_level(level))
    }

    /// Estimated bytes of the activations, computed whole, of a token grid with this many tokens.
    pub(crate) fn whole_bytes(&self, tokens: usize) -> usize {
        // The input of a residual block and its hidden activation, or what a convolution reads and
        // gives.
        const ACTIVATIONS: usize = 3;
        let of_levels = self.levels.iter().scan(tokens, |pixels, level| {
            let channels = level.upsample.weight.lazy_shape()[0];
            let values = channels.saturating_mul(*pixels);
            *pixels = pixels.saturating_mul(4);
            Some(values)
        });
        of_levels.max().unwrap_or(0).saturating_mul(ACTIVATIONS * size_of::<f32>())
    }

    /// The decoder's dtype.
    pub(crate) fn dtype(&self) -> burn::tensor::DType {
        self.conv_in.weight.val().dtype()
    }
}

impl ResidualBlock {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = conv2d(&self.conv1, relu(x.clone()));
        x + conv2d(&self.conv2, relu(hidden))
    }
}
