use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use editmgt_core::Error;

use super::TrainError;

/// Multiplies all gradients of a module.
pub(super) fn scaled<M: Module>(module: &M, from: GradientsParams, factor: f32) -> GradientsParams {
    let mut scaled = Scaled { from, to: GradientsParams::new(), factor };
    module.visit(&mut scaled);
    scaled.to
}

/// Global norm clipping: scales the gradients of a module so that their norm over all parameters is
/// at most `max_norm` (`None` leaves them), and returns the norm before.
///
/// burn's own clipping works per parameter, which changes the direction of a step.
///
/// # Errors
/// [`TrainError::NotFinite`] when the norm is not finite, [`TrainError::Stage`] when the read-back
/// fails.
pub fn clip_by_norm<M: Module>(
    module: &M,
    gradients: GradientsParams,
    max_norm: Option<f32>,
) -> Result<(GradientsParams, f32), TrainError> {
    let mut squares = Squares { gradients: &gradients, sum: None };
    module.visit(&mut squares);
    let norm = match squares.sum {
        Some(sum) => scalar(sum.sqrt(), "reading the norm of gradients")?,
        None => 0.0,
    };
    if !norm.is_finite() {
        return Err(TrainError::NotFinite { what: "norm of the gradients", value: norm });
    }
    match max_norm {
        Some(max_norm) if norm > max_norm => Ok((scaled(module, gradients, max_norm / norm), norm)),
        _ => Ok((gradients, norm)),
    }
}

/// Reads one number back from a device.
pub(super) fn scalar(tensor: Tensor<1>, doing: &'static str) -> Result<f32, TrainError> {
    Ok(tensor.try_into_scalar::<f32>().map_err(|e| Error::device(doing, e))?)
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let square = gradient.cast(DType::F32).square().sum();
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + square,
            None => square,
        });
    }
}

struct Scaled {
    from: GradientsParams,
    to: GradientsParams,
    factor: f32,
}

impl ModuleVisitor for Scaled {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, gradient * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<1>>,
        b: Param<Tensor<2>>,
        unused: Param<Tensor<1>>,
    }

    #[test]
    fn the_norm_is_that_of_all_parameters_together() {
        let device = Device::flex();
        let module = Two {
            a: Param::from_tensor(Tensor::zeros([1], &device)),
            b: Param::from_tensor(Tensor::zeros([1, 2], &device)),
            unused: Param::from_tensor(Tensor::zeros([3], &device)),
        };
        for (max_norm, scale) in [(None, 1.0), (Some(20.0), 1.0), (Some(6.5), 0.5)] {
            let mut gradients = GradientsParams::new();
            gradients.register(module.a.id, Tensor::<1>::from_floats([3.0], &device));
            gradients.register(module.b.id, Tensor::<2>::from_floats([[4.0, -12.0]], &device));
            let (gradients, norm) = clip_by_norm(&module, gradients, max_norm).unwrap();
            assert_eq!((norm, gradients.len()), (13.0, 2));
            let b = gradients.get::<2>(module.b.id).unwrap().try_into_vec_as::<f32>().unwrap();
            assert_eq!(b, [4.0 * scale, -12.0 * scale]);
        }
        let mut gradients = GradientsParams::new();
        gradients.register(module.a.id, Tensor::<1>::from_floats([f32::NAN], &device));
        let error = clip_by_norm(&module, gradients, None).unwrap_err();
        assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    }
}
