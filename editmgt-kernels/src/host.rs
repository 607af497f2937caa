//! The numbers of a tensor, where they lie in this process's memory.

#[cfg(feature = "flex")]
pub(crate) use flex::{Host, Rows, on_flex, on_host};
#[cfg(not(feature = "flex"))]
pub(crate) use without::{Host, Rows, on_flex, on_host};

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

    /// Whether its tensors are in this process's memory, and outside any graph.
    pub(crate) fn on_flex(device: &Device) -> bool {
        matches!(device.as_dispatch(), DispatchDevice::Flex(_))
    }

    /// Whether [`Host::take`] may have the tensor: f32, and [`on_flex`].
    pub(crate) fn on_host<const D: usize>(x: &Tensor<D>) -> bool {
        x.dtype() == DType::F32 && on_flex(&x.device())
    }

    fn primitive<const D: usize>(x: Tensor<D>) -> FlexTensor {
        match x.into_dispatch().kind {
            DispatchTensorKind::Flex(BackendTensor::Float(x)) => x,
            _ => unreachable!("asked for the numbers of a tensor that is not on the host"),
        }
    }

    /// A tensor whose numbers become a buffer again if nobody else holds them in the end.
    #[derive(Debug, Clone)]
    struct Held(Option<FlexTensor>);

    impl Held {
        fn tensor(&self) -> &FlexTensor {
            self.0.as_ref().expect("held until it is dropped")
        }

        fn release(mut self) -> FlexTensor {
            self.0.take().expect("held until it is dropped")
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            let Some(x) = self.0.take().filter(|x| x.dtype() == DType::F32) else { return };
            let numbers = x.data_arc();
            drop(x);
            if let Some(Ok(numbers)) = Arc::into_inner(numbers).map(Bytes::try_into_vec) {
                buffers::give_back(numbers);
            }
        }
    }

    /// Numbers of a flex tensor, without gaps and in the order of its shape.
    #[derive(Debug, Clone)]
    pub(crate) struct Host<E = f32>(Held, PhantomData<E>);

    impl<E: Scalar> Host<E> {
        /// The tensor must be [`on_flex`], its numbers of this type. Copies only what has gaps.
        pub(crate) fn of<const D: usize>(x: Tensor<D>) -> Self {
            let x = primitive(x);
            let dense = x.as_slice::<E>().is_some();
            Self(Held(Some(if dense { x } else { x.to_contiguous() })), PhantomData)
        }

        pub(crate) fn numbers(&self) -> &[E] {
            self.0.tensor().as_slice().expect("a host's numbers have no gaps and are of its type")
        }
    }

    impl Host {
        /// The tensor must be [`on_host`].
        pub(crate) fn take<const D: usize>(x: Tensor<D>) -> Self {
            Self::of(x)
        }

        pub(crate) fn new(numbers: Vec<f32>) -> Self {
            let layout = Layout::contiguous(Shape::from(vec![numbers.len()]));
            let tensor = FlexTensor::new(Bytes::from_elems(numbers), layout, DType::F32);
            Self(Held(Some(tensor)), PhantomData)
        }

        /// `None` while somebody else holds the numbers, or they are a part of others.
        pub(crate) fn numbers_mut(&mut self) -> Option<&mut [f32]> {
            let own = self.numbers().len();
            self.0.0.as_mut()?.try_storage_mut().filter(|all: &&mut [f32]| all.len() == own)
        }

        /// The same numbers in any shape of the same size.
        pub(crate) fn into_tensor<const D: usize>(self, shape: [usize; D]) -> Tensor<D> {
            let tensor = self.0.release();
            let start = tensor.layout().start_offset();
            let dense = Layout::contiguous(Shape::from(shape.to_vec()));
            let layout = Layout::new(dense.shape().clone(), dense.strides().to_vec(), start);
            Tensor::from_dispatch(DispatchTensor {
                kind: DispatchTensorKind::Flex(BackendTensor::Float(tensor.with_layout(layout))),
                autodiff: DispatchAutodiffContext::Disabled,
            })
        }
    }

    /// The rows of a tensor `[A, B, N, d]`, wherever they lie.
    #[derive(Debug, Clone)]
    pub(crate) struct Rows {
        tensor: Held,
        start: usize,
        strides: [usize; 3],
        length: usize,
    }

    impl Rows {
        /// The tensor must be [`on_host`]. Copies only where a row has gaps.
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
            Self { start, strides, length, tensor: Held(Some(tensor)) }
        }

        pub(crate) fn row(&self, place: [usize; 3]) -> &[f32] {
            let steps = place.iter().zip(self.strides).map(|(index, stride)| index * stride);
            &self.tensor.tensor().storage()[self.start + steps.sum::<usize>()..][..self.length]
        }
    }
}

/// A build without flex has no tensors on the host.
#[cfg(not(feature = "flex"))]
mod without {
    use std::convert::Infallible;
    use std::marker::PhantomData;

    use burn::tensor::{Device, Tensor};

    pub(crate) fn on_flex(_: &Device) -> bool {
        false
    }

    pub(crate) fn on_host<const D: usize>(_: &Tensor<D>) -> bool {
        false
    }

    #[derive(Debug, Clone)]
    pub(crate) struct Host<E = f32>(Infallible, PhantomData<E>);

    impl<E> Host<E> {
        pub(crate) fn of<const D: usize>(_: Tensor<D>) -> Self {
            unreachable!("asked for the numbers of a tensor that is not on the host")
        }

        pub(crate) fn numbers(&self) -> &[E] {
            match self.0 {}
        }
    }

    impl Host {
        pub(crate) fn take<const D: usize>(x: Tensor<D>) -> Self {
            Self::of(x)
        }

        pub(crate) fn new(_: Vec<f32>) -> Self {
            unreachable!("a kernel runs on tensors of flex alone")
        }

        pub(crate) fn numbers_mut(&mut self) -> Option<&mut [f32]> {
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
            unreachable!("asked for the numbers of a tensor that is not on the host")
        }

        pub(crate) fn row(&self, _: [usize; 3]) -> &[f32] {
            match self.0 {}
        }
    }
}
