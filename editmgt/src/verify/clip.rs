//! The CLIP text tower.

use burn::tensor::{DType, Device};
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_text::ClipTextConfig;

use super::tokenizers::token_ids;
use super::{Comparison, GoldenFolder, VerifyError};

/// Hidden states are of order 1, and a tower adds up hundreds of products per value.
const TOLERANCE: f64 = 1e-4;

pub(super) fn verify(
    folder: &GoldenFolder,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let path = folder.dir().join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|source| VerifyError::Io { path, source })?;
    let config = ClipTextConfig::from_json(&text).map_err(VerifyError::component)?;
    let files = WeightFiles::open(folder.dir()).map_err(VerifyError::component)?;
    let module = config.init(device).map_err(VerifyError::component)?;
    let model =
        load_module(module, &files, &config.keys(), DType::F32).map_err(VerifyError::component)?;

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
