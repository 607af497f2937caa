use image::ImageDecoder;
use image::metadata::Orientation;

/// What travels with the pixels: from the photo to the edited photo.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// ICC profile for RGB, if the file had one. (A profile for grey or CMYK pixels is left out:
    /// photos are kept as RGB.)
    pub icc_profile: Option<Vec<u8>>,
    /// EXIF block (a TIFF structure) with its orientation set to "upright" and its thumbnail
    /// unlinked: the pixels have been turned already, and a thumbnail would show the photo
    /// before the edit.
    pub exif: Option<Vec<u8>>,
}

impl Metadata {
    /// Takes the metadata out of a file, and how its pixels must be turned.
    ///
    /// Damaged metadata is treated as missing: it is no reason to refuse a photo.
    pub(super) fn read(decoder: &mut impl ImageDecoder) -> (Self, Orientation) {
        let icc_profile = decoder.icc_profile().ok().flatten();
        let mut exif = decoder.exif_metadata().ok().flatten();
        // Some writers keep the prefix of a JPEG segment in other containers.
        if let Some(bare) = exif.as_ref().and_then(|exif| exif.strip_prefix(EXIF_PREFIX)) {
            exif = Some(bare.to_vec());
        }
        let mut orientation = None;
        if let Some(exif) = &mut exif {
            orientation = Orientation::remove_from_exif_chunk(exif);
            unlink_thumbnail(exif);
        }
        // TIFF keeps its orientation outside EXIF.
        let orientation =
            orientation.or_else(|| decoder.orientation().ok()).unwrap_or(Orientation::NoTransforms);
        let icc_profile = icc_profile.filter(|profile| is_rgb(profile));
        (Self { icc_profile, exif }, orientation)
    }
}

const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// Bytes 16 to 19 of an ICC profile name its colour space (ICC.1:2022, section 7.2).
fn is_rgb(profile: &[u8]) -> bool {
    profile.get(16..20) == Some(b"RGB ")
}

/// Ends the list of EXIF directories after the first: the second is the thumbnail's.
///
/// A TIFF structure is a byte order, the number 42, the offset of the first directory; a directory
/// is a count, that many entries of 12 bytes, and the offset of the next (TIFF 6.0, section 2).
fn unlink_thumbnail(exif: &mut [u8]) -> Option<()> {
    let big_endian = match exif.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let offset = *exif.get(4..)?.first_chunk()?;
    let first = if big_endian { u32::from_be_bytes(offset) } else { u32::from_le_bytes(offset) };
    let first = usize::try_from(first).ok()?;
    let count = *exif.get(first..)?.first_chunk()?;
    let count = if big_endian { u16::from_be_bytes(count) } else { u16::from_le_bytes(count) };
    let next = first.checked_add(2 + 12 * usize::from(count))?;
    exif.get_mut(next..)?.first_chunk_mut::<4>()?.fill(0);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbnail_directory_is_unlinked_and_nothing_else_changes() {
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\x1arest";
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x1a\0\0\0rest";
        for exif in [big, little] {
            let mut changed = exif.to_vec();
            unlink_thumbnail(&mut changed);
            assert_eq!(changed[22..26], [0; 4]);
            assert_eq!((&changed[..22], &changed[26..]), (&exif[..22], &exif[26..]));
        }
    }

    #[test]
    fn damaged_exif_is_left_alone() {
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x1a\0\0\0";
        for length in 0..exif.len() {
            let mut cut = exif[..length].to_vec();
            unlink_thumbnail(&mut cut);
            assert_eq!(cut, exif[..length], "cut to {length}");
        }
        let mut far = b"II*\0\xff\xff\xff\xff".to_vec();
        assert_eq!(unlink_thumbnail(&mut far), None);
    }
}
