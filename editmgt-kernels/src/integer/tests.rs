use burn::tensor::bf16;

use super::*;
use crate::blocks::{COLUMN_BLOCK, ROW_BLOCK};
use crate::intrinsics::{Dot, Tiles};
use crate::matrix::Dense;
use crate::testing::random;

/// The numbers of the deepest [`blocks::Kernel::depth_block`].
const DEEP: usize = 32 * STEPS * DEPTH;

fn values(count: usize, seed: u32) -> Vec<f32> {
    random([count], seed).try_into_vec_as::<f32>().unwrap()
}

/// Every implementation that this processor can run, `None` for that without instructions for int8.
fn kernels() -> Vec<Option<Kernel>> {
    let dots = [Int8Dot::detect(), Int8Dot::detect_256()].into_iter().flatten().map(Kernel::Dot);
    let tiles = Int8Tiles::detect().map(Kernel::Tiles);
    tiles.into_iter().chain(dots).map(Some).chain([None]).collect()
}

fn with<M: Matrix>(
    kernel: Option<Kernel>,
    left: &[f32],
    right: &M,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let packed = PackedInt8::with(kernel, right);
    let rows = Rows::new(left, right.sizes()[0]);
    product(left, &rows, right, Some(&packed), bias, |_| panic!("no row has a peak"))
}

/// The integers of the rows of `values`, and the scale of each row.
fn rounded(values: &[f32], inputs: usize) -> (Vec<i64>, Vec<f32>) {
    let (mut integers, mut scales) = (Vec::new(), Vec::new());
    for row in values.chunks_exact(inputs) {
        let scale = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs())) / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        integers.extend(row.iter().map(|x| (x * inverse).round_ties_even() as i64));
        scales.push(scale);
    }
    (integers, scales)
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns)).copied().collect()
}

/// What [`product`] is: exact sums of integers, times their scales.
fn expected(
    left: &[f32],
    right: &[f32],
    [inputs, outputs]: [usize; 2],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let (rows, of_rows) = rounded(left, inputs);
    let (columns, of_columns) = rounded(&transposed(right, outputs), inputs);
    let mut out = Vec::new();
    for (row, of_row) in rows.chunks_exact(inputs).zip(of_rows) {
        for (index, (column, of_column)) in
            columns.chunks_exact(inputs).zip(&of_columns).enumerate()
        {
            let sum: i64 = row.iter().zip(column).map(|(x, y)| x * y).sum();
            out.push(sum as f32 * (of_row * of_column) + bias.map_or(0.0, |bias| bias[index]));
        }
    }
    out
}

/// Sizes around the edges of tiles, strips, panels, steps and blocks. Sums of fewer than 1,040
/// products are below 2^24, and so the same bits in f32.
#[test]
fn every_implementation_gives_the_same_bits() {
    let inputs = [1, 3, 4, 5, 63, 65, 1000];
    let outputs = [1, COLUMNS - 1, COLUMNS, COLUMNS + 1, COLUMN_BLOCK + 17];
    for rows in [0, 1, 11, 12, 13, 31, 33, ROW_BLOCK + 5] {
        for sizes @ [inputs, outputs] in
            inputs.into_iter().flat_map(|inputs| outputs.map(|outputs| [inputs, outputs]))
        {
            let (left, right) = (values(rows * inputs, 1), values(inputs * outputs, 2));
            let (bias, matrix) = (values(outputs, 3), Dense::new(&right, sizes));
            for bias in [None, Some(&bias[..])] {
                let expected = expected(&left, &right, sizes, bias);
                for kernel in kernels() {
                    let got = with(kernel, &left, &matrix, bias);
                    assert!(got == expected, "{kernel:?}: {rows} rows, {sizes:?}");
                }
            }
        }
    }
}

/// Beyond a block of the depth, and the largest sums.
#[test]
fn long_sums_are_exact() {
    let (rows, inputs, outputs) = (35, 2 * DEEP + 7, 40);
    let (left, right) = (vec![1.0; rows * inputs], vec![-2.0; inputs * outputs]);
    for kernel in kernels() {
        let got = with(kernel, &left, &Dense::new(&right, [inputs, outputs]), None);
        let expected = -2.0 * inputs as f32;
        assert!(got.iter().all(|x| (x / expected - 1.0).abs() < 1e-6), "{kernel:?}: {}", got[0]);
    }
}

#[test]
fn weights_in_half_precision_are_read() {
    let (left, right) = (values(5 * 70, 1), values(70 * 50, 2));
    let narrow: Vec<bf16> = right.iter().map(|&x| bf16::from_f32(x)).collect();
    let wide: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
    let got = with(Kernel::detect(), &left, &Dense::new(&narrow, [70, 50]), None);
    assert!(got == expected(&left, &wide, [70, 50], None));
}

#[test]
fn zeros_and_the_smallest_numbers_are_zero() {
    for x in [0.0, -0.0, 1e-45, -1e-40] {
        for kernel in kernels() {
            let right = values(40 * 33, 1);
            let got = with(kernel, &[x; 2 * 40], &Dense::new(&right, [40, 33]), None);
            assert!(got.iter().all(|x| x.abs() < 1e-36), "{kernel:?}: {got:?}");
            let got = with(kernel, &right, &Dense::new(&[x; 40 * 5], [40, 5]), None);
            assert!(got.iter().all(|x| x.abs() < 1e-36), "{kernel:?}: {got:?}");
        }
    }
}

#[test]
fn numbers_that_are_not_finite_make_their_row_and_column_nan() {
    let (rows, inputs, outputs) = (35, 37, COLUMNS + 5);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for kernel in kernels() {
            let (mut left, mut right) = (values(rows * inputs, 1), values(inputs * outputs, 2));
            left[2 * inputs + 36] = bad;
            let got = with(kernel, &left, &Dense::new(&right, [inputs, outputs]), None);
            for (index, x) in got.iter().enumerate() {
                assert_eq!(x.is_nan(), index / outputs == 2, "{kernel:?}, {bad}, {index}: {x}");
            }
            right[36 * outputs + 33] = bad;
            left[2 * inputs + 36] = 1.0;
            let got = with(kernel, &left, &Dense::new(&right, [inputs, outputs]), None);
            for (index, x) in got.iter().enumerate() {
                assert_eq!(x.is_nan(), index % outputs == 33, "{kernel:?}, {bad}, {index}: {x}");
            }
        }
    }
}

/// Relative to the root mean square of `expected`.
fn error(got: &[f32], expected: &[f32]) -> f64 {
    let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
    let differences = got.iter().zip(expected).map(|(a, b)| f64::from(a - b));
    let differences = squares(&mut { differences });
    (differences / squares(&mut expected.iter().map(|x| f64::from(*x)))).sqrt()
}

/// The full width, with channels that are a hundred times as large as the others in every row, as
/// those of trained transformers can be: in int8 alone the others would be lost.
#[test]
fn outlier_channels_cost_no_precision() {
    const WIDTH: usize = 1024;
    let plain = values(24 * WIDTH, 1);
    for outliers in [1, 3, 12] {
        let (mut left, mut right) = (plain.clone(), values(WIDTH * 256, 2));
        // What the others give is as much of the result as what the outliers give, or more.
        for channel in (5..WIDTH).step_by(83).take(outliers) {
            left.iter_mut().skip(channel).step_by(WIDTH).for_each(|x| *x = 100.0f32.copysign(*x));
            right[channel * 256..][..256].iter_mut().for_each(|x| *x *= 0.01);
        }
        let matrix = Dense::new(&right, [WIDTH, 256]);
        let exact = product::product(&left, &matrix, None);
        let in_bf16 = |left: &[f32]| crate::narrow::product(left, &matrix, None, None);
        let rows = Rows::new(&left, WIDTH);
        assert!(rows.are_peaked());
        let got = error(&product(&left, &rows, &matrix, None, None, in_bf16), &exact);
        assert!(got < 5e-3, "{outliers}: {got}");

        let in_int8 = PackedInt8::new(&matrix).product(&left, &matrix, &rows.0, None);
        assert!(error(&in_int8, &exact) > 0.1, "{outliers}: {}", error(&in_int8, &exact));
    }

    // Without them int8 is as good as its 255 values are.
    let right = values(WIDTH * 256, 2);
    let matrix = Dense::new(&right, [WIDTH, 256]);
    let exact = product::product(&plain, &matrix, None);
    let error = error(&with(Kernel::detect(), &plain, &matrix, None), &exact);
    assert!(error < 1e-2, "{error}");
}

/// A row's result doesn't depend on the others: neither on whether they have peaks, nor on their
/// number, nor on threads.
#[test]
fn rows_do_not_depend_on_each_other() {
    let (inputs, outputs) = (DEEP + 70, 3 * COLUMN_BLOCK + 5);
    let (mut left, right) = (values(700 * inputs, 1), values(inputs * outputs, 2));
    for row in [3, 50] {
        left[row * inputs] = 1e4;
    }
    let matrix = Dense::new(&right, [inputs, outputs]);
    let of = |rows: std::ops::Range<usize>, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let left = &left[rows.start * inputs..rows.end * inputs];
        let in_bf16 = |left: &[f32]| crate::narrow::product(left, &matrix, None, None);
        pool.install(|| product(left, &Rows::new(left, inputs), &matrix, None, None, in_bf16))
    };
    let all = of(0..700, 1);
    for rows in [0..700, 0..ROW_BLOCK, 0..20, 3..4, 0..3, 699..700] {
        let same = &all[rows.start * outputs..rows.end * outputs];
        assert!(of(rows.clone(), 3) == same, "{rows:?}");
    }
}
