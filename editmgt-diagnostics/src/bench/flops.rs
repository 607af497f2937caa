//! Floating point operations by the sizes of matrix products and convolutions: two per
//! multiply-add.
//!
//! Only what the stages compute: the last block of the transformer for the image's rows only,
//! Gemma2 without its last layer. Attention counts in full although a mask hides half of it; norms,
//! activations and softmax are ignored.

use editmgt_text::{ClipTextConfig, Gemma2Config};
use editmgt_transformer::{Connector, MgtConfig};
use editmgt_vq::VqConfig;

/// Hidden channels per channel of the transformer's feed-forward layers.
const EXPANSION: usize = 4;

/// Channels of an embedded timestep or micro-condition, and number of micro-conditions.
const SINUSOID: usize = 256;
const MICRO_CONDITIONS: usize = 5;

/// `rows` vectors of `from` channels to `to` channels.
fn linear(rows: usize, from: usize, to: usize) -> u64 {
    2 * rows as u64 * from as u64 * to as u64
}

/// Products with keys and values of `channels` in all heads together.
fn attention(queries: usize, keys: usize, channels: usize) -> u64 {
    2 * linear(queries, keys, channels)
}

fn conv3x3(pixels: usize, [from, to]: [usize; 2]) -> u64 {
    9 * linear(pixels, from, to)
}

/// `layers` residual blocks, the first of which changes the number of channels.
fn resnets(layers: usize, pixels: usize, [from, to]: [usize; 2]) -> u64 {
    let block = |from| {
        let shortcut = if from == to { 0 } else { linear(pixels, from, to) };
        conv3x3(pixels, [from, to]) + conv3x3(pixels, [to, to]) + shortcut
    };
    block(from) + (layers as u64 - 1) * block(to)
}

/// The two residual blocks between encoder or decoder and the codebook.
fn middle(config: &VqConfig, pixels: usize) -> u64 {
    let coarsest = coarsest(config);
    resnets(2, pixels, [coarsest, coarsest])
}

fn coarsest(config: &VqConfig) -> usize {
    config.block_out_channels[config.block_out_channels.len() - 1]
}

/// One image of `size` by `size` to tokens.
pub(super) fn vq_encode(config: &VqConfig, size: usize) -> u64 {
    let channels = &config.block_out_channels;
    let last = channels.len() - 1;
    let pixels = |level: usize| (size >> level) * (size >> level);
    let mut flops = conv3x3(pixels(0), [config.in_channels, channels[0]]);
    for (level, &to) in channels.iter().enumerate() {
        let from = channels[level.saturating_sub(1)];
        flops += resnets(config.layers_per_block, pixels(level), [from, to]);
        if level < last {
            flops += conv3x3(pixels(level + 1), [to, to]);
        }
    }
    let tokens = pixels(last);
    flops += middle(config, tokens);
    flops += conv3x3(tokens, [coarsest(config), config.latent_channels]);
    flops += linear(tokens, config.latent_channels, config.code_channels());
    flops + linear(tokens, config.code_channels(), config.num_vq_embeddings)
}

/// Tokens to one image of `size` by `size`.
pub(super) fn vq_decode(config: &VqConfig, size: usize) -> u64 {
    let channels = &config.block_out_channels;
    let last = channels.len() - 1;
    let pixels = |level: usize| (size >> level) * (size >> level);
    let tokens = pixels(last);
    let mut flops = linear(tokens, config.code_channels(), config.latent_channels);
    flops += conv3x3(tokens, [config.latent_channels, coarsest(config)]);
    flops += middle(config, tokens);
    for (level, &to) in channels.iter().enumerate() {
        let from = channels[(level + 1).min(last)];
        flops += resnets(config.layers_per_block + 1, pixels(level), [from, to]);
        if level > 0 {
            flops += conv3x3(pixels(level - 1), [to, to]);
        }
    }
    flops + conv3x3(pixels(0), [channels[0], config.out_channels])
}

/// One prompt of `tokens` tokens.
pub(super) fn clip(config: &ClipTextConfig, tokens: usize) -> u64 {
    let (width, mlp) = (config.hidden_size, config.intermediate_size);
    let layer = 4 * linear(tokens, width, width)
        + attention(tokens, tokens, width)
        + 2 * linear(tokens, width, mlp);
    config.num_hidden_layers as u64 * layer + linear(1, width, config.projection_dim)
}

/// One prompt of `tokens` tokens.
pub(super) fn gemma2(config: &Gemma2Config, tokens: usize) -> u64 {
    let (width, mlp) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let layer = 2 * linear(tokens, width, queries)
        + 2 * linear(tokens, width, keys)
        + attention(tokens, tokens, queries)
        + 3 * linear(tokens, width, mlp);
    (config.num_hidden_layers as u64 - 1) * layer
}

/// Row counts of one batch item in the transformer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    /// Text rows.
    pub(super) text: usize,
    /// Tokens of the canvas, and the cells that they are merged into.
    pub(super) tokens: usize,
    pub(super) cells: usize,
}

impl Rows {
    /// Keys of every attention: the reference is as large as the canvas.
    fn all(self) -> usize {
        self.text + 2 * self.cells
    }
}

/// A pass of `batch` items, each with a reference of the canvas's size.
pub(super) fn transformer(config: &MgtConfig, batch: usize, rows: Rows) -> u64 {
    let width = config.width();
    let square = |count| linear(count, width, width);
    let (tokens, cells) = (2 * rows.tokens, 2 * rows.cells);
    let merge = if config.downsample { 4 } else { 0 };

    let mut item = square(tokens) + merge * square(cells) + square(cells);
    if config.connector_type == Connector::Linear {
        item += linear(rows.text, config.joint_attention_dim, width);
    }
    item += square(rows.text);
    // Pooled text and micro-conditions, the text embedder, the timestep.
    let pooled = config.pooled_projection_dim + MICRO_CONDITIONS * SINUSOID;
    item += linear(1, pooled, width) + square(1) + 2 * square(1);
    item += linear(1, SINUSOID, width) + square(1);
    item += config.num_layers as u64 * double_block(width, rows);
    item += (config.num_single_layers as u64 - 1) * single_block(width, rows, rows.all());
    item += last_block(width, rows);
    item += square(rows.cells) + merge * square(rows.cells) + square(rows.tokens);
    item += linear(rows.tokens, width, config.codebook_size);
    // The reference's timestep is the same for all items.
    batch as u64 * item + linear(1, SINUSOID, width) + square(1)
}

fn double_block(width: usize, rows: Rows) -> u64 {
    // Of text, canvas and reference: shift, scale and gate, for attention and feed-forward.
    let modulation = 3 * linear(1, width, 6 * width);
    let feed_forward = 2 * linear(rows.all(), width, EXPANSION * width);
    modulation
        + 4 * linear(rows.all(), width, width)
        + attention(rows.all(), rows.all(), width)
        + feed_forward
}

/// A block that outputs `out` rows.
fn single_block(width: usize, rows: Rows, out: usize) -> u64 {
    // Of text with canvas, and reference: shift, scale and gate.
    let modulation = 2 * linear(1, width, 3 * width);
    modulation
        + 3 * linear(rows.all(), width, width)
        + attention(out, rows.all(), width)
        + linear(out, width, EXPANSION * width)
        + linear(out, (1 + EXPANSION) * width, width)
}

fn last_block(width: usize, rows: Rows) -> u64 {
    single_block(width, rows, rows.cells)
}

/// Capturing the attention of `blocks` blocks for one item: queries of all text rows with the keys
/// of text and canvas.
pub(super) fn capture(config: &MgtConfig, blocks: usize, rows: Rows) -> u64 {
    blocks as u64 * linear(rows.text, rows.text + rows.cells, config.width())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::{Configs, Preset};

    #[test]
    fn small_codec_equals_manual_count() {
        let config = VqConfig {
            layers_per_block: 1,
            norm_num_groups: 1,
            latent_channels: 3,
            num_vq_embeddings: 5,
            ..VqConfig::official().with_block_out_channels([2, 4])
        };
        // An image of 4x4: 16 pixels, 4 tokens. Products with additions, level by level.
        let conv_in = 16 * 3 * 2 * 9;
        let fine = 16 * (2 * 2 * 9 + 2 * 2 * 9) + 4 * 2 * 2 * 9;
        let coarse = 4 * (2 * 4 * 9 + 4 * 4 * 9 + 2 * 4);
        let middle = 4 * 2 * (4 * 4 * 9 + 4 * 4 * 9);
        let codes = 4 * (4 * 3 * 9 + 3 * 3 + 3 * 5);
        assert_eq!(vq_encode(&config, 4), 2 * (conv_in + fine + coarse + middle + codes));
        let codes = 4 * (3 * 3 + 3 * 4 * 9);
        let coarse = 4 * 2 * (4 * 4 * 9 + 4 * 4 * 9) + 16 * 4 * 4 * 9;
        let fine = 16 * ((4 * 2 * 9 + 2 * 2 * 9 + 4 * 2) + (2 * 2 * 9 + 2 * 2 * 9));
        let conv_out = 16 * 2 * 3 * 9;
        assert_eq!(vq_decode(&config, 4), 2 * (codes + middle + coarse + fine + conv_out));
    }

    #[test]
    fn small_transformer_equals_manual_count() {
        let config = MgtConfig {
            num_layers: 1,
            num_single_layers: 2,
            num_attention_heads: 1,
            attention_head_dim: 10,
            joint_attention_dim: 6,
            pooled_projection_dim: 20,
            codebook_size: 30,
            ..MgtConfig::official()
        };
        // 3 text rows, 4 tokens merged into 1 cell: 5 rows with the reference's.
        let rows = Rows { text: 3, tokens: 4, cells: 1 };
        let square = 10 * 10;
        let streams = 8 * square + 2 * 4 * square + 2 * square + 3 * 6 * 10 + 3 * square;
        let vectors = (20 + 1280) * 10 + square + 2 * square + 256 * 10 + square;
        let attention = 2 * 5 * 5 * 10;
        let double = 3 * 6 * square + 5 * (4 + 8) * square + attention;
        let single = 2 * 3 * square + 5 * (3 + 4 + 5) * square + attention;
        let last = 2 * 3 * square + 5 * 3 * square + 2 * 5 * 10 + 9 * square;
        let head = square + 4 * square + 4 * square + 4 * 10 * 30;
        let item = streams + vectors + double + single + last + head;
        let reference = 256 * 10 + square;
        assert_eq!(transformer(&config, 2, rows), 2 * (2 * item + reference));
        assert_eq!(capture(&config, 2, rows), 2 * 2 * 3 * 4 * 10);
    }

    #[test]
    fn text_encoders_equal_manual_count() {
        let config = ClipTextConfig {
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 2,
            projection_dim: 5,
            ..ClipTextConfig::official()
        };
        let layer = 3 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 3 * 3 * 8;
        assert_eq!(clip(&config, 3), 2 * (2 * layer + 8 * 5));
        let config = Gemma2Config {
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 5,
            ..Gemma2Config::official()
        };
        let layer = 3 * (2 * 8 * 20 + 2 * 8 * 10 + 3 * 8 * 12) + 2 * 3 * 3 * 20;
        assert_eq!(gemma2(&config, 3), 2 * 2 * layer);
    }

    /// Counts by torch.utils.flop_counter for the same sizes (`scripts/bench_reference.py --preset
    /// tiny --size 64 --flops`), and its differences.
    #[test]
    fn pytorch_counts_the_same() {
        let configs = Configs::of(Preset::Tiny);
        let config = VqConfig::from_json(&configs.text("vqvae")).unwrap();
        let distances = linear(16, 8, 64);
        assert_eq!(vq_encode(&config, 64), 16_717_824 + distances);
        assert_eq!(vq_decode(&config, 64), 36_083_712);
        let config = ClipTextConfig::from_json(&configs.text("text_encoder")).unwrap();
        let fused = 3 * attention(77, 77, 64);
        assert_eq!(clip(&config, 77), 15_147_008 + fused);
        let config = Gemma2Config::from_json(&configs.text("llm_encoder")).unwrap();
        let angles = 3 * linear(256, 1, 8);
        assert_eq!(gemma2(&config, 256), 85_733_376 - angles);
    }
}
