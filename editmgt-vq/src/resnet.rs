use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use editmgt_kernels::{add, conv2d};

use crate::norm::GroupNormSilu;
use crate::tiles::Step;

/// `shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))`.
#[derive(Module, Debug)]
pub(crate) struct ResnetBlock {
    norm1: GroupNormSilu,
    conv1: Conv2d,
    norm2: GroupNormSilu,
    conv2: Conv2d,
    /// Present if the number of channels changes.
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub(crate) fn new([from, to]: [usize; 2], groups: usize, device: &Device) -> Self {
        Self {
            norm1: GroupNormSilu::new(groups, from, device),
            conv1: conv3x3([from, to]).init(device),
            norm2: GroupNormSilu::new(groups, to, device),
            conv2: conv3x3([to, to]).init(device),
            conv_shortcut: (from != to).then(|| conv1x1([from, to]).init(device)),
        }
    }

    /// A sequence of `layers` blocks, the first of which changes the number of channels.
    pub(crate) fn stack(
        layers: usize,
        [from, to]: [usize; 2],
        groups: usize,
        device: &Device,
    ) -> Vec<Self> {
        let block = |layer| Self::new([if layer == 0 { from } else { to }, to], groups, device);
        (0..layers).map(block).collect()
    }

    /// `[B, from, H, W]` to `[B, to, H, W]`.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = conv2d(&self.conv1, self.norm1.forward(x.clone()));
        let hidden = conv2d(&self.conv2, self.norm2.forward(hidden));
        let shortcut = match &self.conv_shortcut {
            Some(conv) => conv2d(conv, x),
            None => x,
        };
        add(shortcut, hidden)
    }

    /// The layers of [`forward`](Self::forward).
    pub(crate) fn steps(&self) -> [Step<'_>; 6] {
        [
            Step::Open,
            Step::Norm(&self.norm1),
            Step::Conv(&self.conv1),
            Step::Norm(&self.norm2),
            Step::Conv(&self.conv2),
            Step::Close(self.conv_shortcut.as_ref()),
        ]
    }
}

/// The middle of encoder and decoder, at the coarsest resolution.
#[derive(Module, Debug)]
pub(crate) struct MidBlock {
    resnets: Vec<ResnetBlock>,
}

impl MidBlock {
    pub(crate) fn new(channels: usize, groups: usize, device: &Device) -> Self {
        Self { resnets: ResnetBlock::stack(2, [channels, channels], groups, device) }
    }

    /// `[B, C, H, W]` to the same.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        run(&self.resnets, x)
    }

    /// The layers of [`forward`](Self::forward).
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.resnets.iter().flat_map(ResnetBlock::steps)
    }
}

/// Runs blocks in sequence.
pub(crate) fn run(resnets: &[ResnetBlock], x: Tensor<4>) -> Tensor<4> {
    resnets.iter().fold(x, |x, resnet| resnet.forward(x))
}

/// A 3x3 convolution that keeps the size; `channels` is `[in, out]`.
pub(crate) fn conv3x3(channels: [usize; 2]) -> Conv2dConfig {
    Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
}

/// A 1x1 convolution; `channels` is `[in, out]`.
pub(crate) fn conv1x1(channels: [usize; 2]) -> Conv2dConfig {
    Conv2dConfig::new(channels, [1, 1])
}
