//! Size checks of compared images.

use image::{GrayImage, RgbImage};

use crate::EvalError;

/// Checks that an image, and a mask, have the size of the reference.
pub(super) fn check_sizes(
    image: &RgbImage,
    reference: &RgbImage,
    mask: Option<&GrayImage>,
) -> Result<(), EvalError> {
    let expected = reference.dimensions();
    check("image", expected, image.dimensions())?;
    mask.map_or(Ok(()), |mask| check("mask", expected, mask.dimensions()))
}

fn check(what: &'static str, expected: (u32, u32), got: (u32, u32)) -> Result<(), EvalError> {
    if expected == got {
        return Ok(());
    }
    let size = |(width, height): (u32, u32)| format!("{width}x{height} pixels");
    Err(EvalError::Size { what, expected: size(expected), got: size(got) })
}
