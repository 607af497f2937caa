//! The precision of the operands of products.

use std::cell::Cell;

use crate::scope::with_value;

/// The precision to which the [`linear`](crate::linear) kernels round the operands of a product.
/// Its sums are f32.
///
/// A model has one as a value, and runs its passes in it with [`install`](Self::install): kernels
/// read it on the thread that calls them. Compositions don't: on GPUs and in training the dtype of
/// a tensor decides.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use editmgt_kernels::{Operands, linear};
///
/// let device = Device::flex();
/// // 1 + 2^-10 is 1 in bf16.
/// let x = Tensor::<2>::from_data([[1.0009765625f32, 1.0]], &device);
/// let weight = Tensor::<2>::from_data([[1.0f32], [-1.0]], &device);
/// let of = |operands: Operands| operands.install(|| linear(x.clone(), weight.clone(), None));
/// assert_eq!(of(Operands::Exact).into_scalar::<f32>(), 0.0009765625);
/// assert_eq!(of(Operands::Bf16).into_scalar::<f32>(), 0.0);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operands {
    /// Not rounded: a weight in half precision is widened to f32.
    #[default]
    Exact,
    /// Both operands are rounded to bf16. Computed with the processor's instructions for bf16
    /// (AVX-512 BF16), where it has them, and in f32 elsewhere: the same but for the order of sums,
    /// and for denormal numbers, which the instructions take for zero.
    Bf16,
    /// The operands of dense weights are rounded to int8, with a scale for each row of the input
    /// and each column of the weight: the largest magnitude there is 127 steps. Rows in which that
    /// is more than 25 times the mean magnitude are multiplied as in [`Bf16`](Self::Bf16), and so
    /// is all else: attention, convolutions, quantised weights, and the gradients of training.
    /// Computed with the processor's instructions for int8 (AMX INT8, AVX-512 VNNI, AVX-VNNI),
    /// where it has them, and in f32 elsewhere. An input that isn't finite makes its whole row NaN.
    Int8,
}

/// A model that has [`Operands`] as a value; [`Operands::Exact`] unless it is given others.
pub trait WithOperands {
    /// The same model with the operands of its products in this precision. Layers that compute
    /// conditioning vectors stay exact: they are a few rows, and every block depends on them.
    #[must_use]
    fn with_operands(self, operands: Operands) -> Self;
}

thread_local! {
    /// What [`Operands::install`] runs in.
    static CURRENT: Cell<Operands> = const { Cell::new(Operands::Exact) };
}

impl Operands {
    /// Runs `pass` with this precision for the kernels that it calls on this thread.
    pub fn install<R>(self, pass: impl FnOnce() -> R) -> R {
        with_value(|value| CURRENT.replace(value), self, pass)
    }

    /// That of this thread.
    pub(crate) fn current() -> Self {
        CURRENT.get()
    }
}
