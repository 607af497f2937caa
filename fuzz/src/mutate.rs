use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Longest input, bytes.
const MAX_BYTES: usize = 1 << 18;

/// Tokens that the readers give a meaning to.
const DICTIONARY: &[&[u8]] = &[
    b"null",
    b"true",
    b"NaN",
    b"1e999",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967296",
    b"0.0",
    b"{}",
    b"[]",
    b"\"\"",
    b"{\"a\":",
    b"[[[[[[[[",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r\n",
    b"\0",
    b"\\u0000",
    b"\xf0\x9f\x94\xb4",
    b"auto",
    b"mask",
    b"off",
    b"+",
    b":",
    b"otsu",
    b"threshold",
    b"__metadata__",
    b"data_offsets",
    b"lora_A",
    b"lora_down",
    b".alpha",
    b"IHDR",
    b"iTXt",
    b"eXIf",
    b"iCCP",
    b"IDAT",
    b"acTL",
    b"Exif\0\0",
    b"II*\0",
    b"MM\0*",
    b"VP8X",
    b"ICCP",
    b"ALPH",
    b"ANMF",
    b"\xff\xd8\xff",
    b"\xff\xda",
    b"\xff\xc0",
    b"\xff\xc4",
];

/// Makes inputs from seeds.
pub struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    seed: u64,
}

impl<'a> Mutator<'a> {
    /// Mutations of these seeds; without any, the empty input is the seed.
    pub fn new(seeds: &'a [Vec<u8>], seed: u64) -> Self {
        Self { seeds, seed }
    }

    /// The input number `index`: one of the seeds with 1 to 8 mutations.
    pub fn input(&self, index: u64) -> Vec<u8> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(index);
        let mut bytes = match self.seeds.len() {
            0 => Vec::new(),
            n => self.seeds[below(&mut random, n)].clone(),
        };
        for _ in 0..1 + below(&mut random, 8) {
            self.mutate(&mut bytes, &mut random);
        }
        bytes.truncate(MAX_BYTES);
        bytes
    }

    fn mutate(&self, bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
        let kind = below(random, 11);
        let at = below(random, bytes.len() + 1);
        let inside = at < bytes.len();
        match kind {
            0 if inside => bytes[at] ^= 1 << below(random, 8),
            1 if inside => bytes[at] = random.next_u32() as u8,
            2 => bytes.truncate(at),
            3 => insert(bytes, at, DICTIONARY[below(random, DICTIONARY.len())]),
            4 => overwrite(bytes, at, DICTIONARY[below(random, DICTIONARY.len())]),
            // A length field, of 2, 4 or 8 bytes in either order.
            5 => {
                let values = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
                let value = values[below(random, values.len())];
                let width = [2, 4, 8][below(random, 3)];
                match below(random, 2) {
                    0 => overwrite(bytes, at, &value.to_le_bytes()[..width]),
                    _ => overwrite(bytes, at, &value.to_be_bytes()[8 - width..]),
                }
            }
            6 if inside => {
                let end = at + 1 + below(random, (bytes.len() - at).min(64));
                bytes.drain(at..end);
            }
            7 if inside => {
                let end = at + 1 + below(random, (bytes.len() - at).min(64));
                let part = bytes[at..end].repeat(1 + below(random, 16));
                insert(bytes, at, &part);
            }
            // A part of another seed.
            8 if !self.seeds.is_empty() => {
                let other = &self.seeds[below(random, self.seeds.len())];
                let from = below(random, other.len() + 1);
                let end = from + below(random, (other.len() - from).min(256) + 1);
                insert(bytes, at, &other[from..end]);
            }
            // A number in a text.
            9 => {
                let digits: Vec<usize> =
                    (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    let digit = digits[below(random, digits.len())];
                    bytes[digit] = b'0' + below(random, 10) as u8;
                }
            }
            _ => insert(bytes, at, &random.next_u32().to_le_bytes()[..1 + below(random, 3)]),
        }
    }
}

fn below(random: &mut ChaCha8Rng, n: usize) -> usize {
    (random.next_u64() % n as u64) as usize
}

fn insert(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    bytes.splice(at..at, part.iter().copied());
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    let end = (at + part.len()).min(bytes.len());
    bytes.splice(at..end, part.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_depend_on_seed_and_index_only() {
        let seeds = [b"{\"steps\": 12}".to_vec(), Vec::new()];
        let inputs =
            |seed| (0..50).map(|i| Mutator::new(&seeds, seed).input(i)).collect::<Vec<_>>();
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(Mutator::new(&[], 1).input(3).len() < MAX_BYTES);
    }
}
