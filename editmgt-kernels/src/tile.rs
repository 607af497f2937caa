//! The product that all others are made of: its sums stay in the processor's registers.
//!
//! As in BLIS (Van Zee and van de Geijn, ACM TOMS 41, 2015), matrices are laid out before they are
//! multiplied, so that a tile reads both of its operands from front to back: the left one in *strips* of
//! [`ROWS`] rows, the right one in *panels* of [`COLUMNS`] columns, each of them step by step along the
//! dimension that is summed over.

use pulp::{Arch, Simd, WithSimd, bytemuck};

use crate::number::Number;

/// Rows of a tile. With two registers of AVX2 for a row, the sums are 12 of its 16 registers: enough of
/// them for a processor that starts two of these additions in each cycle and ends them four later. With one
/// of AVX-512, they are six: enough where one starts in each cycle.
pub(crate) const ROWS: usize = 6;
pub(crate) const COLUMNS: usize = 16;
/// Steps of the innermost loop: so many that neither its own instructions nor its place in memory count.
const UNROLLED: usize = 4;

/// One step of a strip: a number of each row.
pub(crate) type Left = [f32; ROWS];
/// One step of a panel: a number of each column.
pub(crate) type Right = [f32; COLUMNS];
pub(crate) type Tile = [Right; ROWS];

pub(crate) const ZEROS: Tile = [[0.0; COLUMNS]; ROWS];

/// Runs `work` as compiled for the best instructions that the processor has, which it is told.
pub(crate) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    Arch::new().dispatch(work)
}

/// Adds to `sums` the product of a strip and a panel of as many steps.
///
/// Products and sums are contracted into one rounding where the processor has an instruction for it.
#[inline(always)]
pub(crate) fn add_product<S: Simd>(simd: S, strip: &[Left], panel: &[Right], sums: &mut Tile) {
    match COLUMNS / S::F32_LANES {
        1 => in_registers::<S, 1>(simd, strip, panel, sums),
        2 => in_registers::<S, 2>(simd, strip, panel, sums),
        4 => in_registers::<S, 4>(simd, strip, panel, sums),
        _ => in_registers::<S, COLUMNS>(simd, strip, panel, sums),
    }
}

/// `REGISTERS` hold a row.
#[inline(always)]
fn in_registers<S: Simd, const REGISTERS: usize>(
    simd: S,
    strip: &[Left],
    panel: &[Right],
    sums: &mut Tile,
) {
    debug_assert_eq!(strip.len(), panel.len());
    let (panel, _) = bytemuck::cast_slice(panel.as_flattened()).as_chunks::<REGISTERS>();
    let (rows, _) = bytemuck::cast_slice_mut(sums.as_flattened_mut()).as_chunks_mut::<REGISTERS>();
    let mut held = [[simd.splat_f32s(0.0); REGISTERS]; ROWS];
    held.iter_mut().zip(rows.iter()).for_each(|(held, row)| *held = *row);
    let (strips, strip) = strip.as_chunks::<UNROLLED>();
    let (panels, panel) = panel.as_chunks::<UNROLLED>();
    for (strip, panel) in strips.iter().zip(panels) {
        for (left, right) in strip.iter().zip(panel) {
            add_step(simd, left, right, &mut held);
        }
    }
    for (left, right) in strip.iter().zip(panel) {
        add_step(simd, left, right, &mut held);
    }
    rows.iter_mut().zip(held).for_each(|(row, held)| *row = held);
}

/// A function, since what must be compiled for the processor must be inlined, which no closure can be told.
#[inline(always)]
fn add_step<S: Simd, const REGISTERS: usize>(
    simd: S,
    left: &Left,
    right: &[S::f32s; REGISTERS],
    held: &mut [[S::f32s; REGISTERS]; ROWS],
) {
    for (held, &left) in held.iter_mut().zip(left) {
        let left = simd.splat_f32s(left);
        for (held, &right) in held.iter_mut().zip(right) {
            *held = simd.mul_add_e_f32s(left, right, *held);
        }
    }
}

/// Lays out a matrix whose rows are the steps: each gives its first `N` numbers. Places that a shorter
/// row doesn't reach keep theirs.
#[inline(always)]
pub(crate) fn pack<'a, W: Number + 'a, const N: usize>(
    to: &mut [[f32; N]],
    rows: impl Iterator<Item = &'a [W]>,
) {
    for (step, row) in to.iter_mut().zip(rows) {
        match row.first_chunk::<N>() {
            Some(numbers) => W::widen(numbers, step),
            None => W::widen(row, &mut step[..row.len()]),
        }
    }
}

/// Lays out a matrix whose columns are the steps, of up to `N` rows. The places of others keep their
/// numbers.
#[inline(always)]
pub(crate) fn pack_turned<'a, const N: usize>(
    to: &mut [[f32; N]],
    rows: impl Iterator<Item = &'a [f32]>,
) {
    for (place, row) in rows.take(N).enumerate() {
        to.iter_mut().zip(row).for_each(|(step, &x)| step[place] = x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Product<'a>(&'a [Left], &'a [Right], &'a mut Tile);

    impl WithSimd for Product<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            add_product(simd, self.0, self.1, self.2);
        }
    }

    /// Small integers, whose sums are exact: on this processor's registers, and on none.
    #[test]
    fn adds_the_product() {
        for steps in [0, 1, 7, 300] {
            let number = |a: usize, b: usize| ((a * 31 + b * 17) % 23) as f32 - 11.0;
            let strip: Vec<Left> =
                (0..steps).map(|k| std::array::from_fn(|row| number(k, row))).collect();
            let panel: Vec<Right> =
                (0..steps).map(|k| std::array::from_fn(|column| number(column, k))).collect();
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

    /// Which of AVX2 and AVX-512 it is, the numbers are the same.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn wider_registers_change_nothing() {
        use pulp::x86::{V3, V4};

        let number = |a: usize, b: usize| (((a * 31 + b * 17) % 101) as f32).sqrt() - 5.0;
        let strip: Vec<Left> =
            (0..301).map(|k| std::array::from_fn(|row| number(k, row))).collect();
        let panel: Vec<Right> =
            (0..301).map(|k| std::array::from_fn(|column| number(column, k))).collect();
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
