use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use editmgt_checkpoint::WeightFiles;
use sha2::{Digest, Sha256};

use super::folder::ModelFolder;
use crate::error::ModelError;

/// Number of samples of a weights file's data, and bytes of each.
const SAMPLES: u64 = 64;
const SAMPLE: u64 = 4096;

/// Identity of a model, 64 hexadecimal digits: a SHA-256 over the components' configs and, of each
/// weights file, its header (names, dtypes, shapes and offsets of all tensors), its length and 64
/// samples of 4 KiB spread evenly over its data.
///
/// Hashing gigabytes before each edit would be too slow, so data is sampled: the identity
/// distinguishes architectures, trainings and dtypes, wherever the folder is. It does not detect
/// every changed byte, and ignores tokenizers and `edit_defaults.json`.
///
/// # Errors
/// [`ModelError`] naming the file that cannot be read.
pub fn identity(folder: &ModelFolder) -> Result<String, ModelError> {
    variant_identity(folder, None)
}

/// The same number for a [variant](crate::LoadOptions::variant) of the model's weights.
///
/// # Errors
/// [`ModelError`] naming the file that can't be read.
pub fn variant_identity(folder: &ModelFolder, variant: Option<&str>) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    for (name, dir) in folder.components() {
        part(&mut hash, name.as_bytes());
        part(&mut hash, &read(&dir.join("config.json"))?);
        component(&mut hash, &folder.variant_weights(dir, variant)?)?;
    }
    part(&mut hash, b"scheduler");
    part(&mut hash, &read(&folder.scheduler.join("scheduler_config.json"))?);
    Ok(digits(hash))
}

/// The same for a checkpoint outside a model: over the existing ones of the files `names` in its
/// folder, and its weights.
///
/// # Errors
/// [`ModelError`] naming the file that cannot be read.
pub fn checkpoint_identity(dir: &Path, names: &[&str]) -> Result<String, ModelError> {
    files_identity(dir, names, None)
}

/// The same with a variant of the weights.
pub(crate) fn files_identity(
    dir: &Path,
    names: &[&str],
    variant: Option<&str>,
) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    for name in names {
        let path = dir.join(name);
        if path.try_exists().map_err(ModelError::io(&path))? {
            part(&mut hash, name.as_bytes());
            part(&mut hash, &read(&path)?);
        }
    }
    component(&mut hash, &WeightFiles::open_variant(dir, variant)?)?;
    Ok(digits(hash))
}

/// Hashes the weights of a component.
fn component(hash: &mut Sha256, files: &WeightFiles) -> Result<(), ModelError> {
    if !files.is_safetensors() {
        // PyTorch's files have no header: names, dtypes and shapes stand in for it.
        for (key, entry) in files.entries() {
            part(hash, format!("{key} {} {:?}", entry.dtype, entry.shape).as_bytes());
        }
    }
    for path in files.files() {
        let read = if files.is_safetensors() {
            weights(hash, || File::open(path))
        } else {
            File::open(path).and_then(|mut file| samples(hash, &mut file, 0))
        };
        read.map_err(ModelError::io(&**path))?;
    }
    Ok(())
}

/// The same for the embedded model: name, config and weights of each component in the order of
/// [`ModelFolder::components`], and the scheduler's config.
#[cfg(feature = "embedded")]
pub(crate) fn embedded_identity(components: [(&str, &[u8], &[u8]); 3], scheduler: &[u8]) -> String {
    let mut hash = Sha256::new();
    for (name, config, file) in components {
        part(&mut hash, name.as_bytes());
        part(&mut hash, config);
        let read = weights(&mut hash, || Ok(std::io::Cursor::new(file)));
        read.expect("a header that was read before lies in its file");
    }
    part(&mut hash, b"scheduler");
    part(&mut hash, scheduler);
    digits(hash)
}

pub(crate) fn digits(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(ModelError::io(path))
}

/// Hashes bytes with their length as prefix, so that boundaries are unambiguous.
pub(crate) fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Hashes a safetensors file whose header was checked.
pub(crate) fn weights<F: Read + Seek>(
    hash: &mut Sha256,
    open: impl FnOnce() -> std::io::Result<F>,
) -> std::io::Result<()> {
    let mut file = open()?;
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix)?;
    let data = 8 + u64::from_le_bytes(prefix);
    let mut header = Vec::new();
    (&mut file).take(data - 8).read_to_end(&mut header)?;
    part(hash, &header);
    samples(hash, &mut file, data)
}

/// Hashes the length of a file and samples of its data, which start at `data`.
fn samples(hash: &mut Sha256, file: &mut (impl Read + Seek), data: u64) -> std::io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    hash.update(length.to_le_bytes());
    let mut bytes = Vec::new();
    for place in places(data, length) {
        bytes.clear();
        file.seek(SeekFrom::Start(place))?;
        file.by_ref().take(SAMPLE).read_to_end(&mut bytes)?;
        part(hash, &bytes);
    }
    Ok(())
}

/// Offsets of the samples of the data from `start` to `end`: the first at its beginning, the last
/// at its end; all of the data if it is short.
fn places(start: u64, end: u64) -> Vec<u64> {
    let length = end.saturating_sub(start);
    if length <= SAMPLES * SAMPLE {
        return (0..length.div_ceil(SAMPLE)).map(|i| start + i * SAMPLE).collect();
    }
    // As u128: the product cannot overflow.
    let last = u128::from(length - SAMPLE);
    let place = |i| start + (last * u128::from(i) / u128::from(SAMPLES - 1)) as u64;
    (0..SAMPLES).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_cover_short_data_and_reach_both_ends_of_long_data() {
        assert!(places(10, 10).is_empty());
        assert_eq!(places(10, 11), [10]);
        assert_eq!(places(10, 10 + SAMPLE + 1), [10, 10 + SAMPLE]);
        for length in [SAMPLES * SAMPLE + 1, 1 << 40, u64::MAX - 10] {
            let places = places(10, 10 + length);
            assert_eq!(places.len() as u64, SAMPLES);
            assert_eq!((places[0], places[63]), (10, 10 + length - SAMPLE));
            assert!(places.is_sorted());
        }
    }
}
