use burn::nn::EmbeddingConfig;

use super::*;
use crate::block::Block;
use crate::linear;
use crate::testing::{random, worst};

const BITS: [WeightBits; 2] = [WeightBits::Eight, WeightBits::Four];

/// `[rows, inputs]`, quantised.
fn quantized(values: &[f32], inputs: usize, bits: WeightBits) -> QuantizedMatrix {
    let mut matrix = QuantizedMatrix::zeros(bits, values.len() / inputs, inputs);
    for mut group in matrix.groups() {
        for row in 0..group.rows {
            let values = &values[(group.first + row) * inputs..][..inputs];
            for (index, values) in values.chunks(BLOCK).enumerate() {
                group.set(row, index, &Block::quantize(values, bits).unwrap());
            }
        }
    }
    matrix
}

fn host(x: Tensor<2>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().unwrap()
}

const SHAPES: [[usize; 2]; 9] =
    [[1, 1], [1, 33], [3, 32], [16, 31], [17, 64], [40, 65], [90, 544], [128, 1100], [33, 100]];

#[test]
fn values_are_those_of_their_blocks() {
    for [rows, inputs] in SHAPES {
        let values = host(random([rows, inputs], 3));
        for bits in BITS {
            let matrix = quantized(&values, inputs, bits);
            assert_eq!(matrix.shape(), [rows, inputs]);
            let expected: Vec<f32> = values
                .chunks(inputs)
                .flat_map(|row| row.chunks(BLOCK))
                .flat_map(|values| {
                    let block = Block::quantize(values, bits).unwrap();
                    (0..values.len()).map(move |index| block.value(index))
                })
                .collect();
            let what = format!("{rows}x{inputs} in {bits}");
            assert!(matrix.values() == expected, "{what}");
            let device = Device::flex();
            let table = quantized(&values, inputs, bits).into_table(&device);
            assert_eq!(table.dims(), [rows, inputs]);
            assert!(host(dequantize(table)) == expected, "{what}");
            let weight = matrix.into_linear_weight(&device);
            assert_eq!((weight.dims(), quantized_bits(&weight)), ([inputs, rows], Some(bits)));
            assert!(host(dequantize(weight).transpose()) == expected, "{what}");
        }
    }
}

#[test]
fn products_equal_those_of_expanded_weights_bit_for_bit() {
    let device = Device::flex();
    for [outputs, inputs] in SHAPES {
        let values = host(random([outputs, inputs], 5));
        for bits in BITS {
            let weight = quantized(&values, inputs, bits).into_linear_weight(&device);
            let expanded = dequantize(weight.clone());
            for rows in [1, 2, 4, 7, 150, 300] {
                let x = random([rows, inputs], 11);
                for bias in [None, Some(random([outputs], 12))] {
                    let expected = linear(x.clone(), expanded.clone(), bias.clone());
                    let got = linear(x.clone(), weight.clone(), bias);
                    let what = format!("{rows} rows, {inputs} to {outputs}, {bits}");
                    assert_eq!(worst(got, expected), 0.0, "{what}");
                }
            }
        }
    }
}

#[test]
fn narrowed_inputs_need_not_begin_a_block() {
    let (outputs, inputs) = (35, 700);
    let values = host(random([outputs, inputs], 5));
    for bits in BITS {
        let weight = quantized(&values, inputs, bits).into_linear_weight(&Device::flex());
        let expanded = dequantize(weight.clone());
        for (start, count) in [(0, 32), (16, 40), (33, 667), (64, 1), (699, 1)] {
            let part = narrow_inputs(weight.clone(), start, count);
            let expected = expanded.clone().narrow(0, start, count);
            assert_eq!(worst(dequantize(part.clone()), expected.clone()), 0.0);
            let again = narrow_inputs(part.clone(), 0, 1);
            assert_eq!(worst(dequantize(again), expected.clone().narrow(0, 0, 1)), 0.0);
            let x = random([5, count], 1);
            assert_eq!(worst(linear(x.clone(), part, None), linear(x, expected, None)), 0.0);
        }
    }
}

#[test]
fn half_precision_inputs_and_empty_inputs_work() {
    let values = host(random([20, 50], 5));
    let weight = quantized(&values, 50, WeightBits::Eight).into_linear_weight(&Device::flex());
    let expanded = dequantize(weight.clone());
    let x = random([6, 50], 2).cast(DType::BF16);
    let expected = linear(x.clone().cast(DType::F32), expanded, None).cast(DType::BF16);
    let got = linear(x.clone(), weight.clone(), None);
    assert_eq!(got.dtype(), DType::BF16);
    assert_eq!(worst(got.cast(DType::F32), expected.cast(DType::F32)), 0.0);
    assert_eq!(linear(x.slice(0..0), weight, None).dims(), [0, 20]);
}

#[test]
fn embed_reads_the_rows_of_ids() {
    let device = Device::flex();
    let values = host(random([50, 45], 5));
    let mut embedding = EmbeddingConfig::new(50, 45).init(&device);
    let ids = Tensor::<2, Int>::from_data([[0, 49, 17], [3, 3, 32]], &device);
    for bits in BITS {
        let table = quantized(&values, 45, bits).into_table(&device);
        embedding.weight = embedding.weight.map(|_| dequantize(table.clone()));
        let expected = embed(&embedding, ids.clone());
        embedding.weight = embedding.weight.map(|_| table);
        assert_eq!(worst(embed(&embedding, ids.clone()), expected), 0.0);
    }
}
