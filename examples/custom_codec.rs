//! A custom codec: colour averages instead of a neural network.
//!
//! Each 8x8 cell becomes the nearest of 64 colours (4 levels of red, green and blue). The codec is
//! poor but complete: it implements the trait and validates its input, and any pipeline whose
//! transformer was trained on its 64 codes could use it.
//!
//! ```text
//! cargo run -p editmgt-examples --example custom_codec -- PHOTO OUT.png
//! ```
#![forbid(unsafe_code)]

use std::error::Error as StdError;

use burn::tensor::{Device, Int, Tensor, TensorData};
use editmgt::{
    CodecSpec, Error, Photo, ResizePlan, SaveOptions, TokenGrid, VqCodec, check_writable,
};

/// Levels of each colour channel.
const LEVELS: usize = 4;

struct ColourCodec {
    spec: CodecSpec,
    device: Device,
}

impl ColourCodec {
    fn new(device: Device) -> Self {
        let spec = CodecSpec { downsample_factor: 8, codebook_size: LEVELS.pow(3) };
        Self { spec, device }
    }
}

impl VqCodec for ColourCodec {
    fn spec(&self) -> &CodecSpec {
        &self.spec
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid, Error> {
        let f = self.spec.downsample_factor;
        let [batch, channels, height, width] = images.dims();
        if channels != 3 || height == 0 || width == 0 || height % f != 0 || width % f != 0 {
            let got = format!("{channels}x{height}x{width}");
            return Err(Error::shape("image", format!("3 channels, sides multiples of {f}"), got));
        }
        let cells = images.reshape([batch, 3, height / f, f, width / f, f]);
        let means = cells.mean_dim(5).mean_dim(3).reshape([batch, 3, height / f, width / f]);
        // Level of each channel, 0 to LEVELS - 1; the code has them as digits.
        let top = (LEVELS - 1) as f32;
        let levels: Tensor<4, Int> = (means * top).round().clamp(0.0, top).int();
        let digit = |channel: usize| levels.clone().narrow(1, channel, 1).squeeze_dim::<3>(1);
        let base = LEVELS as i32;
        TokenGrid::from_tensor((digit(0) * base + digit(1)) * base + digit(2))
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>, Error> {
        let codebook_size = self.spec.codebook_size;
        let count = tokens.ids().iter().filter(|&&id| id as usize >= codebook_size).count();
        if count > 0 {
            let total = tokens.ids().len();
            return Err(Error::MaskTokenRemains { count, total, codebook_size });
        }
        let (size, f) = (tokens.size(), self.spec.downsample_factor);
        let mut pixels = Vec::with_capacity(tokens.ids().len() * 3 * f * f);
        for image in 0..tokens.batch() {
            for digit in [LEVELS * LEVELS, LEVELS, 1] {
                for row in 0..size.height * f {
                    for column in 0..size.width * f {
                        let id = tokens.image(image)[row / f * size.width + column / f] as usize;
                        pixels.push((id / digit % LEVELS) as f32 / (LEVELS - 1) as f32);
                    }
                }
            }
        }
        let shape = [tokens.batch(), 3, size.height * f, size.width * f];
        Ok(Tensor::from_data(TensorData::new(pixels, shape), &self.device))
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [photo, out] = &args[..] else {
        return Err("usage: custom_codec PHOTO OUT".into());
    };
    let photo = Photo::open(photo)?;
    check_writable(out, photo.size(), &SaveOptions::default())?;
    let device = editmgt::open_default_device()?;
    // The trait is all that the rest of editmgt needs of a codec.
    let codec: Box<dyn VqCodec> = Box::new(ColourCodec::new(device.clone()));
    let plan = ResizePlan::fit(photo.size(), 512, codec.spec().downsample_factor)?;
    let tokens = codec.encode(plan.apply(&photo, &device)?)?;
    println!("{} tokens of {} codes", tokens.ids().len(), codec.spec().codebook_size);
    let picture = plan.invert(codec.decode(&tokens)?, &photo)?;
    photo.edited(picture)?.save(out)?;
    Ok(())
}
