use std::ops::Range;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm};
use burn::tensor::{Device, Tensor};
use editmgt_kernels::{add_gated, gelu_tanh};

use crate::attention::{Asker, Heads, KeyValues, Projection};
use crate::capture::Probe;
use crate::feed_forward::EXPANSION;
use crate::lora::Side;
use crate::norm::{AdaLayerNorm, modulated_layer_norm, rms_norm_config};
use crate::pass::{BlockContext, clip_f16};
use crate::rope::Rotation;
use crate::rows::{linear_joined, linear_rows};

/// Shift, scale and gate: what the conditioning decides.
const MODULATION_PARTS: usize = 3;

/// A block with the same weights for all streams, and attention and feed-forward side by side.
#[derive(Module, Debug)]
pub(crate) struct SingleBlock {
    norm: AdaLayerNorm,
    proj_mlp: Linear,
    proj_out: Linear,
    attn: SelfAttention,
}

#[derive(Module, Debug)]
struct SelfAttention {
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
}

/// A stream before the streams meet in attention.
struct Half {
    x: Tensor<3>,
    normed: Tensor<3>,
    gate: Tensor<3>,
    heads: Heads,
    side: Side,
}

impl SingleBlock {
    pub(crate) fn new(width: usize, head_dim: usize, device: &Device) -> Self {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let norm = || rms_norm_config(head_dim).init(device);
        Self {
            norm: AdaLayerNorm::new(width, MODULATION_PARTS, device),
            proj_mlp: linear(width, EXPANSION * width),
            proj_out: linear((1 + EXPANSION) * width, width),
            attn: SelfAttention {
                norm_q: norm(),
                norm_k: norm(),
                to_q: linear(width, width),
                to_k: linear(width, width),
                to_v: linear(width, width),
            },
        }
    }

    /// Passes `joint` (`[text, image]` rows) and the reference on; only `joint` is clipped in f16,
    /// as in the official code.
    pub(crate) fn forward(
        &self,
        joint: Tensor<3>,
        reference: Option<Tensor<3>>,
        context: &BlockContext,
        probe: Option<Probe<'_, '_>>,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let (joint, reference, keys) = self.begin(joint, reference, context, probe);
        (
            clip_f16(self.finish(joint, &keys, Asker::Canvas)),
            reference.map(|reference| self.finish(reference, &keys, Asker::Reference)),
        )
    }

    /// The last block: only these rows of `joint` are wanted, so all that no longer has any
    /// influence on them is left out.
    pub(crate) fn forward_rows(
        &self,
        joint: Tensor<3>,
        reference: Option<Tensor<3>>,
        context: &BlockContext,
        probe: Option<Probe<'_, '_>>,
        rows: Range<usize>,
    ) -> Tensor<3> {
        let (mut joint, _, keys) = self.begin(joint, reference, context, probe);
        joint.x = joint.x.narrow(1, rows.start, rows.len());
        joint.normed = joint.normed.narrow(1, rows.start, rows.len());
        joint.heads.query = joint.heads.query.narrow(2, rows.start, rows.len());
        clip_f16(self.finish(joint, &keys, Asker::Canvas))
    }

    fn begin(
        &self,
        joint: Tensor<3>,
        reference: Option<Tensor<3>>,
        context: &BlockContext,
        probe: Option<Probe<'_, '_>>,
    ) -> (Half, Option<Half>, KeyValues) {
        let (conditioning, rotation) = (&context.conditioning, &context.joint_rotation);
        let joint = self.half(joint, conditioning, rotation, Side::Canvas);
        let reference = reference.zip(context.reference.as_ref()).map(|(x, context)| {
            self.half(x, &context.conditioning, &context.rotation, Side::Reference)
        });
        let heads: Vec<&Heads> = [Some(&joint), reference.as_ref()]
            .into_iter()
            .flatten()
            .map(|half| &half.heads)
            .collect();
        let keys = KeyValues::new(&heads, context.weights());
        if let Some(probe) = probe {
            probe.record(&joint.heads.query, keys.keys());
        }
        (joint, reference, keys)
    }

    fn half(
        &self,
        x: Tensor<3>,
        conditioning: &Tensor<2>,
        rotation: &Rotation,
        side: Side,
    ) -> Half {
        let [shift, scale, gate] = self.norm.forward::<MODULATION_PARTS>(conditioning, side);
        let normed = modulated_layer_norm(x.clone(), shift, scale);
        let projection = Projection {
            query: &self.attn.to_q,
            key: &self.attn.to_k,
            value: &self.attn.to_v,
            norm_query: &self.attn.norm_q,
            norm_key: &self.attn.norm_k,
            side,
        };
        let heads = projection.forward(normed.clone(), rotation);
        Half { x, normed, gate, heads, side }
    }

    fn finish(&self, half: Half, keys: &KeyValues, asker: Asker) -> Tensor<3> {
        let Half { x, normed, gate, heads, side } = half;
        let attended = keys.attend(heads.query, asker);
        let hidden = gelu_tanh(linear_rows(&self.proj_mlp, normed, side));
        // The official layer takes [attention, feed-forward] joined: five widths per token.
        let out = linear_joined(&self.proj_out, [attended, hidden], side);
        add_gated(x, out, gate)
    }
}
