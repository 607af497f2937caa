use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use editmgt_core::Error;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

use super::jpeg;
use super::metadata::Contents;
use super::{Metadata, Origin, PhotoError, PhotoNote, PixelSize};

mod animation;

/// The shortest side of a photo, pixels: below, there is nothing that an edit could mean.
pub const MIN_SIDE: usize = 8;

/// Memory that a decoder may use beside the picture itself, bytes.
const DECODER_HEADROOM: u64 = 64 << 20;

/// How large a photo may be. All are checked before a pixel is decoded.
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
/// Grey and palette images become RGB; more than 8 bits per channel are rounded to 8, since that is
/// what the model reads and writes; an alpha channel is kept aside and comes back when the photo is
/// saved in a format that has one. Of an animation the first frame is read, and of a TIFF the first
/// page. Colour values are taken
/// as they stand in the file: an ICC profile is kept, not applied, as in the official code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    rgb: RgbImage,
    alpha: Option<GrayImage>,
    metadata: Metadata,
    notes: Vec<PhotoNote>,
}

impl Photo {
    /// Reads a PNG, JPEG, WebP, BMP, TIFF or GIF file, within the default limits. The format is
    /// taken from the content, whatever the name says. EXIF orientation is applied.
    ///
    /// # Errors
    /// [`PhotoError`] when the file is missing, unreadable, a folder, empty, no image, damaged,
    /// cut off, too large (see [`PhotoLimits`]), or a side is shorter than [`MIN_SIDE`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PhotoError> {
        Self::open_within(path, &PhotoLimits::default())
    }

    /// [`open`](Self::open) with limits of your own.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_within(path: impl AsRef<Path>, limits: &PhotoLimits) -> Result<Self, PhotoError> {
        let path = path.as_ref();
        let bytes = read(path, limits)?;
        decode_from(&bytes, limits, &Origin::File(path.to_owned()))
    }

    /// Reads an image file that is in memory, within the default limits.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) that are about content.
    pub fn decode(bytes: &[u8]) -> Result<Self, PhotoError> {
        Self::decode_within(bytes, &PhotoLimits::default())
    }

    /// [`decode`](Self::decode) with limits of your own.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    pub fn decode_within(bytes: &[u8], limits: &PhotoLimits) -> Result<Self, PhotoError> {
        decode_from(bytes, limits, &Origin::Memory)
    }

    /// Pixels that are there already: upright, opaque, without metadata.
    ///
    /// # Errors
    /// [`PhotoError::TooSmall`].
    pub fn from_rgb(rgb: RgbImage) -> Result<Self, PhotoError> {
        check_min_side(PixelSize::of(&rgb), &Origin::Memory)?;
        Ok(Self { rgb, alpha: None, metadata: Metadata::default(), notes: Vec::new() })
    }

    /// This photo with other pixels: transparency and metadata stay.
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

    /// Height and width, upright.
    pub fn size(&self) -> PixelSize {
        PixelSize::of(&self.rgb)
    }

    /// The pixels, upright.
    pub fn rgb(&self) -> &RgbImage {
        &self.rgb
    }

    /// Opacity (0 transparent, 255 opaque), upright; `None` where all is opaque.
    pub fn alpha(&self) -> Option<&GrayImage> {
        self.alpha.as_ref()
    }

    /// Colour profile, camera data and what else travels with the photo.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether this is the first frame of a file that has more (GIF, WebP, PNG).
    pub fn is_animation(&self) -> bool {
        self.notes.contains(&PhotoNote::Animation)
    }

    /// What reading the file left out or changed; empty for a photo that came whole.
    pub fn notes(&self) -> &[PhotoNote] {
        &self.notes
    }
}

fn read(path: &Path, limits: &PhotoLimits) -> Result<Vec<u8>, PhotoError> {
    let error = |source| PhotoError::Read { path: path.to_owned(), source };
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
    let error = |source| match source {
        ImageError::Limits(_) => PhotoError::TooMuchMemory { origin: origin.clone(), source },
        ImageError::Unsupported(_) => PhotoError::Unsupported { origin: origin.clone(), source },
        source => PhotoError::Corrupt {
            origin: origin.clone(),
            format: format_name,
            source: source.into(),
        },
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(decoder_limits(limits));
    let decoder = reader.into_decoder().map_err(error)?;
    let (width, height) = decoder.dimensions();
    check_size(PixelSize::new(height as usize, width as usize), limits, origin)?;
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        return Err(PhotoError::Corrupt {
            origin: origin.clone(),
            format: format_name,
            source: "the end of the image is missing".into(),
        });
    }

    let stored = PixelSize::new(height as usize, width as usize);
    let Contents { metadata, orientation, mut notes } = Metadata::read(bytes, format, stored);
    let mut image = DynamicImage::from_decoder(decoder).map_err(error)?;
    image.apply_orientation(orientation);
    let (rgb, alpha) = split_alpha(image);
    if animation::is_animation(bytes, format, decoder_limits(limits)) {
        notes.push(PhotoNote::Animation);
    }
    Ok(Photo { rgb, alpha, metadata, notes })
}

/// The format that the content says it has, or what the content looks like instead.
fn sniff(bytes: &[u8]) -> Result<(ImageFormat, &'static str), String> {
    let start = || bytes[..bytes.len().min(8)].escape_ascii().to_string();
    // The phone format is what people are most likely to try.
    if matches!(bytes.get(4..12), Some(b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1")) {
        return Err("HEIC; export it as a JPEG first".into());
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

fn decoder_limits(limits: &PhotoLimits) -> Limits {
    let largest_pixel = image::ColorType::Rgba32F.bytes_per_pixel();
    let pixels = limits.max_pixels.saturating_mul(u64::from(largest_pixel));
    // Sides are checked by `check_size`, which can say what to do.
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
    match size.shorter() < MIN_SIDE {
        true => Err(PhotoError::TooSmall { origin: origin.clone(), size }),
        false => Ok(()),
    }
}

fn split_alpha(image: DynamicImage) -> (RgbImage, Option<GrayImage>) {
    if !image.color().has_alpha() {
        return (image.into_rgb8(), None);
    }
    let rgba = image.into_rgba8();
    let (width, height) = rgba.dimensions();
    let opaque = rgba.pixels().all(|pixel| pixel.0[3] == u8::MAX);
    let alpha = (!opaque).then(|| {
        GrayImage::from_fn(width, height, |x, y| image::Luma([rgba.get_pixel(x, y).0[3]]))
    });
    (DynamicImage::ImageRgba8(rgba).into_rgb8(), alpha)
}

#[cfg(test)]
mod tests;
