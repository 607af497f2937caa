//! Gradients of the concatenation of token streams.

use burn::tensor::Tensor;

use super::record::{Operation, input};
use crate::buffers;
use crate::host::HostTensor;
use crate::join;
use crate::work::for_rows;

/// [`crate::join_tokens`] of up to three streams.
pub(crate) fn join_tokens(streams: &[Tensor<4>]) -> Option<Tensor<4>> {
    match streams {
        [a, b] => Some(record(Operation::of(|| [input(a), input(b)])?)),
        [a, b, c] => Some(record(Operation::of(|| [input(a), input(b), input(c)])?)),
        _ => None,
    }
}

fn record<const N: usize>(operation: Operation<N>) -> Tensor<4> {
    let streams: [Tensor<4>; N] = std::array::from_fn(|index| operation.tensor(index));
    let counts = streams.each_ref().map(|stream| stream.dims()[2]);
    let out = join::join_tokens(streams.into());
    let [.., tokens, channels] = out.dims();
    operation.finish(out, move |gradient, wanted| {
        let gradient = gradient.values();
        let planes = gradient.len() / (tokens * channels);
        let mut first = 0;
        std::array::from_fn(|index| {
            let (start, count) = (first, counts[index]);
            first += count;
            wanted[index].then(|| {
                let mut out = buffers::take(planes * count * channels);
                for_rows(&mut out, count * channels, |plane, to| {
                    let from = (plane * tokens + start) * channels;
                    to.copy_from_slice(&gradient[from..][..to.len()]);
                });
                HostTensor::new(out)
            })
        })
    })
}
