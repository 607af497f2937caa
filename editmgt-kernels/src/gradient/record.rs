//! Kernels as operations of burn's autodiff graph.

#[cfg(feature = "autodiff")]
pub(crate) use recorded::Operation;
#[cfg(not(feature = "autodiff"))]
pub(crate) use without::Operation;

use burn::backend::DispatchTensor;
use burn::tensor::Tensor;

/// An input of an [`Operation`].
pub(crate) fn input<const D: usize>(x: &Tensor<D>) -> DispatchTensor {
    x.clone().into_dispatch()
}

#[cfg(feature = "autodiff")]
mod recorded {
    use std::fmt;
    use std::sync::{Arc, Mutex, PoisonError};

    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::{
        BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
    };
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
    use burn::backend::flex::FlexTensor;
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{
        Autodiff, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, Flex,
        GradientCheckpointingStrategy, TensorMetadata,
    };
    use burn::tensor::{DType, Shape, Tensor};

    use crate::host::{HostTensor, float, primitive};
    use crate::recording::Recording;

    /// A tensor of the autodiff graph.
    type Node = FloatTensor<Autodiff<Flex>>;

    /// Computes the gradients of the inputs from that of the output: at least those that are
    /// wanted.
    type Pass<const N: usize> = dyn FnOnce(HostTensor, [bool; N]) -> [Option<HostTensor>; N] + Send;

    /// An operation of `N` tensors that a kernel computes and that is recorded with its backward
    /// pass.
    pub(crate) struct Operation<const N: usize> {
        inputs: [Node; N],
        strategy: GradientCheckpointingStrategy,
    }

    impl<const N: usize> Operation<N> {
        /// `None` outside [`Recording::Kernels`], and unless all inputs are f32 tensors of flex,
        /// one of them at least with autodiff; others are constants.
        pub(crate) fn of(inputs: impl FnOnce() -> [DispatchTensor; N]) -> Option<Self> {
            if Recording::current() != Recording::Kernels {
                return None;
            }
            let inputs = inputs();
            let strategy = inputs.iter().find_map(|input| match input.autodiff {
                DispatchAutodiffContext::Enabled(strategy) => Some(strategy),
                DispatchAutodiffContext::Disabled => None,
            })?;
            let nodes: Vec<Node> = inputs.into_iter().map_while(node).collect();
            Some(Self { inputs: nodes.try_into().ok()?, strategy })
        }

        /// The values of an input, outside the graph.
        pub(crate) fn tensor<const D: usize>(&self, index: usize) -> Tensor<D> {
            float(self.inputs[index].primitive().clone())
        }

        /// The values of an input, contiguous.
        pub(crate) fn values(&self, index: usize) -> HostTensor {
            HostTensor::of_flex(self.inputs[index].primitive().clone())
        }

        /// Whether the gradient of an input is wanted.
        pub(crate) fn is_tracked(&self, index: usize) -> bool {
            self.inputs[index].is_tracked()
        }

        /// Records the operation with its result, which is outside the graph.
        pub(crate) fn finish<const D: usize>(
            self,
            out: Tensor<D>,
            backward: impl FnOnce(HostTensor, [bool; N]) -> [Option<HostTensor>; N] + Send + 'static,
        ) -> Tensor<D> {
            let shapes = self.inputs.each_ref().map(|input| input.shape());
            let pass: Box<Pass<N>> = Box::new(backward);
            let state = State { shapes, pass: Arc::new(Mutex::new(Some(pass))) };
            let nodes = self.inputs.map(|input| input.into_parts().1);
            let out = primitive(out);
            let node = match self.strategy {
                GradientCheckpointingStrategy::Disabled => {
                    record::<NoCheckpointing, N>(nodes, state, out)
                }
                GradientCheckpointingStrategy::Balanced => {
                    record::<BalancedCheckpointing, N>(nodes, state, out)
                }
            };
            let kind = DispatchTensorKind::Flex(BackendTensor::Autodiff(node));
            Tensor::from_dispatch(DispatchTensor {
                kind: DispatchTensorKind::Autodiff(Box::new(kind)),
                autodiff: DispatchAutodiffContext::Enabled(self.strategy),
            })
        }
    }

    fn record<C: CheckpointStrategy, const N: usize>(
        nodes: [NodeGuard; N],
        state: State<N>,
        out: FlexTensor,
    ) -> Node {
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(operation) => operation.finish(state, out),
            OpsKind::UnTracked(operation) => operation.finish(out),
        }
    }

    fn node(tensor: DispatchTensor) -> Option<Node> {
        let node = match tensor.kind {
            DispatchTensorKind::Autodiff(kind) => match *kind {
                DispatchTensorKind::Flex(BackendTensor::Autodiff(node)) => node,
                _ => return None,
            },
            DispatchTensorKind::Flex(BackendTensor::Float(x)) => Node::new(x),
            _ => return None,
        };
        (node.dtype() == DType::F32).then_some(node)
    }

    /// What a backward pass needs.
    #[derive(Clone)]
    struct State<const N: usize> {
        shapes: [Shape; N],
        /// Taken when it runs, so that it can change in place what it owns.
        pass: Arc<Mutex<Option<Box<Pass<N>>>>>,
    }

    impl<const N: usize> fmt::Debug for State<N> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("State").field("shapes", &self.shapes).finish_non_exhaustive()
        }
    }

    #[derive(Debug)]
    struct Step;

    impl<const N: usize> Backward<Flex, N> for Step {
        type State = State<N>;

        fn backward(
            self,
            ops: Ops<Self::State, N>,
            gradients: &mut Gradients,
            _: &mut Checkpointer,
        ) {
            let State { shapes, pass } = ops.state;
            let pass = pass.lock().unwrap_or_else(PoisonError::into_inner).take();
            let pass = pass.expect("burn consumes a step when it runs it");
            let gradient = HostTensor::of_flex(gradients.consume::<Flex>(&ops.node));
            let wanted = ops.parents.each_ref().map(Option::is_some);
            let of_inputs = pass(gradient, wanted);
            for ((parent, shape), gradient) in ops.parents.into_iter().zip(shapes).zip(of_inputs) {
                let Some(parent) = parent else { continue };
                let gradient = gradient.expect("a pass computes the gradients that are wanted");
                gradients.register::<Flex>(parent.id, gradient.into_flex(shape));
            }
        }
    }
}

/// The same interface in a build without autodiff, where nothing is recorded.
#[cfg(not(feature = "autodiff"))]
mod without {
    use std::convert::Infallible;

    use burn::backend::DispatchTensor;
    use burn::tensor::Tensor;

    use crate::host::HostTensor;

    pub(crate) struct Operation<const N: usize>(Infallible);

    impl<const N: usize> Operation<N> {
        pub(crate) fn of(_: impl FnOnce() -> [DispatchTensor; N]) -> Option<Self> {
            None
        }

        pub(crate) fn tensor<const D: usize>(&self, _: usize) -> Tensor<D> {
            match self.0 {}
        }

        pub(crate) fn values(&self, _: usize) -> HostTensor {
            match self.0 {}
        }

        pub(crate) fn is_tracked(&self, _: usize) -> bool {
            match self.0 {}
        }

        pub(crate) fn finish<const D: usize>(
            self,
            _: Tensor<D>,
            _: impl FnOnce(HostTensor, [bool; N]) -> [Option<HostTensor>; N] + Send + 'static,
        ) -> Tensor<D> {
            match self.0 {}
        }
    }
}
