use editmgt_core::GridSize;

/// The sharpness of the cubic kernel that torch uses.
const A: f32 = -0.75;

/// Bicubic interpolation (kernel a = -0.75, corners not aligned, edges repeated) of the cells of a
/// map to tokens. Values may leave the map's range by a little.
///
/// If each cell covers f×f tokens and the last one maybe fewer, which is how the model downsamples,
/// the positions of tokens are exact; otherwise the map is stretched.
pub(super) fn bicubic(map: Vec<f32>, from: GridSize, to: GridSize) -> Vec<f32> {
    if from == to {
        return map;
    }
    let (rows, columns) = (taps(from.height, to.height), taps(from.width, to.width));
    // Along rows first, then along columns: torch's order.
    let wide: Vec<f32> = map
        .chunks_exact(from.width)
        .flat_map(|row| columns.iter().map(move |taps| taps.sum(|cell| row[cell])))
        .collect();
    rows.iter()
        .flat_map(|taps| {
            let wide = &wide;
            (0..to.width).map(move |x| taps.sum(|cell| wide[cell * to.width + x]))
        })
        .collect()
}

/// The four cells that a token reads along one axis, and their weights.
struct Taps {
    cells: [usize; 4],
    weights: [f32; 4],
}

impl Taps {
    fn sum(&self, value: impl Fn(usize) -> f32) -> f32 {
        self.cells.iter().zip(self.weights).map(|(&cell, weight)| value(cell) * weight).sum()
    }
}

/// The taps of each of `tokens` positions along an axis of `cells`.
fn taps(cells: usize, tokens: usize) -> Vec<Taps> {
    let factor = tokens.div_ceil(cells);
    let cells_per_token = if tokens.div_ceil(factor) == cells {
        1.0 / factor as f32
    } else {
        cells as f32 / tokens as f32
    };
    let last = cells as isize - 1;
    let taps = |token: usize| {
        let position = (token as f32 + 0.5) * cells_per_token - 0.5;
        let first = position.floor() as isize - 1;
        Taps {
            cells: [0, 1, 2, 3].map(|i| (first + i).clamp(0, last) as usize),
            weights: weights(position - position.floor()),
        }
    };
    (0..tokens).map(taps).collect()
}

/// The cubic kernel at the four cells around a position `t` (0..1) past the second.
fn weights(t: f32) -> [f32; 4] {
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(map: &[f32], tokens: usize) -> Vec<f32> {
        bicubic(map.to_vec(), GridSize::new(map.len(), 1), GridSize::new(tokens, 1))
    }

    #[test]
    fn weights_sum_to_one() {
        for t in [0.0, 0.25, 0.5, 0.9] {
            // Four products of numbers of about 1.
            assert!((weights(t).iter().sum::<f32>() - 1.0).abs() < 1e-6, "{t}");
        }
        assert_eq!(weights(0.0), [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn an_incomplete_last_cell_does_not_move_tokens() {
        // 15 tokens under 8 cells of two: the same tokens as 16, the last one left out.
        let map: Vec<f32> = (0..8).map(|i| ((i * i) % 5) as f32).collect();
        for (tokens, whole) in [(15, 16), (22, 24), (30, 32)] {
            assert_eq!(column(&map, tokens), column(&map, whole)[..tokens]);
        }
    }

    #[test]
    fn transposing_commutes_with_interpolation() {
        let (from, to) = (GridSize::new(3, 5), GridSize::new(6, 15));
        let map: Vec<f32> = (0..15).map(|i| ((i * i) % 7) as f32).collect();
        let transpose = |map: &[f32], size: GridSize| -> Vec<f32> {
            (0..size.len()).map(|i| map[i % size.height * size.width + i / size.height]).collect()
        };
        let flip = |size: GridSize| GridSize::new(size.width, size.height);
        let there = transpose(&bicubic(map.clone(), from, to), to);
        let back = bicubic(transpose(&map, from), flip(from), flip(to));
        let largest = there.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The two orders of summation round differently; the values are below 7.
        assert!(largest < 1e-5, "{largest}");
    }

    #[test]
    fn constant_maps_stay_constant_for_any_size() {
        for (cells, tokens) in [(1, 1), (1, 5), (2, 7), (4, 3), (32, 48), (5, 1)] {
            let got = column(&vec![0.5; cells], tokens);
            assert_eq!(got.len(), tokens);
            assert!(got.iter().all(|v| (v - 0.5).abs() < 1e-6), "{cells} to {tokens}: {got:?}");
        }
    }
}
