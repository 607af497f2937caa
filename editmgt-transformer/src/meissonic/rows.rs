//! Linear layers on the tokens of a stream, with the adapters of that stream.

use burn::nn::Linear;
use burn::tensor::Tensor;
use editmgt_kernels::{add, linear as product, narrow_inputs};

use crate::meissonic::lora::StreamLora;
use crate::meissonic::pass::Stream;

/// A linear layer on every token of `[B, N, inputs]`.
pub(crate) fn linear_rows(layer: &Linear, x: Tensor<3>, stream: Stream) -> Tensor<3> {
    linear_joined(layer, [x], stream)
}

/// A linear layer on the concatenation of `PIECES` feature tensors, `[B, N, inputs of the piece]`
/// each, to `[B, N, outputs]`.
///
/// Sums the products of the pieces with their rows of the weight, which avoids concatenating them.
/// All tokens are rows of one product: burn's linear layer computes a product for each item of the
/// batch if `N` fills its tiles, and each of them packs the weights again on the CPU; training a
/// small model would spend a third more time on its products, most of it in the backward pass.
pub(crate) fn linear_joined<const PIECES: usize>(
    layer: &Linear,
    pieces: [Tensor<3>; PIECES],
    stream: Stream,
) -> Tensor<3> {
    let [batch, tokens, _] = pieces[0].dims();
    let rows = pieces.map(|piece| {
        let [_, _, features] = piece.dims();
        piece.reshape([batch * tokens, features])
    });
    let out = linear(layer, rows, stream);
    let [_, outputs] = out.dims();
    out.reshape([batch, tokens, outputs])
}

/// [`linear_joined`] on `[rows, inputs of the piece]` each, to `[rows, outputs]`.
pub(crate) fn linear<const PIECES: usize>(
    layer: &Linear,
    rows: [Tensor<2>; PIECES],
    stream: Stream,
) -> Tensor<2> {
    // Not `val()`, which would apply adapters to the weight, for all streams.
    let weight = layer.weight.base();
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    let mut start = 0;
    let mut out: Option<Tensor<2>> = None;
    for piece in rows.clone() {
        let [_, features] = piece.dims();
        let part = match PIECES {
            1 => weight.clone(),
            _ => narrow_inputs(weight.clone(), start, features),
        };
        start += features;
        out = Some(match out {
            None => product(piece, part, bias.clone()),
            Some(out) => add(out, product(piece, part, None)),
        });
    }
    let out = out.expect("a layer has at least one input");
    match layer.weight.reparameterization::<StreamLora>() {
        None => out,
        Some(lora) => lora.add(out, &rows, stream),
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::LinearConfig;
    use burn::tensor::{DType, Device, Distribution};

    use super::*;
    use crate::conditioning::conditioning_rows;
    use crate::meissonic::tests::Cast;

    #[test]
    fn a_single_row_is_as_exact_as_two() {
        let device = Device::flex();
        for dtype in [DType::BF16, DType::F16] {
            let layer = LinearConfig::new(1024, 8).init(&device).map(&mut Cast(dtype));
            let rows = Tensor::<2>::random([2, 1024], Distribution::Uniform(0.0, 1.0), &device);
            let of = |rows: Tensor<2>| {
                let rows = rows.cast(dtype);
                conditioning_rows(rows, |rows| linear(&layer, [rows], Stream::Canvas))
                    .cast(DType::F32)
            };
            let single = of(rows.clone().narrow(0, 0, 1));
            assert_eq!(single.dims(), [1, 8]);
            let pair = of(rows).narrow(0, 0, 1);
            let scale = pair.clone().abs().max().into_scalar::<f32>();
            let error = (single - pair).abs().max().into_scalar::<f32>();
            // Two units in the last place of the dtype, of a sum in another order.
            let epsilon = dtype.finfo().unwrap().epsilon as f32;
            assert!(error <= 2.0 * epsilon * scale, "{dtype:?}: {error} of {scale}");
        }
    }
}
