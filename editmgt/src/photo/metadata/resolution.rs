use super::bytes::Order;

/// Unit of length of a [`Resolution`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolutionUnit {
    /// None: only the pixel aspect ratio is known.
    Aspect,
    /// Inch, 0.0254 m.
    Inch,
    /// Centimetre.
    Centimetre,
    /// Metre.
    Metre,
}

/// Pixels per unit of length when printed, along the upright photo's width and height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Along the width: numerator and denominator, neither 0.
    pub x: (u32, u32),
    /// Along the height: numerator and denominator, neither 0.
    pub y: (u32, u32),
    /// The unit of length.
    pub unit: ResolutionUnit,
}

impl Resolution {
    /// `None` for meaningless values: zeros, and square pixels without a unit.
    pub(super) fn new(x: (u32, u32), y: (u32, u32), unit: ResolutionUnit) -> Option<Self> {
        let zero = [x.0, x.1, y.0, y.1].contains(&0);
        let square = u64::from(x.0) * u64::from(y.1) == u64::from(y.0) * u64::from(x.1);
        let says_nothing = zero || (square && unit == ResolutionUnit::Aspect);
        (!says_nothing).then_some(Self { x, y, unit })
    }

    /// From integers.
    pub(super) fn whole(x: u32, y: u32, unit: ResolutionUnit) -> Option<Self> {
        Self::new((x, 1), (y, 1), unit)
    }

    /// From the tags XResolution, YResolution and ResolutionUnit of TIFF and EXIF: two rationals
    /// and a number (TIFF 6.0, section 8).
    pub(super) fn from_tags(x: &[u8], y: &[u8], unit: Option<u32>) -> Option<Self> {
        let rational =
            |value: &[u8]| Some((Order::Little.u32(value, 0)?, Order::Little.u32(value, 4)?));
        let unit = match unit {
            Some(1) => ResolutionUnit::Aspect,
            Some(3) => ResolutionUnit::Centimetre,
            _ => ResolutionUnit::Inch,
        };
        Self::new(rational(x)?, rational(y)?, unit)
    }

    /// The resolution after a rotation by 90 degrees.
    pub(super) fn transposed(self) -> Self {
        Self { x: self.y, y: self.x, unit: self.unit }
    }

    /// Rounded pixels per metre, or the aspect ratio for [`ResolutionUnit::Aspect`]; `None` if 0 or
    /// above `max`.
    pub(super) fn per_metre(self, max: u32) -> Option<(u32, u32)> {
        let scale = match self.unit {
            ResolutionUnit::Aspect => return self.proportions(max),
            ResolutionUnit::Inch => 1.0 / 0.0254,
            ResolutionUnit::Centimetre => 100.0,
            ResolutionUnit::Metre => 1.0,
        };
        Some((whole(self.x, scale, max)?, whole(self.y, scale, max)?))
    }

    /// Rounded pixels per inch or centimetre, as in JFIF; `None` if 0 or above 65,535.
    pub(super) fn jfif(self) -> Option<(ResolutionUnit, (u16, u16))> {
        let max = u32::from(u16::MAX);
        let (unit, scale) = match self.unit {
            ResolutionUnit::Aspect => (ResolutionUnit::Aspect, 1.0),
            ResolutionUnit::Centimetre => (ResolutionUnit::Centimetre, 1.0),
            ResolutionUnit::Inch => (ResolutionUnit::Inch, 1.0),
            ResolutionUnit::Metre => (ResolutionUnit::Inch, 0.0254),
        };
        let (x, y) = if unit == ResolutionUnit::Aspect {
            self.proportions(max)?
        } else {
            (whole(self.x, scale, max)?, whole(self.y, scale, max)?)
        };
        Some((unit, (u16::try_from(x).ok()?, u16::try_from(y).ok()?)))
    }

    /// XResolution, YResolution and ResolutionUnit of TIFF and EXIF.
    ///
    /// Pixels per metre become pixels per inch if they are a rounded integer of these (300 per inch
    /// are 11,811 per metre in a PNG), else per centimetre.
    pub(super) fn tags(self) -> ((u32, u32), (u32, u32), u16) {
        match self.unit {
            ResolutionUnit::Aspect => (self.x, self.y, 1),
            ResolutionUnit::Inch => (self.x, self.y, 2),
            ResolutionUnit::Centimetre => (self.x, self.y, 3),
            ResolutionUnit::Metre => {
                let inches = |value: (u32, u32)| {
                    let exact = f64::from(value.0) / f64::from(value.1) * 0.0254;
                    let near = exact.round();
                    (near >= 1.0 && (exact - near).abs() <= 0.0127).then_some((near as u32, 1))
                };
                match (inches(self.x), inches(self.y)) {
                    (Some(x), Some(y)) => (x, y, 2),
                    _ => {
                        let centimetres = |(n, d): (u32, u32)| (n, d.saturating_mul(100));
                        (centimetres(self.x), centimetres(self.y), 3)
                    }
                }
            }
        }
    }

    /// The ratio of both numbers, in integers up to `max`.
    fn proportions(self, max: u32) -> Option<(u32, u32)> {
        let (mut x, mut y) =
            (u64::from(self.x.0) * u64::from(self.y.1), u64::from(self.y.0) * u64::from(self.x.1));
        let divisor = gcd(x, y);
        (x, y) = (x / divisor, y / divisor);
        while x.max(y) > u64::from(max) {
            (x, y) = (x / 2, y / 2);
        }
        (x > 0 && y > 0).then_some((u32::try_from(x).ok()?, u32::try_from(y).ok()?))
    }
}

fn whole(value: (u32, u32), scale: f64, max: u32) -> Option<u32> {
    let value = (f64::from(value.0) / f64::from(value.1) * scale).round();
    (value >= 1.0 && value <= f64::from(max)).then_some(value as u32)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_between_units() {
        let metre = |x, y| Resolution::whole(x, y, ResolutionUnit::Metre).unwrap();
        assert_eq!(metre(11_811, 5906).tags(), ((300, 1), (150, 1), 2));
        assert_eq!(metre(11_830, 11_811).tags(), ((11_830, 100), (11_811, 100), 3));
        assert_eq!(metre(11_811, 2835).jfif(), Some((ResolutionUnit::Inch, (300, 72))));
        let inch = Resolution::new((601, 2), (300, 1), ResolutionUnit::Inch).unwrap();
        assert_eq!(inch.per_metre(u32::MAX), Some((11_831, 11_811)));
        let aspect = Resolution::new((2, 1), (1, 1), ResolutionUnit::Aspect).unwrap();
        assert_eq!(aspect.per_metre(u32::MAX), Some((2, 1)));
        assert_eq!(aspect.jfif(), Some((ResolutionUnit::Aspect, (2, 1))));
    }

    #[test]
    fn rejects_empty_and_out_of_range_resolutions() {
        assert_eq!(Resolution::whole(0, 300, ResolutionUnit::Inch), None);
        assert_eq!(Resolution::new((1, 0), (1, 1), ResolutionUnit::Inch), None);
        assert_eq!(Resolution::whole(7, 7, ResolutionUnit::Aspect), None);
        let tiny = Resolution::new((1, u32::MAX), (1, 1), ResolutionUnit::Metre).unwrap();
        assert_eq!((tiny.per_metre(9), tiny.jfif()), (None, None));
        let huge = Resolution::whole(u32::MAX, u32::MAX, ResolutionUnit::Inch).unwrap();
        assert_eq!((huge.per_metre(u32::MAX), huge.jfif()), (None, None));
        let far = Resolution::new((u32::MAX, 1), (1, u32::MAX), ResolutionUnit::Aspect).unwrap();
        assert_eq!(far.jfif(), None);
    }
}
