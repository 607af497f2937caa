use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use editmgt_kernels::{Operands, widens};
use serde::{Deserialize, Serialize};

use super::TrainError;

/// Precision of losses and gradients. Weights, their gradients and average, and the optimizer's
/// state are always f32; norms, softmax and losses are f32 where the model requires it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// bf16 activations: the range of f32, 8 bits of precision.
    Bf16,
    /// f16 activations, with loss scaling so that small gradients don't underflow.
    F16,
}

impl Precision {
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// Checks that a device supports the precision.
    pub(super) fn check(self, device: &Device) -> Result<(), TrainError> {
        if device.supports_dtype(self.dtype()) {
            return Ok(());
        }
        let got = format!("{:?} on {device:?}", self.dtype());
        Err(TrainError::option("precision", "one that the device computes in (f32)", got))
    }
}

/// Operands of the matrix products of losses and gradients, on the CPU in f32 precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Products {
    /// Not rounded.
    #[default]
    F32,
    /// Rounded to bf16, with sums in f32: all else, weights and activations too, stays f32. For
    /// processors with instructions for it (AMX, AVX-512 BF16); slower on others.
    Bf16,
}

impl Products {
    /// Whether it is the default, which a run's config doesn't repeat.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn operands(self) -> Operands {
        match self {
            Self::F32 => Operands::Exact,
            Self::Bf16 => Operands::Bf16,
        }
    }

    /// Checks that a device computes such products in this precision.
    pub(super) fn check(self, device: &Device, precision: Precision) -> Result<(), TrainError> {
        let computes = precision == Precision::F32 && widens(&device.clone().inner());
        if self == Self::F32 || computes {
            return Ok(());
        }
        let got = format!("bf16 in {:?} on {device:?}", precision.dtype());
        Err(TrainError::option("products", "f32, or bf16 on the CPU in f32 precision", got))
    }
}

/// The module with rounded weights, as part of the graph: gradients arrive at the f32 weights.
pub(super) fn rounded<M: Module>(module: M, precision: Precision) -> M {
    match precision {
        Precision::F32 => module,
        _ => module.map(&mut Round(precision.dtype())),
    }
}

struct Round(DType);

impl ModuleMapper for Round {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weight| weight.cast(self.0))
    }
}

/// Dynamic loss scale of f16 gradients: halved when they overflow (that step is skipped), doubled
/// after many steps without overflow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LossScale {
    pub(super) scale: f32,
    /// Steps since the last change.
    steps: u32,
}

impl LossScale {
    /// The usual start: halved within a few steps if too large.
    const START: f32 = 65536.0;
    /// Steps without overflow before the scale is doubled.
    const GROWTH_INTERVAL: u32 = 2000;

    pub(super) fn new() -> Self {
        Self { scale: Self::START, steps: 0 }
    }

    /// Updates the scale after a step.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] when gradients overflow without scaling.
    pub(super) fn update(&mut self, overflowed: bool) -> Result<(), TrainError> {
        if overflowed {
            *self = Self { scale: self.scale / 2.0, steps: 0 };
            if self.scale < 1.0 {
                let value = f32::INFINITY;
                return Err(TrainError::NotFinite { what: "norm of the gradients", value });
            }
            return Ok(());
        }
        self.steps += 1;
        if self.steps == Self::GROWTH_INTERVAL {
            *self = Self { scale: self.scale * 2.0, steps: 0 };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_scale_adapts_to_overflows() {
        let mut scale = LossScale::new();
        scale.update(true).unwrap();
        assert_eq!(scale.scale, 32768.0);
        for _ in 0..LossScale::GROWTH_INTERVAL {
            assert_eq!(scale.scale, 32768.0);
            scale.update(false).unwrap();
        }
        assert_eq!(scale, LossScale::new());
        let endless = (0..20).map(|_| scale.update(true)).find(Result::is_err);
        assert!(matches!(endless, Some(Err(TrainError::NotFinite { .. }))));
    }
}
