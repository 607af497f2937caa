//! Tags of TIFF and EXIF that are kept with a photo.

/// A directory of an EXIF block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::photo::metadata) enum Directory {
    /// The main directory, with the tags of TIFF.
    Main,
    /// EXIF: how the photo was taken.
    Exif,
    /// GPS: where it was taken.
    Gps,
    /// Interoperability.
    Interop,
}

pub(in crate::photo::metadata) const ORIENTATION: u16 = 0x0112;
pub(in crate::photo::metadata) const X_RESOLUTION: u16 = 0x011a;
pub(in crate::photo::metadata) const Y_RESOLUTION: u16 = 0x011b;
pub(in crate::photo::metadata) const RESOLUTION_UNIT: u16 = 0x0128;
pub(in crate::photo::metadata) const TRANSFER_FUNCTION: u16 = 0x012d;
pub(in crate::photo::metadata) const XMP: u16 = 0x02bc;
pub(in crate::photo::metadata) const IPTC: u16 = 0x83bb;
pub(in crate::photo::metadata) const EXIF_POINTER: u16 = 0x8769;
pub(in crate::photo::metadata) const ICC_PROFILE: u16 = 0x8773;
pub(in crate::photo::metadata) const GPS_POINTER: u16 = 0x8825;
pub(in crate::photo::metadata) const SUBJECT_AREA: u16 = 0x9214;
pub(in crate::photo::metadata) const PIXEL_X_DIMENSION: u16 = 0xa002;
pub(in crate::photo::metadata) const PIXEL_Y_DIMENSION: u16 = 0xa003;
pub(in crate::photo::metadata) const INTEROP_POINTER: u16 = 0xa005;
pub(in crate::photo::metadata) const FOCAL_PLANE_X: u16 = 0xa20e;
pub(in crate::photo::metadata) const FOCAL_PLANE_Y: u16 = 0xa20f;
pub(in crate::photo::metadata) const SUBJECT_LOCATION: u16 = 0xa214;

/// Handling of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Kept: it describes the photo.
    Kept,
    /// Dropped: it describes the file that was read: pixel storage, other blocks, padding.
    File,
    /// Dropped with a note: it has no public definition, such as MakerNote, and may contain a
    /// preview, or offsets in the file that was read.
    Private,
}

impl Directory {
    /// Tags of TIFF 6.0, Exif 3.0 and those that Windows defines.
    pub(super) fn fate(self, tag: u16) -> Fate {
        let kept = match self {
            Self::Main => matches!(tag,
                0x010d..=0x0110 | ORIENTATION | X_RESOLUTION | Y_RESOLUTION | 0x011d
                | RESOLUTION_UNIT | TRANSFER_FUNCTION | 0x0131 | 0x0132 | 0x013b | 0x013c
                | 0x013e | 0x013f | 0x0213 | 0x4746 | 0x4749 | 0x8298 | 0x9003 | 0x9004
                | 0x9c9b..=0x9c9f),
            Self::Exif => matches!(tag,
                0x829a | 0x829d | 0x8822 | 0x8824 | 0x8827 | 0x8828 | 0x8830..=0x8835 | 0x9000
                | 0x9003 | 0x9004 | 0x9010..=0x9012 | 0x9101 | 0x9102 | 0x9201..=0x920a
                | SUBJECT_AREA | 0x9286 | 0x9290..=0x9292 | 0x9400..=0x9405 | 0xa000..=0xa004
                | 0xa20b | 0xa20c | FOCAL_PLANE_X | FOCAL_PLANE_Y | 0xa210 | SUBJECT_LOCATION
                | 0xa215 | 0xa217 | 0xa300..=0xa302 | 0xa401..=0xa40a | 0xa40c | 0xa420
                | 0xa430..=0xa43c | 0xa460..=0xa462 | 0xa500),
            Self::Gps => tag <= 0x1f,
            Self::Interop => matches!(tag, 1 | 2 | 0x1000..=0x1002),
        };
        if kept {
            return Fate::Kept;
        }
        let file = match self {
            Self::Main => matches!(tag,
                0x00fe..=0x010a | 0x0111 | 0x0115..=0x0119 | 0x011c | 0x011e..=0x0125
                | 0x0129 | 0x013d | 0x0140..=0x0156 | 0x015b | 0x0200..=0x0214 | XMP | IPTC
                | 0x8649 | EXIF_POINTER | ICC_PROFILE | GPS_POINTER | 0xea1c),
            Self::Exif => matches!(tag, INTEROP_POINTER | 0xea1c),
            Self::Gps | Self::Interop => false,
        };
        if file { Fate::File } else { Fate::Private }
    }
}
