use std::io::Write;

use image::codecs::jpeg::{JpegEncoder, PixelDensity, PixelDensityUnit};
use image::{ExtendedColorType, ImageEncoder, ImageResult};

use super::Pixels;
use crate::photo::metadata::read::XMP_PREFIX;
use crate::photo::metadata::{Metadata, ResolutionUnit};

/// Longest body of a segment in bytes; its length includes itself.
const MAX_SEGMENT: usize = 65_535 - 2;
/// Longest EXIF block in bytes: one segment with a prefix.
pub(super) const MAX_EXIF: usize = MAX_SEGMENT - 6;
/// Longest XMP packet in bytes: one segment with a prefix.
pub(super) const MAX_XMP: usize = MAX_SEGMENT - XMP_PREFIX.len();

/// JFIF with its density, EXIF, XMP and an ICC profile in segments before the pixels. Opacity is
/// dropped: colours are written unchanged.
pub(super) fn encode(
    pixels: Pixels<'_>,
    metadata: &Metadata,
    quality: u8,
    writer: &mut impl Write,
) -> ImageResult<()> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    if let Some((unit, density)) = metadata.resolution.and_then(|resolution| resolution.jfif()) {
        let unit = match unit {
            ResolutionUnit::Aspect => PixelDensityUnit::PixelAspectRatio,
            ResolutionUnit::Centimetre => PixelDensityUnit::Centimeters,
            ResolutionUnit::Inch | ResolutionUnit::Metre => PixelDensityUnit::Inches,
        };
        encoder.set_pixel_density(PixelDensity { density, unit });
    }
    let exif = metadata.exif.as_ref().filter(|block| block.len() <= MAX_EXIF);
    if let Some(block) = exif {
        encoder.set_exif_metadata(block.clone()).expect("JPEG has a place for EXIF");
    }
    if let Some(profile) = metadata.profile().0 {
        encoder.set_icc_profile(profile.into_owned()).expect("JPEG has a place for a profile");
    }
    encoder.write_image(pixels.rgb, pixels.width(), pixels.height(), ExtendedColorType::Rgb8)?;
    // XMP follows the start, JFIF and EXIF, in this order.
    let segment = |at: usize| 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    let mut at = 2 + segment(2);
    if exif.is_some() {
        at += segment(at);
    }
    writer.write_all(&bytes[..at])?;
    if let Some(packet) = metadata.xmp.as_ref().filter(|packet| packet.len() <= MAX_XMP) {
        let length = (2 + XMP_PREFIX.len() + packet.len()) as u16;
        writer.write_all(&[0xff, 0xe1])?;
        writer.write_all(&length.to_be_bytes())?;
        writer.write_all(XMP_PREFIX)?;
        writer.write_all(packet)?;
    }
    writer.write_all(&bytes[at..])?;
    Ok(())
}
