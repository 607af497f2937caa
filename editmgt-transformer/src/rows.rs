//! Linear layers on the rows of a stream.

use burn::nn::Linear;
use burn::tensor::{DType, Tensor};
use editmgt_kernels::{add, linear as product};

use crate::lora::{Side, StreamLora};

/// A linear layer on every token of `[B, N, inputs]`.
pub(crate) fn linear_rows(layer: &Linear, x: Tensor<3>, side: Side) -> Tensor<3> {
    linear_joined(layer, [x], side)
}

/// A linear layer on tokens whose features come in pieces, `[B, N, inputs of the piece]` each.
///
/// The sum of the products of the pieces is the product of the joined features, without copying
/// them next to each other. All tokens are the rows of a single product: burn's own linear layer
/// keeps a product for each item of the batch where `N` fills its tiles. On the CPU each of these
/// lays out the weights anew; training a small model spends a third more time on its products that
/// way, most of it in the backward pass.
pub(crate) fn linear_joined<const PIECES: usize>(
    layer: &Linear,
    pieces: [Tensor<3>; PIECES],
    side: Side,
) -> Tensor<3> {
    let [batch, tokens, _] = pieces[0].dims();
    let rows = pieces.map(|piece| {
        let [_, _, features] = piece.dims();
        piece.reshape([batch * tokens, features])
    });
    let out = linear(layer, rows, side);
    let [_, outputs] = out.dims();
    out.reshape([batch, tokens, outputs])
}

/// Runs `layers` on rows, `[rows, inputs]`, a single one in f16 as two: burn-flex 0.22.1 sums the
/// product of a single f16 row in f16 (see the known failures of the conformance suite), and the
/// conditioning of an edit without guidance is such a row, at the root of every block.
pub(crate) fn in_company(
    rows: Tensor<2>,
    layers: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    match (rows.dims()[0], rows.dtype()) {
        (1, DType::F16) => layers(rows.repeat_dim(0, 2)).narrow(0, 0, 1),
        _ => layers(rows),
    }
}

/// A linear layer on rows whose features come in pieces, `[rows, inputs of the piece]` each.
pub(crate) fn linear<const PIECES: usize>(
    layer: &Linear,
    rows: [Tensor<2>; PIECES],
    side: Side,
) -> Tensor<2> {
    // Not `val()`, which would add an adapter to the weight for every stream.
    let weight = layer.weight.base();
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    let mut start = 0;
    let mut out: Option<Tensor<2>> = None;
    for piece in rows.clone() {
        let [_, features] = piece.dims();
        let part = match PIECES {
            1 => weight.clone(),
            _ => weight.clone().narrow(0, start, features),
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
        Some(lora) => lora.add(out, &rows, side),
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::tests::Cast;

    #[test]
    fn a_row_alone_is_as_exact_as_in_company() {
        let device = Device::flex();
        for dtype in [DType::BF16, DType::F16] {
            let layer = LinearConfig::new(1024, 8).init(&device).map(&mut Cast(dtype));
            let rows = Tensor::<2>::random([2, 1024], Distribution::Uniform(0.0, 1.0), &device);
            let of = |rows: Tensor<2>| {
                let rows = rows.cast(dtype);
                in_company(rows, |rows| linear(&layer, [rows], Side::Canvas)).cast(DType::F32)
            };
            let alone = of(rows.clone().narrow(0, 0, 1));
            assert_eq!(alone.dims(), [1, 8]);
            let together = of(rows).narrow(0, 0, 1);
            let scale = together.clone().abs().max().into_scalar::<f32>();
            let error = (alone - together).abs().max().into_scalar::<f32>();
            // Two units in the last place of the dtype, of a sum in another order.
            let epsilon = dtype.finfo().unwrap().epsilon as f32;
            assert!(error <= 2.0 * epsilon * scale, "{dtype:?}: {error} of {scale}");
        }
    }
}
