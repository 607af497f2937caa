use std::borrow::Cow;

use super::Found;
use crate::photo::PhotoNote;
use crate::photo::metadata::exif::{ICC_PROFILE, IPTC, XMP, read_tiff};

/// The tags of the first directory are the camera data; other blocks are the values of some.
pub(super) fn read<'a>(bytes: &'a [u8], found: &mut Found<'a>) -> Option<()> {
    let (block, entries, more_pictures) = read_tiff(bytes)?;
    let value = |tag| entries.iter().find(|entry| entry.tag == tag)?.value;
    found.icc_profile = value(ICC_PROFILE).map(Cow::Borrowed);
    found.xmp = value(XMP).map(Cow::Borrowed);
    if value(IPTC).is_some() {
        found.note(PhotoNote::Captions);
    }
    if more_pictures {
        found.note(PhotoNote::MorePictures);
    }
    found.resolution = block.camera.resolution();
    found.camera = Some(block);
    Some(())
}
