//! A file of the token cache: several hundred entries, in the safetensors format.
//!
//! Tensors `before` and `after` (`[n, h, w]`, U16) and `touched` (`[n, h, w]`, U8); the metadata's
//! `rows` has, as JSON, the entries with tokens, in order, each with a checksum; `skips` has the
//! entries without tokens and the reason.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use editmgt_core::GridSize;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::hash::{Fingerprint, from_hex, hex};
use super::tokens::{EntryKey, PairTokens, checksum};
use super::{Skip, SkipCause};
use crate::run::TrainError;

/// The cached result of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Tokens(PairTokens),
    Skip(Skip),
}

/// Where the tokens of an entry are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) shard: std::sync::Arc<ShardFile>,
    pub(super) slot: usize,
}

/// The part of an entry that is kept in memory.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Tokens(Place),
    Skip(Skip),
}

/// A shard on disk whose entries were checked.
#[derive(Debug)]
pub(super) struct ShardFile {
    path: PathBuf,
    /// Offsets of the three parts of the first entry.
    starts: [u64; 3],
    /// Bytes per entry of each part.
    lengths: [usize; 3],
    rows: Vec<(EntryKey, [u8; 8])>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowLine {
    key: String,
    checksum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SkipLine {
    key: String,
    cause: SkipCause,
    detail: String,
}

const PARTS: [&str; 3] = ["before", "after", "touched"];
const ROWS: &str = "rows";
const SKIPS: &str = "skips";

/// Writes a shard into `dir`, where it appears when complete, and returns its path. Its name is a
/// hash of its entries: equal entries are the same file.
pub(super) fn write(
    dir: &Path,
    grid: GridSize,
    entries: &[(EntryKey, Outcome)],
) -> Result<PathBuf, TrainError> {
    let mut name = Fingerprint::default();
    let (mut rows, mut skips) = (Vec::new(), Vec::new());
    let mut data: [Vec<u8>; 3] = Default::default();
    for (key, outcome) in entries {
        name.add(key);
        match outcome {
            Outcome::Tokens(tokens) => {
                let parts = tokens.parts();
                let checksum = checksum(key, parts.each_ref().map(Vec::as_slice));
                rows.push(RowLine { key: hex(key), checksum: hex(&checksum) });
                for (all, part) in data.iter_mut().zip(parts) {
                    all.extend(part);
                }
            }
            Outcome::Skip(skip) => {
                let Skip { cause, detail } = skip.clone();
                skips.push(SkipLine { key: hex(key), cause, detail });
            }
        }
    }
    let path = dir.join(format!("{}.safetensors", hex(&name.bytes::<8>())));
    let malformed = |e: &dyn std::fmt::Display| TrainError::malformed(&path, e);
    let shape = vec![rows.len(), grid.height, grid.width];
    let mut views = Vec::new();
    for (part, bytes) in data.iter().enumerate() {
        let view = TensorView::new(dtype(part), shape.clone(), bytes);
        views.push((PARTS[part], view.map_err(|e| malformed(&e))?));
    }
    let lines = |lines: serde_json::Result<String>| lines.map_err(|e| malformed(&e));
    let metadata = HashMap::from([
        (ROWS.to_owned(), lines(serde_json::to_string(&rows))?),
        (SKIPS.to_owned(), lines(serde_json::to_string(&skips))?),
    ]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| malformed(&e))?;
    editmgt_store::write(&path, &bytes)?;
    Ok(path)
}

fn dtype(part: usize) -> Dtype {
    if part < 2 { Dtype::U16 } else { Dtype::U8 }
}

/// Reads a shard and checks every entry. `None` when it is damaged or of another format.
pub(super) fn open(
    path: &Path,
    grid: GridSize,
) -> Result<Option<Vec<(EntryKey, Known)>>, TrainError> {
    let bytes = std::fs::read(path).map_err(TrainError::io(path))?;
    Ok(parse(path, grid, &bytes))
}

fn parse(path: &Path, grid: GridSize, bytes: &[u8]) -> Option<Vec<(EntryKey, Known)>> {
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let (header, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let texts = metadata.metadata().as_ref()?;
    let rows: Vec<RowLine> = serde_json::from_str(texts.get(ROWS)?).ok()?;
    let skips: Vec<SkipLine> = serde_json::from_str(texts.get(SKIPS)?).ok()?;

    let mut file = ShardFile {
        path: path.to_owned(),
        starts: [0; 3],
        lengths: [2 * grid.len(), 2 * grid.len(), grid.len()],
        rows: Vec::with_capacity(rows.len()),
    };
    let mut data: [&[u8]; 3] = [&[]; 3];
    for (part, name) in PARTS.iter().enumerate() {
        let view = tensors.tensor(name).ok()?;
        let info = metadata.info(name)?;
        if view.dtype() != dtype(part) || view.shape() != [rows.len(), grid.height, grid.width] {
            return None;
        }
        // The length of the header, the header, the data.
        file.starts[part] = (8 + header + info.data_offsets.0) as u64;
        data[part] = view.data();
    }
    for (slot, row) in rows.iter().enumerate() {
        let key = from_hex(&row.key)?;
        let expected = from_hex(&row.checksum)?;
        let part = |part: usize| &data[part][slot * file.lengths[part]..][..file.lengths[part]];
        if checksum(&key, [part(0), part(1), part(2)]) != expected {
            return None;
        }
        file.rows.push((key, expected));
    }

    let shard = std::sync::Arc::new(file);
    let tokens = shard
        .rows
        .iter()
        .enumerate()
        .map(|(slot, (key, _))| (*key, Known::Tokens(Place { shard: shard.clone(), slot })));
    let mut known: Vec<_> = tokens.collect();
    for SkipLine { key, cause, detail } in skips {
        known.push((from_hex(&key)?, Known::Skip(Skip { cause, detail })));
    }
    Some(known)
}

impl Place {
    /// Reads the tokens of the entry.
    ///
    /// # Errors
    /// The file is gone, or has changed since it was checked.
    pub(super) fn read(&self) -> Result<PairTokens, TrainError> {
        let ShardFile { path, starts, lengths, rows } = &*self.shard;
        let mut file = File::open(path).map_err(TrainError::io(path))?;
        let mut parts = lengths.map(|length| vec![0; length]);
        for (part, bytes) in parts.iter_mut().enumerate() {
            let start = starts[part] + (self.slot * lengths[part]) as u64;
            file.seek(SeekFrom::Start(start))
                .and_then(|_| file.read_exact(bytes))
                .map_err(TrainError::io(path))?;
        }
        let (key, expected) = &rows[self.slot];
        let parts = parts.each_ref().map(Vec::as_slice);
        if checksum(key, parts) != *expected {
            let problem = "damaged since the run began; resume the run to encode it again";
            return Err(TrainError::malformed(path, problem));
        }
        Ok(PairTokens::from_parts(parts))
    }
}
