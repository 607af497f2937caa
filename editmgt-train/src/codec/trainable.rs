use burn::module::Module;
use burn::tensor::{Int, Tensor};
use editmgt_core::{Result, VqCodec};
use editmgt_vq::{PatchVqModel, VqModel};

/// A codec whose stages can be trained.
pub trait TrainableCodec: VqCodec + Module {
    /// `[B, 3, H, W]` RGB in 0..1 to `[B, C, H/f, W/f]`, differentiable.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt_core::Error::Shape) as [`VqCodec::encode`].
    fn encode_latents(&self, images: Tensor<4>) -> Result<Tensor<4>>;

    /// The ids of the codes nearest to `[B, C, h, w]` latents, `[B, h, w]`.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt_core::Error::Shape) for latents of other channels.
    fn nearest_codes(&self, latents: Tensor<4>) -> Result<Tensor<3, Int>>;

    /// `[B, C, h, w]` codes to `[B, 3, H, W]` RGB, not clipped, differentiable.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt_core::Error::Shape) for codes of other channels.
    fn decode_unclipped(&self, codes: Tensor<4>) -> Result<Tensor<4>>;

    /// All codes, `[codes, C]`.
    fn codebook(&self) -> Tensor<2>;

    /// The same codec with other codes, `[codes, C]`.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt_core::Error::Shape) for a codebook of another size.
    fn with_codebook(self, codes: Tensor<2>) -> Result<Self>;
}

macro_rules! trainable {
    ($codec:ty) => {
        impl TrainableCodec for $codec {
            fn encode_latents(&self, images: Tensor<4>) -> Result<Tensor<4>> {
                self.encode_latents(images)
            }

            fn nearest_codes(&self, latents: Tensor<4>) -> Result<Tensor<3, Int>> {
                self.nearest_codes(latents)
            }

            fn decode_unclipped(&self, codes: Tensor<4>) -> Result<Tensor<4>> {
                self.decode_unclipped(codes)
            }

            fn codebook(&self) -> Tensor<2> {
                self.codebook()
            }

            fn with_codebook(self, codes: Tensor<2>) -> Result<Self> {
                self.with_codebook(codes)
            }
        }
    };
}

trainable!(VqModel);
trainable!(PatchVqModel);
