use burn::tensor::bf16;

use super::*;
use crate::blocks::{COLUMN_BLOCK, ROW_BLOCK};
use crate::intrinsics::{Dot, Tiles};
use crate::matrix::Dense;
use crate::testing::random;

/// The numbers of the deepest [`blocks::Kernel::depth_block`].
const DEEP: usize = 32 * STEPS * PAIR;

fn values(count: usize, seed: u32) -> Vec<f32> {
    random([count], seed).try_into_vec_as::<f32>().unwrap()
}

/// What [`product`] approximates: rounded operands, and sums in f64.
fn expected(left: &[f32], right: &[f32], sizes: [usize; 2], bias: Option<&[f32]>) -> Vec<f64> {
    let [inputs, outputs] = sizes;
    let rounded = |x: &f32| f64::from(bf16::from_f32(*x).to_f32());
    let (left, right): (Vec<f64>, Vec<f64>) =
        (left.iter().map(rounded).collect(), right.iter().map(rounded).collect());
    let mut out = Vec::new();
    for row in left.chunks_exact(inputs) {
        let mut sums = vec![0.0; outputs];
        for (x, right) in row.iter().zip(right.chunks_exact(outputs)) {
            sums.iter_mut().zip(right).for_each(|(sum, y)| *sum += x * y);
        }
        let bias = |column: usize| bias.map_or(0.0, |bias| f64::from(bias[column]));
        out.extend(sums.iter().enumerate().map(|(column, sum)| sum + bias(column)));
    }
    out
}

/// The results of every implementation that this processor can run; the last one is that without
/// instructions for bf16.
fn all(left: &[f32], right: &[f32], sizes: [usize; 2], bias: Option<&[f32]>) -> Vec<Vec<f32>> {
    let right = Dense::new(right, sizes);
    let tiles = Bf16Tiles::detect().map(Kernel::Tiles);
    let kernels = tiles.into_iter().chain(Bf16Dot::detect().map(Kernel::Dot));
    let pairs = packed_pairs(&right);
    let mut results: Vec<_> = kernels
        .map(|kernel| {
            let packed = packed_product(kernel, left, &pairs, bias);
            let unpacked = unpacked_product(kernel, left, &right, bias);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&packed) == bits(&unpacked), "packed or not");
            packed
        })
        .collect();
    let packed = product::PackedRight::new(&Rounded(&right));
    results.push(widened_product(left, &right, &packed, bias));
    results
}

/// Says which implementations the other tests have compared on this machine.
#[test]
fn the_chosen_implementation_is_one_of_those_compared() {
    let (left, right) = (values(40 * 70, 1), values(70 * 50, 2));
    let chosen = product(&left, &Dense::new(&right, [70, 50]), None, None);
    assert!(all(&left, &right, [70, 50], None).contains(&chosen));
}

#[test]
fn rounds_as_the_half_crate_does() {
    let special = [
        0.0,
        -0.0,
        1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::from_bits(0x7f80_0001),
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-40,
        -1e-45,
        // Halfway between two bf16, to the even one: down and up.
        f32::from_bits(0x3f80_8000),
        f32::from_bits(0x3f81_8000),
    ];
    for x in special.into_iter().chain(values(10_000, 1)) {
        let (got, expected) = (bf16_bits(x), bf16::from_f32(x).to_bits());
        assert!(got == expected || x.is_nan() && rounded_to_bf16(x).is_nan(), "{x:e}");
    }
}

/// Sizes around the edges of tiles, strips, panels, steps and blocks.
#[test]
fn products_equal_those_of_rounded_operands() {
    let inputs = [1, 2, 3, 31, DEEP, DEEP + 1, 2 * DEEP + 7];
    let outputs = [1, COLUMNS - 1, COLUMNS, COLUMNS + 1, COLUMN_BLOCK + 17];
    for rows in [0, 1, 2, 11, 12, 13, 31, 32, 33, ROW_BLOCK + 5] {
        for sizes @ [inputs, outputs] in
            inputs.into_iter().flat_map(|inputs| outputs.map(|outputs| [inputs, outputs]))
        {
            let (left, right) = (values(rows * inputs, 1), values(inputs * outputs, 2));
            let bias = values(outputs, 3);
            for bias in [None, Some(&bias[..])] {
                let expected = expected(&left, &right, sizes, bias);
                for got in all(&left, &right, sizes, bias) {
                    assert_eq!(got.len(), rows * outputs);
                    for (got, expected) in got.iter().zip(&expected) {
                        // Sums of up to 2055 products of values up to 2, in f32.
                        let close = (f64::from(*got) - expected).abs() < 1e-4;
                        assert!(close, "{rows} rows, {sizes:?}: {got}, not {expected}");
                    }
                }
            }
        }
    }
}

/// Small integers, whose products and sums are exact, so that both give the same bits.
#[test]
fn products_are_exact_for_small_integers() {
    let integers = |count: usize, seed: usize| -> Vec<f32> {
        (0..count).map(|i| ((i * 7 + i / 11 + seed) % 9) as f32 - 4.0).collect()
    };
    for (rows, inputs, outputs) in [(1, 1, 1), (5, 33, 40), (300, 1200, 300)] {
        let (left, right) = (integers(rows * inputs, 1), integers(inputs * outputs, 2));
        let got = product::product(&left, &Dense::new(&right, [inputs, outputs]), None);
        for other in all(&left, &right, [inputs, outputs], None) {
            assert!(got == other);
        }
        let narrow: Vec<bf16> = right.iter().map(|&x| bf16::from_f32(x)).collect();
        assert!(got == product(&left, &Dense::new(&narrow, [inputs, outputs]), None, None));
    }
}

#[test]
fn infinite_and_missing_numbers_reach_their_row_and_column_only() {
    let (rows, inputs, outputs) = (35, 37, COLUMNS + 5);
    for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
        let (mut left, right) = (values(rows * inputs, 1), vec![1.0; inputs * outputs]);
        left[2 * inputs + 36] = bad;
        for got in all(&left, &right, [inputs, outputs], None) {
            for (index, x) in got.iter().enumerate() {
                // The largest f32 is an infinity in bf16.
                let is_bad = if bad.is_nan() { x.is_nan() } else { *x == f32::INFINITY };
                assert_eq!(is_bad, index / outputs == 2, "{bad}, {index}: {x}");
            }
        }
        let (left, mut right) = (vec![1.0; rows * inputs], values(inputs * outputs, 2));
        right[36 * outputs + 33] = bad;
        for got in all(&left, &right, [inputs, outputs], None) {
            for (index, x) in got.iter().enumerate() {
                assert_eq!(x.is_finite(), index % outputs != 33, "{bad}, {index}: {x}");
            }
        }
    }
}

/// The instruction takes denormals for zero: a difference below the smallest normal number for
/// each product.
#[test]
fn denormals_are_denormals_or_zero() {
    let (inputs, outputs) = (40, 33);
    let left: Vec<f32> = values(2 * inputs, 1).iter().map(|x| x * 1e-39).collect();
    let right: Vec<f32> = values(inputs * outputs, 2);
    let all = all(&left, &right, [inputs, outputs], None);
    let widened = all.last().unwrap();
    for (got, widened) in all.iter().flat_map(|got| got.iter().zip(widened)) {
        // Each of 40 products is at most 2 times a denormal.
        assert!((got - widened).abs() <= 80.0 * f32::MIN_POSITIVE, "{got:e} {widened:e}");
    }
}

#[test]
fn sums_do_not_depend_on_rows_and_threads() {
    let (inputs, outputs) = (DEEP + 70, 3 * COLUMN_BLOCK + 5);
    let (left, right) = (values(700 * inputs, 1), values(inputs * outputs, 2));
    let of = |rows: usize, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let right = Dense::new(&right, [inputs, outputs]);
        pool.install(|| product(&left[..rows * inputs], &right, None, None))
    };
    let all = of(700, 1);
    for (rows, threads) in [(700, 3), (ROW_BLOCK, 1), (20, 3), (3, 3), (1, 1)] {
        assert!(of(rows, threads) == all[..rows * outputs], "{rows} rows, {threads} threads");
    }
}

#[test]
fn steps_are_the_same_whatever_makes_them() {
    let low = std::array::from_fn(|i| (i * 2003 + 40_000) as u16);
    let high = std::array::from_fn(|i| (i * 1999 + 7) as u16);
    let mut steps = [[0; COLUMNS]; 2];
    Interleave::plain().write(&low, &high, &mut steps[0]);
    Interleave::detect().write(&low, &high, &mut steps[1]);
    assert_eq!(steps[0], steps[1]);
    assert_eq!(steps[0], std::array::from_fn(|i| pair(low[i], high[i])));
}
