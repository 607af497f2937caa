use std::fmt;

use serde::Serialize;

/// A kind of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetadataKind {
    /// EXIF, and the camera data of a TIFF.
    CameraData,
    /// An ICC profile.
    ColourProfile,
    /// Colour space other than by a profile (PNG's gAMA, cHRM and cICP, calibrated colours of a
    /// BMP).
    Colours,
    /// An XMP packet.
    Xmp,
    /// Print resolution, or pixel aspect ratio.
    Resolution,
    /// Opacity.
    Opacity,
}

impl fmt::Display for MetadataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CameraData => "camera data (EXIF)",
            Self::ColourProfile => "colour profile",
            Self::Colours => "description of its colours",
            Self::Xmp => "XMP data",
            Self::Resolution => "print size",
            Self::Opacity => "transparency",
        })
    }
}

/// A remark on data that reading or writing a photo dropped or changed: the CLI prints it, the
/// report lists it.
///
/// In JSON each note has a `kind` and its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PhotoNote {
    /// The file is an animation (GIF, WebP, PNG): its first frame is edited.
    Animation,
    /// The file contains more images: pages of a TIFF, views or frames of a JPEG. The first is
    /// edited.
    MorePictures,
    /// The file contains a gain map (Ultra HDR, Apple HDR), which brightens the image on an HDR
    /// screen. It would not match the edited pixels.
    GainMap,
    /// Camera data without a public definition, such as MakerNote, are dropped: they may contain a
    /// preview of the photo before the edit.
    PrivateCameraData,
    /// Captions in the form of IPTC and Photoshop are dropped.
    Captions,
    /// XMP data beyond the first segment of a JPEG are dropped: they contain previews and depth
    /// maps.
    ExtendedXmp,
    /// The colour profile is not for RGB and is dropped.
    OtherProfile,
    /// A BMP refers to an external file with its colour profile, which is not read.
    LinkedProfile,
    /// Metadata that cannot be read completely; the unreadable part is dropped.
    Damaged {
        /// The damaged kind.
        what: MetadataKind,
    },
    /// The output's format does not support it.
    NotWritten {
        /// The dropped kind.
        what: MetadataKind,
        /// The output's format.
        format: &'static str,
    },
    /// It is longer than the output's format supports, and is dropped.
    TooLong {
        /// The dropped kind.
        what: MetadataKind,
        /// The output's format.
        format: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The format's limit in bytes.
        max: usize,
    },
    /// The file's opacity is 0 in every pixel, as clipboards write it: treated as opaque.
    OpacityIgnored,
    /// A JPEG without its end marker, but with all of its blocks.
    NoEndMarker,
    /// A JPEG with data after its end: images of other sizes, a gain map, a video.
    Trailer {
        /// Its length.
        bytes: usize,
    },
    /// A TIFF with an extra sample that is not declared as opacity.
    ExtraSample,
    /// A mask that is read by opacity: transparent pixels may change.
    MaskByOpacity,
    /// A mask of two levels other than black and white: treated as such.
    MaskLevels {
        /// The darker level, of 255: must stay.
        black: u8,
        /// The brighter level, of 255: may change.
        white: u8,
    },
    /// Part of the edit is where the photo is transparent, and is invisible.
    EditTransparent {
        /// The invisible share of the changed pixels, weighted by opacity, in percent.
        percent: u8,
    },
}

impl fmt::Display for PhotoNote {
    /// A predicate that follows the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Animation => "is an animation: only its first frame is edited",
            Self::OpacityIgnored => "has opacity 0 in every pixel: taken as opaque",
            Self::NoEndMarker => "has no end marker, but all of its blocks: read as it is",
            Self::Trailer { bytes } => {
                return write!(f, "has {bytes} bytes after its end, which are dropped");
            }
            Self::ExtraSample => "has a channel that is not declared as opacity, which is dropped",
            Self::MaskByOpacity => {
                "is read by its opacity: what is transparent may change (--mask-reads luma reads \
                 its brightness)"
            }
            Self::MaskLevels { black, white } => {
                return write!(f, "has the levels {black} and {white}: taken as black and white");
            }
            Self::EditTransparent { percent } => {
                return write!(
                    f,
                    "is transparent where {percent}% of the edit lies: it does not show there"
                );
            }
            Self::MorePictures => "has more than one image: only the first is edited",
            Self::GainMap => {
                "has a gain map for HDR screens: it is dropped, since it would describe other \
                 pixels"
            }
            Self::PrivateCameraData => {
                "has camera data that only its maker can read (MakerNote or the like): they are \
                 dropped, since they may show the photo before the edit"
            }
            Self::Captions => "has captions in the form of IPTC or Photoshop: they are dropped",
            Self::ExtendedXmp => {
                "has XMP data in several segments: those after the first are dropped, since they \
                 hold previews and depth maps"
            }
            Self::OtherProfile => {
                "has a colour profile that is not for RGB: it is dropped, since the edited photo \
                 is RGB"
            }
            Self::LinkedProfile => {
                "names a file with its colour profile: that file is not read, so the output has no \
                 profile"
            }
            Self::Damaged { what } => {
                return write!(f, "has a damaged {what}: the unreadable part is dropped");
            }
            Self::NotWritten { what, format } => {
                return write!(f, "loses its {what}: {format} does not support it");
            }
            Self::TooLong { what, format, length, max } => {
                return write!(
                    f,
                    "loses its {what}: {length} bytes, expected at most {max} for {format}"
                );
            }
        };
        f.write_str(text)
    }
}
