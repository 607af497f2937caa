use editmgt::KeyMap;
use editmgt::config::ConfigError;
use editmgt_text::ClipTextConfig;
use serde::Deserialize;
use serde_json::json;

use crate::encoders::config::{HARMLESS, Object, complete, of_type};
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

/// The whole model's config, without ignored keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    projection_dim: usize,
    text_config: Option<Object>,
    vision_config: Option<Object>,
    text_config_dict: Option<Object>,
    vision_config_dict: Option<Object>,
}

impl ClipConfig {
    /// Reads the text of a `config.json`.
    pub(super) fn from_json(text: &str) -> Result<Self, ConfigError> {
        let (_, values) = of_type(COMPONENT, text, &["clip"])?;
        let file: File = complete(COMPONENT, json!({"projection_dim": 512}), values)?;
        // Old files have both, and the library then uses only the second.
        let text = file.text_config_dict.or(file.text_config).unwrap_or_default();
        let vision = file.vision_config_dict.or(file.vision_config).unwrap_or_default();
        Ok(Self {
            text: text_config(text, file.projection_dim)?,
            vision: vision_config(vision)?,
            projection_dim: file.projection_dim,
        })
    }

    /// Keys of the text tower in a checkpoint that has both.
    pub(super) fn text_keys(&self) -> KeyMap {
        let others = [r"vision_model\..*", r"visual_projection\.weight", "logit_scale"];
        self.text.keys().allow_unused(others.map(str::to_owned))
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

/// The text tower's own config requires every key.
fn text_config(mut values: Object, projection_dim: usize) -> Result<ClipTextConfig, ConfigError> {
    let defaults = ClipTextConfig {
        vocab_size: 49408,
        hidden_size: 512,
        intermediate_size: 2048,
        num_hidden_layers: 12,
        num_attention_heads: 8,
        max_position_embeddings: 77,
        projection_dim,
        hidden_act: "quick_gelu".into(),
        layer_norm_eps: 1e-5,
        eos_token_id: 49407,
    };
    values.retain(|key, _| key == "eos_token_id" || !HARMLESS.contains(&key.as_str()));
    // The whole model's width takes precedence.
    values.remove("projection_dim");
    let mut whole = serde_json::to_value(defaults).expect("a config is JSON");
    whole.as_object_mut().expect("a config is an object").extend(values);
    ClipTextConfig::from_json(&whole.to_string())
}

fn vision_config(mut values: Object) -> Result<TowerConfig, ConfigError> {
    let defaults = json!({
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
    });
    values.remove("projection_dim");
    let tower: TowerConfig = complete(VISION, defaults, values)?;
    tower.checked(VISION)
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::encoders::clip::vision::ClipVision;
    use crate::encoders::tests::device;

    /// Parameter counts by `transformers`: of the whole model, and of its vision tower with
    /// projection.
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
            let config = ClipConfig::from_json(&config.to_string()).unwrap();
            let tower = ClipVision::new(&config, &device()).unwrap().num_params();
            let text = config.text.init(&device()).unwrap().num_params();
            // One parameter is the scale of the logits.
            assert_eq!((text + tower + 1, tower), (whole, vision));
        }
    }
}
