//! Random checkpoints with the right keys, shapes and sizes, for tests and measurements without a
//! download.

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::write::{Sink, write};
use crate::{CheckpointError, TensorSpec, WriteOptions};

/// The standard deviation with which transformers are commonly initialised.
const DEVIATION: f32 = 0.02;
/// Values generated and written at a time; even.
const PIECE: usize = 1 << 20;

/// Writes a random checkpoint of `specs` (see [`module_tensors`](crate::module_tensors)) to the
/// folder `dir`: weights of rank 1 (the scales of norms) are 1, biases 0, everything else is
/// normal with standard deviation 0.02.
///
/// The values of a tensor depend only on `seed` and its key, not on other tensors, shards or
/// (except for rounding) the dtype.
///
/// # Errors
/// A folder that is not empty, a duplicate key, a dtype other than f32, f16 and bf16, and I/O
/// errors. Partial output is removed.
pub fn write_random(
    dir: &Path,
    specs: &[TensorSpec],
    options: &WriteOptions,
    seed: u64,
) -> Result<(), CheckpointError> {
    write(dir, specs, options, |spec, sink| {
        if spec.key.ends_with("bias") {
            constant(0.0, sink)
        } else if spec.key.ends_with("weight") && spec.shape.len() == 1 {
            constant(1.0, sink)
        } else {
            normal(seed, &spec.key, sink)
        }
    })
}

fn constant(value: f32, sink: &mut Sink) -> Result<(), CheckpointError> {
    let piece = vec![value; PIECE.min(sink.left())];
    while sink.left() > 0 {
        sink.push(&piece[..piece.len().min(sink.left())])?;
    }
    Ok(())
}

fn normal(seed: u64, key: &str, sink: &mut Sink) -> Result<(), CheckpointError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(hash(key));
    let mut piece = Vec::with_capacity(PIECE);
    while sink.left() > 0 {
        piece.clear();
        for _ in 0..PIECE.min(sink.left()).div_ceil(2) {
            piece.extend(normal_pair(&mut rng).map(|value| DEVIATION * value));
        }
        sink.push(&piece[..piece.len().min(sink.left())])?;
    }
    Ok(())
}

/// Two independent standard normal values (Box and Muller, 1958).
fn normal_pair(rng: &mut impl RngCore) -> [f32; 2] {
    // 24 bits, the mantissa of an f32. The first is above 0, whose logarithm is infinite.
    let mut uniform = |offset| ((rng.next_u32() >> 8) + offset) as f32 / (1 << 24) as f32;
    let radius = (-2.0 * uniform(1).ln()).sqrt();
    let (sin, cos) = (std::f32::consts::TAU * uniform(0)).sin_cos();
    [radius * cos, radius * sin]
}

/// FNV-1a: the random stream of a key, the same on every machine.
fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
