//! Convolution as products of matrices.

mod patches;
mod winograd;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use crate::buffers;
use crate::host::{Host, on_host};
use crate::work::for_rows;

/// The layer's convolution, `[B, C, H, W]` to `[B, C', H', W']`.
///
/// burn-flex lays the whole image out anew for each convolution, on one thread, and multiplies every
/// pixel as often as the kernel has places. Here large convolutions of 3x3 without stride take
/// Winograd's form, with 4 products for 9; others multiply patches that are copied
/// from the image as it is. Any stride and explicit padding will do; groups, dilation and a kernel of a
/// single pixel (which needs no patches) are left to burn.
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
    assert_eq!(channels, in_channels, "an image with other channels than the layer takes");
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
    let (x, weight) = (Host::take(x), Host::take(weight));
    let bias = bias.map(Host::take);
    let [out_height, out_width] = geometry.out_size;
    let mut out = buffers::take(batch * out_channels * out_height * out_width);
    for_rows(&mut out, out_height * out_width, |plane, to| {
        to.fill(bias.as_ref().map_or(0.0, |bias| bias.numbers()[plane % out_channels]));
    });
    let form: Form = if winograd::pays(&geometry) { winograd::run } else { patches::run };
    form(&geometry, x.numbers(), weight.numbers(), &mut out);
    Host::new(out).into_tensor([batch, out_channels, out_height, out_width])
}

/// A way to add the convolution of images `[B, C, H, W]` by weights `[C', C, kernel]` to `[B, C', H', W']`.
type Form = fn(&Geometry, &[f32], &[f32], &mut [f32]);

/// Sizes of a convolution; heights before widths.
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

/// Some rows of the result of one image.
struct Task<'a> {
    /// The image, all its channels.
    image: &'a [f32],
    /// The first row of the result.
    row: usize,
    /// The rows, in each channel of the result.
    planes: Vec<&'a mut [f32]>,
}

impl Geometry {
    /// Shares the result out, by so many rows of all channels: these lie apart.
    fn tasks<'a>(&self, images: &'a [f32], out: &'a mut [f32], rows: usize) -> Vec<Task<'a>> {
        let [height, width] = self.size;
        let [out_height, out_width] = self.out_size;
        let plane = out_height * out_width;
        let images = images.chunks_exact(self.channels * height * width);
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for (image, out) in images.zip(out.chunks_exact_mut(self.out_channels * plane)) {
            let first = tasks.len();
            let of_image = (0..out_height).step_by(rows);
            tasks.extend(of_image.map(|row| Task {
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

    /// The image's row under row `y` of the padded image.
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
    fn the_kernel_is_burns_convolution() {
        let device = Device::flex();
        for (kernel, stride, padding, bias) in [
            ([3, 3], [1, 1], PaddingConfig2d::Explicit(1, 1, 1, 1), true),
            ([3, 3], [2, 2], PaddingConfig2d::Explicit(0, 0, 1, 1), true),
            ([3, 2], [1, 3], PaddingConfig2d::Explicit(2, 1, 0, 3), false),
            ([2, 5], [3, 1], PaddingConfig2d::Valid, true),
            ([1, 1], [1, 1], PaddingConfig2d::Valid, true),
        ] {
            // The last is larger than a task, and large enough for Winograd's form.
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
                // Sums of up to 400 products of numbers up to 2.
                assert!(worst < 1e-4, "{kernel:?} {stride:?} {padding:?} {shape:?}: {worst}");
            }
        }
    }
}
