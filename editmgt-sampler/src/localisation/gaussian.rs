use editmgt_core::GridSize;

use super::border::symmetric;

/// Radius of scipy's kernel, in standard deviations.
const TRUNCATE: f64 = 4.0;

/// Gaussian filter with symmetric borders, rows first; f64 sums, f32 between the two passes, as
/// scipy's `gaussian_filter`.
pub(super) fn gaussian(map: &[f32], size: GridSize, sigma: f64) -> Vec<f32> {
    let radius = (TRUNCATE * sigma + 0.5) as isize;
    let weight = |k: isize| (-0.5 * (k * k) as f64 / (sigma * sigma)).exp();
    let total: f64 = (-radius..=radius).map(weight).sum();
    let kernel: Vec<f64> = (-radius..=radius).map(|k| weight(k) / total).collect();

    let GridSize { height, width } = size;
    let pass = |from: &[f32], source: &dyn Fn(usize, usize, isize) -> usize| -> Vec<f32> {
        let positions = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        let filtered = positions.map(|(y, x)| {
            let taps = kernel.iter().zip(-radius..);
            taps.map(|(weight, k)| weight * f64::from(from[source(y, x, k)])).sum::<f64>() as f32
        });
        filtered.collect()
    };
    let down = pass(map, &|y, x, k| symmetric(y as isize + k, height) * width + x);
    pass(&down, &|y, x, k| y * width + symmetric(x as isize + k, width))
}
