//! TIFFs whose tiles are packed by LZW, with the tiles unpacked.
//!
//! The decoder of `tiff` 0.11.3 reads a tile that is wider than what is left of the picture row by row. `weezl`
//! 0.1.12 below it reports the last bytes of a tile as "no progress" when they are the rest of a code that
//! began in the read before and the packed bytes are used up, and `tiff` takes this for a missing end
//! code. A tile that is unpacked in one piece is read right.

use weezl::decode::Configuration;
use weezl::{BitOrder, LzwStatus};

use super::tiff_tags::{
    COMPRESSION, Directory, Entry, TILE_BYTE_COUNTS, TILE_LENGTH, TILE_OFFSETS, TILE_WIDTH,
    TiffTags,
};

/// The number of LONG in a directory, and that of LONG8 in the one of a BigTIFF.
const LONG: u64 = 4;
const LONG8: u64 = 16;

/// The same file with its tiles unpacked behind its end; `None` for a file without such tiles, and
/// for one that would need more than `limit` bytes, which the decoder judges itself.
///
/// # Errors
/// The tile that is damaged.
pub(super) fn unpacked(
    bytes: &[u8],
    tags: &TiffTags,
    limit: u64,
) -> Result<Option<Vec<u8>>, String> {
    if !tags.is_tiled_lzw() {
        return Ok(None);
    }
    let directory = Directory::read(bytes)?;
    let entries = [COMPRESSION, TILE_OFFSETS, TILE_BYTE_COUNTS].map(|tag| directory.entry(tag));
    let [Some(compression), Some(offsets), Some(lengths)] = entries else { return Ok(None) };
    let (width, height) = (tags.first(TILE_WIDTH, 0), tags.first(TILE_LENGTH, 0));
    let Some(tile) = tags.row_bytes(width).and_then(|row| row.checked_mul(height)) else {
        return Ok(None);
    };
    let all =
        tile.checked_mul(offsets.count).and_then(|tiles| tiles.checked_add(bytes.len() as u64));
    // Offsets of a classic TIFF have 32 bits; the tables of offsets and lengths come behind the tiles.
    let largest = if directory.word == 4 { u64::from(u32::MAX) / 2 } else { u64::MAX };
    let fits = all.is_some_and(|all| all <= limit.min(largest));
    if tile == 0 || !fits || [offsets.count, lengths.count] != [tags.tiles().unwrap_or(0); 2] {
        return Ok(None);
    }

    let mut file = Vec::with_capacity(all.unwrap_or_default() as usize);
    file.extend_from_slice(bytes);
    let mut places = Vec::new();
    let packed = directory.values(offsets).into_iter().zip(directory.values(lengths));
    for (number, (offset, length)) in packed.enumerate() {
        let packed = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(offset, length)| bytes.get(offset..offset.checked_add(length)?));
        let packed = packed.ok_or_else(|| format!("tile {number} lies outside the file"))?;
        places.push(file.len() as u64);
        let start = file.len();
        file.resize(start + tile as usize, 0);
        unpack(packed, &mut file[start..])
            .map_err(|problem| format!("tile {number}: {problem}"))?;
    }
    let lengths_of_tiles = vec![tile; places.len()];
    set(&mut file, &directory, offsets, &places);
    set(&mut file, &directory, lengths, &lengths_of_tiles);
    set(&mut file, &directory, compression, &[1]);
    Ok(Some(file))
}

/// Unpacks a tile, all of it. What is behind its end, or a missing end code, doesn't matter.
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
    match done == tile.len() {
        true => Ok(()),
        false => Err(format!("{done} bytes of {} are there", tile.len())),
    }
}

/// Gives an entry other values: in it where they have room, else behind the end of the file.
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
    use crate::photo::{Photo, PhotoError};

    /// Its tile in the upper right corner sticks out of the picture.
    fn tiles() -> Vec<u8> {
        std::fs::read("testdata/corpus/tiff-lzw-tiles-contig.tiff").unwrap()
    }

    #[test]
    fn a_tile_that_is_cut_off_is_damage_and_names_the_tile() {
        let whole = Photo::decode(&tiles()).unwrap();
        // The last tile is at the end of the file.
        let mut cut = tiles();
        let last = cut.len() - 60;
        cut[last..].fill(0);
        match Photo::decode(&cut) {
            Err(PhotoError::Corrupt { source, .. }) => {
                assert!(source.to_string().contains("tile 5"), "{source}");
            }
            Ok(photo) => assert!(photo.rgb() != whole.rgb()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn no_byte_that_is_changed_makes_it_panic() {
        let file = tiles();
        for at in 0..file.len().min(240) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut other = file.clone();
                other[at] = value;
                let _read = Photo::decode(&other);
            }
        }
    }
}
