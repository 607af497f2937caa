use std::borrow::Cow;

use super::{Found, MAX_PROFILE};
use crate::photo::metadata::bytes::{Order, part};
use crate::photo::metadata::colour::gamma_profile;
use crate::photo::metadata::{Colours, Resolution, ResolutionUnit};
use crate::photo::{MetadataKind, PhotoNote};

/// The file's header has 14 bytes; the image's follows, which begins with its length.
const HEADER: usize = 14;

/// Resolution in any header of 40 bytes and more, colours in BITMAPV4HEADER and BITMAPV5HEADER.
pub(super) fn read<'a>(bytes: &'a [u8], found: &mut Found<'a>) -> Option<()> {
    let number = |at| Order::Little.u32(bytes, HEADER + at);
    let length = number(0)?;
    if length < 40 {
        return None;
    }
    let positive = |value: u32| i32::try_from(value).map_or(0, |value| value as u32);
    let (x, y) = (positive(number(24)?), positive(number(28)?));
    found.resolution = Resolution::whole(x, y, ResolutionUnit::Metre);
    if length < 108 {
        return None;
    }
    // The code is a number whose letters are in big-endian order.
    match &number(56)?.to_be_bytes() {
        b"\0\0\0\0" => calibrated(bytes, found)?,
        b"sRGB" => found.colours.srgb_intent = Some(0),
        b"MBED" if length >= 124 => {
            let (at, length) = (HEADER + number(112)? as usize, number(116)? as usize);
            match part(bytes, at, length).filter(|_| length <= MAX_PROFILE) {
                Some(profile) => found.icc_profile = Some(Cow::Borrowed(profile)),
                None => found.damaged(MetadataKind::ColourProfile),
            }
        }
        b"LINK" => found.note(PhotoNote::LinkedProfile),
        _ => {}
    }
    Some(())
}

/// Red, green and blue as X, Y, Z in 2.30 fixed point, then their exponents in 16.16. Zeros mean
/// unknown.
fn calibrated(bytes: &[u8], found: &mut Found<'_>) -> Option<()> {
    let number = |at| Order::Little.u32(bytes, HEADER + at);
    let mut xyz = [0.0; 9];
    for (i, value) in xyz.iter_mut().enumerate() {
        *value = f64::from(number(60 + 4 * i)? as i32) / f64::from(1 << 30);
    }
    let mut gammas = [0.0_f32; 3];
    for (i, value) in gammas.iter_mut().enumerate() {
        *value = number(96 + 4 * i)? as f32 / 65_536.0;
    }
    if xyz == [0.0; 9] && gammas == [0.0; 3] {
        return Some(());
    }
    let xy = |[x, y, z]: [f64; 3]| [x, y].map(|value| (value / (x + y + z) * 100_000.0).round());
    let colour = |i| [xyz[i], xyz[i + 1], xyz[i + 2]];
    let sum = |i| xyz[i] + xyz[i + 3] + xyz[i + 6];
    // X, Y and Z add up to white; chromaticities do not, and white is assumed to be daylight.
    let is_amounts = (0.9..1.1).contains(&sum(1));
    let white = if is_amounts { xy([sum(0), sum(1), sum(2)]) } else { [31_270.0, 32_900.0] };
    let parts = [white, xy(colour(0)), xy(colour(3)), xy(colour(6))];
    let mut chromaticities = [0; 8];
    for (to, from) in chromaticities.iter_mut().zip(parts.as_flattened()) {
        *to = *from as u32;
    }
    let mut colours = Colours { chromaticities: Some(chromaticities), ..Colours::default() };
    if colours.check() || !gammas.iter().all(|gamma| (0.1..10.0).contains(gamma)) {
        found.damaged(MetadataKind::Colours);
        return Some(());
    }
    if gammas.iter().all(|gamma| *gamma == gammas[0]) {
        colours.gamma = Some((100_000.0 / gammas[0]).round() as u32);
        found.colours = colours;
    } else if let Ok(profile) = gamma_profile(chromaticities, gammas) {
        found.icc_profile = Some(Cow::Owned(profile));
    }
    Some(())
}
