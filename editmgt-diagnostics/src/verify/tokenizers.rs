//! Both tokenisers, and the official search for a keyword.

use std::collections::BTreeMap;

use editmgt_text::{PromptTokenizer, TokenIds, clip_keyword_rows};
use serde::Deserialize;

use super::{Comparison, GoldenFolder, VerifyError};

/// An official keyword search and its result.
#[derive(Deserialize)]
struct Query {
    prompt: String,
    query: String,
    positions: Vec<usize>,
}

pub(super) fn verify(folder: &GoldenFolder) -> Result<Vec<Comparison>, VerifyError> {
    let component = VerifyError::component;
    let clip = PromptTokenizer::clip(&folder.dir().join("clip_tokenizer")).map_err(component)?;
    let gemma = PromptTokenizer::gemma(&folder.dir().join("gemma_tokenizer")).map_err(component)?;

    let mut comparisons = Vec::new();
    for (number, prompt) in folder.meta::<BTreeMap<usize, String>>("/prompts")? {
        for (name, tokenizer) in [("clip_ids", &clip), ("gemma_ids", &gemma)] {
            let name = format!("prompt{number}.{name}");
            let expected = token_ids(folder, &name)?;
            let got = tokenizer.encode(&[&prompt])?;
            comparisons.push(Comparison::decisions(name, got.ids(), expected.ids()));
        }
    }
    for (number, query) in folder.meta::<BTreeMap<usize, Query>>("/query")? {
        let Query { prompt, query, positions } = query;
        let rows = clip_keyword_rows(&clip, &prompt, &query)?;
        let name = format!("query{number}.positions ({query:?})");
        comparisons.push(found(name, &rows, &positions));
    }
    Ok(comparisons)
}

/// An expected empty result is correct, too.
fn found(name: String, rows: &[usize], positions: &[usize]) -> Comparison {
    match positions {
        [] => Comparison::decisions(name, &[rows.is_empty()], &[true]),
        _ => Comparison::decisions(name, rows, positions),
    }
}

/// An integer tensor `[B, L]` as token ids.
pub(super) fn token_ids(folder: &GoldenFolder, name: &str) -> Result<TokenIds, VerifyError> {
    let error = |what| VerifyError::golden(folder.dir().join("golden.safetensors"), what);
    let golden = folder.ints(name)?;
    let [_, length] = golden.shape[..] else {
        return Err(error(format!("{name}: expected [B, L], got {:?}", golden.shape)));
    };
    let ids = golden
        .values
        .into_iter()
        .map(|id| u32::try_from(id).map_err(|_| error(format!("{name}: token {id}"))))
        .collect::<Result<_, _>>()?;
    Ok(TokenIds::new(length, ids)?)
}
