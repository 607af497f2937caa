//! A data set in parquet files as written by Hugging Face: images are structs of their file's
//! `bytes` and a `path`, or plain bytes.

use std::fs::File;
use std::path::{Path, PathBuf};

use editmgt::photo::Photo;
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::files::file_stamp;
use super::hash::Fingerprint;
use super::row::{EachImages, ImageReader, Listing, PairImages, Row, Words};
use super::{Columns, DataError, Skip, SkipCause, Skips};
use crate::run::TrainError;

/// Lists the rows of a file, of the `*.parquet` in a folder, or of the files of a pattern.
pub(super) fn list(path: &Path, columns: &Columns) -> Result<Listing, TrainError> {
    let mut found = Found { rows: Vec::new(), skips: Skips::default(), reader: Reader::default() };
    for path in files(path)? {
        let stamp = file_stamp(&path).map_err(TrainError::io(&path))?;
        let file = open(&path)?;
        found.add(&path, &file, stamp, columns).map_err(|e| TrainError::malformed(&path, e))?;
    }
    Ok(Listing { rows: found.rows, skips: found.skips, pictures: Box::new(found.reader) })
}

/// The files that a path names, without sidecar files.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let pattern = if path.is_dir() {
        // The folder's own name is not a pattern.
        Path::new(&glob::Pattern::escape(&path.to_string_lossy())).join("*.parquet")
    } else if path.is_file() {
        return Ok(vec![path.to_owned()]);
    } else {
        path.to_owned()
    };
    let matches = glob::glob(&pattern.to_string_lossy())
        .map_err(|e| TrainError::option("path", "a file, a folder or a pattern", e))?;
    let files: Vec<PathBuf> = matches
        .collect::<Result<_, _>>()
        .map_err(|e| TrainError::io(&e.path().to_owned())(e.into()))?;
    // Copies between systems leave sidecar files, such as `._a.parquet`, beside the files.
    let sidecar = |path: &PathBuf| path.file_name().is_some_and(editmgt_store::is_sidecar);
    let files: Vec<PathBuf> = files.into_iter().filter(|path| !sidecar(path)).collect();
    // In alphabetical order.
    if files.is_empty() {
        Err(DataError::NoRows { path: path.to_owned() }.into())
    } else {
        Ok(files)
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, TrainError> {
    let file = File::open(path).map_err(TrainError::io(path))?;
    SerializedFileReader::new(file).map_err(|e| TrainError::malformed(path, e))
}

struct Found {
    rows: Vec<Row>,
    skips: Skips,
    reader: Reader,
}

impl Found {
    fn add(
        &mut self,
        path: &Path,
        file: &SerializedFileReader<File>,
        stamp: [u8; 32],
        columns: &Columns,
    ) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let metadata = file.metadata().file_metadata();
        let leaves = match Leaves::find(metadata.schema_descr(), columns) {
            Ok(leaves) => leaves,
            Err(skip) => {
                self.skips.add_many(&name, &skip, u64::try_from(metadata.num_rows()).unwrap_or(0));
                return Ok(());
            }
        };
        let mut number = 0;
        for group in 0..file.num_row_groups() {
            let reader = file.get_row_group(group)?;
            let rows = usize::try_from(reader.metadata().num_rows())?;
            let texts = |leaf: Option<Leaf>| match leaf {
                Some(leaf) => leaf.texts(&*reader, rows),
                None => Ok(vec![Ok(None); rows]),
            };
            let captions =
                texts(leaves.caption_before)?.into_iter().zip(texts(leaves.caption_after)?);
            let words = texts(Some(leaves.instruction))?
                .into_iter()
                .zip(texts(leaves.category)?)
                .zip(texts(leaves.group)?)
                .zip(captions);
            for (row, (((instruction, category), group_name), captions)) in words.enumerate() {
                let name = format!("{name}#{number}");
                number += 1;
                let stamp = Fingerprint::default().with(stamp).with(&name).number();
                let words = || {
                    Ok(Words {
                        instruction: instruction?,
                        category: category?,
                        group: group_name?,
                        caption_before: captions.0?,
                        caption_after: captions.1?,
                    })
                };
                match words().and_then(|words| words.into_row(name.clone(), stamp, columns)) {
                    Ok(found) => {
                        self.rows.push(found);
                        let file = self.reader.files.len();
                        self.reader.places.push(Place { file, group, row });
                    }
                    Err(skip) => self.skips.add(&name, &skip),
                }
            }
        }
        self.reader.files.push((path.to_owned(), leaves));
        Ok(())
    }
}

/// The columns of a file that are read.
struct Leaves {
    before: Leaf,
    after: Leaf,
    mask: Option<Leaf>,
    instruction: Leaf,
    category: Option<Leaf>,
    group: Option<Leaf>,
    caption_before: Option<Leaf>,
    caption_after: Option<Leaf>,
}

impl Leaves {
    fn find(schema: &SchemaDescriptor, columns: &Columns) -> Result<Self, Skip> {
        let picture = |name: &str| {
            let expected = "an image's bytes, plain or in a struct";
            find(schema, name, &["bytes"], &[Type::BYTE_ARRAY], expected)
        };
        let text = |name: &str, types: &[Type]| find(schema, name, &[], types, "texts");
        let label = |name: &Option<String>| match name {
            Some(name) => text(name, &[Type::BYTE_ARRAY, Type::INT32, Type::INT64]),
            None => Ok(None),
        };
        let caption = |name: &Option<String>| match name {
            Some(name) => text(name, &[Type::BYTE_ARRAY]),
            None => Ok(None),
        };
        let needed = |leaf: Option<Leaf>, name: &str| {
            leaf.ok_or_else(|| Skip::new(SkipCause::MissingColumn, format!("no {name}")))
        };
        Ok(Self {
            before: needed(picture(&columns.before)?, &columns.before)?,
            after: needed(picture(&columns.after)?, &columns.after)?,
            mask: columns.mask.as_deref().map_or(Ok(None), picture)?,
            instruction: needed(
                text(&columns.instruction, &[Type::BYTE_ARRAY])?,
                &columns.instruction,
            )?,
            category: label(&columns.category)?,
            group: label(&columns.group)?,
            caption_before: caption(&columns.caption_before)?,
            caption_after: caption(&columns.caption_after)?,
        })
    }
}

/// The column `name`, or one of `below` nested in it. `None` if missing.
fn find(
    schema: &SchemaDescriptor,
    name: &str,
    below: &[&str],
    types: &[Type],
    expected: &str,
) -> Result<Option<Leaf>, Skip> {
    let of_column =
        |column: &&ColumnDescriptor| column.path().parts().first().is_some_and(|p| p == name);
    let all: Vec<_> = schema.columns().iter().map(AsRef::as_ref).enumerate().collect();
    let mut leaves = all.iter().filter(|(_, column)| of_column(column)).peekable();
    if leaves.peek().is_none() {
        return Ok(None);
    }
    let suits = |(_, column): &&(usize, &ColumnDescriptor)| {
        let rest = &column.path().parts()[1..];
        let is_it = match rest {
            [] => true,
            [part] => below.contains(&part.as_str()),
            _ => false,
        };
        is_it && column.max_rep_level() == 0 && types.contains(&column.physical_type())
    };
    let mut got = Vec::new();
    for leaf in leaves {
        if suits(&leaf) {
            let &(column, descriptor) = leaf;
            return Ok(Some(Leaf { column, max_level: descriptor.max_def_level() }));
        }
        got.push(format!("{} {}", leaf.1.path(), leaf.1.physical_type()));
    }
    let detail = format!("{name}: expected {expected}, got {}", got.join(", "));
    Err(Skip::new(SkipCause::WrongType, detail))
}

/// A column of values.
#[derive(Debug, Clone, Copy)]
struct Leaf {
    column: usize,
    /// The definition level of a non-null value.
    max_level: i16,
}

/// A text, null, or another type.
type Text = std::result::Result<Option<String>, Skip>;

impl Leaf {
    /// All values of a row group.
    fn texts(self, group: &dyn RowGroupReader, rows: usize) -> Result<Vec<Text>> {
        let number = |value: Option<i64>| Ok(value.map(|value| value.to_string()));
        Ok(match group.get_column_reader(self.column)? {
            ColumnReader::ByteArrayColumnReader(reader) => {
                self.values(reader, rows)?.into_iter().map(text).collect()
            }
            ColumnReader::Int32ColumnReader(reader) => {
                let values = self.values(reader, rows)?.into_iter();
                values.map(|value| number(value.map(i64::from))).collect()
            }
            ColumnReader::Int64ColumnReader(reader) => {
                self.values(reader, rows)?.into_iter().map(number).collect()
            }
            _ => return Err(changed()),
        })
    }

    fn values<T: DataType>(
        self,
        mut reader: ColumnReaderImpl<T>,
        rows: usize,
    ) -> Result<Vec<Option<T::T>>> {
        let mut found = Vec::with_capacity(rows);
        while found.len() < rows {
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let wanted = rows - found.len();
            let (read, _, _) = reader.read_records(wanted, Some(&mut levels), None, &mut values)?;
            if read == 0 {
                return Err(cut_off());
            }
            let mut values = values.into_iter();
            if self.max_level == 0 {
                found.extend(values.map(Some));
            } else {
                let is_there = levels.into_iter().map(|level| level == self.max_level);
                found.extend(is_there.map(|there| if there { values.next() } else { None }));
            }
        }
        Ok(found)
    }
}

fn text(value: Option<ByteArray>) -> Text {
    let not_text = |_| Skip::new(SkipCause::WrongType, "expected a text, got other bytes");
    value.map(|bytes| String::from_utf8(bytes.data().to_vec()).map_err(not_text)).transpose()
}

fn cut_off() -> ParquetError {
    ParquetError::EOF("a column has fewer values than there are rows".into())
}

fn changed() -> ParquetError {
    ParquetError::General("a column has another type than it had".into())
}

/// Reads images from the files, one row at a time.
#[derive(Default)]
struct Reader {
    files: Vec<(PathBuf, Leaves)>,
    places: Vec<Place>,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    file: usize,
    group: usize,
    /// Index in the row group.
    row: usize,
}

impl ImageReader for Reader {
    fn read(&self, wanted: &[usize], each: &mut EachImages<'_>) -> Result<(), TrainError> {
        let file_of = |row: &usize| self.places[*row].file;
        for wanted in wanted.chunk_by(|a, b| file_of(a) == file_of(b)) {
            let (path, leaves) = &self.files[file_of(&wanted[0])];
            let file = open(path)?;
            let malformed = |e: ParquetError| TrainError::malformed(path, e);
            let group_of = |row: &usize| self.places[*row].group;
            for wanted in wanted.chunk_by(|a, b| group_of(a) == group_of(b)) {
                let group = file.get_row_group(group_of(&wanted[0])).map_err(malformed)?;
                let column = |leaf: Leaf| Cells::open(&*group, leaf);
                let mut before = column(leaves.before).map_err(malformed)?;
                let mut after = column(leaves.after).map_err(malformed)?;
                let mut mask = leaves.mask.map(column).transpose().map_err(malformed)?;
                for &number in wanted {
                    let row = self.places[number].row;
                    let before = before.at(row).map_err(malformed)?;
                    let after = after.at(row).map_err(malformed)?;
                    let mask = mask.as_mut().map_or(Ok(None), |mask| mask.at(row));
                    each(number, pictures(before, after, mask.map_err(malformed)?))?;
                }
            }
        }
        Ok(())
    }
}

/// A column of a row group, read forwards.
struct Cells {
    reader: ColumnReaderImpl<ByteArrayType>,
    next: usize,
}

impl Cells {
    fn open(group: &dyn RowGroupReader, leaf: Leaf) -> Result<Self> {
        match group.get_column_reader(leaf.column)? {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(Self { reader, next: 0 }),
            _ => Err(changed()),
        }
    }

    /// The value of a row; rows must be read in ascending order.
    fn at(&mut self, row: usize) -> Result<Option<ByteArray>> {
        let skipped = self.reader.skip_records(row - self.next)?;
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (read, _, _) = self.reader.read_records(1, Some(&mut levels), None, &mut values)?;
        if skipped < row - self.next || read == 0 {
            return Err(cut_off());
        }
        self.next = row + 1;
        Ok(values.pop())
    }
}

fn pictures(
    before: Option<ByteArray>,
    after: Option<ByteArray>,
    mask: Option<ByteArray>,
) -> Result<PairImages, Skip> {
    let missing = || Skip::new(SkipCause::MissingImage, "the file does not hold its bytes");
    let decode = |bytes: ByteArray| {
        Photo::from_bytes(bytes.data()).map_err(|e| Skip::new(SkipCause::CorruptImage, e))
    };
    Ok(PairImages {
        before: decode(before.ok_or_else(missing)?)?,
        after: decode(after.ok_or_else(missing)?)?,
        mask: mask.map(decode).transpose()?,
    })
}
