use editmgt::KeyMap;
use editmgt::config::{ConfigError, ConfigKeys, UnknownKeys};
use editmgt_text::ClipTextConfig;
use serde::Deserialize;
use serde_json::json;

use crate::encoders::config::of_type;
use crate::encoders::tower::TowerConfig;

pub(super) const COMPONENT: &str = "CLIP";
pub(super) const VISION: &str = "CLIP vision";

/// Config of a `CLIPModel`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClipConfig {
    pub(super) text: ClipTextConfig,
    pub(super) vision: TowerConfig,
    /// Width of the features.
    pub(super) projection_dim: usize,
}

/// The keys of the whole model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    projection_dim: usize,
}

impl ClipConfig {
    /// Reads the text of a `config.json`.
    pub(super) fn from_json(text: &str, unknown_keys: UnknownKeys) -> Result<Self, ConfigError> {
        let (_, mut keys) = of_type(COMPONENT, text, unknown_keys, &["clip"])?;
        keys.set_default("projection_dim", 512);
        let text = ClipTextConfig::from_whole_model(keys.clone())?;
        keys.ignore(&["text_config", "text_config_dict"]);
        // Old files have both, and the library then goes by the second only.
        let part = keys.take_part(VISION, "vision_config")?;
        let dict = keys.take_part(VISION, "vision_config_dict")?;
        let vision = dict.or(part).unwrap_or_else(|| keys.empty_part(VISION));
        let Whole { projection_dim } = keys.parse()?;
        Ok(Self { text, vision: vision_config(vision)?, projection_dim })
    }

    /// Keys of the vision tower in a checkpoint that has both.
    pub(super) fn vision_keys(&self) -> KeyMap {
        KeyMap::renames([
            ("^(class_embedding|patch_embedding|position_embedding)", "vision_model.embeddings.$1"),
            // Misspelt in every checkpoint.
            ("^pre_layer_norm", "vision_model.pre_layrnorm"),
            (r"^tower\.norm", "vision_model.post_layernorm"),
            (r"^tower\.layers", "vision_model.encoder.layers"),
            (r"\.norm([12])\.", ".layer_norm$1."),
            (r"\.attention\.query\.", ".self_attn.q_proj."),
            (r"\.attention\.key\.", ".self_attn.k_proj."),
            (r"\.attention\.value\.", ".self_attn.v_proj."),
            (r"\.attention\.out\.", ".self_attn.out_proj."),
            (r"\.(fc[12])\.", ".mlp.$1."),
        ])
        .allow_unused(
            [
                r"text_model\..*",
                r"text_projection\.weight",
                "logit_scale",
                // Older files carry the numbers 0, 1, 2, … as a buffer.
                r"vision_model\.embeddings\.position_ids",
            ]
            .map(str::to_owned),
        )
    }
}

fn vision_config(mut keys: ConfigKeys) -> Result<TowerConfig, ConfigError> {
    keys.require("model_type", &["clip_vision_model"])?;
    keys.ignore(&["projection_dim"]);
    keys.set_defaults(json!({
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "qkv_bias": true,
    }));
    keys.parse::<TowerConfig>()?.checked(VISION)
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::encoders::clip::vision::ClipVision;
    use crate::encoders::config::check_table;
    use crate::encoders::tests::device;

    #[test]
    fn configs_of_every_version_are_read() {
        check_table(&["clip", "clip_defaults"], ClipConfig::from_json);
    }

    /// Numbers of weights that `transformers` counts: in the whole model, and in its vision tower
    /// with projection.
    #[test]
    fn missing_config_keys_default_to_vit_b_32() {
        let large = json!({
            "model_type": "clip",
            "projection_dim": 768,
            "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
            "vision_config": {
                "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                "num_attention_heads": 16, "patch_size": 14,
            },
        });
        for (config, whole, vision) in [
            (json!({"model_type": "clip"}), 151_277_313, 87_849_216),
            (large, 427_616_513, 303_966_208),
        ] {
            let config = ClipConfig::from_json(&config.to_string(), UnknownKeys::Refuse).unwrap();
            let tower = ClipVision::new(&config, &device()).unwrap().num_params();
            let text = config.text.init(&device()).unwrap().num_params();
            // One parameter is the scale of the logits.
            assert_eq!((text + tower + 1, tower), (whole, vision));
        }
    }
}
