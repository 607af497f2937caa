use burn::tensor::Tensor;
use editmgt_core::{Error, Result};

/// Images are RGB.
pub(crate) const IMAGE_CHANNELS: usize = 3;

/// Checks that `images` are `[B, 3, H, W]`, at least one, with sides that are multiples of
/// `factor`.
pub(crate) fn check_images(images: &Tensor<4>, factor: usize) -> Result<()> {
    let shape = images.dims();
    let [batch, channels, height, width] = shape;
    let tiled = |side: usize| side > 0 && side.is_multiple_of(factor);
    if batch > 0 && channels == IMAGE_CHANNELS && tiled(height) && tiled(width) {
        return Ok(());
    }
    Err(Error::shape(
        "images [batch, channels, height, width]",
        format!("1 or more of {IMAGE_CHANNELS} channels, sides a multiple of {factor}"),
        format!("{shape:?}"),
    ))
}
