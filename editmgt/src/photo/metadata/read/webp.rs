use std::borrow::Cow;

use super::Found;
use crate::photo::MetadataKind;
use crate::photo::metadata::bytes::{Order, part};

/// A RIFF header, then chunks of a name, a length and a body padded to an even length (RFC 9649,
/// section 2.3).
pub(super) fn read<'a>(bytes: &'a [u8], found: &mut Found<'a>) -> Option<()> {
    let mut at = 12;
    loop {
        let name = part(bytes, at, 4)?;
        let length = Order::Little.u32(bytes, at + 4)? as usize;
        let body = part(bytes, at + 8, length);
        let kind = match name {
            b"ICCP" => MetadataKind::ColourProfile,
            b"EXIF" => MetadataKind::CameraData,
            b"XMP " => MetadataKind::Xmp,
            _ => {
                body?;
                at = at.checked_add(8 + length.next_multiple_of(2))?;
                continue;
            }
        };
        let Some(body) = body else {
            found.damaged(kind);
            return None;
        };
        let place = match kind {
            MetadataKind::ColourProfile => &mut found.icc_profile,
            MetadataKind::CameraData => &mut found.exif,
            _ => &mut found.xmp,
        };
        place.get_or_insert(Cow::Borrowed(body));
        at = at.checked_add(8 + length.next_multiple_of(2))?;
    }
}
