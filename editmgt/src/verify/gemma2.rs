//! Gemma2 up to its penultimate hidden state.

use burn::tensor::{DType, Device};
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_text::Gemma2Config;

use super::tokenizers::token_ids;
use super::{Comparison, GoldenFolder, VerifyError};

/// Hidden states are of order 1 to 10, and each layer adds up hundreds of products per value.
const TOLERANCE: f64 = 1e-4;

pub(super) fn verify(
    folder: &GoldenFolder,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let path = folder.dir().join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|source| VerifyError::Io { path, source })?;
    let config = Gemma2Config::from_json(&text).map_err(VerifyError::component)?;
    let files = WeightFiles::open(folder.dir()).map_err(VerifyError::component)?;
    let module = config.init(device).map_err(VerifyError::component)?;
    let model =
        load_module(module, &files, &config.keys(), DType::F32).map_err(VerifyError::component)?;

    let names = folder.names();
    let inputs = names.iter().filter_map(|name| name.strip_suffix(".input_ids"));
    let mut comparisons = Vec::new();
    for input in inputs {
        let states = model.hidden_states(&token_ids(folder, &format!("{input}.input_ids"))?)?;
        let numbered = states.iter().enumerate().map(|(i, state)| (i.to_string(), state));
        let last = states.last().map(|state| ("m2".to_owned(), state));
        for (number, state) in numbered.chain(last) {
            let name = format!("{input}.hidden_{number}");
            if folder.has(&name) {
                let expected = folder.floats(&name)?;
                comparisons.push(Comparison::tensor(state.clone(), &expected, TOLERANCE)?);
            }
        }
    }
    Ok(comparisons)
}
