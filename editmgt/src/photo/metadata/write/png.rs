use std::borrow::Cow;
use std::io::Write;

use image::{ExtendedColorType, ImageError, ImageFormat, ImageResult};
use png::chunk::ChunkType;
use png::{BitDepth, ColorType, Encoder, EncodingError, Info, PixelDimensions, Unit};

use super::{Pixels, encoding_error};
use crate::photo::metadata::read::XMP_KEYWORD;
use crate::photo::metadata::{Metadata, Resolution, ResolutionUnit};

/// All metadata has chunks; texts become iTXt, for any Unicode. All precede the pixels.
pub(super) fn encode(
    pixels: Pixels<'_>,
    metadata: &Metadata,
    text: &[(String, String)],
    writer: impl Write,
) -> ImageResult<()> {
    write(pixels, metadata, text, writer).map_err(|error| match error {
        EncodingError::IoError(error) => ImageError::IoError(error),
        error => encoding_error(ImageFormat::Png, error),
    })
}

/// Pixels per metre, or aspect ratio; `None` if out of range.
pub(super) fn resolution(resolution: Resolution) -> Option<PixelDimensions> {
    let (xppu, yppu) = resolution.per_metre(i32::MAX as u32)?;
    let unit = match resolution.unit {
        ResolutionUnit::Aspect => Unit::Unspecified,
        _ => Unit::Meter,
    };
    Some(PixelDimensions { xppu, yppu, unit })
}

fn write(
    pixels: Pixels<'_>,
    metadata: &Metadata,
    text: &[(String, String)],
    writer: impl Write,
) -> Result<(), EncodingError> {
    let (data, colour) = pixels.interleaved();
    let mut info = Info::with_size(pixels.width(), pixels.height());
    info.bit_depth = BitDepth::Eight;
    info.color_type = match colour {
        ExtendedColorType::Rgba8 => ColorType::Rgba,
        _ => ColorType::Rgb,
    };
    info.icc_profile = metadata.icc_profile.as_deref().map(Cow::Borrowed);
    info.exif_metadata = metadata.exif.as_deref().map(Cow::Borrowed);
    info.pixel_dims = metadata.resolution.and_then(resolution);
    let mut encoder = Encoder::with_info(writer, info)?;
    if let Some(packet) = &metadata.xmp {
        let packet = String::from_utf8_lossy(packet).into_owned();
        encoder.add_itxt_chunk(XMP_KEYWORD.to_owned(), packet)?;
    }
    for (keyword, text) in text {
        encoder.add_itxt_chunk(keyword.clone(), text.clone())?;
    }
    let mut writer = encoder.write_header()?;
    let colours = &metadata.colours;
    if let Some(cicp) = colours.cicp {
        writer.write_chunk(ChunkType(*b"cICP"), &cicp)?;
    }
    // A file has a profile or sRGB, not both.
    if let Some(intent) = colours.srgb_intent.filter(|_| metadata.icc_profile.is_none()) {
        writer.write_chunk(ChunkType(*b"sRGB"), &[intent])?;
    }
    if let Some(gamma) = colours.gamma {
        writer.write_chunk(ChunkType(*b"gAMA"), &gamma.to_be_bytes())?;
    }
    if let Some(chromaticities) = colours.chromaticities {
        let bytes = chromaticities.map(u32::to_be_bytes);
        writer.write_chunk(ChunkType(*b"cHRM"), bytes.as_flattened())?;
    }
    writer.write_image_data(&data)?;
    writer.finish()
}
