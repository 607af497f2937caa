use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use editmgt_kernels::{add, conv2d};

use super::area::Area;
use crate::norm::GroupNormSilu;
use crate::resample::{Downsample, Upsample};

/// One layer of an encoder or decoder.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    /// A 3x3 convolution that keeps the size.
    Conv(&'a Conv2d),
    /// Group norm and SiLU.
    Norm(&'a GroupNormSilu),
    /// Keeps the input of a residual block.
    Open,
    /// Adds it, through a 1x1 convolution if the number of channels changes.
    Close(Option<&'a Conv2d>),
    /// Halves both sides.
    Down(&'a Downsample),
    /// Doubles both sides.
    Up(&'a Upsample),
}

impl Step<'_> {
    /// Channels of the result for this many of the input.
    pub(crate) fn channels(self, input: usize) -> usize {
        let of = |conv: &Conv2d| conv.weight.lazy_shape()[0];
        match self {
            Self::Conv(conv) => of(conv),
            Self::Down(down) => of(down.conv()),
            Self::Up(up) => of(up.conv()),
            Self::Norm(_) | Self::Open | Self::Close(_) => input,
        }
    }

    /// Size of the result for an input of this size.
    pub(super) fn size(self, [height, width]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Down(_) => [height / 2, width / 2],
            Self::Up(_) => [height.saturating_mul(2), width.saturating_mul(2)],
            Self::Conv(_) | Self::Norm(_) | Self::Open | Self::Close(_) => [height, width],
        }
    }

    /// The part of the input, of this size, that a part of the result depends on. In front of a
    /// [`Down`](Self::Down) it begins and ends on even pixels.
    pub(super) fn needs(self, result: &Area, size: [usize; 2]) -> Area {
        let input = match self {
            Self::Conv(_) => return result.with_margin(1, size),
            Self::Down(_) => result.map(|r| 2 * r.start..2 * r.end + 2),
            Self::Up(_) => result.map(|r| r.start.saturating_sub(1) / 2..r.end / 2 + 1),
            Self::Norm(_) | Self::Open | Self::Close(_) => result.clone(),
        };
        input.within(size)
    }

    /// The part of the result that an input which covers `input` gives.
    pub(super) fn gives(self, input: &Area) -> Area {
        match self {
            Self::Down(_) => input.map(|r| r.start / 2..r.end / 2),
            Self::Up(_) => input.finer(2),
            Self::Conv(_) | Self::Norm(_) | Self::Open | Self::Close(_) => input.clone(),
        }
    }

    /// Computes the step. `shortcut` is the input of the residual block that is open.
    ///
    /// # Shapes
    /// `[B, C, H, W]` to the step's channels and size.
    pub(super) fn apply(
        self,
        x: Tensor<4>,
        shortcut: &mut Option<Tensor<4>>,
        statistics: Option<&[(f32, f32)]>,
    ) -> Tensor<4> {
        match self {
            Self::Conv(conv) => conv2d(conv, x),
            Self::Norm(norm) => match statistics {
                Some(statistics) => norm.forward_given(x, statistics),
                None => norm.forward(x),
            },
            Self::Open => {
                *shortcut = Some(x.clone());
                x
            }
            Self::Close(conv) => {
                let input =
                    shortcut.take().expect("a residual block is opened before it is closed");
                let input = match conv {
                    Some(conv) => conv2d(conv, input),
                    None => input,
                };
                add(input, x)
            }
            Self::Down(down) => down.forward(x),
            Self::Up(up) => up.forward(x),
        }
    }
}

/// Divides steps into units, after each of which nothing but the activation has to be stored: a
/// residual block with the layers before it, a resampling, the last norm and convolution.
pub(crate) fn units(steps: Vec<Step<'_>>) -> Vec<Vec<Step<'_>>> {
    let mut units = Vec::new();
    let mut unit = Vec::new();
    for step in steps {
        let ends = matches!(step, Step::Close(_) | Step::Down(_) | Step::Up(_));
        unit.push(step);
        if ends {
            units.push(std::mem::take(&mut unit));
        }
    }
    if !unit.is_empty() {
        units.push(unit);
    }
    units
}

/// Values of the largest activation for an input of this size and channels.
pub(crate) fn largest_activation(
    steps: &[Step<'_>],
    mut channels: usize,
    mut size: [usize; 2],
) -> usize {
    let mut largest = 0;
    for step in steps {
        size = step.size(size);
        // The upsampled input has the channels of the input.
        let widest = channels.max(step.channels(channels));
        largest = largest.max(widest.saturating_mul(size[0].saturating_mul(size[1])));
        channels = step.channels(channels);
    }
    largest
}
