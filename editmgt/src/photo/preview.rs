use burn::tensor::Tensor;

use super::{Photo, PixelSize, to_rgb};
use crate::error::EditError;

/// The first picture of an [`EditEvent::Preview`](editmgt_core::EditEvent::Preview) as a photo to
/// show or to save, in its size.
///
/// `image` is `[B, 3, H, W]` RGB in 0..1.
///
/// # Errors
/// [`EditError::Stage`] for another shape or NaN, [`EditError::Photo`] for a picture too small to
/// be a photo.
pub fn preview_photo(image: &Tensor<4>) -> Result<Photo, EditError> {
    let [batch, _, height, width] = image.dims();
    let first = if batch > 1 { image.clone().narrow(0, 0, 1) } else { image.clone() };
    Ok(Photo::from_rgb(to_rgb(first, PixelSize::new(height, width))?)?)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn pixels_are_those_of_the_tensor() {
        let device = Device::flex();
        let image = Tensor::<4>::ones([2, 3, 8, 12], &device) * 0.2;
        let photo = preview_photo(&image).unwrap();
        assert_eq!(photo.size(), PixelSize::new(8, 12));
        assert!(photo.rgb().iter().all(|&value| value == 51));
        assert!(preview_photo(&Tensor::zeros([1, 1, 8, 8], &device)).is_err());
        assert!(preview_photo(&Tensor::zeros([1, 3, 1, 1], &device)).is_err());
    }
}
