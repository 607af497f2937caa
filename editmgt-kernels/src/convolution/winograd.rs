//! Winograd's form of a 3x3 convolution without stride, F(2x2, 3x3).
//!
//! Of each 2x2 pixels of the result, and the 4x4 of the image that they depend on, both sides are
//! turned into 16 numbers whose products, summed over the channels, are the result, turned likewise:
//! 16 products where 4 pixels times 9 places are 36 (Lavin and Gray, arXiv 1509.09308). Turning takes
//! sums alone, halves of them for the weights; in f32 the result is as near to the exact one as that
//! of the sum of 9 (a test says so).

use rayon::prelude::*;

use super::{Geometry, Task};
use crate::lanes::vectorised;
use crate::product::{Start, Strips};
use crate::tile::Right;

/// Numbers that a tile is turned into.
const PLACES: usize = 16;
/// Tiles that are multiplied at a time, by each thread: what they are turned into stays in cache.
const TILES: usize = 256;

/// Whether this form fits, and its products are large enough to outweigh the turning.
pub(super) fn pays(geometry: &Geometry) -> bool {
    let Geometry { channels, kernel, stride, out_channels, out_size, .. } = *geometry;
    kernel == [3, 3]
        && stride == [1, 1]
        && channels.min(out_channels) >= 16
        && out_size[0] * out_size[1] >= 1024
}

/// Adds the convolution to `out`.
pub(super) fn run(geometry: &Geometry, images: &[f32], weight: &[f32], out: &mut [f32]) {
    let Geometry { channels, out_channels, out_size: [_, out_width], .. } = *geometry;
    let turned = turn_weights(weight, channels, out_channels);
    let turned = turned.chunks_exact(out_channels * channels);
    let turned: Vec<Strips> = turned.map(|weights| Strips::new(weights, channels)).collect();
    let columns = out_width.div_ceil(2);
    let lines = (TILES / columns).max(1);

    let tasks = geometry.tasks(images, out, 2 * lines);
    tasks.into_par_iter().for_each_init(Buffers::default, |buffers, task| {
        let Buffers { places, products, panels } = buffers;
        let tiles = task.planes[0].len().div_ceil(out_width).div_ceil(2) * columns;
        places.resize(PLACES * channels * tiles, 0.0);
        products.resize(PLACES * out_channels * tiles, 0.0);
        turn_image(geometry, &task, columns, tiles, places);
        let (images, made) = (
            places.chunks_exact(channels * tiles),
            products.chunks_exact_mut(out_channels * tiles),
        );
        for ((weights, image), made) in turned.iter().zip(images).zip(made) {
            let mut rows: Vec<&mut [f32]> = made.chunks_exact_mut(tiles).collect();
            weights.multiply(image, tiles, &mut rows, Start::From(None), panels);
        }
        turn_back(task, columns, tiles, out_width, products);
    });
}

/// What a thread needs for a task, and again for the next one.
#[derive(Default)]
struct Buffers {
    /// `[16, C, tiles]`.
    places: Vec<f32>,
    /// `[16, C', tiles]`.
    products: Vec<f32>,
    panels: Vec<Right>,
}

/// `G g Gᵀ` of each 3x3 kernel: `[C', C, 3, 3]` to `[16, C', C]`.
fn turn_weights(weight: &[f32], channels: usize, out_channels: usize) -> Vec<f32> {
    fn turn([a, b, c]: [f32; 3]) -> [f32; 4] {
        [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c]
    }
    let pairs = out_channels * channels;
    let mut turned = vec![0.0; PLACES * pairs];
    let mut planes: Vec<&mut [f32]> = turned.chunks_exact_mut(pairs).collect();
    let (kernels, _) = weight.as_chunks::<9>();
    for (pair, &[a, b, c, d, e, f, g, h, i]) in kernels.iter().enumerate() {
        let columns = [turn([a, d, g]), turn([b, e, h]), turn([c, f, i])];
        for down in 0..4 {
            let row = turn([columns[0][down], columns[1][down], columns[2][down]]);
            for right in 0..4 {
                planes[4 * down + right][pair] = row[right];
            }
        }
    }
    turned
}

/// `Bᵀ d B` of each 4x4 tile of the image: `[16, C, tiles]`.
#[inline(never)]
fn turn_image(
    geometry: &Geometry,
    task: &Task<'_>,
    columns: usize,
    tiles: usize,
    places: &mut [f32],
) {
    let channels = geometry.channels;
    let left = geometry.before[1];
    let padded = 2 * columns + 2;
    let mut rows = vec![0.0; 4 * padded];
    let mut down = vec![0.0; 4 * padded];
    let mut planes: Vec<&mut [f32]> = places.chunks_exact_mut(channels * tiles).collect();
    vectorised(|| {
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
    });
}

/// Adds `Aᵀ m A` of each tile to the task's rows: `[16, C', tiles]`.
#[inline(never)]
fn turn_back(task: Task<'_>, columns: usize, tiles: usize, out_width: usize, products: &[f32]) {
    let products: Vec<&[f32]> = products.chunks_exact(products.len() / PLACES).collect();
    let (by_row, _) = products.as_chunks::<4>();
    // Both rows of a line of tiles, for each of the four columns of a tile; then the pixels.
    let mut upper = vec![0.0; 4 * columns];
    let mut lower = vec![0.0; 4 * columns];
    let mut pixels = vec![0.0; 2 * columns];
    vectorised(|| {
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
    });
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
    use crate::convolution::{Form, patches};
    use crate::testing::random;

    /// Both forms against sums in f64.
    #[test]
    fn it_is_as_exact_as_patches() {
        let geometry = Geometry {
            channels: 48,
            size: [34, 37],
            kernel: [3, 3],
            stride: [1, 1],
            before: [1, 1],
            out_channels: 16,
            out_size: [34, 37],
        };
        assert!(pays(&geometry));
        let numbers = |count, seed| random([count], seed).try_into_vec_as::<f32>().unwrap();
        let (image, weight) = (numbers(48 * 34 * 37, 1), numbers(16 * 48 * 9, 2));
        let bias: Vec<f32> = (0..16).map(|channel| channel as f32 / 4.0).collect();
        let error = |form: Form| {
            let mut out: Vec<f32> = bias.iter().flat_map(|&bias| vec![bias; 34 * 37]).collect();
            form(&geometry, &image, &weight, &mut out);
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
        let (own, direct) = (error(run), error(patches::run));
        // Results of about 14; the sums are shorter here.
        assert!(direct < 6e-6 && own < 1.2 * direct, "{own:e} beside {direct:e}");
    }
}
