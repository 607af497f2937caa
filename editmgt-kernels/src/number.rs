//! Element types of weights.

#[cfg(feature = "flex")]
use burn::tensor::Element;
use burn::tensor::{bf16, f16};
use half::slice::HalfFloatSliceExt;

/// An element type whose values f32 represents exactly.
pub(crate) trait Widen: Scalar + Copy + Sync {
    /// Converts as many values as both slices have.
    fn widen(from: &[Self], to: &mut [f32]);

    /// The bits of the nearest bf16 of as many values as both slices have.
    #[inline(always)]
    fn narrow<const N: usize>(from: &[Self; N], to: &mut [u16; N]) {
        let mut values = [0.0; N];
        Self::widen(from, &mut values);
        for (to, x) in to.iter_mut().zip(values) {
            *to = bf16_bits(x);
        }
    }
}

/// The bits of the nearest bf16 of an f32; of two as near the even one. NaN stays NaN.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // A NaN whose upper half is that of an infinity would become one.
    (if x.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16
}

/// Element types of flex tensors.
#[cfg(feature = "flex")]
pub(crate) trait Scalar: Element + pulp::bytemuck::Pod {}
#[cfg(feature = "flex")]
impl<E: Element + pulp::bytemuck::Pod> Scalar for E {}

#[cfg(not(feature = "flex"))]
pub(crate) trait Scalar {}
#[cfg(not(feature = "flex"))]
impl<E> Scalar for E {}

impl Widen for f32 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Widen for bf16 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        // bf16 is the upper 16 bits of an f32.
        to.iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to = f32::from_bits(u32::from(from.to_bits()) << 16));
    }

    #[inline(always)]
    fn narrow<const N: usize>(from: &[Self; N], to: &mut [u16; N]) {
        // In one piece: number by number it was compiled to stores of 16 bits.
        to.copy_from_slice(from.reinterpret_cast());
    }
}

impl Widen for f16 {
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        // `half` converts slices with SIMD instructions.
        from.convert_to_f32_slice(to);
    }
}
