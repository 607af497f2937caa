use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm};
use burn::tensor::{Device, Tensor};
use editmgt_kernels::{self as kernels, add_gated};

use crate::meissonic::attention::{Heads, KeyValues, Projection, attend};
use crate::meissonic::cached::replace;
use crate::meissonic::capture::Probe;
use crate::meissonic::feed_forward::FeedForward;
use crate::meissonic::lora::{LinearRole, LinearRoles};
use crate::meissonic::modulation::AdaLayerNorm;
use crate::meissonic::pass::{BlockContext, Stream, Streams, clip_f16};
use crate::meissonic::rope::Rotation;
use crate::meissonic::rows::linear_rows;
use crate::norm::{EPSILON, modulated_layer_norm, rms_norm_config};

/// A block with separate weights for text; image and reference share theirs.
#[derive(Module, Debug)]
pub(crate) struct DoubleBlock {
    norm1: AdaLayerNorm,
    norm1_context: AdaLayerNorm,
    attn: JointAttention,
    ff: FeedForward,
    ff_context: FeedForward,
}

#[derive(Module, Debug)]
struct JointAttention {
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    norm_added_q: RmsNorm,
    norm_added_k: RmsNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    add_q_proj: Linear,
    add_k_proj: Linear,
    add_v_proj: Linear,
    to_out: Linear,
    to_add_out: Linear,
}

/// Shift, scale and gate of attention and feed-forward layer, computed from the conditioning; `[B,
/// 1, D]` each.
struct Modulation {
    shift_attention: Tensor<3>,
    scale_attention: Tensor<3>,
    gate_attention: Tensor<3>,
    shift_mlp: Tensor<3>,
    scale_mlp: Tensor<3>,
    gate_mlp: Tensor<3>,
}

impl Modulation {
    /// Number of vectors.
    const PARTS: usize = 6;

    fn new(norm: &AdaLayerNorm, conditioning: &Tensor<2>, stream: Stream) -> Self {
        let [shift_attention, scale_attention, gate_attention, shift_mlp, scale_mlp, gate_mlp] =
            norm.forward::<{ Self::PARTS }>(conditioning, stream);
        Self { shift_attention, scale_attention, gate_attention, shift_mlp, scale_mlp, gate_mlp }
    }
}

/// The weights that one stream uses.
struct StreamWeights<'a> {
    norm: &'a AdaLayerNorm,
    projection: Projection<'a>,
    out: &'a Linear,
    feed_forward: &'a FeedForward,
}

/// A stream whose queries, keys and values are projected, ready for joint attention.
struct ProjectedStream<'a> {
    weights: StreamWeights<'a>,
    modulation: Modulation,
    x: Tensor<3>,
    heads: Heads,
}

impl<'a> StreamWeights<'a> {
    /// Modulates `[B, N, D]` and projects it for attention.
    fn project(
        self,
        x: Tensor<3>,
        conditioning: &Tensor<2>,
        rotation: &Rotation,
    ) -> ProjectedStream<'a> {
        let modulation = Modulation::new(self.norm, conditioning, self.projection.stream);
        let normed = modulated_layer_norm(
            x.clone(),
            modulation.shift_attention.clone(),
            modulation.scale_attention.clone(),
        );
        let heads = self.projection.forward(normed, rotation);
        ProjectedStream { weights: self, modulation, x, heads }
    }
}

impl ProjectedStream<'_> {
    /// Adds the results of attention and feed-forward layer to the stream, `[B, N, D]`.
    fn update(self, keys: &kernels::KeyValues) -> Tensor<3> {
        let Self { weights, modulation, x, heads } = self;
        let stream = weights.projection.stream;
        let attended = linear_rows(weights.out, attend(heads.query, keys), stream);
        let x = add_gated(x, attended, modulation.gate_attention);
        let normed = modulated_layer_norm(x.clone(), modulation.shift_mlp, modulation.scale_mlp);
        let fed = weights.feed_forward.forward(normed, stream);
        add_gated(x, fed, modulation.gate_mlp)
    }
}

impl DoubleBlock {
    pub(crate) fn new(width: usize, head_dim: usize, device: &Device) -> Self {
        let linear = || LinearConfig::new(width, width).init(device);
        let norm = || rms_norm_config(head_dim, EPSILON).init(device);
        let ada = || AdaLayerNorm::new(width, Modulation::PARTS, device);
        Self {
            norm1: ada(),
            norm1_context: ada(),
            attn: JointAttention {
                norm_q: norm(),
                norm_k: norm(),
                norm_added_q: norm(),
                norm_added_k: norm(),
                to_q: linear(),
                to_k: linear(),
                to_v: linear(),
                add_q_proj: linear(),
                add_k_proj: linear(),
                add_v_proj: linear(),
                to_out: linear(),
                to_add_out: linear(),
            },
            ff: FeedForward::new(width, device),
            ff_context: FeedForward::new(width, device),
        }
    }

    /// Passes the streams on, beside their keys and values; only the text stream is clipped in f16,
    /// as in the official code.
    pub(crate) fn forward(
        &self,
        streams: Streams,
        context: &BlockContext,
        probe: Option<Probe<'_, '_>>,
    ) -> (Streams, KeyValues) {
        let conditioning = &context.conditioning;
        let text = self.text().project(streams.text, conditioning, &context.text_rotation);
        let image = self.image(Stream::Canvas);
        let image = image.project(streams.image, conditioning, &context.image_rotation);
        let reference = streams.reference.zip(context.reference.as_ref()).map(|(x, context)| {
            self.image(Stream::Reference).project(x, &context.conditioning, &context.rotation)
        });

        let heads: Vec<&Heads> = [Some(&text), Some(&image), reference.as_ref()]
            .into_iter()
            .flatten()
            .map(|stream| &stream.heads)
            .collect();
        let keys = KeyValues::new(&heads, context.weights());
        if let Some(probe) = probe {
            probe.record(&text.heads.query, keys.keys());
        }
        let canvas = keys.of(Stream::Canvas);
        let streams = Streams {
            text: clip_f16(text.update(canvas)),
            image: image.update(canvas),
            reference: reference.map(|reference| reference.update(keys.of(Stream::Reference))),
        };
        (streams, keys)
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
        let image = self.image(Stream::Canvas);
        let image = image.project(cells, &context.conditioning, &context.image_rotation);
        replace(keys, places, &image.heads.key, &image.heads.value);
        image.update(keys)
    }

    /// Declares which streams go through each linear layer.
    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles) {
        let Self { norm1, norm1_context, attn, ff, ff_context } = self;
        roles.declare(LinearRole::Shared, [&attn.to_q, &attn.to_k, &attn.to_v, &attn.to_out]);
        roles.declare(
            LinearRole::Canvas,
            [&attn.add_q_proj, &attn.add_k_proj, &attn.add_v_proj, &attn.to_add_out],
        );
        norm1.declare_roles(roles, LinearRole::Shared);
        norm1_context.declare_roles(roles, LinearRole::Canvas);
        ff.declare_roles(roles, LinearRole::Shared);
        ff_context.declare_roles(roles, LinearRole::Canvas);
    }

    fn image(&self, stream: Stream) -> StreamWeights<'_> {
        let attn = &self.attn;
        StreamWeights {
            norm: &self.norm1,
            projection: Projection {
                query: &attn.to_q,
                key: &attn.to_k,
                value: &attn.to_v,
                norm_query: &attn.norm_q,
                norm_key: &attn.norm_k,
                stream,
            },
            out: &attn.to_out,
            feed_forward: &self.ff,
        }
    }

    fn text(&self) -> StreamWeights<'_> {
        let attn = &self.attn;
        StreamWeights {
            norm: &self.norm1_context,
            projection: Projection {
                query: &attn.add_q_proj,
                key: &attn.add_k_proj,
                value: &attn.add_v_proj,
                norm_query: &attn.norm_added_q,
                norm_key: &attn.norm_added_k,
                stream: Stream::Canvas,
            },
            out: &attn.to_add_out,
            feed_forward: &self.ff_context,
        }
    }
}
