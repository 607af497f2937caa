use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use editmgt_core::Error;
use image::{DynamicImage, GrayImage, Luma, RgbImage, RgbaImage};

use super::{Metadata, Origin, PhotoError, PhotoNote, PixelSize, opacity};
use decode::{check_min_side, decode_from};

mod animation;
mod decode;
mod lengths;
mod tiff_lzw;
mod tiff_tags;

/// Shortest side of a photo in pixels: smaller images cannot be edited sensibly.
pub const MIN_SIDE: usize = 8;

/// Size limits of a photo. All are checked before pixels are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
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
        Self::DEFAULT
    }
}

impl PhotoLimits {
    /// The limits of [`default`](Self::default).
    pub const DEFAULT: Self =
        Self { max_pixels: 50_000_000, max_side: 1 << 15, max_bytes: 256 << 20 };

    /// Replaces the number of pixels.
    #[must_use]
    pub const fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// Replaces the longest side.
    #[must_use]
    pub const fn with_max_side(self, max_side: u64) -> Self {
        Self { max_side, ..self }
    }

    /// Replaces the length of the file.
    #[must_use]
    pub const fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
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

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;
