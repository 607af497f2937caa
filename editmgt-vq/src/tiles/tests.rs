//! Tiles against the whole, on configurations of every kind of layer.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use editmgt_core::{GridSize, Tiling, TokenGrid, VqCodec};

use super::{Tiles, run, units};
use crate::testing::{Waves, image};
use crate::{PatchVqConfig, PatchVqModel, VqConfig, VqModel};

/// Levels of different widths, so that residual blocks with and without a shortcut occur.
fn official(channels: &[usize]) -> VqModel {
    let config = VqConfig {
        layers_per_block: 2,
        norm_num_groups: 2,
        latent_channels: 3,
        num_vq_embeddings: 32,
        force_upcast: false,
        ..VqConfig::official().with_block_out_channels(channels.to_vec())
    };
    let model = config.init(&Device::flex()).unwrap().map(&mut Waves);
    // Codes that are some of the latents, so that tokens differ from one another.
    let latents = model.encode_latents(image([1, 3, 64, 64])).unwrap();
    let [_, channels, height, width] = latents.dims();
    let rows = latents.permute([0, 2, 3, 1]).reshape([height * width, channels]);
    let indices = Tensor::arange(0..32, &Device::flex()) * (height * width / 32) as i32;
    model.with_codebook(rows.select(0, indices)).unwrap()
}

fn patch() -> PatchVqModel {
    let config = PatchVqConfig {
        encoder_channels: vec![6],
        code_channels: 3,
        num_codes: 32,
        decoder_channels: vec![8, 6, 4],
        blocks_per_level: 2,
    };
    let model = config.init(&Device::flex()).unwrap().map(&mut Waves);
    let latents = model.encode_latents(image([1, 3, 64, 64])).unwrap();
    let rows = latents.permute([0, 2, 3, 1]).reshape([64, 3]);
    model.with_codebook(rows.narrow(0, 0, 32)).unwrap()
}

fn worst(a: Tensor<4>, b: Tensor<4>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).abs().max().into_scalar::<f32>()
}

/// Only the order of sums in the norms' statistics differs.
const ROUNDING: f32 = 2e-5;

#[test]
fn steps_are_the_layers_of_forward() {
    let model = official(&[2, 4, 4, 6]);
    let images = image([2, 3, 32, 48]);
    let side = Tiles::new(1000, 0);
    let latents = model.encode_latents(images.clone()).unwrap();
    let tiled = model.encode_latents_tiled(images, side).unwrap();
    assert_eq!(worst(latents.clone(), tiled), 0.0);
    let decoded = model.decode_unclipped(latents.clone()).unwrap();
    assert_eq!(worst(decoded, model.decode_unclipped_tiled(latents, side).unwrap()), 0.0);
}

#[test]
fn official_tiles_equal_the_whole() {
    for (channels, size) in [
        (&[4][..], [24, 40]),
        (&[2, 4][..], [32, 50]),
        (&[2, 4, 4, 6][..], [48, 72]),
        (&[4, 2, 6, 6, 8][..], [96, 64]),
    ] {
        let model = official(channels);
        let images = image([2, 3, size[0], size[1]]);
        let latents = model.encode_latents(images.clone()).unwrap();
        let decoded = model.decode_unclipped(latents.clone()).unwrap();
        // Stored after each unit, stored where the result is no larger than the input, stored where
        // it is at most this large.
        for stored_bytes in [usize::MAX, 0, 60_000] {
            for side in [8, 11, 16, 31] {
                let tiles = Tiles::new(side, stored_bytes);
                let case = format!("{channels:?}, {size:?}, {tiles:?}");
                let tiled = model.encode_latents_tiled(images.clone(), tiles).unwrap();
                let scale = latents.clone().abs().max().into_scalar::<f32>().max(1.0);
                let error = worst(tiled, latents.clone()) / scale;
                assert!(error < ROUNDING, "encoder, {case}: {error}");
                let tiled = model.decode_unclipped_tiled(latents.clone(), tiles).unwrap();
                let scale = decoded.clone().abs().max().into_scalar::<f32>().max(1.0);
                let error = worst(tiled, decoded.clone()) / scale;
                assert!(error < ROUNDING, "decoder, {case}: {error}");
            }
        }
    }
}

/// Statistics of the tile instead of the whole image: the fault that the gathering avoids.
#[test]
fn statistics_of_a_tile_are_not_those_of_the_whole() {
    let model = official(&[2, 4]);
    let ramp = Tensor::<1, burn::tensor::Int>::arange(0..64 * 64, &Device::flex()).float() / 4096.0;
    let images = ramp.reshape([1, 1, 64, 64]).repeat_dim(1, 3);
    let whole = model.encode_latents(images.clone()).unwrap().narrow(2, 0, 8);
    let own = model.encode_latents(images.narrow(2, 0, 16)).unwrap();
    assert!(worst(own.narrow(2, 0, 8), whole) > 100.0 * ROUNDING);
}

#[test]
fn tokens_and_pixels_of_tiles_equal_those_of_the_whole() {
    let (official, patch) = (official(&[2, 4, 4, 6]), patch());
    for (name, codec) in [("official", &official as &dyn VqCodec), ("patch", &patch)] {
        let images = image([1, 3, 64, 96]);
        let tokens = codec.encode(images.clone()).unwrap();
        let different: std::collections::BTreeSet<_> = tokens.ids().iter().collect();
        assert!(different.len() > 4, "{name}: {different:?}");
        for side in [16, 24, 40] {
            let tiled = codec.encode_with(images.clone(), Tiling::Pixels(side)).unwrap();
            let equal = tokens.ids().iter().zip(tiled.ids()).filter(|(a, b)| a == b).count();
            // A latent could lie between two codes within rounding; here none does.
            assert_eq!(equal, tokens.ids().len(), "{name}, {side}");
            let whole = codec.decode(&tokens).unwrap();
            let error = worst(codec.decode_with(&tokens, Tiling::Pixels(side)).unwrap(), whole);
            assert!(error < ROUNDING, "{name}, {side}: {error}");
        }
    }
}

#[test]
fn half_precision_tiles_equal_the_whole_within_its_rounding() {
    let model = official(&[2, 4, 4]);
    let latents = model.encode_latents(image([1, 3, 48, 64])).unwrap();
    for dtype in [DType::F16, DType::BF16] {
        let half = model.clone().map(&mut crate::model::Cast(dtype));
        let whole = half.decode_unclipped(latents.clone()).unwrap();
        let scale = whole.clone().abs().max().into_scalar::<f32>().max(1.0);
        let tiled = half.decode_unclipped_tiled(latents.clone(), Tiles::new(16, 0)).unwrap();
        // Another rounding to 8 or 11 bits where a statistic differs in its last digit.
        assert!(worst(tiled, whole) / scale < 0.05, "{dtype:?}");
    }
}

#[test]
fn tile_side_follows_the_option_and_the_size() {
    let codec = official(&[2, 4]);
    let side = |height, width, tiling| codec.tile_side(GridSize::new(height, width), tiling);
    assert_eq!(side(100, 100, Tiling::Auto), None);
    assert_eq!(side(100, 100, Tiling::Off), None);
    assert_eq!(side(100, 128, Tiling::Pixels(256)), None);
    assert_eq!(side(100, 129, Tiling::Pixels(256)), Some(256));
    assert_eq!(side(1 << 14, 1 << 14, Tiling::Off), None);
    assert_eq!(side(1 << 14, 1 << 14, Tiling::Auto), Some(256));
    assert_eq!(side(usize::MAX, usize::MAX, Tiling::Auto), Some(256));

    let official = VqConfig::official().init(&Device::flex()).unwrap();
    for (side, tiled) in [(1024, false), (1280, true)] {
        let grid = GridSize::new(side / 16, side / 16);
        assert_eq!(official.tile_side(grid, Tiling::Auto).is_some(), tiled, "{side}");
    }
}

#[test]
fn rejects_what_the_whole_rejects() {
    for codec in [&official(&[2, 4]) as &dyn VqCodec, &patch()] {
        let image = Tensor::zeros([1, 3, 16, 17], &Device::flex());
        let expected = codec.encode(image.clone()).unwrap_err().to_string();
        assert_eq!(codec.encode_tiled(image, 8).unwrap_err().to_string(), expected);
        let unfinished = TokenGrid::filled(1, GridSize::new(2, 2), 8255);
        let expected = codec.decode(&unfinished).unwrap_err().to_string();
        assert_eq!(codec.decode_tiled(&unfinished, 8).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_unit_ends_where_only_its_activation_is_needed() {
    let model = official(&[2, 4]);
    let units = units(model.decoder_steps());
    for unit in &units {
        let count =
            |wanted: fn(&super::Step<'_>) -> bool| unit.iter().filter(|s| wanted(s)).count();
        assert_eq!(
            count(|step| matches!(step, super::Step::Open)),
            count(|step| matches!(step, super::Step::Close(_)))
        );
    }
    // Two residual blocks in the middle, three at each level, one upsampling, the last layers.
    assert_eq!(units.len(), 2 + 3 + 1 + 3 + 1);
    let x = Tensor::zeros([1, 3, 8, 8], &Device::flex());
    assert_eq!(run(&units, x, Tiles::new(4, 0)).unwrap().dims(), [1, 3, 16, 16]);
}

#[test]
fn smaller_tiles_store_less() {
    for (side, bytes) in
        [(16, 248 << 15), (128, 496 << 20), (256, 2_000_000_000), (1 << 40, 2_000_000_000)]
    {
        assert_eq!(Tiles::of_side(side).stored_bytes(), bytes, "{side}");
    }
}

/// The peak of a process never falls, so each measurement has its own: this program once more, with
/// `CHILD` set.
#[cfg(target_os = "linux")]
mod memory {
    use super::*;

    const CHILD: &str = "EDITMGT_TILES_CHILD";
    const SIDE: usize = 512;
    const MB: f64 = 1e6;

    /// Peak memory of this process in bytes.
    fn peak() -> f64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        let kibibytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes * 1024.0
    }

    /// Encodes and decodes a large image.
    fn compute(kind: &str) {
        let model = official(&[16, 16, 16]);
        let images = Tensor::<4>::ones([1, 3, SIDE, SIDE], &Device::flex()) * 0.5;
        let before = peak();
        let (tiles, none) = (Tiles::new(64, 10_000_000), Tiles::new(SIDE, 0));
        let tiles = if kind == "tiles" { tiles } else { none };
        let latents = model.encode_latents_tiled(images, tiles).unwrap();
        let decoded = model.decode_unclipped_tiled(latents, tiles).unwrap();
        assert_eq!(decoded.dims(), [1, 3, SIDE, SIDE]);
        println!("peak {}", peak() - before);
    }

    fn measure(kind: &str) -> f64 {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tiles::tests::memory::tiles_bound_the_memory", "--nocapture"])
            .env(CHILD, kind)
            // Freed memory goes back to the system and is not counted twice.
            .env("MALLOC_ARENA_MAX", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = text.lines().find_map(|line| line.split_once("peak ")).map(|(_, bytes)| bytes);
        found.unwrap_or_else(|| panic!("{kind}: {text}{:?}", output.stderr)).trim().parse().unwrap()
    }

    #[test]
    fn tiles_bound_the_memory() {
        if let Ok(kind) = std::env::var(CHILD) {
            return compute(&kind);
        }
        let (tiles, whole) = (measure("tiles"), measure("whole"));
        // One activation of the finest level is 16 * 512² * 4 bytes = 17 MB; the whole has three.
        assert!(whole > 47.0 * MB, "whole: {} MB", whole / MB);
        // Stored activations, 10 MB, the image that is read and the one that is written, 3 MB each,
        // and some of a tile with its margin, 0.6 MB each; the rest is the allocator's.
        assert!(tiles < 30.0 * MB, "tiles: {} MB", tiles / MB);
    }
}
