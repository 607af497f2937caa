use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, LocalizableString,
    MatrixCoefficients, ProfileText, RenderingIntent, ToneReprCurve, TransferCharacteristics,
    WHITE_POINT_D50, adaption_matrix_d,
};

/// Colour space of a photo other than by an ICC profile, as in PNG's chunks (PNG, third edition,
/// section 11.3.2). Precedence: `cicp`, the ICC profile of [`Metadata`](super::Metadata),
/// `srgb_intent`, `gamma` and `chromaticities`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Colours {
    /// cICP: primaries, transfer function, matrix (0, which is RGB), and 1 for the full range
    /// (ITU-T H.273).
    pub cicp: Option<[u8; 4]>,
    /// sRGB: the rendering intent, 0 to 3. The colours are those of sRGB.
    pub srgb_intent: Option<u8>,
    /// gAMA: 100,000 times the exponent from light to number; not 0.
    pub gamma: Option<u32>,
    /// cHRM: 100,000 times x and y of white, red, green and blue.
    pub chromaticities: Option<[u32; 8]>,
}

/// 100,000 / 2.2 rounded, which is what an sRGB file has.
const SRGB_GAMMA: u32 = 45_455;
/// Chromaticities of sRGB, times 100,000 (PNG, third edition, section 11.3.2.3).
const SRGB_CHROMATICITIES: [u32; 8] =
    [31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000];
/// Tolerance for rounding by writers, times 100,000.
const ROUNDED: u32 = 100;

impl Colours {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Removes meaningless values; returns whether there were any.
    pub(super) fn check(&mut self) -> bool {
        let before = *self;
        self.cicp = self.cicp.filter(|cicp| cicp[2] == 0 && cicp[3] <= 1);
        self.srgb_intent = self.srgb_intent.filter(|intent| *intent <= 3);
        self.gamma = self.gamma.filter(|gamma| *gamma > 0);
        self.chromaticities = self.chromaticities.filter(|xy| {
            let [wx, wy, rx, ry, gx, gy, bx, by] = xy.map(|value| f64::from(value) / 100_000.0);
            // Primaries with a brightness, in a triangle with an area.
            let area = (gx - rx) * (by - ry) - (bx - rx) * (gy - ry);
            xy.iter().all(|value| *value <= 200_000)
                && wx > 0.0
                && wy > 0.0
                && ry > 0.0
                && gy > 0.0
                && by > 0.0
                && area.abs() > 1e-3
        });
        *self != before
    }

    /// An equivalent ICC profile, for formats without other colour metadata; `None` for sRGB, which
    /// is the default.
    ///
    /// # Errors
    /// [`Unconvertible`].
    pub(super) fn to_profile(self) -> Result<Option<Vec<u8>>, Unconvertible> {
        if let Some(cicp) = self.cicp {
            return cicp_profile(cicp);
        }
        if self.srgb_intent.is_some() || (self.gamma.is_none() && self.chromaticities.is_none()) {
            return Ok(None);
        }
        let gamma = self.gamma.filter(|gamma| gamma.abs_diff(SRGB_GAMMA) > ROUNDED);
        let chromaticities = self
            .chromaticities
            .filter(|xy| xy.iter().zip(SRGB_CHROMATICITIES).any(|(a, b)| a.abs_diff(b) > ROUNDED));
        if gamma.is_none() && chromaticities.is_none() {
            return Ok(None);
        }
        let curve = match self.gamma {
            Some(gamma) => ToneReprCurve::Parametric(vec![100_000.0 / gamma as f32]),
            None => srgb_curve(),
        };
        let chromaticities = self.chromaticities.unwrap_or(SRGB_CHROMATICITIES);
        calibrated(chromaticities, [curve.clone(), curve.clone(), curve]).map(Some)
    }
}

/// There is no equivalent ICC profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unconvertible;

/// A profile of three primaries and the exponents from encoded values to light.
pub(super) fn gamma_profile(
    chromaticities: [u32; 8],
    gammas: [f32; 3],
) -> Result<Vec<u8>, Unconvertible> {
    calibrated(chromaticities, gammas.map(|gamma| ToneReprCurve::Parametric(vec![gamma])))
}

fn srgb_curve() -> ToneReprCurve {
    // IEC 61966-2-1.
    ToneReprCurve::Parametric(vec![2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.04045])
}

fn calibrated(
    chromaticities: [u32; 8],
    curves: [ToneReprCurve; 3],
) -> Result<Vec<u8>, Unconvertible> {
    let [wx, wy, rx, ry, gx, gy, bx, by] =
        chromaticities.map(|value| (f64::from(value) / 100_000.0) as f32);
    let white = Chromaticity { x: wx, y: wy };
    let mut profile = ColorProfile::new_srgb();
    let primaries = ColorPrimaries {
        red: Chromaticity { x: rx, y: ry },
        green: Chromaticity { x: gx, y: gy },
        blue: Chromaticity { x: bx, y: by },
    };
    profile.update_rgb_colorimetry(white.to_xyyb(), primaries);
    let [red, green, blue] = curves;
    (profile.red_trc, profile.green_trc, profile.blue_trc) = (Some(red), Some(green), Some(blue));
    encode(profile, white)
}

fn cicp_profile(cicp: [u8; 4]) -> Result<Option<Vec<u8>>, Unconvertible> {
    let [primaries, transfer, _, full_range] = cicp;
    let color_primaries = CicpColorPrimaries::try_from(primaries).map_err(|_| Unconvertible)?;
    let transfer_characteristics =
        TransferCharacteristics::try_from(transfer).map_err(|_| Unconvertible)?;
    // Whites of the primaries (ITU-T H.273, table 2); ICC cannot express a limited range.
    let (x, y) = match primaries {
        1 | 5..=7 | 9 | 12 | 22 => (0.3127, 0.3290),
        4 | 8 => (0.310, 0.316),
        11 => (0.314, 0.351),
        _ => return Err(Unconvertible),
    };
    if full_range != 1 {
        return Err(Unconvertible);
    }
    if (primaries, transfer) == (1, 13) {
        return Ok(None);
    }
    let mut profile = ColorProfile::new_srgb();
    (profile.red_trc, profile.green_trc, profile.blue_trc) = (None, None, None);
    profile.update_rgb_colorimetry_from_cicp(CicpProfile {
        color_primaries,
        transfer_characteristics,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    });
    if profile.red_trc.is_none() {
        return Err(Unconvertible);
    }
    encode(profile, Chromaticity { x, y }).map(Some)
}

fn encode(mut profile: ColorProfile, white: Chromaticity) -> Result<Vec<u8>, Unconvertible> {
    let text = |text: &str| {
        let (language, country) = ("en".to_owned(), "US".to_owned());
        Some(ProfileText::Localizable(vec![LocalizableString::new(
            language,
            country,
            text.to_owned(),
        )]))
    };
    profile.description = text("Colours of the photo's file");
    profile.copyright = text("No copyright, use freely");
    profile.rendering_intent = RenderingIntent::RelativeColorimetric;
    // ICC.1:2022, sections 9.2.15 and 9.2.36.
    let d50 = WHITE_POINT_D50;
    profile.chromatic_adaptation = Some(adaption_matrix_d(white.to_xyz(), d50.to_xyz()));
    profile.media_white_point = Some(d50.to_xyzd());
    profile.encode().map_err(|_| Unconvertible)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: [u32; 8] = [31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000];

    fn profile(colours: Colours) -> Option<ColorProfile> {
        let bytes = colours.to_profile().unwrap()?;
        Some(ColorProfile::new_from_slice(&bytes).unwrap())
    }

    #[test]
    fn srgb_in_any_form_needs_no_profile() {
        for colours in [
            Colours::default(),
            Colours { srgb_intent: Some(0), gamma: Some(100_000), ..Default::default() },
            Colours { gamma: Some(45_455), ..Default::default() },
            Colours {
                gamma: Some(45_450),
                chromaticities: Some(SRGB_CHROMATICITIES),
                ..Default::default()
            },
            Colours { cicp: Some([1, 13, 0, 1]), chromaticities: Some(WIDE), ..Default::default() },
        ] {
            assert_eq!(colours.to_profile(), Ok(None), "{colours:?}");
        }
    }

    #[test]
    fn a_profile_has_the_primaries_and_the_curve() {
        let p3 = ColorProfile::new_display_p3();
        let wide = profile(Colours { chromaticities: Some(WIDE), ..Default::default() }).unwrap();
        let cicp = profile(Colours { cicp: Some([12, 13, 0, 1]), ..Default::default() }).unwrap();
        for profile in [&wide, &cicp] {
            for (a, b) in [
                (profile.red_colorant, p3.red_colorant),
                (profile.green_colorant, p3.green_colorant),
                (profile.blue_colorant, p3.blue_colorant),
            ] {
                let off = (a.x - b.x).abs().max((a.y - b.y).abs()).max((a.z - b.z).abs());
                // White is rounded to four digits in cHRM; the library has more.
                assert!(off < 5e-4, "{a:?} {b:?}");
            }
        }
        let linear = profile(Colours { gamma: Some(100_000), ..Default::default() }).unwrap();
        assert_eq!(linear.green_trc, Some(ToneReprCurve::Parametric(vec![1.0])));
        // The same rounding of the white.
        assert!((linear.red_colorant.x - ColorProfile::new_srgb().red_colorant.x).abs() < 5e-4);
    }

    #[test]
    fn unconvertible_and_meaningless_colours() {
        for cicp in [[2, 2, 0, 1], [9, 16, 0, 0], [1, 2, 0, 1], [3, 13, 0, 1], [1, 255, 0, 1]] {
            let colours = Colours { cicp: Some(cicp), ..Default::default() };
            assert_eq!(colours.to_profile(), Err(Unconvertible), "{cicp:?}");
        }
        for mut colours in [
            Colours { cicp: Some([1, 13, 1, 1]), ..Default::default() },
            Colours { srgb_intent: Some(4), ..Default::default() },
            Colours { gamma: Some(0), ..Default::default() },
            Colours { chromaticities: Some([0; 8]), ..Default::default() },
            Colours { chromaticities: Some([30_000; 8]), ..Default::default() },
            Colours { chromaticities: Some([u32::MAX; 8]), ..Default::default() },
        ] {
            assert!(colours.check() && colours.is_empty(), "{colours:?}");
        }
    }
}
