use std::io::{Seek, Write};

use image::{ExtendedColorType, ImageError, ImageFormat, ImageResult};
use tiff::encoder::colortype::{ColorType, RGB8, RGBA8};
use tiff::encoder::{DirectoryEncoder, Rational, TiffEncoder, TiffKindStandard};
use tiff::tags::{Tag, Type};
use tiff::{Directory, TiffError};

use super::{Pixels, encoding_error};
use crate::photo::metadata::Metadata;
use crate::photo::metadata::exif::{
    EXIF_POINTER, Entry, GPS_POINTER, INTEROP_POINTER, RESOLUTION_UNIT, X_RESOLUTION, XMP,
    Y_RESOLUTION, reverse,
};

/// Uncompressed. Camera data become tags of the file and its sub-directories.
pub(super) fn encode(
    pixels: Pixels<'_>,
    metadata: &Metadata,
    writer: impl Write + Seek,
) -> ImageResult<()> {
    let (data, colour) = pixels.interleaved();
    let size = (pixels.width(), pixels.height());
    let written = match colour {
        ExtendedColorType::Rgba8 => write::<RGBA8>(&data, size, metadata, true, writer),
        _ => write::<RGB8>(&data, size, metadata, false, writer),
    };
    written.map_err(|error| match error {
        TiffError::IoError(error) => ImageError::IoError(error),
        error => encoding_error(ImageFormat::Tiff, error),
    })
}

fn write<C: ColorType<Inner = u8>>(
    data: &[u8],
    (width, height): (u32, u32),
    metadata: &Metadata,
    has_alpha: bool,
    writer: impl Write + Seek,
) -> Result<(), TiffError> {
    let mut encoder = TiffEncoder::new(writer)?;
    let mut pointers = Vec::new();
    let mut main = Vec::new();
    if let Some(camera) = metadata.camera() {
        let mut directory = |entries: &[Entry], pointers: &[(u16, u32)]| {
            let mut directory = encoder.extra_directory()?;
            put(&mut directory, entries)?;
            for (tag, place) in pointers {
                directory.write_tag(Tag::Unknown(*tag), *place)?;
            }
            Ok::<u32, TiffError>(directory.finish_with_offsets()?.offset)
        };
        let mut in_exif = Vec::new();
        if !camera.interop.is_empty() {
            in_exif.push((INTEROP_POINTER, directory(&camera.interop, &[])?));
        }
        if !camera.exif.is_empty() || !in_exif.is_empty() {
            pointers.push((EXIF_POINTER, directory(&camera.exif, &in_exif)?));
        }
        if !camera.gps.is_empty() {
            pointers.push((GPS_POINTER, directory(&camera.gps, &[])?));
        }
        main = camera.main;
    }
    let mut image = encoder.new_image::<C>(width, height)?;
    let directory = image.encoder();
    // The file's own resolution may differ from its camera data's.
    main.retain(|entry| ![X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT].contains(&entry.tag));
    put(directory, &main)?;
    for (tag, place) in pointers {
        directory.write_tag(Tag::from_u16_exhaustive(tag), place)?;
    }
    if let Some(resolution) = metadata.resolution {
        let (x, y, unit) = resolution.tags();
        directory.write_tag(Tag::XResolution, Rational { n: x.0, d: x.1 })?;
        directory.write_tag(Tag::YResolution, Rational { n: y.0, d: y.1 })?;
        directory.write_tag(Tag::ResolutionUnit, unit)?;
    }
    if let Some(profile) = metadata.profile().0 {
        // Of the type UNDEFINED (ICC.1, annex B.4).
        let mut kept = Directory::empty();
        let written = directory.write_entry_bytes(Type::UNDEFINED, &profile)?;
        kept.extend([(Tag::IccProfile, written)]);
        directory.extend_from(&kept);
    }
    if let Some(packet) = &metadata.xmp {
        directory.write_tag(Tag::from_u16_exhaustive(XMP), &packet[..])?;
    }
    if has_alpha {
        // Unassociated opacity (TIFF 6.0, section 18).
        directory.write_tag(Tag::ExtraSamples, &[2_u16][..])?;
    }
    image.write_data(data)
}

fn put<W: Write + Seek>(
    directory: &mut DirectoryEncoder<'_, W, TiffKindStandard>,
    entries: &[Entry],
) -> Result<(), TiffError> {
    let mut kept = Directory::empty();
    for entry in entries {
        let Some(kind) = Type::from_u16(entry.kind) else { continue };
        let mut value = entry.value.clone();
        // The encoder writes numbers in native byte order.
        if cfg!(target_endian = "big") {
            reverse(entry.kind, &mut value);
        }
        let written = directory.write_entry_bytes(kind, &value)?;
        kept.extend([(Tag::from_u16_exhaustive(entry.tag), written)]);
    }
    directory.extend_from(&kept);
    Ok(())
}
