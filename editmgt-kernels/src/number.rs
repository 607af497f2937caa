//! The types that weights are held in.

#[cfg(feature = "flex")]
use burn::tensor::Element;
use burn::tensor::{bf16, f16};
use half::slice::HalfFloatSliceExt;

/// A number that f32 holds exactly.
pub(crate) trait Number: Scalar + Copy + Sync {
    /// As many as there are in both.
    fn widen(from: &[Self], to: &mut [f32]);
}

/// What tensors of flex are made of.
#[cfg(feature = "flex")]
pub(crate) trait Scalar: Element + pulp::bytemuck::Pod {}
#[cfg(feature = "flex")]
impl<E: Element + pulp::bytemuck::Pod> Scalar for E {}

#[cfg(not(feature = "flex"))]
pub(crate) trait Scalar {}
#[cfg(not(feature = "flex"))]
impl<E> Scalar for E {}

impl Number for f32 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        // The upper half of an f32.
        to.iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to = f32::from_bits(u32::from(from.to_bits()) << 16));
    }
}

impl Number for f16 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        // As a slice: `half` has SIMD instructions for those.
        from.convert_to_f32_slice(to);
    }
}
