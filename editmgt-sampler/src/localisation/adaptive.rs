use editmgt_core::GridSize;

use super::border::symmetric;
use super::gaussian::gaussian;
use super::rescale;

/// Radius of the window of the local variance.
const REACH: isize = 2;

/// Reduction of the smoothing where the local variance is largest.
const EDGE_SHARE: f32 = 0.7;

/// Gaussian smoothing that fades where the local variance is high.
pub(super) fn adaptive(map: &[f32], size: GridSize, sigma: f64) -> Vec<f32> {
    let mut variance = local_variance(map, size);
    rescale(&mut variance);
    let smooth = gaussian(map, size, sigma);
    let blend = |((&x, smooth), variance): ((&f32, f32), f32)| {
        let weight = 1.0 - EDGE_SHARE * variance;
        weight * smooth + (1.0 - weight) * x
    };
    map.iter().zip(smooth).zip(variance).map(blend).collect()
}

/// Population variance of the 5×5 window around each cell, symmetric borders.
fn local_variance(map: &[f32], size: GridSize) -> Vec<f32> {
    let GridSize { height, width } = size;
    let positions = (0..height as isize).flat_map(|y| (0..width as isize).map(move |x| (y, x)));
    let variance = |(y, x): (isize, isize)| {
        let rows = (-REACH..=REACH).map(|dy| symmetric(y + dy, height) * width);
        let window: Vec<f64> = rows
            .flat_map(|row| (-REACH..=REACH).map(move |dx| row + symmetric(x + dx, width)))
            .map(|cell| f64::from(map[cell]))
            .collect();
        let n = window.len() as f64;
        let mean = window.iter().sum::<f64>() / n;
        (window.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n) as f32
    };
    positions.map(variance).collect()
}
