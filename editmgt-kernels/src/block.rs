//! Blocks of quantised values that share a scale, and how they are rounded.

use std::fmt;
use std::str::FromStr;

use burn::tensor::f16;
use serde::{Deserialize, Serialize};

/// Values of a block: consecutive inputs of a row, with one scale.
pub const BLOCK: usize = 32;
/// Candidates for the level of the largest value of a 4-bit block. The levels are -8 to 7; a scale
/// that clips the largest value, or leaves levels unused, often has a smaller error in all.
const LEVELS: [f32; 6] = [-9.6, -8.96, -8.32, -7.68, -7.04, -6.4];

/// Bits of a quantised weight. Its JSON is the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum WeightBits {
    /// -127 to 127 times the scale of the block: 8.5 bits with it.
    Eight,
    /// -8 to 7 times the scale of the block: 4.5 bits with it.
    Four,
}

impl WeightBits {
    /// The number.
    pub fn count(self) -> u8 {
        match self {
            Self::Eight => 8,
            Self::Four => 4,
        }
    }

    /// The range of quantised values.
    pub fn range(self) -> std::ops::RangeInclusive<i8> {
        match self {
            Self::Eight => -127..=127,
            Self::Four => -8..=7,
        }
    }
}

impl From<WeightBits> for u8 {
    fn from(bits: WeightBits) -> Self {
        bits.count()
    }
}

impl TryFrom<u8> for WeightBits {
    type Error = UnknownBits;

    fn try_from(count: u8) -> Result<Self, UnknownBits> {
        match count {
            8 => Ok(Self::Eight),
            4 => Ok(Self::Four),
            _ => Err(UnknownBits(count.to_string())),
        }
    }
}

impl FromStr for WeightBits {
    type Err = UnknownBits;

    fn from_str(text: &str) -> Result<Self, UnknownBits> {
        let count: Option<u8> = text.parse().ok();
        count.and_then(|count| count.try_into().ok()).ok_or_else(|| UnknownBits(text.to_owned()))
    }
}

impl fmt::Display for WeightBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits", self.count())
    }
}

/// A number of bits that weights are not quantised to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownBits(String);

impl fmt::Display for UnknownBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bits of quantised weights: expected 8 or 4, got {}", self.0)
    }
}

impl std::error::Error for UnknownBits {}

/// A quantised block: each value is `scale` times an integer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    /// The scale; it may be negative in 4 bits.
    pub scale: f16,
    /// The integers; 0 beyond the end of a short block.
    pub values: [i8; BLOCK],
}

impl Block {
    /// Rounds up to [`BLOCK`] values. 8 bits: to the nearest, with a scale by the largest
    /// magnitude. 4 bits: with the scale, of some candidates, that has the least squared error.
    /// `None` for values that are not finite or too large for an f16 scale.
    ///
    /// # Panics
    /// For more than [`BLOCK`] values.
    pub fn quantize(values: &[f32], bits: WeightBits) -> Option<Self> {
        let mut padded = [0.0; BLOCK];
        padded[..values.len()].copy_from_slice(values);
        if !padded.iter().all(|value| value.is_finite()) {
            return None;
        }
        let block = match bits {
            WeightBits::Eight => Self::eight(&padded),
            WeightBits::Four => Self::four(&padded),
        };
        block.scale.is_finite().then_some(block)
    }

    fn eight(values: &[f32; BLOCK]) -> Self {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let mut scale = f16::from_f32(largest / 127.0);
        // A subnormal scale may have been rounded down by so much that the largest value is
        // clipped.
        while scale.to_f32() * 127.5 < largest {
            scale = f16::from_bits(scale.to_bits() + 1);
        }
        Self { scale, values: rounded(values, scale.to_f32(), -127.0, 127.0).map(|q| q as i8) }
    }

    fn four(values: &[f32; BLOCK]) -> Self {
        let largest = values.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
        let mut best = (f32::INFINITY, Self { scale: f16::ZERO, values: [0; BLOCK] });
        if largest == 0.0 {
            return best.1;
        }
        for level in LEVELS {
            let first = f16::from_f32(largest / level).to_f32();
            if !first.is_finite() {
                best.1.scale = f16::INFINITY;
                continue;
            }
            let levels = rounded(values, first, -8.0, 7.0);
            let products = levels.iter().zip(values).map(|(q, x)| q * x).sum::<f32>();
            let squares = levels.iter().map(|q| q * q).sum::<f32>();
            // The scale of the least squares for these levels.
            let scale = if squares > 0.0 { f16::from_f32(products / squares) } else { f16::ZERO };
            let wide = scale.to_f32();
            let error: f32 = levels.iter().zip(values).map(|(q, x)| (q * wide - x).powi(2)).sum();
            if scale.is_finite() && error < best.0 {
                best = (error, Self { scale, values: levels.map(|q| q as i8) });
            }
        }
        best.1
    }

    /// The value at `index`, exactly: an 11-bit times an 8-bit number fits in an f32.
    pub fn value(&self, index: usize) -> f32 {
        self.scale.to_f32() * f32::from(self.values[index])
    }
}

/// `values / scale`, rounded and clipped; 0 for a scale of 0.
fn rounded(values: &[f32; BLOCK], scale: f32, least: f32, most: f32) -> [f32; BLOCK] {
    if scale == 0.0 {
        return [0.0; BLOCK];
    }
    values.map(|value| (value / scale).round_ties_even().clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    const BITS: [WeightBits; 2] = [WeightBits::Eight, WeightBits::Four];

    #[test]
    fn known_blocks() {
        let mut values = [0.0; BLOCK];
        values[..4].copy_from_slice(&[127.0, -64.0, 1.4, -0.5]);
        let block = Block::quantize(&values, WeightBits::Eight).unwrap();
        assert_eq!(block.scale, f16::ONE);
        assert_eq!(block.values[..5], [127, -64, 1, 0, 0]);

        // Multiples of a scale by -8 to 7 are exact.
        let values: Vec<f32> = (0..BLOCK).map(|i| (i % 16) as f32 * 0.25 - 2.0).collect();
        let block = Block::quantize(&values, WeightBits::Four).unwrap();
        assert_eq!(block.scale, f16::from_f32(0.25));
        assert_eq!(block.values[..16], std::array::from_fn::<i8, 16, _>(|i| i as i8 - 8));
        let negated: Vec<f32> = values.iter().map(|value| -value).collect();
        let block = Block::quantize(&negated, WeightBits::Four).unwrap();
        assert_eq!(block.scale, f16::from_f32(-0.25));

        for bits in BITS {
            let zeros = Block::quantize(&[0.0; 7], bits).unwrap();
            assert_eq!(zeros, Block { scale: f16::ZERO, values: [0; BLOCK] });
            for bad in [f32::NAN, f32::INFINITY, 1e9] {
                assert_eq!(Block::quantize(&[1.0, bad], bits), None, "{bad} in {bits}");
            }
        }
    }

    /// Of each value: half a step of the scale; with 4 bits a clipped value may be off by more.
    #[test]
    fn errors_of_rounding_are_bounded() {
        for scale in [1.0, 0.02, 1e-5, 1e-7, 1e4] {
            let values = random::<2>([64, BLOCK], 7).try_into_vec_as::<f32>().unwrap();
            let values: Vec<f32> = values.iter().map(|x| x * scale).collect();
            for bits in BITS {
                let (mut squares, mut errors) = (0.0, 0.0);
                for values in values.chunks(BLOCK) {
                    let block = Block::quantize(values, bits).unwrap();
                    let step = block.scale.to_f32().abs();
                    for (index, value) in values.iter().enumerate() {
                        let error = (block.value(index) - value).abs();
                        if bits == WeightBits::Eight {
                            assert!(error <= 0.5001 * step, "{value} in {bits}: {error} of {step}");
                        }
                        squares += f64::from(value * value);
                        errors += f64::from(error * error);
                    }
                }
                let error = (errors / squares).sqrt();
                let most = match bits {
                    // The scale of such small values has few digits.
                    _ if scale < 1e-4 => 1.0,
                    WeightBits::Eight => 0.01,
                    WeightBits::Four => 0.1,
                };
                assert!(error < most, "{error} for values of {scale} in {bits}");
            }
        }
    }

    #[test]
    fn bits_are_8_or_4() {
        assert_eq!("8".parse(), Ok(WeightBits::Eight));
        assert_eq!("4".parse(), Ok(WeightBits::Four));
        for bad in ["", "5", "16", "-4", "8 bits"] {
            assert!(bad.parse::<WeightBits>().is_err(), "{bad}");
        }
        // Scales and values of 16 rows and 64 inputs, and of a row and an input.
        assert_eq!(WeightBits::Eight.bytes(16, 64), 2 * (32 + 512));
        assert_eq!(WeightBits::Four.bytes(1, 1), 32 + 256);
    }
}
