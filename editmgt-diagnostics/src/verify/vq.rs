//! The VQ codec, stage by stage.

use burn::tensor::{DType, Device};
use editmgt::{load_component, read_config};
use editmgt_core::{TokenGrid, VqCodec};
use editmgt_vq::VqConfig;

use super::{Comparison, GoldenFolder, VerifyError};

/// Largest difference of latents, codes and images. Sums over thousands of f32 products, in another
/// order than the reference, differ by an order of magnitude less.
const TOLERANCE: f64 = 1e-4;

/// Compares every image of the folder (`NAME.image` and its companions).
///
/// Decoding starts from the expected tokens, so that a wrong token does not hide errors of the
/// decoder.
pub(super) fn verify(
    folder: &GoldenFolder,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let config = read_config(folder.dir(), "config.json", VqConfig::from_json)?;
    let codec =
        load_component(folder.dir(), DType::F32, || Ok((config.keys(), config.init(device)?)))?;
    let names = folder.names();
    let mut comparisons = Vec::new();
    for case in names.iter().filter_map(|name| name.strip_suffix(".image")) {
        let name = |tensor: &str| format!("{case}.{tensor}");
        let floats = |tensor: &str| folder.floats(&name(tensor));

        let image = folder.tensor::<4>(&name("image"), device)?;
        let latents = codec.encode_latents(image.clone())?;
        comparisons.push(Comparison::tensor(latents, &floats("latents")?, TOLERANCE)?);

        let tokens = folder.tokens(&name("indices"))?;
        let encoded = codec.encode(image)?;
        comparisons.push(Comparison::tokens(name("indices"), &encoded, &tokens));

        let codes = codec.embed(&tokens)?;
        comparisons.push(Comparison::tensor(codes.clone(), &floats("quantized")?, TOLERANCE)?);
        // Quantizing the codes must return their ids.
        let found = TokenGrid::from_tensor(codec.nearest_codes(codes.clone())?)?;
        comparisons.push(Comparison::tokens(name("quantized, quantized again"), &found, &tokens));

        let decoded = codec.decode_unclipped(codes)?;
        comparisons.push(Comparison::tensor(decoded, &floats("decoded")?, TOLERANCE)?);
        let clipped = codec.decode(&tokens)?;
        comparisons.push(Comparison::tensor(clipped, &floats("decoded_clipped")?, TOLERANCE)?);
    }
    Ok(comparisons)
}
