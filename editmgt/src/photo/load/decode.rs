//! From the bytes of a file to a photo.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::error::{DecodingError, ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::tiff_tags::{ExtraSample, TiffTags};
use super::{MIN_SIDE, Photo, PhotoLimits, animation, lengths, tiff_lzw};
use crate::photo::jpeg::{self, JpegLayout};
use crate::photo::metadata::Contents;
use crate::photo::opacity::{self, Opacity};
use crate::photo::{Metadata, Origin, PhotoError, PhotoNote, PixelSize};

/// Memory for a decoder in addition to the image, in bytes.
const DECODER_HEADROOM: u64 = 64 << 20;

/// Decodes; a panic of a decoder (`png` 0.18.1 has one for a palette that ends within a colour) is
/// returned as the error of a damaged file.
fn caught(
    decode: impl FnOnce() -> Result<DynamicImage, ImageError>,
) -> Result<DynamicImage, ImageError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        let hint = ImageFormatHint::Unknown;
        Err(ImageError::Decoding(DecodingError::new(hint, "the decoder failed")))
    })
}

/// Decodes a photo from the bytes of a file in any supported format.
pub(super) fn decode_from(
    bytes: &[u8],
    limits: &PhotoLimits,
    origin: &Origin,
) -> Result<Photo, PhotoError> {
    if bytes.is_empty() {
        return Err(PhotoError::Empty { origin: origin.clone() });
    }
    let (format, format_name) =
        sniff(bytes).map_err(|got| PhotoError::NotAnImage { origin: origin.clone(), got })?;
    let tags = match format {
        ImageFormat::Tiff => Some(TiffTags::read(bytes).unwrap_or_default()),
        _ => None,
    };
    let error = |source| match source {
        ImageError::Limits(_) => {
            PhotoError::TooMuchMemory { origin: origin.clone(), cause: source }
        }
        ImageError::Unsupported(_) => {
            let source = match tags.as_ref().and_then(TiffTags::kind) {
                Some(kind) if !is_named(&source) => unsupported_tiff(&kind),
                _ => source,
            };
            PhotoError::Unsupported { origin: origin.clone(), reason: source }
        }
        source => PhotoError::Corrupt {
            origin: origin.clone(),
            format: format_name,
            cause: source.into(),
        },
    };
    lengths::check(bytes, format).map_err(|source| PhotoError::Corrupt {
        origin: origin.clone(),
        format: format_name,
        cause: source.into(),
    })?;
    if format == ImageFormat::Jpeg
        && let Some(layout) = JpegLayout::of(bytes)
    {
        layout.check_supported().map_err(error)?;
    }
    if let Some(what) = tags.as_ref().and_then(TiffTags::unsupported) {
        return Err(error(unsupported_tiff(what)));
    }
    let most = decoder_limits(limits).max_alloc.unwrap_or(u64::MAX);
    let unpacked = tags.as_ref().map_or(Ok(None), |tags| tiff_lzw::unpacked(bytes, tags, most));
    let unpacked = unpacked.map_err(|source| PhotoError::Corrupt {
        origin: origin.clone(),
        format: format_name,
        cause: source.into(),
    })?;
    let decoder = open_decoder(unpacked.as_deref().unwrap_or(bytes), format, limits);
    let decoder = decoder.map_err(error)?;
    let (width, height) = decoder.dimensions();
    check_size(PixelSize::new(height as usize, width as usize), limits, origin)?;
    let stored = PixelSize::new(height as usize, width as usize);
    let Contents { metadata, orientation, mut notes } = Metadata::read(bytes, format, stored);
    let mut image = match format {
        ImageFormat::Jpeg => {
            drop(decoder);
            let cut_off = || PhotoError::Corrupt {
                origin: origin.clone(),
                format: format_name,
                cause: "the end of the image is missing".into(),
            };
            decode_jpeg(bytes, limits, &mut notes).map_err(error)?.ok_or_else(cut_off)?
        }
        _ => caught(|| DynamicImage::from_decoder(decoder)).map_err(error)?,
    };
    if let Some(tags) = &tags {
        image = apply_extra_sample(image, tags, &mut notes);
    }
    image.apply_orientation(orientation);
    let (rgb, alpha) = split_alpha(image);
    let alpha = match alpha {
        Some(Opacity::Nowhere) => {
            notes.push(PhotoNote::OpacityIgnored);
            None
        }
        Some(Opacity::Varies(alpha)) => Some(alpha),
        None => None,
    };
    let frame_limits = match format {
        ImageFormat::Png => header_limits(),
        _ => decoder_limits(limits),
    };
    if animation::is_animation(bytes, format, frame_limits) {
        notes.insert(0, PhotoNote::Animation);
    }
    Ok(Photo { rgb, alpha, metadata, notes })
}

/// An error that names the unsupported kind of TIFF.
fn unsupported_tiff(what: &str) -> ImageError {
    ImageError::Unsupported(UnsupportedError::from_format_and_kind(
        ImageFormatHint::Exact(ImageFormat::Tiff),
        UnsupportedErrorKind::GenericFeature(format!("{NAMED_TIFF}{what}")),
    ))
}

/// Prefix of the names of TIFF kinds.
const NAMED_TIFF: &str = "a TIFF with ";

/// Whether an error names a kind as [`unsupported_tiff`] does.
fn is_named(error: &ImageError) -> bool {
    let ImageError::Unsupported(error) = error else { return false };
    let kind = error.kind();
    matches!(kind, UnsupportedErrorKind::GenericFeature(what) if what.starts_with(NAMED_TIFF))
}

/// The decoder of a format, its header read.
fn open_decoder<'a>(
    bytes: &'a [u8],
    format: ImageFormat,
    limits: &PhotoLimits,
) -> Result<Box<dyn ImageDecoder + 'a>, ImageError> {
    let bytes = Cursor::new(bytes);
    let all = decoder_limits(limits);
    if format == ImageFormat::Png {
        // A compressed colour profile can expand a thousandfold while the header is read.
        let mut decoder = PngDecoder::with_limits(bytes, header_limits())?;
        decoder.set_limits(all)?;
        return Ok(Box::new(decoder));
    }
    let mut reader = ImageReader::with_format(bytes, format);
    reader.limits(all);
    Ok(Box::new(reader.into_decoder()?))
}

/// Decodes the image; `None` for a truncated file.
fn decode_jpeg(
    bytes: &[u8],
    limits: &PhotoLimits,
    notes: &mut Vec<PhotoNote>,
) -> Result<Option<DynamicImage>, ImageError> {
    let Some(layout) = JpegLayout::of(bytes) else { return Ok(None) };
    let decode = |bytes: &[u8]| {
        if layout.needs_other_decoder() {
            jpeg::decode_separate_scans(bytes)
        } else {
            let decoder = open_decoder(bytes, ImageFormat::Jpeg, limits)?;
            caught(|| DynamicImage::from_decoder(decoder))
        }
    };
    match layout.trailer() {
        Some(trailer) => {
            if bytes[bytes.len() - trailer..].iter().any(|&byte| byte != 0) {
                notes.push(PhotoNote::Trailer { bytes: trailer });
            }
            decode(bytes).map(Some)
        }
        None => match layout.completed(bytes, decode) {
            Some(complete) => {
                notes.push(PhotoNote::NoEndMarker);
                decode(&complete).map(Some)
            }
            None => Ok(None),
        },
    }
}

/// Interprets the extra sample of a TIFF as the file declares it.
fn apply_extra_sample(
    image: DynamicImage,
    tags: &TiffTags,
    notes: &mut Vec<PhotoNote>,
) -> DynamicImage {
    match tags.extra_sample() {
        Some(ExtraSample::Associated) => opacity::unassociated(image),
        Some(ExtraSample::Unspecified) if image.color().has_alpha() => {
            notes.push(PhotoNote::ExtraSample);
            opacity::without(image)
        }
        _ => image,
    }
}

/// Detects the format by content, or describes the content.
fn sniff(bytes: &[u8]) -> Result<(ImageFormat, &'static str), String> {
    let start = || bytes[..bytes.len().min(8)].escape_ascii().to_string();
    // HEIC, the phone format, is the most likely unsupported one.
    if matches!(bytes.get(4..12), Some(b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1")) {
        return Err("HEIC; export it as a JPEG first".into());
    }
    if bytes.starts_with(b"II+\0\x08\0\0\0") || bytes.starts_with(b"MM\0+\0\x08\0\0") {
        return Ok((ImageFormat::Tiff, "BigTIFF"));
    }
    match image::guess_format(bytes) {
        Ok(format @ ImageFormat::Png) => Ok((format, "PNG")),
        Ok(format @ ImageFormat::Jpeg) => Ok((format, "JPEG")),
        Ok(format @ ImageFormat::WebP) => Ok((format, "WebP")),
        Ok(format @ ImageFormat::Bmp) => Ok((format, "BMP")),
        Ok(format @ ImageFormat::Tiff) => Ok((format, "TIFF")),
        Ok(format @ ImageFormat::Gif) => Ok((format, "GIF")),
        Ok(other) => Err(format!("{other:?}")),
        Err(_) => Err(format!("a file that begins with \"{}\"", start())),
    }
}

/// Limits while a header is read.
fn header_limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_HEADROOM);
    limits
}

fn decoder_limits(limits: &PhotoLimits) -> Limits {
    let largest_pixel = image::ColorType::Rgba32F.bytes_per_pixel();
    let pixels = limits.max_pixels.saturating_mul(u64::from(largest_pixel));
    // Sides are checked by `check_size`, whose message is more helpful.
    let mut decoder = Limits::no_limits();
    decoder.max_alloc = Some(pixels.saturating_add(DECODER_HEADROOM));
    decoder
}

fn check_size(size: PixelSize, limits: &PhotoLimits, origin: &Origin) -> Result<(), PhotoError> {
    let too_large =
        |option, limit| PhotoError::TooLarge { origin: origin.clone(), size, option, limit };
    check_min_side(size, origin)?;
    if size.longer() as u64 > limits.max_side {
        return Err(too_large("max_side", limits.max_side));
    }
    if (size.height as u64).saturating_mul(size.width as u64) > limits.max_pixels {
        return Err(too_large("max_pixels", limits.max_pixels));
    }
    Ok(())
}

pub(super) fn check_min_side(size: PixelSize, origin: &Origin) -> Result<(), PhotoError> {
    if size.shorter() < MIN_SIDE {
        Err(PhotoError::TooSmall { origin: origin.clone(), size })
    } else {
        Ok(())
    }
}

fn split_alpha(image: DynamicImage) -> (RgbImage, Option<Opacity>) {
    if !image.color().has_alpha() {
        return (image.into_rgb8(), None);
    }
    let rgba = image.into_rgba8();
    let opacity = Opacity::of(&rgba);
    (DynamicImage::ImageRgba8(rgba).into_rgb8(), opacity)
}
