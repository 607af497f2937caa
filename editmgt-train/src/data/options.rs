use std::path::{Path, PathBuf};

use editmgt::photo::MaskReading;
use serde::{Deserialize, Serialize};

use super::{ColumnNames, Columns, Layout};
use crate::run::TrainError;

/// The source of a run's edits: the section `[data]` of its config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataOptions {
    /// The generated world.
    World {},
    /// A folder with a sub-folder per column; the files of one stem are a row. Images are image
    /// files, everything else is text files.
    Folder(PairOptions),
    /// A JSON Lines file; image paths are relative to its folder.
    Jsonl(PairOptions),
    /// Parquet files with embedded images; needs the feature `parquet`. The path is a file, a
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

    /// The storage format of the pairs; `None` for the world.
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

/// The storage format of a data set of pairs: see [`DataOptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairFormat {
    /// A sub-folder per column.
    Folder,
    /// A JSON object per line.
    Jsonl,
    /// Parquet files.
    Parquet,
}

impl PairFormat {
    /// Detects the format at `path`: parquet for `.parquet` files, a folder of them or a pattern;
    /// otherwise folder for a folder, and JSON Lines for anything else.
    pub fn of(path: &Path) -> Self {
        let is_parquet = |path: &Path| path.extension().is_some_and(|end| end == "parquet");
        let holds_parquet = || {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let is_data = |name| !editmgt_store::is_sidecar(name);
            entries.into_iter().any(|entry| is_parquet(&entry.path()) && is_data(entry.file_name()))
        };
        if is_parquet(path) {
            Self::Parquet
        } else if !path.is_dir() {
            Self::Jsonl
        } else if holds_parquet() {
            Self::Parquet
        } else {
            Self::Folder
        }
    }
}

/// A data set of edit pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairOptions {
    /// Its path.
    pub path: PathBuf,
    /// The layout of its columns.
    #[serde(default)]
    pub layout: Layout,
    /// Names that replace those of the layout.
    #[serde(default)]
    pub columns: ColumnNames,
    /// The meaning of a mask.
    #[serde(default)]
    pub mask: MaskReading,
    /// The validation split.
    pub validation: ValidationPart,
    /// The folder of the token cache, which runs and data sets may share. It can be deleted at any
    /// time; missing entries are encoded again.
    pub cache: PathBuf,
    /// Size of a small text encoder's closed vocabulary: the most frequent words of the training
    /// instructions.
    #[serde(default = "default_vocabulary")]
    pub vocabulary: usize,
    /// How images are transformed.
    pub pictures: ImageOptions,
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

/// The rows of the validation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationPart {
    /// This share of the groups, above 0 and below 1. A hash of a group's name decides, so adding
    /// or removing rows does not move others between splits.
    Share(f64),
    /// Another data set with the same columns.
    Path(PathBuf),
}

/// How the images of a pair are brought to the size of the run. Both images and the mask are
/// transformed alike: resized until they cover the size, then cropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageOptions {
    /// Height in pixels: a multiple of the codec's downsampling.
    pub height: u32,
    /// Width in pixels: a multiple of the codec's downsampling.
    pub width: u32,
    /// The position of the crop.
    #[serde(default)]
    pub crop: Crop,
    /// Crops per pair, 1 or more; each is a separate example. More than one requires random crops
    /// or flips.
    #[serde(default = "one")]
    pub crops: usize,
    /// The share of mirrored crops, 0..=1. Use 0 unless no instruction says left or right.
    #[serde(default)]
    pub flip: f32,
    /// Seed of crops and flips.
    #[serde(default)]
    pub seed: u64,
    /// Accepts pairs whose images differ in size but have the same aspect ratio (to one in a
    /// hundred). Otherwise they are skipped.
    #[serde(default)]
    pub accept_rescaled: bool,
}

fn one() -> usize {
    1
}

impl ImageOptions {
    /// Whole images of a size, cropped in the centre.
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

/// Longest side of a training image, in pixels.
const LONGEST_SIDE: u32 = 8192;

/// Position of the crop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// The centre.
    #[default]
    Centre,
    /// Random, by the seed and the row.
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
        assert_eq!(pairs.pictures, ImageOptions::new(64, 96));
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
