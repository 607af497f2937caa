//! The CLIP text tower.

use burn::tensor::{DType, Device};
use editmgt::{load_component, read_config};
use editmgt_text::ClipTextConfig;

use super::tokenizers::token_ids;
use super::{Comparison, GoldenFolder, VerifyError};

/// Hidden states are of order 1, and a tower adds up hundreds of products per value.
const TOLERANCE: f64 = 1e-4;

pub(super) fn verify(
    folder: &GoldenFolder,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let config = read_config(folder.dir(), "config.json", ClipTextConfig::from_json)?;
    let build = || Ok((config.keys(), config.init(device)?));
    let model = load_component(folder.dir(), DType::F32, build)?;

    let output = model.forward(&token_ids(folder, "input_ids")?)?;
    Ok(vec![
        Comparison::tensor(output.penultimate, &folder.floats("hidden_m2")?, TOLERANCE)?,
        Comparison::tensor(output.text_embeds, &folder.floats("text_embeds")?, TOLERANCE)?,
        Comparison::tensor(
            output.last_hidden_state,
            &folder.floats("last_hidden_state")?,
            TOLERANCE,
        )?,
    ])
}
