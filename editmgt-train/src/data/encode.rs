use std::collections::HashMap;

use burn::tensor::{Device, Tensor};
use editmgt_checkpoint::WeightFiles;
use editmgt_core::{GridSize, VqCodec};
use editmgt_vq::CodecConfig;

use super::cache::{CacheKey, TokenCache, entry_key, settled};
use super::geometry::{Geometry, check_sizes};
use super::row::{Listing, PairImages, Row};
use super::shard::{Outcome, Place};
use super::tokens::{EntryKey, PairTokens};
use super::{Columns, PairOptions, Skip, SkipCause};
use crate::run::TrainError;

/// A codec, and what identifies it.
#[derive(Clone, Copy)]
pub struct PairCodec<'a> {
    /// Its config.
    pub config: &'a CodecConfig,
    /// Its weights.
    pub weights: &'a WeightFiles,
    /// The codec itself.
    pub codec: &'a dyn VqCodec,
    /// The device of its weights.
    pub device: &'a Device,
}

/// Pixels of the images per encoder batch: two of 1024x1024.
const BATCH_PIXELS: usize = 2 << 20;

/// Rows between progress reports.
const PROGRESS_INTERVAL: u64 = 16;

/// Fills the cache.
pub(super) struct Encoder<'a> {
    codec: PairCodec<'a>,
    options: &'a PairOptions,
    grid: GridSize,
    cache: TokenCache,
    batch: Vec<Crop>,
    encoded: u64,
}

/// A crop of a pair, queued for encoding.
struct Crop {
    key: EntryKey,
    before: Tensor<4>,
    after: Tensor<4>,
    touched: Vec<bool>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(
        codec: PairCodec<'a>,
        options: &'a PairOptions,
        columns: &Columns,
    ) -> Result<Self, TrainError> {
        let spec = codec.codec.spec();
        let factor = spec.downsample_factor;
        let pictures = &options.pictures;
        for (key, side) in [("height", pictures.height), ("width", pictures.width)] {
            if !(side as usize).is_multiple_of(factor) {
                let expected = format!("a multiple of {factor}, which the codec's patches are");
                return Err(TrainError::option(key, expected, side));
            }
        }
        if spec.codebook_size > 1 << 16 {
            let expected = "one of at most 65536 codes, for the token cache";
            return Err(TrainError::option("codec", expected, spec.codebook_size));
        }
        let grid =
            GridSize::new(pictures.height as usize / factor, pictures.width as usize / factor);
        let key = CacheKey::new(codec.config, codec.weights, options, columns)?;
        let cache = TokenCache::open(&options.cache, &key, grid)?;
        Ok(Self { codec, options, grid, cache, batch: Vec::new(), encoded: 0 })
    }

    pub(super) fn grid(&self) -> GridSize {
        self.grid
    }

    /// Number of examples encoded.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded
    }

    pub(super) fn damaged(&self) -> u64 {
        self.cache.damaged()
    }

    /// Encodes all crops of these rows, in ascending order, that are not in the cache, and returns
    /// the unusable rows.
    pub(super) fn encode(
        &mut self,
        listing: &Listing,
        rows: &[usize],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<HashMap<usize, Skip>, TrainError> {
        let unknown = |row: &&usize| !self.is_known(&listing.rows[**row]);
        let wanted: Vec<usize> = rows.iter().filter(unknown).copied().collect();
        let mut lost = HashMap::new();
        let (mut done, all) = (0, wanted.len() as u64);
        listing.pictures.read(&wanted, &mut |row, pictures| {
            match pictures.and_then(|pictures| self.crops(&listing.rows[row], &pictures)) {
                Ok(crops) => self.batch.extend(crops),
                // A transient failure: not recorded in the cache.
                Err(skip) if skip.cause == SkipCause::MissingImage => {
                    lost.insert(row, skip);
                }
                Err(skip) => {
                    let key = key(&listing.rows[row], 0);
                    self.cache.add(key, Outcome::Skip(skip))?;
                }
            }
            let area = self.options.pictures.height as usize * self.options.pictures.width as usize;
            if self.batch.len() * 2 * area >= BATCH_PIXELS {
                self.encode_batch()?;
            }
            done += 1;
            if done % PROGRESS_INTERVAL == 0 || done == all {
                progress(done, all);
            }
            Ok(())
        })?;
        self.encode_batch()?;
        self.cache.flush()?;
        for &row in rows {
            let known = self.cache.get(&key(&listing.rows[row], 0)).map(settled);
            if let Some(Err(skip)) = known {
                lost.insert(row, skip.clone());
            }
        }
        Ok(lost)
    }

    /// Where the tokens of a crop are.
    pub(super) fn place(&self, row: &Row, crop: usize) -> Result<Place, TrainError> {
        match self.cache.get(&key(row, crop)).map(settled) {
            Some(Ok(place)) => Ok(place.clone()),
            _ => Err(editmgt_core::Error::value("cache", "tokens of every row", &row.name).into()),
        }
    }

    fn is_known(&self, row: &Row) -> bool {
        let known = |crop| self.cache.get(&key(row, crop)).map(settled);
        matches!(known(0), Some(Err(_)))
            || (0..self.options.pictures.crops).all(|crop| known(crop).is_some())
    }

    fn crops(&self, row: &Row, pictures: &PairImages) -> Result<Vec<Crop>, Skip> {
        let options = &self.options.pictures;
        check_sizes(pictures, options.accept_rescaled)?;
        let crop = |number: usize| {
            let geometry = Geometry::draw(options, pictures.before.size(), &row.name, number);
            let touched = match &pictures.mask {
                Some(mask) => geometry.touched(mask, self.options.mask, self.grid),
                None => vec![true; self.grid.len()],
            };
            Ok(Crop {
                key: key(row, number),
                before: geometry.apply(&pictures.before, self.codec.device)?,
                after: geometry.apply(&pictures.after, self.codec.device)?,
                touched,
            })
        };
        (0..options.crops).map(crop).collect()
    }

    fn encode_batch(&mut self) -> Result<(), TrainError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let images = batch.iter().flat_map(|crop| [crop.before.clone(), crop.after.clone()]);
        let tokens = self.codec.codec.encode(Tensor::cat(images.collect(), 0))?;
        // Codes are below 65,536, as was checked.
        let ids = |image| tokens.image(image).iter().map(|&id| id as u16).collect();
        for (number, crop) in batch.into_iter().enumerate() {
            let (before, after) = (ids(2 * number), ids(2 * number + 1));
            let tokens = PairTokens { before, after, touched: crop.touched };
            self.cache.add(crop.key, Outcome::Tokens(tokens))?;
            self.encoded += 1;
        }
        Ok(())
    }
}

fn key(row: &Row, crop: usize) -> EntryKey {
    entry_key(&row.name, row.stamp, crop)
}
