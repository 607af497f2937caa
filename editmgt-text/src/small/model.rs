use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::module::layer_norm;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use editmgt_core::config::ConfigError;
use editmgt_core::{Result, TextConditioning, TextSpec};
use editmgt_kernels::{Operands, WithOperands, embed, linear_layer};

use super::{SmallTextConfig, WordTokenizer};
use crate::TokenIds;
use crate::activation::Activation;
use crate::precision::{Heads, attention, in_f32};

/// Added to the variance of the norms, as in CLIP.
const EPSILON: f64 = 1e-5;

/// Hidden channels per channel in the feed-forward layers.
const EXPANSION: usize = 4;

/// Deviation of the freshly initialised tables, as in CLIP: a residual stream that starts small
/// leaves the direction to the layers.
const TABLE_DEVIATION: f64 = 0.02;

/// A small transformer over words: every word sees every other. Made by
/// [`SmallTextConfig::init`]; trainable like any module.
#[derive(Module, Debug)]
pub struct SmallText {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<SmallTextLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Linear,
    /// Of the products of a pass.
    #[module(skip)]
    operands: Operands,
}

impl WithOperands for SmallText {
    fn with_operands(self, operands: Operands) -> Self {
        Self { operands, ..self }
    }
}

/// One layer, norms first.
#[derive(Module, Debug)]
struct SmallTextLayer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

impl SmallTextConfig {
    /// The model with random weights, none of which is allocated before it is used.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<SmallText, ConfigError> {
        self.validate()?;
        let table = |rows| {
            let initializer = burn::module::Initializer::Normal { mean: 0.0, std: TABLE_DEVIATION };
            EmbeddingConfig::new(rows, self.hidden_size).with_initializer(initializer).init(device)
        };
        Ok(SmallText {
            token_embedding: table(self.vocab_size),
            position_embedding: table(self.max_position_embeddings),
            layers: (0..self.num_hidden_layers)
                .map(|_| SmallTextLayer::new(self, device))
                .collect(),
            final_layer_norm: norm(self.hidden_size, device),
            text_projection: LinearConfig::new(self.hidden_size, self.projection_dim)
                .with_bias(false)
                .init(device),
            operands: Operands::default(),
        })
    }
}

impl SmallText {
    /// Encodes tokens of a [`WordTokenizer`]: the rows after the final norm, and the projected mean
    /// of those that are no padding.
    ///
    /// Padding rows come out like all others, having seen the words; no row sees them.
    ///
    /// # Shapes
    /// `[B, L]` ids, to hidden rows `[B, L, D]` and pooled vectors `[B, P]`.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`](editmgt_core::Error::TokenOutOfRange) for an id outside the
    /// vocabulary, [`Error::Shape`](editmgt_core::Error::Shape) for more tokens than the model has
    /// positions.
    pub fn forward(&self, tokens: &TokenIds) -> Result<TextConditioning> {
        let TextSpec { rows, .. } = self.spec();
        let device = self.token_embedding.weight.val().device();
        let ids = tokens.to_tensor(self.vocab_size(), rows, &device)?;
        let padding = Padding::new(tokens, &device);

        let positions = self.position_embedding.weight.val().narrow(0, 0, tokens.length());
        // Tables may be narrower than activations.
        let dtype = self.final_layer_norm.gamma.val().dtype();
        let embedded = embed(&self.token_embedding, ids).cast(dtype);
        let embedded = embedded + positions.cast(dtype).unsqueeze();
        let layers = || self.layers.iter().fold(embedded, |x, layer| layer.forward(x, &padding));
        let hidden = self.operands.install(layers);
        let hidden = normalise(&self.final_layer_norm, hidden);

        let [_, _, width] = hidden.dims();
        let shares = padding.shares.cast(hidden.dtype());
        // [B, 1, L] x [B, L, D]: the mean over the rows that count.
        let mean = shares.matmul(hidden.clone()).reshape([tokens.batch(), width]);
        Ok(TextConditioning { hidden, pooled: linear_layer(&self.text_projection, mean) })
    }

    /// The shapes of what [`forward`](Self::forward) gives for full sequences.
    pub fn spec(&self) -> TextSpec {
        TextSpec {
            rows: self.position_embedding.weight.lazy_shape()[0],
            hidden_size: self.token_embedding.weight.lazy_shape()[1],
            pooled_size: self.text_projection.weight.lazy_shape()[1],
        }
    }

    /// Rows of the token table.
    pub fn vocab_size(&self) -> usize {
        self.token_embedding.weight.lazy_shape()[0]
    }
}

/// Which rows of a batch are padding.
struct Padding {
    /// `[B, 1, 1, L]`, true at padding.
    mask: Tensor<4, Bool>,
    /// `[B, 1, L]`: 1/n at the n other rows.
    shares: Tensor<3>,
}

impl Padding {
    fn new(tokens: &TokenIds, device: &Device) -> Self {
        let (batch, length) = (tokens.batch(), tokens.length());
        let is_padding = |id: &u32| *id == WordTokenizer::PADDING;
        let mask: Vec<bool> = tokens.ids().iter().map(is_padding).collect();
        let shares: Vec<f32> = tokens
            .prompts()
            .flat_map(|ids| {
                // A sequence of nothing but padding is no tokeniser's; its mean is 0.
                let words = ids.iter().filter(|id| !is_padding(id)).count().max(1);
                ids.iter().map(move |id| if is_padding(id) { 0.0 } else { 1.0 / words as f32 })
            })
            .collect();
        Self {
            mask: Tensor::from_data(TensorData::new(mask, [batch, 1, 1, length]), device),
            shares: Tensor::from_data(
                TensorData::new(shares, [batch, 1, length]),
                (device, DType::F32),
            ),
        }
    }
}

impl SmallTextLayer {
    fn new(config: &SmallTextConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        Self {
            layer_norm1: norm(width, device),
            q_proj: linear(width, width),
            k_proj: linear(width, width),
            v_proj: linear(width, width),
            out_proj: linear(width, width),
            layer_norm2: norm(width, device),
            fc1: linear(width, EXPANSION * width),
            fc2: linear(EXPANSION * width, width),
            heads: config.num_attention_heads,
        }
    }

    /// `[B, L, D]` to `[B, L, D]`.
    fn forward(&self, x: Tensor<3>, padding: &Padding) -> Tensor<3> {
        let x = x.clone() + self.attend(normalise(&self.layer_norm1, x), padding);
        let hidden = linear_layer(&self.fc1, normalise(&self.layer_norm2, x.clone()));
        x + linear_layer(&self.fc2, Activation::GeluTanh.forward(hidden))
    }

    fn attend(&self, x: Tensor<3>, padding: &Padding) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let split = |linear: &Linear| {
            let heads = [batch, length, self.heads, width / self.heads];
            linear_layer(linear, x.clone()).reshape(heads).swap_dims(1, 2)
        };
        let heads = Heads {
            query: split(&self.q_proj),
            key: split(&self.k_proj),
            value: split(&self.v_proj),
        };
        let mask = padding.mask.clone().expand([batch, self.heads, length, length]);
        let attended = attention(heads, Some(mask), AttentionModuleOptions::default());
        linear_layer(&self.out_proj, attended.swap_dims(1, 2).reshape([batch, length, width]))
    }
}

fn norm(width: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(EPSILON).init(device)
}

/// The norm with f32 statistics.
fn normalise(norm: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
    let gamma = norm.gamma.val().cast(DType::F32);
    let beta = norm.beta.as_ref().map(|beta| beta.val().cast(DType::F32));
    in_f32(x, |x| layer_norm(x, gamma, beta, EPSILON))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_f32_statistics, difference, lazy_parameters};

    fn tiny() -> SmallTextConfig {
        SmallTextConfig {
            vocab_size: 9,
            max_position_embeddings: 5,
            hidden_size: 8,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            projection_dim: 6,
            ..SmallTextConfig::default()
        }
    }

    fn ids(length: usize, ids: &[u32]) -> TokenIds {
        TokenIds::new(length, ids.into()).unwrap()
    }

    #[test]
    fn parameters() {
        let (width, pooled) = (8, 6);
        let attention = 4 * (width * width + width);
        let feed_forward = 2 * EXPANSION * width * width + (EXPANSION + 1) * width;
        let expected = (9 + 5) * width
            + 2 * (attention + feed_forward + 4 * width)
            + 2 * width
            + width * pooled;
        let model = tiny().init(&Device::flex()).unwrap();
        assert_eq!(lazy_parameters(&model), (2 + 2 * 16 + 2 + 1, expected));
        assert_eq!(model.spec(), TextSpec { rows: 5, hidden_size: 8, pooled_size: 6 });
    }

    /// The same words with more padding behind them.
    #[test]
    fn padding_changes_nothing() {
        let model = tiny().init(&Device::flex()).unwrap();
        let short = model.forward(&ids(3, &[1, 4, 7])).unwrap();
        let long = model.forward(&ids(5, &[1, 4, 7, 0, 0, 1, 2, 3, 4, 5])).unwrap();
        // Sums of a few values of order one, in another order.
        let words = long.hidden.narrow(0, 0, 1).narrow(1, 0, 3);
        assert!(difference(short.hidden, words) < 1e-5);
        assert!(difference(short.pooled, long.pooled.narrow(0, 0, 1)) < 1e-5);
    }

    #[test]
    fn every_word_sees_every_other() {
        let model = tiny().init(&Device::flex()).unwrap();
        let hidden = |last| model.forward(&ids(4, &[1, 3, 4, last])).unwrap().hidden;
        // The first row, by what the last word is.
        assert!(difference(hidden(5).narrow(1, 0, 1), hidden(6).narrow(1, 0, 1)) > 1e-6);
    }

    #[test]
    fn an_empty_prompt_has_features() {
        let model = tiny().init(&Device::flex()).unwrap();
        let empty = model.forward(&ids(5, &[1, 0, 0, 0, 0])).unwrap();
        for values in [empty.hidden.reshape([-1]), empty.pooled.reshape([-1])] {
            let values: Tensor<1> = values;
            assert!(values.try_into_vec_as::<f32>().unwrap().iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn norms_take_their_statistics_in_f32() {
        check_f32_statistics(|x| normalise(&norm(8, &x.device()), x));
    }
}
