use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData, s};
use serde::{Deserialize, Serialize};

use super::EditModel;
use crate::run::TrainError;

/// Structured initialisation of the blocks: non-zero gates and position-aware heads.
///
/// Only initial values of trained weights: no cost per step. The default is the usual random
/// initialisation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StructuredInit {
    /// Number of heads in every block that attend to their own position first, as copying a token
    /// requires: their queries and keys start mostly equal for all tokens, so that the rotary
    /// embeddings' two fastest frequencies per axis distinguish them.
    ///
    /// With random queries and keys attention depends on content only, and training is slow to
    /// discover comparison by position: where most of an image is plain background, a token can be
    /// copied from anywhere.
    pub place_heads: usize,
    /// Initial weights of the query and key norms, 1..=8: the sharpness of attention.
    pub attention_gain: f64,
    /// Added to the gate biases of the residual branches, 0..=1. At 0 a branch contributes a few
    /// hundredths of its stream's magnitude.
    pub gate: f64,
}

impl Default for StructuredInit {
    fn default() -> Self {
        Self { place_heads: 0, attention_gain: 1.0, gate: 0.0 }
    }
}

impl StructuredInit {
    pub(super) fn validate(&self, heads: usize) -> Result<(), TrainError> {
        if self.place_heads > heads {
            let (option, expected) = ("model.awake.place_heads", format!("{heads} or fewer"));
            return Err(TrainError::option(option, expected, self.place_heads));
        }
        if !(1.0..=8.0).contains(&self.attention_gain) {
            let (option, expected) = ("model.awake.attention_gain", "1 to 8");
            return Err(TrainError::option(option, expected, self.attention_gain));
        }
        if !(0.0..=1.0).contains(&self.gate) {
            return Err(TrainError::option("model.awake.gate", "0 to 1", self.gate));
        }
        Ok(())
    }

    /// Applies the initial values to a model; `axes` are the channels per head without a position,
    /// for the row, and for the column.
    pub(super) fn apply(self, model: EditModel, axes: [usize; 3]) -> EditModel {
        model.map(&mut StructuredInitMapper { structured_init: self, axes, path: Vec::new() })
    }
}

/// Query and key norms, by the names in checkpoints.
const ATTENTION_NORMS: [&str; 4] = ["norm_q", "norm_k", "norm_added_q", "norm_added_k"];
/// Modulations of the blocks: shifts, scales and gates, of equal channel counts.
const MODULATIONS: [(&str, usize); 3] = [("norm1", 6), ("norm1_context", 6), ("norm", 3)];

/// Factor of the query and key weights of a position-aware head: the part that depends on content.
const PLACE_WEIGHT: f32 = 0.5;
/// Bias shared by all queries and keys, on each channel that a fast frequency rotates.
const PLACE_BIAS: f32 = 2.0;
/// Number of fast frequencies per axis.
const FAST: usize = 2;

struct StructuredInitMapper {
    structured_init: StructuredInit,
    axes: [usize; 3],
    path: Vec<String>,
}

impl ModuleMapper for StructuredInitMapper {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        let blocks = ["transformer_blocks", "single_transformer_blocks"];
        if !path.iter().any(|name| blocks.contains(name)) {
            return param;
        }
        let StructuredInit { attention_gain, gate, place_heads } = self.structured_init;
        match path[..] {
            [.., "attn", "to_q" | "to_k", part] => changed(param, |values| {
                let width = values.dims()[D - 1];
                let [scale, start] = self.place(place_heads, width).map(|row| {
                    let data = TensorData::new(row, [width]);
                    Tensor::<1>::from_data(data, (&values.device(), values.dtype())).unsqueeze()
                });
                match part {
                    "bias" => values * scale.equal_elem(1.0).float() + start,
                    _ => values * scale,
                }
            }),
            [.., norm, "gamma"] if ATTENTION_NORMS.contains(&norm) => {
                changed(param, |gains| gains * attention_gain)
            }
            [.., norm, "linear", "bias"] => {
                let parts = MODULATIONS.iter().find(|(name, _)| *name == norm);
                let Some(&(_, parts)) = parts else { return param };
                changed(param, |bias| {
                    let width = bias.dims()[0] / parts;
                    // The gate of a branch follows its shift and its scale.
                    (0..parts / 3).fold(bias, |bias, branch| {
                        let gates = s![(3 * branch + 2) * width..(3 * branch + 3) * width];
                        let opened = bias.clone().slice(gates) + gate;
                        bias.slice_assign(gates, opened)
                    })
                })
            }
            _ => param,
        }
    }
}

impl StructuredInitMapper {
    /// For each channel of all heads: the factor of its weights, and its bias in a position-aware
    /// head.
    fn place(&self, place_heads: usize, width: usize) -> [Vec<f32>; 2] {
        let head: usize = self.axes.iter().sum();
        let [_, rows, columns] = self.axes;
        let (first_row, first_column) = (head - columns - rows, head - columns);
        let fast = |channel: usize, first: usize, dim: usize| {
            // A frequency rotates a pair of channels; the bias is on the first of each.
            (first..first + dim.min(2 * FAST)).contains(&channel)
                && (channel - first).is_multiple_of(2)
        };
        let channels = (0..width).map(|channel| {
            let (in_place, channel) = (channel / head < place_heads, channel % head);
            let fast = fast(channel, first_row, rows) || fast(channel, first_column, columns);
            let scale = if in_place { PLACE_WEIGHT } else { 1.0 };
            (scale, if in_place && fast { PLACE_BIAS } else { 0.0 })
        });
        let (scales, biases) = channels.unzip();
        [scales, biases]
    }
}

fn changed<const D: usize>(
    param: Param<Tensor<D>>,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    param.map(|values| {
        let require_grad = values.is_require_grad();
        change(values.detach()).detach().set_require_grad(require_grad)
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use editmgt_core::{GridSize, MicroConditions, TokenGrid};

    use super::super::tests::{model_on, words};
    use super::super::{EditBatch, LossOptions, TextSide};
    use super::*;

    /// 4x4 cells of 2x2 tokens each.
    const GRID: GridSize = GridSize::new(8, 8);
    const AXES: [usize; 3] = [2, 2, 4];
    const MASK: u32 = 16;

    /// The model's logits for a fully masked canvas, `[N * V]`.
    fn logits(model: &EditModel, reference: Vec<u32>) -> Vec<f32> {
        let canvas = TokenGrid::new(1, GRID, vec![MASK; GRID.len()]).unwrap();
        let batch = EditBatch {
            target: canvas.clone(),
            canvas,
            reference: Some(TokenGrid::new(1, GRID, reference).unwrap()),
            prompts: vec![String::new()],
            timestep: vec![1.0],
            micro: vec![MicroConditions::uncropped(64, 64)],
            masked: vec![true; GRID.len()],
            scored: vec![true; GRID.len()],
            changed: vec![false; GRID.len()],
            contents: Vec::new(),
        };
        let text = TextSide::Trained(words()).encode(model, &[""]).unwrap();
        let features = model.forward(&batch, &text, &[]).unwrap().features;
        model.transformer().logits(features).try_into_vec_as::<f32>().unwrap()
    }

    /// The number of positions where a change of the reference changes that same position most.
    fn own_places(model: &EditModel) -> usize {
        let plain = vec![3; GRID.len()];
        let before = logits(model, plain.clone());
        let codes = before.len() / GRID.len();
        let tokens = |place: usize| {
            let first = place / 4 * 2 * GRID.width + place % 4 * 2;
            [first, first + 1, first + GRID.width, first + GRID.width + 1]
        };
        let is_own = |&place: &usize| {
            let mut reference = plain.clone();
            tokens(place).into_iter().for_each(|token| reference[token] = 7);
            let after = logits(model, reference);
            let change = |place: usize| {
                let of = |token: usize| token * codes..(token + 1) * codes;
                let off = |i: usize| (after[i] - before[i]).abs();
                tokens(place).into_iter().flat_map(of).map(off).sum::<f32>()
            };
            (0..16).all(|other| other == place || change(other) < change(place))
        };
        (0..16).filter(is_own).count()
    }

    #[test]
    fn structured_init_attends_to_the_own_position() {
        let model = || model_on(&Device::flex(), &LossOptions::default(), true);
        let structured_init = StructuredInit { place_heads: 2, attention_gain: 2.0, gate: 1.0 };
        structured_init.validate(2).unwrap();
        assert_eq!(own_places(&structured_init.apply(model(), AXES)), 16);
        let usual = own_places(&StructuredInit::default().apply(model(), AXES));
        assert!(usual < 8, "{usual} positions attend to themselves by chance");
    }

    #[test]
    fn bad_values_are_named() {
        let good = StructuredInit::default();
        for (structured_init, named) in [
            (StructuredInit { place_heads: 3, ..good }, "place_heads"),
            (StructuredInit { attention_gain: 0.5, ..good }, "attention_gain"),
            (StructuredInit { gate: f64::NAN, ..good }, "gate"),
        ] {
            assert!(structured_init.validate(2).unwrap_err().to_string().contains(named));
        }
    }
}
