use burn::tensor::{Tensor, module};

use crate::host::{Host, on_host};
use crate::work::map_rows;

/// `x · weight + bias`: rows `[N, inputs]`, weight `[inputs, outputs]`, bias `[outputs]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let Some(bias) = bias else { return module::linear(x, weight, None) };
    if !(on_host(&x) && on_host(&weight) && on_host(&bias)) {
        return module::linear(x, weight, Some(bias));
    }
    let product = x.matmul(weight);
    let shape @ [_, outputs] = product.dims();
    let bias = Host::take(bias);
    let numbers = bias.numbers();
    let sum = map_rows(Host::take(product), outputs, |_, row| {
        row.iter_mut().zip(numbers).for_each(|(x, bias)| *x += bias);
    });
    sum.into_tensor(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, worst};

    #[test]
    fn is_burns_own() {
        let (x, weight) = (random([70, 33], 1), random([33, 90], 2));
        let bias = random([90], 3);
        for bias in [None, Some(bias)] {
            let expected = module::linear(x.clone(), weight.clone(), bias.clone());
            assert_eq!(worst(linear(x.clone(), weight.clone(), bias), expected), 0.0);
        }
    }
}
