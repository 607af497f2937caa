//! Attention to weighted keys: kernels on the CPU, burn's operations elsewhere.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData, module};

use crate::gradient;
use crate::host::on_host;
use crate::narrow_attention::NarrowKeyValues;
use crate::operands::Operands;
use crate::packed_attention::PackedKeyValues;
use crate::padded::{attend_padded, pad_channels};

/// Keys and values, packed for any number of queries.
#[derive(Debug, Clone)]
pub struct KeyValues {
    parts: Parts,
    weights: Option<KeyWeights>,
}

/// Weights of keys inside the softmax: a weight γ is a bias log γ on a key's scores.
#[derive(Debug, Clone)]
pub struct KeyWeights {
    host: Arc<[f32]>,
    /// `[S]`, f32.
    device: Tensor<1>,
}

impl KeyWeights {
    /// Weights above 0 and at most 1: the same on the host and, `[S]` in f32, on a device, where
    /// the caller put them together with other data.
    ///
    /// # Panics
    /// If the numbers of weights differ.
    pub fn new(host: Vec<f32>, device: Tensor<1>) -> Self {
        assert_eq!([host.len()], device.dims(), "the device must have all weights");
        Self { host: host.into(), device }
    }

    /// [`new`](Self::new) with an upload of its own.
    pub fn on(weights: Vec<f32>, device: &Device) -> Self {
        let data = TensorData::new(weights.clone(), [weights.len()]);
        Self::new(weights, Tensor::from_data(data, (device, DType::F32)))
    }

    /// The weights on the host.
    pub fn values(&self) -> &[f32] {
        &self.host
    }
}

/// Where [`KeyValues::replace`] puts rows.
#[derive(Debug, Clone)]
pub struct KeyPlaces {
    /// `[B, R]`.
    host: Vec<usize>,
    /// [`KeyPlaces::sources`] on a device, `[B, S]`.
    sources: Tensor<2, Int>,
}

impl KeyPlaces {
    /// `places` are `[B, R]` row-major, each below S and those of an item different from each
    /// other; `sources` are those of [`sources`](Self::sources), `[B, S]`, on the device of the
    /// keys.
    ///
    /// # Panics
    /// If the number of places is not a multiple of B.
    pub fn new(places: Vec<usize>, sources: Tensor<2, Int>) -> Self {
        let [batch, _] = sources.dims();
        assert!(places.len().is_multiple_of(batch.max(1)), "places must be those of {batch} items");
        Self { host: places, sources }
    }

    /// [`new`](Self::new) with an upload of its own, for a batch with `keys` keys.
    pub fn on(places: Vec<usize>, batch: usize, keys: usize, device: &Device) -> Self {
        let sources = Self::sources(&places, batch, keys);
        let sources: Vec<i32> = sources.into_iter().map(|row| row as i32).collect();
        let sources = Tensor::from_data(TensorData::new(sources, [batch, keys]), device);
        Self::new(places, sources)
    }

    /// For each key of each item, `[B, S]`, its row among the item's old keys followed by its new
    /// ones.
    ///
    /// # Panics
    /// If the number of places is not a multiple of `batch`, or a place is not below `keys`.
    pub fn sources(places: &[usize], batch: usize, keys: usize) -> Vec<usize> {
        assert!(places.len().is_multiple_of(batch.max(1)), "places must be those of {batch} items");
        let count = places.len() / batch.max(1);
        let of_item = |item: usize| {
            let mut sources: Vec<usize> = (0..keys).collect();
            for (row, &place) in places[item * count..][..count].iter().enumerate() {
                sources[place] = keys + row;
            }
            sources
        };
        (0..batch).flat_map(of_item).collect()
    }
}

#[derive(Debug, Clone)]
enum Parts {
    Packed(Arc<PackedKeyValues>),
    Narrow(Arc<NarrowKeyValues>),
    Tensors(Box<Tensors>),
}

#[derive(Debug, Clone)]
struct Tensors {
    key: Tensor<4>,
    value: Tensor<4>,
    /// The result of [`weighted`], with [`pad_channels`] in f16.
    weighted: Option<Tensor<4>>,
}

impl KeyValues {
    /// Within [`Operands::Bf16`] they are rounded to bf16 where a kernel runs on a processor with
    /// instructions for bf16; then [`attention`] rounds queries and exponentials, too.
    ///
    /// # Shapes
    /// - `key`: `[B, heads, S, d]`
    /// - `value`: `[B, heads, S, c]`
    ///
    /// # Panics
    /// If batch, heads or S differ.
    pub fn new(key: Tensor<4>, value: Tensor<4>) -> Self {
        let ([batch, heads, keys, _], value_dims) = (key.dims(), value.dims());
        assert_eq!([batch, heads, keys], value_dims[..3], "there must be a value for each key");
        let usable = |x: &Tensor<4>| on_host(x) && x.shape().num_elements() > 0;
        let parts = if usable(&key) && usable(&value) {
            let narrow = match Operands::current() {
                Operands::Exact => None,
                Operands::Bf16 | Operands::Int8 => NarrowKeyValues::new(&key, &value),
            };
            match narrow {
                Some(narrow) => Parts::Narrow(Arc::new(narrow)),
                None => Parts::Packed(Arc::new(PackedKeyValues::new(key, value))),
            }
        } else {
            Parts::Tensors(Box::new(Tensors { key, value, weighted: None }))
        };
        Self { parts, weights: None }
    }

    /// The same rounded to bf16, in half the memory, where a kernel runs on a processor with
    /// instructions for bf16; these unchanged elsewhere.
    #[must_use]
    pub fn to_bf16(&self) -> Self {
        let narrow = match &self.parts {
            Parts::Packed(packed) => NarrowKeyValues::of_packed(packed),
            Parts::Narrow(_) | Parts::Tensors(_) => None,
        };
        match narrow {
            Some(narrow) => {
                Self { parts: Parts::Narrow(Arc::new(narrow)), weights: self.weights.clone() }
            }
            None => self.clone(),
        }
    }

    /// The dtype that queries must have: that of the keys.
    pub fn dtype(&self) -> DType {
        match &self.parts {
            Parts::Packed(_) | Parts::Narrow(_) => DType::F32,
            Parts::Tensors(tensors) => tensors.key.dtype(),
        }
    }

    /// The same keys with weights inside the softmax.
    ///
    /// # Panics
    /// If the number of weights is not S.
    pub fn with_weights(&self, weights: &KeyWeights) -> Self {
        let mut parts = self.parts.clone();
        let keys = match &parts {
            Parts::Packed(packed) => packed.keys,
            Parts::Narrow(narrow) => narrow.keys(),
            Parts::Tensors(tensors) => tensors.key.dims()[2],
        };
        assert_eq!(weights.host.len(), keys, "there must be a weight for each key");
        if let Parts::Tensors(tensors) = &mut parts {
            tensors.weighted = Some(weighted(&tensors.value, weights));
        }
        Self { parts, weights: Some(weights.clone()) }
    }

    /// Replaces keys and values at these places; weights stay. In place where no clone shares them.
    ///
    /// # Shapes
    /// - `places`: `[B, R]`
    /// - `key`: `[B, heads, R, d]`
    /// - `value`: `[B, heads, R, c]`
    ///
    /// # Panics
    /// If shapes, dtype or device differ from these, or a place is not below S.
    pub fn replace(&mut self, places: &KeyPlaces, key: Tensor<4>, value: Tensor<4>) {
        let ([batch, _, rows, _], value_dims) = (key.dims(), value.dims());
        assert_eq!(key.dims()[..3], value_dims[..3], "there must be a value for each key");
        assert_eq!(places.host.len(), batch * rows, "there must be a place for each key");
        match &mut self.parts {
            Parts::Packed(packed) => Arc::make_mut(packed).replace(&places.host, key, value),
            Parts::Narrow(narrow) => Arc::make_mut(narrow).replace(&places.host, key, value),
            Parts::Tensors(tensors) => {
                tensors.key = replaced(&tensors.key, places, key);
                tensors.value = replaced(&tensors.value, places, value);
                let weights = self.weights.as_ref();
                tensors.weighted = weights.map(|weights| weighted(&tensors.value, weights));
            }
        }
    }
}

/// `[B, heads, S, d]` with the rows `[B, heads, R, d]` at `places`.
fn replaced(all: &Tensor<4>, places: &KeyPlaces, rows: Tensor<4>) -> Tensor<4> {
    let [batch, _, tokens, _] = all.dims();
    assert_eq!(all.dims()[..2], rows.dims()[..2], "rows must have the batch and heads of the keys");
    assert_eq!(places.sources.dims(), [batch, tokens], "places must be those of these keys");
    // Selects from [old, new], which every backend supports without atomic writes.
    let items = (0..batch).map(|item| {
        let sources = places.sources.clone().narrow(0, item, 1).reshape([tokens]);
        let of_item = |x: &Tensor<4>| x.clone().narrow(0, item, 1);
        Tensor::cat(vec![of_item(all), of_item(&rows)], 2).select(2, sources)
    });
    Tensor::cat(items.collect(), 0)
}

/// The values times their keys' weights, with the weight as an additional channel.
///
/// A weighted softmax average is a quotient of two plain ones,
/// `Σ wⱼ pⱼ vⱼ / Σ wⱼ pⱼ` with `p = softmax(q kᵀ / √d)`. So attention needs no bias for every pair
/// of tokens, which would be megabytes to read per head, and backends can use their fused kernels,
/// which support neither mask nor bias. No subtraction is involved, so the quotient is as exact as
/// its parts.
///
/// In f16 weights are rounded, the same in both parts of the quotient.
fn weighted(values: &Tensor<4>, weights: &KeyWeights) -> Tensor<4> {
    let ([batch, heads, keys, _], dtype) = (values.dims(), values.dtype());
    let ones = Tensor::ones([batch, heads, keys, 1], (&values.device(), dtype));
    let factors = weights.device.clone().cast(dtype).reshape([1, 1, keys, 1]);
    let values = Tensor::cat(vec![values.clone(), ones], 3) * factors;
    if dtype == DType::F16 { pad_channels(values) } else { values }
}

/// `softmax(q kᵀ / √d) v` with weighted keys.
///
/// # Shapes
/// - `query`: `[B, heads, N, d]`
/// - result: `[B, N, heads * c]`, f32 for queries in f16
///
/// # Panics
/// If batch, heads, channels, dtype or device of queries and keys differ.
pub fn attention(query: Tensor<4>, keys: &KeyValues) -> Tensor<3> {
    let [batch, heads, tokens, _] = query.dims();
    let weights = keys.weights.as_ref().map(KeyWeights::values);
    match &keys.parts {
        Parts::Packed(packed) => {
            let out = packed.attend(query, weights);
            out.into_tensor([batch, tokens, heads * packed.value_channels])
        }
        Parts::Narrow(narrow) => {
            let out = narrow.attend(query, weights);
            out.into_tensor([batch, tokens, heads * narrow.value_channels()])
        }
        Parts::Tensors(tensors) => {
            let attended = tensors.attend(query);
            let [.., channels] = attended.dims();
            attended.swap_dims(1, 2).reshape([batch, tokens, heads * channels])
        }
    }
}

impl Tensors {
    /// `[B, heads, N, d]` to `[B, heads, N, c]`.
    fn attend(&self, query: Tensor<4>) -> Tensor<4> {
        if self.weighted.is_none()
            && let Some(attended) = gradient::attention(&query, &self.key, &self.value)
        {
            return attended;
        }
        let (key, value) = (self.key.clone(), self.weighted.as_ref().unwrap_or(&self.value));
        // Fused kernels support neither mask, bias nor explicit scale.
        let attended = if key.dtype() == DType::F16 {
            attend_padded(query, key, pad_channels(value.clone())).cast(DType::F32)
        } else {
            module::attention(query, key, value.clone(), None, None, Default::default())
        };
        let [.., channels] = self.value.dims();
        if self.weighted.is_none() {
            return attended.narrow(3, 0, channels);
        }
        attended.clone().narrow(3, 0, channels) / attended.narrow(3, channels, 1)
    }
}

#[cfg(test)]
mod tests;
