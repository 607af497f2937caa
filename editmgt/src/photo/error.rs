use std::fmt;
use std::path::PathBuf;

use editmgt_core::GridSize;
use image::ImageError;
use image::error::UnsupportedErrorKind;

use super::{MIN_SIDE, PixelSize};

/// Source of an image, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Bytes or pixels in memory.
    Memory,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str("image in memory"),
        }
    }
}

/// The unsupported kind of image; in the decoder's terms if nothing better is known.
fn what_is_unsupported(error: &image::ImageError) -> String {
    match error {
        image::ImageError::Unsupported(unsupported) => match unsupported.kind() {
            UnsupportedErrorKind::GenericFeature(what) if what.starts_with("a ") => {
                format!("expected a supported kind of image, got {what}")
            }
            _ => error.to_string(),
        },
        _ => error.to_string(),
    }
}

/// Why an image cannot be read, used or written. Sizes are printed as width x height.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhotoError {
    /// The file cannot be opened or read.
    #[error("can't read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A folder was given for a photo.
    #[error("{}: expected an image file, got a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file is empty.
    #[error("{origin}: expected an image, got an empty file")]
    Empty {
        /// The photo.
        origin: Origin,
    },
    /// More bytes than the limits allow.
    #[error(
        "{origin}: {bytes} bytes, the limit is {limit}; raise `PhotoLimits::max_bytes` to read it"
    )]
    FileTooLarge {
        /// The photo.
        origin: Origin,
        /// Its length in bytes.
        bytes: u64,
        /// `PhotoLimits::max_bytes`.
        limit: u64,
    },
    /// The contents are not an image of a known format.
    #[error("{origin}: expected a PNG, JPEG, WebP, BMP, TIFF or GIF image, got {got}")]
    NotAnImage {
        /// The file.
        origin: Origin,
        /// The detected contents.
        got: String,
    },
    /// A known format, of an unsupported kind.
    #[error("{origin}: {}; save it as an 8-bit PNG or JPEG first", what_is_unsupported(reason))]
    Unsupported {
        /// The photo.
        origin: Origin,
        /// What is not supported, in the decoder's form; the message has a description.
        reason: image::ImageError,
    },
    /// The file is damaged.
    #[error("{origin}: damaged {format} file: {cause}")]
    Corrupt {
        /// The photo.
        origin: Origin,
        /// The detected format.
        format: &'static str,
        /// The decoder's error.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More pixels than the limits allow.
    #[error(
        "{origin}: {size} pixels exceed the limit of {limit}; raise `PhotoLimits::{option}` or \
         make the photo smaller"
    )]
    TooLarge {
        /// The photo.
        origin: Origin,
        /// Its size.
        size: PixelSize,
        /// The field of `PhotoLimits` that sets the limit.
        option: &'static str,
        /// The value of that field.
        limit: u64,
    },
    /// Decoding would need more memory than the largest allowed photo.
    #[error("{origin}: {cause}; raise `PhotoLimits::max_pixels` to decode it")]
    TooMuchMemory {
        /// The photo.
        origin: Origin,
        /// The decoder's error.
        cause: image::ImageError,
    },
    /// A side is too short.
    #[error("{origin}: {size} pixels; expected at least {MIN_SIDE} on each side")]
    TooSmall {
        /// The photo.
        origin: Origin,
        /// Its size.
        size: PixelSize,
    },

    /// A photo with its margins is too large.
    #[error(
        "outpaint: the photo of {photo} pixels with its margins is {canvas}; expected at most \
         {max_pixels} pixels in all and {max_side} a side: make the margins or the photo smaller"
    )]
    CanvasTooLarge {
        /// The photo's size.
        photo: PixelSize,
        /// Its size with the margins.
        canvas: PixelSize,
        /// Most pixels.
        max_pixels: u64,
        /// Longest side.
        max_side: u64,
    },

    /// The output's extension is not a supported format.
    #[error("{}: expected a name that ends in .png, .jpg, .webp, .bmp or .tiff", path.display())]
    UnknownExtension {
        /// The output.
        path: PathBuf,
    },
    /// The output is an existing folder.
    #[error("{}: expected a file to write, got a folder", path.display())]
    OutputIsFolder {
        /// The output.
        path: PathBuf,
    },
    /// The output's folder does not exist.
    #[error("{}: the folder {} does not exist; create it first", path.display(), folder.display())]
    NoFolder {
        /// The output.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The output's format does not support such a large image.
    #[error("{}: {size} pixels, but {format} holds at most {max} a side; choose .png", path.display())]
    TooLargeForFormat {
        /// The output.
        path: PathBuf,
        /// The image's size.
        size: PixelSize,
        /// The format.
        format: &'static str,
        /// The format's longest side.
        max: usize,
    },
    /// A JPEG quality out of range.
    #[error("JPEG quality: expected 1 to 100, got {got}")]
    Quality {
        /// The value.
        got: u8,
    },
    /// The output cannot be written.
    #[error("can't write {}: {cause}", path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The output cannot be written for another reason, such as a read-only file or a loop of
    /// links.
    #[error(transparent)]
    Store(editmgt_store::StoreError),
    /// The photo cannot be encoded in memory.
    #[error("can't encode as {format}: {cause}")]
    EncodeBytes {
        /// The format.
        format: &'static str,
        /// The encoder's error.
        cause: ImageError,
    },
    /// A format that cannot be written.
    #[error("expected PNG, JPEG, WebP, BMP or TIFF to encode to, got {format}")]
    UnknownFormat {
        /// The format.
        format: String,
    },
    /// The encoder's error.
    #[error("can't encode {}: {cause}", path.display())]
    Encode {
        /// The output.
        path: PathBuf,
        /// The encoder's error.
        cause: image::ImageError,
    },

    /// A file that should have a text is not a PNG, or is damaged.
    #[error("{}: expected a PNG: {cause}", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// The decoder's error.
        cause: png::DecodingError,
    },
    /// A PNG without a record of its edit.
    #[error(
        "{}: this PNG does not say how it was edited: expected a text chunk named {keyword:?}",
        path.display()
    )]
    NoRecord {
        /// The file.
        path: PathBuf,
        /// The chunk's keyword.
        keyword: &'static str,
    },
    /// A PNG with an unreadable record of its edit.
    #[error("{}: the record of its edit (by version {version}) is not understood: {cause}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The version that wrote it, by the record.
        version: String,
        /// What is wrong with it.
        cause: serde_json::Error,
    },

    /// Mask and photo have different aspect ratios.
    #[error(
        "mask {origin}: {mask} pixels do not have the proportions of the photo, which is {photo} \
         when upright; draw the mask over the photo as it is shown"
    )]
    MaskAspect {
        /// The mask.
        origin: Origin,
        /// Its size.
        mask: PixelSize,
        /// The photo's size, upright.
        photo: PixelSize,
    },
    /// The mask is black on every token.
    #[error(
        "mask {origin}: no token of the {grid} grid has any white, so nothing may change; paint the \
         area to edit white"
    )]
    MaskEmpty {
        /// The mask.
        origin: Origin,
        /// The token grid, height x width.
        grid: GridSize,
    },
    /// No pixel of the mask is bright enough to count as white.
    #[error(
        "mask {origin}: its brightest level is {brightest} of 255, so nothing may change; expected \
         white (255) where the photo may change, or, read by opacity, a transparent area"
    )]
    MaskDark {
        /// The mask.
        origin: Origin,
        /// Its brightest level.
        brightest: u8,
    },

    /// A size or value out of range.
    #[error(transparent)]
    Value(#[from] editmgt_core::Error),
}
