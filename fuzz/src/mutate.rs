use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};

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

/// What an input is: half of the mutations keep that, so that they reach what lies behind the
/// checks of lengths and checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing is kept.
    Bytes,
    /// A JSON value, of which keys and values change.
    Json,
    /// A JSON value on each line.
    JsonLines,
    /// The length of the header is kept right, and the header is changed as JSON.
    SafeTensors,
    /// The checksums of the chunks are made right again.
    Png,
}

/// Makes inputs from seeds.
pub struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    form: Form,
    seed: u64,
}

impl<'a> Mutator<'a> {
    /// Mutations of these seeds; without any, the empty input is the seed.
    pub fn new(seeds: &'a [Vec<u8>], form: Form, seed: u64) -> Self {
        Self { seeds, form, seed }
    }

    /// The input number `index`: one of the seeds with 1 to 8 mutations.
    pub fn input(&self, index: u64) -> Vec<u8> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(index);
        let mut bytes = match self.seeds.len() {
            0 => Vec::new(),
            n => self.seeds[below(&mut random, n)].clone(),
        };
        let in_form = random.next_u32() & 1 == 0;
        for _ in 0..1 + below(&mut random, 8) {
            match self.form {
                Form::Json if in_form => mutate_json(&mut bytes, &mut random),
                Form::JsonLines if in_form => mutate_line(&mut bytes, &mut random),
                Form::SafeTensors if in_form => mutate_header(&mut bytes, &mut random),
                _ => self.mutate(&mut bytes, &mut random),
            }
        }
        bytes.truncate(MAX_BYTES);
        if in_form && self.form == Form::Png {
            mend_checksums(&mut bytes);
        }
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

/// A value that a reader may not expect.
fn odd_value(random: &mut ChaCha8Rng) -> Value {
    match below(random, 14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1u64 << (below(random, 63))),
        7 => json!(f64::MAX),
        8 => json!(7.5),
        9 => json!(""),
        10 => json!("a\u{0}\u{fffd}/../b"),
        11 => json!([]),
        12 => json!({}),
        _ => json!([[1, "two"], null]),
    }
}

/// One place of a JSON value: replaced, removed, doubled, renamed, or a number moved a little.
fn mutate_value(value: &mut Value, random: &mut ChaCha8Rng) {
    let descend = below(random, 4) != 0;
    match value {
        Value::Object(map) if !map.is_empty() => {
            let at = below(random, map.len());
            let key = map.keys().nth(at).expect("below the length").clone();
            if descend {
                return mutate_value(&mut map[&key], random);
            }
            match below(random, 3) {
                0 => drop(map.remove(&key)),
                1 => {
                    let value = map[&key].clone();
                    map.insert(format!("{key}_"), value);
                }
                _ => drop(map.insert(key, odd_value(random))),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = below(random, list.len());
            if descend {
                return mutate_value(&mut list[at], random);
            }
            match below(random, 3) {
                0 => drop(list.remove(at)),
                1 => {
                    let value = list[at].clone();
                    list.insert(at, value);
                }
                _ => list[at] = odd_value(random),
            }
        }
        Value::Number(number) if descend => {
            let moved = number.as_i64().map(|n| n.saturating_add(below(random, 5) as i64 - 2));
            *value = moved.map_or_else(|| odd_value(random), |moved| json!(moved));
        }
        Value::String(text) if descend && !text.is_empty() => {
            let at = below(random, text.len());
            let part = DICTIONARY[below(random, DICTIONARY.len())];
            let mut bytes = text.clone().into_bytes();
            insert(&mut bytes, at, part);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => *value = odd_value(random),
    }
}

/// Changes a JSON value; what is none stays as it is.
fn mutate_json(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    if let Ok(mut value) = serde_json::from_slice::<Value>(bytes) {
        mutate_value(&mut value, random);
        *bytes = serde_json::to_vec(&value).expect("a JSON value can be written");
    }
}

/// Changes one line as JSON, doubles or removes it.
fn mutate_line(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let mut lines: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = below(random, lines.len());
    match below(random, 8) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        _ => mutate_json(&mut lines[at], random),
    }
    *bytes = lines.join(&b'\n');
}

/// Changes the header of a safetensors file as JSON, and says its new length.
fn mutate_header(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Ok(length) = usize::try_from(u64::from_le_bytes(*length)) else { return };
    let Some((header, data)) = rest.split_at_checked(length) else { return };
    let mut header = header.to_vec();
    mutate_json(&mut header, random);
    *bytes = [&(header.len() as u64).to_le_bytes()[..], &header, data].concat();
}

/// Writes the right checksum behind each whole chunk of a PNG.
fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let end = at.saturating_add(8).saturating_add(length);
        let Some(chunk) = bytes.get(at + 4..end) else { return };
        let sum = crc32fast::hash(chunk).to_be_bytes();
        let Some(place) = bytes.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&sum);
        at = end + 4;
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
        for form in [Form::Bytes, Form::Json, Form::JsonLines, Form::SafeTensors, Form::Png] {
            let inputs = |seed| {
                (0..50).map(|i| Mutator::new(&seeds, form, seed).input(i)).collect::<Vec<_>>()
            };
            assert_eq!(inputs(1), inputs(1));
            assert_ne!(inputs(1), inputs(2));
        }
        assert!(Mutator::new(&[], Form::Bytes, 1).input(3).len() < MAX_BYTES);
    }

    #[test]
    fn half_of_the_mutations_keep_the_form() {
        let share = |seed: &[u8], form, sound: fn(&[u8]) -> bool| {
            let seeds = [seed.to_vec()];
            let mutator = Mutator::new(&seeds, form, 1);
            (0..400).filter(|&i| sound(&mutator.input(i))).count()
        };
        let json = br#"{"steps": 12, "blocks": [1, 2], "hold": "auto"}"#;
        let is_json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok();
        assert!(share(json, Form::Json, is_json) > 100);
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
        let has_header = |bytes: &[u8]| {
            let length = bytes.first_chunk::<8>().map_or(0, |n| u64::from_le_bytes(*n) as usize);
            bytes.get(8..8usize.saturating_add(length)).is_some_and(|header| {
                serde_json::from_slice::<Value>(header).is_ok_and(|header| header.is_object())
            })
        };
        assert!(share(&file, Form::SafeTensors, has_header) > 100);
        let chunk = |name: &[u8; 4]| {
            let sum = crc32fast::hash(&[&name[..], &[7; 40]].concat()).to_be_bytes();
            [&40u32.to_be_bytes()[..], name, &[7; 40], &sum].concat()
        };
        let png = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR"), &chunk(b"IDAT")].concat();
        let first_is_sound = |bytes: &[u8]| {
            let Some(chunk) = bytes.get(12..56) else { return false };
            bytes.get(56..60) == Some(&crc32fast::hash(chunk).to_be_bytes())
        };
        assert!(share(&png, Form::Png, first_is_sound) > 100);
    }
}
