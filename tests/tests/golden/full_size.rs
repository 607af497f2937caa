//! The official full-size models, key by key, without allocating a weight.

use std::collections::BTreeMap;

use burn::tensor::Device;
use editmgt_checkpoint::{TensorSpec, module_tensors};
use editmgt_text::{ClipTextConfig, Gemma2Config};
use editmgt_transformer::MgtConfig;
use editmgt_vq::VqConfig;

/// The keys and shapes of the official full-size checkpoint.
fn official_tensors() -> BTreeMap<String, Vec<usize>> {
    const D: usize = 1024;
    let mut tensors = BTreeMap::new();
    let mut add = |key: String, shape: &[usize]| {
        assert!(tensors.insert(key.clone(), shape.to_vec()).is_none(), "{key} twice");
    };
    for (key, shape) in [
        ("context_embedder", &[D, D][..]),
        ("time_text_embed.timestep_embedder.linear_1", &[D, 256]),
        ("time_text_embed.timestep_embedder.linear_2", &[D, D]),
        ("time_text_embed.text_embedder.linear_1", &[D, D]),
        ("time_text_embed.text_embedder.linear_2", &[D, D]),
        ("connector.projector", &[D, 2304]),
    ] {
        add(format!("{key}.weight"), shape);
        add(format!("{key}.bias"), &[D]);
    }
    for (key, shape) in [
        ("embed.embeddings", &[8256, D][..]),
        ("embed.layer_norm", &[D]),
        ("embed.conv", &[D, D, 1, 1]),
        ("mlm_layer.conv1", &[D, D, 1, 1]),
        ("mlm_layer.layer_norm", &[D]),
        ("mlm_layer.conv2", &[8192, D, 1, 1]),
        ("cond_embed.linear_1", &[D, 2304]),
        ("cond_embed.linear_2", &[D, D]),
        ("encoder_proj_layer_norm", &[D]),
        ("project_to_hidden_norm", &[D]),
        ("project_to_hidden", &[D, D]),
        ("project_from_hidden_norm", &[D]),
        ("project_from_hidden", &[D, D]),
        ("down_block.downsample.norm", &[D]),
        ("down_block.downsample.conv", &[D, D, 2, 2]),
        ("up_block.upsample.norm", &[D]),
        ("up_block.upsample.conv", &[D, D, 2, 2]),
    ] {
        add(format!("{key}.weight"), shape);
    }
    let double = [
        ("norm1.linear", 6 * D, D),
        ("norm1_context.linear", 6 * D, D),
        ("attn.to_q", D, D),
        ("attn.to_k", D, D),
        ("attn.to_v", D, D),
        ("attn.add_q_proj", D, D),
        ("attn.add_k_proj", D, D),
        ("attn.add_v_proj", D, D),
        ("attn.to_out.0", D, D),
        ("attn.to_add_out", D, D),
        ("ff.net.0.proj", 4 * D, D),
        ("ff.net.2", D, 4 * D),
        ("ff_context.net.0.proj", 4 * D, D),
        ("ff_context.net.2", D, 4 * D),
    ];
    let single = [
        ("norm.linear", 3 * D, D),
        ("proj_mlp", 4 * D, D),
        ("proj_out", D, 5 * D),
        ("attn.to_q", D, D),
        ("attn.to_k", D, D),
        ("attn.to_v", D, D),
    ];
    for (blocks, count, linears, norms) in [
        ("transformer_blocks", 14, &double[..], &["q", "k", "added_q", "added_k"][..]),
        ("single_transformer_blocks", 28, &single[..], &["q", "k"][..]),
    ] {
        for block in 0..count {
            for (linear, outputs, inputs) in linears {
                add(format!("{blocks}.{block}.{linear}.weight"), &[*outputs, *inputs]);
                add(format!("{blocks}.{block}.{linear}.bias"), &[*outputs]);
            }
            for norm in norms {
                add(format!("{blocks}.{block}.attn.norm_{norm}.weight"), &[128]);
            }
        }
    }
    tensors
}

#[test]
fn the_full_size_transformer_has_the_official_keys_and_shapes() {
    let config = MgtConfig::official();
    let model = config.init(&Device::flex()).unwrap();
    let tensors = module_tensors(&model, &config.keys()).unwrap();
    let ours: BTreeMap<_, _> = tensors.into_iter().map(|spec| (spec.key, spec.shape)).collect();
    assert_eq!(ours, official_tensors());
    assert_eq!(ours.len(), 869);
    assert_eq!(ours.values().map(|s| s.iter().product::<usize>()).sum::<usize>(), 1_009_306_624);
}

fn parameters(tensors: &[TensorSpec]) -> usize {
    tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
}

#[test]
fn the_full_size_codec_has_the_official_parts() {
    let config = VqConfig::official();
    let tensors = module_tensors(&config.init(&Device::flex()).unwrap(), &config.keys()).unwrap();
    assert_eq!((tensors.len(), parameters(&tensors)), (277, 146_244_675));
    for (part, count) in [
        ("encoder.", 58_693_568),
        ("quant_conv.", 4_160),
        ("quantize.embedding.weight", 524_288),
        ("post_quant_conv.", 4_160),
        ("decoder.", 87_018_499),
    ] {
        let of_part: Vec<_> = tensors.iter().filter(|t| t.key.starts_with(part)).cloned().collect();
        assert_eq!(parameters(&of_part), count, "{part}");
    }
}

#[test]
fn the_full_size_text_encoders_have_the_public_sizes() {
    let device = Device::flex();
    let clip = ClipTextConfig::official();
    let tensors = module_tensors(&clip.init(&device).unwrap(), &clip.keys()).unwrap();
    // 24 layers of width 1024 (4 projections, an MLP of 4096, 2 norms), the tables, the final
    // norm and the projection.
    let (d, mlp, layers) = (1024, 4096, 24);
    let layer = 4 * (d * d + d) + (2 * d * mlp + mlp + d) + 2 * 2 * d;
    assert_eq!(parameters(&tensors), layers * layer + (49_408 + 77) * d + 2 * d + d * d);
    let gemma = Gemma2Config::official();
    let tensors = module_tensors(&gemma.init_complete(&device).unwrap(), &gemma.keys()).unwrap();
    assert_eq!((tensors.len(), parameters(&tensors)), (288, 2_614_341_888));
}
