//! A codec for dark photos: another codec sees them brightened, and its images are darkened again:
//! `cargo run -p editmgt-examples --example custom_codec -- [PHOTO INSTRUCTION OUT]`
//!
//! `ColourCodec` in `editmgt-testkit` is a complete codec without a network.
#![forbid(unsafe_code)]

use burn::tensor::Tensor;
use editmgt::{CodecSpec, Editor, Error, LoadOptions, Model, Photo, TokenGrid, VqCodec};

pub(crate) struct Brightened {
    pub(crate) codec: Box<dyn VqCodec>,
    /// Exponent of the tone curve; below 1 brightens.
    pub(crate) gamma: f32,
}

impl VqCodec for Brightened {
    fn spec(&self) -> &CodecSpec {
        self.codec.spec()
    }

    fn is_local(&self) -> bool {
        self.codec.is_local()
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid, Error> {
        self.codec.encode(images.clamp(0.0, 1.0).powf_scalar(self.gamma))
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>, Error> {
        Ok(self.codec.decode(tokens)?.powf_scalar(1.0 / self.gamma))
    }

    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>, Error> {
        Ok(self.codec.decode_small(tokens, shrink)?.powf_scalar(1.0 / self.gamma))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [photo, instruction, out] = editmgt_examples::arguments("make the red car blue")?;
    let options = LoadOptions::for_device(editmgt::open_default_device()?)?;
    let codec = Model::embedded(&options, &[])?.codec;
    // The transformer, which knows this codec's tokens, and the text encoder are the model's own.
    let editor = Editor::embedded().codec(Brightened { codec, gamma: 0.8 }).build()?;
    let result = editor.edit(&Photo::open(photo)?, instruction)?;
    let noise = result.report.composite.codec_noise.unwrap_or_default();
    println!("the codec changes a pixel by {noise:.1} levels of 255 (median)");
    Ok(result.image.save(out)?)
}
