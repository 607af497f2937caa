use std::io::ErrorKind;
use std::path::Path;

use editmgt_store::StoreError;
use editmgt_transformer::LoraStreams;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::LoraError;

/// Config of an adapter, without its factors.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LoraConfig {
    /// Rows of A and columns of B, 1 or more.
    pub rank: usize,
    /// The product B A is multiplied by `alpha / rank`, before the scale of a request.
    pub alpha: f64,
    /// `alpha / sqrt(rank)` instead (PEFT's `use_rslora`).
    pub rank_stabilised: bool,
    /// The dropout of its training; unused at inference.
    pub dropout: f64,
}

impl LoraConfig {
    /// A config with PEFT's defaults: scaled by `alpha / rank`, without dropout.
    pub fn new(rank: usize, alpha: f64) -> Self {
        Self { rank, alpha, rank_stabilised: false, dropout: 0.0 }
    }

    /// Replaces the dropout of the training.
    #[must_use]
    pub fn with_dropout(self, dropout: f64) -> Self {
        Self { dropout, ..self }
    }

    /// The factor of the product at a scale of 1.
    pub fn strength(&self) -> f64 {
        if self.rank_stabilised {
            self.alpha / (self.rank as f64).sqrt()
        } else {
            self.alpha / self.rank as f64
        }
    }

    /// Reads PEFT's `adapter_config.json`. Keys that affect the result are checked; others, which
    /// vary between versions of PEFT, are ignored.
    pub(super) fn read(path: &Path) -> Result<Self, LoraError> {
        let text = editmgt_store::read_text(path)?;
        let value = serde_json::from_str(&text)
            .map_err(|e| LoraError::Config { path: path.to_owned(), problem: e.to_string() })?;
        Self::of(path, value)
    }

    /// The same for a parsed config; `path` is for errors.
    pub(super) fn of(path: &Path, value: Value) -> Result<Self, LoraError> {
        #[derive(Deserialize)]
        struct File {
            r: usize,
            lora_alpha: f64,
            #[serde(default)]
            lora_dropout: f64,
            #[serde(default)]
            use_rslora: bool,
        }
        let config = |e: serde_json::Error| LoraError::Config {
            path: path.to_owned(),
            problem: e.to_string(),
        };
        for (key, expected, is_fine) in [
            ("peft_type", "\"LORA\"", (|v| v.is_null() || v == "LORA") as fn(&Value) -> bool),
            ("init_lora_weights", PLAIN, keeps_base),
            ("bias", "\"none\"", |v| v.is_null() || v == "none"),
            ("fan_in_fan_out", "false", is_off),
            ("use_dora", "false", is_off),
            ("rank_pattern", "one rank for all layers", is_off),
            ("alpha_pattern", "one alpha for all layers", is_off),
            ("modules_to_save", "none", is_off),
            ("lora_bias", "false", is_off),
            ("trainable_token_indices", "none", is_off),
            ("layer_replication", "none", is_off),
            ("target_parameters", "none", is_off),
            ("alora_invocation_tokens", "none", is_off),
            ("use_qalora", "false", is_off),
            ("use_bdlora", "false", is_off),
            ("arrow_config", "none", is_off),
            ("megatron_config", "none", is_off),
        ] {
            let got = value.get(key).unwrap_or(&Value::Null);
            if !is_fine(got) {
                let (path, got) = (path.to_owned(), got.to_string());
                return Err(LoraError::Unsupported { path, key, expected, got });
            }
        }
        let File { r: rank, lora_alpha: alpha, lora_dropout: dropout, use_rslora } =
            serde_json::from_value(value).map_err(config)?;
        if rank == 0 || !alpha.is_finite() {
            let problem = format!("r {rank}, lora_alpha {alpha}: expected 1 or more and a number");
            return Err(LoraError::Config { path: path.to_owned(), problem });
        }
        Ok(Self { rank, alpha, rank_stabilised: use_rslora, dropout })
    }

    /// The `adapter_config.json` for these layers.
    pub(super) fn json(&self, layers: &[&str]) -> String {
        let value = json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": null,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": {},
            "revision": null,
            "target_modules": layers,
            "task_type": null,
            "use_dora": false,
            "use_rslora": self.rank_stabilised,
        });
        format!("{value:#}\n")
    }
}

/// Accepted values of `init_lora_weights`, for messages.
const PLAIN: &str = "true, false, gaussian, eva or orthogonal, which leave the base weights as they \
                     are; convert the adapter to a plain LoRA with PEFT's save_pretrained(..., \
                     path_initial_model_for_weight_conversion=...)";

/// Whether an initialisation keeps the base weights. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA
/// subtract the initial factors from them, so that the adapter requires a modified base.
fn keeps_base(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(kind) => {
            ["gaussian", "eva", "orthogonal"].contains(&kind.to_lowercase().as_str())
        }
        _ => false,
    }
}

/// Whether an option of PEFT is absent or disabled.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

/// Keys that PEFT's config lacks. They are in a separate file, because PEFT rejects unknown keys.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnConfig {
    pub(super) streams: LoraStreams,
}

impl OwnConfig {
    /// All streams without the file, as for adapters from other programs.
    pub(super) fn read(path: &Path) -> Result<Self, LoraError> {
        let text = match editmgt_store::read_text(path) {
            Ok(text) => text,
            Err(StoreError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error.into()),
        };
        serde_json::from_str(&text)
            .map_err(|e| LoraError::Config { path: path.to_owned(), problem: e.to_string() })
    }
}
