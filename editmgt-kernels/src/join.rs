//! Concatenation of token streams.

use burn::tensor::Tensor;

use crate::buffers;
use crate::host::{HostTensor, Rows, on_host};
use crate::work::{RowChange, for_rows};

/// Concatenates the tokens of several streams.
///
/// # Shapes
/// `[B, heads, N, d]` each, to `[B, heads, sum of N, d]`.
///
/// # Panics
/// If there is no stream, or if they differ in another dimension than N.
pub fn join_tokens(streams: Vec<Tensor<4>>) -> Tensor<4> {
    let [batch, heads, _, channels] = streams[0].dims();
    let fits = |x: &Tensor<4>| {
        let [b, h, _, c] = x.dims();
        [b, h, c] == [batch, heads, channels]
    };
    if !streams.iter().all(|stream| on_host(stream) && fits(stream)) {
        return Tensor::cat(streams, 2);
    }
    let ends: Vec<usize> = streams
        .iter()
        .scan(0, |end, stream| {
            *end += stream.dims()[2];
            Some(*end)
        })
        .collect();
    let tokens = ends[ends.len() - 1];
    let streams: Vec<Rows> = streams.into_iter().map(Rows::take).collect();
    let mut out = buffers::take(batch * heads * tokens * channels);
    for_rows(&mut out, channels, Joined { streams: &streams, ends: &ends, heads, tokens });
    HostTensor::new(out).into_tensor([batch, heads, tokens, channels])
}

/// Copies the rows of `[B, heads, tokens, d]` from the streams that end at these tokens.
struct Joined<'a> {
    streams: &'a [Rows],
    ends: &'a [usize],
    heads: usize,
    tokens: usize,
}

impl RowChange for Joined<'_> {
    #[inline(always)]
    fn change(&self, index: usize, to: &mut [f32]) {
        let (plane, token) = (index / self.tokens, index % self.tokens);
        let stream = self.ends.partition_point(|&end| end <= token);
        let first = if stream == 0 { 0 } else { self.ends[stream - 1] };
        let place = [plane / self.heads, plane % self.heads, token - first];
        to.copy_from_slice(self.streams[stream].row(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, worst};

    #[test]
    fn join_tokens_equals_cat_for_any_strides() {
        let heads_first = random([2, 3, 5, 8], 1);
        // Heads and tokens swapped, as projections give them, and a part of a longer stream.
        let tokens_first = random([2, 7, 3, 8], 2).swap_dims(1, 2);
        let part = random([2, 3, 9, 8], 3).narrow(2, 4, 2);
        // Rows that aren't contiguous.
        let transposed = random([2, 3, 8, 4], 4).swap_dims(2, 3);
        let streams = vec![heads_first, tokens_first, part, transposed];
        let expected = Tensor::cat(streams.clone(), 2);
        assert_eq!(worst(join_tokens(streams), expected), 0.0);
    }
}
