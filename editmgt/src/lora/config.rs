use std::io::ErrorKind;
use std::path::Path;

use editmgt_store::StoreError;
use editmgt_transformer::LoraStreams;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::LoraError;

/// What an adapter is, apart from its factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraConfig {
    /// Rows of A and columns of B, 1 or more.
    pub rank: usize,
    /// The product B A counts `alpha / rank` times, before the scale of a request.
    pub alpha: f64,
    /// `alpha / sqrt(rank)` instead (PEFT's `use_rslora`).
    pub rank_stabilised: bool,
    /// What it was trained with; nothing at inference.
    pub dropout: f64,
}

impl LoraConfig {
    /// How much the product counts at a scale of 1.
    pub fn strength(&self) -> f64 {
        if self.rank_stabilised {
            self.alpha / (self.rank as f64).sqrt()
        } else {
            self.alpha / self.rank as f64
        }
    }

    /// Reads PEFT's `adapter_config.json`. Keys that change the maths are checked; others, which
    /// differ from one version of PEFT to the next, decide nothing here.
    pub(super) fn read(path: &Path) -> Result<Self, LoraError> {
        let text = editmgt_store::read_text(path)?;
        let value = serde_json::from_str(&text)
            .map_err(|e| LoraError::Config { path: path.to_owned(), problem: e.to_string() })?;
        Self::of(path, value)
    }

    /// The same, of a config that was parsed; `path` stands for it in errors.
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

    /// The text of an `adapter_config.json` for these layers.
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

/// What `init_lora_weights` may be, and the way out.
const PLAIN: &str = "true, false, gaussian, eva or orthogonal, which leave the base weights as they \
                     are; convert the adapter to a plain LoRA with PEFT's save_pretrained(..., \
                     path_initial_model_for_weight_conversion=...)";

/// Whether an initialisation leaves the base weights as they are. PiSSA, OLoRA, CorDA, LoftQ and
/// LoRA-GA subtract from them what the factors start with, so that the factors fit another base.
fn keeps_base(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(kind) => {
            ["gaussian", "eva", "orthogonal"].contains(&kind.to_lowercase().as_str())
        }
        _ => false,
    }
}

/// Whether an option of PEFT is absent or at rest.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

/// What PEFT's config has no key for. It stands in a file of its own, for PEFT refuses keys that
/// it doesn't know.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnConfig {
    pub(super) streams: LoraStreams,
}

impl OwnConfig {
    /// All streams where there is no file: an adapter from elsewhere.
    pub(super) fn read(path: &Path) -> Result<Self, LoraError> {
        let text = match editmgt_store::read_text(path) {
            Ok(text) => text,
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error.into()),
        };
        serde_json::from_str(&text)
            .map_err(|e| LoraError::Config { path: path.to_owned(), problem: e.to_string() })
    }
}
