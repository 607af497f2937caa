use std::io::Write;

use image::{ExtendedColorType, ImageError, ImageFormat, ImageResult};
use image_webp::{ColorType, EncodingError, WebPEncoder};

use super::{Pixels, encoding_error};
use crate::photo::metadata::Metadata;

/// Lossless, with chunks for the profile, EXIF and XMP. The resolution is among EXIF's tags.
pub(super) fn encode(
    pixels: Pixels<'_>,
    metadata: &Metadata,
    writer: &mut impl Write,
) -> ImageResult<()> {
    let (data, colour) = pixels.interleaved();
    let mut encoder = WebPEncoder::new(writer);
    if let Some(profile) = metadata.profile().0 {
        encoder.set_icc_profile(profile.into_owned());
    }
    if let Some(block) = metadata.exif_with_resolution() {
        encoder.set_exif_metadata(block);
    }
    if let Some(packet) = &metadata.xmp {
        encoder.set_xmp_metadata(packet.clone());
    }
    let colour = match colour {
        ExtendedColorType::Rgba8 => ColorType::Rgba8,
        _ => ColorType::Rgb8,
    };
    encoder.encode(&data, pixels.width(), pixels.height(), colour).map_err(|error| match error {
        EncodingError::IoError(error) => ImageError::IoError(error),
        error => encoding_error(ImageFormat::WebP, error),
    })
}
