//! Convolution as matrix products.

mod narrow;
mod patches;
mod winograd;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use crate::buffers;
use crate::gradient;
use crate::host::{HostTensor, on_host};
use crate::narrow::Kernel;
use crate::operands::Operands;
use crate::work::{RowChange, for_rows};

/// The layer's convolution.
///
/// Large 3x3 convolutions with stride 1 use Winograd's algorithm, with 4 products in place of 9;
/// others use im2col a few rows at a time (burn-flex 0.22.1 copies the whole image, on one thread).
/// Within [`Operands`](crate::Operands) that aren't exact, those of convolutions with stride 1 and
/// 16 channels or more are rounded to bf16, where the processor has instructions for it. Kernels
/// support any stride and explicit padding; convolutions with groups, dilation or a 1x1 kernel run
/// burn's implementation.
///
/// # Shapes
/// `[B, C, H, W]` to `[B, C', H', W']`.
///
/// # Panics
/// If `C` isn't the layer's number of input channels.
pub fn conv2d(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let weight = layer.weight.val();
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    let padding = match layer.padding {
        PaddingConfig2d::Explicit(top, left, bottom, right) => Some([top, left, bottom, right]),
        PaddingConfig2d::Valid => Some([0; 4]),
        PaddingConfig2d::Same => None,
    };
    let plain = layer.groups == 1 && layer.dilation == [1, 1] && layer.kernel_size != [1, 1];
    if let Some(padding) = padding.filter(|_| plain)
        && let Some(out) = gradient::conv2d(&x, &weight, bias.as_ref(), layer.stride, padding)
    {
        return out;
    }
    let hosts = on_host(&x) && on_host(&weight) && bias.as_ref().is_none_or(on_host);
    match padding {
        Some(padding) if plain && hosts => kernel(x, weight, bias, layer.stride, padding),
        _ => layer.forward(x),
    }
}

/// The convolution of flex tensors with these weights; padding is that at the top, left, bottom and
/// right.
pub(crate) fn kernel(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 4],
) -> Tensor<4> {
    let (geometry, [batch, ..]) = (Geometry::new(&x, &weight, stride, padding), x.dims());
    let out_channels = geometry.out_channels;
    let (x, weight) = (HostTensor::take(x), HostTensor::take(weight));
    let bias = bias.map(HostTensor::take);
    let [out_height, out_width] = geometry.out_size;
    let mut out = buffers::take(batch * out_channels * out_height * out_width);
    let bias = bias.as_ref().map(HostTensor::values);
    for_rows(&mut out, out_height * out_width, FillBias { bias, out_channels });
    let (x, weight) = (x.values(), weight.values());
    match Operands::current() {
        Operands::Bf16 | Operands::Int8
            if narrow::is_profitable(&geometry)
                && let Some(kernel) = Kernel::detect() =>
        {
            narrow::run(kernel, &geometry, x, weight, &mut out);
        }
        _ if winograd::is_profitable(&geometry) => winograd::run(&geometry, x, weight, &mut out),
        _ => patches::run(&geometry, x, weight, &mut out),
    }
    HostTensor::new(out).into_tensor([batch, out_channels, out_height, out_width])
}

/// Fills planes `[B * C']` with the bias of their channel.
struct FillBias<'a> {
    bias: Option<&'a [f32]>,
    out_channels: usize,
}

impl RowChange for FillBias<'_> {
    #[inline(always)]
    fn change(&self, plane: usize, to: &mut [f32]) {
        to.fill(self.bias.map_or(0.0, |bias| bias[plane % self.out_channels]));
    }
}

/// Sizes of a convolution, `[height, width]` each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) channels: usize,
    pub(crate) size: [usize; 2],
    pub(crate) kernel: [usize; 2],
    stride: [usize; 2],
    /// Padding at the top and at the left.
    before: [usize; 2],
    pub(crate) out_channels: usize,
    pub(crate) out_size: [usize; 2],
}

/// Consecutive output rows of one image.
struct RowTask<'a> {
    /// All channels of the input image.
    image: &'a [f32],
    /// The first output row.
    row: usize,
    /// The rows in each output channel.
    planes: Vec<&'a mut [f32]>,
}

impl Geometry {
    /// Sizes of images, weights and the result; padding is that at the top, left, bottom and right.
    pub(crate) fn new(
        x: &Tensor<4>,
        weight: &Tensor<4>,
        stride: [usize; 2],
        [top, left, bottom, right]: [usize; 4],
    ) -> Self {
        let [_, channels, height, width] = x.dims();
        let [out_channels, in_channels, kernel_height, kernel_width] = weight.dims();
        assert_eq!(channels, in_channels, "the image must have the layer's input channels");
        let out = |size: usize, padding, kernel, stride| (size + padding - kernel) / stride + 1;
        Self {
            channels,
            size: [height, width],
            kernel: [kernel_height, kernel_width],
            stride,
            before: [top, left],
            out_channels,
            out_size: [
                out(height, top + bottom, kernel_height, stride[0]),
                out(width, left + right, kernel_width, stride[1]),
            ],
        }
    }

    /// Splits the output into tasks of `rows` rows of all channels, which aren't adjacent in
    /// memory.
    fn tasks<'a>(&self, images: &'a [f32], out: &'a mut [f32], rows: usize) -> Vec<RowTask<'a>> {
        let [height, width] = self.size;
        let [out_height, out_width] = self.out_size;
        let plane = out_height * out_width;
        let images = images.chunks_exact(self.channels * height * width);
        let mut tasks: Vec<RowTask<'_>> = Vec::new();
        for (image, out) in images.zip(out.chunks_exact_mut(self.out_channels * plane)) {
            let first = tasks.len();
            let of_image = (0..out_height).step_by(rows);
            tasks.extend(of_image.map(|row| RowTask {
                image,
                row,
                planes: Vec::with_capacity(self.out_channels),
            }));
            for plane in out.chunks_exact_mut(plane) {
                let pieces = plane.chunks_mut(rows * out_width);
                tasks[first..]
                    .iter_mut()
                    .zip(pieces)
                    .for_each(|(task, rows)| task.planes.push(rows));
            }
        }
        tasks
    }

    fn channel<'a>(&self, image: &'a [f32], channel: usize) -> &'a [f32] {
        let [height, width] = self.size;
        &image[channel * height * width..][..height * width]
    }

    /// The image's row at row `y` of the padded image; `None` in the padding.
    fn row<'a>(&self, plane: &'a [f32], y: usize) -> Option<&'a [f32]> {
        let [height, width] = self.size;
        let y = y.checked_sub(self.before[0]).filter(|&y| y < height)?;
        Some(&plane[y * width..][..width])
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::testing::{random, worst};

    #[test]
    fn kernels_equal_burns_convolution() {
        let device = Device::flex();
        for (kernel, stride, padding, bias) in [
            ([3, 3], [1, 1], PaddingConfig2d::Explicit(1, 1, 1, 1), true),
            ([3, 3], [2, 2], PaddingConfig2d::Explicit(0, 0, 1, 1), true),
            ([3, 2], [1, 3], PaddingConfig2d::Explicit(2, 1, 0, 3), false),
            ([2, 5], [3, 1], PaddingConfig2d::Valid, true),
            ([1, 1], [1, 1], PaddingConfig2d::Valid, true),
        ] {
            // The last is larger than a task, and large enough for Winograd's algorithm.
            for shape in [[1, 3, 3, 5], [2, 4, 16, 6], [2, 40, 71, 93]] {
                let mut layer = Conv2dConfig::new([shape[1], 21], kernel)
                    .with_stride(stride)
                    .with_padding(padding.clone())
                    .with_bias(bias)
                    .init(&device);
                layer.weight = Param::from_tensor(random(layer.weight.val().dims(), 1));
                let x = random(shape, 2);
                let expected = layer.forward(x.clone());
                let worst = worst(conv2d(&layer, x), expected);
                // Sums of up to 400 products of values up to 2.
                assert!(worst < 1e-4, "{kernel:?} {stride:?} {padding:?} {shape:?}: {worst}");
            }
        }
    }

    /// Images and weights that bf16 has, so that only the order of sums differs.
    #[test]
    fn operands_in_bf16_are_rounded_and_nothing_else() {
        let device = Device::flex();
        let rounded = |x: Tensor<4>| x.cast(DType::BF16).cast(DType::F32);
        for (kernel, padding, channels) in [
            ([3, 3], PaddingConfig2d::Explicit(1, 1, 1, 1), [16, 16]),
            ([3, 3], PaddingConfig2d::Explicit(1, 1, 1, 1), [37, 300]),
            ([3, 2], PaddingConfig2d::Explicit(2, 1, 0, 3), [40, 33]),
            ([2, 5], PaddingConfig2d::Valid, [17, 20]),
        ] {
            // Rows shorter and longer than a panel, a multiple of it, more than a task.
            for [batch, height, width] in [[1, 5, 7], [2, 9, 32], [1, 70, 65], [1, 3, 300]] {
                let mut layer =
                    Conv2dConfig::new(channels, kernel).with_padding(padding.clone()).init(&device);
                layer.weight = Param::from_tensor(rounded(random(layer.weight.val().dims(), 1)));
                let x = rounded(random([batch, channels[0], height, width], 2));
                let expected = layer.forward(x.clone());
                for operands in [Operands::Bf16, Operands::Int8] {
                    let got = operands.install(|| conv2d(&layer, x.clone()));
                    let worst = worst(got, expected.clone());
                    assert!(worst < 1e-4, "{kernel:?} {padding:?} {channels:?} {width}: {worst}");
                }
            }
        }
    }
}
