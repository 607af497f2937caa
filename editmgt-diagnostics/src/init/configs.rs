//! The config files of a preset.

use editmgt_checkpoint::WeightsName;
use serde_json::{Value, json};

use super::Preset;

/// The sizes that differ between presets.
struct Sizes {
    heads: usize,
    head_dim: usize,
    axes: [usize; 3],
    double_blocks: usize,
    single_blocks: usize,
    codebook: usize,
    vocab: usize,
    vq_channels: &'static [usize],
    vq_latent: usize,
    vq_groups: usize,
    vq_layers: usize,
    clip_width: usize,
    clip_layers: usize,
    clip_heads: usize,
    clip_mlp: usize,
    clip_vocab: usize,
    gemma_width: usize,
    gemma_layers: usize,
    gemma_heads: usize,
    gemma_kv_heads: usize,
    gemma_head_dim: usize,
    gemma_mlp: usize,
    gemma_vocab: usize,
}

/// Source: the official training script and configs, CLIP ViT-H/14's and Gemma2-2B's public
/// configs.
const FULL: Sizes = Sizes {
    heads: 8,
    head_dim: 128,
    axes: [16, 56, 56],
    double_blocks: 14,
    single_blocks: 28,
    codebook: 8192,
    vocab: 8256,
    vq_channels: &[128, 256, 256, 512, 768],
    vq_latent: 64,
    vq_groups: 32,
    vq_layers: 2,
    clip_width: 1024,
    clip_layers: 24,
    clip_heads: 16,
    clip_mlp: 4096,
    clip_vocab: 49408,
    gemma_width: 2304,
    gemma_layers: 26,
    gemma_heads: 8,
    gemma_kv_heads: 4,
    gemma_head_dim: 256,
    gemma_mlp: 9216,
    gemma_vocab: 256_000,
};

const TINY: Sizes = Sizes {
    heads: 2,
    head_dim: 32,
    axes: [8, 12, 12],
    double_blocks: 2,
    single_blocks: 3,
    codebook: 64,
    vocab: 72,
    vq_channels: &[8, 8, 8, 16, 16],
    vq_latent: 8,
    vq_groups: 4,
    vq_layers: 1,
    clip_width: 64,
    clip_layers: 3,
    clip_heads: 4,
    clip_mlp: 128,
    clip_vocab: 514,
    gemma_width: 48,
    gemma_layers: 4,
    gemma_heads: 4,
    gemma_kv_heads: 2,
    gemma_head_dim: 16,
    gemma_mlp: 96,
    gemma_vocab: 512,
};

/// Builds the config files of one preset.
pub(crate) struct Configs {
    sizes: &'static Sizes,
    preset: Preset,
}

impl Configs {
    pub(crate) fn of(preset: Preset) -> Self {
        let sizes = match preset {
            Preset::Full => &FULL,
            Preset::Tiny | Preset::MeissonicTiny | Preset::AmusedTiny => &TINY,
        };
        Self { sizes, preset }
    }

    /// The folders with weights, and the name of the weights.
    pub(super) fn components(&self) -> &'static [(&'static str, WeightsName)] {
        if self.edits() {
            &[
                ("editmgt", WeightsName::Diffusion),
                ("vqvae", WeightsName::Diffusion),
                ("text_encoder", WeightsName::Model),
                ("llm_encoder", WeightsName::Model),
            ]
        } else {
            &[
                ("transformer", WeightsName::Diffusion),
                ("vqvae", WeightsName::Diffusion),
                ("text_encoder", WeightsName::Model),
            ]
        }
    }

    /// Whether it is a model that edits, with an LLM beside CLIP and a connector.
    pub(super) fn edits(&self) -> bool {
        matches!(self.preset, Preset::Full | Preset::Tiny)
    }

    /// Whether the transformer is a U-ViT.
    pub(super) fn is_amused(&self) -> bool {
        self.preset == Preset::AmusedTiny
    }

    /// Rows of CLIP's embedding, which its tokenizer must fit.
    pub(super) fn clip_vocab(&self) -> usize {
        self.sizes.clip_vocab
    }

    /// The config file of a component.
    pub(crate) fn text(&self, component: &str) -> String {
        let config = match component {
            "editmgt" => self.transformer(),
            "transformer" if self.is_amused() => self.uvit(),
            "transformer" => self.transformer(),
            "model_index" => model_index(),
            "vqvae" => self.codec(),
            "text_encoder" => self.clip(),
            "llm_encoder" => self.gemma(),
            _ => self.scheduler(),
        };
        format!("{config:#}\n")
    }

    fn transformer(&self) -> Value {
        let s = self.sizes;
        let mut config = json!({
            "_class_name": "Transformer2DModel",
            "attention_head_dim": s.head_dim,
            "axes_dims_rope": s.axes,
            "codebook_size": s.codebook,
            "downsample": true,
            "guidance_embeds": false,
            "in_channels": 64,
            "joint_attention_dim": if self.edits() { s.gemma_width } else { s.clip_width },
            "num_attention_heads": s.heads,
            "num_layers": s.double_blocks,
            "num_single_layers": s.single_blocks,
            "patch_size": 1,
            "pooled_projection_dim": s.clip_width,
            "upsample": true,
            "vocab_size": s.vocab,
        });
        // Meissonic's class has neither key.
        if self.edits() {
            config["connector_type"] = json!("linear");
            config["text_encoder_architecture"] = json!("CLIP_Gemma2");
        }
        config
    }

    /// Sizes that differ from each other, so that no two can be confused.
    fn uvit(&self) -> Value {
        let s = self.sizes;
        json!({
            "_class_name": "UVit2DModel",
            "attention_dropout": 0.0,
            "block_num_heads": 2,
            "block_out_channels": 32,
            "codebook_size": s.codebook,
            "cond_embed_dim": s.clip_width,
            "downsample": true,
            "encoder_hidden_size": s.clip_width,
            "hidden_dropout": 0.0,
            "hidden_size": 48,
            "in_channels": 24,
            "intermediate_size": 96,
            "layer_norm_eps": 1e-6,
            "ln_elementwise_affine": true,
            "micro_cond_embed_dim": 160,
            "micro_cond_encode_dim": 32,
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "num_res_blocks": 2,
            "sample_size": 8,
            "upsample": true,
            "use_bias": false,
            "vocab_size": s.vocab,
        })
    }

    fn codec(&self) -> Value {
        let s = self.sizes;
        let levels = s.vq_channels.len();
        json!({
            "_class_name": "VQModel",
            "act_fn": "silu",
            "block_out_channels": s.vq_channels,
            "down_block_types": vec!["DownEncoderBlock2D"; levels],
            "force_upcast": true,
            "in_channels": 3,
            "latent_channels": s.vq_latent,
            "layers_per_block": s.vq_layers,
            "lookup_from_codebook": true,
            "mid_block_add_attention": false,
            "norm_num_groups": s.vq_groups,
            "norm_type": "group",
            "num_vq_embeddings": s.codebook,
            "out_channels": 3,
            "sample_size": 32,
            "scaling_factor": 0.18215,
            "up_block_types": vec!["UpDecoderBlock2D"; levels],
            "vq_embed_dim": null,
        })
    }

    fn clip(&self) -> Value {
        let s = self.sizes;
        json!({
            "architectures": ["CLIPTextModelWithProjection"],
            "attention_dropout": 0.0,
            "bos_token_id": s.clip_vocab - 2,
            "eos_token_id": s.clip_vocab - 1,
            // CLIP ViT-L/14, which aMUSEd has, approximates it.
            "hidden_act": if self.is_amused() { "quick_gelu" } else { "gelu" },
            "hidden_size": s.clip_width,
            "intermediate_size": s.clip_mlp,
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 77,
            "model_type": "clip_text_model",
            "num_attention_heads": s.clip_heads,
            "num_hidden_layers": s.clip_layers,
            "pad_token_id": 1,
            "projection_dim": s.clip_width,
            "vocab_size": s.clip_vocab,
        })
    }

    fn gemma(&self) -> Value {
        let s = self.sizes;
        json!({
            "architectures": ["Gemma2ForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": 50.0,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "final_logit_softcapping": 30.0,
            "head_dim": s.gemma_head_dim,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": s.gemma_width,
            "intermediate_size": s.gemma_mlp,
            "max_position_embeddings": 8192,
            "model_type": "gemma2",
            "num_attention_heads": s.gemma_heads,
            "num_hidden_layers": s.gemma_layers,
            "num_key_value_heads": s.gemma_kv_heads,
            "pad_token_id": 0,
            "query_pre_attn_scalar": s.gemma_head_dim,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "vocab_size": s.gemma_vocab,
        })
    }

    fn scheduler(&self) -> Value {
        json!({
            "_class_name":
                if self.is_amused() { "AmusedScheduler" } else { "Scheduler" },
            "mask_token_id": self.sizes.vocab - 1,
            "masking_schedule": "cosine",
        })
    }
}

/// The parts of aMUSEd's pipeline and their classes.
fn model_index() -> Value {
    json!({
        "_class_name": "AmusedPipeline",
        "scheduler": ["diffusers", "AmusedScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "transformer": ["diffusers", "UVit2DModel"],
        "vqvae": ["diffusers", "VQModel"],
    })
}
