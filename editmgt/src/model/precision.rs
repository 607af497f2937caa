//! The precision of a model that is loaded for inference.

use burn::module::Module;
use burn::tensor::{DType, Device};
use editmgt_backends::Compute;
use editmgt_checkpoint::cast_module;
use editmgt_kernels::{Operands, WithOperands, widens};

/// How a dtype is computed in on a device, by a model that is not trained.
///
/// | device | dtype | weights | operands of products | all else |
/// |---|---|---|---|---|
/// | flex | f32 | f32; matrices in half precision stay as they are stored | f32 | f32 |
/// | flex | bf16 | matrices bf16, others f32 | bf16, those of the conditioning f32 | f32 |
/// | flex | f16 | f16 | f16 | f16, and f32 where it matters |
/// | flex | any, computed in int8 | matrices in that dtype, others f32 | int8, and bf16 where [`Operands::Int8`] says it | f32 |
/// | others | any | that dtype | that dtype | that dtype, and f32 where it matters |
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct InferencePrecision {
    /// How weights are converted.
    pub load: editmgt_checkpoint::LoadOptions,
    /// The precision of the operands of products in flex's kernels.
    pub operands: Operands,
}

impl InferencePrecision {
    /// That of `dtype` on `device`, which must support it
    /// ([`DtypePolicy::check`](crate::DtypePolicy::check)).
    pub fn new(device: &Device, dtype: DType, compute: Compute) -> Self {
        let exact = |load| Self { load, operands: Operands::Exact };
        let all = editmgt_checkpoint::LoadOptions::new;
        if compute == Compute::Int8 {
            let load = match dtype {
                DType::F32 => all(dtype).with_keep_half_precision(true),
                _ => all(DType::F32).with_matrices(dtype),
            };
            return Self { load, operands: Operands::Int8 };
        }
        match dtype {
            // Matrices are widened on use, which changes no result.
            DType::F32 if widens(device) => exact(all(dtype).with_keep_half_precision(true)),
            DType::BF16 if widens(device) => {
                let load = all(DType::F32).with_matrices(DType::BF16);
                Self { load, operands: Operands::Bf16 }
            }
            _ => exact(all(dtype)),
        }
    }

    /// The module with all weights in this precision.
    pub fn cast<M: Module + WithOperands>(&self, module: M) -> M {
        cast_module(module, self.load).with_operands(self.operands)
    }
}
