use editmgt::KeyMap;
use editmgt::config::{ConfigError, ConfigKeys, UnknownKeys};
use serde::Deserialize;
use serde_json::json;

use crate::encoders::config::of_type;
use crate::encoders::tower::TowerConfig;

pub(super) const COMPONENT: &str = "DINO";

/// DINO version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DinoKind {
    /// `ViTModel`: the first DINO.
    Vit,
    /// `Dinov2Model`.
    Dinov2,
}

/// Config of a `ViTModel` or a `Dinov2Model`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DinoConfig {
    pub(super) kind: DinoKind,
    pub(super) tower: TowerConfig,
}

impl DinoConfig {
    /// Reads the text of a `config.json`.
    pub(super) fn from_json(text: &str, unknown_keys: UnknownKeys) -> Result<Self, ConfigError> {
        let (kind, keys) = of_type(COMPONENT, text, unknown_keys, &["vit", "dinov2"])?;
        let (kind, tower) = match kind.as_str() {
            "vit" => (DinoKind::Vit, vit_config(keys)?),
            _ => (DinoKind::Dinov2, dinov2_config(keys)?),
        };
        Ok(Self { kind, tower: tower.checked(COMPONENT)? })
    }

    /// Renames the model's parameter paths to checkpoint keys.
    pub(super) fn keys(&self) -> KeyMap {
        let mut keys = KeyMap::renames([
            ("^(cls_token|position_embeddings)", "embeddings.$1"),
            ("^patch_embedding", "embeddings.patch_embeddings.projection"),
            (r"^tower\.norm", "layernorm"),
            (r"^tower\.layers", "encoder.layer"),
            (r"\.attention\.(query|key|value)\.", ".attention.attention.$1."),
            (r"\.attention\.out\.", ".attention.output.dense."),
        ]);
        let (renames, unused): (&[_], &[_]) = match self.kind {
            DinoKind::Vit => (
                &[
                    (r"\.norm1\.", ".layernorm_before."),
                    (r"\.norm2\.", ".layernorm_after."),
                    (r"\.fc1\.", ".intermediate.dense."),
                    (r"\.fc2\.", ".output.dense."),
                ],
                // Heads on top of the features, from tasks that a checkpoint may have been trained
                // for.
                &[r"pooler\.dense\.(weight|bias)"],
            ),
            DinoKind::Dinov2 => {
                (&[(r"\.(fc[12])\.", ".mlp.$1."), (r"\.scale([12])\.", ".layer_scale$1.")], &[])
            }
        };
        keys.renames
            .extend(renames.iter().map(|&(from, to): &(&str, &str)| (from.into(), to.into())));
        // Replaces masked patches in training.
        let masks = [r"embeddings\.mask_token"];
        keys.allow_unused(unused.iter().chain(&masks).map(|&key| key.to_owned()))
    }
}

fn vit_config(mut keys: ConfigKeys) -> Result<TowerConfig, ConfigError> {
    keys.set_defaults(json!({
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 16,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qkv_bias": true,
    }));
    keys.parse()
}

/// The keys of a `Dinov2Config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dinov2File {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    mlp_ratio: f64,
    hidden_act: String,
    layer_norm_eps: f64,
    image_size: usize,
    patch_size: usize,
    num_channels: usize,
    qkv_bias: bool,
    use_swiglu_ffn: bool,
}

fn dinov2_config(mut keys: ConfigKeys) -> Result<TowerConfig, ConfigError> {
    keys.set_defaults(json!({
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "qkv_bias": true,
        "use_swiglu_ffn": false,
    }));
    let file: Dinov2File = keys.parse()?;
    if file.use_swiglu_ffn {
        let expected = "false (the small, base and large models)";
        return Err(ConfigError::unsupported(COMPONENT, "use_swiglu_ffn", expected, true));
    }
    // An mlp_ratio out of range gives an invalid or non-finite size.
    let intermediate_size = (file.hidden_size as f64 * file.mlp_ratio) as usize;
    Ok(TowerConfig {
        hidden_size: file.hidden_size,
        intermediate_size,
        num_hidden_layers: file.num_hidden_layers,
        num_attention_heads: file.num_attention_heads,
        num_channels: file.num_channels,
        image_size: file.image_size,
        patch_size: file.patch_size,
        hidden_act: file.hidden_act,
        layer_norm_eps: file.layer_norm_eps,
        qkv_bias: file.qkv_bias,
        layer_scale: true,
    })
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::encoders::config::check_table;
    use crate::encoders::dino::model::DinoModel;
    use crate::encoders::tests::device;

    #[test]
    fn configs_of_every_version_are_read() {
        check_table(&["vit", "dinov2"], DinoConfig::from_json);
    }

    /// Numbers of weights that `transformers` counts: in ViT-S/16 without the layer after the
    /// feature, and in ViT-B/14 with the token for hidden patches.
    #[test]
    fn sizes_of_the_published_models() {
        let small = json!({
            "model_type": "vit", "hidden_size": 384, "num_attention_heads": 6,
            "intermediate_size": 1536,
        });
        let base = json!({"model_type": "dinov2", "image_size": 518, "patch_size": 14});
        for (config, token, expected) in [(small, 0, 21_665_664), (base, 768, 86_580_480)] {
            let config = DinoConfig::from_json(&config.to_string(), UnknownKeys::Refuse).unwrap();
            let model = DinoModel::new(&config, &device()).unwrap();
            assert_eq!(model.num_params() + token, expected);
        }
    }
}
