use editmgt_core::{Error, Result, TokenGrid};

/// The forward process of a masked model: replaces each token by `mask_token` with probability
/// `mask_ratio`, independently.
///
/// `uniforms` has a value in [0, 1) for each token, row-major; tokens with a value below the ratio
/// are masked. Source: the official scheduler's `add_noise`, which takes the ratio of a step from
/// [`MaskingSchedule::mask_ratio`](crate::MaskingSchedule::mask_ratio).
///
/// # Errors
/// [`Error::Shape`] for a wrong number of uniforms, [`Error::Value`] for a ratio outside 0..=1.
pub fn add_noise(
    tokens: &TokenGrid,
    mask_ratio: f32,
    uniforms: &[f32],
    mask_token: u32,
) -> Result<TokenGrid> {
    if uniforms.len() != tokens.ids().len() {
        return Err(Error::shape("uniforms", tokens.ids().len(), uniforms.len()));
    }
    if !(0.0..=1.0).contains(&mask_ratio) {
        return Err(Error::value("mask ratio", "0..=1", mask_ratio));
    }
    let mut noisy = tokens.clone();
    for (id, &u) in noisy.ids_mut().iter_mut().zip(uniforms) {
        if u < mask_ratio {
            *id = mask_token;
        }
    }
    Ok(noisy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use editmgt_core::GridSize;

    #[test]
    fn masks_tokens_whose_uniform_is_below_the_ratio() {
        let tokens = TokenGrid::new(1, GridSize::new(1, 4), vec![1, 2, 3, 4]).unwrap();
        let uniforms = [0.0, 0.49, 0.5, 0.99];
        for (ratio, expected) in [(0.0, [1, 2, 3, 4]), (0.5, [9, 9, 3, 4]), (1.0, [9; 4])] {
            assert_eq!(add_noise(&tokens, ratio, &uniforms, 9).unwrap().ids(), expected);
        }
        assert!(add_noise(&tokens, 0.5, &uniforms[1..], 9).is_err());
        assert!(add_noise(&tokens, f32::NAN, &uniforms, 9).is_err());
    }
}
