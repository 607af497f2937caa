//! The loss of predicted classes, with its gradient.

use burn::tensor::Tensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::record::{Operation, input};
use crate::buffers;
use crate::host::HostTensor;
use crate::lanes::{dispatch, exp, largest, sum};
use crate::work::{Elementwise, map};

/// [`crate::weighted_nll`]. Rows without a share take no time.
pub(crate) fn weighted_nll(
    logits: &Tensor<2>,
    labels: &[u32],
    shares: &[f32],
) -> Option<Tensor<1>> {
    let [rows, classes] = logits.dims();
    if rows * classes == 0 {
        return None;
    }
    let operation = Operation::of(|| [input(logits)])?;
    let logits = operation.values(0);
    let mut gradients = buffers::take(rows * classes);
    let mut losses = vec![0.0f64; rows];
    {
        let logits = logits.values();
        let tasks = gradients.par_chunks_mut(classes).zip(&mut losses).enumerate();
        tasks.for_each(|(row, (gradient, loss))| {
            let (label, share) = (labels[row] as usize, shares[row]);
            if share == 0.0 {
                gradient.fill(0.0);
                return;
            }
            let logits = &logits[row * classes..][..classes];
            let nll = dispatch(Softmax { logits, share, gradient }) - logits[label];
            gradient[label] -= share;
            *loss = f64::from(nll) * f64::from(share);
        });
    }
    let value = losses.iter().sum::<f64>() as f32;
    let gradients = HostTensor::new(gradients);
    let out = HostTensor::new(vec![value]).into_tensor([1]);
    Some(operation.finish(out, move |gradient, _| {
        let factor = gradient.values()[0];
        let scaled = map(gradients, Times(factor));
        [Some(scaled)]
    }))
}

/// Writes `share` times the softmax of some logits to `gradient`; their log-sum-exp.
struct Softmax<'a> {
    logits: &'a [f32],
    share: f32,
    gradient: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let Self { logits, share, gradient } = self;
        let largest = largest(logits);
        for (to, x) in gradient.iter_mut().zip(logits) {
            *to = exp(x - largest);
        }
        let total = sum(gradient, |x| x);
        let factor = share / total;
        for x in gradient {
            *x *= factor;
        }
        total.ln() + largest
    }
}

struct Times(f32);

impl Elementwise for Times {
    #[inline(always)]
    fn of(&self, x: f32) -> f32 {
        x * self.0
    }
}
