//! Compares a codec computed in tiles with the whole, or measures the peak memory of one of them.
//!
//! ```text
//! cargo run --release -p editmgt-examples --example codec_tiles -- CODEC HEIGHT WIDTH TILE [only]
//! ```
//!
//! `CODEC` is `embedded`, or `official` for the official codec with random weights. `TILE` is a
//! number of pixels, `auto` or `off`. With `only` the image is encoded and decoded in tiles and the
//! peak memory of the process printed, without the whole for comparison.
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use editmgt::{
    Dtype, DtypePolicy, GridSize, LoadOptions, Model, Photo, PixelSize, ResizePlan, Tiling, VqCodec,
};
use editmgt_vq::VqConfig;
use image::imageops::{FilterType, resize};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (codec, height, width, tile, only) = match &arguments[..] {
        [codec, height, width, tile] => (codec, height, width, tile, false),
        [codec, height, width, tile, only] if only == "only" => (codec, height, width, tile, true),
        _ => return Err("usage: codec_tiles CODEC HEIGHT WIDTH TILE [only]".into()),
    };
    let codec: Box<dyn VqCodec> = match codec.as_str() {
        "embedded" => {
            Model::embedded(
                &LoadOptions::new(Device::flex(), DtypePolicy::uniform(Dtype::F32)),
                &[],
            )?
            .codec
        }
        "official" => Box::new(VqConfig::official().init(&Device::flex())?),
        other => return Err(format!("{other}: expected embedded or official").into()),
    };
    let tiling: Tiling = tile.parse()?;
    let (height, width): (usize, usize) = (height.parse()?, width.parse()?);
    let f = codec.spec().downsample_factor;
    let side = codec.tile_side(GridSize::new(height / f, width / f), tiling);
    println!("tiles of {side:?} pixels");

    let cat = Photo::open("examples/photos/cat.jpg")?;
    let photo = resize(cat.rgb(), width as u32, height as u32, FilterType::Triangle);
    let plan = ResizePlan::native(PixelSize::new(height, width), f)?;
    let image = plan.apply(&Photo::from_rgb(photo)?, &Device::flex())?;

    let tiled = timed("encoded in tiles", || codec.encode_with(image.clone(), tiling))?;
    let decoded = timed("decoded in tiles", || codec.decode_with(&tiled, tiling))?;
    if only {
        let bytes = editmgt_backends::peak_memory().unwrap_or(0);
        println!("peak memory: {:.2} GB", bytes as f64 / 1e9);
        return Ok(());
    }
    let tokens = timed("encoded whole", || codec.encode(image))?;
    let equal = tokens.ids().iter().zip(tiled.ids()).filter(|(a, b)| a == b).count();
    println!("equal tokens: {equal} of {}", tokens.ids().len());
    let whole = timed("decoded whole", || codec.decode(&tiled))?;
    let spread =
        whole.clone().max().into_scalar::<f32>() - whole.clone().min().into_scalar::<f32>();
    let difference: Tensor<4> = (whole - decoded).abs();
    let worst = difference.max().into_scalar::<f32>();
    println!("largest difference: {:.2e} of 1/255; pixels span {spread:.2}", worst * 255.0);
    Ok(())
}

fn timed<T, E>(what: &str, run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    let result = run()?;
    println!("{what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}
