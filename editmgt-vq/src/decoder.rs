use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use editmgt_kernels::conv2d;

use crate::VqConfig;
use crate::norm::GroupNormSilu;
use crate::resample::Upsample;
use crate::resnet::{MidBlock, ResnetBlock, conv3x3, run};
use crate::tiles::Step;

/// Decodes latents into an image, coarsest resolution first.
#[derive(Module, Debug)]
pub(crate) struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNormSilu,
    conv_out: Conv2d,
}

/// The residual blocks of one resolution.
#[derive(Module, Debug)]
struct UpBlock {
    resnets: Vec<ResnetBlock>,
    /// One, or none at the finest resolution; a list in the checkpoint.
    upsamplers: Vec<Upsample>,
}

impl Decoder {
    /// A valid config has at least one resolution.
    pub(crate) fn new(config: &VqConfig, device: &Device) -> Self {
        let groups = config.norm_num_groups;
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let up_blocks = channels
            .iter()
            .enumerate()
            .rev()
            .map(|(level, &to)| {
                let from = channels.get(level + 1).copied().unwrap_or(last);
                let doubles = level > 0;
                UpBlock {
                    // One more than the encoder has, as in the official code.
                    resnets: ResnetBlock::stack(
                        config.layers_per_block + 1,
                        [from, to],
                        groups,
                        device,
                    ),
                    upsamplers: doubles.then(|| Upsample::new(to, device)).into_iter().collect(),
                }
            })
            .collect();
        Self {
            conv_in: conv3x3([config.latent_channels, last]).init(device),
            mid_block: MidBlock::new(last, groups, device),
            up_blocks,
            conv_norm_out: GroupNormSilu::new(groups, first, device),
            conv_out: conv3x3([first, config.out_channels]).init(device),
        }
    }

    /// `[B, latent channels, h, w]` to `[B, 3, h*f, w*f]`, not clipped.
    pub(crate) fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let mut x = self.mid_block.forward(conv2d(&self.conv_in, latents));
        for block in &self.up_blocks {
            x = run(&block.resnets, x);
            x = block.upsamplers.iter().fold(x, |x, upsampler| upsampler.forward(x));
        }
        conv2d(&self.conv_out, self.conv_norm_out.forward(x))
    }

    /// The layers of [`forward`](Self::forward).
    pub(crate) fn steps(&self) -> Vec<Step<'_>> {
        let mut steps = vec![Step::Conv(&self.conv_in)];
        steps.extend(self.mid_block.steps());
        for block in &self.up_blocks {
            steps.extend(block.resnets.iter().flat_map(ResnetBlock::steps));
            steps.extend(block.upsamplers.iter().map(Step::Up));
        }
        steps.extend([Step::Norm(&self.conv_norm_out), Step::Conv(&self.conv_out)]);
        steps
    }
}
