//! Every backward pass beside that of the composition.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Gradients, Tensor};

use super::record::{Operation, input};
use crate::operands::Operands;
use crate::recording::Recording;
use crate::testing::{plain, random};

/// A leaf of the graph with pseudo-random values.
fn leaf<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    plain(random(shape, seed)).require_grad()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().unwrap()
}

/// An output, and the gradients of a linear function of it.
fn results<const D: usize>(
    out: Tensor<D>,
    gradients: impl FnOnce(&Gradients) -> Vec<Vec<f32>>,
) -> Vec<Vec<f32>> {
    let loss = (out.clone() * plain(random(out.dims(), 99))).sum();
    let mut all = vec![values(out.inner())];
    all.extend(gradients(&loss.backward()));
    all
}

fn of<const D: usize>(x: &Tensor<D>, gradients: &Gradients) -> Vec<f32> {
    values(x.grad(gradients).unwrap())
}

/// Compares what `run` gives for compositions with what it gives for kernels. Differences are
/// relative to the largest value of each result.
fn check(what: &str, tolerance: f32, run: impl Fn(bool) -> Vec<Vec<f32>>) {
    let composed = Recording::Compositions.install(|| run(false));
    let kernels = Recording::Kernels.install(|| run(true));
    assert_eq!(composed.len(), kernels.len());
    for (index, (composed, kernels)) in composed.iter().zip(&kernels).enumerate() {
        assert_eq!(composed.len(), kernels.len(), "{what}, result {index}");
        let size = composed.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
        for (at, (a, b)) in composed.iter().zip(kernels).enumerate() {
            let difference = (a - b).abs();
            assert!(
                difference <= tolerance * size,
                "{what}, result {index} (0 is the output) at {at}: {b}, not {a}"
            );
        }
    }
}

#[test]
fn linear_layers() {
    for (rows, inputs, outputs) in
        [(1, 1, 1), (3, 7, 5), (70, 33, 90), (2, 40, 1), (300, 64, 17), (65, 600, 33)]
    {
        for with_bias in [false, true] {
            let run = |kernel| {
                let (x, weight) = (leaf([2, rows, inputs], 1), leaf([inputs, outputs], 2));
                let bias = with_bias.then(|| leaf([outputs], 3));
                let out = if kernel {
                    super::linear(&x, &weight, bias.as_ref()).unwrap()
                } else {
                    crate::linear(x.clone(), weight.clone(), bias.clone())
                };
                results(out, |gradients| {
                    let mut all = vec![of(&x, gradients), of(&weight, gradients)];
                    all.extend(bias.as_ref().map(|bias| of(bias, gradients)));
                    all
                })
            };
            let what = format!("linear {rows} {inputs} {outputs} {with_bias}");
            // Sums of up to 600 products in another order.
            check(&what, 3e-6, run);
            // Operands of 8 bits, whose roundings are independent.
            Operands::Bf16.install(|| check(&what, 1.2e-2, run));
        }
    }
}

#[test]
fn linear_layers_of_views_and_constants() {
    // A transposed weight, rows of a larger matrix, an input without a gradient.
    let run = |kernel| {
        let (x, weight) = (leaf([20, 12], 1), leaf([9, 12], 2));
        let (part, turned) = (x.clone().narrow(0, 5, 11), weight.clone().transpose());
        let constant = plain(random([11, 12], 3));
        let product = |x: Tensor<2>| {
            if kernel {
                super::linear(&x, &turned, None).unwrap()
            } else {
                crate::linear(x, turned.clone(), None)
            }
        };
        let out = product(part) * product(constant);
        results(out, |gradients| vec![of(&x, gradients), of(&weight, gradients)])
    };
    check("views", 3e-6, run);
}

#[test]
fn activations() {
    type Function = fn(Tensor<2>) -> Tensor<2>;
    let all: [(&str, Function); 4] = [
        ("gelu", crate::gelu),
        ("gelu_tanh", crate::gelu_tanh),
        ("quick_gelu", crate::quick_gelu),
        ("silu", crate::silu),
    ];
    for (what, function) in all {
        // More than a task; values up to 12, where functions are linear or zero.
        for [rows, columns] in [[1, 1], [3, 7], [70, 600]] {
            check(what, 2e-6, |_| {
                let x = leaf([rows, columns], 1);
                let out = function(x.clone() * 6.0);
                results(out, |gradients| vec![of(&x, gradients)])
            });
        }
    }
}

#[test]
fn norms() {
    for [batch, rows, channels] in [[1, 1, 3], [2, 3, 5], [3, 70, 130], [1, 200, 16]] {
        let what = format!("{batch} {rows} {channels}");
        check(&what, 2e-5, |kernel| {
            let (x, weight) = (leaf([batch, rows, channels], 1), leaf([channels], 2));
            let out = if kernel {
                super::rms_norm(&x, &weight, 1e-6).unwrap()
            } else {
                crate::rms_norm(x.clone(), weight.clone(), 1e-6)
            };
            results(out, |gradients| vec![of(&x, gradients), of(&weight, gradients)])
        });
        check(&what, 2e-5, |kernel| {
            let x = leaf([batch, rows, channels], 1);
            let [shift, scale] = [2, 3].map(|seed| leaf([batch, 1, channels], seed));
            // Away from zero, which costs digits in a difference of sums.
            let offset = x.clone() + 3.0;
            let out = if kernel {
                super::modulated_layer_norm(&offset, &shift, &scale, 1e-6).unwrap()
            } else {
                crate::modulated_layer_norm(offset, shift.clone(), scale.clone(), 1e-6)
            };
            results(out, |gradients| [&x, &shift, &scale].map(|x| of(x, gradients)).to_vec())
        });
    }
}

#[test]
fn rotated_heads() {
    for items in [1, 2] {
        check("rotation", 2e-5, |kernel| {
            let angles = random([items, 40, 1, 8], 1);
            let [cos, sin] =
                [angles.clone().cos(), angles.sin()].map(|x| plain(x).narrow(1, 3, 37));
            let (x, weight) = (leaf([2, 37, 5, 16], 2), leaf([16], 3));
            let out = if kernel {
                super::norm_and_rotate(&x, &weight, 1e-6, &cos, &sin).unwrap()
            } else {
                crate::norm_and_rotate(x.clone(), weight.clone(), 1e-6, cos, sin)
            };
            results(out, |gradients| vec![of(&x, gradients), of(&weight, gradients)])
        });
    }
}

#[test]
fn gated_sums() {
    check("gated sum", 2e-6, |kernel| {
        let [x, y] = [1, 2].map(|seed| leaf([3, 45, 70], seed));
        let gate = leaf([3, 1, 70], 3);
        let out = if kernel {
            super::add_gated(&x, &y, &gate).unwrap()
        } else {
            crate::add_gated(x.clone(), y.clone(), gate.clone())
        };
        results(out, |gradients| [&x, &y, &gate].map(|x| of(x, gradients)).to_vec())
    });
}

#[test]
fn joined_tokens() {
    for count in [2, 3] {
        check("join", 0.0, |kernel| {
            let streams: Vec<_> = (0..count).map(|i| leaf([2, 4 + i, 3, 8], i as u32)).collect();
            // Heads and tokens swapped, as projections give them.
            let views: Vec<_> = streams.iter().map(|x| x.clone().swap_dims(1, 2)).collect();
            let out = if kernel {
                super::join_tokens(&views).unwrap()
            } else {
                crate::join_tokens(views)
            };
            results(out, |gradients| streams.iter().map(|x| of(x, gradients)).collect())
        });
    }
}

#[test]
fn attention_of_queries() {
    for [batch, heads, tokens, keys, channels, width] in
        [[1, 1, 1, 1, 1, 1], [2, 3, 5, 7, 8, 4], [1, 2, 70, 144, 32, 32], [2, 1, 33, 16, 5, 70]]
    {
        let run = |kernel| {
            let query = leaf([batch, heads, tokens, channels], 1);
            let key = leaf([batch, heads, keys, channels], 2);
            let value = leaf([batch, heads, keys, width], 3);
            let out = if kernel {
                super::attention(&query, &key, &value).unwrap()
            } else {
                use burn::tensor::module;
                let [q, k, v] = [&query, &key, &value].map(Tensor::clone);
                module::attention(q, k, v, None, None, Default::default())
            };
            results(out, |gradients| [&query, &key, &value].map(|x| of(x, gradients)).to_vec())
        };
        let what = format!("attention {batch} {heads} {tokens} {keys} {channels} {width}");
        check(&what, 5e-6, run);
        Operands::Bf16.install(|| check(&what, 2e-2, run));
    }
}

#[test]
fn convolutions() {
    for (kernel, stride, padding) in [
        ([3, 3], [1, 1], [1, 1, 1, 1]),
        ([3, 3], [2, 2], [0, 0, 1, 1]),
        ([3, 2], [1, 3], [2, 1, 0, 3]),
        ([2, 5], [3, 1], [0; 4]),
    ] {
        // The last takes several parts, and Winograd's algorithm where it can.
        for (shape, outputs) in [([1, 3, 3, 5], 1), ([3, 4, 16, 6], 7), ([2, 40, 45, 33], 20)] {
            for with_bias in [false, true] {
                let [top, left, bottom, right] = padding;
                let mut layer = Conv2dConfig::new([shape[1], outputs], kernel)
                    .with_stride(stride)
                    .with_padding(PaddingConfig2d::Explicit(top, left, bottom, right))
                    .with_bias(with_bias)
                    .init(&Device::flex().autodiff());
                let weights = layer.weight.val().dims();
                layer.weight = layer.weight.map(|_| leaf(weights, 1));
                let run = |_| {
                    let x = leaf(shape, 2);
                    let out = crate::conv2d(&layer, x.clone());
                    results(out, |gradients| {
                        let mut all = vec![of(&x, gradients), of(&layer.weight.val(), gradients)];
                        all.extend(layer.bias.as_ref().map(|bias| of(&bias.val(), gradients)));
                        all
                    })
                };
                let what = format!("{kernel:?} {stride:?} {padding:?} {shape:?} {with_bias}");
                // Sums of up to 3,000 products in another order.
                check(&what, 1e-5, run);
                Operands::Bf16.install(|| check(&what, 2e-2, run));
            }
        }
    }
}

#[test]
fn likelihoods() {
    for [rows, classes] in [[1, 1], [5, 7], [90, 700]] {
        check("likelihood", 3e-6, |_| {
            let logits = leaf([rows, classes], 1);
            let labels: Vec<u32> = (0..rows).map(|row| (row * 5 % classes) as u32).collect();
            let shares: Vec<f32> = (0..rows).map(|row| (row % 3) as f32 / rows as f32).collect();
            let loss = crate::weighted_nll(logits.clone() * 3.0, &labels, &shares);
            results(loss, |gradients| vec![of(&logits, gradients)])
        });
    }
}

#[test]
fn results_are_the_same_on_any_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            Recording::Kernels.install(|| {
                let x = leaf([3, 200, 64], 1);
                let (weight, bias) = (leaf([64, 64], 2), leaf([64], 3));
                let [shift, scale] = [4, 5].map(|seed| leaf([3, 1, 64], seed));
                let normed =
                    crate::modulated_layer_norm(x.clone(), shift.clone(), scale.clone(), 1e-6);
                let normed = crate::rms_norm(normed, bias.clone(), 1e-6);
                let out = crate::linear(normed, weight.clone(), Some(bias.clone()));
                results(crate::gelu(out), |gradients| {
                    vec![
                        of(&x, gradients),
                        of(&weight, gradients),
                        of(&bias, gradients),
                        of(&shift, gradients),
                        of(&scale, gradients),
                    ]
                })
            })
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn half_precision_is_left_to_compositions() {
    use burn::tensor::DType;
    let x = leaf([2, 3, 4], 1).cast(DType::F16);
    Recording::Kernels.install(|| {
        assert!(Operation::of(|| [input(&x)]).is_none());
        assert_eq!(crate::gelu_tanh(x).dtype(), DType::F16);
    });
}

#[test]
fn nothing_is_recorded_outside_the_scope_and_without_autodiff() {
    let x = leaf([2, 3], 1);
    assert!(Operation::of(|| [input(&x)]).is_none());
    Recording::Kernels.install(|| {
        assert!(Operation::of(|| [input(&x)]).is_some());
        assert!(Operation::of(|| [input(&x.clone().inner())]).is_none());
    });
}
