//! Gemma2 up to its penultimate hidden state.

use burn::tensor::{DType, Device};
use editmgt::{load_component, read_config};
use editmgt_text::Gemma2Config;

use super::tokenizers::token_ids;
use super::{Comparison, GoldenFolder, VerifyError};

/// Hidden states are of order 1 to 10, and each layer adds up hundreds of products per value.
const TOLERANCE: f64 = 1e-4;

pub(super) fn verify(
    folder: &GoldenFolder,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let config = read_config(folder.dir(), "config.json", Gemma2Config::from_json)?;
    let build = || Ok((config.keys(), config.init(device)?));
    let model = load_component(folder.dir(), DType::F32, build)?;

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
