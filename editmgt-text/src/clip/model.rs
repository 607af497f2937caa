use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use editmgt_core::config::ConfigError;
use editmgt_core::{Error, Result};
use editmgt_kernels::{BufferPool, Operands, WithOperands, embed, linear_layer};

use super::ClipTextConfig;
use super::config::PooledToken;
use super::layer::{ClipLayer, norm, normalise};
use crate::TokenIds;

/// A CLIP text tower with projection. Field names are the checkpoint's. Weights of linear layers
/// and tables may be narrower than those of norms, whose dtype activations have.
#[derive(Module, Debug)]
pub struct ClipText {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<ClipLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Linear,
    epsilon: f64,
    #[module(skip)]
    pooled_token: PooledToken,
    /// Of the products of a pass.
    #[module(skip)]
    operands: Operands,
}

impl WithOperands for ClipText {
    fn with_operands(self, operands: Operands) -> Self {
        Self { operands, ..self }
    }
}

/// What the tower gives for `B` prompts of `L` tokens.
#[derive(Debug, Clone)]
pub struct ClipOutput {
    /// `[B, L, D]`: output of the layer before the last, not normed (`hidden_states[-2]`).
    pub penultimate: Tensor<3>,
    /// `[B, L, D]`: output of the last layer after the final norm.
    pub last_hidden_state: Tensor<3>,
    /// `[B, P]`: the last hidden state at the end token, projected.
    pub text_embeds: Tensor<2>,
}

impl ClipTextConfig {
    /// The model with random weights, none of which is allocated before it is used.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<ClipText, ConfigError> {
        self.validate()?;
        let activation = self.activation()?;
        let embedding = |rows| EmbeddingConfig::new(rows, self.hidden_size).init(device);
        Ok(ClipText {
            token_embedding: embedding(self.vocab_size),
            position_embedding: embedding(self.max_position_embeddings),
            layers: (0..self.num_hidden_layers)
                .map(|_| ClipLayer::new(self, activation, device))
                .collect(),
            final_layer_norm: norm(self, device),
            text_projection: LinearConfig::new(self.hidden_size, self.projection_dim)
                .with_bias(false)
                .init(device),
            epsilon: self.layer_norm_eps,
            pooled_token: self.pooled_token(),
            operands: Operands::default(),
        })
    }
}

impl ClipText {
    /// Encodes tokens.
    ///
    /// # Shapes
    /// `[B, L]` ids, to the shapes of [`ClipOutput`].
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] for an id outside the vocabulary, [`Error::Shape`] for more
    /// tokens than the model has positions, [`Error::Value`] for a prompt without end token.
    pub fn forward(&self, tokens: &TokenIds) -> Result<ClipOutput> {
        self.operands.install(|| BufferPool::current().install(|| self.run(tokens)))
    }

    fn run(&self, tokens: &TokenIds) -> Result<ClipOutput> {
        let table = self.token_embedding.weight.val();
        let device = table.device();
        let [vocab_size, _] = table.dims();
        let ids = tokens.to_tensor(vocab_size, self.positions(), &device)?;
        let pooled_rows = self.pooled_rows(tokens)?;

        let positions = self.position_embedding.weight.val().narrow(0, 0, tokens.length());
        // Tables may be narrower than activations.
        let dtype = self.final_layer_norm.gamma.val().dtype();
        let embedded = embed(&self.token_embedding, ids).cast(dtype);
        let mut hidden = embedded + positions.cast(dtype).unsqueeze();
        let mut penultimate = hidden.clone();
        for layer in &self.layers {
            penultimate = hidden.clone();
            hidden = layer.forward(hidden);
        }
        let last_hidden_state = normalise(&self.final_layer_norm, self.epsilon, hidden);

        let [batch, length, width] = last_hidden_state.dims();
        let rows = last_hidden_state.clone().reshape([batch * length, width]);
        let pooled_rows = Tensor::<1, Int>::from_data(&pooled_rows[..], &device);
        let pooled = rows.select(0, pooled_rows);
        // A conditioning vector.
        let text_embeds = Operands::Exact.install(|| linear_layer(&self.text_projection, pooled));
        Ok(ClipOutput { penultimate, last_hidden_state, text_embeds })
    }

    /// Tokens of the longest prompt.
    pub fn positions(&self) -> usize {
        self.position_embedding.weight.lazy_shape()[0]
    }

    /// `D`: width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.token_embedding.weight.lazy_shape()[1]
    }

    /// `P`: width of the pooled vector.
    pub fn projection_dim(&self) -> usize {
        self.text_projection.weight.lazy_shape()[1]
    }

    /// The row of each prompt's end token, counted through the whole batch.
    fn pooled_rows(&self, tokens: &TokenIds) -> Result<Vec<i32>> {
        tokens
            .prompts()
            .enumerate()
            .map(|(prompt, ids)| {
                let position = self.pooled_token.position(ids).ok_or_else(|| {
                    let expected = format!("the end token ({:?})", self.pooled_token);
                    Error::value("token ids of a prompt", expected, "none")
                })?;
                Ok((prompt * tokens.length() + position) as i32)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{difference, lazy_parameters};

    fn tiny(eos_token_id: u32) -> ClipTextConfig {
        ClipTextConfig {
            vocab_size: 12,
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            max_position_embeddings: 6,
            projection_dim: 5,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id,
        }
    }

    #[test]
    fn parameters_of_the_official_model() {
        let device = Device::flex();
        let model = ClipTextConfig::official().init(&device).unwrap();
        let (width, mlp, vocabulary, positions) = (1024, 4096, 49408, 77);
        let attention = 4 * (width * width + width);
        let feed_forward = width * mlp + mlp + mlp * width + width;
        let layer = attention + feed_forward + 2 * (2 * width);
        let embeddings = (vocabulary + positions) * width;
        let expected = embeddings + 24 * layer + 2 * width + width * width;
        // Two tables, 16 tensors a layer, the final norm's two, the projection.
        assert_eq!(lazy_parameters(&model), (2 + 24 * 16 + 2 + 1, expected));
        assert_eq!(
            (model.positions(), model.hidden_size(), model.projection_dim()),
            (77, 1024, 1024)
        );
    }

    /// The same weights with another convention project another row.
    #[test]
    fn the_end_token_decides_which_row_is_pooled() {
        let device = Device::flex();
        let legacy = tiny(2).init(&device).unwrap();
        let tokens = TokenIds::new(6, vec![10, 3, 9, 4, 11, 11, 10, 5, 9, 9, 11, 0]).unwrap();
        for (eos, rows) in [(2, [4, 4]), (9, [2, 2]), (11, [4, 4]), (10, [0, 0])] {
            let model = ClipText { pooled_token: tiny(eos).pooled_token(), ..legacy.clone() };
            let output = model.forward(&tokens).unwrap();
            for (prompt, row) in rows.into_iter().enumerate() {
                let at = |x: &Tensor<3>| x.clone().narrow(0, prompt, 1).narrow(1, row, 1);
                let expected = model.text_projection.forward(at(&output.last_hidden_state));
                let got = output.text_embeds.clone().narrow(0, prompt, 1).unsqueeze();
                // The same product, perhaps in another order.
                assert!(difference(got, expected) < 1e-6, "eos {eos}, prompt {prompt}");
            }
        }
        let model = ClipText { pooled_token: tiny(8).pooled_token(), ..legacy };
        let error = model.forward(&tokens).unwrap_err();
        assert!(matches!(error, Error::Value { .. }), "{error}");
    }

    /// A token can't see what comes after it.
    #[test]
    fn attention_is_causal() {
        let model = tiny(2).init(&Device::flex()).unwrap();
        let encode = |ids: [u32; 4]| {
            model.forward(&TokenIds::new(4, ids.into()).unwrap()).unwrap().last_hidden_state
        };
        let (a, b) = (encode([1, 2, 3, 4]), encode([1, 2, 9, 8]));
        assert_eq!(difference(a.clone().narrow(1, 0, 2), b.clone().narrow(1, 0, 2)), 0.0);
        assert!(difference(a.narrow(1, 2, 2), b.narrow(1, 2, 2)) > 1e-3);
    }

    #[test]
    fn tokens_that_the_tables_lack_are_errors() {
        let model = tiny(2).init(&Device::flex()).unwrap();
        let error = model.forward(&TokenIds::new(2, vec![1, 12]).unwrap()).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { id: 12, position: 1, limit: 12 }));
        let error = model.forward(&TokenIds::new(7, vec![1; 7]).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }));
    }
}
