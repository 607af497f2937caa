use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Tensor};
use editmgt_core::Result;
use editmgt_core::config::ConfigError;
use editmgt_kernels::{BufferPool, Operands, WithOperands, dequantized_dtype, embed};

use super::Gemma2Config;
use super::attention::Context;
use super::layer::Gemma2Layer;
use super::norm::Gemma2Norm;
use crate::TokenIds;

/// Gemma2 without its last layer, final norm and language head. Field names are the checkpoint's.
/// Weights of linear layers and the table may be narrower than those of norms, whose dtype
/// activations have.
#[derive(Module, Debug)]
pub struct Gemma2 {
    embed_tokens: Embedding,
    layers: Vec<Gemma2Layer>,
    #[module(skip)]
    config: Gemma2Config,
    /// Of the products of a pass.
    #[module(skip)]
    operands: Operands,
}

impl WithOperands for Gemma2 {
    fn with_operands(self, operands: Operands) -> Self {
        Self { operands, ..self }
    }
}

/// Every parameter of an official Gemma2 file, whose language head shares the token table. It is
/// there to be counted, listed and written, and can't be run.
#[derive(Module, Debug)]
pub struct Gemma2Complete {
    embed_tokens: Embedding,
    layers: Vec<Gemma2Layer>,
    norm: Gemma2Norm,
}

impl Gemma2Config {
    /// The model with random weights, none of which is allocated before it is used.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<Gemma2, ConfigError> {
        self.validate()?;
        // hidden_states[-2] is the input of the last layer.
        let (embed_tokens, layers) = self.init_layers(self.num_hidden_layers - 1, device)?;
        Ok(Gemma2 { embed_tokens, layers, config: self.clone(), operands: Operands::default() })
    }

    /// All parameters of the official file, under the same paths as [`init`](Self::init).
    ///
    /// # Errors
    /// As [`init`](Self::init).
    pub fn init_complete(&self, device: &Device) -> Result<Gemma2Complete, ConfigError> {
        self.validate()?;
        let (embed_tokens, layers) = self.init_layers(self.num_hidden_layers, device)?;
        Ok(Gemma2Complete { embed_tokens, layers, norm: Gemma2Norm::new(self, device) })
    }

    fn init_layers(
        &self,
        layers: usize,
        device: &Device,
    ) -> Result<(Embedding, Vec<Gemma2Layer>), ConfigError> {
        let activation = self.activation()?;
        let embed_tokens = EmbeddingConfig::new(self.vocab_size, self.hidden_size).init(device);
        let layer = |i| Gemma2Layer::new(self, activation, i, device);
        Ok((embed_tokens, (0..layers).map(layer).collect()))
    }
}

impl Gemma2 {
    /// Encodes tokens: the output of the layer before the last, not normed (`hidden_states[-2]`).
    ///
    /// The only mask is the causal one: padding is attended like any other token, and positions
    /// count it, as in the official pipeline.
    ///
    /// # Shapes
    /// `[B, L]` ids, to `[B, L, D]`.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`](editmgt_core::Error::TokenOutOfRange) for an id outside the
    /// vocabulary, [`Error::Shape`](editmgt_core::Error::Shape) for more tokens than the model
    /// has positions.
    pub fn forward(&self, tokens: &TokenIds) -> Result<Tensor<3>> {
        self.run(tokens, |_| ())
    }

    /// As [`forward`](Self::forward), with all that comes before: the scaled embeddings, then
    /// the output of each layer.
    ///
    /// # Shapes
    /// `[B, L]` ids, to `[B, L, D]` each.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn hidden_states(&self, tokens: &TokenIds) -> Result<Vec<Tensor<3>>> {
        let mut states = Vec::with_capacity(self.layers.len() + 1);
        self.run(tokens, |state| states.push(state.clone()))?;
        Ok(states)
    }

    /// Tokens of the longest prompt.
    pub fn positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// `D`: width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn run(&self, tokens: &TokenIds, visit: impl FnMut(&Tensor<3>)) -> Result<Tensor<3>> {
        self.operands.install(|| BufferPool::current().install(|| self.run_layers(tokens, visit)))
    }

    fn run_layers(
        &self,
        tokens: &TokenIds,
        mut visit: impl FnMut(&Tensor<3>),
    ) -> Result<Tensor<3>> {
        let table = self.embed_tokens.weight.val();
        let device = table.device();
        let dtype =
            self.layers.first().map_or_else(|| dequantized_dtype(&table), Gemma2Layer::dtype);
        let ids = tokens.to_tensor(self.config.vocab_size, self.positions(), &device)?;
        let context = Context::new(&self.config, tokens.length(), dtype, &device);

        // A tensor, because the official factor is rounded to the model's own type.
        let scale = (self.config.hidden_size as f64).sqrt() as f32;
        let scale = Tensor::<3>::from_data([[[scale]]], &device).cast(dtype);
        let mut hidden = embed(&self.embed_tokens, ids).cast(dtype) * scale;
        visit(&hidden);
        for layer in &self.layers {
            hidden = layer.forward(hidden, &context);
            visit(&hidden);
        }
        Ok(hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{difference, lazy_parameters};
    use editmgt_core::Error;

    fn tiny() -> Gemma2Config {
        Gemma2Config {
            vocab_size: 20,
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 4,
            max_position_embeddings: 16,
            sliding_window: 3,
            ..Gemma2Config::official()
        }
    }

    #[test]
    fn parameters_of_the_official_model() {
        let device = Device::flex();
        let config = Gemma2Config::official();
        let (tensors, numbers) = lazy_parameters(&config.init_complete(&device).unwrap());
        assert_eq!((tensors, numbers), (288, 2_614_341_888));
        let layer = 2304 * (2 * 2048 + 2 * 1024) + 3 * 2304 * 9216 + 4 * 2304;
        let run = lazy_parameters(&config.init(&device).unwrap());
        assert_eq!(run, (tensors - 11 - 1, numbers - layer - 2304));
    }

    /// With one layer run (a sliding one), a token sees itself and the two before it.
    #[test]
    fn the_window_of_a_sliding_layer() {
        let model = tiny().init(&Device::flex()).unwrap();
        let encode = |first: u32| {
            let ids = vec![first, 3, 4, 5, 6];
            model.forward(&TokenIds::new(5, ids).unwrap()).unwrap()
        };
        let (a, b) = (encode(1), encode(2));
        for (row, sees_it) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
            let change = difference(a.clone().narrow(1, row, 1), b.clone().narrow(1, row, 1));
            assert_eq!(change > 0.0, sees_it, "row {row} changed by {change}");
        }
    }

    #[test]
    fn one_layer_leaves_the_embeddings() {
        let config = Gemma2Config { num_hidden_layers: 1, ..tiny() };
        let tokens = TokenIds::new(2, vec![1, 2]).unwrap();
        let model = config.init(&Device::flex()).unwrap();
        let states = model.hidden_states(&tokens).unwrap();
        assert_eq!(states.len(), 1);
        let embeddings = model.embed_tokens.weight.val().narrow(0, 1, 2) * 8.0f32.sqrt();
        // One rounding of the factor.
        assert!(difference(states[0].clone(), embeddings.unsqueeze()) < 1e-6);
    }

    #[test]
    fn tokens_that_the_table_lacks_are_errors() {
        let model = tiny().init(&Device::flex()).unwrap();
        let error = model.forward(&TokenIds::new(2, vec![1, 20]).unwrap()).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { id: 20, position: 1, limit: 20 }));
        let error = model.forward(&TokenIds::new(17, vec![1; 17]).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }));
    }
}
