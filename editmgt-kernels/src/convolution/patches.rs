//! Convolution by im2col: the weights times patches of the image.

use rayon::prelude::*;

use super::Geometry;
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
        geometry.patches(task.image, task.row, pixels, patches);
        let patches = Dense::new(patches, [depth, pixels]);
        weights.multiply(&patches, 0, &mut task.planes, Start::Accumulate, panels);
    });
}

/// The part of an output row whose input is in the image.
struct Line {
    /// Output pixels before it: their input is in the left padding.
    outside: usize,
    /// The column of the image that its first pixel reads.
    start: usize,
    /// Its output pixels.
    inside: usize,
}

impl Geometry {
    /// Fills `patches`: a row for each channel and kernel position, with the input value for each
    /// of `pixels` output pixels from output row `first` on.
    pub(crate) fn patches(&self, image: &[f32], first: usize, pixels: usize, patches: &mut [f32]) {
        let [kernel_height, kernel_width] = self.kernel;
        let [_, out_width] = self.out_size;
        let places = kernel_height * kernel_width;
        for (index, row) in patches.chunks_exact_mut(pixels).enumerate() {
            let (channel, place) = (index / places, index % places);
            let (down, right) = (place / kernel_width, place % kernel_width);
            let plane = self.channel(image, channel);
            for (line, to) in row.chunks_exact_mut(out_width).enumerate() {
                match self.row(plane, (first + line) * self.stride[0] + down) {
                    Some(from) => self.line(from, right, to),
                    None => to.fill(0.0),
                }
            }
        }
    }

    /// The values of one image row at column `right` of the kernel, for each output pixel of the
    /// row.
    fn line(&self, from: &[f32], right: usize, to: &mut [f32]) {
        let stride = self.stride[1];
        let Line { outside, start, inside } = self.inside(right, from.len(), to.len());
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

    /// Adds `patches` to the values of the image that [`patches`](Self::patches) reads.
    pub(crate) fn add_patches(
        &self,
        patches: &[f32],
        first: usize,
        pixels: usize,
        image: &mut [f32],
    ) {
        let [kernel_height, kernel_width] = self.kernel;
        let ([height, width], [_, out_width]) = (self.size, self.out_size);
        let places = kernel_height * kernel_width;
        for (index, row) in patches.chunks_exact(pixels).enumerate() {
            let (channel, place) = (index / places, index % places);
            let (down, right) = (place / kernel_width, place % kernel_width);
            let plane = &mut image[channel * height * width..][..height * width];
            let Line { outside, start, inside } = self.inside(right, width, out_width);
            for (line, from) in row.chunks_exact(out_width).enumerate() {
                let y = ((first + line) * self.stride[0] + down).checked_sub(self.before[0]);
                let Some(y) = y.filter(|&y| y < height) else { continue };
                let to = &mut plane[y * width..][..width][start..];
                let from = &from[outside..][..inside];
                if self.stride[1] == 1 {
                    to.iter_mut().zip(from).for_each(|(to, x)| *to += x);
                } else {
                    let to = to.iter_mut().step_by(self.stride[1]);
                    to.zip(from).for_each(|(to, x)| *to += x);
                }
            }
        }
    }

    /// Which output pixels of a row read the image at column `right` of the kernel; rows have
    /// `width` values in the image and `out_width` in the output.
    #[inline(always)]
    fn inside(&self, right: usize, width: usize, out_width: usize) -> Line {
        let (stride, before) = (self.stride[1], self.before[1]);
        let outside = before.saturating_sub(right).div_ceil(stride).min(out_width);
        let start = (outside * stride + right - before).min(width);
        let inside = (width - start).div_ceil(stride).min(out_width - outside);
        Line { outside, start, inside }
    }
}
