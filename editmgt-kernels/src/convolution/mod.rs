//! Convolution as matrix products.

mod patches;
mod winograd;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use crate::buffers;
use crate::host::{HostTensor, on_host};
use crate::work::{RowChange, for_rows};

/// The layer's convolution.
///
/// Large 3x3 convolutions with stride 1 use Winograd's algorithm, with 4 products in place of 9;
/// others use im2col a few rows at a time (burn-flex 0.22.1 copies the whole image, on one thread).
/// Kernels support any stride and explicit padding; convolutions with groups, dilation or a 1x1
/// kernel run burn's implementation.
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
    let hosts = on_host(&x) && on_host(&weight) && bias.as_ref().is_none_or(on_host);
    match padding {
        Some(padding) if plain && hosts => kernel(x, weight, bias, layer.stride, padding),
        _ => layer.forward(x),
    }
}

fn kernel(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: [usize; 2],
    [top, left, bottom, right]: [usize; 4],
) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let [out_channels, in_channels, kernel_height, kernel_width] = weight.dims();
    assert_eq!(channels, in_channels, "the image must have the layer's input channels");
    let out = |size: usize, padding, kernel, stride| (size + padding - kernel) / stride + 1;
    let geometry = Geometry {
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
    };
    let (x, weight) = (HostTensor::take(x), HostTensor::take(weight));
    let bias = bias.map(HostTensor::take);
    let [out_height, out_width] = geometry.out_size;
    let mut out = buffers::take(batch * out_channels * out_height * out_width);
    let bias = bias.as_ref().map(HostTensor::values);
    for_rows(&mut out, out_height * out_width, FillBias { bias, out_channels });
    let algorithm: Algorithm =
        if winograd::is_profitable(&geometry) { winograd::run } else { patches::run };
    algorithm(&geometry, x.values(), weight.values(), &mut out);
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

/// Adds the convolution of images `[B, C, H, W]` with weights `[C', C, kernel]` to `[B, C', H',
/// W']`.
type Algorithm = fn(&Geometry, &[f32], &[f32], &mut [f32]);

/// Sizes of a convolution, `[height, width]` each.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    channels: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Padding at the top and at the left.
    before: [usize; 2],
    out_channels: usize,
    out_size: [usize; 2],
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
    use burn::tensor::Device;

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
}
