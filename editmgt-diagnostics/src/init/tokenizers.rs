//! Byte-level tokenisers without merges, in the files that the official folders have.

use std::path::Path;

use editmgt::ModelError;
use serde_json::{Map, Value, json};

use super::write_text;

/// The printable symbol of each byte in byte-level BPE, in the order of the released vocabulary:
/// first the printable bytes themselves, then the rest from code point 256 on.
fn byte_symbols() -> Vec<char> {
    let printable: Vec<u32> = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let others = 256 - printable.len() as u32;
    printable.into_iter().chain(256..256 + others).filter_map(char::from_u32).collect()
}

/// `vocab.json`, `merges.txt` and the special tokens of a CLIP tokenizer: every byte, within and at
/// the end of a word; start and end of text are the last two of `vocab_size` ids.
pub(super) fn write_clip(dir: &Path, vocab_size: usize) -> Result<(), ModelError> {
    let symbols = byte_symbols();
    let inner = symbols.iter().map(char::to_string);
    let last = symbols.iter().map(|symbol| format!("{symbol}</w>"));
    let mut vocab: Map<String, Value> =
        inner.chain(last).enumerate().map(|(id, symbol)| (symbol, json!(id))).collect();
    let (start, end) = ("<|startoftext|>", "<|endoftext|>");
    vocab.insert(start.into(), json!(vocab_size - 2));
    vocab.insert(end.into(), json!(vocab_size - 1));
    let special = json!({"bos_token": start, "eos_token": end, "pad_token": "!", "unk_token": end});
    let mut config = special.clone();
    config["model_max_length"] = json!(77);
    config["tokenizer_class"] = json!("CLIPTokenizer");
    write_text(&dir.join("vocab.json"), &Value::Object(vocab).to_string())?;
    write_text(&dir.join("merges.txt"), "#version: 0.2\n")?;
    write_text(&dir.join("special_tokens_map.json"), &format!("{special:#}\n"))?;
    write_text(&dir.join("tokenizer_config.json"), &format!("{config:#}\n"))
}

/// `tokenizer.json` of a Gemma tokenizer: the four special tokens, then every byte.
pub(super) fn write_gemma(dir: &Path) -> Result<(), ModelError> {
    let special = ["<pad>", "<eos>", "<bos>", "<unk>"];
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let names = special.iter().map(|&name| name.to_owned()).chain(bytes);
    let vocab: Map<String, Value> = names.enumerate().map(|(id, n)| (n, json!(id))).collect();
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let begin = json!({"SpecialToken": {"id": "<bos>", "type_id": 0}});
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocab, "merges": [],
        },
    });
    let config = json!({
        "add_bos_token": true, "add_eos_token": false, "bos_token": "<bos>",
        "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
        "padding_side": "left", "tokenizer_class": "GemmaTokenizer",
    });
    write_text(&dir.join("tokenizer.json"), &tokenizer.to_string())?;
    write_text(&dir.join("tokenizer_config.json"), &format!("{config:#}\n"))
}
