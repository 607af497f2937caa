//! What computes operations whose gradients are recorded.

use std::cell::Cell;

use crate::scope::with_value;

/// What computes the operations of this crate where burn's autodiff records them.
///
/// A training loop runs the passes of its losses in one with [`install`](Self::install): operations
/// read it on the thread that calls them. The backward pass needs no scope; it uses what the
/// forward pass recorded.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use editmgt_kernels::{Recording, gelu_tanh};
///
/// let x = Tensor::<1>::from_floats([1.0, -2.0], &Device::flex().autodiff()).require_grad();
/// let y = Recording::Kernels.install(|| gelu_tanh(x.clone()));
/// let gradient = x.grad(&y.sum().backward()).unwrap();
/// assert_eq!(gradient.dims(), [2]);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recording {
    /// Compositions of burn's operations, each of which is recorded.
    #[default]
    Compositions,
    /// Kernels with a backward pass, for f32 tensors of the flex backend; compositions elsewhere.
    /// They differ by the order of sums. Needs the feature `autodiff`.
    Kernels,
}

thread_local! {
    /// What [`Recording::install`] runs in.
    static CURRENT: Cell<Recording> = const { Cell::new(Recording::Compositions) };
}

impl Recording {
    /// Runs `pass` with this choice for the operations that it calls on this thread.
    pub fn install<R>(self, pass: impl FnOnce() -> R) -> R {
        with_value(|value| CURRENT.replace(value), self, pass)
    }

    /// That of this thread.
    #[cfg(feature = "autodiff")]
    pub(crate) fn current() -> Self {
        CURRENT.get()
    }
}
