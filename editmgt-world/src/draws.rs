use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Counter-based randomness of a run, addressed by (seed, purpose, step): stateless, so a resumed
/// run draws what an unbroken one would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
}

impl Draws {
    /// A source that is a pure function of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The draws of one step for one purpose: a short unique name.
    pub fn stream(&self, purpose: &str, step: u64) -> Stream {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&fnv1a(purpose).to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(step);
        Stream(rng)
    }
}

/// A sequence of draws.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// A uniform value in [0, 1), a multiple of 2^-24.
    pub fn uniform(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// A uniform index below `n`, which is 1 or more.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "there is nothing to draw from");
        // The high half of a 128-bit product: off from uniform by less than n / 2^64.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// 64 uniform bits: a seed for another generator.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A standard normal value (Box and Muller, 1958).
    pub fn normal(&mut self) -> f32 {
        // 1 - u is never 0, whose logarithm is infinite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }
}

/// FNV-1a: the same on every machine and in every version of the compiler.
pub fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, purpose: &str, step: u64) -> [u32; 2] {
        let mut stream = Draws::new(seed).stream(purpose, step);
        [stream.0.next_u32(), stream.0.next_u32()]
    }

    #[test]
    fn seed_purpose_and_step_each_matter() {
        let base = first(1, "crops", 5);
        assert_eq!(first(1, "crops", 5), base);
        for other in [first(2, "crops", 5), first(1, "masks", 5), first(1, "crops", 6)] {
            assert_ne!(other, base);
        }
    }

    #[test]
    fn draws_fill_their_range() {
        let mut stream = Draws::new(3).stream("test", 0);
        let (mut counts, mut sum, mut squares) = ([0; 5], 0.0, 0.0);
        for _ in 0..5000 {
            counts[stream.below(5)] += 1;
            let normal = f64::from(stream.normal());
            (sum, squares) = (sum + normal, squares + normal * normal);
        }
        // Five deviations of a count, a mean and a mean square of 5000 draws.
        assert!(counts.iter().all(|n| (*n - 1000i32).abs() < 142), "{counts:?}");
        assert!((sum / 5000.0).abs() < 0.071, "{sum}");
        assert!((squares / 5000.0 - 1.0).abs() < 0.1, "{squares}");
    }
}
