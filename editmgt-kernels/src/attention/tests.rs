use burn::tensor::{DType, Device};

use super::*;
use crate::testing::{plain, random, worst};

/// Several items and heads, with more than one tile of queries and of keys.
#[test]
fn weighted_attention_equals_attention_with_a_bias() {
    for [tokens, keys] in [[1, 1], [5, 700], [600, 40], [530, 1100]] {
        let (query, key) = (random([2, 3, tokens, 8], 1) * 3.0, random([2, 3, keys, 8], 2));
        let value = random([2, 3, keys, 8], 3);
        let weights: Vec<f32> =
            (0..keys).map(|key| if key % 3 == 0 { 1.0 } else { 1e-9 + key as f32 / 2e3 }).collect();
        for weights in [None, Some(&weights[..])] {
            let bias = weights.map(|weights| {
                let logs: Vec<f32> = weights.iter().map(|w| w.ln()).collect();
                let logs = TensorData::new(logs, [1, 1, 1, keys]);
                Tensor::<4>::from_data(logs, &Device::flex()).expand([2, 3, tokens, keys])
            });
            let expected = module::attention(
                query.clone(),
                key.clone(),
                value.clone(),
                None,
                bias,
                Default::default(),
            );
            let expected = expected.swap_dims(1, 2).reshape([2, tokens, 24]);
            let got = |query: Tensor<4>, key: Tensor<4>, value: Tensor<4>| {
                let device = key.device();
                let keys = KeyValues::new(key, value);
                let weighted = weights
                    .map(|weights| keys.with_weights(&KeyWeights::on(weights.to_vec(), &device)));
                attention(query, &weighted.unwrap_or(keys))
            };
            let kernel = got(query.clone(), key.clone(), value.clone());
            let composed =
                got(plain(query.clone()), plain(key.clone()), plain(value.clone())).inner();
            // Averages of values up to 2.
            assert!(worst(kernel, expected.clone()) < 3e-6, "{tokens} {keys}");
            assert!(worst(composed, expected) < 5e-6, "{tokens} {keys}");
        }
    }
}

/// Rounding operands to bf16 before exact attention gives the same, but for the exponentials.
#[test]
fn bf16_attention_stays_near_that_of_rounded_operands() {
    let rounded = |x: Tensor<4>| x.cast(DType::BF16).cast(DType::F32);
    for [tokens, keys, channels, values] in
        [[1, 1, 8, 8], [5, 700, 7, 3], [600, 40, 128, 128], [230, 1100, 64, 33]]
    {
        let query = random([2, 3, tokens, channels], 1);
        let (key, value) = (random([2, 3, keys, channels], 2), random([2, 3, keys, values], 3));
        let weights: Vec<f32> = (1..=keys).map(|key| key as f32 / keys as f32).collect();
        for weights in [None, Some(&weights[..])] {
            let of = |query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>| {
                let keys = KeyValues::new(key.clone(), value.clone());
                let weighted = weights.map(|weights| {
                    keys.with_weights(&KeyWeights::on(weights.to_vec(), &Device::flex()))
                });
                attention(query.clone(), &weighted.unwrap_or(keys))
            };
            let got = Operands::Bf16.install(|| of(&query, &key, &value));
            // The kernel scales queries before it rounds them.
            let scale = (channels as f32).sqrt();
            let narrow = rounded(query.clone() / scale) * scale;
            let expected = of(&narrow, &rounded(key.clone()), &rounded(value.clone()));
            // An average of values up to 2 whose weights were rounded to 8 bits.
            let error = worst(got, expected);
            assert!(error < 8e-3, "{tokens} {keys} {channels} {values}: {error}");
        }
    }
}

#[test]
fn bf16_attention_does_not_depend_on_other_queries() {
    let (query, key) = (random([1, 2, 300, 64], 1), random([1, 2, 500, 64], 2));
    let value = random([1, 2, 500, 64], 3);
    Operands::Bf16.install(|| {
        let keys = KeyValues::new(key, value);
        let all = attention(query.clone(), &keys);
        for (first, count) in [(0, 1), (17, 40), (100, 200)] {
            let some = attention(query.clone().narrow(2, first, count), &keys);
            assert_eq!(worst(some, all.clone().narrow(1, first, count)), 0.0);
        }
    });
}

#[test]
fn replaced_keys_equal_new_keys() {
    replaces_keys();
    Operands::Bf16.install(replaces_keys);
}

fn replaces_keys() {
    let [batch, heads, keys, rows] = [2, 3, 31, 4];
    // Those of the second item in another order.
    let places = [0, 7, 13, 30, 29, 6, 5, 12];
    let stream =
        |seed| (random([batch, heads, keys, 8], seed), random([batch, heads, keys, 5], seed + 1));
    let ((old_key, old_value), (new_key, new_value)) = (stream(1), stream(3));
    let at =
        |x: &Tensor<4>, item: usize, place: usize| x.clone().narrow(0, item, 1).narrow(2, place, 1);
    let rows_of = |x: &Tensor<4>| {
        let items = (0..batch).map(|item| {
            let places = &places[item * rows..][..rows];
            Tensor::cat(places.iter().map(|&place| at(x, item, place)).collect(), 2)
        });
        Tensor::cat(items.collect(), 0)
    };
    let mixed = |old: &Tensor<4>, new: &Tensor<4>| {
        let items = (0..batch).map(|item| {
            let places = &places[item * rows..][..rows];
            let all = (0..keys)
                .map(|place| at(if places.contains(&place) { new } else { old }, item, place));
            Tensor::cat(all.collect(), 2)
        });
        Tensor::cat(items.collect(), 0)
    };
    let query = random([batch, heads, 9, 8], 5);
    let weights: Vec<f32> = (1..=keys).map(|key| key as f32 / keys as f32).collect();
    let expected = KeyValues::new(mixed(&old_key, &new_key), mixed(&old_value, &new_value));
    let device = Device::flex();
    let on = |device: &Device| {
        let weights = KeyWeights::on(weights.clone(), device);
        (weights, KeyPlaces::on(places.to_vec(), batch, keys, device))
    };
    let (weights, host_places) = on(&device);
    let expected = attention(query.clone(), &expected.with_weights(&weights));

    let mut got = KeyValues::new(old_key.clone(), old_value.clone()).with_weights(&weights);
    let shared = got.clone();
    let before = attention(query.clone(), &shared);
    // Rows with any strides.
    let value = rows_of(&new_value).swap_dims(1, 2) + 0.0;
    got.replace(&host_places, rows_of(&new_key), value.swap_dims(1, 2));
    assert_eq!(worst(attention(query.clone(), &got), expected.clone()), 0.0);
    assert_eq!(worst(attention(query.clone(), &shared), before), 0.0, "clones stay");

    if Operands::current() == Operands::Bf16 {
        return;
    }
    let (new_key_rows, new_value_rows) = (rows_of(&new_key), rows_of(&new_value));
    let (weights, places) = on(&device.autodiff());
    let mut composed = KeyValues::new(plain(old_key), plain(old_value)).with_weights(&weights);
    let (new_key, new_value) = (plain(new_key_rows), plain(new_value_rows));
    composed.replace(&places, new_key, new_value);
    assert!(worst(attention(plain(query), &composed).inner(), expected) < 3e-6);
}

#[test]
fn values_may_have_other_channels_than_keys() {
    let (query, key) = (random([1, 2, 9, 8], 1), random([1, 2, 30, 8], 2));
    let value = random([1, 2, 30, 5], 3);
    let weights: Vec<f32> = (1..=30).map(|key| key as f32 / 30.0).collect();
    let got = |query, key: Tensor<4>, value| {
        let weights = KeyWeights::on(weights.clone(), &key.device());
        attention(query, &KeyValues::new(key, value).with_weights(&weights))
    };
    let expected = got(plain(query.clone()), plain(key.clone()), plain(value.clone())).inner();
    let kernel = got(query, key, value);
    assert_eq!(kernel.dims(), [1, 9, 10]);
    assert!(worst(kernel, expected) < 3e-6);
}

#[test]
fn large_scores_do_not_overflow() {
    let query = random([1, 1, 4, 8], 1) * 1e4;
    let key = random([1, 1, 600, 8], 2);
    let value = random([1, 1, 600, 8], 3);
    let got = attention(query, &KeyValues::new(key, value));
    assert!(got.is_finite().all().into_scalar::<bool>());
}
