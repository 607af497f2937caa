//! The transformer: logits of every recorded variant, attention maps, and the intermediate results
//! of one edit.
//!
//! A folder has shared text inputs, and per grid (`sq`, `ns`, …) the tokens and one
//! `<grid>.<variant>.logits` per variant. A variant may have its own timestep or reference tokens;
//! `t2i` has no reference, and `…_s1p5` in its name is a reference strength of 1.5 (`s1em9` is
//! 1e-9).

use burn::tensor::{DType, Device, Tensor};
use editmgt::load_component;
use editmgt_core::{
    AttentionMaps, AttentionRequest, GridSize, ItemRows, MgtTransformer, MicroConditions,
    ReferenceInput, StepInput, TextConditioning, TextRows, TokenGrid,
};
use editmgt_transformer::{MgtModel, Trace, TransformerConfig};

use super::golden::{GoldenFolder, GoldenTensor};
use super::{Comparison, VerifyError};

pub(super) const LOGITS_TOLERANCE: f64 = 5e-4;
const MAPS_TOLERANCE: f64 = 1e-5;

/// The grid and the variant of which the intermediate results were recorded.
const TRACED: (&str, &str) = ("sq", "edit_s1");

/// Runs every variant of a folder with a transformer of Meissonic's family.
pub(super) fn verify(
    folder: &GoldenFolder,
    config: &TransformerConfig,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let keys = config.keys();
    let (TransformerConfig::Meissonic(config) | TransformerConfig::Muddit(config)) = config else {
        return Err(folder.malformed("a transformer of a family without a stage here"));
    };
    let model = load_component(folder.dir(), DType::F32, || Ok((keys, config.init(device)?)))?;
    let text = TextConditioning {
        hidden: folder.tensor("encoder_hidden_states", device)?,
        pooled: folder.tensor("pooled_projections", device)?,
    };
    let run = Run { folder, model: &model, text: &text, micro: micro_conditions(folder)? };

    let mut lines = Vec::new();
    for name in folder.names() {
        if let Some((grid, variant)) = name.strip_suffix(".logits").and_then(|n| n.split_once('.'))
        {
            lines.push(run.logits(&name, &Variant::named(folder, grid, variant)?)?);
        } else if let Some(capture) = name.strip_prefix("capture.") {
            lines.push(run.attention(&name, capture)?);
        }
    }
    lines.extend(run.without_strength()?);
    lines.extend(run.intermediate_results()?);
    Ok(lines)
}

pub(super) fn micro_conditions(folder: &GoldenFolder) -> Result<Vec<MicroConditions>, VerifyError> {
    let GoldenTensor { values, .. } = folder.floats("micro_conds")?;
    let rows = values.as_chunks::<5>().0.iter();
    Ok(rows
        .map(|&[width, height, crop_top, crop_left, aesthetic_score]| MicroConditions {
            width,
            height,
            crop_top,
            crop_left,
            aesthetic_score,
        })
        .collect())
}

/// The inputs of one recorded forward pass.
struct Variant {
    tokens: TokenGrid,
    reference: Option<(TokenGrid, f32)>,
    timestep: Vec<f32>,
}

impl Variant {
    fn named(folder: &GoldenFolder, grid: &str, variant: &str) -> Result<Self, VerifyError> {
        let own_or_shared = |what: &str| {
            let own = format!("{grid}.{variant}.{what}");
            if folder.has(&own) { own } else { format!("{grid}.{what}") }
        };
        let timestep = own_or_shared("timestep");
        let timestep = match folder.ints(&timestep) {
            Ok(steps) => steps.values.into_iter().map(|step| step as f32).collect(),
            Err(_) => folder.floats(&timestep)?.values,
        };
        let reference = match variant {
            "t2i" => None,
            _ => Some((folder.tokens(&own_or_shared("reference_tokens"))?, strength(variant))),
        };
        Ok(Self { tokens: folder.tokens(&format!("{grid}.tokens"))?, reference, timestep })
    }
}

/// The strength in the name of a variant, 1 by default.
fn strength(variant: &str) -> f32 {
    let number =
        |part: &str| part.strip_prefix('s')?.replace('p', ".").replace("em", "e-").parse().ok();
    variant.split('_').find_map(number).unwrap_or(1.0)
}

struct Run<'a> {
    folder: &'a GoldenFolder,
    model: &'a MgtModel,
    text: &'a TextConditioning,
    micro: Vec<MicroConditions>,
}

impl Run<'_> {
    fn input<'v>(&'v self, variant: &'v Variant) -> StepInput<'v> {
        StepInput {
            tokens: &variant.tokens,
            reference: variant
                .reference
                .as_ref()
                .map(|(tokens, strength)| ReferenceInput { tokens, strength: *strength }),
            text: self.text,
            micro: &self.micro,
            timestep: &variant.timestep,
        }
    }

    fn logits(&self, name: &str, variant: &Variant) -> Result<Comparison, VerifyError> {
        let output = self.model.forward(&self.input(variant), &AttentionRequest::none())?;
        let logits = channels_first(output.logits, variant.tokens.size());
        Comparison::tensor(logits, &self.folder.floats(name)?, LOGITS_TOLERANCE)
    }

    /// Strength 0 is not recorded: it must equal text-to-image.
    fn without_strength(&self) -> Result<Vec<Comparison>, VerifyError> {
        let mut lines = Vec::new();
        for name in self.folder.names() {
            let Some(grid) = name.strip_suffix(".t2i.logits") else { continue };
            if !self.folder.has(&format!("{grid}.reference_tokens")) {
                continue;
            }
            let mut variant = Variant::named(self.folder, grid, "edit")?;
            variant.reference = variant.reference.map(|(tokens, _)| (tokens, 0.0));
            let mut line = self.logits(&name, &variant)?;
            line.name = format!("{name} from an edit of strength 0");
            lines.push(line);
        }
        Ok(lines)
    }

    /// `capture` is `<variant>.block<index>.<mean or full>`; the recorded tensor is
    /// `[B, T, cells]`, averaged over heads, or `[B, heads, T, cells]`.
    fn attention(&self, name: &str, capture: &str) -> Result<Comparison, VerifyError> {
        let malformed = || {
            let path = self.folder.dir().join("golden.safetensors");
            VerifyError::golden(path, format!("{name}: expected capture.<variant>.block<n>.<kind>"))
        };
        let mut parts = capture.split('.');
        let (Some(variant), Some(block)) = (parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let block = block.strip_prefix("block").and_then(|n| n.parse().ok());
        let block = block.ok_or_else(malformed)?;
        let expected = self.folder.floats(name)?;
        let [batch, heads, rows, cells] = match expected.shape[..] {
            [batch, rows, cells] => [batch, 1, rows, cells],
            [batch, heads, rows, cells] => [batch, heads, rows, cells],
            _ => return Err(malformed()),
        };
        if expected.values.is_empty() {
            return Err(malformed());
        }

        // Row by row for every item, then all rows at once.
        let single =
            |item| (0..rows).map(move |row| ItemRows { item, rows: TextRows::Rows(vec![row]) });
        let all = |item| ItemRows { item, rows: TextRows::All };
        let items: Vec<_> = (0..batch).flat_map(single).chain((0..batch).map(all)).collect();
        let request = AttentionRequest { blocks: vec![block], items };
        let variant = Variant::named(self.folder, TRACED.0, variant)?;
        let maps = self.model.forward(&self.input(&variant), &request)?.maps;
        let got = maps.map(|maps| all_maps(&maps)).unwrap_or_default();

        let mut wanted = Vec::with_capacity(got.len());
        for item in expected.values.chunks(heads * rows * cells) {
            wanted.extend(mean_over(item, rows * cells));
        }
        for item in 0..batch {
            let mean = mean_over(&wanted[item * rows * cells..][..rows * cells], cells);
            wanted.extend(mean);
        }
        Ok(Comparison::values(name, &got, &wanted, MAPS_TOLERANCE))
    }

    fn intermediate_results(&self) -> Result<Vec<Comparison>, VerifyError> {
        if !self.folder.names().iter().any(|name| name.starts_with("dbg.")) {
            return Ok(Vec::new());
        }
        let variant = Variant::named(self.folder, TRACED.0, TRACED.1)?;
        let mut found = Vec::new();
        self.model.forward_traced(&self.input(&variant), &AttentionRequest::none(), |trace| {
            self.record(trace, &variant.tokens, &mut found);
        })?;

        let mut lines = Vec::new();
        for (name, got) in found.into_iter().filter(|(name, _)| self.folder.has(name)) {
            let mut expected = self.folder.floats(&name)?;
            let got = got.try_into_vec_as::<f32>();
            let got = got.map_err(|e| editmgt_core::Error::device("reading a result", e))?;
            if got.len() < expected.values.len() && name.ends_with(".joint") {
                // The last block computes the image rows only.
                expected = without_rows(&expected, self.text.rows());
            }
            lines.push(Comparison::values(&name, &got, &expected.values, LOGITS_TOLERANCE));
        }
        Ok(lines)
    }

    /// Names an intermediate result as the golden file does.
    fn record(&self, trace: Trace<'_>, tokens: &TokenGrid, found: &mut Vec<(String, Tensor<1>)>) {
        let planes = |x: &Tensor<3>| channels_first(x.clone(), tokens.size()).flatten(2, 3);
        let single = |block: usize| format!("single{}", block - self.model.spec().double_blocks);
        let mut add = |name: &str, x: Option<&Tensor<3>>| {
            let flat = x.map(|x| (format!("dbg.{name}"), x.clone().flatten(0, 2)));
            found.extend(flat);
        };
        match trace {
            Trace::Conditioning { pooled, canvas, reference } => {
                for (name, x) in
                    [("cond_embed", pooled), ("temb", canvas), ("reference_temb", reference)]
                {
                    add(name, Some(&x.clone().unsqueeze()));
                }
            }
            Trace::Embedding(x) => add("embed", Some(&planes(x))),
            Trace::Input { text, image, reference } => {
                add("context", Some(text));
                add("image_in", Some(image));
                add("reference_in", reference);
            }
            Trace::Double { block, text, image, reference } => {
                add(&format!("double{block}.text"), Some(text));
                add(&format!("double{block}.image"), Some(image));
                add(&format!("double{block}.reference"), reference);
            }
            Trace::Single { block, joint, reference } => {
                add(&format!("{}.joint", single(block)), Some(joint));
                add(&format!("{}.reference", single(block)), reference);
            }
            Trace::Last(image) => {
                add(&format!("{}.joint", single(self.model.spec().blocks() - 1)), Some(image));
            }
            Trace::Output(x) => add("up", Some(&planes(x))),
            _ => {}
        }
    }
}

/// `[B, H*W, C]` to the golden layout `[B, C, H, W]`.
pub(super) fn channels_first(x: Tensor<3>, size: GridSize) -> Tensor<4> {
    let [batch, _, channels] = x.dims();
    x.swap_dims(1, 2).reshape([batch, channels, size.height, size.width])
}

/// All maps one after the other, item by item.
fn all_maps(maps: &AttentionMaps) -> Vec<f32> {
    (0..maps.items()).flat_map(|item| maps.map(0, item)).copied().collect()
}

/// The mean over blocks of `size` values.
fn mean_over(values: &[f32], size: usize) -> Vec<f32> {
    let count = (values.len() / size) as f64;
    let sum = |at| values.iter().skip(at).step_by(size).map(|&v| f64::from(v)).sum::<f64>();
    (0..size).map(|at| (sum(at) / count) as f32).collect()
}

/// `[B, N, D]` without the first `rows` of every item.
fn without_rows(tensor: &GoldenTensor<f32>, rows: usize) -> GoldenTensor<f32> {
    let [batch, tokens, channels] = tensor.shape[..] else { return tensor.clone() };
    if tokens <= rows || tensor.values.is_empty() {
        return tensor.clone();
    }
    let items = tensor.values.chunks(tokens * channels);
    GoldenTensor {
        name: tensor.name.clone(),
        shape: vec![batch, tokens - rows, channels],
        values: items.flat_map(|item| &item[rows * channels..]).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_is_part_of_the_name() {
        for (variant, expected) in [
            ("edit_s1", 1.0),
            ("edit_s1p5", 1.5),
            ("edit_s0p5", 0.5),
            ("edit_s1em9", 1e-9),
            ("edit_t35", 1.0),
            ("edit_refsmall", 1.0),
            ("train_t", 1.0),
        ] {
            assert_eq!(strength(variant), expected, "{variant}");
        }
    }
}
