use editmgt_core::{Error, GridSize, MicroConditions, VqCodec};

use super::{EditDataset, EditExample};
use crate::run::TrainError;
use burn::tensor::{Device, Tensor, TensorData};
use editmgt_world::{Example, Split, World, touched};
use image::RgbImage;

/// The edits of the world, drawn and encoded on demand.
pub struct WorldEdits {
    world: World,
    codec: Box<dyn VqCodec>,
    device: Device,
    split: Split,
    len: u64,
    size: (u32, u32),
}

impl WorldEdits {
    /// The first `len` examples of a split, as tokens of `codec`, which is on `device`.
    ///
    /// # Errors
    /// [`TrainError::Option`] when there is no example, or the image size is not a multiple of the
    /// codec's downsampling.
    pub fn new(
        world: World,
        codec: Box<dyn VqCodec>,
        device: Device,
        split: Split,
        len: u64,
    ) -> Result<Self, TrainError> {
        if len == 0 {
            return Err(TrainError::option("examples", "1 or more", 0));
        }
        let (width, height) = world.pair(split, 0).pair.before.dimensions();
        let factor = codec.spec().downsample_factor as u32;
        if !width.is_multiple_of(factor) || !height.is_multiple_of(factor) {
            let expected = format!("sides that are multiples of {factor}");
            return Err(TrainError::option("canvas", expected, format!("{width}x{height}")));
        }
        Ok(Self { world, codec, device, split, len, size: (width, height) })
    }

    fn encode(&self, pictures: &[&RgbImage]) -> Result<Vec<Vec<u32>>, TrainError> {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let shape = [pictures.len(), height, width, 3];
        let bytes = pictures.iter().flat_map(|picture| picture.as_raw());
        let values: Vec<f32> = bytes.map(|&byte| f32::from(byte) / 255.0).collect();
        let images = Tensor::<4>::from_data(TensorData::new(values, shape), &self.device);
        let tokens = self.codec.encode(images.permute([0, 3, 1, 2]))?;
        Ok((0..pictures.len()).map(|image| tokens.image(image).to_vec()).collect())
    }
}

impl EditDataset for WorldEdits {
    fn len(&self) -> u64 {
        self.len
    }

    fn grid(&self) -> GridSize {
        let factor = self.codec.spec().downsample_factor;
        GridSize::new(self.size.1 as usize / factor, self.size.0 as usize / factor)
    }

    fn micro(&self) -> MicroConditions {
        MicroConditions::uncropped(self.size.1 as usize, self.size.0 as usize)
    }

    fn content_classes(&self) -> Vec<usize> {
        self.world.content_classes()
    }

    fn examples(&self, indices: &[u64]) -> Result<Vec<EditExample>, TrainError> {
        let examples: Vec<Example> =
            indices.iter().map(|&index| self.world.pair(self.split, index)).collect();
        let pictures: Vec<&RgbImage> =
            examples.iter().flat_map(|of| [&of.pair.before, &of.pair.after]).collect();
        let mut tokens = self.encode(&pictures)?.into_iter();
        let grid = self.grid();
        let example = |Example { pair, truth, .. }: Example| {
            let (Some(before), Some(after)) = (tokens.next(), tokens.next()) else {
                return Err(Error::shape("encoded images", "two of each pair", "fewer").into());
            };
            // Equal tokens count as unchanged, whatever happened to their pixels.
            let differs = before.iter().zip(&after).map(|(before, after)| before != after);
            let changed = match &pair.changed {
                Some(mask) => {
                    let touched = touched(mask, grid);
                    differs.zip(touched).map(|(differs, touched)| differs && touched).collect()
                }
                None => differs.collect(),
            };
            let (instruction, category) = (pair.instruction, pair.category);
            let contents = self.world.contents(&truth, grid.height, grid.width);
            Ok(EditExample { before, after, changed, instruction, category, contents })
        };
        examples.into_iter().map(example).collect()
    }
}
