//! Unpacks TIFFs with LZW compression whose tiles are decoded row by row.
//!
//! The decoder of `tiff` 0.11.3 reads a tile row by row, and also a strip with ignored channels.
//! `weezl` 0.1.12 below it reports the last bytes as "no progress" when they are the rest of a code
//! that began in the previous read and the packed bytes are used up, and `tiff` takes this for a
//! missing end code. Data unpacked in one piece is decoded correctly.

use weezl::decode::Configuration;
use weezl::{BitOrder, LzwStatus};

use super::tiff_tags::{COMPRESSION, Directory, Entry, LzwParts, TiffTags};

/// The field types LONG, and LONG8 of a BigTIFF.
const LONG: u64 = 4;
const LONG8: u64 = 16;

/// Appends the unpacked tiles or strips to the file; `None` for a file without affected ones, and
/// for one that would need more than `limit` bytes, which is left to the decoder.
///
/// # Errors
/// The damaged tile or strip.
pub(super) fn unpacked(
    bytes: &[u8],
    tags: &TiffTags,
    limit: u64,
) -> Result<Option<Vec<u8>>, String> {
    let Some(parts) = tags.lzw_read_by_rows() else { return Ok(None) };
    let LzwParts { count, whole, last, .. } = parts;
    let directory = Directory::read(bytes)?;
    let entries = [COMPRESSION, parts.offsets, parts.lengths].map(|tag| directory.entry(tag));
    let [Some(compression), Some(offsets), Some(lengths)] = entries else { return Ok(None) };
    let all = whole.checked_mul(count).and_then(|all| all.checked_add(bytes.len() as u64));
    // Offsets of a classic TIFF have 32 bits; the tables of offsets and lengths follow the rest.
    let largest = if directory.word == 4 { u64::from(u32::MAX) / 2 } else { u64::MAX };
    let Some(all) = all.filter(|&all| count > 0 && all <= limit.min(largest)) else {
        return Ok(None);
    };
    let (packed_at, packed_bytes) = (directory.values(offsets), directory.values(lengths));
    if [packed_at.len() as u64, packed_bytes.len() as u64] != [count; 2] {
        return Ok(None);
    }

    let mut file = Vec::with_capacity(all as usize);
    file.extend_from_slice(bytes);
    let (mut places, mut sizes) = (Vec::new(), Vec::new());
    for (number, (offset, length)) in packed_at.into_iter().zip(packed_bytes).enumerate() {
        let packed = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(offset, length)| bytes.get(offset..offset.checked_add(length)?));
        let damaged = |problem: String| format!("tile or strip {number}: {problem}");
        let packed = packed.ok_or_else(|| damaged("it lies outside the file".to_owned()))?;
        let size = if number as u64 + 1 == count { last } else { whole };
        let start = file.len();
        places.push(start as u64);
        sizes.push(size);
        file.resize(start + size as usize, 0);
        unpack(packed, &mut file[start..]).map_err(damaged)?;
    }
    set(&mut file, &directory, offsets, &places);
    set(&mut file, &directory, lengths, &sizes);
    set(&mut file, &directory, compression, &[1]);
    Ok(Some(file))
}

/// Unpacks a whole tile or strip. Trailing bytes or a missing end code are ignored.
fn unpack(mut packed: &[u8], tile: &mut [u8]) -> Result<(), String> {
    let mut decoder = Configuration::with_tiff_size_switch(BitOrder::Msb, 8).build();
    let mut done = 0;
    while done < tile.len() {
        let result = decoder.decode_bytes(packed, &mut tile[done..]);
        packed = &packed[result.consumed_in..];
        done += result.consumed_out;
        match result.status {
            Ok(LzwStatus::Ok) => {}
            Ok(LzwStatus::NoProgress | LzwStatus::Done) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    if done == tile.len() {
        Ok(())
    } else {
        Err(format!("{done} bytes of {} are there", tile.len()))
    }
}

/// Sets the values of an entry: inline if they fit, else at the end of the file.
fn set(file: &mut Vec<u8>, directory: &Directory<'_>, entry: Entry, values: &[u64]) {
    let word = directory.word;
    let kind = if word == 8 { LONG8 } else { LONG };
    let mut bytes: Vec<u8> =
        values.iter().flat_map(|&value| directory.bytes_of(value, word)).collect();
    if bytes.len() > word {
        let place = file.len() as u64;
        file.append(&mut bytes);
        bytes = directory.bytes_of(place, word);
    }
    let at = entry.at as usize;
    file[at + 2..at + 4].copy_from_slice(&directory.bytes_of(kind, 2));
    file[at + 4..at + 4 + word].copy_from_slice(&directory.bytes_of(values.len() as u64, word));
    file[at + 4 + word..at + 4 + 2 * word].copy_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use weezl::BitOrder;
    use weezl::encode::Encoder;

    use crate::photo::{Photo, PhotoError};

    /// Tiles of which the right ones extend beyond the image.
    fn tiles() -> Vec<u8> {
        std::fs::read("testdata/corpus/tiff-lzw-tiles-contig.tiff").unwrap()
    }

    /// A TIFF of one strip, or of tiles of 16x16 pixels; of `samples` channels, RGB first.
    fn tiff(
        size: [u32; 2],
        samples: u32,
        tiled: bool,
        pixel: impl Fn(u32, u32, u32) -> u8,
    ) -> Vec<u8> {
        let [width, height] = size;
        let [across, down] = if tiled { [16, 16] } else { size };
        let mut file = b"II*\0\0\0\0\0".to_vec();
        let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
        for top in (0..height).step_by(down as usize) {
            for left in (0..width).step_by(across as usize) {
                let places =
                    (top..top + down).flat_map(|y| (left..left + across).map(move |x| (x, y)));
                let plain: Vec<u8> = places
                    .flat_map(|(x, y)| (0..samples).map(move |c| (x, y, c)))
                    .map(|(x, y, c)| pixel(x, y, c))
                    .collect();
                let packed =
                    Encoder::with_tiff_size_switch(BitOrder::Msb, 8).encode(&plain).unwrap();
                offsets.push(file.len() as u32);
                lengths.push(packed.len() as u32);
                file.extend_from_slice(&packed);
            }
        }
        let mut table = |values: &[u32]| -> (u16, u32, u32) {
            let at = file.len() as u32;
            file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            (4, values.len() as u32, if let [single] = values { *single } else { at })
        };
        let (offsets, lengths) = (table(&offsets), table(&lengths));
        let depths = file.len() as u32;
        file.extend([8, 0].repeat(samples as usize));
        let extras = file.len() as u32;
        file.extend([0, 0].repeat(samples as usize));
        let short = |value: u32| (3, 1, value);
        let mut tags = vec![
            (256, short(width)),
            (257, short(height)),
            (258, (3, samples, depths)),
            (259, short(5)),
            (262, short(2)),
            (277, short(samples)),
        ];
        if tiled {
            tags.extend([(322, short(16)), (323, short(16)), (324, offsets), (325, lengths)])
        } else {
            tags.extend([(273, offsets), (278, short(height)), (279, lengths)])
        }
        if samples > 3 {
            let count = samples - 3;
            // Up to two values are inline.
            tags.push((338, (3, count, if count > 2 { extras } else { 0 })));
        }
        tags.sort_unstable_by_key(|tag| tag.0);
        let page = file.len() as u32;
        file[4..8].copy_from_slice(&page.to_le_bytes());
        file.extend((tags.len() as u16).to_le_bytes());
        for (tag, (kind, count, value)) in tags {
            file.extend(u16::to_le_bytes(tag));
            file.extend(u16::to_le_bytes(kind));
            file.extend(u32::to_le_bytes(count));
            file.extend(u32::to_le_bytes(value));
        }
        file.extend([0; 4]);
        file
    }

    /// Many images: the position of the last code determines whether the decoder fails.
    #[test]
    fn every_image_is_read_completely() {
        for (width, height) in [(37, 29), (9, 8), (20, 17), (48, 16)] {
            for colours in 1..24_u32 {
                // Flat parts, so that a code covers more than a row of a tile.
                let level = |x: u32, y: u32, channel: u32| {
                    if x < width && y < height {
                        ((x / 7 * colours + y / (1 + colours % 5)) * 31 + channel * 77) as u8
                    } else {
                        0
                    }
                };
                for (samples, tiled) in
                    [(3, true), (3, false), (4, true), (4, false), (5, true), (5, false)]
                {
                    let file = tiff([width, height], samples, tiled, level);
                    let what =
                        format!("{width}x{height}, {samples} channels, tiled {tiled}, {colours}");
                    if tiled && samples > 3 {
                        // Files on which the decoder fails, whatever the encoder.
                        let refused = Photo::from_bytes(&file);
                        assert!(matches!(refused, Err(PhotoError::Unsupported { .. })), "{what}");
                        continue;
                    }
                    let photo = Photo::from_bytes(&file).unwrap_or_else(|e| panic!("{what}: {e}"));
                    for (x, y, pixel) in photo.rgb().enumerate_pixels() {
                        assert_eq!(pixel.0, [0, 1, 2].map(|c| level(x, y, c)), "{what}: {x},{y}");
                    }
                }
            }
        }
    }

    #[test]
    fn truncated_tile_is_damage_and_is_named() {
        let whole = Photo::from_bytes(&tiles()).unwrap();
        // The last tile is at the end of the file.
        let mut cut = tiles();
        let last = cut.len() - 60;
        cut[last..].fill(0);
        match Photo::from_bytes(&cut) {
            Err(PhotoError::Corrupt { cause: source, .. }) => {
                assert!(source.to_string().contains("strip 5"), "{source}");
            }
            Ok(photo) => assert!(photo.rgb() != whole.rgb()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn changed_bytes_never_panic() {
        let file = tiles();
        for at in 0..file.len().min(240) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut other = file.clone();
                other[at] = value;
                let _read = Photo::from_bytes(&other);
            }
        }
    }
}
