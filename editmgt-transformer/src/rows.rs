//! Linear layers on the rows of a stream.

use burn::nn::Linear;
use burn::tensor::Tensor;
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
