//! Norms and softmax, computed in f32.

use burn::tensor::activation;
use burn::tensor::module::layer_norm;

use super::inputs::{Answer, Inputs};
use super::{Check, Tolerance, Types};

pub(super) const EPSILON: f64 = 1e-6;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "layer norm",
        types: Types::F32,
        tolerance: Tolerance::Sum { terms: 384 },
        answer: layer,
    },
    Check {
        name: "RMS norm",
        types: Types::F32,
        tolerance: Tolerance::Sum { terms: 384 },
        answer: root_mean_square,
    },
    Check {
        name: "group norm",
        types: Types::F32,
        tolerance: Tolerance::Sum { terms: 4 * 23 * 29 },
        answer: group,
    },
    Check {
        name: "softmax over 1024 codes",
        types: Types::F32,
        tolerance: Tolerance::Function,
        answer: softmax,
    },
];

/// Softmax of each row of `columns`.
pub(super) fn softmax_rows(x: &mut [f64], columns: usize) {
    for row in x.chunks_mut(columns) {
        let largest = row.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(x));
        row.iter_mut().for_each(|x| *x = (*x - largest).exp());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
}

fn mean(x: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = x.len() as f64;
    x.sum::<f64>() / count
}

/// Each row of `columns` with mean 0 and variance 1.
pub(super) fn standardised(x: &[f64], columns: usize) -> Vec<f64> {
    let each = x.chunks(columns).flat_map(|row| {
        let centre = mean(row.iter().copied());
        let variance = mean(row.iter().map(|x| (x - centre).powi(2)));
        row.iter().map(move |x| (x - centre) / (variance + EPSILON).sqrt())
    });
    each.collect()
}

fn layer(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 37, 384], 4.0);
    let (scale, host_scale) = inputs.tensor([384], 1.0);
    let (shift, host_shift) = inputs.tensor([384], 1.0);
    let mut expected = standardised(&host_x, 384);
    for (i, x) in expected.iter_mut().enumerate() {
        *x = *x * host_scale[i % 384] + host_shift[i % 384];
    }
    Answer::new(layer_norm(x, scale, Some(shift), EPSILON), [2, 37, 384], expected)
}

fn root_mean_square(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 37, 384], 4.0);
    let square = x.clone() * x.clone();
    let got = x * (square.mean_dim(2) + EPSILON).sqrt().recip();
    Answer::new(got, [2, 37, 384], root_mean_square_rows(&host_x, 384))
}

/// Each row of `columns` with a mean square of 1.
pub(super) fn root_mean_square_rows(x: &[f64], columns: usize) -> Vec<f64> {
    let rows = x.chunks(columns).flat_map(|row| {
        let square = mean(row.iter().map(|x| x * x));
        row.iter().map(move |x| x / (square + EPSILON).sqrt())
    });
    rows.collect()
}

/// In the codec's order: the last axis first.
fn group(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 3, 4 * 23, 29], 4.0);
    let centred = x.clone() - x.mean_dim(3).mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(3).mean_dim(2);
    let got = centred * (variance + EPSILON).sqrt().recip();
    Answer::new(got, [2, 3, 4 * 23, 29], standardised(&host_x, 4 * 23 * 29))
}

fn softmax(inputs: &mut Inputs) -> Answer {
    let (x, mut expected) = inputs.tensor([65, 1024], 8.0);
    softmax_rows(&mut expected, 1024);
    Answer::new(activation::softmax(x, 1), [65, 1024], expected)
}
