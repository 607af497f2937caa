use super::read::reverse;
use super::tags::{EXIF_POINTER, GPS_POINTER, INTEROP_POINTER};
use super::{CameraData, Entry, LONG};
use crate::photo::metadata::bytes::Order;

/// Length of the header: byte order, magic number, position of the first directory.
const HEADER: usize = 8;

impl CameraData {
    /// The block: a TIFF structure with one main directory and its sub-directories.
    pub(in crate::photo::metadata) fn to_block(&self) -> Vec<u8> {
        let pointer = |tag, place: usize| {
            let value = u32::try_from(place).unwrap_or(u32::MAX).to_le_bytes().to_vec();
            Entry { tag, kind: LONG, value }
        };
        let with = |entries: &[Entry], pointers: Vec<Entry>| {
            let mut entries = [entries, &pointers[..]].concat();
            entries.sort_by_key(|entry| entry.tag);
            entries
        };
        let has_exif = !self.exif.is_empty() || !self.interop.is_empty();
        let pointers = |exif, gps| {
            let exif = has_exif.then(|| pointer(EXIF_POINTER, exif));
            let gps = (!self.gps.is_empty()).then(|| pointer(GPS_POINTER, gps));
            exif.into_iter().chain(gps).collect()
        };
        let interop = |place| {
            let interop = (!self.interop.is_empty()).then(|| pointer(INTEROP_POINTER, place));
            interop.into_iter().collect()
        };
        // A pointer has a fixed size.
        let exif_at = HEADER + length(&with(&self.main, pointers(0, 0)));
        let interop_at = exif_at + if has_exif { length(&with(&self.exif, interop(0))) } else { 0 };
        let gps_at = interop_at + if self.interop.is_empty() { 0 } else { length(&self.interop) };
        let mut block = match self.order {
            Order::Little => b"II*\0\x08\0\0\0".to_vec(),
            Order::Big => b"MM\0*\0\0\0\x08".to_vec(),
        };
        self.write(&mut block, &with(&self.main, pointers(exif_at, gps_at)));
        if has_exif {
            self.write(&mut block, &with(&self.exif, interop(interop_at)));
        }
        for entries in [&self.interop, &self.gps] {
            if !entries.is_empty() {
                self.write(&mut block, entries);
            }
        }
        block
    }

    fn write(&self, block: &mut Vec<u8>, entries: &[Entry]) {
        let short = |block: &mut Vec<u8>, number: u16| match self.order {
            Order::Little => block.extend(number.to_le_bytes()),
            Order::Big => block.extend(number.to_be_bytes()),
        };
        let long = |block: &mut Vec<u8>, number: usize| {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            match self.order {
                Order::Little => block.extend(number.to_le_bytes()),
                Order::Big => block.extend(number.to_be_bytes()),
            }
        };
        let mut data_at = block.len() + directory_length(entries.len());
        let mut data = Vec::new();
        short(block, entries.len() as u16);
        for entry in entries {
            let mut value = entry.value.clone();
            if self.order == Order::Big {
                reverse(entry.kind, &mut value);
            }
            short(block, entry.tag);
            short(block, entry.kind);
            long(block, value.len() / number_length(entry.kind));
            if value.len() <= 4 {
                value.resize(4, 0);
                block.extend(value);
            } else {
                long(block, data_at);
                value.resize(value.len().next_multiple_of(2), 0);
                data_at += value.len();
                data.extend(value);
            }
        }
        long(block, 0);
        block.extend(data);
    }
}

fn directory_length(entries: usize) -> usize {
    2 + 12 * entries + 4
}

fn length(entries: &[Entry]) -> usize {
    let values = entries.iter().map(|entry| entry.value.len()).filter(|length| *length > 4);
    directory_length(entries.len()) + values.map(|length| length.next_multiple_of(2)).sum::<usize>()
}

/// Bytes of one number of the EXIF types.
fn number_length(kind: u16) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 => 4,
        5 | 10 | 12 => 8,
        _ => 1,
    }
}
