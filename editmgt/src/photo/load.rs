use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use editmgt_core::Error;
use image::codecs::png::PngDecoder;
use image::error::{DecodingError, ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Luma,
    RgbImage, RgbaImage,
};

use super::jpeg::{self, JpegLayout};
use super::metadata::Contents;
use super::opacity::{self, Opacity};
use super::{Metadata, Origin, PhotoError, PhotoNote, PixelSize};
use tiff_tags::{ExtraSample, TiffTags};

mod animation;
mod lengths;
mod tiff_lzw;
mod tiff_tags;

/// Shortest side of a photo in pixels: smaller images cannot be edited sensibly.
pub const MIN_SIDE: usize = 8;

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

/// Size limits of a photo. All are checked before pixels are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhotoLimits {
    /// Most pixels; 50 million by default (a full-frame camera has 24 to 60).
    pub max_pixels: u64,
    /// Longest side in pixels; 32,768 by default.
    pub max_side: u64,
    /// Longest file in bytes; 256 MiB by default.
    pub max_bytes: u64,
}

impl Default for PhotoLimits {
    fn default() -> Self {
        Self { max_pixels: 50_000_000, max_side: 1 << 15, max_bytes: 256 << 20 }
    }
}

/// A photo, upright, as 8-bit RGB.
///
/// Grey and palette images become RGB; more than 8 bits per channel are rounded to 8, as the model
/// uses; an alpha channel is kept separately and restored when the photo is saved in a format that
/// supports it. Only the first frame of an animation and the first page of a TIFF are read. Colour
/// values are used as stored: an ICC profile is kept, not applied, as in the official code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    rgb: RgbImage,
    alpha: Option<GrayImage>,
    metadata: Metadata,
    notes: Vec<PhotoNote>,
}

impl TryFrom<DynamicImage> for Photo {
    type Error = PhotoError;

    /// Converts an upright image of the `image` crate, without metadata, to 8 bits per channel;
    /// opacity is kept separately.
    ///
    /// # Errors
    /// [`PhotoError::TooSmall`].
    fn try_from(image: DynamicImage) -> Result<Self, PhotoError> {
        let alpha = image.color().has_alpha().then(|| {
            let rgba = image.to_rgba8();
            GrayImage::from_fn(rgba.width(), rgba.height(), |x, y| {
                Luma([rgba.get_pixel(x, y).0[3]])
            })
        });
        Ok(Self { alpha, ..Self::from_rgb(image.into_rgb8())? })
    }
}

impl Photo {
    /// Reads a PNG, JPEG, WebP, BMP, TIFF or GIF file, within the default limits. The format is
    /// detected by content, not by extension. EXIF orientation is applied.
    ///
    /// # Errors
    /// [`PhotoError`] when the file is missing, unreadable, a folder, empty, not an image, damaged,
    /// truncated, too large (see [`PhotoLimits`]), or a side is shorter than [`MIN_SIDE`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PhotoError> {
        Self::open_within(path, &PhotoLimits::default())
    }

    /// [`open`](Self::open) with custom limits.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_within(path: impl AsRef<Path>, limits: &PhotoLimits) -> Result<Self, PhotoError> {
        let path = path.as_ref();
        let bytes = read(path, limits)?;
        decode_from(&bytes, limits, &Origin::File(path.to_owned()))
    }

    /// Reads an image file in memory, within the default limits.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) for the contents.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PhotoError> {
        Self::from_bytes_within(bytes, &PhotoLimits::default())
    }

    /// [`from_bytes`](Self::from_bytes) with custom limits.
    ///
    /// # Errors
    /// Those of [`from_bytes`](Self::from_bytes).
    pub fn from_bytes_within(bytes: &[u8], limits: &PhotoLimits) -> Result<Self, PhotoError> {
        decode_from(bytes, limits, &Origin::Memory)
    }

    /// Pixels in memory: upright, opaque, without metadata. For other images, use `Photo::try_from`
    /// with an [`image::DynamicImage`].
    ///
    /// # Errors
    /// [`PhotoError::TooSmall`].
    pub fn from_rgb(rgb: RgbImage) -> Result<Self, PhotoError> {
        check_min_side(PixelSize::of(&rgb), &Origin::Memory)?;
        Ok(Self { rgb, alpha: None, metadata: Metadata::default(), notes: Vec::new() })
    }

    /// Replaces the pixels; transparency and metadata are kept.
    ///
    /// # Errors
    /// [`PhotoError::Value`] when `rgb` has another size.
    pub fn edited(&self, rgb: RgbImage) -> Result<Self, PhotoError> {
        if PixelSize::of(&rgb) != self.size() {
            return Err(Error::shape("edited photo", self.size(), PixelSize::of(&rgb)).into());
        }
        let (alpha, metadata) = (self.alpha.clone(), self.metadata.clone());
        Ok(Self { rgb, alpha, metadata, notes: Vec::new() })
    }

    /// The photo's metadata and notes with other pixels, of any size.
    pub(super) fn on_canvas(&self, rgb: RgbImage, alpha: Option<GrayImage>) -> Self {
        Self { rgb, alpha, metadata: self.metadata.clone(), notes: self.notes.clone() }
    }

    /// Converts the pixels to an image of the `image` crate: RGB, or RGBA if the photo has opacity,
    /// 8 bits each. Metadata is dropped.
    pub fn into_dynamic(self) -> DynamicImage {
        let Some(alpha) = self.alpha else { return DynamicImage::ImageRgb8(self.rgb) };
        let pixels = self.rgb.pixels().zip(alpha.pixels());
        let bytes = pixels.flat_map(|(rgb, a)| [rgb.0[0], rgb.0[1], rgb.0[2], a.0[0]]).collect();
        let (width, height) = self.rgb.dimensions();
        let rgba = RgbaImage::from_raw(width, height, bytes);
        DynamicImage::ImageRgba8(rgba.expect("four bytes a pixel"))
    }

    /// Height and width, upright.
    pub fn size(&self) -> PixelSize {
        PixelSize::of(&self.rgb)
    }

    /// The pixels, upright.
    pub fn rgb(&self) -> &RgbImage {
        &self.rgb
    }

    /// Opacity (0 transparent, 255 opaque), upright; `None` if all pixels are opaque.
    pub fn alpha(&self) -> Option<&GrayImage> {
        self.alpha.as_ref()
    }

    /// Colour profile, camera data and other metadata of the photo.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether this is the first frame of an animation (GIF, WebP, PNG).
    pub fn is_animation(&self) -> bool {
        self.notes.contains(&PhotoNote::Animation)
    }

    /// The pixels for a model: fully transparent pixels get the mean colour of the visible ones
    /// around them, so that hidden colours don't affect an edit. The others are unchanged.
    pub fn visible_rgb(&self) -> Cow<'_, RgbImage> {
        match &self.alpha {
            Some(alpha) => opacity::fill_hidden(&self.rgb, alpha),
            None => Cow::Borrowed(&self.rgb),
        }
    }

    /// Parts of the file that were ignored or changed by reading it; empty if none.
    pub fn notes(&self) -> &[PhotoNote] {
        &self.notes
    }
}

fn read(path: &Path, limits: &PhotoLimits) -> Result<Vec<u8>, PhotoError> {
    let error = |cause| PhotoError::Read { path: path.to_owned(), cause };
    let file = File::open(path).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    if metadata.is_dir() {
        return Err(PhotoError::Folder { path: path.to_owned() });
    }
    let too_large = |bytes| PhotoError::FileTooLarge {
        origin: Origin::File(path.to_owned()),
        bytes,
        limit: limits.max_bytes,
    };
    if metadata.len() > limits.max_bytes {
        return Err(too_large(metadata.len()));
    }
    // A pipe has no length, and a file may grow.
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(limits.max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > limits.max_bytes {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

fn decode_from(bytes: &[u8], limits: &PhotoLimits, origin: &Origin) -> Result<Photo, PhotoError> {
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

fn check_min_side(size: PixelSize, origin: &Origin) -> Result<(), PhotoError> {
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

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;
