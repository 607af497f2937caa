//! Finds the weights of a folder and lists their tensors.

#[cfg(feature = "pytorch")]
use std::collections::HashMap;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use burn::tensor::DType;
use serde::Deserialize;

use crate::sets::{Chosen, WeightSets};
use crate::{CheckpointError, FileDtype, decode, header};

/// An index is a small file; a limit keeps a wrong one from filling the memory.
const MAX_INDEX: u64 = 100_000_000;

/// The weights of one component: which tensors there are, and where. No data is held.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    dir: PathBuf,
    files: Vec<Arc<Path>>,
    entries: BTreeMap<String, TensorEntry>,
    variant: Option<String>,
    /// The one file, where it is part of the program.
    embedded: Option<&'static [u8]>,
    format: Format,
    /// The tensors of PyTorch's files.
    #[cfg(feature = "pytorch")]
    unpickled: HashMap<String, pytorch_reader::Tensor>,
}

/// What weights are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    /// As `torch.save` writes them.
    #[cfg(feature = "pytorch")]
    Pickle,
}

/// Where a tensor is and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorEntry {
    /// Its element type in the file.
    pub dtype: FileDtype,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// The file.
    pub file: Arc<Path>,
    /// The position of its data: in a safetensors file from the start of the file, in one of
    /// PyTorch's from the start of the tensor.
    pub bytes: Range<u64>,
}

impl WeightFiles {
    /// Opens the weights of the folder `dir`: `diffusion_pytorch_model.safetensors`,
    /// `model.safetensors`, or the shards that a `*.safetensors.index.json` names. Only headers
    /// are read.
    ///
    /// With the feature `pytorch`, a folder without safetensors is opened by `pytorch_model.bin`,
    /// `diffusion_pytorch_model.bin`, the shards of a `*.bin.index.json`, or its only other `.bin`,
    /// `.pth` or `.pt`.
    ///
    /// Where a folder has variants beside (`model.fp16.safetensors`), these files win; where it has
    /// only one variant, that is read. See [`open_variant`](Self::open_variant) for a choice.
    ///
    /// # Errors
    /// No weights or more than one set of them, a malformed header or index, a pickle with more
    /// than tensors by name ([`PickleError`](crate::PickleError)), a missing shard, a shard outside
    /// the folder, an index that doesn't name exactly the keys of its shards, a link that points
    /// nowhere.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::open_variant(dir, None)
    }

    /// Opens a variant of the weights of the folder `dir`: `model.fp16.safetensors` and the like
    /// for `fp16`, or shards with an index of that variant. `None` as [`open`](Self::open).
    ///
    /// # Errors
    /// [`CheckpointError::NoVariant`], and those of [`open`](Self::open).
    pub fn open_variant(
        dir: impl AsRef<Path>,
        variant: Option<&str>,
    ) -> Result<Self, CheckpointError> {
        let dir = dir.as_ref();
        let Chosen { format, variant, file } = WeightSets::read(dir)?.choose(dir, variant)?;
        let files = Self { format, variant, ..Self::empty(dir) };
        if file.extension().is_some_and(|extension| extension == "json") {
            files.sharded(&file)
        } else {
            files.single(file)
        }
    }

    /// The variants that the folder `dir` has weights of, sorted: `["fp16"]`, for instance.
    ///
    /// # Errors
    /// A folder that can't be read.
    pub fn variants(dir: impl AsRef<Path>) -> Result<Vec<String>, CheckpointError> {
        Ok(WeightSets::read(dir.as_ref())?.variants().map(str::to_owned).collect())
    }

    /// Whether a file of this name holds weights, or says which files do.
    pub fn is_weights_name(name: &str) -> bool {
        crate::sets::is_weights_name(name)
    }

    /// The weights that a program has in itself: the bytes of one safetensors file. `name` stands
    /// for its path in errors.
    ///
    /// # Errors
    /// A malformed header.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self, CheckpointError> {
        let path = PathBuf::from(name);
        let dir = path.parent().map(Path::to_owned).unwrap_or_default();
        let mut files = Self { embedded: Some(bytes), ..Self::empty(&dir) };
        files.add(path.into())?;
        Ok(files)
    }

    fn empty(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            variant: None,
            embedded: None,
            format: Format::Safetensors,
            #[cfg(feature = "pytorch")]
            unpickled: HashMap::new(),
        }
    }

    /// Opens one of the files, and tells its length.
    pub(crate) fn reader(&self, path: &Path) -> Result<(Reader, u64), CheckpointError> {
        match self.embedded {
            Some(bytes) => Ok((Reader::Embedded(Cursor::new(bytes)), bytes.len() as u64)),
            None => header::open(path).map(|(file, len)| (Reader::File(file), len)),
        }
    }

    /// Opens a single safetensors file, whatever its name.
    ///
    /// # Errors
    /// A file that can't be read, a malformed header.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        Self::empty(path.parent().unwrap_or(Path::new(""))).single(path.to_owned())
    }

    /// The values of the tensor `key`, row-major, as f32; `None` when there is no such tensor.
    ///
    /// # Errors
    /// [`CheckpointError::Dtype`] for a tensor that is no float of 16 or 32 bits; a file that can
    /// no longer be read.
    pub fn values(&self, key: &str) -> Result<Option<Vec<f32>>, CheckpointError> {
        let Some(entry) = self.entries.get(key) else { return Ok(None) };
        let mut reader = self.tensor_reader(key, entry)?;
        let values = decode::read::<f32>(&mut reader, entry, false);
        values.map(Some).map_err(|error| error.of(&entry.file, key, DType::F32))
    }

    /// The bytes of a tensor of one of PyTorch's files; `None` for one of a safetensors file.
    #[cfg(feature = "pytorch")]
    pub(crate) fn unpickled(
        &self,
        key: &str,
        entry: &TensorEntry,
    ) -> Result<Option<Reader>, CheckpointError> {
        let Some(tensor) = self.unpickled.get(key) else { return Ok(None) };
        let bytes = crate::pytorch::bytes(tensor).map_err(CheckpointError::io(&entry.file))?;
        Ok(Some(Reader::Tensor(Cursor::new(bytes))))
    }

    /// `None`: without the feature `pytorch` all files are safetensors.
    #[cfg(not(feature = "pytorch"))]
    pub(crate) fn unpickled(
        &self,
        _key: &str,
        _entry: &TensorEntry,
    ) -> Result<Option<Reader>, CheckpointError> {
        Ok(None)
    }

    /// What the data of a tensor are read from.
    pub(crate) fn tensor_reader(
        &self,
        key: &str,
        entry: &TensorEntry,
    ) -> Result<Reader, CheckpointError> {
        match self.unpickled(key, entry)? {
            Some(bytes) => Ok(bytes),
            None => Ok(self.reader(&entry.file)?.0),
        }
    }

    fn single(mut self, path: PathBuf) -> Result<Self, CheckpointError> {
        self.add(path.into())?;
        Ok(self)
    }

    fn sharded(self, index: &Path) -> Result<Self, CheckpointError> {
        let shards = read_index(index)?;
        let mut files = self;
        for shard in shards.keys() {
            let path = files.dir.join(shard);
            // A link that points nowhere is there: opening it says so.
            if path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                let shard = shard.clone();
                return Err(CheckpointError::MissingShard { index: index.to_owned(), shard });
            }
            files.add(path.into())?;
        }
        let mut named = 0;
        for (shard, keys) in &shards {
            let path = files.dir.join(shard);
            named += keys.len();
            for key in keys {
                if files.entries.get(key).is_none_or(|entry| *entry.file != *path) {
                    return Err(CheckpointError::NotInShard {
                        index: index.to_owned(),
                        key: key.clone(),
                        shard: shard.clone(),
                    });
                }
            }
        }
        // Every named key is there once, so equal counts mean equal sets.
        if named != files.entries.len() {
            let known: HashSet<_> = shards.values().flatten().collect();
            if let Some((key, entry)) = files.entries.iter().find(|(key, _)| !known.contains(key)) {
                return Err(CheckpointError::NotInIndex {
                    index: index.to_owned(),
                    key: key.clone(),
                    shard: entry.file.file_name().unwrap_or_default().to_string_lossy().into(),
                });
            }
        }
        Ok(files)
    }

    fn add(&mut self, path: Arc<Path>) -> Result<(), CheckpointError> {
        let entries = match self.format {
            Format::Safetensors => {
                let (reader, len) = self.reader(&path)?;
                header::read(reader, len, &path)?
            }
            #[cfg(feature = "pytorch")]
            Format::Pickle => {
                let (entries, tensors) = crate::pytorch::read(&path)?;
                self.unpickled.extend(tensors);
                entries
            }
        };
        for header::HeaderEntry { key, dtype, shape, bytes } in entries {
            let entry = TensorEntry { dtype, shape, file: path.clone(), bytes };
            match self.entries.entry(key) {
                Entry::Vacant(slot) => {
                    slot.insert(entry);
                }
                Entry::Occupied(slot) => {
                    return Err(CheckpointError::DuplicateKey {
                        key: slot.key().clone(),
                        first: slot.get().file.to_path_buf(),
                        second: path.to_path_buf(),
                    });
                }
            }
        }
        self.files.push(path);
        Ok(())
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The variant of the files, which their names state.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether the files are safetensors; the other ones are PyTorch's.
    pub fn is_safetensors(&self) -> bool {
        self.format == Format::Safetensors
    }

    /// The files of the weights, without the index of shards.
    pub fn files(&self) -> &[Arc<Path>] {
        &self.files
    }

    /// The tensors by key.
    pub fn entries(&self) -> &BTreeMap<String, TensorEntry> {
        &self.entries
    }
}

/// What the bytes of a file are read from.
pub(crate) enum Reader {
    File(File),
    Embedded(Cursor<&'static [u8]>),
    #[cfg(feature = "pytorch")]
    Tensor(Cursor<Vec<u8>>),
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(into),
            Self::Embedded(bytes) => bytes.read(into),
            #[cfg(feature = "pytorch")]
            Self::Tensor(bytes) => bytes.read(into),
        }
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Embedded(bytes) => bytes.seek(to),
            #[cfg(feature = "pytorch")]
            Self::Tensor(bytes) => bytes.seek(to),
        }
    }
}

/// The keys of each shard that an index names.
fn read_index(path: &Path) -> Result<BTreeMap<String, Vec<String>>, CheckpointError> {
    /// `metadata` and whatever else stands beside the map decides nothing.
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let wrong = |message| CheckpointError::Index { path: path.to_owned(), message };
    let (_, len) = header::open(path)?;
    if len > MAX_INDEX {
        return Err(wrong(format!("{len} bytes, expected at most {MAX_INDEX}")));
    }
    let text = editmgt_store::read_text(path)?;
    let index: Index = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let mut shards = BTreeMap::<String, Vec<String>>::new();
    for (key, shard) in index.weight_map {
        if !is_file_name(&shard) {
            return Err(CheckpointError::ShardName { index: path.to_owned(), shard });
        }
        shards.entry(shard).or_default().push(key);
    }
    if shards.is_empty() {
        return Err(wrong("it names no shard".to_owned()));
    }
    Ok(shards)
}

/// Whether a name stays in its folder, on any system.
fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let plain = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(only)), None) if only == name
    );
    plain && !name.contains(['/', '\\', ':', '\0'])
}
