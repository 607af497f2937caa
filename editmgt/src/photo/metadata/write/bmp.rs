use std::io::Write;

use image::ImageResult;
use image::codecs::bmp::BmpEncoder;

use super::Pixels;
use crate::photo::metadata::{Metadata, Resolution, ResolutionUnit};

/// Length of the file's header, bytes.
const FILE_HEADER: usize = 14;
/// Length of BITMAPV5HEADER in bytes: the only header with a profile.
const V5_HEADER: usize = 124;

/// Pixels per metre; `None` if out of range.
pub(super) fn resolution(resolution: Resolution) -> Option<(u32, u32)> {
    match resolution.unit {
        ResolutionUnit::Aspect => None,
        _ => resolution.per_metre(i32::MAX as u32),
    }
}

/// Sets the resolution in the header, and appends a profile after the pixels.
pub(super) fn encode(
    pixels: Pixels<'_>,
    metadata: &Metadata,
    writer: &mut impl Write,
) -> ImageResult<()> {
    let (data, colour) = pixels.interleaved();
    let mut bytes = Vec::new();
    BmpEncoder::new(&mut bytes).encode(&data, pixels.width(), pixels.height(), colour)?;
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(*bytes[at..].first_chunk().expect("the encoder writes a header"))
    };
    let put = |bytes: &mut [u8], at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    if let Some((x, y)) = metadata.resolution.and_then(resolution) {
        put(&mut bytes, FILE_HEADER + 24, x);
        put(&mut bytes, FILE_HEADER + 28, y);
    }
    let Some(profile) = metadata.profile().0 else {
        writer.write_all(&bytes)?;
        return Ok(());
    };
    let start = number(&bytes, 10) as usize;
    let picture_header = number(&bytes, FILE_HEADER) as usize;
    let mut header = bytes[..FILE_HEADER + picture_header].to_vec();
    header.resize(FILE_HEADER + V5_HEADER, 0);
    let data = &bytes[start..];
    // The sides were checked, and a profile is shorter than 16 MB: a file beyond 4 GiB was refused.
    let profile_at = V5_HEADER + data.len();
    let total = FILE_HEADER + profile_at + profile.len();
    let total = u32::try_from(total).map_err(|_| {
        super::encoding_error(image::ImageFormat::Bmp, "the file would exceed 4 GiB")
    })?;
    put(&mut header, 2, total);
    put(&mut header, 10, (FILE_HEADER + V5_HEADER) as u32);
    put(&mut header, FILE_HEADER, V5_HEADER as u32);
    // An embedded profile, perceptual intent (LCS_GM_IMAGES).
    put(&mut header, FILE_HEADER + 56, u32::from_be_bytes(*b"MBED"));
    put(&mut header, FILE_HEADER + 108, 4);
    put(&mut header, FILE_HEADER + 112, profile_at as u32);
    put(&mut header, FILE_HEADER + 116, profile.len() as u32);
    for part in [&header[..], data, &profile] {
        writer.write_all(part)?;
    }
    Ok(())
}
