use editmgt_text::{SmallTextConfig, WordTokenizer};
use editmgt_transformer::{Connector, MgtConfig, TextArchitecture};
use serde::{Deserialize, Serialize};

use super::StructuredInit;

/// Sizes of a small model trained from scratch, together with its text encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallModelOptions {
    /// Number of double blocks.
    pub double_blocks: usize,
    /// Number of single blocks.
    pub single_blocks: usize,
    /// Attention heads.
    pub heads: usize,
    /// Channels per head: without position, for the row, for the column.
    pub axes: [usize; 3],
    /// Base of the rotary frequencies; the official one by default.
    #[serde(default = "official_theta")]
    pub rope_theta: f64,
    /// Frequencies per axis of the features of a place in the picture, added to the image tokens; 0
    /// for none, as in the official model.
    #[serde(default)]
    pub position_frequencies: usize,
    /// Whether the blocks work on 2x2 downsampled tokens.
    pub merge_tokens: bool,
    /// Rows of the text: one more than the longest instruction has words.
    pub text_rows: usize,
    /// Layers of the text encoder, which has the transformer's width and heads.
    pub text_layers: usize,
    /// Whether token embeddings are initialised as random projections of their codes, so that
    /// similar codes start with similar embeddings.
    #[serde(default)]
    pub embed_codes: bool,
    /// Structured initialisation of the blocks.
    #[serde(default, rename = "awake")]
    pub structured_init: StructuredInit,
}

fn official_theta() -> f64 {
    MgtConfig::official().rope_theta
}

impl SmallModelOptions {
    pub(super) fn text(&self, words: usize) -> SmallTextConfig {
        let width = self.heads * self.axes.iter().sum::<usize>();
        SmallTextConfig {
            vocab_size: words + WordTokenizer::SPECIAL,
            max_position_embeddings: self.text_rows,
            hidden_size: width,
            num_hidden_layers: self.text_layers,
            num_attention_heads: self.heads,
            projection_dim: width,
            ..SmallTextConfig::default()
        }
    }

    pub(super) fn transformer(&self, codes: usize) -> MgtConfig {
        let head = self.axes.iter().sum();
        MgtConfig {
            num_layers: self.double_blocks,
            num_single_layers: self.single_blocks,
            attention_head_dim: head,
            num_attention_heads: self.heads,
            joint_attention_dim: self.heads * head,
            pooled_projection_dim: self.heads * head,
            axes_dims_rope: self.axes,
            rope_theta: self.rope_theta,
            position_frequencies: self.position_frequencies,
            // The mask token is the one row beyond the codes.
            vocab_size: codes + 1,
            codebook_size: codes,
            downsample: self.merge_tokens,
            upsample: self.merge_tokens,
            text_encoder_architecture: TextArchitecture::Small,
            connector_type: Connector::Linear,
            ..MgtConfig::official()
        }
    }
}
