use std::fmt;

use serde::Serialize;

/// Something that a photo carries beside its colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetadataKind {
    /// EXIF, and the camera data of a TIFF.
    CameraData,
    /// An ICC profile.
    ColourProfile,
    /// What the numbers mean as colours, otherwise than by a profile (PNG's gAMA, cHRM and cICP,
    /// calibrated colours of a BMP).
    Colours,
    /// An XMP packet.
    Xmp,
    /// Pixels per inch, or the proportions of a pixel.
    Resolution,
    /// How opaque each pixel is.
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

/// What reading or writing a photo left out or changed, for its owner: the CLI prints it, the
/// report lists it.
///
/// In JSON each note has a `kind` and its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PhotoNote {
    /// The file is an animation (GIF, WebP, PNG): its first frame is edited.
    Animation,
    /// The file holds more pictures: pages of a TIFF, views or frames of a JPEG. The first is
    /// edited.
    MorePictures,
    /// The file holds a gain map (Ultra HDR, Apple HDR), which brightens the picture on an HDR
    /// screen. It would describe other pixels.
    GainMap,
    /// Camera data without a public definition, MakerNote among them, are left out: they may hold
    /// a preview of the photo before the edit.
    PrivateCameraData,
    /// Captions in the form of IPTC and Photoshop are left out.
    Captions,
    /// XMP data beyond the first segment of a JPEG are left out: they hold previews and depth maps.
    ExtendedXmp,
    /// The colour profile is not for RGB, as the edited photo is.
    OtherProfile,
    /// A BMP names a file with its colour profile, which is not read.
    LinkedProfile,
    /// It can't be read, or not entirely; what can't is left out.
    Damaged {
        /// What is damaged.
        what: MetadataKind,
    },
    /// The output's format has no place for it.
    NotWritten {
        /// What is not written.
        what: MetadataKind,
        /// The output's format.
        format: &'static str,
    },
    /// It is longer than the output's format can hold, so it is not written.
    TooLong {
        /// What is not written.
        what: MetadataKind,
        /// The output's format.
        format: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest that has a place, bytes.
        max: usize,
    },
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
        let text = match self {
            Self::Animation => "is an animation: its first frame is edited, no other",
            Self::OpacityIgnored => "has opacity 0 in every pixel: taken as opaque",
            Self::NoEndMarker => "has no end marker, but all of its blocks: read as it is",
            Self::Trailer { bytes } => {
                return write!(f, "has {bytes} bytes behind its end, which are left out");
            }
            Self::ExtraSample => "has a channel that is not declared as opacity, which is left out",
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
            Self::MorePictures => "holds more than one picture: the first is edited, no other",
            Self::GainMap => {
                "has a gain map for HDR screens: it is left out, since it would describe other \
                 pixels"
            }
            Self::PrivateCameraData => {
                "has camera data that only its maker can read (MakerNote or the like): they are \
                 left out, since they may show the photo before the edit"
            }
            Self::Captions => "has captions in the form of IPTC or Photoshop: they are left out",
            Self::ExtendedXmp => {
                "has XMP data in several segments: those after the first are left out, since they \
                 hold previews and depth maps"
            }
            Self::OtherProfile => {
                "has a colour profile that is not for RGB: it is left out, since the edited photo \
                 is RGB"
            }
            Self::LinkedProfile => {
                "names a file with its colour profile: that file is not read, so the output has no \
                 profile"
            }
            Self::Damaged { what } => {
                return write!(f, "has a damaged {what}: what can't be read is left out");
            }
            Self::NotWritten { what, format } => {
                return write!(f, "loses its {what}: {format} has no place for it");
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
