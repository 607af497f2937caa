use std::ops::Range;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm};
use burn::tensor::{Device, Tensor};
use editmgt_kernels::{self as kernels, add_gated, gelu_tanh};

use crate::meissonic::attention::{Heads, KeyValues, Projection, attend};
use crate::meissonic::cached::replace;
use crate::meissonic::capture::Probe;
use crate::meissonic::feed_forward::EXPANSION;
use crate::meissonic::lora::{LinearRole, LinearRoles};
use crate::meissonic::modulation::AdaLayerNorm;
use crate::meissonic::pass::{BlockContext, Stream, clip_f16};
use crate::meissonic::rope::Rotation;
use crate::meissonic::rows::{linear_joined, linear_rows};
use crate::norm::{EPSILON, modulated_layer_norm, rms_norm_config};

/// Vectors computed from the conditioning: shift, scale and gate.
const MODULATION_PARTS: usize = 3;

/// A block with the same weights for all streams, and attention and feed-forward stream by stream.
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

/// A stream whose queries, keys and values are projected, ready for joint attention.
struct ProjectedStream {
    x: Tensor<3>,
    normed: Tensor<3>,
    gate: Tensor<3>,
    heads: Heads,
    stream: Stream,
}

impl SingleBlock {
    pub(crate) fn new(width: usize, head_dim: usize, device: &Device) -> Self {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let norm = || rms_norm_config(head_dim, EPSILON).init(device);
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

    /// Passes `joint` (`[text, image]` rows) and the reference on, beside their keys and values;
    /// only `joint` is clipped in f16, as in the official code.
    pub(crate) fn forward(
        &self,
        joint: Tensor<3>,
        reference: Option<Tensor<3>>,
        context: &BlockContext,
        probe: Option<Probe<'_, '_>>,
    ) -> (Tensor<3>, Option<Tensor<3>>, KeyValues) {
        let (joint, reference, keys) = self.project_all(joint, reference, context, probe);
        let joint = clip_f16(self.update(joint, keys.of(Stream::Canvas)));
        let reference =
            reference.map(|reference| self.update(reference, keys.of(Stream::Reference)));
        (joint, reference, keys)
    }

    /// Passes some cells of the image on, `[B, R, D]`, whose rotations are in `context`; writes
    /// their keys and values to `places`, `[B, R]`, of `keys`.
    pub(crate) fn forward_cells(
        &self,
        cells: Tensor<3>,
        context: &BlockContext,
        keys: &mut kernels::KeyValues,
        places: &kernels::KeyPlaces,
    ) -> Tensor<3> {
        let (conditioning, rotation) = (&context.conditioning, &context.image_rotation);
        let image = self.project(cells, conditioning, rotation, Stream::Canvas);
        replace(keys, places, &image.heads.key, &image.heads.value);
        clip_f16(self.update(image, keys))
    }

    /// The last block: computes only these rows of `joint`, `[B, rows, D]`, and nothing that
    /// doesn't influence them.
    pub(crate) fn forward_rows(
        &self,
        joint: Tensor<3>,
        reference: Option<Tensor<3>>,
        context: &BlockContext,
        probe: Option<Probe<'_, '_>>,
        rows: Range<usize>,
    ) -> (Tensor<3>, KeyValues) {
        let (mut joint, _, keys) = self.project_all(joint, reference, context, probe);
        joint.x = joint.x.narrow(1, rows.start, rows.len());
        joint.normed = joint.normed.narrow(1, rows.start, rows.len());
        joint.heads.query = joint.heads.query.narrow(2, rows.start, rows.len());
        (clip_f16(self.update(joint, keys.of(Stream::Canvas))), keys)
    }

    fn project_all(
        &self,
        joint: Tensor<3>,
        reference: Option<Tensor<3>>,
        context: &BlockContext,
        probe: Option<Probe<'_, '_>>,
    ) -> (ProjectedStream, Option<ProjectedStream>, KeyValues) {
        let (conditioning, rotation) = (&context.conditioning, &context.joint_rotation);
        let joint = self.project(joint, conditioning, rotation, Stream::Canvas);
        let reference = reference.zip(context.reference.as_ref()).map(|(x, context)| {
            self.project(x, &context.conditioning, &context.rotation, Stream::Reference)
        });
        let heads: Vec<&Heads> = [Some(&joint), reference.as_ref()]
            .into_iter()
            .flatten()
            .map(|stream| &stream.heads)
            .collect();
        let keys = KeyValues::new(&heads, context.weights());
        if let Some(probe) = probe {
            probe.record(&joint.heads.query, keys.keys());
        }
        (joint, reference, keys)
    }

    /// Modulates `[B, N, D]` and projects it for attention.
    fn project(
        &self,
        x: Tensor<3>,
        conditioning: &Tensor<2>,
        rotation: &Rotation,
        stream: Stream,
    ) -> ProjectedStream {
        let [shift, scale, gate] = self.norm.forward::<MODULATION_PARTS>(conditioning, stream);
        let normed = modulated_layer_norm(x.clone(), shift, scale);
        let projection = Projection {
            query: &self.attn.to_q,
            key: &self.attn.to_k,
            value: &self.attn.to_v,
            norm_query: &self.attn.norm_q,
            norm_key: &self.attn.norm_k,
            stream,
        };
        let heads = projection.forward(normed.clone(), rotation);
        ProjectedStream { x, normed, gate, heads, stream }
    }

    /// Adds the results of attention and feed-forward layer to the stream, `[B, N, D]`.
    fn update(&self, projected: ProjectedStream, keys: &kernels::KeyValues) -> Tensor<3> {
        let ProjectedStream { x, normed, gate, heads, stream } = projected;
        let attended = attend(heads.query, keys);
        let hidden = gelu_tanh(linear_rows(&self.proj_mlp, normed, stream));
        // The official layer takes [attention, feed-forward] joined: five widths per token.
        let out = linear_joined(&self.proj_out, [attended, hidden], stream);
        add_gated(x, out, gate)
    }

    /// Declares which streams go through each linear layer: all of them through all.
    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles) {
        let Self { norm, proj_mlp, proj_out, attn } = self;
        norm.declare_roles(roles, LinearRole::Shared);
        roles.declare(LinearRole::Shared, [proj_mlp, proj_out, &attn.to_q, &attn.to_k, &attn.to_v]);
    }
}
