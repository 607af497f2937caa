//! Borrows a flex tensor's storage without a copy.

#[cfg(feature = "flex")]
pub(crate) use flex::{HostTensor, Packed, Rows, is_dense, on_flex, on_host};
#[cfg(feature = "autodiff")]
pub(crate) use flex::{float, primitive};
#[cfg(not(feature = "flex"))]
pub(crate) use without::{HostTensor, Packed, Rows, is_dense, on_flex, on_host};

#[cfg(feature = "flex")]
mod flex {
    use std::marker::PhantomData;
    use std::sync::Arc;

    use burn::backend::flex::{FlexTensor, Layout};
    use burn::backend::{
        BackendTensor, DispatchAutodiffContext, DispatchDevice, DispatchTensor, DispatchTensorKind,
    };
    use burn::tensor::{Bytes, DType, Device, Shape, Tensor};

    use crate::buffers;
    use crate::number::Scalar;

    /// Whether tensors of the device are in this process's memory and outside any autodiff graph.
    pub(crate) fn on_flex(device: &Device) -> bool {
        matches!(device.as_dispatch(), DispatchDevice::Flex(_))
    }

    /// Whether [`HostTensor::take`] accepts the tensor: f32, and [`on_flex`].
    pub(crate) fn on_host<const D: usize>(x: &Tensor<D>) -> bool {
        x.dtype() == DType::F32 && on_flex(&x.device())
    }

    /// Whether [`HostTensor::of`] borrows the tensor's storage, which must be [`on_flex`].
    pub(crate) fn is_dense<E: Scalar, const D: usize>(x: &Tensor<D>) -> bool {
        primitive(x.clone()).as_slice::<E>().is_some()
    }

    /// The tensor must be [`on_flex`].
    pub(crate) fn primitive<const D: usize>(x: Tensor<D>) -> FlexTensor {
        match x.into_dispatch().kind {
            DispatchTensorKind::Flex(BackendTensor::Float(x)) => x,
            _ => unreachable!("host tensors are made of flex tensors only"),
        }
    }

    /// A tensor whose storage returns to the buffer pool if it is not shared when it is dropped.
    #[derive(Debug, Clone)]
    struct PooledTensor(Option<FlexTensor>);

    impl PooledTensor {
        fn tensor(&self) -> &FlexTensor {
            self.0.as_ref().expect("held until it is dropped")
        }

        fn release(mut self) -> FlexTensor {
            self.0.take().expect("held until it is dropped")
        }
    }

    impl Drop for PooledTensor {
        fn drop(&mut self) {
            let Some(x) = self.0.take().filter(|x| x.dtype() == DType::F32) else { return };
            let storage = x.data_arc();
            drop(x);
            if let Some(Ok(values)) = Arc::into_inner(storage).map(Bytes::try_into_vec) {
                buffers::give_back(values);
            }
        }
    }

    /// The values of a flex tensor, contiguous and row-major.
    #[derive(Debug, Clone)]
    pub(crate) struct HostTensor<E = f32>(PooledTensor, PhantomData<E>);

    impl<E: Scalar> HostTensor<E> {
        /// The tensor must be [`on_flex`] and of this element type. Copies only if it isn't
        /// contiguous.
        pub(crate) fn of<const D: usize>(x: Tensor<D>) -> Self {
            Self::of_flex(primitive(x))
        }

        /// Copies only if the tensor, of this element type, isn't contiguous.
        pub(crate) fn of_flex(x: FlexTensor) -> Self {
            let dense = x.as_slice::<E>().is_some();
            Self(PooledTensor(Some(if dense { x } else { x.to_contiguous() })), PhantomData)
        }

        pub(crate) fn values(&self) -> &[E] {
            self.0.tensor().as_slice().expect("a host tensor is contiguous and of its element type")
        }
    }

    impl HostTensor {
        /// The tensor must be [`on_host`].
        pub(crate) fn take<const D: usize>(x: Tensor<D>) -> Self {
            Self::of(x)
        }

        pub(crate) fn new(values: Vec<f32>) -> Self {
            let layout = Layout::contiguous(Shape::from(vec![values.len()]));
            let tensor = FlexTensor::new(Bytes::from_elems(values), layout, DType::F32);
            Self(PooledTensor(Some(tensor)), PhantomData)
        }

        /// `None` if the storage is shared, or larger than the tensor.
        pub(crate) fn values_mut(&mut self) -> Option<&mut [f32]> {
            let own = self.values().len();
            self.0.0.as_mut()?.try_storage_mut().filter(|all: &&mut [f32]| all.len() == own)
        }

        /// The same values in any shape of the same size.
        pub(crate) fn into_tensor<const D: usize>(self, shape: [usize; D]) -> Tensor<D> {
            float(self.into_flex(Shape::from(shape.to_vec())))
        }

        /// The same values in any shape of the same size.
        pub(crate) fn into_flex(self, shape: Shape) -> FlexTensor {
            let tensor = self.0.release();
            let start = tensor.layout().start_offset();
            let dense = Layout::contiguous(shape);
            let layout = Layout::new(dense.shape().clone(), dense.strides().to_vec(), start);
            tensor.with_layout(layout)
        }
    }

    /// A matrix whose storage has a layout of this crate. burn knows its shape; the offset of its
    /// layout is the first input.
    #[derive(Debug, Clone)]
    pub(crate) struct Packed(FlexTensor);

    impl Packed {
        pub(crate) fn tensor(bytes: Vec<u8>, shape: [usize; 2], dtype: DType) -> Tensor<2> {
            let layout = Layout::contiguous(Shape::from(shape.to_vec()));
            float(FlexTensor::new(Bytes::from_elems(bytes), layout, dtype))
        }

        /// The rows from `start` on, `count` of them, in the same storage.
        pub(crate) fn narrow(x: Tensor<2>, start: usize, count: usize) -> Tensor<2> {
            let [rows, columns] = x.dims();
            assert!(start + count <= rows, "rows {start} to {} of {rows}", start + count);
            let x = primitive(x);
            let start = x.layout().start_offset() + start;
            let dense = Layout::contiguous(Shape::from(vec![count, columns]));
            let layout = Layout::new(dense.shape().clone(), dense.strides().to_vec(), start);
            float(x.with_layout(layout))
        }

        pub(crate) fn of<const D: usize>(x: Tensor<D>) -> Self {
            Self(primitive(x))
        }

        pub(crate) fn bytes(&self) -> &[u8] {
            self.0.bytes()
        }

        pub(crate) fn start(&self) -> usize {
            self.0.layout().start_offset()
        }
    }

    pub(crate) fn float<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
        Tensor::from_dispatch(DispatchTensor {
            kind: DispatchTensorKind::Flex(BackendTensor::Float(tensor)),
            autodiff: DispatchAutodiffContext::Disabled,
        })
    }

    /// The rows of a tensor `[A, B, N, d]` with any strides between rows.
    #[derive(Debug, Clone)]
    pub(crate) struct Rows {
        tensor: PooledTensor,
        start: usize,
        strides: [usize; 3],
        length: usize,
    }

    impl Rows {
        /// The tensor must be [`on_host`]. Copies only if rows aren't contiguous.
        pub(crate) fn take(x: Tensor<4>) -> Self {
            let [.., length] = x.dims();
            let x = primitive(x);
            let dense = |x: &FlexTensor| {
                let strides = x.layout().strides();
                strides[3] == 1 && strides.iter().all(|&stride| stride >= 0)
            };
            let tensor = if dense(&x) { x } else { x.to_contiguous() };
            let (start, strides) = (tensor.layout().start_offset(), tensor.layout().strides());
            let strides = [0, 1, 2].map(|axis| strides[axis].unsigned_abs());
            Self { start, strides, length, tensor: PooledTensor(Some(tensor)) }
        }

        pub(crate) fn row(&self, place: [usize; 3]) -> &[f32] {
            let steps = place.iter().zip(self.strides).map(|(index, stride)| index * stride);
            &self.tensor.tensor().storage()[self.start + steps.sum::<usize>()..][..self.length]
        }
    }
}

/// The same interface in a build without flex, where no tensor is on the host.
#[cfg(not(feature = "flex"))]
mod without {
    use std::convert::Infallible;
    use std::marker::PhantomData;

    use burn::tensor::{DType, Device, Tensor};

    pub(crate) fn on_flex(_: &Device) -> bool {
        false
    }

    pub(crate) fn on_host<const D: usize>(_: &Tensor<D>) -> bool {
        false
    }

    pub(crate) fn is_dense<E, const D: usize>(_: &Tensor<D>) -> bool {
        false
    }

    #[derive(Debug, Clone)]
    pub(crate) struct HostTensor<E = f32>(Infallible, PhantomData<E>);

    impl<E> HostTensor<E> {
        pub(crate) fn of<const D: usize>(_: Tensor<D>) -> Self {
            unreachable!("host tensors are made of flex tensors only")
        }

        pub(crate) fn values(&self) -> &[E] {
            match self.0 {}
        }
    }

    impl HostTensor {
        pub(crate) fn take<const D: usize>(x: Tensor<D>) -> Self {
            Self::of(x)
        }

        pub(crate) fn new(_: Vec<f32>) -> Self {
            unreachable!("kernels run on flex tensors only")
        }

        pub(crate) fn values_mut(&mut self) -> Option<&mut [f32]> {
            match self.0 {}
        }

        pub(crate) fn into_tensor<const D: usize>(self, _: [usize; D]) -> Tensor<D> {
            match self.0 {}
        }
    }

    #[derive(Debug, Clone)]
    pub(crate) struct Rows(Infallible);

    impl Rows {
        pub(crate) fn take(_: Tensor<4>) -> Self {
            unreachable!("host tensors are made of flex tensors only")
        }

        pub(crate) fn row(&self, _: [usize; 3]) -> &[f32] {
            match self.0 {}
        }
    }

    #[derive(Debug, Clone)]
    pub(crate) struct Packed(Infallible);

    impl Packed {
        pub(crate) fn tensor(_: Vec<u8>, _: [usize; 2], _: DType) -> Tensor<2> {
            unreachable!("packed matrices are on the flex backend only")
        }

        pub(crate) fn narrow(_: Tensor<2>, _: usize, _: usize) -> Tensor<2> {
            unreachable!("packed matrices are on the flex backend only")
        }

        pub(crate) fn of<const D: usize>(_: Tensor<D>) -> Self {
            unreachable!("packed matrices are on the flex backend only")
        }

        pub(crate) fn bytes(&self) -> &[u8] {
            match self.0 {}
        }

        pub(crate) fn start(&self) -> usize {
            match self.0 {}
        }
    }
}
