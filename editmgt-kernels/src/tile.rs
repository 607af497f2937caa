//! The micro-kernel of matrix products: the sums of a tile stay in registers.
//!
//! Matrices are packed before they are multiplied, as in GotoBLAS (Goto and van de Geijn, ACM TOMS
//! 34, 2008) and BLIS (Van Zee and van de Geijn, ACM TOMS 41, 2015), so that a tile reads both
//! operands sequentially: the left one in *strips* of [`ROWS`] rows, the right one in *panels* of
//! [`COLUMNS`] columns. Both are stored step by step along the dimension that is summed over.

use pulp::{Simd, bytemuck};

use crate::number::Widen;

/// Rows of a tile. With AVX2, a row takes two registers and the sums 12 of 16: enough to hide a
/// latency of four cycles at two additions per cycle. With AVX-512 they take six: enough for one
/// addition per cycle.
pub(crate) const ROWS: usize = 6;
/// Columns of a tile.
pub(crate) const COLUMNS: usize = 16;
/// Steps per iteration of the innermost loop, which makes its overhead and alignment negligible.
const UNROLL: usize = 4;

/// One step of a strip: a value for each row.
pub(crate) type LeftStep = [f32; ROWS];
/// One step of a panel: a value for each column.
pub(crate) type RightStep = [f32; COLUMNS];
/// The sums of a tile.
pub(crate) type Tile = [RightStep; ROWS];

pub(crate) const ZEROS: Tile = [[0.0; COLUMNS]; ROWS];

/// Adds the product of a strip and a panel of the same number of steps to `sums`.
///
/// Uses fused multiply-add where the processor has it.
#[inline(always)]
pub(crate) fn add_product<S: Simd>(
    simd: S,
    strip: &[LeftStep],
    panel: &[RightStep],
    sums: &mut Tile,
) {
    match COLUMNS / S::F32_LANES {
        1 => micro_kernel::<S, 1>(simd, strip, panel, sums),
        2 => micro_kernel::<S, 2>(simd, strip, panel, sums),
        4 => micro_kernel::<S, 4>(simd, strip, panel, sums),
        _ => micro_kernel::<S, COLUMNS>(simd, strip, panel, sums),
    }
}

/// [`add_product`] with `REGISTERS` registers for each row of the tile.
#[inline(always)]
fn micro_kernel<S: Simd, const REGISTERS: usize>(
    simd: S,
    strip: &[LeftStep],
    panel: &[RightStep],
    sums: &mut Tile,
) {
    debug_assert_eq!(strip.len(), panel.len());
    let (panel, _) = bytemuck::cast_slice(panel.as_flattened()).as_chunks::<REGISTERS>();
    let (rows, _) = bytemuck::cast_slice_mut(sums.as_flattened_mut()).as_chunks_mut::<REGISTERS>();
    let mut accumulators = [[simd.splat_f32s(0.0); REGISTERS]; ROWS];
    accumulators.iter_mut().zip(rows.iter()).for_each(|(accumulators, row)| *accumulators = *row);
    let (strips, strip) = strip.as_chunks::<UNROLL>();
    let (panels, panel) = panel.as_chunks::<UNROLL>();
    for (strip, panel) in strips.iter().zip(panels) {
        for (left, right) in strip.iter().zip(panel) {
            add_step(simd, left, right, &mut accumulators);
        }
    }
    for (left, right) in strip.iter().zip(panel) {
        add_step(simd, left, right, &mut accumulators);
    }
    rows.iter_mut().zip(accumulators).for_each(|(row, accumulators)| *row = accumulators);
}

/// One step. A function because `inline(always)` doesn't apply to closures.
#[inline(always)]
fn add_step<S: Simd, const REGISTERS: usize>(
    simd: S,
    left: &LeftStep,
    right: &[S::f32s; REGISTERS],
    accumulators: &mut [[S::f32s; REGISTERS]; ROWS],
) {
    for (accumulators, &left) in accumulators.iter_mut().zip(left) {
        let left = simd.splat_f32s(left);
        for (accumulators, &right) in accumulators.iter_mut().zip(right) {
            *accumulators = simd.mul_add_e_f32s(left, right, *accumulators);
        }
    }
}

/// Packs a matrix whose rows are the steps: the first `N` values of each. Where a row is shorter,
/// `to` keeps its values.
#[inline(always)]
pub(crate) fn pack<'a, W: Widen + 'a, const N: usize>(
    to: &mut [[f32; N]],
    rows: impl Iterator<Item = &'a [W]>,
) {
    for (step, row) in to.iter_mut().zip(rows) {
        match row.first_chunk::<N>() {
            Some(values) => W::widen(values, step),
            None => W::widen(row, &mut step[..row.len()]),
        }
    }
}

/// Packs up to `N` rows of a matrix whose columns are the steps. Where there are fewer rows, `to`
/// keeps its values.
#[inline(always)]
pub(crate) fn pack_transposed<'a, const N: usize>(
    to: &mut [[f32; N]],
    rows: impl Iterator<Item = &'a [f32]>,
) {
    for (index, row) in rows.take(N).enumerate() {
        to.iter_mut().zip(row).for_each(|(step, &x)| step[index] = x);
    }
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::lanes::dispatch;

    struct Product<'a>(&'a [LeftStep], &'a [RightStep], &'a mut Tile);

    impl WithSimd for Product<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            add_product(simd, self.0, self.1, self.2);
        }
    }

    /// Small integers, whose sums are exact; with this processor's registers and without SIMD.
    #[test]
    fn sums_equal_the_exact_product() {
        for steps in [0, 1, 7, 300] {
            let value = |a: usize, b: usize| ((a * 31 + b * 17) % 23) as f32 - 11.0;
            let strip: Vec<LeftStep> =
                (0..steps).map(|k| std::array::from_fn(|row| value(k, row))).collect();
            let panel: Vec<RightStep> =
                (0..steps).map(|k| std::array::from_fn(|column| value(column, k))).collect();
            let start: Tile =
                std::array::from_fn(|row| std::array::from_fn(|column| (row * 16 + column) as f32));
            let expected = std::array::from_fn(|row| {
                std::array::from_fn(|column| {
                    let products = strip.iter().zip(&panel).map(|(l, r)| l[row] * r[column]);
                    start[row][column] + products.sum::<f32>()
                })
            });
            let mut sums = start;
            dispatch(Product(&strip, &panel, &mut sums));
            assert_eq!(sums, expected);
            let mut sums = start;
            Product(&strip, &panel, &mut sums).with_simd(pulp::Scalar::new());
            assert_eq!(sums, expected);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx2_and_avx512_give_the_same_sums() {
        use pulp::x86::{V3, V4};

        let value = |a: usize, b: usize| (((a * 31 + b * 17) % 101) as f32).sqrt() - 5.0;
        let strip: Vec<LeftStep> =
            (0..301).map(|k| std::array::from_fn(|row| value(k, row))).collect();
        let panel: Vec<RightStep> =
            (0..301).map(|k| std::array::from_fn(|column| value(column, k))).collect();
        let (mut avx2, mut avx512, mut best) = (ZEROS, ZEROS, ZEROS);
        dispatch(Product(&strip, &panel, &mut best));
        if let Some(simd) = V3::try_new() {
            Simd::vectorize(simd, Product(&strip, &panel, &mut avx2));
            assert_eq!(avx2, best);
        }
        if let Some(simd) = V4::try_new() {
            Simd::vectorize(simd, Product(&strip, &panel, &mut avx512));
            assert_eq!(avx512, best);
        }
    }
}
