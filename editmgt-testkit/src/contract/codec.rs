use burn::tensor::{Device, Tensor, TensorData};
use editmgt_core::{Error, GridSize, TokenGrid, VqCodec};

use super::{Case, Checked, ContractViolation, is_shape, is_value, uniforms};

/// Panics with the broken rule: see [`check_codec`].
///
/// # Panics
/// When a rule is broken.
#[track_caller]
pub fn assert_codec_contract(codec: &dyn VqCodec, device: &Device) {
    if let Err(violation) = check_codec(codec, device) {
        panic!("{violation}");
    }
}

/// Checks a [`VqCodec`]: grids and images have the extents that its spec says, ids are below the
/// codebook size, pixels are finite and in 0..1, the same input gives the same output, images of a
/// batch are coded by themselves, tiles decode to the whole within 1/255, small decodes have the
/// documented size, and images of other
/// extents and unfinished grids are refused.
///
/// # Errors
/// The first broken rule.
pub fn check_codec(codec: &dyn VqCodec, device: &Device) -> Checked {
    let f = codec.spec().downsample_factor;
    Case("spec").require("the downsampling factor is 1 or more", f > 0, f)?;
    for (batch, size) in
        [(1, GridSize::new(2, 2)), (2, GridSize::new(2, 3)), (1, GridSize::new(5, 1))]
    {
        let name = format!("{batch} images of {size} tokens");
        let case = Case(&name);
        let images = images(batch, size, f, device);
        let tokens = case.succeeds("an image is encoded", codec.encode(images.clone()))?;
        let shape = (tokens.batch(), tokens.size());
        case.require("there is a token per cell", shape == (batch, size), shape)?;
        let codes = codec.spec().codebook_size;
        let valid = tokens.ids().iter().all(|&id| (id as usize) < codes);
        case.require("ids are below the codebook size", valid, tokens.ids())?;
        let again = case.succeeds("an image is encoded", codec.encode(images.clone()))?;
        case.require("the same image gives the same tokens", tokens == again, again.ids())?;

        let decoded = case.succeeds("tokens are decoded", codec.decode(&tokens))?;
        let pixels = pixels(case, decoded.clone(), [batch, 3, size.height * f, size.width * f])?;
        for image in (0..batch).filter(|_| batch > 1) {
            let one = codec.encode(images.clone().narrow(0, image, 1));
            let one = case.succeeds("one image is encoded", one)?;
            let same = one.ids() == tokens.image(image);
            case.require("images are encoded by themselves", same, image)?;
            let one = case.succeeds("one image is decoded", codec.decode(&one))?;
            let one = self::pixels(case, one, [1, 3, size.height * f, size.width * f])?;
            let part = &pixels[image * one.len()..][..one.len()];
            // Kernels may sum in another order for another batch.
            let near = one.iter().zip(part).all(|(a, b)| (a - b).abs() < 1e-3);
            case.require("images are decoded by themselves", near, image)?;
        }
        for side in [f, 3 * f / 2] {
            let tiled =
                case.succeeds("tiles are encoded", codec.encode_tiled(images.clone(), side))?;
            let shape = (tiled.batch(), tiled.size());
            case.require("tiles give a token per cell", shape == (batch, size), shape)?;
            let tiled = case.succeeds("tiles are decoded", codec.decode_tiled(&tokens, side))?;
            let tiled = self::pixels(case, tiled, [batch, 3, size.height * f, size.width * f])?;
            let near = tiled.iter().zip(&pixels).all(|(a, b)| (a - b).abs() <= 1.0 / 255.0);
            case.require("tiles decode to the whole within 1/255", near, side)?;
        }
        for shrink in [1, 2, 7] {
            let side = |tokens: usize| (tokens / shrink).max(1) * f;
            let small = case.succeeds("small decodes", codec.decode_small(&tokens, shrink))?;
            self::pixels(case, small, [batch, 3, side(size.height), side(size.width)])?;
        }
        let result = codec.decode_small(&tokens, 0);
        case.refuses("a shrink factor of 0 is refused as a value", result, is_value)?;

        let mut unfinished = tokens;
        unfinished.ids_mut()[0] = codes as u32;
        let result = codec.decode(&unfinished);
        let remains = |error: &Error| matches!(error, Error::MaskTokenRemains { .. });
        case.refuses("an unfinished grid is refused", result, remains)?;
    }
    let case = Case("images of other extents");
    for shape in [[1, 1, f, f], [1, 4, f, f], [1, 3, 0, f]] {
        let result = codec.encode(Tensor::zeros(shape, device));
        case.refuses("another shape is refused as one", result, is_shape)?;
    }
    if f > 1 {
        let result = codec.encode(Tensor::zeros([1, 3, f + 1, f], device));
        case.refuses("a side that is no multiple is refused as a shape", result, is_shape)?;
    }
    let result: editmgt_core::Result<TokenGrid> = codec.encode(Tensor::zeros([0, 3, f, f], device));
    if let Ok(tokens) = result {
        case.require("an empty batch has no tokens", tokens.ids().is_empty(), tokens.ids())?;
    }
    Ok(())
}

/// Reproducible RGB in 0..1, `[batch, 3, h * f, w * f]`.
fn images(batch: usize, size: GridSize, f: usize, device: &Device) -> Tensor<4> {
    let shape = [batch, 3, size.height * f, size.width * f];
    Tensor::from_data(TensorData::new(uniforms(11, shape.iter().product()), shape), device)
}

/// The values of an image of this shape, each in 0..1.
fn pixels(
    case: Case<'_>,
    image: Tensor<4>,
    shape: [usize; 4],
) -> Result<Vec<f32>, ContractViolation> {
    let dims = image.dims();
    case.require("an image has the documented shape", dims == shape, dims)?;
    let values = image.try_into_vec_as::<f32>();
    let values =
        values.map_err(|error| case.violation("an image can be read", format!("{error:?}")))?;
    let inside = values.iter().all(|value| (0.0..=1.0).contains(value));
    case.require("pixels lie in 0..=1", inside, "a value outside")?;
    Ok(values)
}
