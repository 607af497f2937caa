use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::Split;

/// Source of the generator's choices: random, or a test that enumerates them.
pub(crate) trait Choose {
    /// One of `0..n`, for `n` of at least 1.
    fn index(&mut self, n: usize) -> usize;

    /// One of `options`, which is not empty.
    fn pick<'a, T>(&mut self, options: &'a [T]) -> &'a T
    where
        Self: Sized,
    {
        &options[self.index(options.len())]
    }
}

/// Purpose of a random stream. The numbers are part of a seed's meaning: never reuse one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Pair = 0,
    Inverse = 1,
    Sprites = 2,
}

/// The stream of random choices of one example, addressed by (seed, version, split, index,
/// purpose).
/// purpose).
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(
        (seed, version): (u64, u32),
        split: Split,
        index: u64,
        purpose: Purpose,
    ) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        // A new version of the generator gives entirely different examples for the same seed.
        key[8..12].copy_from_slice(&version.to_le_bytes());
        key[12] = split as u8;
        key[13] = purpose as u8;
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self(rng)
    }
}

impl Choose for Draws {
    fn index(&mut self, n: usize) -> usize {
        // The high half of the product: uniform but for n / 2^32.
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }
}
