//! Folders that recorded pipelines share and that have no recordings themselves: a scheduler's
//! config, tokenisers. They are read.

use std::path::Path;

use editmgt::read_config;
use editmgt_sampler::SchedulerConfig;
use editmgt_text::PromptTokenizer;

use super::{Comparison, GoldenStage, Verification, VerifyError};

const SCHEDULER: &str = "scheduler_config.json";

/// `None` for a folder with recordings, or of another kind.
pub(super) fn verify(dir: &Path) -> Result<Option<Verification>, VerifyError> {
    if dir.join("golden.safetensors").exists() {
        return Ok(None);
    }
    let (stage, read) = if dir.join(SCHEDULER).is_file() {
        read_config(dir, SCHEDULER, SchedulerConfig::from_json)?;
        (GoldenStage::Scheduler, vec![SCHEDULER])
    } else {
        let mut read = Vec::new();
        let component = VerifyError::component;
        for (name, open) in [
            ("clip_tokenizer", PromptTokenizer::clip as fn(&Path) -> _),
            ("gemma_tokenizer", PromptTokenizer::gemma),
        ] {
            let dir = dir.join(name);
            if dir.is_dir() {
                open(&dir).map_err(component)?;
                read.push(name);
            }
        }
        (GoldenStage::Tokenizers, read)
    };
    if read.is_empty() {
        return Ok(None);
    }
    let line = |name| Comparison::decisions(format!("{name} is read"), &[true], &[true]);
    let comparisons = read.into_iter().map(line).collect();
    Ok(Some(Verification { folder: dir.to_owned(), stage, comparisons }))
}
