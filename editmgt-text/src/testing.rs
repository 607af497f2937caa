//! Helpers of the unit tests.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

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
