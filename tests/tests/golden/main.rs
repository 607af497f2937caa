//! Every stage against the official implementation's values.
#![forbid(unsafe_code)]

mod adapters;
mod amused;
mod batch;
mod cached_steps;
mod custom;
mod defaults;
mod edit_batch;
mod engine;
mod folders;
mod full_size;
mod geometry;
mod half_precision;
mod invariants;
mod jobs;
mod low_memory;
mod parts;
mod preproc;
mod relatives;
mod seam;
mod text;
mod transfers;
mod untouched;
mod visible;

use std::path::Path;

use burn::tensor::Device;
use editmgt_diagnostics::verify::{GoldenStage, verify};

/// Verifies a folder: the right stage, at least this many comparisons, all of them passing.
fn check(name: &str, stage: GoldenStage, at_least: usize) {
    let dir = editmgt_tests::golden(name).unwrap_or_else(|| panic!("no golden folder {name}"));
    check_folder(&dir, stage, at_least);
}

fn check_folder(dir: &Path, stage: GoldenStage, at_least: usize) {
    let name = dir.display();
    let verification = verify(dir, &Device::flex()).unwrap();
    assert_eq!(verification.stage, stage);
    let comparisons = &verification.comparisons;
    assert!(comparisons.len() >= at_least, "{name}: only {} comparisons", comparisons.len());
    let failed: Vec<_> = comparisons.iter().filter(|comparison| !comparison.pass).collect();
    assert!(failed.is_empty(), "{name}: {failed:#?}");
}

macro_rules! golden {
    ($($test:ident: $stage:ident, $at_least:literal;)*) => {
        $(#[test]
        fn $test() {
            check(stringify!($test), GoldenStage::$stage, $at_least);
        })*
    };
}

golden! {
    vq3: VqCodec, 12;
    vq5: VqCodec, 12;
    clip: Clip, 3;
    gemma2: Gemma2, 3;
    tokenizers: Tokenizers, 12;
    transformer_down_linear: Transformer, 4;
    transformer_nodown_none: Transformer, 6;
    scheduler: Scheduler, 40;
    localisation: Localisation, 40;
    preproc: ImagePreparation, 8;
    pipeline_edit_clip_nodown: Pipeline, 30;
    pipeline_edit_gemma_down: Pipeline, 30;
    pipeline_inpaint_clip_nodown: Pipeline, 20;
    pipeline_t2i_clip_nodown: Pipeline, 20;
}
