//! Numbers on the command line, refused with what is expected.

use std::str::FromStr;

/// A parser of numbers that says what it expects, which Rust's own messages (`invalid digit found
/// in string`) don't.
pub fn number<T: FromStr>(
    expected: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| text.trim().parse().map_err(|_| format!("expected {expected}"))
}

/// A parser of a finite number above 0.
pub fn above_zero(
    expected: &'static str,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |text| match text.trim().parse() {
        Ok(value) if value > 0.0 && f64::is_finite(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

/// Text of an expected count of pixels.
pub const PIXELS: &str = "a number of pixels, 0 or more";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_or_what_is_expected() {
        let pixels = number::<usize>(PIXELS);
        assert_eq!(pixels(" 12"), Ok(12));
        for text in ["-1", "1.5", "", "x", "99999999999999999999"] {
            assert_eq!(pixels(text), Err(format!("expected {PIXELS}")), "{text}");
        }
        let megapixels = above_zero("megapixels above 0");
        assert_eq!(megapixels("0.1"), Ok(0.1));
        for text in ["0", "-1", "nan", "inf", "x"] {
            assert!(megapixels(text).is_err(), "{text}");
        }
    }
}
