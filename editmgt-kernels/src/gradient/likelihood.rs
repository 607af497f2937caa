//! The loss of predicted classes, with its gradient.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::record::{Operation, input};
use crate::buffers;
use crate::host::HostTensor;
use crate::lanes::{exp, largest, sum, vectorised};
use crate::work::{CHUNK, map_rows};

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
            let nll = vectorised(|| {
                let largest = largest(logits);
                for (to, x) in gradient.iter_mut().zip(logits) {
                    *to = exp(x - largest);
                }
                let total = sum(gradient, |x| x);
                let factor = share / total;
                gradient.iter_mut().for_each(|x| *x *= factor);
                total.ln() + (largest - logits[label])
            });
            gradient[label] -= share;
            *loss = f64::from(nll) * f64::from(share);
        });
    }
    let value = losses.iter().sum::<f64>() as f32;
    let gradients = HostTensor::new(gradients);
    let out = HostTensor::new(vec![value]).into_tensor([1]);
    Some(operation.finish(out, move |gradient, _| {
        let factor = gradient.values()[0];
        let scaled = map_rows(gradients, CHUNK, |_, x| x.iter_mut().for_each(|x| *x *= factor));
        [Some(scaled)]
    }))
}
