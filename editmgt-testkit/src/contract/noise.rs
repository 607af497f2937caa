use editmgt_core::{GridSize, NoiseRequest, NoiseSource, StepNoise, TokenDraw};

use super::{Case, Checked, ContractViolation};

/// Panics with the broken rule: see [`check_noise`].
///
/// # Panics
/// When a rule is broken.
#[track_caller]
pub fn assert_noise_contract(noise: &dyn NoiseSource) {
    if let Err(violation) = check_noise(noise) {
        panic!("{violation}");
    }
}

/// Checks a [`NoiseSource`]: the same request gives the same draws in any order of requests, all
/// draws lie in [0, 1) and have the requested extent, steps differ, and a batch draws what its
/// images draw by themselves.
///
/// # Errors
/// The first broken rule.
pub fn check_noise(noise: &dyn NoiseSource) -> Checked {
    for (batch, size) in
        [(1, GridSize::new(4, 4)), (2, GridSize::new(3, 5)), (3, GridSize::new(1, 7))]
    {
        let name = format!("{batch} images of {size}");
        let case = Case(&name);
        let draw = |first_image, batch, step| {
            let request = NoiseRequest { first_image, batch, size, step };
            case.succeeds("a request has draws", noise.step_noise(&request))
        };
        let first = draw(0, batch, 0)?;
        check_extent(case, &first, batch * size.len())?;
        let second = draw(0, batch, 1)?;
        case.require("steps have draws of their own", first != second, "equal draws")?;
        let again = draw(0, batch, 0)?;
        case.require("the same request gives the same draws", first == again, "other draws")?;
        for image in 0..batch {
            let single = draw(image, 1, 0)?;
            let part = image * size.len()..(image + 1) * size.len();
            let same = draws(&single) == draws(&first)[part.clone()]
                && single.confidence == first.confidence[part];
            case.require("an image draws the same alone and in a batch", same, image)?;
        }
    }
    Ok(())
}

fn check_extent(case: Case<'_>, noise: &StepNoise, count: usize) -> Result<(), ContractViolation> {
    if let TokenDraw::Uniforms(uniforms) = &noise.draw {
        let inside = uniforms.iter().all(|u| (0.0..1.0).contains(u));
        case.require("uniforms of the draw lie in [0, 1)", inside, uniforms)?;
    }
    let inside = noise.confidence.iter().all(|u| (0.0..1.0).contains(u));
    case.require("uniforms of the confidence lie in [0, 1)", inside, &noise.confidence)?;
    let counts = (draws(noise).len(), noise.confidence.len());
    case.require("there is one draw per position", counts == (count, count), counts)
}

/// The draws as numbers that can be compared.
fn draws(noise: &StepNoise) -> Vec<u64> {
    match &noise.draw {
        TokenDraw::Uniforms(uniforms) => uniforms.iter().map(|u| u.to_bits().into()).collect(),
        TokenDraw::Tokens(tokens) => tokens.ids().iter().map(|&id| id.into()).collect(),
    }
}
