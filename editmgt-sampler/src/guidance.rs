use burn::tensor::{FloatDType, Tensor};
use editmgt_core::{Error, Result};

/// Classifier-free guidance: `uncond + guidance_scale · (cond - uncond)`.
///
/// # Shapes
/// - logits: `[2B, N, V]`, the batch `[unconditional…, conditional…]`, any float type
/// - result: `[B, N, V]`, f32, since the scale would amplify the rounding error of the difference
///
/// # Errors
/// [`Error::Shape`] for an odd or empty batch, [`Error::Value`] for a scale that is not finite.
///
/// A scale of 1 returns the conditional logits; callers can skip the unconditional ones then.
///
/// Source: Ho and Salimans, Classifier-free diffusion guidance (arXiv 2207.12598), as in the
/// official pipeline.
pub fn classifier_free_guidance(logits: Tensor<3>, guidance_scale: f32) -> Result<Tensor<3>> {
    let batch = logits.dims()[0];
    if batch == 0 || !batch.is_multiple_of(2) {
        return Err(Error::shape("guided batch", "an even number, unconditional first", batch));
    }
    let items = batch / 2;
    let (uncond, cond) = (logits.clone().narrow(0, 0, items), logits.narrow(0, items, items));
    guidance_of_halves(uncond, cond, guidance_scale)
}

/// [`classifier_free_guidance`] of two halves, `[B, N, V]` each.
pub(crate) fn guidance_of_halves(
    uncond: Tensor<3>,
    cond: Tensor<3>,
    guidance_scale: f32,
) -> Result<Tensor<3>> {
    if !guidance_scale.is_finite() {
        return Err(Error::value("guidance scale", "a finite number", guidance_scale));
    }
    let (uncond, cond) = (uncond.cast(FloatDType::F32), cond.cast(FloatDType::F32));
    Ok(uncond.clone() + (cond - uncond) * guidance_scale)
}

/// Guidance by the difference `conditional - unconditional` of another step:
/// `conditional + (guidance_scale - 1) · difference`, in f32.
///
/// # Shapes
/// `[B, N, V]` all.
pub(crate) fn add_guidance(
    conditional: Tensor<3>,
    difference: Tensor<3>,
    guidance_scale: f32,
) -> Tensor<3> {
    conditional.cast(FloatDType::F32) + difference * (guidance_scale - 1.0)
}

/// Checks the share of a run in which guidance acts: `(from, until)` with `0 ≤ from ≤ until ≤ 1`.
///
/// # Errors
/// [`Error::Value`] for another pair, NaN included.
pub fn check_guidance_interval((from, until): (f32, f32)) -> Result<()> {
    if 0.0 <= from && from <= until && until <= 1.0 {
        return Ok(());
    }
    let expected = "two shares from 0 to 1, the lesser first";
    Err(Error::value("guidance interval", expected, format!("{from} to {until}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn logits(dtype: FloatDType) -> Tensor<3> {
        // [4, 1, 2]: images a and b unconditional, then conditional.
        let rows = [[[1.0, 2.0]], [[3.0, 4.0]], [[2.0, 0.0]], [[3.0, 5.0]]];
        Tensor::<3>::from_floats(rows, &Device::flex()).cast(dtype)
    }

    #[test]
    fn interpolates_from_unconditional_to_conditional() {
        for dtype in [FloatDType::F32, FloatDType::F16, FloatDType::BF16] {
            for (scale, expected) in [
                (0.0, [1.0, 2.0, 3.0, 4.0]),
                (1.0, [2.0, 0.0, 3.0, 5.0]),
                (3.0, [4.0, -4.0, 3.0, 7.0]),
            ] {
                let guided = classifier_free_guidance(logits(dtype), scale).unwrap();
                assert_eq!(guided.dims(), [2, 1, 2]);
                let guided = guided.try_into_vec_as::<f32>().unwrap();
                assert_eq!(guided, expected, "scale {scale} in {dtype:?}");
            }
        }
    }

    #[test]
    fn the_difference_of_the_same_step_gives_the_same_guidance() {
        let logits = logits(FloatDType::F32);
        let (uncond, cond) = (logits.clone().narrow(0, 0, 2), logits.clone().narrow(0, 2, 2));
        for scale in [1.0, 3.0, 0.0] {
            let expected = classifier_free_guidance(logits.clone(), scale).unwrap();
            let got = add_guidance(cond.clone(), cond.clone() - uncond.clone(), scale);
            let values = |x: Tensor<3>| x.try_into_vec_as::<f32>().unwrap();
            // Small integers are exact.
            assert_eq!(values(got), values(expected), "scale {scale}");
        }
    }

    #[test]
    fn checks_that_an_interval_is_ordered_and_within_the_run() {
        for interval in [(0.0, 1.0), (0.2, 0.2), (1.0, 1.0)] {
            assert!(check_guidance_interval(interval).is_ok(), "{interval:?}");
        }
        for interval in [(-0.1, 1.0), (0.0, 1.1), (0.6, 0.4), (f32::NAN, 1.0), (0.0, f32::NAN)] {
            let message = check_guidance_interval(interval).unwrap_err().to_string();
            assert!(message.starts_with("guidance interval: expected two shares"), "{message}");
        }
    }

    #[test]
    fn rejects_odd_batches_and_nan_scales() {
        let odd = logits(FloatDType::F32).narrow(0, 0, 3);
        assert!(classifier_free_guidance(odd, 3.0).is_err());
        assert!(classifier_free_guidance(logits(FloatDType::F32), f32::NAN).is_err());
    }
}
