//! aMUSEd's transformer: logits of every recorded grid, and the intermediate results of one.
//!
//! A folder has shared text inputs and micro-conditions, and per grid (`sq`, `ns`, …) the tokens
//! and the logits.

use burn::tensor::{DType, Device, Tensor};
use editmgt::load_component;
use editmgt_core::{
    AttentionRequest, GridSize, MgtTransformer, MicroConditions, StepInput, TextConditioning,
    TokenGrid,
};
use editmgt_transformer::{LayerPart, Stack, UVit2DConfig, UVit2DModel, UVit2DPoint};

use super::transformer::{LOGITS_TOLERANCE, channels_first, micro_conditions};
use super::{Comparison, GoldenFolder, VerifyError};

/// The grid of which the intermediate results were recorded.
const TRACED: &str = "sq";

/// Runs every grid of the folder.
pub(super) fn verify(
    folder: &GoldenFolder,
    config: &UVit2DConfig,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let build = || Ok((config.keys(), config.init(device)?));
    let model = load_component(folder.dir(), DType::F32, build)?;
    let text = TextConditioning {
        hidden: folder.tensor("encoder_hidden_states", device)?,
        pooled: folder.tensor("pooled_text_emb", device)?,
    };
    let (micro, timestep) = (micro_conditions(folder)?, vec![0.0; text.batch()]);
    let run = Run { folder, model: &model, text: &text, micro, timestep };
    let names = folder.names();
    let mut lines = Vec::new();
    for grid in names.iter().filter_map(|name| name.strip_suffix(".logits")) {
        let tokens = folder.tokens(&format!("{grid}.tokens"))?;
        let logits = model.forward(&run.input(&tokens), &AttentionRequest::none())?.logits;
        let expected = folder.floats(&format!("{grid}.logits"))?;
        let logits = channels_first(logits, tokens.size());
        lines.push(Comparison::tensor(logits, &expected, LOGITS_TOLERANCE)?);
    }
    lines.extend(run.intermediate_results()?);
    Ok(lines)
}

struct Run<'a> {
    folder: &'a GoldenFolder,
    model: &'a UVit2DModel,
    text: &'a TextConditioning,
    micro: Vec<MicroConditions>,
    /// Not read by the model.
    timestep: Vec<f32>,
}

impl Run<'_> {
    fn input<'v>(&'v self, tokens: &'v TokenGrid) -> StepInput<'v> {
        let (micro, timestep) = (&self.micro, &self.timestep);
        StepInput { tokens, reference: None, text: self.text, micro, timestep }
    }

    fn intermediate_results(&self) -> Result<Vec<Comparison>, VerifyError> {
        let recorded = |name: &String| name.starts_with("dbg.");
        let names: Vec<_> = self.folder.names().into_iter().filter(recorded).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let tokens = self.folder.tokens(&format!("{TRACED}.tokens"))?;
        let inner = self.model.inner_grid(tokens.size());
        let mut found: Vec<(String, Tensor<1>)> = Vec::new();
        self.model.forward_traced(
            &self.input(&tokens),
            &AttentionRequest::none(),
            |point, x| {
                let last = self.model.spec().double_blocks / 2 - 1;
                for (name, planes) in names_of(point, last, tokens.size(), inner) {
                    let x = match planes {
                        Some(grid) => channels_first(x.clone(), grid).flatten(0, 3),
                        None => x.clone().flatten(0, 2),
                    };
                    found.push((format!("dbg.{name}"), x));
                }
            },
        )?;
        // In the order of the pass, so that the first wrong line is the first wrong stage. One that
        // the pass does not have is compared with nothing, and fails.
        let (mut lines, mut missing) = (Vec::new(), names);
        for (name, got) in found {
            let Some(at) = missing.iter().position(|recorded| *recorded == name) else { continue };
            missing.remove(at);
            let got = got.try_into_vec_as::<f32>();
            let got = got.map_err(|e| editmgt_core::Error::device("reading a result", e))?;
            let expected = self.folder.floats(&name)?.values;
            lines.push(Comparison::values(name, &got, &expected, LOGITS_TOLERANCE));
        }
        for name in missing {
            let expected = self.folder.floats(&name)?.values;
            lines.push(Comparison::values(name, &[], &expected, LOGITS_TOLERANCE));
        }
        Ok(lines)
    }
}

/// The names of an intermediate result in the golden file; the grid of those that are recorded as
/// `[B, C, H, W]`. `last` is the last block of a stack.
fn names_of(
    point: UVit2DPoint,
    last: usize,
    canvas: GridSize,
    inner: GridSize,
) -> Vec<(String, Option<GridSize>)> {
    let stack = |stack| match stack {
        Stack::Down => "down",
        Stack::Up => "up",
    };
    let one = |name: String, planes| vec![(name, planes)];
    match point {
        UVit2DPoint::Context => one("context".into(), None),
        UVit2DPoint::MicroConditions => one("micro".into(), None),
        UVit2DPoint::Conditioning => one("cond".into(), None),
        UVit2DPoint::Embedding => one("embed".into(), Some(canvas)),
        UVit2DPoint::Merged => one("down.downsample".into(), Some(inner)),
        UVit2DPoint::Depthwise(at, block) => {
            one(format!("{}.res{block}.depthwise", stack(at)), Some(inner))
        }
        UVit2DPoint::ResponseNorm(at, block) => one(format!("{}.res{block}.grn", stack(at)), None),
        UVit2DPoint::Convolutions(at, block) => {
            one(format!("{}.res{block}", stack(at)), Some(inner))
        }
        UVit2DPoint::BlockText(at, block) => one(format!("{}.attn{block}.kv", stack(at)), None),
        UVit2DPoint::BlockAttention(at, block) => {
            one(format!("{}.attn{block}.attn1", stack(at)), None)
        }
        UVit2DPoint::Block(at, block) => {
            let mut names = one(format!("{}.attn{block}", stack(at)), None);
            if at == Stack::Down && block == last {
                names.push(("down".into(), Some(inner)));
            }
            names
        }
        UVit2DPoint::ToHidden => one("to_hidden".into(), None),
        UVit2DPoint::LayerPart(layer, part) => {
            let part = match part {
                LayerPart::Norm1 => "norm1",
                LayerPart::Attention1 => "attn1",
                LayerPart::Norm2 => "norm2",
                LayerPart::Attention2 => "attn2",
                LayerPart::Norm3 => "norm3",
                LayerPart::FeedForward => "ff",
            };
            one(format!("layer{layer}.{part}"), None)
        }
        UVit2DPoint::Layer(layer) => one(format!("layer{layer}"), None),
        UVit2DPoint::FromHidden => one("from_hidden".into(), None),
        UVit2DPoint::Output => one("up".into(), Some(canvas)),
        _ => Vec::new(),
    }
}
