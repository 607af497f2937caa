//! Transfers between host and device within a step.

use std::fs;
use std::path::Path;

use editmgt::sampler::{Consolidator, HoldUserMask};
use editmgt::{ChaChaNoise, EditLoop, GridSize, LoopStages, RegionHold, StepPlan};
use editmgt_core::Transfers;

use crate::cached_steps::{Edit, model};

/// The transfers of each step, and whether it was partial.
fn transfers(
    edit: &Edit,
    plan: StepPlan,
    transformer: &editmgt_transformer::MgtModel,
) -> Vec<(bool, Transfers)> {
    let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(3));
    let stages = LoopStages::new(transformer, &edit.scheduler, &consolidator, &*edit.hold, &noise);
    let mut run = EditLoop::new(stages, edit.input.clone().with_step_plan(plan)).unwrap();
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

/// A step reads the drawn tokens, and in a full step the attention that decides what is held. It sends
/// its input once and the draws once; a partial step also sends where its logits belong.
#[test]
fn a_step_waits_for_the_device_once() {
    let cached = StepPlan::Cached { warm_up: 1, refresh: 4 };
    for resample in [false, true] {
        let model = model(resample);
        for guidance in [1.0, 3.0] {
            for reuse in [false, true] {
                for plan in [StepPlan::Exact, cached] {
                    for scores in [false, true] {
                        // An odd grid has slots outside of it.
                        let mut edit = Edit::new(&model, 2, GridSize::new(5, 6));
                        if !scores {
                            edit.hold = Box::new(HoldUserMask) as Box<dyn RegionHold>;
                        }
                        edit.input.guidance_scale = guidance;
                        edit.input.guidance_reuse = reuse;
                        let name = format!("{resample}, {guidance}, {reuse}, {plan}, {scores}");
                        let counts = transfers(&edit, plan, &model);
                        assert_eq!(
                            counts.iter().any(|(partial, _)| *partial),
                            plan != StepPlan::Exact
                        );
                        for (step, (partial, got)) in counts.into_iter().enumerate() {
                            let kept = reuse && guidance > 1.0 && plan != StepPlan::Exact;
                            // A full step whose guidance is kept has two passes.
                            let uploads = match (partial, kept) {
                                (false, false) => 2,
                                (false, true) | (true, false) => 3,
                                (true, true) => 4,
                            };
                            let read_backs = 1 + usize::from(scores && !partial);
                            // Positions and key weights stay on the device.
                            let first = if step == 0 { 3 } else { 0 };
                            assert!(got.uploads <= uploads + first, "{name}, step {step}: {got:?}");
                            assert_eq!(got.read_backs, read_backs, "{name}, step {step}");
                        }
                    }
                }
            }
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
const OUTSIDE_STEPS: [(&str, &str); 6] = [
    ("editmgt-transformer/src/meissonic/lora/", "loading and saving adapters"),
    ("editmgt-kernels/src/host.rs", "storage of flex, which is in the host's memory"),
    ("editmgt-kernels/src/testing.rs", "tests"),
    ("editmgt-kernels/src/norm.rs", "statistics of a codec's tiles"),
    ("editmgt-kernels/src/quantized.rs", "quantised weights, which only flex reads"),
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
