//! Gradients of convolutions, by products with patches of the images (im2col).

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::plane::{Planes, Scratch, View};
use super::record::{Operation, input};
use super::rows::{RowSum, sum_rows};
use crate::buffers::{self, Buffer};
use crate::convolution::{self, Geometry};
use crate::host::HostTensor;
use crate::lanes::sum;

/// Values of the patches that are computed at a time: 1 MiB.
const PATCHES: usize = 1 << 18;

/// The convolution of [`crate::conv2d`] with these weights; padding is that at the top, left,
/// bottom and right.
pub(crate) fn conv2d(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 4],
) -> Option<Tensor<4>> {
    if x.shape().num_elements() == 0 {
        return None;
    }
    match bias {
        Some(bias) => {
            let operation = Operation::of(|| [input(x), input(weight), input(bias)])?;
            Some(record(operation, stride, padding))
        }
        None => {
            let operation = Operation::of(|| [input(x), input(weight)])?;
            Some(record(operation, stride, padding))
        }
    }
}

/// Inputs are the images, the weights, and the bias if there are three.
fn record<const N: usize>(
    operation: Operation<N>,
    stride: [usize; 2],
    padding: [usize; 4],
) -> Tensor<4> {
    let [x, weight] = [0, 1].map(|index| operation.tensor::<4>(index));
    let (geometry, [batch, ..]) = (Geometry::new(&x, &weight, stride, padding), x.dims());
    let convolution = Convolution { geometry, planes: Planes::current(), batch };
    let out = match convolution.planes {
        Planes::Exact => {
            let bias = (N > 2).then(|| operation.tensor(2));
            convolution::kernel(x, weight, bias, stride, padding)
        }
        Planes::Narrow(_) => {
            let bias = (N > 2).then(|| operation.values(2));
            let bias = bias.as_ref().map(HostTensor::values);
            let out = convolution.forward(
                operation.values(0).values(),
                operation.values(1).values(),
                bias,
            );
            let [height, width] = geometry.out_size;
            out.into_tensor([batch, geometry.out_channels, height, width])
        }
    };
    let (x, weight) = (operation.values(0), operation.values(1));
    operation.finish(out, move |gradient, wanted| {
        let gradient = gradient.values();
        let of_bias = (N > 2 && wanted[2]).then(|| convolution.bias_gradient(gradient));
        let (of_x, of_weight) =
            convolution.backward(x.values(), weight.values(), gradient, [wanted[0], wanted[1]]);
        let mut all = [of_x, of_weight, of_bias];
        std::array::from_fn(|index| all[index].take())
    })
}

/// A convolution of images whose gradient is recorded.
#[derive(Clone, Copy)]
struct Convolution {
    geometry: Geometry,
    planes: Planes,
    batch: usize,
}

/// Output rows of an image that are computed together.
struct Part {
    row: usize,
    pixels: usize,
}

impl Convolution {
    /// Rows of a matrix of patches.
    fn depth(&self) -> usize {
        let [height, width] = self.geometry.kernel;
        self.geometry.channels * height * width
    }

    /// Pixels of an output channel.
    fn plane(&self) -> usize {
        self.geometry.out_size.iter().product()
    }

    /// Values of an input image.
    fn image(&self) -> usize {
        self.geometry.channels * self.geometry.size.iter().product::<usize>()
    }

    fn parts(&self) -> impl Iterator<Item = Part> {
        let [height, width] = self.geometry.out_size;
        let rows = (PATCHES / (self.depth() * width).max(1)).clamp(1, height);
        let parts = (0..height).step_by(rows);
        parts.map(move |row| Part { row, pixels: rows.min(height - row) * width })
    }

    fn forward(&self, images: &[f32], weight: &[f32], bias: Option<&[f32]>) -> HostTensor {
        let Self { geometry, planes, batch } = *self;
        let (depth, plane, channels) = (self.depth(), self.plane(), geometry.out_channels);
        let [_, width] = geometry.out_size;
        let mut out = buffers::take(batch * channels * plane);
        let tasks = out.par_chunks_mut(channels * plane).zip(images.par_chunks(self.image()));
        tasks.for_each_init(Work::default, |work, (out, image)| {
            for Part { row, pixels } in self.parts() {
                work.patches.resize(depth * pixels, 0.0);
                geometry.patches(image, row, pixels, &mut work.patches);
                work.product.resize(channels * pixels, 0.0);
                let weight = View::dense(weight, [channels, depth]);
                let patches = View::dense(&work.patches, [depth, pixels]);
                planes.multiply(weight, patches, false, &mut work.product, &mut work.scratch);
                let products = work.product.chunks_exact(pixels).enumerate();
                for (channel, product) in products {
                    let bias = bias.map_or(0.0, |bias| bias[channel]);
                    let out = &mut out[channel * plane + row * width..][..pixels];
                    out.iter_mut().zip(product).for_each(|(to, x)| *to = x + bias);
                }
            }
        });
        HostTensor::new(out)
    }

    /// The gradients of images and weights that are wanted. Those of the weights are computed for
    /// each image, and added in the order of the images.
    fn backward(
        &self,
        images: &[f32],
        weight: &[f32],
        gradient: &[f32],
        [wants_image, wants_weight]: [bool; 2],
    ) -> (Option<HostTensor>, Option<HostTensor>) {
        let Self { geometry, planes, batch } = *self;
        let (depth, plane, channels) = (self.depth(), self.plane(), geometry.out_channels);
        let [_, width] = geometry.out_size;
        let mut of_images = buffers::take(images.len());
        let mut of_weights = Buffer::new(batch * weight.len());
        let tasks = (of_images.par_chunks_mut(self.image()))
            .zip(of_weights.par_chunks_mut(weight.len()))
            .zip(images.par_chunks(self.image()))
            .zip(gradient.par_chunks(channels * plane));
        tasks.for_each_init(Work::default, |work, (((of_image, of_weight), image), gradient)| {
            of_image.fill(0.0);
            of_weight.fill(0.0);
            for Part { row, pixels } in self.parts() {
                let gradient = &gradient[row * width..];
                let gradient = View::new(gradient, [channels, pixels], plane);
                work.patches.resize(depth * pixels, 0.0);
                if wants_weight {
                    geometry.patches(image, row, pixels, &mut work.patches);
                    let patches = View::dense(&work.patches, [depth, pixels]).transpose();
                    planes.multiply(gradient, patches, true, of_weight, &mut work.scratch);
                }
                if wants_image {
                    let weight = View::dense(weight, [channels, depth]).transpose();
                    let patches = &mut work.patches;
                    planes.multiply(weight, gradient, false, patches, &mut work.scratch);
                    geometry.add_patches(patches, row, pixels, of_image);
                }
            }
        });
        let of_weights = wants_weight.then(|| {
            let mut total = buffers::take(weight.len());
            total.copy_from_slice(&of_weights[..weight.len()]);
            for of_image in of_weights[weight.len()..].chunks_exact(weight.len()) {
                total.iter_mut().zip(of_image).for_each(|(total, x)| *total += x);
            }
            HostTensor::new(total)
        });
        (wants_image.then(|| HostTensor::new(of_images)), of_weights)
    }

    fn bias_gradient(&self, gradient: &[f32]) -> HostTensor {
        let (plane, channels) = (self.plane(), self.geometry.out_channels);
        HostTensor::new(sum_rows(self.batch, channels, Planewise { gradient, plane }))
    }
}

/// Reused by the images of a thread.
#[derive(Default)]
struct Work {
    patches: Vec<f32>,
    product: Vec<f32>,
    scratch: Scratch,
}

/// Adds the sums of an image's channels.
struct Planewise<'a> {
    gradient: &'a [f32],
    plane: usize,
}

impl RowSum for Planewise<'_> {
    #[inline(always)]
    fn add(&self, image: usize, sums: &mut [f32]) {
        let planes = self.gradient[image * sums.len() * self.plane..].chunks_exact(self.plane);
        for (total, plane) in sums.iter_mut().zip(planes) {
            *total += sum(plane, |x| x);
        }
    }
}
