use burn::tensor::{Device, Tensor, TensorData};
use editmgt_core::{
    ActiveRows, AttentionRequest, GridSize, ItemRows, MgtTransformer, MicroConditions,
    ReferenceInput, StepCache, StepInput, StepOutput, TextConditioning, TextRows, TokenGrid,
};

use super::{Case, Checked, ContractViolation, is_shape, uniforms};

/// Text rows of the cases.
const ROWS: usize = 5;

/// Panics with the broken rule: see [`check_transformer`].
///
/// # Panics
/// When a rule is broken.
#[track_caller]
pub fn assert_transformer_contract(transformer: &dyn MgtTransformer, device: &Device) {
    if let Err(violation) = check_transformer(transformer, device) {
        panic!("{violation}");
    }
}

/// Checks an [`MgtTransformer`]: logits have the documented shape and are finite, the same input
/// gives the same logits, with and without a reference (which a transformer that takes none refuses
/// as a value), capturing attention does not change them, maps have the requested layers and items,
/// are probabilities and absent unless requested, inputs that do not belong together are refused, a
/// full step with a cache equals a pass without, and partial steps of the same input, of some cells
/// and of all, give the logits of the full step.
///
/// # Errors
/// The first broken rule.
pub fn check_transformer(transformer: &dyn MgtTransformer, device: &Device) -> Checked {
    let spec = transformer.spec();
    let side = 4 * spec.grid_factor;
    for (batch, size) in [(1, GridSize::new(side, side)), (2, GridSize::new(side, side / 2))] {
        for with_reference in [false, true] {
            let name = format!(
                "{batch} images of {size}, {} reference",
                if with_reference { "a" } else { "no" }
            );
            let inputs = Inputs::new(Case(&name), transformer, batch, size, device)?;
            if with_reference && !transformer.takes_reference() {
                let result = transformer.forward(&inputs.input(true), &AttentionRequest::none());
                let case = inputs.case;
                case.refuses(
                    "a reference is refused where none is taken",
                    result,
                    super::is_value,
                )?;
                continue;
            }
            inputs.check(transformer, with_reference)?;
            inputs.check_cached(transformer, with_reference)?;
        }
    }
    Ok(())
}

struct Inputs<'a> {
    case: Case<'a>,
    canvas: TokenGrid,
    reference: TokenGrid,
    text: TextConditioning,
    micro: Vec<MicroConditions>,
    timestep: Vec<f32>,
}

impl<'a> Inputs<'a> {
    fn new(
        case: Case<'a>,
        transformer: &dyn MgtTransformer,
        batch: usize,
        size: GridSize,
        device: &Device,
    ) -> Result<Self, ContractViolation> {
        let spec = transformer.spec();
        let random = |shape: [usize; 3], seed: u64| {
            let values = uniforms(seed, shape.iter().product());
            let values = values.into_iter().map(|u| 2.0 * u - 1.0).collect();
            Tensor::<3>::from_data(TensorData::new(values, shape), device)
        };
        let n = batch * size.len();
        let codes: Vec<u32> =
            uniforms(2, n).into_iter().map(|u| (u * spec.codebook_size as f32) as u32).collect();
        let canvas = codes
            .iter()
            .enumerate()
            .map(|(i, &id)| if i % 3 == 0 { id } else { spec.mask_token })
            .collect();
        let grid = |ids| case.succeeds("a grid is valid", TokenGrid::new(batch, size, ids));
        Ok(Self {
            case,
            canvas: grid(canvas)?,
            reference: grid(codes)?,
            text: TextConditioning {
                hidden: random([batch, ROWS, spec.text_size], 3),
                pooled: random([batch, 1, spec.pooled_size], 4).squeeze_dim::<2>(1),
            },
            micro: vec![MicroConditions::uncropped(64, 64); batch],
            timestep: vec![3.0; batch],
        })
    }

    fn input(&self, with_reference: bool) -> StepInput<'_> {
        StepInput {
            tokens: &self.canvas,
            reference: with_reference
                .then_some(ReferenceInput { tokens: &self.reference, strength: 1.1 }),
            text: &self.text,
            micro: &self.micro,
            timestep: &self.timestep,
        }
    }

    fn check_cached(&self, transformer: &dyn MgtTransformer, with_reference: bool) -> Checked {
        let (case, spec, none) = (self.case, transformer.spec(), AttentionRequest::none());
        let (input, size) = (self.input(with_reference), self.canvas.size());
        let cells = self.canvas.batch() * transformer.inner_grid(size).len();
        let flags = |active: &dyn Fn(usize) -> bool| {
            let flags: Vec<bool> = (0..cells).map(active).collect();
            case.succeeds(
                "cells of the grid are valid",
                ActiveRows::new(size, spec.grid_factor, &flags),
            )
        };
        let mut cache = StepCache::new();
        let plain = self.forward(transformer, &input, &none)?.logits;
        let Some(some) = flags(&|cell| cell % 3 == 1)? else { return Ok(()) };
        if transformer.caches_steps() {
            let result = transformer.forward_cached(&input, &none, &mut cache, Some(&some));
            case.refuses("a partial step without a full one is refused", result, super::is_value)?;
        }
        let full = transformer.forward_cached(&input, &none, &mut cache, None);
        let full = case.succeeds("a full step succeeds", full)?.logits;
        let same = self.numbers(plain.clone())? == self.numbers(full)?;
        case.require("a full step equals a pass without cache", same, "other logits")?;
        // Twice each: the cache stays right.
        for active in [Some(some.clone()), flags(&|_| true)?, Some(some)].into_iter().flatten() {
            let output = transformer.forward_cached(&input, &none, &mut cache, Some(&active));
            let logits = case.succeeds("a partial step succeeds", output)?.logits;
            let expected = [active.batch(), active.slots(), spec.codebook_size];
            let dims = logits.dims();
            case.require("partial logits are [B, slots, V]", dims == expected, dims)?;
            let expected = case.succeeds("slots of logits", active.select(plain.clone()))?;
            let both = self.numbers(logits)?.into_iter().zip(self.numbers(expected)?);
            let largest = both.map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
            let rule = "a partial step of the same input gives the logits of the full step";
            case.require(rule, largest <= 1e-3, largest)?;
        }
        if spec.blocks() > 0 {
            let items = vec![ItemRows { item: 0, rows: TextRows::All }];
            let request = AttentionRequest { blocks: vec![0], items };
            let all = flags(&|_| true)?;
            let result = transformer.forward_cached(&input, &request, &mut cache, all.as_ref());
            case.refuses("capture in a partial step is refused", result, super::is_value)?;
        }
        Ok(())
    }

    fn check(&self, transformer: &dyn MgtTransformer, with_reference: bool) -> Checked {
        let (case, spec) = (self.case, transformer.spec());
        let (batch, size) = (self.canvas.batch(), self.canvas.size());
        let input = self.input(with_reference);
        let plain = self.forward(transformer, &input, &AttentionRequest::none())?;
        case.require("nothing is captured unless requested", plain.maps.is_none(), "maps")?;
        let dims = plain.logits.dims();
        let expected = [batch, size.len(), spec.codebook_size];
        case.require("logits are [B, N, V]", dims == expected, dims)?;
        let logits = self.numbers(plain.logits)?;
        let again = self.forward(transformer, &input, &AttentionRequest::none())?;
        let same = logits == self.numbers(again.logits)?;
        case.require("the same input gives the same logits", same, "other logits")?;

        let blocks: Vec<usize> = (0..spec.blocks()).rev().step_by(2).collect();
        if !blocks.is_empty() {
            let rows = [TextRows::All, TextRows::Rows(vec![0, ROWS - 1])];
            let items = rows.map(|rows| ItemRows { item: batch - 1, rows }).to_vec();
            let request = AttentionRequest { blocks: blocks.clone(), items };
            let output = self.forward(transformer, &input, &request)?;
            let near = self.numbers(output.logits)?;
            let near =
                logits.iter().zip(&near).all(|(a, b)| (a - b).abs() <= 1e-3 * a.abs().max(1.0));
            case.require("capturing does not change the logits", near, "other logits")?;
            let Some(maps) = output.maps else {
                return Err(case.violation("requested maps are there", "none"));
            };
            let shape = (maps.blocks(), maps.items(), maps.size());
            let expected = (&*blocks, 2, transformer.inner_grid(size));
            case.require("maps are as requested", shape == expected, shape)?;
            for layer in 0..blocks.len() {
                for item in 0..2 {
                    let map = maps.map(layer, item);
                    let sum: f32 = map.iter().sum();
                    let valid = map.iter().all(|p| (0.0..=1.0).contains(p)) && sum <= 1.001;
                    case.require("maps are probabilities", valid, map)?;
                }
            }
            let request = AttentionRequest { blocks: vec![spec.blocks()], ..request };
            let result = transformer.forward(&input, &request);
            case.refuses("a block that is not there is refused", result, super::is_value)?;
        }
        let result =
            transformer.forward(&StepInput { timestep: &[], ..input }, &AttentionRequest::none());
        case.refuses("too few timesteps are refused as a shape", result, is_shape)?;
        let result =
            transformer.forward(&StepInput { micro: &[], ..input }, &AttentionRequest::none());
        case.refuses("too few micro-conditions are refused as a shape", result, is_shape)
    }

    fn forward(
        &self,
        transformer: &dyn MgtTransformer,
        input: &StepInput<'_>,
        request: &AttentionRequest,
    ) -> Result<StepOutput, ContractViolation> {
        self.case.succeeds("a valid pass succeeds", transformer.forward(input, request))
    }

    fn numbers(&self, logits: Tensor<3>) -> Result<Vec<f32>, ContractViolation> {
        let values = logits.try_into_vec_as::<f32>();
        let values =
            values.map_err(|e| self.case.violation("logits can be read", format!("{e:?}")))?;
        let finite = values.iter().all(|value| value.is_finite());
        self.case.require("logits are finite", finite, "NaN or infinity")?;
        Ok(values)
    }
}
