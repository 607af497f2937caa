//! Shared parsing of Hugging Face configs.

use editmgt::config::{self, ConfigError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(super) type Object = Map<String, Value>;

/// Keys that do not affect the features: those that `PretrainedConfig` writes into every config
/// (names and versions, outputs, labels, text generation), training rates and initialisation, and a
/// backbone's outputs.
pub(super) const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "apply_layernorm",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "drop_path_rate",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_stride",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout_prob",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "layerscale_value",
    "length_penalty",
    "logit_scale_init_value",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "out_features",
    "out_indices",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "pooler_act",
    "pooler_output_size",
    "prefix",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "reshape_hidden_states",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "stage_names",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_mask_token",
];

/// Reads a config whose `model_type` is `expected` or another of these.
pub(super) fn of_type(
    component: &'static str,
    text: &str,
    expected: &[&str],
) -> Result<(String, Object), ConfigError> {
    let object: Object = config::parse(component, text, &[])?;
    match object.get("model_type") {
        Some(Value::String(got)) if expected.contains(&got.as_str()) => Ok((got.clone(), object)),
        got => {
            let got = got.map_or("none".to_owned(), Value::to_string);
            let expected = expected.join(" or ");
            Err(ConfigError::unsupported(component, "model_type", expected, got))
        }
    }
}

/// Completes a config with the defaults of the library's class, which omits keys with default
/// values when it writes one.
pub(super) fn complete<T: DeserializeOwned>(
    component: &'static str,
    mut defaults: Value,
    values: Object,
) -> Result<T, ConfigError> {
    defaults.as_object_mut().expect("defaults are an object").extend(values);
    config::parse(component, &defaults.to_string(), HARMLESS)
}
