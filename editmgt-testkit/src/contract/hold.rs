use editmgt_core::{Error, GridSize, HoldRequest, RegionHold, ScoreMap, UserMask};

use super::{Case, Checked, is_shape, uniforms};

/// Panics with the broken rule: see [`check_hold`].
///
/// # Panics
/// When a rule is broken.
#[track_caller]
pub fn assert_hold_contract(hold: &dyn RegionHold) {
    if let Err(violation) = check_hold(hold) {
        panic!("{violation}");
    }
}

/// Checks a [`RegionHold`]: the mask has the batch and grid of the scores, the same request gives
/// the same mask, images of a batch are judged by themselves, and a user's mask of another grid is
/// refused. A policy that needs a user's mask may refuse to do without.
///
/// # Errors
/// The first broken rule.
pub fn check_hold(hold: &dyn RegionHold) -> Checked {
    for size in [GridSize::new(4, 8), GridSize::new(16, 16), GridSize::new(3, 5)] {
        let maps = [object(size), flat(size), noise(size)];
        let mask = UserMask::new(size, (0..size.len()).map(|i| (i % 2) as f32).collect());
        let mask = Case("a checkerboard").succeeds("a mask of 0 and 1 is valid", mask)?;
        for mask in [None, Some(&mask)] {
            let name = format!("{size}, {} user's mask", if mask.is_some() { "a" } else { "no" });
            let case = Case(&name);
            let scores = map(case, maps.len(), size, maps.concat())?;
            let request = HoldRequest::first(&scores, mask);
            let held = match hold.hold(&request) {
                Err(Error::Value { .. }) if mask.is_none() => continue,
                held => case.succeeds("a valid request is answered", held)?,
            };
            let shape = (held.batch(), held.size());
            case.require("the mask has the scores' shape", shape == (maps.len(), size), shape)?;
            let again = case.succeeds("a valid request is answered", hold.hold(&request))?;
            case.require("the same request gives the same mask", held == again, "another mask")?;
            for (image, values) in maps.iter().enumerate() {
                let scores = map(case, 1, size, values.clone())?;
                let request = HoldRequest::first(&scores, mask);
                let single = case.succeeds("a valid request is answered", hold.hold(&request))?;
                let same = single.held() == &held.held()[image * size.len()..][..size.len()];
                case.require("images are judged by themselves", same, image)?;
            }
        }
        let case = Case("a user's mask of another grid");
        let other = UserMask::new(GridSize::new(1, 1), vec![1.0]);
        let other = case.succeeds("a mask of one token is valid", other)?;
        let scores = map(case, 1, size, object(size))?;
        match hold.hold(&HoldRequest::first(&scores, Some(&other))) {
            // A policy that does not read the mask has nothing to refuse.
            Ok(held) => case.require(
                "the mask has the scores' shape",
                (held.batch(), held.size()) == (1, size),
                held.size(),
            )?,
            result => case.refuses("another grid is refused as a shape", result, is_shape)?,
        }
    }
    Ok(())
}

fn map(
    case: Case<'_>,
    batch: usize,
    size: GridSize,
    values: Vec<f32>,
) -> Result<ScoreMap, super::ContractViolation> {
    case.succeeds("a map of finite scores is valid", ScoreMap::new(batch, size, values))
}

/// A bright rectangle on a dark ground.
fn object(size: GridSize) -> Vec<f32> {
    let inside = |i: usize| i % size.width < size.width / 2 && i / size.width < size.height / 2;
    (0..size.len()).map(|i| if inside(i) { 0.9 } else { 0.01 * (i % 3) as f32 }).collect()
}

fn flat(size: GridSize) -> Vec<f32> {
    vec![0.5; size.len()]
}

fn noise(size: GridSize) -> Vec<f32> {
    uniforms(5, size.len())
}
