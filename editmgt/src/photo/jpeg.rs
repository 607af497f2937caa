//! Structure of JPEG files beyond the decoder's: scans, and completeness.
//!
//! Source: ITU T.81, annex B.

use image::error::{ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use image::{DynamicImage, GrayImage, ImageError, ImageFormat, RgbImage};

const MARKER: u8 = 0xff;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;
const LOSSLESS: u8 = 0xc3;
/// All 64 coefficients of a block.
const ALL_COEFFICIENTS: u64 = u64::MAX;

/// The segments of a JPEG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JpegLayout {
    /// The start-of-frame marker: 0xc0 is baseline, 0xc2 progressive.
    frame: u8,
    precision: u8,
    components: Vec<u8>,
    adobe: bool,
    scans: Vec<Scan>,
    /// Where the data of the last scan end.
    end: usize,
    /// Bytes after the end marker; `None` without one.
    trailer: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Scan {
    components: Vec<u8>,
    /// First and last coefficient of a progressive scan.
    coefficients: (u8, u8),
    /// Bits that are left to later scans.
    low_bit: u8,
}

impl JpegLayout {
    /// Walks the segments; `None` when there is no frame or no scan.
    /// Segments before the pixel data have a length and are skipped: an EXIF thumbnail is a
    /// complete JPEG with its own end marker.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut layout = Self {
            frame: 0,
            precision: 0,
            components: Vec::new(),
            adobe: false,
            scans: Vec::new(),
            end: 0,
            trailer: None,
        };
        let mut at = 2; // past the start-of-image marker
        while let Some(&[MARKER, kind]) = bytes.get(at..at + 2) {
            match kind {
                MARKER => at += 1, // fill byte
                END_OF_IMAGE => {
                    layout.trailer = Some(bytes.len() - at - 2);
                    break;
                }
                0xc0..=0xdf if !(0xd0..0xda).contains(&kind) => {}
                0xe0..=0xef | 0xfe => {}
                _ => break,
            }
            if kind == MARKER {
                continue;
            }
            let Some(body) = segment(bytes, at) else { break };
            at += 4 + body.len();
            match kind {
                // All but the tables (DHT, DAC) and JPG are frames.
                0xc0..=0xcf if !matches!(kind, 0xc4 | 0xc8 | 0xcc) => {
                    layout.frame = kind;
                    layout.precision = *body.first()?;
                    layout.components = body.get(6..)?.chunks_exact(3).map(|c| c[0]).collect();
                }
                0xee if body.starts_with(b"Adobe") => layout.adobe = true,
                START_OF_SCAN => {
                    layout.scans.push(Scan::of(body)?);
                    at += scan_data(&bytes[at..]);
                    layout.end = at;
                }
                _ => {}
            }
        }
        (!layout.components.is_empty() && !layout.scans.is_empty()).then_some(layout)
    }

    /// Bytes after the end marker; `None` when it is missing.
    pub(super) fn trailer(&self) -> Option<usize> {
        self.trailer
    }

    /// Checks that the coding process is supported.
    ///
    /// # Errors
    /// [`ImageError::Unsupported`] with its name.
    pub(super) fn check_supported(&self) -> Result<(), ImageError> {
        let kind = match (self.frame, self.precision, self.components.len()) {
            (0xc9..=0xcf, _, _) => "arithmetic coding",
            (0xc5..=0xc7, _, _) => "hierarchical coding",
            (LOSSLESS, _, _) => "lossless coding",
            (_, 8, 4) if !self.adobe => {
                "CMYK without an Adobe marker, which leaves open whether 0 is ink or paper"
            }
            (_, 8, 1 | 3 | 4) => return Ok(()),
            (_, 8, _) => "a number of components other than 1, 3 and 4",
            _ => "other than 8 bits a sample",
        };
        Err(unsupported(format!("a JPEG with {kind}")))
    }

    /// Whether `image`'s decoder fails on this file: it decodes the first scan of a sequential
    /// frame as all components.
    pub(super) fn needs_other_decoder(&self) -> bool {
        let sequential = matches!(self.frame, 0xc0 | 0xc1);
        sequential && self.scans.iter().any(|s| s.components.len() < self.components.len())
    }

    /// Whether there is a scan for every component and, in a progressive frame, for every bit of
    /// every coefficient.
    fn has_all_scans(&self) -> bool {
        self.components.iter().all(|component| {
            let scans = || self.scans.iter().filter(|scan| scan.components.contains(component));
            if self.frame != 0xc2 {
                return scans().next().is_some();
            }
            let bits = |(first, last): (u8, u8)| {
                (first..=last.min(63)).fold(0_u64, |bits, i| bits | 1 << i.min(63))
            };
            let last = scans().filter(|scan| scan.low_bit == 0);
            last.fold(0, |all, scan| all | bits(scan.coefficients)) == ALL_COEFFICIENTS
        })
    }

    /// Appends an end marker after the last scan, if every block of the image is present; `None`
    /// for a truncated file. `decode` decodes a file.
    ///
    /// A decoder makes up missing data at the end from the bytes that follow. So the image is
    /// complete if it does not depend on them: it is decoded with several endings and compared.
    pub(super) fn completed<E>(
        &self,
        bytes: &[u8],
        decode: impl Fn(&[u8]) -> Result<DynamicImage, E>,
    ) -> Option<Vec<u8>> {
        if !self.has_all_scans() {
            return None;
        }
        let with = |ending: &[u8]| [&bytes[..self.end], ending, &[MARKER, END_OF_IMAGE]].concat();
        let complete = with(&[]);
        let picture = decode(&complete).ok()?;
        let same = [0x55, 0xaa, 0x13]
            .iter()
            .all(|&filler| decode(&with(&[filler; 64])).is_ok_and(|other| other == picture));
        same.then_some(complete)
    }
}

impl Scan {
    fn of(body: &[u8]) -> Option<Self> {
        let count = usize::from(*body.first()?);
        let parts = body.get(1..1 + 2 * count)?;
        let &[first, last, bits] = body.get(1 + 2 * count..)?.first_chunk()?;
        let components = parts.chunks_exact(2).map(|part| part[0]).collect();
        Some(Self { components, coefficients: (first, last), low_bit: bits & 15 })
    }
}

/// The contents of the segment whose marker is at `at`.
fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?));
    bytes.get(at + 4..at + 2 + length.max(2))
}

/// The length of a scan's data: up to a marker other than a restart.
fn scan_data(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (MARKER, Some(0 | 0xd0..=0xd7)) => at += 2,
            (MARKER, Some(&MARKER)) => at += 1,
            (MARKER, _) => break,
            _ => at += 1,
        }
    }
    at
}

fn unsupported(what: String) -> ImageError {
    ImageError::Unsupported(UnsupportedError::from_format_and_kind(
        ImageFormatHint::Exact(ImageFormat::Jpeg),
        UnsupportedErrorKind::GenericFeature(what),
    ))
}

/// Decodes with the `jpeg-decoder` crate.
///
/// # Errors
/// The decoder's; [`ImageError::Unsupported`] for unsupported files.
pub(super) fn decode_separate_scans(bytes: &[u8]) -> Result<DynamicImage, ImageError> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let error = |error: jpeg_decoder::Error| match error {
        jpeg_decoder::Error::Unsupported(what) => unsupported(format!("a JPEG with {what:?}")),
        error => ImageError::Decoding(image::error::DecodingError::new(
            ImageFormatHint::Exact(ImageFormat::Jpeg),
            error,
        )),
    };
    let pixels = decoder.decode().map_err(error)?;
    let info = decoder.info().expect("the image was decoded, so its header was read");
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let image = match info.pixel_format {
        jpeg_decoder::PixelFormat::L8 => {
            GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
        }
        jpeg_decoder::PixelFormat::L16 => return Err(unsupported("16-bit samples".into())),
        jpeg_decoder::PixelFormat::RGB24 => {
            RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
        }
        jpeg_decoder::PixelFormat::CMYK32 => {
            let light = pixels.as_chunks::<4>().0.iter().flat_map(|&[c, m, y, k]| {
                [c, m, y].map(|ink| {
                    let product = u32::from(255 - ink) * u32::from(255 - k);
                    ((product + 127) / 255) as u8
                })
            });
            RgbImage::from_raw(width, height, light.collect()).map(DynamicImage::from)
        }
    };
    image.ok_or_else(|| unsupported("a JPEG whose scans have other sizes".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = b"\xff\xd8";
    const THUMBNAIL: &[u8] = b"\xff\xe1\0\x08\xff\xd8\xff\xd9\0\0";
    const FRAME: &[u8] = b"\xff\xc0\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0";
    const SCAN: &[u8] = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0pixels\xff\0\xff\xd0";
    const END: &[u8] = b"\xff\xd9";

    #[test]
    fn only_the_end_after_the_pixels_counts() {
        let one = |parts: &[&[u8]]| JpegLayout::of(&parts.concat()).map(|layout| layout.trailer);
        for (parts, trailer) in [
            (&[START, THUMBNAIL, FRAME, SCAN, END][..], Some(Some(0))),
            (&[START, THUMBNAIL, b"\xff", FRAME, SCAN, END], Some(Some(0))), // a fill byte
            (&[START, FRAME, SCAN, END, b"trailer"], Some(Some(7))),
            (&[START, FRAME, SCAN, b"\xff\xd8\xff\xd9"], Some(None)), // a picture, no end
            (&[START, FRAME, SCAN, THUMBNAIL], Some(None)),
            (&[START, FRAME, SCAN, b"\xff"], Some(None)),
            (&[START, THUMBNAIL, FRAME], None),
            (&[START, FRAME, b"\xff\xe1\xff\xff", SCAN, END], None), // a segment past the end
            (&[START, b"noise", FRAME, SCAN, END], None),
            (&[START], None),
            (&[], None),
        ] {
            assert_eq!(one(parts), trailer, "{}", parts.concat().escape_ascii());
        }
    }
}
