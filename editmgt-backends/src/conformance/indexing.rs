//! Indexing, ordering, comparing and counting.

use burn::tensor::{IndexingUpdateOp, Tensor, s};

use super::inputs::{Answer, Inputs};
use super::{Check, Tolerance, Types};

const ROWS: usize = 29;
const COLUMNS: usize = 256;

const fn exact(name: &'static str, types: Types, answer: fn(&mut Inputs) -> Answer) -> Check {
    Check { name, types, tolerance: Tolerance::Exact, answer }
}

pub(super) const CHECKS: &[Check] = &[
    exact("gather", Types::Floats, gather),
    exact("select rows", Types::Floats, select),
    Check {
        name: "scatter",
        types: Types::F32,
        tolerance: Tolerance::Roundings(1),
        answer: scatter,
    },
    Check {
        name: "select and assign",
        types: Types::Floats,
        tolerance: Tolerance::Roundings(1),
        answer: select_assign,
    },
    exact("permute and reshape", Types::Floats, permute),
    exact("assign a slice", Types::Floats, assign),
    exact("sort", Types::F32, sort),
    exact("argsort", Types::F32, argsort),
    exact("argmin", Types::F32, argmin),
    exact("masks", Types::Floats, masks),
    exact("comparisons, counted", Types::F32, comparisons),
    Check {
        name: "cumulative sum",
        types: Types::F32,
        tolerance: Tolerance::Sum { terms: COLUMNS as u16 },
        answer: cumulative_sum,
    },
    exact("integer arithmetic", Types::Ints, integers),
    exact("integer comparisons", Types::Ints, integer_comparisons),
    exact("integer gather", Types::Ints, integer_gather),
];

fn gather(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([ROWS, COLUMNS], 1.0);
    let (indices, host_indices) = inputs.indices([ROWS, 7], COLUMNS);
    let expected =
        host_indices.iter().enumerate().map(|(i, index)| host_x[i / 7 * COLUMNS + index]);
    Answer::new(x.gather(1, indices), [ROWS, 7], expected.collect())
}

fn select(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([ROWS, COLUMNS], 1.0);
    let (indices, host_indices) = inputs.indices([61], ROWS);
    let expected = host_indices.iter().flat_map(|row| host_x[row * COLUMNS..][..COLUMNS].to_vec());
    Answer::new(x.select(0, indices), [61, COLUMNS], expected.collect())
}

/// Rows added to zeros at different places, as logits of active cells are.
fn select_assign(inputs: &mut Inputs) -> Answer {
    let (order, host_order) = inputs.permutation(ROWS);
    let (rows, host_rows) = inputs.tensor([ROWS, COLUMNS], 1.0);
    let mut expected = vec![0.0; 2 * ROWS * COLUMNS];
    for (row, place) in host_order.into_iter().enumerate() {
        expected[place * COLUMNS..][..COLUMNS]
            .copy_from_slice(&host_rows[row * COLUMNS..][..COLUMNS]);
    }
    let zeros = Tensor::<2>::zeros([2 * ROWS, COLUMNS], (&rows.device(), rows.dtype()));
    let got = zeros.select_assign(0, order, rows, IndexingUpdateOp::Add);
    Answer::new(got, [2 * ROWS, COLUMNS], expected)
}

/// Scatter-add with one value for each position, so that no order of sums matters.
fn scatter(inputs: &mut Inputs) -> Answer {
    let (order, host_order) = inputs.permutation(COLUMNS);
    let (values, host_values) = inputs.tensor([1, COLUMNS], 1.0);
    let (base, mut expected) = inputs.tensor([1, COLUMNS], 1.0);
    host_order.iter().zip(&host_values).for_each(|(&place, value)| expected[place] += value);
    let got = base.scatter(1, order.unsqueeze(), values, IndexingUpdateOp::Add);
    Answer::new(got, [1, COLUMNS], expected)
}

/// `[B, N, heads * D]` to `[B, heads, N, D]`.
fn permute(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 31, 3 * 16], 1.0);
    let got = x.reshape([2, 31, 3, 16]).permute([0, 2, 1, 3]);
    let mut expected = Vec::new();
    for (image, head) in (0..2 * 3).map(|i| (i / 3, i % 3)) {
        for token in 0..31 {
            expected.extend(&host_x[(image * 31 + token) * 48 + head * 16..][..16]);
        }
    }
    Answer::new(got, [2, 3, 31, 16], expected)
}

fn assign(inputs: &mut Inputs) -> Answer {
    let (x, mut expected) = inputs.tensor([ROWS, COLUMNS], 1.0);
    let (part, host_part) = inputs.tensor([5, 9], 1.0);
    for (i, value) in host_part.into_iter().enumerate() {
        expected[(11 + i / 9) * COLUMNS + 100 + i % 9] = value;
    }
    let got = x.slice_assign(s![11..16, 100..109], part);
    Answer::new(got, [ROWS, COLUMNS], expected)
}

fn sort(inputs: &mut Inputs) -> Answer {
    let (x, mut expected) = inputs.tensor([ROWS, COLUMNS], 1.0);
    expected.chunks_mut(COLUMNS).for_each(|row| row.sort_by(f64::total_cmp));
    Answer::new(x.sort(1), [ROWS, COLUMNS], expected)
}

/// Distinct values, since backends order equal ones differently.
fn argsort(inputs: &mut Inputs) -> Answer {
    let (_, ranks) = inputs.permutation(COLUMNS);
    let values: Vec<_> = ranks.iter().map(|&rank| rank as f64).collect();
    let mut order: Vec<_> = (0..COLUMNS).collect();
    order.sort_by_key(|&place| ranks[place]);
    let got = inputs.on_device(&values, [COLUMNS]).argsort(0);
    Answer::ints(got, [COLUMNS], order)
}

/// Each row has a unique minimum.
fn argmin(inputs: &mut Inputs) -> Answer {
    let (_, mut values) = inputs.tensor([ROWS, COLUMNS], 1.0);
    let (_, smallest) = inputs.indices([ROWS], COLUMNS);
    smallest.iter().enumerate().for_each(|(row, place)| values[row * COLUMNS + place] = -2.0);
    let got = inputs.on_device(&values, [ROWS, COLUMNS]).argmin(1);
    Answer::ints(got, [ROWS, 1], smallest)
}

fn masks(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([ROWS, COLUMNS], 1.0);
    let (y, host_y) = inputs.tensor([ROWS, COLUMNS], 1.0);
    let positive = x.clone().greater_scalar(0.0);
    let got = x.clone().mask_where(positive, y).mask_fill(x.equal_scalar(0.0), 3.0);
    let expected = host_x.iter().zip(&host_y).map(|(&x, &y)| match x {
        0.0 => 3.0,
        _ if x > 0.0 => y,
        _ => x,
    });
    Answer::new(got, [ROWS, COLUMNS], expected.collect())
}

/// Counts the values of a row up to a bound of that row, as the search for a drawn code.
fn comparisons(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([ROWS, COLUMNS], 1.0);
    let (bound, host_bound) = inputs.tensor([ROWS, 1], 1.0);
    let got = x.lower_equal(bound).int().sum_dim(1);
    let rows = host_x.chunks(COLUMNS).zip(&host_bound);
    let expected = rows.map(|(row, bound)| row.iter().filter(|x| *x <= bound).count());
    Answer::ints(got, [ROWS, 1], expected)
}

/// Cumulative sum of positive values of 24 bits, like probabilities.
fn cumulative_sum(inputs: &mut Inputs) -> Answer {
    let (x, mut expected, _) = inputs.fine_values([ROWS, COLUMNS]);
    for row in expected.chunks_mut(COLUMNS) {
        (1..COLUMNS).for_each(|i| row[i] += row[i - 1]);
    }
    Answer::new(x.cumsum(1), [ROWS, COLUMNS], expected)
}

fn integers(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.indices([ROWS, COLUMNS], 8192);
    let row = Tensor::arange(0..ROWS as i64, &x.device()).unsqueeze_dim::<2>(1) * COLUMNS as i64;
    let got = (x.sub_scalar(1).clamp_min(0) + row).clamp_max(12_000);
    let expected = host_x.iter().enumerate();
    let expected = expected.map(|(i, x)| (x.saturating_sub(1) + i / COLUMNS * COLUMNS).min(12_000));
    Answer::ints(got, [ROWS, COLUMNS], expected)
}

fn integer_comparisons(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.indices([ROWS, COLUMNS], 5);
    let (y, host_y) = inputs.indices([ROWS, COLUMNS], 5);
    let got = x.clone().equal_scalar(3).bool_or(x.equal(y));
    let expected = host_x.iter().zip(&host_y).map(|(&x, y)| x == 3 || x == *y);
    Answer::bools(got, [ROWS, COLUMNS], expected)
}

fn integer_gather(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.indices([ROWS, COLUMNS], 8192);
    let (indices, host_indices) = inputs.indices([ROWS, 7], COLUMNS);
    let expected =
        host_indices.iter().enumerate().map(|(i, index)| host_x[i / 7 * COLUMNS + index]);
    Answer::ints(x.gather(1, indices), [ROWS, 7], expected)
}
