//! Transfers between host and device within a step.

use std::fs;
use std::path::Path;

use editmgt::sampler::Consolidator;
use editmgt::{ChaChaNoise, EditLoop, GridSize, LoopInput, LoopStages, MgtTransformer, StepPlan};
use editmgt_core::Transfers;

use crate::cached_steps::{Edit, model};

/// Whether each step was partial, and its transfers.
fn transfers(edit: &Edit, transformer: &dyn MgtTransformer) -> Vec<(bool, Transfers)> {
    let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(3));
    let stages = LoopStages::new(transformer, &edit.scheduler, &consolidator, &*edit.hold, &noise);
    let mut run = EditLoop::new(stages, edit.input.clone()).unwrap();
    let mut counts = Vec::new();
    while !run.is_done() {
        let before = Transfers::so_far();
        let step = run.step().unwrap();
        let after = Transfers::so_far();
        let transfers = Transfers {
            uploads: after.uploads - before.uploads,
            read_backs: after.read_backs - before.read_backs,
        };
        counts.push((step.partial.is_some(), transfers));
    }
    counts
}

/// A step reads the drawn tokens, and in a full step the attention that decides what is held. It
/// sends its input once and the draws once; a partial step also sends where its logits belong.
fn check_transfers(transformer: &dyn MgtTransformer, edit: &Edit, scores: bool) {
    let LoopInput { step_plan, guidance_scale, guidance_reuse, .. } = edit.input;
    let name = format!("{step_plan}, guidance {guidance_scale}, reused {guidance_reuse}, {scores}");
    let counts = transfers(edit, transformer);
    let any_partial = counts.iter().any(|(is_partial, _)| *is_partial);
    assert_eq!(any_partial, step_plan != StepPlan::Exact, "{name}");
    let kept = guidance_reuse && guidance_scale > 1.0 && any_partial;
    for (step, (is_partial, got)) in counts.into_iter().enumerate() {
        // A full step whose guidance is kept has two passes.
        let uploads = 2 + usize::from(kept) + usize::from(is_partial);
        // Positions and key weights stay on the device.
        let first = if step == 0 { 3 } else { 0 };
        assert!(got.uploads <= uploads + first, "{name}, step {step}: {got:?}");
        // Once every masked token is held, none is drawn.
        let read_backs = 1 + usize::from(scores && !is_partial);
        assert!(got.read_backs <= read_backs, "{name}, step {step}: {got:?}");
        assert!(step > 0 || got.read_backs == read_backs, "{name}: {got:?}");
    }
}

#[test]
fn a_step_waits_for_the_device_once() {
    let cached = StepPlan::Cached { warm_up: 1, refresh: 4 };
    let bits = |case: usize, bit: usize| case >> bit & 1 == 1;
    for resample in [false, true] {
        let model = model(resample);
        for case in 0..16 {
            // An odd grid has slots outside of it.
            let edit = Edit::new(&model, 2, GridSize::new(5, 6));
            let scores = bits(case, 0);
            let mut edit = if scores { edit } else { edit.masked(&model) };
            edit.input.guidance_scale = if bits(case, 1) { 3.0 } else { 1.0 };
            edit.input.guidance_reuse = bits(case, 2);
            edit.input.step_plan = if bits(case, 3) { cached } else { StepPlan::Exact };
            check_transfers(&model, &edit, scores);
        }
    }
}

/// Functions that transfer data, which [`Transfers`] doesn't count.
const UNCOUNTED: [&str; 9] = [
    "from_data(",
    "from_floats(",
    "from_ints(",
    "from_bytes(",
    "into_data(",
    "to_data(",
    "into_vec",
    "into_scalar",
    "iter_dim(",
];

/// Files that transfer outside a step, with the reason.
const OUTSIDE_STEPS: [(&str, &str); 8] = [
    ("editmgt-transformer/src/meissonic/lora/", "loading and saving adapters"),
    ("editmgt-kernels/src/host.rs", "storage of flex, which is in the host's memory"),
    ("editmgt-kernels/src/testing.rs", "tests"),
    ("editmgt-kernels/src/norm.rs", "statistics of a codec's tiles"),
    ("editmgt-kernels/src/likelihood.rs", "losses of training"),
    ("editmgt-kernels/src/nearest.rs", "codes of a codec on flex"),
    ("editmgt-kernels/src/quantized/mod.rs", "quantised weights, which only flex reads"),
    ("editmgt-kernels/src/attention.rs", "KeyWeights::on and KeyPlaces::on, for single calls"),
];

#[test]
fn the_code_of_a_step_has_no_uncounted_transfers() {
    let mut found = Vec::new();
    for folder in ["editmgt-transformer/src", "editmgt-sampler/src", "editmgt-kernels/src"] {
        visit(&Path::new("..").join(folder), &mut found);
    }
    assert!(found.is_empty(), "through editmgt_core::Upload and read_back instead: {found:#?}");
}

fn visit(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_string_lossy().replace('\\', "/");
        if OUTSIDE_STEPS.iter().any(|(outside, _)| name.contains(outside.trim_end_matches('/'))) {
            continue;
        }
        if path.is_dir() {
            visit(&path, found);
            continue;
        }
        if name.ends_with("tests.rs") || !name.ends_with(".rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (line, code) in code.lines().enumerate() {
            let is_comment = code.trim_start().starts_with("//");
            if !is_comment && UNCOUNTED.iter().any(|call| code.contains(call)) {
                found.push(format!("{name}:{}: {}", line + 1, code.trim()));
            }
        }
    }
}
