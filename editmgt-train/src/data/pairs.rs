use std::collections::BTreeSet;
use std::path::PathBuf;

use super::encode::Encoder;
use super::hash::{Fingerprint, hex};
use super::row::{Listing, Row};
use super::shard::Place;
use super::{
    Columns, DataError, DataOptions, DataReport, EditDataset, EditExample, PairCodec, PairOptions,
    PartReport, Skip, SkipCause, Skips, ValidationPart, formats,
};
use crate::run::TrainError;
use editmgt_core::{GridSize, MicroConditions};
use editmgt_world::Category;

/// The rows of a data set, split into training and validation. No image has been read.
pub struct PairData {
    options: PairOptions,
    columns: Columns,
    /// One data set, or one per split.
    listings: Vec<Listing>,
    train: Vec<RowIndex>,
    /// Ordered by a hash of their names, so that the first few are representative.
    validation: Vec<RowIndex>,
}

/// Names of the splits, for messages.
const TRAINING: &str = "training";
const VALIDATION: &str = "validation";

/// A listing, and a row of it.
type RowIndex = (usize, usize);

/// Checks that the text encoder can encode an instruction; the error says why not.
pub type ReadableInstruction<'a> = dyn Fn(&str) -> Result<(), String> + 'a;

/// A data set that is ready for training.
pub struct PreparedPairs {
    /// To train on.
    pub train: PairEdits,
    /// To evaluate on.
    pub validation: PairEdits,
    /// Counts of used and skipped rows.
    pub report: DataReport,
}

impl PairData {
    /// Lists the rows of a data set and splits them.
    ///
    /// # Errors
    /// [`TrainError::Option`] for the world or an option out of range; [`TrainError::Io`] for an
    /// unreadable data set; [`TrainError::Dataset`] when there is no row at all, or none in one
    /// split.
    pub fn open(source: &DataOptions) -> Result<Self, TrainError> {
        source.validate()?;
        let options = source.format().zip(source.pairs());
        let (format, options) =
            options.ok_or_else(|| TrainError::option("source", "pairs", "world"))?;
        let columns = options.columns()?;
        let list = |path: &PathBuf| {
            let listing = formats::list(format, path, &columns)?;
            if listing.rows.is_empty() && listing.skips.total() == 0 {
                Err(TrainError::from(DataError::NoRows { path: path.clone() }))
            } else {
                Ok(listing)
            }
        };
        let mut listings = vec![list(&options.path)?];
        let rows = |listing: usize, rows: usize| (0..rows).map(move |row| (listing, row));
        let first = rows(0, listings[0].rows.len());
        let (mut train, mut validation) = (Vec::new(), Vec::new());
        match &options.validation {
            ValidationPart::Path(path) => {
                listings.push(list(path)?);
                train.extend(first);
                validation.extend(rows(1, listings[1].rows.len()));
            }
            &ValidationPart::Share(share) => {
                let held = |row: &Row| (row.group as f64) < share * 2f64.powi(64);
                (validation, train) = first.partition(|&(_, row)| held(&listings[0].rows[row]));
            }
        }
        validation.sort_by_key(|&(listing, row)| {
            Fingerprint::default().with(&listings[listing].rows[row].name).number()
        });
        let data = Self { options: options.clone(), columns, listings, train, validation };
        data.check_parts()?;
        Ok(data)
    }

    fn check_parts(&self) -> Result<(), DataError> {
        for (rows, part) in [(&self.train, TRAINING), (&self.validation, VALIDATION)] {
            if !rows.is_empty() {
                continue;
            }
            let path = self.path_of(part);
            let groups: BTreeSet<u64> = self.listings[0].rows.iter().map(|row| row.group).collect();
            return Err(match self.options.validation {
                ValidationPart::Share(share) if !groups.is_empty() => {
                    DataError::EmptyPart { path, part, groups: groups.len(), share }
                }
                _ => DataError::NothingLeft { path, part, skips: self.skips() },
            });
        }
        Ok(())
    }

    fn path_of(&self, part: &str) -> PathBuf {
        match &self.options.validation {
            ValidationPart::Path(path) if part == VALIDATION => path.clone(),
            _ => self.options.path.clone(),
        }
    }

    fn skips(&self) -> Skips {
        self.listings.iter().fold(Skips::default(), |mut all, listing| {
            all.merge(listing.skips.clone());
            all
        })
    }

    fn row(&self, (listing, row): RowIndex) -> &Row {
        &self.listings[listing].rows[row]
    }

    /// The training instructions.
    pub fn instructions(&self) -> impl Iterator<Item = &str> {
        self.train.iter().map(|&row| self.row(row).instruction.as_str())
    }

    /// The first training instruction of each category; rows without a known category count as one.
    pub fn examples_by_category(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let rows = self.train.iter().map(|&row| self.row(row));
        let first = rows.filter(|row| seen.insert(row.category));
        first.map(|row| row.instruction.as_str()).collect()
    }

    /// Reads the images and encodes those that are not in the cache. Of the validation rows, the
    /// first `evaluated` usable ones are taken. Rows whose instruction is not `readable` are
    /// skipped. `progress` gets the number of rows done and the total from time to time.
    ///
    /// # Errors
    /// [`TrainError::Option`] when the size is not a multiple of the codec's downsampling, or the
    /// codec has more than 65,536 codes; [`TrainError::Dataset`] when no row is left;
    /// [`TrainError::Io`] for a cache that cannot be written; the codec's errors.
    pub fn prepare(
        self,
        codec: PairCodec<'_>,
        evaluated: usize,
        readable: &ReadableInstruction<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PreparedPairs, TrainError> {
        let mut encoder = Encoder::new(codec, &self.options, &self.columns)?;
        let mut skips = self.skips();
        let rows: usize = self.listings.iter().map(|listing| listing.rows.len()).sum();
        let mut report = DataReport {
            path: self.options.path.clone(),
            rows: rows as u64 + skips.total(),
            ..DataReport::default()
        };
        let mut side = Side { data: &self, encoder: &mut encoder, readable, skips: &mut skips };
        let mut train = Part::default();
        side.take(&self.train, &mut train, progress)?;
        let mut validation = Part::default();
        let mut left = self.validation.as_slice();
        // Unusable rows are replaced by further ones.
        while !left.is_empty() && validation.rows.len() < evaluated {
            let missing = evaluated - validation.rows.len();
            let (next, rest) = left.split_at(missing.min(left.len()));
            side.take(next, &mut validation, progress)?;
            left = rest;
        }
        for (part, name) in [(&train, TRAINING), (&validation, VALIDATION)] {
            if part.rows.is_empty() {
                let path = self.path_of(name);
                return Err(DataError::NothingLeft { path, part: name, skips }.into());
            }
        }
        report.spare = left.len() as u64;
        report.skipped = skips;
        report.damaged_cache_files = encoder.damaged();
        report.encoded = encoder.encoded();
        let mut fingerprint = Fingerprint::default();
        let train = train.ready(&self, &encoder, &mut fingerprint, &mut report.train)?;
        let validation =
            validation.ready(&self, &encoder, &mut fingerprint, &mut report.validation)?;
        let examples = report.train.examples + report.validation.examples;
        report.cached = examples.saturating_sub(report.encoded);
        report.fingerprint = hex(&fingerprint.bytes::<16>());
        Ok(PreparedPairs { train, validation, report })
    }
}

/// Selects the usable rows of a split.
struct Side<'a, 'b> {
    data: &'a PairData,
    encoder: &'a mut Encoder<'b>,
    readable: &'a ReadableInstruction<'a>,
    skips: &'a mut Skips,
}

impl Side<'_, '_> {
    fn take(
        &mut self,
        rows: &[RowIndex],
        part: &mut Part,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), TrainError> {
        let mut wanted = Vec::with_capacity(rows.len());
        for &index in rows {
            let row = self.data.row(index);
            match (self.readable)(&row.instruction) {
                Ok(()) => wanted.push(index),
                Err(why) => {
                    self.skips.add(&row.name, &Skip::new(SkipCause::UnreadableInstruction, why));
                }
            }
        }
        for (number, listing) in self.data.listings.iter().enumerate() {
            let of_listing = wanted.iter().filter(|(of, _)| *of == number);
            let mut rows: Vec<usize> = of_listing.map(|(_, row)| *row).collect();
            rows.sort_unstable();
            let skipped = self.encoder.encode(listing, &rows, progress)?;
            for (row, skip) in &skipped {
                self.skips.add(&listing.rows[*row].name, skip);
            }
            let kept =
                wanted.iter().filter(|(of, row)| *of == number && !skipped.contains_key(row));
            part.rows.extend(kept);
        }
        Ok(())
    }
}

/// The usable rows of one split.
#[derive(Default)]
struct Part {
    rows: Vec<RowIndex>,
}

impl Part {
    fn ready(
        self,
        data: &PairData,
        encoder: &Encoder<'_>,
        fingerprint: &mut Fingerprint,
        report: &mut PartReport,
    ) -> Result<PairEdits, TrainError> {
        let mut examples = Vec::new();
        fingerprint.add((self.rows.len() as u64).to_le_bytes());
        for &index in &self.rows {
            let row = data.row(index);
            fingerprint.add(row.stamp.to_le_bytes());
            fingerprint.add(&row.instruction);
            report.rows += 1;
            let category =
                row.category.map_or("unknown".into(), |c| format!("{c:?}").to_lowercase());
            *report.categories.entry(category).or_default() += 1;
            for crop in 0..data.options.pictures.crops {
                examples.push(Example {
                    place: encoder.place(row, crop)?,
                    instruction: row.instruction.clone(),
                    category: row.category,
                });
            }
        }
        report.examples = examples.len() as u64;
        let (grid, size) = (encoder.grid(), &data.options.pictures);
        let micro = MicroConditions::uncropped(size.height as usize, size.width as usize);
        Ok(PairEdits { examples, grid, micro })
    }
}

/// Edits of a data set, whose tokens are read from the cache on demand.
#[derive(Debug)]
pub struct PairEdits {
    examples: Vec<Example>,
    grid: GridSize,
    micro: MicroConditions,
}

#[derive(Debug)]
struct Example {
    place: Place,
    instruction: String,
    category: Option<Category>,
}

impl EditDataset for PairEdits {
    fn len(&self) -> u64 {
        self.examples.len() as u64
    }

    fn grid(&self) -> GridSize {
        self.grid
    }

    /// Micro-conditioning of uncropped images of the run's size, as an edit uses. (The official
    /// training uses the original's size and its crop.)
    fn micro(&self) -> MicroConditions {
        self.micro
    }

    fn examples(&self, indices: &[u64]) -> Result<Vec<EditExample>, TrainError> {
        let example = |&index: &u64| {
            let found = usize::try_from(index).ok().and_then(|index| self.examples.get(index));
            let missing = || TrainError::Data {
                index,
                message: format!("expected an index below {}", self.examples.len()),
            };
            let Example { place, instruction, category } = found.ok_or_else(missing)?;
            let tokens = place.read()?;
            // Equal tokens count as unchanged, whatever the mask says.
            let changed = tokens.before.iter().zip(&tokens.after).zip(&tokens.touched);
            Ok(EditExample {
                changed: changed.map(|((b, a), &touched)| touched && b != a).collect(),
                before: tokens.before.into_iter().map(u32::from).collect(),
                after: tokens.after.into_iter().map(u32::from).collect(),
                instruction: instruction.clone(),
                category: *category,
                contents: Vec::new(),
            })
        };
        indices.iter().map(example).collect()
    }
}
