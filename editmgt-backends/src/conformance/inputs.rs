use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use editmgt_core::{ChaChaNoise, GridSize, NoiseRequest, NoiseSource, TokenDraw};

use crate::Dtype;

/// Draws a check's inputs, the same on every device.
pub(super) struct Inputs<'a> {
    device: &'a Device,
    dtype: Dtype,
    drawn: usize,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(device: &'a Device, dtype: Dtype) -> Self {
        Self { device, dtype, drawn: 0 }
    }

    /// The device of the inputs.
    pub(super) fn device(&self) -> &'a Device {
        self.device
    }

    /// `count` uniforms in [0, 1) of 24 bits.
    fn uniforms(&mut self, count: usize) -> Vec<f32> {
        let size = GridSize::new(1, count);
        let request = NoiseRequest { first_image: 0, batch: 1, size, step: self.drawn };
        self.drawn += 1;
        let noise = ChaChaNoise::new(6).step_noise(&request).expect("steps below 2^24");
        match noise.draw {
            TokenDraw::Uniforms(uniforms) => uniforms,
            TokenDraw::Tokens(_) => unreachable!("ChaCha draws uniforms"),
        }
    }

    /// Values between `-limit` and `limit`, a power of two, that the check's float type represents
    /// exactly: with all 24 bits for f32, to detect devices that multiply with fewer; with 8 bits
    /// otherwise.
    fn values(&mut self, count: usize, limit: f64) -> Vec<f64> {
        let uniforms = self.uniforms(count).into_iter().map(f64::from);
        let value = |u: f64| match self.dtype {
            Dtype::F32 => 2.0 * u - 1.0,
            Dtype::F16 | Dtype::Bf16 => ((u * 511.0).floor() - 255.0) / 256.0,
        };
        uniforms.map(|u| value(u) * limit).collect()
    }

    /// [`values`](Self::values), on the host and as a tensor.
    pub(super) fn tensor<const D: usize>(
        &mut self,
        dims: [usize; D],
        limit: f64,
    ) -> (Tensor<D>, Vec<f64>) {
        let values = self.values(dims.iter().product(), limit);
        (self.on_device(&values, dims), values)
    }

    /// A tensor of values that the check's float type represents exactly.
    pub(super) fn on_device<const D: usize>(&self, values: &[f64], dims: [usize; D]) -> Tensor<D> {
        self.float(values, dims, self.dtype)
    }

    /// f32 values with 24 bits in [1, 1.25), independent of the check's float type, and that type.
    pub(super) fn fine_values<const D: usize>(
        &mut self,
        dims: [usize; D],
    ) -> (Tensor<D>, Vec<f64>, DType) {
        let uniforms = self.uniforms(dims.iter().product());
        let values: Vec<f64> = uniforms.iter().map(|u| f64::from(1.0 + u / 4.0)).collect();
        (self.float(&values, dims, Dtype::F32), values, self.dtype.into())
    }

    fn float<const D: usize>(&self, values: &[f64], dims: [usize; D], dtype: Dtype) -> Tensor<D> {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, dims), (self.device, DType::from(dtype)))
    }

    /// Integers from 0 to below `below`.
    pub(super) fn indices<const D: usize>(
        &mut self,
        dims: [usize; D],
        below: usize,
    ) -> (Tensor<D, Int>, Vec<usize>) {
        let uniforms = self.uniforms(dims.iter().product());
        let indices: Vec<_> = uniforms.iter().map(|u| (u * below as f32) as usize).collect();
        (self.integers(&indices, dims), indices)
    }

    /// Every integer from 0 to below `below`, shuffled.
    pub(super) fn permutation(&mut self, below: usize) -> (Tensor<1, Int>, Vec<usize>) {
        let keys = self.uniforms(below);
        let mut order: Vec<_> = (0..below).collect();
        order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
        (self.integers(&order, [below]), order)
    }

    fn integers<const D: usize>(&self, values: &[usize], dims: [usize; D]) -> Tensor<D, Int> {
        let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
        Tensor::from_data(TensorData::new(values, dims), self.device)
    }
}

/// A result and its reference.
#[derive(Debug)]
pub(super) struct Answer {
    got_dims: Vec<usize>,
    got: Vec<f64>,
    dims: Vec<usize>,
    pub(super) expected: Vec<f64>,
}

impl Answer {
    pub(super) fn new<const D: usize>(
        got: Tensor<D>,
        dims: [usize; D],
        expected: Vec<f64>,
    ) -> Self {
        let got_dims = got.dims().to_vec();
        let got = got.cast(DType::F32).try_into_vec_as::<f32>().expect("values can be read back");
        let got = got.into_iter().map(f64::from).collect();
        Self { got_dims, got, dims: dims.to_vec(), expected }
    }

    pub(super) fn ints<const D: usize>(
        got: Tensor<D, Int>,
        dims: [usize; D],
        expected: impl IntoIterator<Item = usize>,
    ) -> Self {
        let got_dims = got.dims().to_vec();
        let got = got.try_into_vec_as::<i32>().expect("integers can be read back");
        let got = got.into_iter().map(f64::from).collect();
        let expected = expected.into_iter().map(|value| value as f64).collect();
        Self { got_dims, got, dims: dims.to_vec(), expected }
    }

    pub(super) fn bools<const D: usize>(
        got: Tensor<D, Bool>,
        dims: [usize; D],
        expected: impl IntoIterator<Item = bool>,
    ) -> Self {
        Self::ints(got.int(), dims, expected.into_iter().map(usize::from))
    }

    /// The largest absolute difference relative to the largest absolute value of the reference.
    pub(super) fn max_error(&self) -> Result<f64, String> {
        if self.got_dims != self.dims || self.got.len() != self.expected.len() {
            return Err(format!("expected shape {:?}, got {:?}", self.dims, self.got_dims));
        }
        if let Some(at) = self.got.iter().position(|value| !value.is_finite()) {
            let (got, expected) = (self.got[at], self.expected[at]);
            return Err(format!("expected {expected}, got {got} at place {at}"));
        }
        let largest = self.expected.iter().fold(0.0, |max: f64, value| max.max(value.abs()));
        let differences = self.got.iter().zip(&self.expected).map(|(a, b)| (a - b).abs());
        let error = differences.fold(0.0, f64::max);
        Ok(if error == 0.0 { 0.0 } else { error / largest.max(f64::MIN_POSITIVE) })
    }
}
