use std::borrow::Cow;

use super::Found;
use crate::photo::metadata::bytes::part;
use crate::photo::metadata::{Resolution, ResolutionUnit};

/// Application extensions hold blocks: `XMP Data` and `ICCRGBG1` (GIF89a, section 26).
pub(super) fn read<'a>(bytes: &'a [u8], found: &mut Found<'a>) -> Option<()> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let aspect = *bytes.get(12)?;
    if aspect != 0 {
        // The pixel aspect ratio (width / height) is (aspect + 15) / 64.
        let height = u32::from(aspect) + 15;
        found.resolution = Resolution::whole(64, height, ResolutionUnit::Aspect);
    }
    let mut at = 13 + table(*bytes.get(10)?);
    loop {
        match *bytes.get(at)? {
            b'!' => {
                let is_application = *bytes.get(at + 1)? == 0xff;
                let name = part(bytes, at + 2, 12).unwrap_or_default();
                let (start, end) = (at + 2, blocks_end(bytes, at + 2)?);
                match name {
                    b"\x0bXMP DataXMP" if is_application => {
                        // The packet is stored raw, followed by a trailer that leads any block
                        // reader to the end: 1, 255 down to 0, and 0.
                        let packet = bytes.get(start + 12..end)?;
                        let length = packet.len().saturating_sub(258);
                        found.xmp.get_or_insert(Cow::Borrowed(&packet[..length]));
                    }
                    b"\x0bICCRGBG1012" if is_application => {
                        found.icc_profile.get_or_insert(Cow::Owned(blocks(bytes, start + 12)?));
                    }
                    _ => {}
                }
                at = end;
            }
            b',' => at = blocks_end(bytes, at + 11 + table(*bytes.get(at + 9)?))?,
            _ => return None,
        }
    }
}

/// The offset after the blocks that begin at `at`: each a length and a body, the last empty.
fn blocks_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}

/// The bodies of the blocks that begin at `at`.
fn blocks(bytes: &[u8], mut at: usize) -> Option<Vec<u8>> {
    let mut bodies = Vec::new();
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length == 0 {
            return Some(bodies);
        }
        bodies.extend_from_slice(part(bytes, at + 1, length)?);
        at += 1 + length;
    }
}
