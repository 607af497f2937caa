use std::collections::HashMap;
use std::path::{Path, PathBuf};

use editmgt_checkpoint::WeightFiles;
use editmgt_core::GridSize;
use editmgt_vq::CodecConfig;
use serde_json::json;

use super::hash::{Fingerprint, hex};
use super::shard::{self, Known, Outcome, Place};
use super::tokens::EntryKey;
use super::{Columns, PairOptions, Skip};
use crate::run::TrainError;

/// Version of the cache: raised when the computation or the format of its tokens changes.
const FORMAT: u32 = 1;

/// Entries per shard: the most that is lost when a run is killed while it encodes.
const SHARD: usize = 256;

/// What the tokens of a data set depend on, besides its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheKey(String);

impl CacheKey {
    /// The key of a codec (its config and all bytes of its weights) and of the image options. The
    /// device of the codec is not part of it.
    pub(super) fn new(
        codec: &CodecConfig,
        weights: &WeightFiles,
        options: &PairOptions,
        columns: &Columns,
    ) -> Result<Self, TrainError> {
        let mut hash = Fingerprint::default();
        for path in weights.files() {
            hash.add(std::fs::read(path).map_err(TrainError::io(path))?);
        }
        let text = json!({
            "format": FORMAT,
            "codec": codec,
            "weights": hex(&hash.bytes::<32>()),
            "pictures": options.pictures,
            "mask": options.mask,
            "columns": [&columns.before, &columns.after, columns.mask.as_deref().unwrap_or("")],
        });
        Ok(Self(format!("{text:#}\n")))
    }
}

/// Token cache on disk: a folder per key, with files of several hundred entries.
#[derive(Debug)]
pub(super) struct TokenCache {
    dir: PathBuf,
    grid: GridSize,
    known: HashMap<EntryKey, Known>,
    pending: Vec<(EntryKey, Outcome)>,
    /// Number of files that were damaged or of another format, and were removed.
    damaged: u64,
}

/// The folders of the cache in `root`: their names are 16 hexadecimal digits.
pub(super) fn folders(root: &Path) -> Vec<PathBuf> {
    let is_key = |name: &str| name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let keys = entries.filter(|entry| is_key(&entry.file_name().to_string_lossy()));
    keys.map(|entry| entry.path()).collect()
}

impl TokenCache {
    /// Opens the cache in the folder `root`, creating it if needed, and reads all entries of the
    /// key. Damaged files are removed; their entries will be encoded again.
    pub(super) fn open(root: &Path, key: &CacheKey, grid: GridSize) -> Result<Self, TrainError> {
        let name = Fingerprint::default().with(&key.0).with(format!("{grid}")).bytes::<8>();
        let dir = root.join(hex(&name));
        std::fs::create_dir_all(&dir).map_err(TrainError::io(&dir))?;
        // For people; no code reads it.
        editmgt_store::write(dir.join("key.json"), &key.0)?;
        let mut cache = Self { dir, grid, known: HashMap::new(), pending: Vec::new(), damaged: 0 };
        let entries = std::fs::read_dir(&cache.dir).map_err(TrainError::io(&cache.dir))?;
        for entry in entries {
            let path = entry.map_err(TrainError::io(&cache.dir))?.path();
            // Sidecar files of the operating system are not part of the cache, and are kept.
            let is_own = !path.file_name().is_some_and(editmgt_store::is_sidecar);
            if is_own && path.extension().is_some_and(|extension| extension == "safetensors") {
                cache.take(&path)?;
            }
        }
        Ok(cache)
    }

    fn take(&mut self, path: &Path) -> Result<(), TrainError> {
        match shard::open(path, self.grid)? {
            Some(known) => self.known.extend(known),
            None => {
                let path_shown = path.display();
                tracing::warn!("{path_shown}: damaged; what it held will be encoded again");
                std::fs::remove_file(path).map_err(TrainError::io(path))?;
                self.damaged += 1;
            }
        }
        Ok(())
    }

    /// The state of an entry, if known.
    pub(super) fn get(&self, key: &EntryKey) -> Option<&Known> {
        self.known.get(key)
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Adds an entry, which is known after the next [`flush`](Self::flush) at the latest.
    pub(super) fn add(&mut self, key: EntryKey, outcome: Outcome) -> Result<(), TrainError> {
        self.pending.push((key, outcome));
        if self.pending.len() >= SHARD { self.flush() } else { Ok(()) }
    }

    /// Writes what was added.
    pub(super) fn flush(&mut self) -> Result<(), TrainError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let path = shard::write(&self.dir, self.grid, &self.pending)?;
        self.pending.clear();
        let known = shard::open(&path, self.grid)?;
        let unread = || TrainError::malformed(&path, "cannot be read back after it was written");
        self.known.extend(known.ok_or_else(unread)?);
        Ok(())
    }
}

/// The entry of crop number `crop` of a row.
pub(super) fn entry_key(name: &str, stamp: u64, crop: usize) -> EntryKey {
    let numbers = [stamp, crop as u64].map(u64::to_le_bytes);
    Fingerprint::default().with(name).with(numbers.concat()).bytes()
}

/// The cached result of a known entry: the place of its tokens, or why it is skipped.
pub(super) fn settled(known: &Known) -> Result<&Place, &Skip> {
    match known {
        Known::Tokens(place) => Ok(place),
        Known::Skip(skip) => Err(skip),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SkipCause;
    use super::super::tokens::PairTokens;
    use super::*;

    const GRID: GridSize = GridSize::new(2, 3);

    fn tokens(seed: u16) -> PairTokens {
        PairTokens {
            before: (0..6).map(|i| seed * 100 + i).collect(),
            after: (0..6).map(|i| seed * 100 + 50 + i).collect(),
            touched: (0..6).map(|i| (i + seed).is_multiple_of(2)).collect(),
        }
    }

    fn open(root: &Path) -> TokenCache {
        TokenCache::open(root, &CacheKey("one".into()), GRID).unwrap()
    }

    fn key(number: u64) -> EntryKey {
        entry_key("row", number, 0)
    }

    fn filled(root: &Path) -> PathBuf {
        let mut cache = open(root);
        for number in 0..3 {
            cache.add(key(number), Outcome::Tokens(tokens(number as u16))).unwrap();
        }
        let skip = Skip::new(SkipCause::CorruptImage, "cut off");
        cache.add(key(9), Outcome::Skip(skip)).unwrap();
        assert!(cache.get(&key(0)).is_none());
        cache.flush().unwrap();
        check(&cache);
        let files = std::fs::read_dir(&cache.dir).unwrap().map(|entry| entry.unwrap().path());
        let mut shards: Vec<PathBuf> =
            files.filter(|path| path.extension().unwrap() == "safetensors").collect();
        assert_eq!(shards.len(), 1);
        shards.remove(0)
    }

    fn check(cache: &TokenCache) {
        for number in 0..3 {
            let place = settled(cache.get(&key(number)).unwrap()).unwrap();
            assert_eq!(place.read().unwrap(), tokens(number as u16));
        }
        let skip = settled(cache.get(&key(9)).unwrap()).unwrap_err();
        assert_eq!(*skip, Skip::new(SkipCause::CorruptImage, "cut off"));
        assert!(cache.get(&key(5)).is_none());
    }

    #[test]
    fn entries_persist_under_their_key_only() {
        let root = tempfile::tempdir().unwrap();
        filled(root.path());
        check(&open(root.path()));
        let other = TokenCache::open(root.path(), &CacheKey("two".into()), GRID).unwrap();
        assert!(other.get(&key(0)).is_none());
        let other = TokenCache::open(root.path(), &CacheKey("one".into()), GridSize::new(3, 2));
        assert!(other.unwrap().get(&key(0)).is_none());
    }

    #[test]
    fn damaged_file_is_removed_and_its_entries_are_encoded_again() {
        let root = tempfile::tempdir().unwrap();
        let shard = filled(root.path());
        let whole = std::fs::read(&shard).unwrap();
        let last = whole.len() - 1;
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        let cases = [
            whole[..last].to_vec(),
            Vec::new(),
            b"not a shard".to_vec(),
            flipped(last),
            flipped(last - 10),
            flipped(3),
        ];
        for bytes in cases {
            std::fs::write(&shard, bytes).unwrap();
            let cache = open(root.path());
            assert!(cache.get(&key(0)).is_none() && cache.damaged() == 1);
            assert!(!shard.exists());
            assert_eq!(filled(root.path()), shard, "the same entries are the same file");
        }
    }

    #[test]
    fn file_damaged_after_opening_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let shard = filled(root.path());
        let cache = open(root.path());
        let mut bytes = std::fs::read(&shard).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&shard, bytes).unwrap();
        let read = |number| settled(cache.get(&key(number)).unwrap()).unwrap().read();
        assert_eq!(read(0).unwrap(), tokens(0));
        let error = read(2).unwrap_err().to_string();
        assert!(error.contains("damaged since the run began"), "{error}");
    }
}
