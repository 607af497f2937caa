use burn::tensor::Device;

use crate::{Backend, Dtype, device};

/// A check that a backend is known to fail because of an upstream defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownFailure {
    /// The backend.
    pub backend: Backend,
    /// A substring of the hardware's name, for failures of some drivers; `None` for all of them.
    pub hardware: Option<&'static str>,
    /// The [operation](super::CheckReport::name).
    pub operation: &'static str,
    /// The [float type](super::CheckReport::dtype).
    pub dtype: Option<Dtype>,
    /// The defect, and the version in which it was seen.
    pub reason: &'static str,
}

/// All known failures. `docs/backends.md` describes the workarounds.
pub const KNOWN_FAILURES: &[KnownFailure] = &[
    KnownFailure {
        backend: Backend::Flex,
        hardware: None,
        operation: "matmul of one row",
        dtype: Some(Dtype::F16),
        reason: "burn-flex 0.22.1 has errors as if it summed the products of a single row in f16",
    },
    KnownFailure {
        backend: Backend::Cuda,
        hardware: None,
        operation: "attention, 128 queries, 129 value channels",
        dtype: Some(Dtype::F16),
        reason: "by reading: the fused kernel of cubek-attention 0.3.1 writes 129 / 16 tiles of channels",
    },
    wgpu_convolution("convolution 3x3"),
    wgpu_convolution("convolution 3x3, stride 2"),
];

const fn wgpu_convolution(operation: &'static str) -> KnownFailure {
    KnownFailure {
        backend: Backend::Wgpu,
        // Seen on this backend only; GPU kernels may have another accumulator.
        hardware: Some("llvmpipe"),
        operation,
        dtype: Some(Dtype::F16),
        reason: "burn-cubecl 0.22.1 has errors as if it summed a convolution of f16 in f16",
    }
}

/// The known failures of a device.
pub(super) fn known_failures(device: &Device) -> Vec<&'static KnownFailure> {
    let (backend, hardware) = (device::backend(device), device::hardware(device));
    let here = |known: &&KnownFailure| {
        let named = |part| hardware.as_ref().is_some_and(|name| name.contains(part));
        backend == Some(known.backend) && known.hardware.is_none_or(named)
    };
    KNOWN_FAILURES.iter().filter(here).collect()
}
