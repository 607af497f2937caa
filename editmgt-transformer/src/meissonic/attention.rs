//! Joint attention over all streams: keys and values in the order `[text, image, reference]`.

use burn::nn::{Linear, RmsNorm};
use burn::tensor::{DType, Device, Tensor};
use editmgt_core::Upload;
use editmgt_kernels::{
    self as kernels, attention, attention_dtype, attention_operand, join_tokens,
};

use crate::meissonic::pass::Stream;
use crate::meissonic::rope::Rotation;
use crate::meissonic::rows::linear_rows;

/// The projections of one stream, borrowed from a block.
pub(crate) struct Projection<'a> {
    pub(crate) query: &'a Linear,
    pub(crate) key: &'a Linear,
    pub(crate) value: &'a Linear,
    pub(crate) norm_query: &'a RmsNorm,
    pub(crate) norm_key: &'a RmsNorm,
    pub(crate) stream: Stream,
}

/// Queries, keys and values of one stream, `[B, heads, N, head_dim]` each; queries and keys are
/// normalised and rotated.
pub(crate) struct Heads {
    pub(crate) query: Tensor<4>,
    pub(crate) key: Tensor<4>,
    pub(crate) value: Tensor<4>,
}

impl Projection<'_> {
    /// Projects `[B, N, D]`.
    pub(crate) fn forward(&self, x: Tensor<3>, rotation: &Rotation) -> Heads {
        let [batch, tokens, width] = x.dims();
        let [head_dim] = self.norm_query.gamma.val().dims();
        let heads = |x: Tensor<3>| x.reshape([batch, tokens, width / head_dim, head_dim]);
        let rotated = |linear: &Linear, norm: &RmsNorm| {
            rotation.apply(norm, heads(linear_rows(linear, x.clone(), self.stream)))
        };
        Heads {
            query: rotated(self.query, self.norm_query),
            key: rotated(self.key, self.norm_key),
            value: heads(linear_rows(self.value, x.clone(), self.stream)).swap_dims(1, 2),
        }
    }
}

/// Key weights that implement the reference strength: strength γ adds log γ to the logits between
/// the reference and all other tokens, which is a weight γ on these keys inside the softmax.
///
/// Weights are at least the smallest normal f32, so that no sum of weights is zero.
#[derive(Debug, Clone)]
pub(crate) struct KeyWeights {
    canvas_queries: kernels::KeyWeights,
    reference_queries: kernels::KeyWeights,
    /// The smallest weight.
    smallest: f32,
}

impl KeyWeights {
    /// `None` for a strength of 1, which has no effect.
    pub(crate) fn new(
        strength: f32,
        canvas_keys: usize,
        reference_keys: usize,
        device: &Device,
    ) -> Option<Self> {
        if strength == 1.0 {
            return None;
        }
        // Only the quotient matters; a largest weight of 1 keeps values from overflowing.
        let own = (1.0 / strength.max(1.0)).max(f32::MIN_POSITIVE);
        let other = (strength / strength.max(1.0)).max(f32::MIN_POSITIVE);
        let weights = |canvas: f32, reference: f32| {
            let mut weights = vec![canvas; canvas_keys];
            weights.resize(canvas_keys + reference_keys, reference);
            weights
        };
        let both = [weights(own, other), weights(other, own)];
        let mut upload = Upload::default();
        let parts = both.each_ref().map(|weights| upload.floats(weights.iter().copied()));
        let sent = upload.send(device);
        let keys = canvas_keys + reference_keys;
        let [canvas, reference] = parts.map(|part| sent.floats(part, [keys]));
        let [of_canvas, of_reference] = both;
        Some(Self {
            canvas_queries: kernels::KeyWeights::new(of_canvas, canvas),
            reference_queries: kernels::KeyWeights::new(of_reference, reference),
            smallest: own.min(other),
        })
    }
}

/// The smallest weight of keys in f16: a sum of smaller ones could be denormal, or zero.
const SMALLEST_F16_WEIGHT: f32 = 1.0 / 256.0;

/// The keys and values of all streams: in f16 where a fused kernel attends to them
/// ([`attention_dtype`]), which sums in f32; in f32 elsewhere.
///
/// The cast to f32 is explicit because backends differ for half-precision inputs: flex widens
/// scores and exponentials, but the compositions of GPUs and of autodiff compute in the input's
/// dtype.
pub(crate) struct KeyValues {
    /// `[B, heads, S, head_dim]`.
    key: Tensor<4>,
    for_canvas: kernels::KeyValues,
    for_reference: kernels::KeyValues,
}

impl KeyValues {
    /// Joins the keys and values of the streams, which must come in the order
    /// `[text, image, reference]`.
    pub(crate) fn new(streams: &[&Heads], weights: Option<&KeyWeights>) -> Self {
        let join = |part: fn(&Heads) -> &Tensor<4>| {
            join_tokens(streams.iter().map(|stream| part(stream).clone()).collect())
        };
        let (key, value) = (join(|heads| &heads.key), join(|heads| &heads.value));
        let [.., keys, channels] = key.dims();
        let dtype = match weights {
            Some(weights) if weights.smallest < SMALLEST_F16_WEIGHT => DType::F32,
            _ => attention_dtype(key.dtype(), &key.device(), keys, channels),
        };
        let (key, value) = (attention_operand(key, dtype), attention_operand(value, dtype));
        let all = kernels::KeyValues::new(key.clone(), value);
        let weighted = |weights: Option<&kernels::KeyWeights>| {
            weights.map_or_else(|| all.clone(), |weights| all.with_weights(weights))
        };
        Self {
            key,
            for_canvas: weighted(weights.map(|weights| &weights.canvas_queries)),
            for_reference: weighted(weights.map(|weights| &weights.reference_queries)),
        }
    }

    /// The keys, `[B, heads, S, head_dim]`.
    pub(crate) fn keys(&self) -> &Tensor<4> {
        &self.key
    }

    /// Keys and values as a stream's queries attend to them.
    pub(crate) fn of(&self, stream: Stream) -> &kernels::KeyValues {
        match stream {
            Stream::Canvas => &self.for_canvas,
            Stream::Reference => &self.for_reference,
        }
    }

    /// Those for queries of the canvas.
    pub(crate) fn into_canvas(self) -> kernels::KeyValues {
        self.for_canvas
    }
}

/// Attention of queries `[B, heads, N, head_dim]`, to `[B, N, D]` in the queries' dtype.
pub(crate) fn attend(query: Tensor<4>, keys: &kernels::KeyValues) -> Tensor<3> {
    let dtype = query.dtype();
    attention(attention_operand(query, keys.dtype()), keys).cast(dtype)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData, module};

    use super::*;

    #[test]
    fn key_weights_equal_the_bias_of_the_official_code() {
        const CANVAS: usize = 6;
        const REFERENCE: usize = 4;
        let device = Device::flex();
        let random = |tokens| {
            let normal = Distribution::Normal(0.0, 2.0);
            Tensor::<4>::random([2, 3, tokens, 8], normal, &device)
        };
        let stream =
            |tokens| Heads { query: random(tokens), key: random(tokens), value: random(tokens) };
        let (canvas, reference) = (stream(CANVAS), stream(REFERENCE));
        let both = |part: fn(&Heads) -> &Tensor<4>| {
            Tensor::cat(vec![part(&canvas).clone(), part(&reference).clone()], 2)
        };
        let size = CANVAS + REFERENCE;
        for strength in [1e-9f32, 0.5, 1.0, 1.1, 30.0] {
            let across = |query, key| (query < CANVAS) != (key < CANVAS);
            let bias: Vec<f32> = (0..size * size)
                .map(|i| if across(i / size, i % size) { strength.ln() } else { 0.0 })
                .collect();
            let bias = Tensor::from_data(TensorData::new(bias, [1, 1, size, size]), &device);
            let expected = module::attention(
                both(|heads| &heads.query),
                both(|heads| &heads.key),
                both(|heads| &heads.value),
                None,
                Some(bias),
                Default::default(),
            );
            let expected = expected.swap_dims(1, 2).reshape([2, size, 24]);

            let weights = KeyWeights::new(strength, CANVAS, REFERENCE, &device);
            assert_eq!(weights.is_none(), strength == 1.0);
            let keys = KeyValues::new(&[&canvas, &reference], weights.as_ref());
            let got = Tensor::cat(
                vec![
                    attend(canvas.query.clone(), keys.of(Stream::Canvas)),
                    attend(reference.query.clone(), keys.of(Stream::Reference)),
                ],
                1,
            );
            let difference = (got - expected).abs().max().into_scalar::<f32>();
            // Values of order 5 in f32.
            assert!(difference < 1e-5, "strength {strength}: {difference}");
        }
    }

    /// Scores of 64 are 0.25 apart in bf16; before they are scaled, those of the second case are
    /// beyond f16. With autodiff, attention is composed of operations in the dtype of its input.
    #[test]
    fn scores_and_softmax_are_f32() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            for dtype in [DType::BF16, DType::F16] {
                for (size, strength) in [(4.0, 1.0), (100.0, 1.0), (4.0, 1.1)] {
                    let random = |size| {
                        let normal = Distribution::Normal(0.0, size);
                        Tensor::<4>::random([1, 2, 12, 16], normal, &device).cast(dtype)
                    };
                    // Below 1, which bounds the rounding error of the result.
                    let value = Distribution::Uniform(-1.0, 1.0);
                    let value = Tensor::<4>::random([1, 2, 12, 16], value, &device).cast(dtype);
                    let narrow = Heads { query: random(size), key: random(size), value };
                    let wide = |x: &Tensor<4>| x.clone().cast(DType::F32);
                    let (query, key) = (wide(&narrow.query), wide(&narrow.key));
                    let exact = Heads { query, key, value: wide(&narrow.value) };
                    let weights = KeyWeights::new(strength, 8, 4, &device);
                    let attended = |heads: &Heads| {
                        let keys = KeyValues::new(&[heads], weights.as_ref());
                        attend(heads.query.clone(), keys.of(Stream::Canvas))
                    };
                    let got = attended(&narrow);
                    assert_eq!(got.dtype(), dtype);
                    let error = (got.cast(DType::F32) - attended(&exact)).abs().max();
                    // One rounding, to 8 bits or 11.
                    let tolerance = if dtype == DType::F16 { 2.5e-4 } else { 2e-3 };
                    let error = error.into_scalar::<f32>();
                    assert!(error <= tolerance, "{dtype:?}, {size}, {strength}: {error}");
                }
            }
        }
    }
}
