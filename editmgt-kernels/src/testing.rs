//! Inputs and comparisons of the tests.

use burn::tensor::{Device, Tensor, TensorData};

/// Pseudo-random values of about -2 to 2.
pub(crate) fn random<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    let count = shape.iter().product::<usize>() as u32;
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = move || {
        // Xorshift; its upper bits as a fraction.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let values: Vec<f32> = (0..count).map(|_| (next() + next() + next() - 1.5) * 1.4).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// The largest absolute difference, or NaN if there is one.
pub(crate) fn worst<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (a.try_into_vec_as::<f32>().unwrap(), b.try_into_vec_as::<f32>().unwrap());
    let differences = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, x| if x > worst || x.is_nan() { x } else { worst })
}

/// The same tensor on an autodiff device, where compositions run instead of kernels.
pub(crate) fn plain<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let options = (&x.device().autodiff(), x.dtype());
    Tensor::from_data(x.into_data(), options)
}

/// The results of a function's kernel and of its composition.
pub(crate) fn both(values: Vec<f32>, f: fn(Tensor<1>) -> Tensor<1>) -> [Vec<f32>; 2] {
    let x = Tensor::<1>::from_floats(&values[..], &Device::flex());
    [f(x.clone()), f(plain(x))].map(|x| x.try_into_vec_as::<f32>().unwrap())
}
