//! Adapters and linear layers as values, independent of a model.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use editmgt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::LinearRole;
use crate::meissonic::pass::Stream;

/// The streams to which an adapter applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraStreams {
    /// The canvas: image tokens, and the text tokens that share their weights in single blocks.
    Image,
    /// The reference. Has no effect without a reference.
    Reference,
    /// All streams: the same as adding the product to the weight.
    #[default]
    Both,
}

impl LoraStreams {
    pub(super) fn includes(self, stream: Stream) -> bool {
        match self {
            Self::Image => stream == Stream::Canvas,
            Self::Reference => stream == Stream::Reference,
            Self::Both => true,
        }
    }
}

/// The two factors of one layer; the layer's weight changes by `scale · B A`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFactors {
    /// Rows of A and columns of B, 1 or more.
    pub rank: usize,
    /// A, `[rank, inputs]` row-major.
    pub a: Vec<f32>,
    /// B, `[outputs, rank]` row-major.
    pub b: Vec<f32>,
}

/// An adapter of a whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The factors, by the path of the layer in the model ([`LinearLayer::path`]).
    pub layers: BTreeMap<String, LoraFactors>,
    /// Factor of the products.
    pub scale: f64,
    /// The streams to which it applies.
    pub streams: LoraStreams,
    /// Dropout probability of the adapter's inputs in training, 0 to below 1.
    pub dropout: f64,
}

/// A linear layer of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearLayer {
    /// Its path in the model, for instance `transformer_blocks.0.attn.to_q`.
    pub path: String,
    /// Input features.
    pub inputs: usize,
    /// Output features.
    pub outputs: usize,
}

impl LinearLayer {
    /// Checks that tokens of `streams` go through a layer of this role.
    pub(super) fn check_streams(&self, role: LinearRole, streams: LoraStreams) -> Result<()> {
        match (role, streams) {
            (LinearRole::Shared, _)
            | (LinearRole::Canvas, LoraStreams::Image | LoraStreams::Both) => Ok(()),
            (LinearRole::Canvas, LoraStreams::Reference) => Err(Error::value(
                "layer of an adapter of the reference stream",
                "a layer that reference tokens go through",
                &self.path,
            )),
            (LinearRole::Conditioning, _) => Err(Error::value(
                "layer of an adapter that is not merged",
                "a layer that tokens go through (this one computes the conditioning of all streams)",
                &self.path,
            )),
        }
    }

    pub(super) fn check_factors(&self, factors: &LoraFactors) -> Result<()> {
        let LoraFactors { rank, a, b } = factors;
        let expected = [rank.saturating_mul(self.inputs), rank.saturating_mul(self.outputs)];
        if *rank == 0 || [a.len(), b.len()] != expected {
            let expected = format!(
                "{} and {} values (rank {rank}, 1 or more, for {})",
                expected[0], expected[1], self.path
            );
            return Err(Error::shape(
                "factors A and B",
                expected,
                format!("{} and {}", a.len(), b.len()),
            ));
        }
        Ok(())
    }
}

impl LoraFactors {
    /// A and B as burn's layers hold weights: `[inputs, rank]` and `[rank, outputs]`.
    pub(super) fn tensors(&self, device: &Device, dtype: DType) -> [Tensor<2>; 2] {
        let transposed = |values: &[f32], rows: usize, columns: usize| {
            let data = TensorData::new(values.to_vec(), [rows, columns]);
            Tensor::<2>::from_data(data, (device, DType::F32)).transpose().cast(dtype)
        };
        let (inputs, outputs) = (self.a.len() / self.rank, self.b.len() / self.rank);
        [transposed(&self.a, self.rank, inputs), transposed(&self.b, outputs, self.rank)]
    }
}
