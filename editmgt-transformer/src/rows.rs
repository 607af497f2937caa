use burn::nn::Linear;
use burn::tensor::{Tensor, module};

/// A linear layer on every token of `[B, N, inputs]`.
pub(crate) fn linear_rows(layer: &Linear, x: Tensor<3>) -> Tensor<3> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    weighted_rows(x, layer.weight.val(), bias)
}

/// `x w + b` on every token of `[B, N, inputs]`, as one product of `B * N` rows.
///
/// burn's own linear layer keeps a product for each item of the batch where `N` fills its tiles.
/// On the CPU each of these lays out the weights anew; training a small model spends a third more
/// time on its products that way, most of it in the backward pass.
pub(crate) fn weighted_rows(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [batch, tokens, inputs] = x.dims();
    let [_, outputs] = weight.dims();
    let rows = x.reshape([batch * tokens, inputs]);
    module::linear(rows, weight, bias).reshape([batch, tokens, outputs])
}
