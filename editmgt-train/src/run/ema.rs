use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// An exponential moving average of a module's float parameters: `average = decay * average + (1 -
/// decay) * weight` at each update, initially a copy of the weights. (Computed so that the average
/// of a constant weight is the weight, bit for bit.)
#[derive(Debug, Clone)]
pub struct Ema<M> {
    module: M,
    decay: f64,
}

impl<M: Module> Ema<M> {
    /// Starts with the weights of `module`.
    pub fn new(module: &M, decay: f64) -> Self {
        Self { module: module.valid(), decay }
    }

    /// Resumes with saved averages.
    pub fn resume(average: M, decay: f64) -> Self {
        Self::new(&average, decay)
    }

    /// The average, without autodiff.
    pub fn module(&self) -> &M {
        &self.module
    }

    /// Moves the average towards the weights of `module`, which is the averaged module or a later
    /// state of it.
    pub fn update(&mut self, module: &M) {
        let mut weights = Weights(GradientsParams::new());
        module.visit(&mut weights);
        let mut average = Average { weights: weights.0, decay: self.decay };
        self.module = self.module.clone().map(&mut average);
    }
}

/// The parameters of a module by id, in burn's container for gradients.
struct Weights(GradientsParams);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val().inner());
    }
}

struct Average {
    weights: GradientsParams,
    decay: f64,
}

impl ModuleMapper for Average {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let weight = self.weights.remove::<D>(param.id).expect("both modules have the same ids");
        param.map(|average| average.clone() + (weight - average) * (1.0 - self.decay))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[derive(Module, Debug)]
    struct One {
        value: Param<Tensor<1>>,
    }

    #[test]
    fn is_the_recurrence() {
        let device = Device::flex().autodiff();
        let start = One { value: Param::from_tensor(Tensor::from_floats([1.0, 8.0], &device)) };
        let mut ema = Ema::new(&start, 0.75);
        let mut expected = [1.0, 8.0];
        for weights in [[5.0, 0.0], [-3.0, 4.0]] {
            let id = start.value.id;
            let tensor = Tensor::from_floats(weights, &device).require_grad();
            ema.update(&One { value: Param::initialized(id, tensor) });
            for (expected, weight) in expected.iter_mut().zip(weights) {
                *expected = 0.75 * *expected + 0.25 * weight;
            }
        }
        // Quarters of small numbers are exact.
        assert_eq!(ema.module().value.val().try_into_vec_as::<f32>().unwrap(), expected);
    }
}
