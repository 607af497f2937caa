use burn::tensor::{Device, Tensor, TensorData};
use image::{GrayImage, RgbImage};

use super::CropOptions;
use crate::run::{Stream, TrainError};
use editmgt_world::EditPair;

/// An image to train on.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingImage {
    /// The image.
    pub image: RgbImage,
    /// Weight mask of the image's size: non-zero where the reconstruction counts more.
    pub marked: Option<GrayImage>,
}

/// Images by index, of any sizes. Deterministic: an index always gives the same image.
pub trait ImageSource: Send + Sync {
    /// Image `index`.
    ///
    /// # Errors
    /// [`TrainError::Data`] when the image cannot be read.
    fn image(&self, index: u64) -> Result<TrainingImage, TrainError>;
}

/// Edit pairs by index. Deterministic: an index always gives the same pair.
///
/// As an [`ImageSource`] it yields the images before and after alternately, with the changed pixels
/// as the mask.
pub trait PairSource: Send + Sync {
    /// Pair `index`.
    ///
    /// # Errors
    /// [`TrainError::Data`] when the pair cannot be read.
    fn pair(&self, index: u64) -> Result<EditPair, TrainError>;
}

impl<F: Fn(u64) -> Result<EditPair, TrainError> + Send + Sync> PairSource for F {
    fn pair(&self, index: u64) -> Result<EditPair, TrainError> {
        self(index)
    }
}

impl<S: PairSource> ImageSource for S {
    fn image(&self, index: u64) -> Result<TrainingImage, TrainError> {
        let pair = self.pair(index / 2)?;
        let image = if index.is_multiple_of(2) { pair.before } else { pair.after };
        Ok(TrainingImage { image, marked: pair.changed })
    }
}

/// A batch of crops.
pub(super) struct Crops {
    /// `[B, 3, size, size]` RGB in 0..1.
    pub(super) images: Tensor<4>,
    /// `[B, 1, size, size]`, the weight of each pixel.
    pub(super) weights: Tensor<4>,
}

impl Crops {
    /// Draws crops whose corners are multiples of `grid`.
    pub(super) fn draw(
        source: &dyn ImageSource,
        options: &CropOptions,
        grid: usize,
        draws: &mut Stream,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let size = options.size;
        let plane = size * size;
        let mut pixels = vec![0.0; options.batch * 3 * plane];
        let mut weights = vec![1.0; options.batch * plane];
        for (pixels, weights) in pixels.chunks_mut(3 * plane).zip(weights.chunks_mut(plane)) {
            let index = draws.below(options.images as usize) as u64;
            let TrainingImage { image, marked } = source.image(index)?;
            let refuse = |message| TrainError::Data { index, message };
            let (width, height) = image.dimensions();
            if (width.min(height) as usize) < size {
                return Err(refuse(format!("{width}x{height} pixels, a crop needs {size}x{size}")));
            }
            if let Some(marked) = &marked
                && marked.dimensions() != image.dimensions()
            {
                return Err(refuse(format!("{width}x{height} pixels, its mask has another size")));
            }
            let mut start = |side: u32| grid * draws.below((side as usize - size) / grid + 1);
            let (left, top) = (start(width), start(height));
            for y in 0..size {
                for x in 0..size {
                    let (at, from) = (y * size + x, ((left + x) as u32, (top + y) as u32));
                    let rgb = image.get_pixel(from.0, from.1).0;
                    for (channel, value) in rgb.into_iter().enumerate() {
                        pixels[channel * plane + at] = f32::from(value) / 255.0;
                    }
                    if marked.as_ref().is_some_and(|m| m.get_pixel(from.0, from.1).0 != [0]) {
                        weights[at] = options.marked_weight;
                    }
                }
            }
        }
        let tensor = |values, channels| {
            let shape = [options.batch, channels, size, size];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Ok(Self { images: tensor(pixels, 3), weights: tensor(weights, 1) })
    }
}

/// Images of the same size as `[B, 3, H, W]` RGB in 0..1.
pub(super) fn to_tensor(images: &[&RgbImage], device: &Device) -> Tensor<4> {
    let tensors = images.iter().map(|image| {
        let shape = [1, image.height() as usize, image.width() as usize, 3];
        let values: Vec<f32> = image.as_raw().iter().map(|&v| f32::from(v) / 255.0).collect();
        Tensor::<4>::from_data(TensorData::new(values, shape), device).permute([0, 3, 1, 2])
    });
    Tensor::cat(tensors.collect(), 0)
}
