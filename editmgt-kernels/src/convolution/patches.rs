//! Convolution by im2col: the weights times patches of the image.

use rayon::prelude::*;

use super::{Geometry, RowTask};
use crate::matrix::Dense;
use crate::product::{PackedLeft, Start};

/// Values of the patches of one task: 8 MiB.
const PATCHES: usize = 1 << 21;
/// Pixels of one task, at most: more don't make the products faster.
const PIXELS: usize = 1 << 11;

/// Adds the convolution to `out`.
pub(super) fn run(geometry: &Geometry, images: &[f32], weight: &[f32], out: &mut [f32]) {
    let [kernel_height, kernel_width] = geometry.kernel;
    let [out_height, out_width] = geometry.out_size;
    let depth = geometry.channels * kernel_height * kernel_width;
    let rows = ((PATCHES / depth).min(PIXELS) / out_width).clamp(1, out_height);
    let weights = PackedLeft::new(weight, depth);

    let tasks = geometry.tasks(images, out, rows);
    tasks.into_par_iter().for_each_init(Default::default, |(patches, panels), mut task| {
        let pixels = task.planes[0].len();
        let patches: &mut Vec<f32> = patches;
        patches.resize(depth * pixels, 0.0);
        geometry.patches(&task, patches);
        let patches = Dense::new(patches, [depth, pixels]);
        weights.multiply(&patches, 0, &mut task.planes, Start::Accumulate, panels);
    });
}

impl Geometry {
    /// Fills `patches`: a row for each channel and kernel position, with the input value for each
    /// output pixel of the task.
    fn patches(&self, task: &RowTask<'_>, patches: &mut [f32]) {
        let [kernel_height, kernel_width] = self.kernel;
        let [_, out_width] = self.out_size;
        let places = kernel_height * kernel_width;
        let pixels = task.planes[0].len();
        for (index, row) in patches.chunks_exact_mut(pixels).enumerate() {
            let (channel, place) = (index / places, index % places);
            let (down, right) = (place / kernel_width, place % kernel_width);
            let plane = self.channel(task.image, channel);
            for (line, to) in row.chunks_exact_mut(out_width).enumerate() {
                match self.row(plane, (task.row + line) * self.stride[0] + down) {
                    Some(from) => self.line(from, right, to),
                    None => to.fill(0.0),
                }
            }
        }
    }

    /// The values of one image row at column `right` of the kernel, for each output pixel of the
    /// row.
    fn line(&self, from: &[f32], right: usize, to: &mut [f32]) {
        let (stride, before) = (self.stride[1], self.before[1]);
        // Output pixels whose input is in the left padding, and those whose input is in the image.
        let outside = before.saturating_sub(right).div_ceil(stride).min(to.len());
        let start = (outside * stride + right - before).min(from.len());
        let inside = (from.len() - start).div_ceil(stride).min(to.len() - outside);
        let (left, rest) = to.split_at_mut(outside);
        let (middle, beyond) = rest.split_at_mut(inside);
        left.fill(0.0);
        beyond.fill(0.0);
        if stride == 1 {
            middle.copy_from_slice(&from[start..][..inside]);
        } else {
            let places = from[start..].iter().step_by(stride);
            middle.iter_mut().zip(places).for_each(|(to, from)| *to = *from);
        }
    }
}
