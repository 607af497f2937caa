use crate::EvalError;

/// The positions with at least this score.
pub fn above(scores: &[f32], threshold: f32) -> Vec<bool> {
    scores.iter().map(|&score| score >= threshold).collect()
}

/// Intersection over union, 0..=1; `None` if both are empty.
///
/// # Errors
/// [`EvalError::Size`] when the two differ in length.
pub fn iou(found: &[bool], truth: &[bool]) -> Result<Option<f64>, EvalError> {
    if found.len() != truth.len() {
        let (expected, got) = (truth.len().to_string(), found.len().to_string());
        return Err(EvalError::Size { what: "positions", expected, got });
    }
    let count = |both: fn(bool, bool) -> bool| {
        found.iter().zip(truth).filter(|(a, b)| both(**a, **b)).count() as f64
    };
    let union = count(|a, b| a | b);
    Ok((union > 0.0).then(|| count(|a, b| a & b) / union))
}
