//! Winograd's algorithm for 3x3 convolutions with stride 1, F(2x2, 3x3) (Lavin and Gray, arXiv
//! 1509.09308).
//!
//! For each 2x2 output pixels, the 4x4 input pixels and the kernel are transformed into 16 values
//! each; their products, summed over the channels and transformed back, are the output: 16 products
//! instead of 4 pixels x 9 = 36. The transforms consist of additions (and factors of 1/2 for the
//! weights), so f32 results are as exact as those of direct summation, which a test checks.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Geometry, RowTask};
use crate::lanes::dispatch;
use crate::matrix::Dense;
use crate::product::{PackedLeft, Start};
use crate::tile::RightStep;

/// Values of a transformed tile.
const TRANSFORM_SIZE: usize = 16;
/// Tiles of a task: few enough that their transforms stay in cache.
const TILES: usize = 256;

/// Whether the algorithm applies, and its products are large enough to outweigh the transforms.
pub(super) fn is_profitable(geometry: &Geometry) -> bool {
    let Geometry { channels, kernel, stride, out_channels, out_size, .. } = *geometry;
    kernel == [3, 3]
        && stride == [1, 1]
        && channels.min(out_channels) >= 16
        && out_size[0] * out_size[1] >= 1024
}

/// Adds the convolution to `out`.
pub(super) fn run(geometry: &Geometry, images: &[f32], weight: &[f32], out: &mut [f32]) {
    let Geometry { channels, out_channels, out_size: [_, out_width], .. } = *geometry;
    let transformed = transform_weights(weight, channels, out_channels);
    let transformed = transformed.chunks_exact(out_channels * channels);
    let transformed: Vec<PackedLeft> =
        transformed.map(|weights| PackedLeft::new(weights, channels)).collect();
    let columns = out_width.div_ceil(2);
    let lines = (TILES / columns).max(1);

    let tasks = geometry.tasks(images, out, 2 * lines);
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, task| {
        let Scratch { inputs, products, panels } = scratch;
        let tiles = task.planes[0].len().div_ceil(out_width).div_ceil(2) * columns;
        inputs.resize(TRANSFORM_SIZE * channels * tiles, 0.0);
        products.resize(TRANSFORM_SIZE * out_channels * tiles, 0.0);
        dispatch(TransformInput { geometry, task: &task, columns, tiles, to: inputs });
        let inputs = inputs.chunks_exact(channels * tiles);
        let outputs = products.chunks_exact_mut(out_channels * tiles);
        for ((weights, input), output) in transformed.iter().zip(inputs).zip(outputs) {
            let mut rows: Vec<&mut [f32]> = output.chunks_exact_mut(tiles).collect();
            let input = Dense::new(input, [channels, tiles]);
            weights.multiply(&input, 0, &mut rows, Start::Bias(None), panels);
        }
        dispatch(TransformOutput { task, columns, tiles, out_width, products });
    });
}

/// Scratch space of a thread, reused for its tasks.
#[derive(Default)]
struct Scratch {
    /// `[16, C, tiles]`.
    inputs: Vec<f32>,
    /// `[16, C', tiles]`.
    products: Vec<f32>,
    panels: Vec<RightStep>,
}

/// `G g Gᵀ` of each 3x3 kernel: `[C', C, 3, 3]` to `[16, C', C]`.
fn transform_weights(weight: &[f32], channels: usize, out_channels: usize) -> Vec<f32> {
    fn transform([a, b, c]: [f32; 3]) -> [f32; 4] {
        [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c]
    }
    let pairs = out_channels * channels;
    let mut transformed = vec![0.0; TRANSFORM_SIZE * pairs];
    let mut planes: Vec<&mut [f32]> = transformed.chunks_exact_mut(pairs).collect();
    let (kernels, _) = weight.as_chunks::<9>();
    for (pair, &[a, b, c, d, e, f, g, h, i]) in kernels.iter().enumerate() {
        let columns = [transform([a, d, g]), transform([b, e, h]), transform([c, f, i])];
        for down in 0..4 {
            let row = transform([columns[0][down], columns[1][down], columns[2][down]]);
            for right in 0..4 {
                planes[4 * down + right][pair] = row[right];
            }
        }
    }
    transformed
}

/// `Bᵀ d B` of each 4x4 tile of the image: `[16, C, tiles]`.
struct TransformInput<'a> {
    geometry: &'a Geometry,
    task: &'a RowTask<'a>,
    columns: usize,
    tiles: usize,
    to: &'a mut [f32],
}

impl WithSimd for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { geometry, task, columns, tiles, to } = self;
        let channels = geometry.channels;
        let left = geometry.before[1];
        let padded = 2 * columns + 2;
        let mut rows = vec![0.0; 4 * padded];
        let mut down = vec![0.0; 4 * padded];
        let mut planes: Vec<&mut [f32]> = to.chunks_exact_mut(channels * tiles).collect();
        for channel in 0..channels {
            let plane = geometry.channel(task.image, channel);
            for line in 0..tiles / columns {
                for (y, to) in rows.chunks_exact_mut(padded).enumerate() {
                    match geometry.row(plane, task.row + 2 * line + y) {
                        Some(from) => {
                            let inside = from.len().min(padded - left);
                            to[left..][..inside].copy_from_slice(&from[..inside]);
                        }
                        None => to.fill(0.0),
                    }
                }
                let [a, b, c, d] = quarters(&rows);
                for (place, to) in down.chunks_exact_mut(padded).enumerate() {
                    match place {
                        0 => combine(to, a, c, |a, c| a - c),
                        1 => combine(to, b, c, |b, c| b + c),
                        2 => combine(to, b, c, |b, c| c - b),
                        _ => combine(to, b, d, |b, d| b - d),
                    }
                }
                let start = channel * tiles + line * columns;
                for (row, to) in down.chunks_exact(padded).zip(planes.as_chunks_mut::<4>().0) {
                    let [a, b, c, d] = to.each_mut().map(|to| &mut to[start..][..columns]);
                    let (pairs, _) = row.as_chunks::<2>();
                    for tile in 0..columns {
                        let ([w, x], [y, z]) = (pairs[tile], pairs[tile + 1]);
                        a[tile] = w - y;
                        b[tile] = x + y;
                        c[tile] = y - x;
                        d[tile] = x - z;
                    }
                }
            }
        }
    }
}

/// Adds `Aᵀ m A` of each tile to the task's rows: `[16, C', tiles]`.
struct TransformOutput<'a> {
    task: RowTask<'a>,
    columns: usize,
    tiles: usize,
    out_width: usize,
    products: &'a [f32],
}

impl WithSimd for TransformOutput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { task, columns, tiles, out_width, products } = self;
        let products: Vec<&[f32]> =
            products.chunks_exact(products.len() / TRANSFORM_SIZE).collect();
        let (by_row, _) = products.as_chunks::<4>();
        // The two output rows of a row of tiles, for each of the four columns of a tile; then the
        // pixels.
        let mut upper = vec![0.0; 4 * columns];
        let mut lower = vec![0.0; 4 * columns];
        let mut pixels = vec![0.0; 2 * columns];
        for (channel, plane) in task.planes.into_iter().enumerate() {
            for (line, two) in plane.chunks_mut(2 * out_width).enumerate() {
                let start = channel * tiles + line * columns;
                let sums = upper.chunks_exact_mut(columns).zip(lower.chunks_exact_mut(columns));
                for (column, (upper, lower)) in sums.enumerate() {
                    let of = |row: usize| &by_row[row][column][start..][..columns];
                    let (a, b, c, d) = (of(0), of(1), of(2), of(3));
                    for tile in 0..columns {
                        upper[tile] = a[tile] + b[tile] + c[tile];
                        lower[tile] = b[tile] - c[tile] - d[tile];
                    }
                }
                for (to, sums) in two.chunks_exact_mut(out_width).zip([&upper, &lower]) {
                    let [a, b, c, d] = quarters(sums);
                    let (pairs, _) = pixels.as_chunks_mut::<2>();
                    for (tile, pair) in pairs.iter_mut().enumerate() {
                        let both = b[tile] + c[tile];
                        *pair = [a[tile] + both, b[tile] - c[tile] - d[tile]];
                    }
                    to.iter_mut().zip(&pixels).for_each(|(to, pixel)| *to += pixel);
                }
            }
        }
    }
}

#[inline(always)]
fn quarters(numbers: &[f32]) -> [&[f32]; 4] {
    let quarter = numbers.len() / 4;
    [0, 1, 2, 3].map(|part| &numbers[part * quarter..][..quarter])
}

#[inline(always)]
fn combine(to: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
        *to = f(a, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convolution::patches;

    type Algorithm = fn(&Geometry, &[f32], &[f32], &mut [f32]);
    use crate::testing::random;

    /// Both algorithms against sums in f64.
    #[test]
    fn winograd_is_as_exact_as_im2col() {
        let geometry = Geometry {
            channels: 48,
            size: [34, 37],
            kernel: [3, 3],
            stride: [1, 1],
            before: [1, 1],
            out_channels: 16,
            out_size: [34, 37],
        };
        assert!(is_profitable(&geometry));
        let values = |count, seed| random([count], seed).try_into_vec_as::<f32>().unwrap();
        let (image, weight) = (values(48 * 34 * 37, 1), values(16 * 48 * 9, 2));
        let bias: Vec<f32> = (0..16).map(|channel| channel as f32 / 4.0).collect();
        let error = |algorithm: Algorithm| {
            let mut out: Vec<f32> = bias.iter().flat_map(|&bias| vec![bias; 34 * 37]).collect();
            algorithm(&geometry, &image, &weight, &mut out);
            let mut squares = 0.0;
            for (index, &got) in out.iter().enumerate() {
                let (channel, pixel) = (index / (34 * 37), index % (34 * 37));
                let mut exact = f64::from(bias[channel]);
                for place in 0..48 * 9 {
                    let (from, y, x) =
                        (place / 9, pixel / 37 + place % 9 / 3, pixel % 37 + place % 3);
                    if (1..=34).contains(&y) && (1..=37).contains(&x) {
                        let pixel = image[(from * 34 + y - 1) * 37 + x - 1];
                        let weight = weight[channel * 48 * 9 + place];
                        exact += f64::from(pixel) * f64::from(weight);
                    }
                }
                squares += (f64::from(got) - exact).powi(2);
            }
            (squares / out.len() as f64).sqrt()
        };
        let (winograd, im2col) = (error(run), error(patches::run));
        // Results of about 14; Winograd's sums are shorter.
        assert!(im2col < 6e-6 && winograd < 1.2 * im2col, "{winograd:e}, im2col {im2col:e}");
    }
}
