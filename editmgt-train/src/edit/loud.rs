use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, s};

use super::EditModel;

/// What brings a random linear layer (uniform within `±1/sqrt(inputs)`) behind a SiLU to the
/// deviation that keeps the size of what passes.
const GAIN: f64 = 3.0;

/// The layers between the pooled text and the modulation of the blocks.
const LAYERS: [&str; 2] = ["cond_embed", "text_embedder"];

/// Lets the pooled text be heard from the first step.
///
/// Four linear layers lie between it and the blocks. With usual random weights each makes it
/// smaller, and the first one mixes it with ten times as many micro-conditions, which are the same
/// for all pictures of one size: what the text changes in the modulation is then a few thousandths,
/// and a small model learns for thousands of samples without reading. Here these layers keep the
/// size of what passes, and the micro-conditions start at zero.
pub(super) fn make_text_loud(model: EditModel, pooled_size: usize) -> EditModel {
    model.map(&mut Loud { pooled_size, path: Vec::new() })
}

struct Loud {
    pooled_size: usize,
    path: Vec<String>,
}

impl ModuleMapper for Loud {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is = |part: &str| self.path.iter().any(|name| name == part);
        if !(is("weight") && LAYERS.iter().any(|layer| is(layer))) {
            return param;
        }
        let reads_micro = is("cond_embed") && is("linear_1");
        param.map(|weight| {
            let require_grad = weight.is_require_grad();
            let [inputs, pooled] = [weight.dims()[0], self.pooled_size];
            // [inputs, outputs]: first the pooled text, then the micro-conditions.
            let louder = match reads_micro {
                // As if the pooled text were all that comes in.
                true => {
                    let gain = GAIN * (inputs as f64 / pooled as f64).sqrt();
                    let text = weight.clone().slice(s![0..pooled]) * gain;
                    let micro = weight.slice(s![pooled..inputs]) * 0.0;
                    Tensor::cat(vec![text, micro], 0)
                }
                false => weight * GAIN,
            };
            louder.detach().set_require_grad(require_grad)
        })
    }
}
