//! burn's fused attention without matrix instructions, which runs on every GPU of CubeCL.
//!
//! burn's own API has no way to ask for it: [`attention`](burn::tensor::module::attention) takes it
//! only where autotuning finds it fastest. It is called here so that the layout in which this
//! project computes attention is checked in a fused kernel on devices without the faster one.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::attention::{AttentionStrategy, attention};

/// `softmax(q kᵀ / √d) v` by the kernel.
#[backend_extension(Cube, Fusion: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait UnitAttention: Backend {
    /// # Shapes
    /// - `query`: `[B, heads, N, d]`
    /// - `key`: `[B, heads, S, d]`
    /// - `value`: `[B, heads, S, c]`
    /// - result: `[B, heads, N, c]`
    #[fusion(dtype = query, shape = {
        let mut shape = query.clone();
        shape[3] = value[3];
        shape
    })]
    fn unit_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl UnitAttention for CubeBackend {
    fn unit_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let strategy = AttentionStrategy::FlashUnit;
        attention(query, key, value, None, None, Default::default(), strategy)
            .expect("a panic is the result of a conformance check")
    }
}

/// [`UnitAttention::unit_attention`] of tensors on a device that [`runs_on`] it.
pub(super) fn unit_attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::unit_attention(query, key, value))
}

/// Whether the device is one of CubeCL.
pub(super) fn runs_on(device: &Device) -> bool {
    matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_))
}
