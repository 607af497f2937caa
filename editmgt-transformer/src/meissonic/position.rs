//! Features of a cell's place in the picture, for small models.

use std::f64::consts::PI;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Int, Tensor};
use editmgt_core::{GridSize, Upload};

use crate::meissonic::memo::Memo;

/// A learned projection of a cell's place in the picture, which rotary positions have only
/// relative to the text, at the first cell.
#[derive(Module, Debug)]
pub(crate) struct PositionEmbedding {
    /// `[2 * frequencies, D]`.
    weight: Param<Tensor<2>>,
    #[module(skip)]
    features: Memo<(GridSize, Device), Tensor<2>>,
}

impl PositionEmbedding {
    pub(crate) fn new(frequencies: usize, width: usize, device: &Device) -> Self {
        let features = 2 * frequencies;
        let initializer = Initializer::KaimingUniform { gain: 1.0, fan_out_only: false };
        let weight = initializer.init_with([features, width], Some(features), None, device);
        Self { weight, features: Memo::default() }
    }

    /// What is added to the cells of a grid, `[1, N, D]`.
    pub(crate) fn forward(&self, grid: GridSize, dtype: DType) -> Tensor<3> {
        let weight = self.weight.val();
        let features = self.features(grid, &weight).cast(weight.dtype());
        features.matmul(weight).cast(dtype).unsqueeze()
    }

    /// `[N, 2 * frequencies]`, kept for the next step.
    fn features(&self, grid: GridSize, weight: &Tensor<2>) -> Tensor<2> {
        let device = weight.device();
        let compute = || {
            let [features, _] = weight.dims();
            let mut upload = Upload::default();
            let part = upload.floats(cosines(grid, features / 2));
            upload.send(&device).floats(part, [grid.len(), features])
        };
        // Devices are equal with and without autodiff, their tensors don't mix.
        if device.is_autodiff() {
            return compute();
        }
        self.features.get((grid, device.clone()), compute)
    }

    /// Of these cells, `[B, N]`, for each item of a batch: `[B, N, D]`.
    pub(crate) fn of_cells(
        &self,
        grid: GridSize,
        cells: Tensor<2, Int>,
        dtype: DType,
    ) -> Tensor<3> {
        let [batch, rows] = cells.dims();
        let all: Tensor<2> = self.forward(grid, dtype).squeeze_dim(0);
        let [_, width] = all.dims();
        all.select(0, cells.reshape([batch * rows])).reshape([batch, rows, width])
    }
}

/// For each cell, row-major: `cos(π k y)` for `k` in `1..=frequencies`, then the same of `x`, with
/// the cell's centre as shares of the picture. So "top right" is the same in all sizes.
fn cosines(grid: GridSize, frequencies: usize) -> impl Iterator<Item = f32> {
    let of = move |at: usize, length: usize| {
        let share = (at as f64 + 0.5) / length as f64;
        (1..=frequencies).map(move |k| (PI * k as f64 * share).cos() as f32)
    };
    (0..grid.len()).flat_map(move |cell| {
        of(cell / grid.width, grid.height).chain(of(cell % grid.width, grid.width))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shares_of_the_picture() {
        let of = |grid: GridSize, cell: usize| {
            cosines(grid, 2).skip(4 * cell).take(4).collect::<Vec<f32>>()
        };
        let half = std::f32::consts::FRAC_1_SQRT_2;
        // Row 1 of 2, column 0 of 1: y = 3/4, x = 1/2.
        let expected = [-half, 0.0, 0.0, -1.0];
        let got = of(GridSize::new(2, 1), 1);
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
        // The centre of a grid of any odd size.
        let (small, large) = (of(GridSize::new(3, 5), 7), of(GridSize::new(9, 7), 31));
        assert!(small.iter().zip(&large).all(|(a, b)| (a - b).abs() < 1e-6), "{small:?} {large:?}");
    }

    #[test]
    fn all_cells_differ() {
        let rows: Vec<f32> = cosines(GridSize::new(8, 8), 4).collect();
        let rows: Vec<&[f32]> = rows.chunks_exact(8).collect();
        for (i, a) in rows.iter().enumerate() {
            for b in &rows[..i] {
                assert!(a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 0.01));
            }
        }
    }
}
