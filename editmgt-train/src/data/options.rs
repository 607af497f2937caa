use std::path::{Path, PathBuf};

use editmgt::photo::MaskReading;
use serde::{Deserialize, Serialize};

use super::{ColumnNames, Columns, Layout};
use crate::run::TrainError;

/// Where a run's edits come from: the section `[data]` of its config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataOptions {
    /// The generated world.
    World {},
    /// A folder with a sub-folder for each column; the files of one stem are a row. Pictures are
    /// image files, everything else is text files.
    Folder(PairOptions),
    /// A file of JSON objects, one a line; pictures are paths, from the folder of the file.
    Jsonl(PairOptions),
    /// Parquet files with embedded pictures; needs the feature `parquet`. The path is a file, a
    /// folder of `*.parquet`, or a pattern such as `data/train-*.parquet`.
    Parquet(PairOptions),
}

impl Default for DataOptions {
    fn default() -> Self {
        Self::World {}
    }
}

impl DataOptions {
    /// Whether the edits are those of the world.
    pub fn is_world(&self) -> bool {
        self.pairs().is_none()
    }

    /// The options of a source of pairs; `None` for the world.
    pub fn pairs(&self) -> Option<&PairOptions> {
        match self {
            Self::World {} => None,
            Self::Folder(pairs) | Self::Jsonl(pairs) | Self::Parquet(pairs) => Some(pairs),
        }
    }

    /// How the pairs are kept; `None` for the world.
    pub fn format(&self) -> Option<PairFormat> {
        match self {
            Self::World {} => None,
            Self::Folder(_) => Some(PairFormat::Folder),
            Self::Jsonl(_) => Some(PairFormat::Jsonl),
            Self::Parquet(_) => Some(PairFormat::Parquet),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`TrainError::Option`] with the key.
    pub fn validate(&self) -> Result<(), TrainError> {
        if cfg!(not(feature = "parquet")) && matches!(self, Self::Parquet(_)) {
            let expected = "world, folder or jsonl (or a build with the feature `parquet`)";
            return Err(TrainError::option("source", expected, "parquet"));
        }
        self.pairs().map_or(Ok(()), PairOptions::validate)
    }
}

/// How a data set of pairs is kept: see [`DataOptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairFormat {
    /// A sub-folder for each column.
    Folder,
    /// A JSON object a line.
    Jsonl,
    /// Parquet files.
    Parquet,
}

impl PairFormat {
    /// What lies at `path`, by the look of it: `.parquet` files, a folder of some or a pattern for
    /// some; else a folder; else a list.
    pub fn of(path: &Path) -> Self {
        let is_parquet = |path: &Path| path.extension().is_some_and(|end| end == "parquet");
        let holds_parquet = || {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let is_data = |name| !editmgt_store::is_sidecar(name);
            entries.into_iter().any(|entry| is_parquet(&entry.path()) && is_data(entry.file_name()))
        };
        match path.is_dir() {
            _ if is_parquet(path) => Self::Parquet,
            true if holds_parquet() => Self::Parquet,
            true => Self::Folder,
            false => Self::Jsonl,
        }
    }
}

/// A data set of edit pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairOptions {
    /// Where it is.
    pub path: PathBuf,
    /// The names of its columns.
    #[serde(default)]
    pub layout: Layout,
    /// Names that replace those of the layout.
    #[serde(default)]
    pub columns: ColumnNames,
    /// What a mask says.
    #[serde(default)]
    pub mask: MaskReading,
    /// What is evaluated on.
    pub validation: ValidationPart,
    /// The folder of the token cache, which runs and data sets may share. It can be removed at any
    /// time: what is missing is encoded again.
    pub cache: PathBuf,
    /// The closed vocabulary of a small text encoder is the so many words that the training
    /// instructions use most.
    #[serde(default = "default_vocabulary")]
    pub vocabulary: usize,
    /// What becomes of the pictures.
    pub pictures: PictureOptions,
}

fn default_vocabulary() -> usize {
    4096
}

impl PairOptions {
    /// The columns to read.
    ///
    /// # Errors
    /// Those of [`ColumnNames::over`].
    pub fn columns(&self) -> Result<Columns, TrainError> {
        self.columns.over(self.layout)
    }

    fn validate(&self) -> Result<(), TrainError> {
        self.columns()?;
        self.pictures.validate()?;
        if let ValidationPart::Share(share) = self.validation
            && !(share > 0.0 && share < 1.0)
        {
            return Err(TrainError::option("validation.share", "above 0 and below 1", share));
        }
        match self.vocabulary {
            0 => Err(TrainError::option("vocabulary", "1 word or more", 0)),
            _ => Ok(()),
        }
    }
}

/// Which pairs are evaluated on, and not learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationPart {
    /// This share of the groups, above 0 and below 1. A hash of a group's name decides, so a row
    /// stays on its side when others come or go.
    Share(f64),
    /// Another data set with the same columns.
    Path(PathBuf),
}

/// How a pair of pictures becomes one of the size of the run. What happens to one of the two
/// happens to the other, and to the mask: they are resized until they cover the size, and what
/// sticks out is cut off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureOptions {
    /// Rows of pixels: a multiple of the codec's patches.
    pub height: u32,
    /// Columns of pixels: a multiple of the codec's patches.
    pub width: u32,
    /// Which part is left.
    #[serde(default)]
    pub crop: Crop,
    /// Crops of each pair, 1 or more; each is an example of its own. More than one needs random
    /// crops or flips.
    #[serde(default = "one")]
    pub crops: usize,
    /// The share of the crops that are mirrored, 0..=1. 0 unless no instruction ever says left or
    /// right.
    #[serde(default)]
    pub flip: f32,
    /// Crops and flips follow from it.
    #[serde(default)]
    pub seed: u64,
    /// Takes pairs whose pictures differ in size, as long as they have the same proportions (to
    /// one in a hundred). Otherwise they are left out.
    #[serde(default)]
    pub accept_rescaled: bool,
}

fn one() -> usize {
    1
}

impl PictureOptions {
    /// Whole pictures of a size, cropped in the middle.
    pub fn new(height: u32, width: u32) -> Self {
        Self {
            height,
            width,
            crop: Crop::Centre,
            crops: 1,
            flip: 0.0,
            seed: 0,
            accept_rescaled: false,
        }
    }

    fn validate(&self) -> Result<(), TrainError> {
        for (key, side) in [("height", self.height), ("width", self.width)] {
            if !(1..=LONGEST_SIDE).contains(&side) {
                return Err(TrainError::option(key, format!("1 to {LONGEST_SIDE} pixels"), side));
            }
        }
        if !(0.0..=1.0).contains(&self.flip) {
            return Err(TrainError::option("flip", "0 to 1", self.flip));
        }
        let varied = self.crop == Crop::Random || self.flip > 0.0;
        if self.crops == 0 || (self.crops > 1 && !varied) {
            let expected = "1 or more, and 1 unless crops are random";
            return Err(TrainError::option("crops", expected, self.crops));
        }
        Ok(())
    }
}

/// Longest side of a picture to learn from, pixels.
const LONGEST_SIDE: u32 = 8192;

/// Which part of a picture is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// The middle.
    #[default]
    Centre,
    /// Any, as a function of the seed and the row alone.
    Random,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        path = "pairs"
        cache = "tokens"
        validation = { share = 0.1 }
        pictures = { height = 64, width = 96 }
    "#;

    fn read(text: &str) -> Result<DataOptions, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_source_has_its_keys_and_no_others() {
        assert_eq!(read("source = \"world\"").unwrap(), DataOptions::default());
        let options = read(&format!("source = \"folder\"\n{MINIMAL}")).unwrap();
        options.validate().unwrap();
        let pairs = options.pairs().unwrap();
        assert_eq!(pairs.columns().unwrap(), Layout::Plain.columns());
        assert_eq!(pairs.pictures, PictureOptions::new(64, 96));
        let written = toml::to_string(&options).unwrap();
        assert_eq!(read(&written).unwrap(), options);
        for text in [
            "source = \"world\"\npath = \"pairs\"".to_owned(),
            "source = \"video\"".to_owned(),
            format!("source = \"jsonl\"\nspeed = 1\n{MINIMAL}"),
            format!("source = \"folder\"\nlayout = \"pix2pix\"\n{MINIMAL}"),
            format!("source = \"folder\"\ncolumns = {{ befor = \"a\" }}\n{MINIMAL}"),
            MINIMAL.to_owned(),
        ] {
            assert!(read(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        let bad = |change: fn(&mut PairOptions)| {
            let mut options = read(&format!("source = \"folder\"\n{MINIMAL}")).unwrap();
            let DataOptions::Folder(pairs) = &mut options else { panic!("{options:?}") };
            change(pairs);
            options.validate().unwrap_err().to_string()
        };
        for (error, named) in [
            (bad(|o| o.validation = ValidationPart::Share(0.0)), "validation.share"),
            (bad(|o| o.validation = ValidationPart::Share(f64::NAN)), "validation.share"),
            (bad(|o| o.vocabulary = 0), "vocabulary"),
            (bad(|o| o.pictures.height = 0), "height"),
            (bad(|o| o.pictures.width = 1 << 20), "width"),
            (bad(|o| o.pictures.flip = -0.5), "flip"),
            (bad(|o| o.pictures.crops = 0), "crops"),
            (bad(|o| o.pictures.crops = 2), "crops"),
            (bad(|o| o.columns.after = Some("before".into())), "columns"),
        ] {
            assert!(error.starts_with(named), "{error}");
        }
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn parquet_without_the_feature_says_which_build_has_it() {
        let options = read(&format!("source = \"parquet\"\n{MINIMAL}")).unwrap();
        let error = options.validate().unwrap_err().to_string();
        assert!(error.contains("feature `parquet`"), "{error}");
    }
}
