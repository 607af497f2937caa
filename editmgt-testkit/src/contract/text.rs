use burn::tensor::Tensor;
use editmgt_core::{Error, TextEncoder};

use super::{Case, Checked, ContractViolation, is_shape};

/// Panics with the broken rule: see [`check_text_encoder`].
///
/// # Panics
/// When a rule is broken.
#[track_caller]
pub fn assert_text_encoder_contract(encoder: &dyn TextEncoder, prompt: &str, phrase: &str) {
    if let Err(violation) = check_text_encoder(encoder, prompt, phrase) {
        panic!("{violation}");
    }
}

/// Checks a [`TextEncoder`] with a `prompt` that it knows and a `phrase` of it: features have the
/// extents that its spec says and are finite, the same prompt gives the same features alone, twice
/// and in a batch, the empty prompt is allowed, spans lie within the prompt's rows, and an unknown
/// phrase and an empty batch are refused.
///
/// # Errors
/// The first broken rule.
pub fn check_text_encoder(encoder: &dyn TextEncoder, prompt: &str, phrase: &str) -> Checked {
    let case = Case(prompt);
    let spec = encoder.spec();
    let alone = case.succeeds("a prompt is encoded", encoder.encode(&[prompt]))?;
    let both = case.succeeds("a batch is encoded", encoder.encode(&[prompt, ""]))?;
    for (features, batch) in [(&alone, 1), (&both, 2)] {
        let shape = (features.hidden.dims(), features.pooled.dims());
        let expected = ([batch, spec.rows, spec.hidden_size], [batch, spec.pooled_size]);
        case.require("features have the shape of the spec", shape == expected, shape)?;
    }
    let hidden = numbers(case, alone.hidden.clone())?;
    let pooled = numbers(case, alone.pooled.clone())?;
    let again = case.succeeds("a prompt is encoded twice", encoder.encode(&[prompt]))?;
    let same = hidden == numbers(case, again.hidden)? && pooled == numbers(case, again.pooled)?;
    case.require("the same prompt gives the same features", same, "other features")?;
    let first = numbers(case, both.hidden.narrow(0, 0, 1))?;
    // Kernels may sum in another order for another batch.
    let near = hidden.iter().zip(&first).all(|(a, b)| (a - b).abs() <= 1e-3 * a.abs().max(1.0));
    case.require("a prompt has the same features in a batch", near, "other features")?;
    let each =
        case.succeeds("prompts are encoded one by one", encoder.encode_each(&[prompt, ""]))?;
    case.require("each prompt has features", each.len() == 2, each.len())?;
    let result = encoder.encode(&[]);
    case.refuses("an empty batch is refused as a shape", result, is_shape)?;

    let rows = case.succeeds("a prompt has rows", encoder.prompt_rows(prompt))?;
    let inside = rows.start < rows.end && rows.end <= spec.rows;
    case.require("a prompt's rows lie in the sequence", inside, &rows)?;
    let empty = case.succeeds("the empty prompt has rows", encoder.prompt_rows(""))?;
    case.require("the empty prompt has no rows", empty.is_empty(), &empty)?;
    let spans = case.succeeds("a phrase of the prompt is found", encoder.spans(prompt, phrase))?;
    case.require("a phrase has a span", !spans.is_empty(), &spans)?;
    for span in &spans {
        let inside = span.start < span.end && rows.start <= span.start && span.end <= rows.end;
        case.require("spans lie in the prompt's rows", inside, (span, &rows))?;
    }
    for missing in ["", "no such phrase in this prompt"] {
        let result = encoder.spans(prompt, missing);
        let unknown = |error: &Error| matches!(error, Error::PhraseNotFound { .. });
        case.refuses("a phrase that is not there is refused", result, unknown)?;
    }
    Ok(())
}

fn numbers<const D: usize>(
    case: Case<'_>,
    tensor: Tensor<D>,
) -> Result<Vec<f32>, ContractViolation> {
    let values = tensor.try_into_vec_as::<f32>();
    let values =
        values.map_err(|error| case.violation("features can be read", format!("{error:?}")))?;
    case.require("features are finite", values.iter().all(|v| v.is_finite()), "NaN or infinity")?;
    Ok(values)
}
