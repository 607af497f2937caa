//! Gradients of the concatenation of token streams.

use burn::tensor::Tensor;

use super::record::{Operation, input};
use crate::buffers;
use crate::host::HostTensor;
use crate::join;
use crate::work::{RowChange, for_rows};

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
                let stride = tokens * channels;
                for_rows(
                    &mut out,
                    count * channels,
                    Part { gradient, start: start * channels, stride },
                );
                HostTensor::new(out)
            })
        })
    })
}

/// Copies the part of each plane that begins at `start`.
struct Part<'a> {
    gradient: &'a [f32],
    start: usize,
    /// Values of a plane.
    stride: usize,
}

impl RowChange for Part<'_> {
    #[inline(always)]
    fn change(&self, plane: usize, to: &mut [f32]) {
        let from = plane * self.stride + self.start;
        to.copy_from_slice(&self.gradient[from..][..to.len()]);
    }
}
