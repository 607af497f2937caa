use image::RgbImage;

use super::sizes::check_sizes;
use crate::EvalError;

/// Pixels on each side of the window: the 11-tap Gaussian of Wang et al. (2004).
pub const SSIM_WINDOW: usize = 11;
const RADIUS: usize = SSIM_WINDOW / 2;
/// Its deviation, pixels.
const SIGMA: f64 = 1.5;
/// (0.01 * 255)^2 and (0.03 * 255)^2, of the same paper.
const C1: f64 = 6.5025;
const C2: f64 = 58.5225;

/// Structural similarity around each pixel, row-major, -1..=1, the mean of the three channels;
/// `None` within 5 pixels of the border, where the window does not fit.
///
/// Source: Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from
/// error visibility to structural similarity", 2004, with its Gaussian window and population
/// variances. Libraries return one number per image pair, or use other windows; masked means
/// require the map.
///
/// # Errors
/// [`EvalError::Size`] when the two differ in size.
pub fn ssim_map(image: &RgbImage, reference: &RgbImage) -> Result<Vec<Option<f64>>, EvalError> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    check_sizes(image, reference, None)?;
    let mut map = vec![None; width * height];
    if width < SSIM_WINDOW || height < SSIM_WINDOW {
        return Ok(map);
    }
    let inner = width - 2 * RADIUS;
    for channel in 0..3 {
        let plane = |image: &RgbImage| {
            image.as_raw().iter().skip(channel).step_by(3).map(|&v| f64::from(v)).collect()
        };
        let (a, b): (Vec<f64>, Vec<f64>) = (plane(image), plane(reference));
        let mean = |value: &dyn Fn(usize) -> f64| blur((0..a.len()).map(value).collect(), width);
        let (mean_a, mean_b) = (mean(&|i| a[i]), mean(&|i| b[i]));
        let (aa, bb) = (mean(&|i| a[i] * a[i]), mean(&|i| b[i] * b[i]));
        let ab = mean(&|i| a[i] * b[i]);
        for i in 0..ab.len() {
            let (x, y) = (mean_a[i], mean_b[i]);
            let (variances, covariance) = (aa[i] - x * x + bb[i] - y * y, ab[i] - x * y);
            let above = (2.0 * x * y + C1) * (2.0 * covariance + C2);
            let below = (x * x + y * y + C1) * (variances + C2);
            let position = (i / inner + RADIUS) * width + i % inner + RADIUS;
            *map[position].get_or_insert(0.0) += above / below / 3.0;
        }
    }
    Ok(map)
}

/// Gaussian means at the pixels whose window fits.
fn blur(plane: Vec<f64>, width: usize) -> Vec<f64> {
    let weight = |i: usize| (-0.5 * ((i as f64 - RADIUS as f64) / SIGMA).powi(2)).exp();
    let sum: f64 = (0..SSIM_WINDOW).map(weight).sum();
    let kernel: [f64; SSIM_WINDOW] = std::array::from_fn(|i| weight(i) / sum);
    let dot = |values: &mut dyn Iterator<Item = f64>| -> f64 {
        values.zip(kernel).map(|(value, weight)| value * weight).sum()
    };
    let rows: Vec<f64> = plane
        .chunks(width)
        .flat_map(|row| row.windows(SSIM_WINDOW))
        .map(|window| dot(&mut window.iter().copied()))
        .collect();
    let inner = width - 2 * RADIUS;
    let positions = 0..rows.len() - 2 * RADIUS * inner;
    positions.map(|i| dot(&mut rows[i..].iter().copied().step_by(inner))).collect()
}
