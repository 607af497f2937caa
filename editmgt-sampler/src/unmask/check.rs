use editmgt_core::{Error, GridSize, HoldMask, Result, StepState, TokenDraw};

/// Checks that the inputs of a step match each other and that all values are valid, except logits,
/// which are checked when they are read.
pub(super) fn check(state: &StepState<'_>) -> Result<()> {
    let StepState { schedule, step, tokens, noise, .. } = state;
    let steps = schedule.len();
    for (what, list) in
        [("mask ratios", &schedule.mask_ratios), ("temperatures", &schedule.temperatures)]
    {
        if list.len() != steps {
            return Err(Error::shape(what, steps, list.len()));
        }
    }
    if *step >= steps {
        return Err(Error::value("step", format!("below {steps}"), step));
    }
    let (batch, n) = (tokens.batch(), tokens.size().len());
    let [logits_batch, logits_n, codes] = state.logits.dims();
    if batch * n * codes == 0 || [logits_batch, logits_n] != [batch, n] {
        let expected = format!("[{batch}, {n}, codes], none of them 0");
        return Err(Error::shape("logits", expected, format!("{:?}", state.logits.dims())));
    }
    if let Some(hold) = state.hold {
        check_hold(state, hold, codes)?;
    }
    match &noise.draw {
        TokenDraw::Uniforms(draw) => check_uniforms("uniforms of the draw", draw, batch * n)?,
        TokenDraw::Tokens(replay) => {
            same_grid("replayed draw", state, replay.batch(), replay.size())?
        }
    }
    if step + 1 == steps {
        return Ok(());
    }
    check_uniforms("uniforms of the confidence", &noise.confidence, batch * n)
}

fn check_hold(state: &StepState<'_>, hold: &HoldMask, codes: usize) -> Result<()> {
    same_grid("hold mask", state, hold.batch(), hold.size())?;
    let mut held = hold.held().iter().enumerate().filter(|(_, held)| **held);
    let Some(reference) = state.reference else {
        return match held.next() {
            Some(_) => Err(Error::value("hold", "the photo's tokens to hold", "no reference")),
            None => Ok(()),
        };
    };
    same_grid("reference tokens", state, reference.batch(), reference.size())?;
    match held.find(|(position, _)| reference.ids()[*position] as usize >= codes) {
        Some((position, _)) => {
            Err(Error::TokenOutOfRange { id: reference.ids()[position], position, limit: codes })
        }
        None => Ok(()),
    }
}

fn same_grid(
    what: &'static str,
    state: &StepState<'_>,
    batch: usize,
    size: GridSize,
) -> Result<()> {
    let tokens = state.tokens;
    if (batch, size) != (tokens.batch(), tokens.size()) {
        let expected = format!("{} of {}", tokens.batch(), tokens.size());
        return Err(Error::shape(what, expected, format!("{batch} of {size}")));
    }
    Ok(())
}

fn check_uniforms(what: &'static str, uniforms: &[f32], expected: usize) -> Result<()> {
    if uniforms.len() != expected {
        return Err(Error::shape(what, expected, uniforms.len()));
    }
    match uniforms.iter().find(|u| !(0.0..1.0).contains(*u)) {
        Some(u) => Err(Error::value(what, "values in [0, 1)", u)),
        None => Ok(()),
    }
}
