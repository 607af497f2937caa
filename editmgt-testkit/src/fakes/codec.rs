use burn::tensor::{Device, Int, Tensor, TensorData};
use editmgt_core::{CodecSpec, Error, Result, TokenGrid, VqCodec};

/// Levels of each colour channel.
const LEVELS: usize = 4;
/// Pixels per token, along each side.
const FACTOR: usize = 4;

/// A codec of average colours: each 4x4 cell becomes the nearest of 64 colours.
#[derive(Debug, Clone)]
pub struct ColourCodec {
    spec: CodecSpec,
    device: Device,
}

impl ColourCodec {
    /// A codec whose images live on `device`.
    pub fn new(device: &Device) -> Self {
        let spec = CodecSpec { downsample_factor: FACTOR, codebook_size: LEVELS.pow(3) };
        Self { spec, device: device.clone() }
    }
}

impl VqCodec for ColourCodec {
    fn spec(&self) -> &CodecSpec {
        &self.spec
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
        let [batch, channels, height, width] = images.dims();
        let divides = |side: usize| side > 0 && side.is_multiple_of(FACTOR);
        if channels != 3 || !divides(height) || !divides(width) {
            let expected = format!("3 channels, sides multiples of {FACTOR}");
            return Err(Error::shape("image", expected, format!("{channels}x{height}x{width}")));
        }
        let (h, w) = (height / FACTOR, width / FACTOR);
        let cells = images.reshape([batch, 3, h, FACTOR, w, FACTOR]);
        let means = cells.mean_dim(5).mean_dim(3).reshape([batch, 3, h, w]);
        let top = (LEVELS - 1) as f32;
        let levels: Tensor<4, Int> = (means * top).round().clamp(0.0, top).int();
        let digit = |channel: usize| levels.clone().narrow(1, channel, 1).squeeze_dim::<3>(1);
        let base = LEVELS as i32;
        TokenGrid::from_tensor((digit(0) * base + digit(1)) * base + digit(2))
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        let codebook_size = self.spec.codebook_size;
        let count = tokens.ids().iter().filter(|&&id| id as usize >= codebook_size).count();
        if count > 0 {
            let total = tokens.ids().len();
            return Err(Error::MaskTokenRemains { count, total, codebook_size });
        }
        let size = tokens.size();
        let (height, width) = (size.height * FACTOR, size.width * FACTOR);
        let mut pixels = Vec::with_capacity(tokens.batch() * 3 * height * width);
        for image in 0..tokens.batch() {
            for digit in [LEVELS * LEVELS, LEVELS, 1] {
                pixels.extend((0..height * width).map(|i| {
                    let cell = i / width / FACTOR * size.width + i % width / FACTOR;
                    let level = tokens.image(image)[cell] as usize / digit % LEVELS;
                    level as f32 / (LEVELS - 1) as f32
                }));
            }
        }
        let shape = [tokens.batch(), 3, height, width];
        Ok(Tensor::from_data(TensorData::new(pixels, shape), &self.device))
    }
}
