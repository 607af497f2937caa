use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use editmgt_kernels::conv2d;

use crate::VqConfig;
use crate::norm::GroupNormSilu;
use crate::resample::Downsample;
use crate::resnet::{MidBlock, ResnetBlock, conv3x3, run};
use crate::tiles::Step;

/// Encodes an image into latents, finest resolution first.
#[derive(Module, Debug)]
pub(crate) struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNormSilu,
    conv_out: Conv2d,
}

/// The residual blocks of one resolution.
#[derive(Module, Debug)]
struct DownBlock {
    resnets: Vec<ResnetBlock>,
    /// One, or none at the coarsest resolution; a list in the checkpoint.
    downsamplers: Vec<Downsample>,
}

impl Encoder {
    /// A valid config has at least one resolution.
    pub(crate) fn new(config: &VqConfig, device: &Device) -> Self {
        let groups = config.norm_num_groups;
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let down_blocks = channels
            .iter()
            .enumerate()
            .map(|(level, &to)| {
                let from = channels[level.saturating_sub(1)];
                let downsamples = level + 1 < channels.len();
                DownBlock {
                    resnets: ResnetBlock::stack(
                        config.layers_per_block,
                        [from, to],
                        groups,
                        device,
                    ),
                    downsamplers: downsamples
                        .then(|| Downsample::new(to, device))
                        .into_iter()
                        .collect(),
                }
            })
            .collect();
        Self {
            conv_in: conv3x3([config.in_channels, first]).init(device),
            down_blocks,
            mid_block: MidBlock::new(last, groups, device),
            conv_norm_out: GroupNormSilu::new(groups, last, device),
            conv_out: conv3x3([last, config.latent_channels]).init(device),
        }
    }

    /// `[B, 3, H, W]` to `[B, latent channels, H/f, W/f]`.
    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let mut x = conv2d(&self.conv_in, images);
        for block in &self.down_blocks {
            x = run(&block.resnets, x);
            x = block.downsamplers.iter().fold(x, |x, downsampler| downsampler.forward(x));
        }
        let x = self.mid_block.forward(x);
        conv2d(&self.conv_out, self.conv_norm_out.forward(x))
    }

    /// The layers of [`forward`](Self::forward).
    pub(crate) fn steps(&self) -> Vec<Step<'_>> {
        let mut steps = vec![Step::Conv(&self.conv_in)];
        for block in &self.down_blocks {
            steps.extend(block.resnets.iter().flat_map(ResnetBlock::steps));
            steps.extend(block.downsamplers.iter().map(Step::Down));
        }
        steps.extend(self.mid_block.steps());
        steps.extend([Step::Norm(&self.conv_norm_out), Step::Conv(&self.conv_out)]);
        steps
    }
}
