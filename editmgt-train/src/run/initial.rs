use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use editmgt_world::{Draws, Stream, fnv1a};

/// Deviation of random parameters of other layers, common for transformers.
const DEVIATION: f32 = 0.02;

/// Prepares a module for training: its random parameters are drawn from `draws`, so that a seed
/// gives the same weights on every device (a device's own generator is shared by all threads), and
/// every parameter's id is derived from its path, by which the optimizer's state is found after a
/// restart.
///
/// Weights and biases of linear layers and convolutions are uniform within `±1/sqrt(inputs)`,
/// embeddings are standard normal: burn's own rules. Other random parameters are normal with
/// deviation 0.02. Constant parameters (the scale of a norm, a zero-initialised layer) are kept.
pub fn initialise<M: Module>(module: M, draws: &Draws) -> M {
    module.map(&mut Initial { draws: Some(*draws), path: Vec::new(), bound: 0.0 })
}

/// Sets the ids that [`initialise`] sets, and keeps all values.
pub(super) fn with_path_ids<M: Module>(module: M) -> M {
    module.map(&mut Initial { draws: None, path: Vec::new(), bound: 0.0 })
}

struct Initial {
    draws: Option<Draws>,
    /// Path components, each with the type of the module that contains it.
    path: Vec<(String, String)>,
    /// `1/sqrt(inputs)` of the layer whose weight was visited last: its bias follows.
    bound: f32,
}

impl Initial {
    fn draw(&mut self, path: &str, shape: &[usize], stream: &mut Stream) -> Vec<f32> {
        let (field, kind) = match self.path.last() {
            Some((field, container)) => (field.as_str(), container.trim_start_matches("Struct:")),
            None => (path, ""),
        };
        let inputs: Option<usize> = match (kind, field) {
            ("Linear", "weight") => Some(shape[0]),
            ("Conv1d" | "Conv2d", "weight") => Some(shape[1..].iter().product()),
            _ => None,
        };
        if let Some(inputs) = inputs {
            self.bound = 1.0 / (inputs as f32).sqrt();
        }
        let bound = self.bound;
        let count = shape.iter().product();
        match kind {
            "Linear" | "Conv1d" | "Conv2d" => {
                (0..count).map(|_| (2.0 * stream.uniform() - 1.0) * bound).collect()
            }
            "Embedding" => (0..count).map(|_| stream.normal()).collect(),
            _ => (0..count).map(|_| stream.normal() * DEVIATION).collect(),
        }
    }
}

impl ModuleMapper for Initial {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path: Vec<_> = self.path.iter().map(|(name, _)| name.as_str()).collect();
        let path = path.join(".");
        let (_, tensor, mapper) = param.consume();
        let tensor = match self.draws {
            Some(draws) if !is_constant(&tensor) => {
                let (shape, dtype) = (tensor.dims(), tensor.dtype());
                let device = tensor.device();
                let values = self.draw(&path, &shape, &mut draws.stream(&path, 0));
                let drawn = Tensor::from_data(TensorData::new(values, shape), (&device, dtype));
                drawn.set_require_grad(tensor.is_require_grad())
            }
            _ => tensor,
        };
        Param::from_mapped_value(ParamId::from(fnv1a(&path)), tensor, mapper)
    }
}

fn is_constant<const D: usize>(tensor: &Tensor<D>) -> bool {
    let tensor = tensor.clone().inner();
    let least = tensor.clone().min().into_scalar::<f32>();
    // A single value always equals its own maximum, so only the usual constants count.
    least == tensor.clone().max().into_scalar::<f32>()
        && (tensor.shape().num_elements() > 1 || [0.0, 1.0].contains(&least))
}

#[cfg(test)]
mod tests {
    use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    #[derive(Module, Debug)]
    struct Small {
        linear: Linear,
        norm: LayerNorm,
        table: Embedding,
        own: Param<Tensor<2>>,
    }

    fn small(seed: u64) -> Small {
        let device = Device::flex().autodiff();
        let own = Tensor::random([8, 8], burn::tensor::Distribution::Default, &device);
        let module = Small {
            linear: LinearConfig::new(16, 1).init(&device),
            norm: LayerNormConfig::new(4).init(&device),
            table: EmbeddingConfig::new(64, 4).init(&device),
            own: Param::from_tensor(own),
        };
        initialise(module, &Draws::new(seed))
    }

    #[test]
    fn a_seed_means_the_same_weights_and_ids() {
        let values = |module: &Small| {
            let own = module.own.val().try_into_vec_as::<f32>().unwrap();
            let table = module.table.weight.val().try_into_vec_as::<f32>().unwrap();
            let linear = module.linear.weight.val().try_into_vec_as::<f32>().unwrap();
            let bias = module.linear.bias.as_ref().unwrap().val();
            (own, table, linear, bias.into_scalar::<f32>())
        };
        let (one, two, other) = (small(1), small(1), small(2));
        assert_eq!(values(&one), values(&two));
        assert_ne!(values(&one), values(&other));
        assert_eq!(one.linear.weight.id, other.linear.weight.id);
        assert_ne!(one.linear.weight.id, one.own.id);
        assert!(one.linear.weight.is_require_grad() && one.own.is_require_grad());
        let (own, _, linear, bias) = values(&one);
        assert!(linear.iter().all(|w| w.abs() <= 0.25), "1/sqrt(16): {linear:?}");
        assert!(bias.abs() <= 0.25, "{bias}");
        assert!(own.iter().all(|w| w.abs() < 0.2), "deviation 0.02: {own:?}");
        let gamma = one.norm.gamma.val().try_into_vec_as::<f32>().unwrap();
        assert_eq!(gamma, [1.0; 4]);
    }
}
