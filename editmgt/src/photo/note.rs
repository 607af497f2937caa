use std::fmt;

use serde::Serialize;

/// What reading a photo left out or changed, for its owner: the CLI prints it, the report lists it.
///
/// In JSON each note has a `kind` and its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PhotoNote {
    /// The file is an animation (GIF, WebP, PNG): its first frame is edited.
    Animation,
    /// The file's opacity is 0 in every pixel, as clipboards write it: taken as opaque.
    OpacityIgnored,
    /// A JPEG without its end marker, whose blocks are all there.
    NoEndMarker,
    /// A JPEG with something behind its end: pictures of other sizes, a gain map, a film.
    Trailer {
        /// Its length.
        bytes: usize,
    },
    /// A TIFF with a sample beside the colours that the file doesn't call opacity.
    ExtraSample,
    /// A mask whose opacity says where the edit may happen: where it is transparent.
    MaskByOpacity,
    /// A mask of two levels that are not black and white: taken as such.
    MaskLevels {
        /// The darker level, of 255: must stay.
        black: u8,
        /// The brighter level, of 255: may change.
        white: u8,
    },
    /// Some of the edit lies where the photo is transparent, and does not show.
    EditTransparent {
        /// The share of the changed pixels that does not show, weighted by opacity, percent.
        percent: u8,
    },
}

impl fmt::Display for PhotoNote {
    /// A predicate, to follow the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Animation => f.write_str("is an animation: its first frame is edited, no other"),
            Self::OpacityIgnored => f.write_str("has opacity 0 in every pixel: taken as opaque"),
            Self::NoEndMarker => {
                f.write_str("has no end marker, but all of its blocks: read as it is")
            }
            Self::Trailer { bytes } => {
                write!(f, "has {bytes} bytes behind its end, which are left out")
            }
            Self::ExtraSample => {
                f.write_str("has a channel that is not declared as opacity, which is left out")
            }
            Self::MaskByOpacity => f.write_str(
                "is read by its opacity: what is transparent may change (--mask-reads luma reads \
                 its brightness)",
            ),
            Self::MaskLevels { black, white } => {
                write!(f, "has the levels {black} and {white}: taken as black and white")
            }
            Self::EditTransparent { percent } => {
                write!(
                    f,
                    "is transparent where {percent}% of the edit lies: it does not show there"
                )
            }
        }
    }
}
