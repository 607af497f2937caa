//! Helpers of the unit tests.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor};

/// Number of tensors and of numbers in a module, none of which may be allocated.
pub(crate) fn lazy_parameters<M: Module>(module: &M) -> (usize, usize) {
    #[derive(Default)]
    struct Count(usize, usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert!(!param.is_initialized(), "a parameter of {:?}", param.lazy_shape());
            self.0 += 1;
            self.1 += param.lazy_shape().num_elements();
        }
    }
    let mut count = Count::default();
    module.visit(&mut count);
    (count.0, count.1)
}

/// Largest absolute difference of two tensors of one shape.
pub(crate) fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).abs().max().into_scalar::<f32>()
}

/// Checks that a norm over 8 channels takes its statistics in f32: its half-precision results are
/// those of f32, rounded once. With autodiff, norms are composed of operations in the
/// dtype that they are given, as on GPU backends.
pub(crate) fn check_f32_statistics(norm: impl Fn(Tensor<3>) -> Tensor<3>) {
    // The squares of the first overflow f16; the mean of the second, 259, is not a bf16
    // number: these are 2 apart there.
    let rows = [
        [300.0f32, -900.0, 4000.0, 0.0, -59392.0, 24.0, 1000.0, 500.0],
        [256.0, 258.0, 260.0, 262.0, 256.0, 258.0, 260.0, 262.0],
    ];
    for device in [Device::flex(), Device::flex().autodiff()] {
        let x = Tensor::<3>::from_floats([rows], &device);
        let exact = norm(x.clone());
        // Half of the last place of numbers up to 4.
        for (dtype, tolerance) in [(DType::BF16, 8e-3), (DType::F16, 1e-3)] {
            let got = norm(x.clone().cast(dtype));
            assert_eq!(got.dtype(), dtype);
            let error = difference(got.cast(DType::F32), exact.clone());
            assert!(error <= tolerance, "{dtype:?} on {device:?}: {error}");
        }
    }
}
