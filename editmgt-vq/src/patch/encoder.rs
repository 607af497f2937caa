use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use editmgt_kernels::{gelu, linear_layer};

use super::PatchVqConfig;
use crate::images::IMAGE_CHANNELS;

/// Encodes patches into latents, independently of each other.
#[derive(Module, Debug)]
pub(crate) struct PatchEncoder {
    layers: Vec<Linear>,
    patch_size: usize,
}

impl PatchEncoder {
    pub(crate) fn new(config: &PatchVqConfig, device: &Device) -> Self {
        let patch_size = config.spec().downsample_factor;
        let mut widths = vec![IMAGE_CHANNELS * patch_size * patch_size];
        widths.extend(&config.encoder_channels);
        widths.push(config.code_channels);
        let layers = widths.windows(2).map(|w| LinearConfig::new(w[0], w[1]).init(device));
        Self { layers: layers.collect(), patch_size }
    }

    /// `[B, 3, h*f, w*f]` RGB in 0..1 to `[B, C, h, w]`.
    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = images.dims();
        let size = self.patch_size;
        let (rows, columns) = (height / size, width / size);
        let patches = images
            .reshape([batch, channels, rows, size, columns, size])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows, columns, channels * size * size]);
        // Centred inputs, since there are no norms.
        let mut x = patches * 2.0 - 1.0;
        for (i, layer) in self.layers.iter().enumerate() {
            let input = if i == 0 { x } else { gelu(x) };
            x = linear_layer(layer, input);
        }
        x.permute([0, 3, 1, 2])
    }

    /// The encoder's dtype.
    pub(crate) fn dtype(&self) -> burn::tensor::DType {
        self.layers[0].weight.val().dtype()
    }
}
