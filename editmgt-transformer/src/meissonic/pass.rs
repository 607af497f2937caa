//! The data that passes through the blocks during one forward pass.

use burn::tensor::{DType, Tensor};

use crate::meissonic::attention::KeyWeights;
use crate::meissonic::rope::Rotation;

/// The streams as attention strengths, linear layers and adapters distinguish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Text and image.
    Canvas,
    /// The reference.
    Reference,
}

/// The three token streams, `[B, N, D]` each.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) text: Tensor<3>,
    pub(crate) image: Tensor<3>,
    pub(crate) reference: Option<Tensor<3>>,
}

/// Inputs that are the same for all blocks of a pass.
#[derive(Debug)]
pub(crate) struct BlockContext {
    /// SiLU of the conditioning of text and image, `[B, D]`.
    pub(crate) conditioning: Tensor<2>,
    /// Rotations of text, image, and both joined.
    pub(crate) text_rotation: Rotation,
    pub(crate) image_rotation: Rotation,
    pub(crate) joint_rotation: Rotation,
    /// `None` in a pass without reference.
    pub(crate) reference: Option<ReferenceContext>,
}

/// The reference's part of [`BlockContext`].
#[derive(Debug)]
pub(crate) struct ReferenceContext {
    /// SiLU of the conditioning at timestep 0, `[B, D]`.
    pub(crate) conditioning: Tensor<2>,
    /// Rotation on the reference's own grid.
    pub(crate) rotation: Rotation,
    /// Absent for a strength of 1.
    pub(crate) weights: Option<KeyWeights>,
}

impl BlockContext {
    pub(crate) fn weights(&self) -> Option<&KeyWeights> {
        self.reference.as_ref()?.weights.as_ref()
    }
}

/// The official clip of the residual stream in f16: no infinity survives a block.
pub(crate) fn clip_f16(x: Tensor<3>) -> Tensor<3> {
    const LARGEST: f32 = 65504.0;
    if x.dtype() == DType::F16 { x.clamp(-LARGEST, LARGEST) } else { x }
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::Device;
    use editmgt_core::GridSize;

    use super::*;
    use crate::meissonic::double_block::DoubleBlock;
    use crate::meissonic::rope::Frequencies;
    use crate::meissonic::single_block::SingleBlock;

    const LARGEST: f32 = 65504.0;
    const WIDTH: usize = 8;
    const TEXT: usize = 3;
    const GRID: GridSize = GridSize::new(2, 2);

    /// Weights of 0 and a constant bias: every layer returns its bias.
    struct Biases(f32, DType);

    impl ModuleMapper for Biases {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = if D == 1 { self.0 } else { 0.0 };
            param.map(|old| Tensor::full(old.shape(), value, (&old.device(), self.1)))
        }
    }

    fn context(dtype: DType) -> BlockContext {
        let device = Device::flex();
        let frequencies = Frequencies { axes_dims: [2, 2, 4], theta: 100.0 };
        let joint = Rotation::new(TEXT, GRID, &frequencies, &device);
        let conditioning = || Tensor::zeros([1, WIDTH], (&device, dtype));
        BlockContext {
            conditioning: conditioning(),
            text_rotation: joint.narrow(0, TEXT),
            image_rotation: joint.narrow(TEXT, GRID.len()),
            reference: Some(ReferenceContext {
                conditioning: conditioning(),
                rotation: Rotation::new(0, GRID, &frequencies, &device),
                weights: None,
            }),
            joint_rotation: joint,
        }
    }

    fn stream(tokens: usize, dtype: DType) -> Tensor<3> {
        Tensor::ones([1, tokens, WIDTH], (&Device::flex(), dtype))
    }

    fn largest(x: Tensor<3>) -> f32 {
        x.cast(DType::F32).max().into_scalar::<f32>()
    }

    /// Only in f16.
    #[test]
    fn blocks_clip_the_streams_that_the_official_code_clips() {
        let device = Device::flex();
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let (context, clipped) = (context(dtype), dtype == DType::F16);
            // 1 + 200 * 200 from attention and as much from the feed-forward layers.
            let double = DoubleBlock::new(WIDTH, WIDTH, &device).map(&mut Biases(200.0, dtype));
            let streams = Streams {
                text: stream(TEXT, dtype),
                image: stream(GRID.len(), dtype),
                reference: Some(stream(GRID.len(), dtype)),
            };
            let (Streams { text, image, reference }, _) = double.forward(streams, &context, None);
            let reference = reference.unwrap();
            let [text, image, reference] = [text, image, reference].map(largest);
            let expected = if clipped { LARGEST } else { 80_001.0 };
            // bf16 has 8 bits.
            assert!((text - expected).abs() <= expected / 256.0, "text in {dtype:?}: {text}");
            assert_eq!(image.is_infinite(), clipped, "image in {dtype:?}: {image}");
            assert_eq!(reference, image, "reference in {dtype:?}");

            // 1 + 300 * 300.
            let single = SingleBlock::new(WIDTH, WIDTH, &device).map(&mut Biases(300.0, dtype));
            let (joint, reference) = (stream(TEXT + GRID.len(), dtype), stream(GRID.len(), dtype));
            let rows = TEXT..TEXT + GRID.len();
            let inputs = (joint.clone(), Some(reference.clone()));
            let (last, _) = single.forward_rows(inputs.0, inputs.1, &context, None, rows);
            let (joint, reference, _) = single.forward(joint, Some(reference), &context, None);
            let [last, joint, reference] = [last, joint, reference.unwrap()].map(largest);
            let expected = if clipped { LARGEST } else { 90_001.0 };
            assert!((joint - expected).abs() <= expected / 256.0, "joint in {dtype:?}: {joint}");
            assert_eq!(last, joint, "the last block in {dtype:?}");
            assert_eq!(reference.is_infinite(), clipped, "reference in {dtype:?}: {reference}");
        }
    }
}
