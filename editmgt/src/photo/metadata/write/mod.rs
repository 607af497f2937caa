//! Encodes pixels with the metadata that each format supports.

mod bmp;
mod jpeg;
mod png;
mod tiff;
mod webp;

use std::borrow::Cow;
use std::io::{Seek, Write};

use image::error::{EncodingError, ImageFormatHint};
use image::{ExtendedColorType, GrayImage, ImageError, ImageFormat, ImageResult, RgbImage};

use super::exif::CameraData;
use super::{Metadata, ResolutionUnit};
use crate::photo::save::OutputFormat;
use crate::photo::{MetadataKind, PhotoNote, SaveOptions};

/// The pixels to encode.
#[derive(Debug, Clone, Copy)]
pub(in crate::photo) struct Pixels<'a> {
    pub(in crate::photo) rgb: &'a RgbImage,
    /// Opacity, unassociated.
    pub(in crate::photo) alpha: Option<&'a GrayImage>,
}

impl Pixels<'_> {
    fn width(&self) -> u32 {
        self.rgb.width()
    }

    fn height(&self) -> u32 {
        self.rgb.height()
    }

    /// RGB, or RGBA with opacity.
    fn interleaved(&self) -> (Cow<'_, [u8]>, ExtendedColorType) {
        let Some(alpha) = self.alpha else {
            return (Cow::Borrowed(self.rgb.as_raw()), ExtendedColorType::Rgb8);
        };
        let mut rgba = Vec::with_capacity(4 * alpha.len());
        for (colour, opacity) in self.rgb.pixels().zip(alpha.iter()) {
            rgba.extend_from_slice(&colour.0);
            rgba.push(*opacity);
        }
        (Cow::Owned(rgba), ExtendedColorType::Rgba8)
    }
}

/// Writes a whole file.
pub(in crate::photo) fn encode(
    pixels: Pixels<'_>,
    metadata: &Metadata,
    options: &SaveOptions,
    format: OutputFormat,
    writer: &mut (impl Write + Seek),
) -> ImageResult<()> {
    let empty = Metadata::default();
    let metadata = if options.metadata { metadata } else { &empty };
    match format {
        OutputFormat::Png => png::encode(pixels, metadata, &options.text, writer),
        OutputFormat::Jpeg => jpeg::encode(pixels, metadata, options.jpeg_quality, writer),
        OutputFormat::WebP => webp::encode(pixels, metadata, writer),
        OutputFormat::Bmp => bmp::encode(pixels, metadata, writer),
        OutputFormat::Tiff => tiff::encode(pixels, metadata, writer),
    }
}

/// Metadata that [`encode`] drops.
pub(in crate::photo) fn losses(
    metadata: &Metadata,
    has_alpha: bool,
    options: &SaveOptions,
    format: OutputFormat,
) -> Vec<PhotoNote> {
    let name = format.name();
    let not_written = |what| PhotoNote::NotWritten { what, format: name };
    let mut notes = Vec::new();
    if has_alpha && format == OutputFormat::Jpeg {
        notes.push(not_written(MetadataKind::Opacity));
    }
    if !options.metadata {
        return notes;
    }
    let length = |block: &Option<Vec<u8>>| block.as_ref().map_or(0, Vec::len);
    let blocks = [
        (MetadataKind::CameraData, length(&metadata.exif), jpeg::MAX_EXIF),
        (MetadataKind::Xmp, length(&metadata.xmp), jpeg::MAX_XMP),
    ];
    for (what, length, max) in blocks {
        match format {
            OutputFormat::Bmp if length > 0 => notes.push(not_written(what)),
            OutputFormat::Jpeg if length > max => {
                notes.push(PhotoNote::TooLong { what, format: name, length, max });
            }
            _ => {}
        }
    }
    if format != OutputFormat::Png && metadata.profile().1 {
        notes.push(not_written(MetadataKind::Colours));
    }
    let has_place = metadata.resolution.is_none_or(|resolution| match format {
        OutputFormat::Png => png::resolution(resolution).is_some(),
        OutputFormat::Jpeg => resolution.jfif().is_some(),
        OutputFormat::Bmp => bmp::resolution(resolution).is_some(),
        OutputFormat::WebP => resolution.unit != ResolutionUnit::Aspect,
        OutputFormat::Tiff => true,
    });
    if !has_place {
        notes.push(not_written(MetadataKind::Resolution));
    }
    notes
}

impl Metadata {
    /// The EXIF block for a format without another field for the resolution.
    fn exif_with_resolution(&self) -> Option<Vec<u8>> {
        let resolution =
            self.resolution.filter(|resolution| resolution.unit != ResolutionUnit::Aspect);
        let Some(resolution) = resolution else { return self.exif.clone() };
        let mut camera = self.camera().unwrap_or_else(CameraData::empty);
        if camera.resolution().is_none() {
            camera.set_resolution(resolution);
        }
        Some(camera.to_block())
    }
}

fn encoding_error(
    format: ImageFormat,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ImageError {
    ImageError::Encoding(EncodingError::new(ImageFormatHint::Exact(format), error))
}
