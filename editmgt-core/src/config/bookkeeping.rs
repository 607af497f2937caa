//! The keys of a component's `config.json` that don't change what it computes.
//!
//! transformers and diffusers write every attribute of a config object, also those of the library
//! itself, of training and of text generation. This list holds for all components; a key that a
//! component reads is never bookkeeping there.

/// Whether `key` has no effect on the computation, whatever its value.
pub(super) fn is_bookkeeping(key: &str) -> bool {
    // Both libraries mark their own attributes so: `_class_name`, `_diffusers_version`,
    // `_name_or_path`, …
    let groups = [GENERIC, GENERATION, TRAINING, IMAGE_TASKS, AVERAGED_WEIGHTS];
    key.starts_with('_') || groups.iter().any(|group| group.contains(&key))
}

/// Attributes of transformers' `PretrainedConfig`, versions 4.44 to 5: names and versions, what a
/// call returns, labels, special ids (the tokeniser has its own), how code is run. `pruned_heads`
/// and `quantization_config` are not here: they change weights.
const GENERIC: &[&str] = &[
    "add_cross_attention",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "dtype",
    "eos_token_id",
    "experts_implementation",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "prefix",
    "problem_type",
    "return_dict",
    "sep_token_id",
    "task_specific_params",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
    "xla_device",
];

/// How text is generated: written into model configs up to 4.5x, although only `generate` reads it.
const GENERATION: &[&str] = &[
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_implementation",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_decoder_ids",
    "forced_eos_token_id",
    "guidance_scale",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_logits",
    "output_scores",
    "penalty_alpha",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Rates and initialisation of training.
const TRAINING: &[&str] = &[
    "attention_dropout",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "drop_path_rate",
    "dropout",
    "hidden_dropout_prob",
    "initializer_factor",
    "initializer_range",
    "layerscale_value",
    "logit_scale_init_value",
    "use_mask_token",
];

/// What vision models give out beside the features that are read here.
const IMAGE_TASKS: &[&str] = &[
    "apply_layernorm",
    "encoder_stride",
    "out_features",
    "out_indices",
    "pooler_act",
    "pooler_output_size",
    "reshape_hidden_states",
    "stage_names",
];

/// diffusers' `EMAModel` saves the state of the average into the config of the weights.
const AVERAGED_WEIGHTS: &[&str] = &[
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
];
