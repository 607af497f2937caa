//! Edits as tokens, for training: those of the world, and of data sets of pairs in folders, JSON
//! Lines files and parquet files.
//!
//! ```text
//! folder | JSONL | parquet ─► rows ─► split by group ─► images ─► one crop for all of a pair
//!                              │                           │                     ▼
//!                              └───────► Skips ◄───────────┘                   codec
//!                                          │                                     ▼
//!                                     DataReport             PairEdits ◄─── token cache
//! ```
//!
//! [`PairData::open`] lists and splits the rows, [`PairData::prepare`] reads the images and fills
//! the cache. An unusable row is skipped, counted by its cause and reported. Cached examples are
//! neither decoded nor encoded again: see [`PairOptions::cache`]. [`PairPhotos`] gives the images
//! themselves, for evaluation.

mod cache;
mod columns;
mod dataset;
mod encode;
mod error;
mod files;
mod folder;
mod formats;
mod geometry;
mod hash;
mod inputs;
mod jsonl;
mod options;
mod pairs;
#[cfg(feature = "parquet")]
mod parquet;
mod photos;
mod report;
mod row;
mod shard;
mod skip;
#[cfg(test)]
mod tests;
mod tokens;
mod world;

pub use editmgt::photo::MaskReading;

pub use columns::{ColumnNames, Columns, Layout};
pub use dataset::{EditDataset, EditExample};
pub use encode::PairCodec;
pub use error::DataError;
pub use options::{Crop, DataOptions, ImageOptions, PairFormat, PairOptions, ValidationPart};
pub use pairs::{PairData, PairEdits, PreparedPairs, ReadableInstruction};
pub use photos::PairPhotos;
pub use report::{DataReport, PartReport};
pub use row::Captions;
use skip::Skip;
pub use skip::{SkipCause, SkippedRows, Skips};
pub use world::WorldEdits;
