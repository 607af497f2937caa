//! Convolution with operands in bf16: the weights times patches of the image, whose channels are
//! packed in pairs.
//!
//! A step of [`crate::blocks`] is two channels at one place of the kernel. The rows of the image
//! that a task reads become rows of such pairs once; then a panel, 32 output pixels, is copied from
//! them step by step.

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use super::{Geometry, RowTask};
use crate::blocks::{COLUMN_BLOCK, ROW_BLOCK, steps_of};
use crate::buffers::Lines;
use crate::intrinsics::{COLUMNS, RightStep, Sums};
use crate::lanes::dispatch;
use crate::narrow::{Kernel, PAIR, Pairs, pair};
use crate::number::bf16_bits;

/// Output pixels of a task, about: the rows above and below it are packed by its neighbours, too.
const PIXELS: usize = 1 << 11;

/// Whether the algorithm applies, and its products are large enough to outweigh the packing.
pub(super) fn is_profitable(geometry: &Geometry) -> bool {
    let Geometry { channels, stride, out_channels, .. } = *geometry;
    stride == [1, 1] && channels.min(out_channels) >= 16
}

/// Adds the convolution to `out`.
pub(super) fn run(
    kernel: Kernel,
    geometry: &Geometry,
    images: &[f32],
    weight: &[f32],
    out: &mut [f32],
) {
    let [_, out_width] = geometry.out_size;
    let depth = geometry.kernel.iter().product::<usize>() * geometry.channel_pairs() * PAIR;
    let strips = kernel.pack_all(&geometry.weights_by_place(weight), depth, |_| Pairs);
    let strips = bytemuck::cast_slice(&strips);
    let rows = (PIXELS / out_width).max(1);
    let tasks = geometry.tasks(images, out, rows);
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, task| {
        run_task(kernel, geometry, strips, depth, task, scratch);
    });
}

/// What the tasks of a thread reuse.
#[derive(Default)]
struct Scratch {
    pairs: Vec<u32>,
    panels: Lines<u32>,
    sums: Lines<f32>,
}

fn run_task(
    kernel: Kernel,
    geometry: &Geometry,
    strips: &[u32],
    depth: usize,
    mut task: RowTask<'_>,
    scratch: &mut Scratch,
) {
    let Scratch { pairs, panels, sums } = scratch;
    let pixels = task.planes[0].len();
    let lines = pixels / geometry.out_size[1] + geometry.kernel[0] - 1;
    let width = geometry.padded_width();
    pairs.resize(lines * geometry.channel_pairs() * width, 0);
    let (image, row) = (task.image, task.row);
    dispatch(PackRows { geometry, image, row, width, pairs });
    let steps = steps_of(depth, PAIR);
    for column in (0..pixels).step_by(COLUMN_BLOCK) {
        let columns = COLUMN_BLOCK.min(pixels - column);
        let count = columns.div_ceil(COLUMNS);
        let (packed, _) = panels.take(count * steps * COLUMNS).as_chunks_mut();
        for (index, panel) in packed.chunks_exact_mut(steps).enumerate() {
            geometry.panel(pairs, width, column + index * COLUMNS, pixels, panel);
        }
        let packed: Vec<&[RightStep]> = packed.chunks_exact(steps).collect();
        let strips = strips.chunks(ROW_BLOCK * steps);
        let blocks = task.planes.chunks_mut(ROW_BLOCK).zip(strips);
        for (planes, strips) in blocks {
            let sums = kernel.sums(strips, &packed, sums);
            dispatch(AddSums { sums, stride: sums.len() / count, planes, column, columns });
        }
    }
}

impl Geometry {
    fn channel_pairs(&self) -> usize {
        self.channels.div_ceil(PAIR)
    }

    /// The width of a padded row, and what a panel reads beyond it.
    fn padded_width(&self) -> usize {
        self.out_size[1] + self.kernel[1] - 1 + COLUMNS
    }

    /// Weights `[C', C, kernel]` as `[C', kernel, C]`, with an even number of channels.
    fn weights_by_place(&self, weight: &[f32]) -> Vec<f32> {
        let (channels, places) = (self.channels, self.kernel.iter().product::<usize>());
        let even = self.channel_pairs() * PAIR;
        let mut out = vec![0.0; self.out_channels * places * even];
        let of_out = weight.chunks_exact(channels * places);
        for (to, from) in out.chunks_exact_mut(places * even).zip(of_out) {
            for (place, to) in to.chunks_exact_mut(even).enumerate() {
                let from = from.iter().skip(place).step_by(places);
                to.iter_mut().zip(from).for_each(|(to, x)| *to = *x);
            }
        }
        out
    }

    /// Fills a panel with the pairs that the output pixels from `first` on read; pixels beyond the
    /// last one have those of any.
    fn panel(
        &self,
        pairs: &[u32],
        width: usize,
        first: usize,
        pixels: usize,
        panel: &mut [RightStep],
    ) {
        let ([_, kernel_width], [_, out_width]) = (self.kernel, self.out_size);
        let of_line = self.channel_pairs() * width;
        // Each part is in one output row: the place in the panel, the row, its column, and the
        // length.
        let mut parts = Vec::new();
        let mut at = 0;
        while at < COLUMNS && first + at < pixels {
            let (line, x) = ((first + at) / out_width, (first + at) % out_width);
            let length = (out_width - x).min(COLUMNS - at);
            parts.push((at, line, x, length));
            at += length;
        }
        let (filled, rest) =
            panel.split_at_mut(self.kernel[0] * kernel_width * self.channel_pairs());
        for (place, steps) in filled.chunks_exact_mut(self.channel_pairs()).enumerate() {
            let (down, right) = (place / kernel_width, place % kernel_width);
            match parts[..] {
                // Beyond the row are numbers, too.
                [(0, line, x, _)] => {
                    let rows = pairs[(line + down) * of_line..][..of_line].chunks_exact(width);
                    for (step, row) in steps.iter_mut().zip(rows) {
                        step.copy_from_slice(&row[x + right..][..COLUMNS]);
                    }
                }
                _ => {
                    for (index, step) in steps.iter_mut().enumerate() {
                        for &(at, line, x, length) in &parts {
                            let row = &pairs[(line + down) * of_line + index * width..][..width];
                            step[at..][..length].copy_from_slice(&row[x + right..][..length]);
                        }
                    }
                }
            }
        }
        rest.fill([0; COLUMNS]);
    }
}

/// Packs rows of the padded image from `row` on: for each row and pair of channels `width` pairs.
struct PackRows<'a> {
    geometry: &'a Geometry,
    image: &'a [f32],
    row: usize,
    width: usize,
    pairs: &'a mut [u32],
}

impl WithSimd for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { geometry, image, row, width, pairs } = self;
        let of_line = geometry.channel_pairs() * width;
        for (line, pairs) in pairs.chunks_exact_mut(of_line).enumerate() {
            for (index, to) in pairs.chunks_exact_mut(width).enumerate() {
                to.fill(0);
                let channel = index * PAIR;
                let row = |channel| geometry.row(geometry.channel(image, channel), row + line);
                let Some(low) = row(channel) else { continue };
                let to = &mut to[geometry.before[1]..];
                if channel + 1 < geometry.channels
                    && let Some(high) = row(channel + 1)
                {
                    for ((to, &low), &high) in to.iter_mut().zip(low).zip(high) {
                        *to = pair(bf16_bits(low), bf16_bits(high));
                    }
                } else {
                    to.iter_mut().zip(low).for_each(|(to, &low)| *to = pair(bf16_bits(low), 0));
                }
            }
        }
    }
}

/// Adds the sums of panels, `stride` rows each, to some pixels of planes.
struct AddSums<'a, 'b> {
    sums: &'a [Sums<f32>],
    stride: usize,
    planes: &'a mut [&'b mut [f32]],
    column: usize,
    columns: usize,
}

impl WithSimd for AddSums<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (index, plane) in self.planes.iter_mut().enumerate() {
            let to = plane[self.column..][..self.columns].chunks_mut(COLUMNS);
            for (to, sums) in to.zip(self.sums[index..].iter().step_by(self.stride)) {
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
            }
        }
    }
}
