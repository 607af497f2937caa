//! Packed weights that are kept from one pass to the next.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Tensor;

use crate::integer::PackedInt8;
use crate::matrix::Matrix;
use crate::narrow::PackedBf16;
use crate::operands::Operands;
use crate::product::PackedRight;
use crate::scope::with_value;

/// The packed weights of [`linear`](crate::linear) layers, kept for later passes.
///
/// A product packs its weight into the order in which it is read. A weight that is multiplied by a
/// few rows only, as in a step that computes a part of the canvas, costs more to pack than to
/// multiply. Within [`install`](Self::install) each weight is packed once and kept, until `limit`
/// bytes are kept; weights that are met later are packed for each product, as without. Results are
/// bit for bit the same.
///
/// It is a value: clones share the packed weights, and with the last clone they are freed. They
/// take as much memory as the weights do in the precision of the product ([`Operands`]), in
/// addition to the weights, whose storage is kept alive, too. Weights of a program that changes
/// them are not kept: a new tensor is another weight.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use editmgt_kernels::{PackedWeights, linear};
///
/// let x = Tensor::<2>::random([32, 64], Distribution::Default, &Device::flex());
/// let weight = Tensor::<2>::random([64, 128], Distribution::Default, &Device::flex());
/// let kept = PackedWeights::new(1 << 20);
/// for _ in 0..2 {
///     kept.install(|| linear(x.clone(), weight.clone(), None));
/// }
/// assert_eq!(kept.bytes(), 64 * 128 * 4);
/// ```
#[derive(Debug, Clone)]
pub struct PackedWeights {
    limit: usize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
    weights: HashMap<Key, Weight>,
}

/// What tells packed weights apart: where the weight lies, which part of it that is, and for which
/// product it was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    address: usize,
    sizes: [usize; 2],
    operands: Operands,
}

#[derive(Debug)]
struct Weight {
    packed: Arc<Packed>,
    /// Keeps its storage alive, so that no other weight gets its address.
    _stored: Tensor<2>,
}

/// A packed weight.
#[derive(Debug)]
pub(crate) enum Packed {
    Exact(PackedRight),
    Bf16(PackedBf16),
    Int8(PackedInt8),
}

impl Packed {
    fn new<M: Matrix>(right: &M, operands: Operands) -> Self {
        match operands {
            Operands::Exact => Self::Exact(PackedRight::new(right)),
            Operands::Bf16 => Self::Bf16(PackedBf16::new(right)),
            Operands::Int8 => Self::Int8(PackedInt8::new(right)),
        }
    }

    /// The size in memory of a weight once it is packed.
    fn bytes(sizes: [usize; 2], operands: Operands) -> usize {
        match operands {
            Operands::Exact => PackedRight::bytes(sizes),
            Operands::Bf16 => PackedBf16::bytes(sizes),
            Operands::Int8 => PackedInt8::bytes(sizes),
        }
    }

    /// If it was packed for exact products.
    pub(crate) fn exact(&self) -> Option<&PackedRight> {
        match self {
            Self::Exact(packed) => Some(packed),
            _ => None,
        }
    }

    /// If it was packed for products of bf16.
    pub(crate) fn bf16(&self) -> Option<&PackedBf16> {
        match self {
            Self::Bf16(packed) => Some(packed),
            _ => None,
        }
    }

    /// If it was packed for products of int8.
    pub(crate) fn int8(&self) -> Option<&PackedInt8> {
        match self {
            Self::Int8(packed) => Some(packed),
            _ => None,
        }
    }
}

thread_local! {
    /// What [`PackedWeights::install`] runs in.
    static CURRENT: RefCell<Option<PackedWeights>> = const { RefCell::new(None) };
}

impl PackedWeights {
    /// Keeps up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: Arc::default() }
    }

    /// Runs `passes` with these packed weights for the kernels that it calls on this thread.
    pub fn install<R>(&self, passes: impl FnOnce() -> R) -> R {
        with_value(|value| CURRENT.replace(value), Some(self.clone()), passes)
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No panic leaves the map half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The packed form of the weight `right`, which lies at `address` in the storage of `stored`;
    /// packs it, unless it is kept already or beyond the limit.
    fn packed<M: Matrix>(
        &self,
        stored: &Tensor<2>,
        address: usize,
        right: &M,
        operands: Operands,
    ) -> Option<Arc<Packed>> {
        let key = Key { address, sizes: right.sizes(), operands };
        let bytes = Packed::bytes(key.sizes, operands);
        {
            let kept = self.lock();
            if let Some(weight) = kept.weights.get(&key) {
                return Some(weight.packed.clone());
            }
            if kept.bytes.saturating_add(bytes) > self.limit {
                return None;
            }
        }
        // Outside the lock: packing waits for other threads, which may want another weight.
        let packed = Arc::new(Packed::new(right, operands));
        let mut kept = self.lock();
        if !kept.weights.contains_key(&key) && kept.bytes.saturating_add(bytes) <= self.limit {
            kept.bytes += bytes;
            let weight = Weight { packed: packed.clone(), _stored: stored.clone() };
            kept.weights.insert(key, weight);
        }
        Some(packed)
    }
}

/// [`PackedWeights::packed`] of those that are installed on this thread; `None` where none are.
pub(crate) fn packed<M: Matrix>(
    stored: &Tensor<2>,
    address: usize,
    right: &M,
    operands: Operands,
) -> Option<Arc<Packed>> {
    let current = CURRENT.with_borrow(|current| current.clone())?;
    current.packed(stored, address, right, operands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear;
    use crate::testing::{random, worst};

    #[test]
    fn results_are_those_without_kept_weights() {
        let (weight, other) = (random([70, 90], 1), random([70, 90], 2));
        for operands in [Operands::Exact, Operands::Bf16, Operands::Int8] {
            let kept = PackedWeights::new(1 << 20);
            for rows in [1, 5, 200, 5] {
                let x = random([rows, 70], 3);
                // All of it, a part, a view whose rows aren't adjacent, another one.
                let part = weight.clone().narrow(0, 10, 50);
                let transposed = random([90, 70], 4).swap_dims(0, 1);
                let cases = [
                    (x.clone(), weight.clone()),
                    (x.clone().narrow(1, 0, 50), part),
                    (x.clone(), transposed),
                    (x.clone(), other.clone()),
                ];
                for (x, weight) in cases {
                    let run = || operands.install(|| linear(x.clone(), weight.clone(), None));
                    assert_eq!(worst(kept.install(run), run()), 0.0, "{operands:?}, {rows} rows");
                }
            }
            let part = Packed::bytes([50, 90], operands);
            assert_eq!(kept.bytes(), 2 * Packed::bytes([70, 90], operands) + part);
        }
    }

    #[test]
    fn keeps_no_more_than_the_limit() {
        let one = Packed::bytes([16, 16], Operands::Exact);
        let kept = PackedWeights::new(2 * one + one / 2);
        let x = random([8, 16], 1);
        let weights: Vec<_> = (0..4).map(|seed| random([16, 16], seed)).collect();
        for _ in 0..2 {
            for weight in &weights {
                let got = kept.install(|| linear(x.clone(), weight.clone(), None));
                assert_eq!(worst(got, linear(x.clone(), weight.clone(), None)), 0.0);
            }
        }
        assert_eq!(kept.bytes(), 2 * one);
    }

    /// A weight that is freed while its packed form is kept must not be mistaken for a new one at
    /// the same address.
    #[test]
    fn new_weights_are_not_mistaken_for_old_ones() {
        let (kept, x) = (PackedWeights::new(1 << 20), random([8, 64], 1));
        for seed in 0..20 {
            let weight = random([64, 64], seed);
            let expected = linear(x.clone(), weight.clone(), None);
            assert_eq!(worst(kept.install(|| linear(x.clone(), weight, None)), expected), 0.0);
        }
    }
}
