use editmgt_core::GridSize;

use super::border::{disk, reflect_101};

/// Bilateral filter on bytes, as OpenCV's `bilateralFilter` on 8-bit images: values in 0..1 are
/// truncated to bytes, weights are f32, the window is a disk, results are rounded half to even.
///
/// `sigma` is both the spatial σ, in cells, and that of the values, in 1/255. With a `diameter` of
/// 0, the window is derived from `sigma`.
pub(super) fn bilateral(map: &[f32], size: GridSize, diameter: usize, sigma: f64) -> Vec<f32> {
    let radius =
        if diameter == 0 { (1.5 * sigma).round_ties_even() as usize } else { diameter / 2 };
    let gaussian = |distance: f64| (-0.5 * distance * distance / (sigma * sigma)).exp() as f32;
    let by_difference: Vec<f32> = (0..=255).map(|difference| gaussian(difference.into())).collect();
    let window: Vec<(isize, isize, f32)> = disk(radius.max(1))
        .into_iter()
        .map(|(dy, dx)| (dy, dx, gaussian(((dy * dy + dx * dx) as f64).sqrt())))
        .collect();

    // `as` saturates, so values outside 0..1 don't wrap around.
    let bytes: Vec<u8> = map.iter().map(|&v| (v * 255.0) as u8).collect();
    let GridSize { height, width } = size;
    let positions = (0..height as isize).flat_map(|y| (0..width as isize).map(move |x| (y, x)));
    let filtered = |(y, x): (isize, isize)| {
        let centre = bytes[y as usize * width + x as usize];
        let (mut sum, mut weights) = (0.0f32, 0.0f32);
        for &(dy, dx, by_distance) in &window {
            let value = bytes[reflect_101(y + dy, height) * width + reflect_101(x + dx, width)];
            let weight = by_distance * by_difference[usize::from(value.abs_diff(centre))];
            sum += f32::from(value) * weight;
            weights += weight;
        }
        (sum / weights).round_ties_even() / 255.0
    };
    positions.map(filtered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bilateral_equals_opencv() {
        // cv2.bilateralFilter on the same 5×9 map, truncated to bytes: diameters 9, 4 and 0.
        let size = GridSize::new(5, 9);
        let value = |i: usize| {
            let (y, x) = (i / size.width, i % size.width);
            ((3 * y * y + 7 * x * x + 5 * y * x) % 23) as f32 / 22.0
        };
        let map: Vec<f32> = (0..size.len()).map(value).collect();
        for (strength, first_row, last_row) in [
            (
                1.0,
                [60, 97, 82, 173, 186, 155, 197, 194, 132],
                [63, 87, 53, 114, 116, 58, 90, 57, 113],
            ),
            (
                0.5,
                [31, 67, 67, 195, 224, 177, 234, 240, 131],
                [34, 57, 29, 132, 112, 20, 44, 22, 147],
            ),
            (
                0.1,
                [8, 79, 61, 198, 230, 163, 252, 238, 128],
                [23, 70, 13, 116, 116, 12, 70, 23, 139],
            ),
        ] {
            let filtered = bilateral(&map, size, (9.0 * strength) as usize, 75.0 * strength);
            let bytes: Vec<i32> = filtered.iter().map(|v| (v * 255.0).round() as i32).collect();
            assert_eq!(bytes[..9], first_row, "strength {strength}");
            assert_eq!(bytes[36..], last_row, "strength {strength}");
        }
    }
}
