//! Pseudo-random weights and images, the same in every run.

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Int, Tensor};

pub(crate) fn wave<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let values = shape.iter().product::<usize>() as i64;
    let ramp = Tensor::<1, Int>::arange(0..values, &Device::flex()).float();
    (ramp * 0.7).sin().reshape(shape)
}

pub(crate) fn image(shape: [usize; 4]) -> Tensor<4> {
    wave(shape) * 0.5 + 0.5
}

pub(crate) struct Waves;

impl ModuleMapper for Waves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // About the size that preserves the variance from layer to layer.
        param.map(|tensor| wave(tensor.dims()) * 0.3)
    }
}
