use image::{GrayImage, Luma};
use serde::{Deserialize, Serialize};

use super::Photo;

/// Opacity at which a pixel counts as visible.
const VISIBLE: u8 = 128;
/// Largest deviation of a drawing's channels from black or white.
const INK_TOLERANCE: u8 = 4;
/// Largest difference between the channels of a grey pixel.
const GREY_TOLERANCE: u8 = 8;
/// Largest share of grey among the visible pixels, at the edges of strokes.
const RIM_SHARE: f64 = 0.05;

/// Channel of a mask. In JSON `"auto"`, `"alpha"` and `"luma"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskReading {
    /// [`Luma`](Self::Luma) for masks without transparency and for black and white drawings on a
    /// transparent layer, [`Alpha`](Self::Alpha) for all others: a photo, or flat colour, with a
    /// transparent part (the convention of OpenAI's edits API, GIMP and ComfyUI).
    ///
    /// A drawing is black and white where it is visible, with some white; if all of it is white,
    /// its transparent pixels have another colour (an erased part of a white layer keeps its
    /// white).
    #[default]
    Auto,
    /// Opacity: transparent pixels may change.
    #[serde(alias = "transparent")]
    Alpha,
    /// Brightness: white may change; transparent pixels count as black.
    #[serde(alias = "white")]
    Luma,
}

impl MaskReading {
    /// Whether a mask uses its opacity.
    pub fn reads_alpha(self, mask: &Photo) -> bool {
        match self {
            Self::Auto => mask.alpha().is_some_and(|alpha| !is_drawing(mask, alpha)),
            Self::Alpha => true,
            Self::Luma => false,
        }
    }

    /// The mask's levels, at its own size: 255 may change, 0 must stay.
    pub fn levels(self, mask: &Photo) -> GrayImage {
        let (width, height) = mask.rgb().dimensions();
        let opacity = |x, y| mask.alpha().map_or(u8::MAX, |alpha| alpha.get_pixel(x, y).0[0]);
        if self.reads_alpha(mask) {
            GrayImage::from_fn(width, height, |x, y| Luma([u8::MAX - opacity(x, y)]))
        } else {
            GrayImage::from_fn(width, height, |x, y| {
                let level = u32::from(luma(mask.rgb().get_pixel(x, y).0));
                Luma([((level * u32::from(opacity(x, y)) + 127) / 255) as u8])
            })
        }
    }
}

/// Rec. 601 luma in 16-bit fixed point, as in Pillow's conversion to grey.
fn luma(rgb: [u8; 3]) -> u8 {
    let [r, g, b] = rgb.map(u32::from);
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
}

/// See [`MaskReading::Auto`].
fn is_drawing(mask: &Photo, alpha: &GrayImage) -> bool {
    let all = |rgb: [u8; 3], near: fn(u8) -> bool| rgb.into_iter().all(near);
    let (mut visible, mut white, mut black) = (0_u64, 0_u64, 0_u64);
    let (mut hidden, mut hidden_white) = (0_u64, 0_u64);
    let mut coloured = 0_u64;
    for (colour, &opacity) in mask.rgb().pixels().zip(alpha.iter()) {
        let is_white = all(colour.0, |value| value >= u8::MAX - INK_TOLERANCE);
        if opacity >= VISIBLE {
            visible += 1;
            let (most, least) = (colour.0.iter().max(), colour.0.iter().min());
            let spread = most.zip(least).map_or(0, |(most, least)| most - least);
            coloured += u64::from(spread > GREY_TOLERANCE);
            white += u64::from(is_white);
            black += u64::from(all(colour.0, |value| value <= INK_TOLERANCE));
        } else if opacity == 0 {
            hidden += 1;
            hidden_white += u64::from(is_white);
        }
    }
    let other = visible - white - black;
    if white == 0 || coloured > 0 || other as f64 > RIM_SHARE * visible as f64 {
        return false;
    }
    black > 0 || 2 * hidden_white < hidden
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn mask(pixel: impl Fn(u32, u32) -> [u8; 4]) -> Photo {
        let image = RgbaImage::from_fn(16, 16, |x, y| Rgba(pixel(x, y)));
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, ImageFormat::Png).unwrap();
        Photo::from_bytes(png.get_ref()).unwrap()
    }

    #[test]
    fn auto_reading_matches_holes_and_drawings_of_other_tools() {
        let scene = |x: u32, y: u32| [(x * 15) as u8, (y * 15) as u8, 90];
        let with = |[r, g, b]: [u8; 3], a: u8| [r, g, b, a];
        let product = |x: u32, y: u32| if x < 2 && y < 2 { [9, 9, 160] } else { [250; 3] };
        // All of these let the right half change.
        for (case, mask, by_alpha) in [
            (
                "a photo with a hole",
                mask(|x, y| with(scene(x, y), if x < 8 { 255 } else { 0 })),
                true,
            ),
            (
                "a small thing on white with a hole",
                mask(|x, y| if x < 8 { with(product(x, y), 255) } else { [0; 4] }),
                true,
            ),
            ("black with a hole", mask(|x, _| [0, 0, 0, if x < 8 { 255 } else { 0 }]), true),
            ("white, erased", mask(|x, _| [255, 255, 255, if x < 8 { 255 } else { 0 }]), true),
            ("red with a hole", mask(|x, _| [250, 20, 10, if x < 8 { 255 } else { 0 }]), true),
            ("white on an empty layer", mask(|x, _| if x < 8 { [0; 4] } else { [255; 4] }), false),
            (
                "black and white, and an empty rim",
                mask(|x, y| match (x, y) {
                    (_, 0) => [0; 4],
                    (..8, _) => [0, 0, 0, 255],
                    _ => [255; 4],
                }),
                false,
            ),
            ("opaque", mask(|x, _| if x < 8 { [0, 0, 0, 255] } else { [255; 4] }), false),
        ] {
            assert_eq!(MaskReading::Auto.reads_alpha(&mask), by_alpha, "{case}");
            let levels = MaskReading::Auto.levels(&mask);
            for y in 1..16 {
                assert_eq!(levels.get_pixel(3, y).0, [0], "{case}");
                assert_eq!(levels.get_pixel(12, y).0, [255], "{case}");
            }
        }
    }

    #[test]
    fn explicit_reading_overrides_detection() {
        let hole = mask(|x, _| [255, 255, 255, if x < 8 { 255 } else { 0 }]);
        for (reading, left, right) in
            [(MaskReading::Alpha, 0, 255), (MaskReading::Luma, 255, 0), (MaskReading::Auto, 0, 255)]
        {
            let levels = reading.levels(&hole);
            assert_eq!(levels.get_pixel(0, 0).0, [left], "{reading:?}");
            assert_eq!(levels.get_pixel(15, 0).0, [right], "{reading:?}");
        }
    }

    #[test]
    fn brightness_is_luma_times_opacity() {
        let mask = mask(|x, _| match x {
            0 => [255, 255, 255, 255],
            1 => [255, 0, 0, 255],
            2 => [255, 255, 255, 0],
            3 => [255, 255, 255, 128],
            _ => [0, 0, 0, 255],
        });
        let levels = MaskReading::Luma.levels(&mask);
        assert_eq!(levels.as_raw()[..5], [255, 76, 0, 128, 0]);
    }

    #[test]
    fn reads_names_of_older_configs() {
        for (word, reading) in [
            ("auto", MaskReading::Auto),
            ("alpha", MaskReading::Alpha),
            ("transparent", MaskReading::Alpha),
            ("luma", MaskReading::Luma),
            ("white", MaskReading::Luma),
        ] {
            let read: MaskReading = serde_json::from_value(word.into()).unwrap();
            assert_eq!(read, reading, "{word}");
        }
    }
}
