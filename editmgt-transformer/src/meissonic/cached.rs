//! Partial steps: only some cells of the canvas, against the kept keys and values of the rest.
//!
//! ```text
//! full step      as usual; keeps every block's keys and values, normalised and rotated
//! partial step   active cells ► embedding, PatchDown (a cell's own tokens)
//!                for each block: project queries, keys, values of the active cells
//!                                write their keys and values over the kept ones
//!                                attend to all kept keys: [text, image, reference]
//!                PatchUp, MlmHead ► logits of the active cells' tokens
//! ```
//!
//! Text and reference aren't computed in a partial step: what they make of the canvas and of the
//! timestep is that of the full step. Down and up blocks are exact: a cell depends on its own
//! tokens only.

use burn::tensor::Tensor;
use editmgt_core::{
    ActiveRows, AttentionRequest, CacheDtype, Error, GridSize, MgtTransformer, ReferenceInput,
    Result, StepCache, StepInput, StepOutput, Upload,
};
use editmgt_kernels::{self as kernels, KeyPlaces, attention_operand};

use crate::meissonic::attention::KeyValues;
use crate::meissonic::capture::Capture;
use crate::meissonic::model::MgtModel;
use crate::meissonic::time_text::NumberParts;

/// What [`StepCache`] keeps for this model.
#[derive(Debug)]
pub(crate) struct KeptKeys {
    shapes: Shapes,
    /// The keys and values of each block, with the weights of canvas queries.
    blocks: Vec<kernels::KeyValues>,
}

/// What a pass keeps of its keys and values while it runs.
pub(crate) struct Keeping {
    /// Those of the full step before, of the blocks that have not been computed.
    old: std::vec::IntoIter<kernels::KeyValues>,
    /// `None` if the pass keeps nothing.
    blocks: Option<Vec<kernels::KeyValues>>,
    dtype: CacheDtype,
}

impl Keeping {
    /// For a pass that keeps nothing.
    pub(crate) fn nothing() -> Self {
        Self { old: Vec::new().into_iter(), blocks: None, dtype: CacheDtype::Model }
    }

    /// For a full step after another one.
    fn after(old: Option<KeptKeys>, dtype: CacheDtype) -> Self {
        let old = old.map(|kept| kept.blocks).unwrap_or_default();
        Self { old: old.into_iter(), blocks: Some(Vec::new()), dtype }
    }

    /// Frees the old keys and values of the next block, whose memory its new ones then take: all
    /// old ones and all new ones together would take twice as much.
    pub(crate) fn free_old(&mut self) {
        self.old.next();
    }

    /// Keeps those of a block.
    pub(crate) fn keep(&mut self, keys: KeyValues) {
        if let Some(blocks) = &mut self.blocks {
            let keys = keys.into_canvas();
            blocks.push(match self.dtype {
                CacheDtype::Bf16 => keys.to_bf16(),
                _ => keys,
            });
        }
    }
}

/// What a partial step must have in common with the full step before it.
#[derive(Debug, PartialEq)]
struct Shapes {
    batch: usize,
    tokens: GridSize,
    text_rows: usize,
    reference: Option<(GridSize, f32)>,
}

impl Shapes {
    fn new(input: &StepInput<'_>) -> Self {
        let reference = reference(input);
        Self {
            batch: input.tokens.batch(),
            tokens: input.tokens.size(),
            text_rows: input.text.rows(),
            reference: reference.map(|reference| (reference.tokens.size(), reference.strength)),
        }
    }
}

/// With strength 0 the reference doesn't influence the logits.
pub(crate) fn reference<'a>(input: &StepInput<'a>) -> Option<ReferenceInput<'a>> {
    input.reference.filter(|reference| reference.strength > 0.0)
}

impl MgtModel {
    pub(crate) fn full_step(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        cache: &mut StepCache,
    ) -> Result<StepOutput> {
        let mut kept = Keeping::after(cache.take(), cache.dtype());
        let (features, capture) = self.pass(input, request, |_| (), &mut kept)?;
        let logits = self.logits(features);
        let blocks = kept.blocks.unwrap_or_default();
        cache.put(KeptKeys { shapes: Shapes::new(input), blocks });
        Ok(StepOutput { logits, maps: capture.map(Capture::finish).transpose()? })
    }

    pub(crate) fn partial_step(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        cache: &mut StepCache,
        active: &ActiveRows,
    ) -> Result<StepOutput> {
        self.check(input, request)?;
        active.check(input, request, self.spec())?;
        let (shapes, expected) = (Shapes::new(input), "one that a full step of this input filled");
        let kept = match cache.get_mut::<KeptKeys>() {
            Some(kept) if kept.blocks.len() == self.spec().blocks() => kept,
            Some(_) => return Err(Error::value("step cache", expected, "one of another model")),
            None => return Err(Error::value("step cache", expected, "an empty one")),
        };
        if kept.shapes != shapes {
            let got = format!("{:?} for {shapes:?}", kept.shapes);
            return Err(Error::value("step cache", expected, got));
        }
        let logits = self.install(|| self.active_cells(input, &mut kept.blocks, active));
        // A cache that was half updated belongs to no step.
        if logits.is_err() {
            cache.clear();
        }
        Ok(StepOutput { logits: logits?, maps: None })
    }

    /// The logits of the active cells, `[B, slots, V]`.
    fn active_cells(
        &self,
        input: &StepInput<'_>,
        blocks: &mut [kernels::KeyValues],
        active: &ActiveRows,
    ) -> Result<Tensor<3>> {
        let device = self.device();
        let (batch, slots, text_rows) = (active.batch(), active.slots(), input.text.rows());
        let inner = self.inner_grid(input.tokens.size());
        let keys = text_rows
            + inner.len()
            + reference(input)
                .map_or(0, |reference| self.inner_grid(reference.tokens.size()).len());
        let places: Vec<usize> = active.cells().iter().map(|cell| text_rows + cell).collect();
        let positions = active.positions();
        let id = |(slot, position): (usize, &Option<usize>)| match position {
            Some(position) => input.tokens.image(slot / slots)[*position] as usize,
            None => self.mask_token() as usize,
        };

        let mut upload = Upload::default();
        let numbers = NumberParts::new(input, &mut upload);
        let ids = upload.indices(positions.iter().enumerate().map(id))?;
        let cells = upload.indices(active.cells().iter().copied())?;
        let sources = upload.indices(KeyPlaces::sources(&places, batch, keys))?;
        let inside = positions.contains(&None).then(|| {
            upload.floats(positions.iter().map(|place| f32::from(u8::from(place.is_some()))))
        });
        let sent = upload.send(&device);

        let mut context = self.context(input, None, (&numbers, &sent), &mut |_| ());
        let cells = sent.indices(cells, [batch, active.rows()]);
        context.image_rotation = context.image_rotation.select(cells.clone());
        let places = KeyPlaces::new(places, sent.indices(sources, [batch, keys]));
        let embedded = self.embedded(sent.indices(ids, [batch, 1, slots]));
        let inside = inside.map(|part| sent.floats(part, [batch, slots, 1]).cast(self.dtype()));
        let mut image = self.cell_stream(embedded, inside, (inner, cells));
        let (double, single) = self.blocks();
        let (of_double, of_single) = blocks.split_at_mut(double.len());
        for (layer, keys) in double.iter().zip(of_double) {
            image = layer.forward_cells(image, &context, keys, &places);
        }
        for (layer, keys) in single.iter().zip(of_single) {
            image = layer.forward_cells(image, &context, keys, &places);
        }
        Ok(self.cell_head(image))
    }
}

/// [`kernels::KeyValues::replace`], in the dtype of the kept keys.
pub(crate) fn replace(
    keys: &mut kernels::KeyValues,
    places: &KeyPlaces,
    key: &Tensor<4>,
    value: &Tensor<4>,
) {
    let operand = |x: &Tensor<4>| attention_operand(x.clone(), keys.dtype());
    let (key, value) = (operand(key), operand(value));
    keys.replace(places, key, value);
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{DType, Device};
    use editmgt_core::{ItemRows, TextRows};

    use super::*;
    use crate::meissonic::tests::{Cast, Inputs, difference, logits, model, relative_rms, tiny};
    use crate::{Connector, MgtConfig};

    const NONE: AttentionRequest = AttentionRequest { blocks: Vec::new(), items: Vec::new() };

    fn flags(inputs: &Inputs, model: &MgtModel, active: impl Fn(usize) -> bool) -> ActiveRows {
        let (tokens, factor) = (inputs.tokens(), model.spec().grid_factor);
        let cells = tokens.batch() * tokens.size().div_ceil(factor).len();
        let active: Vec<bool> = (0..cells).map(active).collect();
        ActiveRows::new(tokens.size(), factor, &active).unwrap().unwrap()
    }

    /// Every combination of what a pass can have.
    fn cases() -> Vec<(String, MgtModel, Inputs, Option<f32>)> {
        let mut cases = Vec::new();
        for resample in [false, true] {
            for connector in [Connector::Linear, Connector::None] {
                let config = tiny(resample);
                let joint_attention_dim = match connector {
                    Connector::Linear => config.joint_attention_dim,
                    _ => config.width(),
                };
                let text = joint_attention_dim;
                let config = MgtConfig {
                    connector_type: connector.clone(),
                    joint_attention_dim,
                    // With places and without.
                    position_frequencies: if resample { 3 } else { 0 },
                    ..config
                };
                let model = config.init(&Device::flex()).unwrap();
                for (size, reference) in [((4, 6), (4, 6)), ((3, 5), (4, 4)), ((1, 1), (2, 2))] {
                    for strength in [None, Some(0.0), Some(1.0), Some(1.5)] {
                        let [size, reference] =
                            [size, reference].map(|(height, width)| GridSize::new(height, width));
                        let name = format!("{resample} {connector:?} {size} {strength:?}");
                        let inputs = Inputs::with_text(size, reference, text);
                        cases.push((name, model.clone(), inputs, strength));
                    }
                }
            }
        }
        cases
    }

    fn input(inputs: &Inputs, strength: Option<f32>) -> StepInput<'_> {
        strength.map_or_else(|| inputs.text_to_image(), |strength| inputs.edit(strength))
    }

    #[test]
    fn a_full_step_equals_a_plain_pass_and_so_does_a_step_with_all_cells_active() {
        for (name, model, mut inputs, strength) in cases() {
            let mut cache = StepCache::new();
            let items = vec![ItemRows { item: 1, rows: TextRows::All }];
            let request = AttentionRequest { blocks: vec![0, 3], items };
            let step = input(&inputs, strength);
            let full = model.forward_cached(&step, &request, &mut cache, None).unwrap();
            let plain = model.forward(&step, &request).unwrap();
            assert_eq!(difference(full.logits, plain.logits), 0.0, "{name}");
            assert_eq!(full.maps, plain.maps, "{name}");

            let plain = logits(&model, step);
            let all = flags(&inputs, &model, |_| true);
            // The canvas, another one, and the canvas again, which must overwrite all of the other.
            for (step, shift) in [0, 7, 13].into_iter().enumerate() {
                inputs.change_tokens(|_, id| (id + shift) % 20);
                let input = input(&inputs, strength);
                let partial = model.forward_cached(&input, &NONE, &mut cache, Some(&all)).unwrap();
                let partial = all.expand(partial.logits).unwrap();
                let difference = difference(partial, plain.clone());
                assert_eq!(difference == 0.0, step != 1, "{name}, {step}: {difference}");
            }
        }
    }

    #[test]
    fn unchanged_cells_keep_their_logits() {
        for (name, model, inputs, strength) in cases() {
            let mut cache = StepCache::new();
            let step = input(&inputs, strength);
            let full = model.forward_cached(&step, &NONE, &mut cache, None).unwrap().logits;
            // Other cells for each item.
            let some = flags(&inputs, &model, |cell| cell % 4 == 0 || cell % 7 == 0);
            let partial = model.forward_cached(&step, &NONE, &mut cache, Some(&some)).unwrap();
            let partial = some.expand(partial.logits).unwrap();
            let full = some.expand(some.select(full).unwrap()).unwrap();
            // Products of other shapes may sum in another order.
            assert!(difference(partial, full) < 1e-5, "{name}");
        }
    }

    #[test]
    fn idle_cells_see_what_active_cells_computed() {
        let (model, mut inputs) = (model(true), Inputs::square());
        let mut cache = StepCache::new();
        let run = |inputs: &Inputs, cache: &mut StepCache, active: Option<&ActiveRows>| {
            model.forward_cached(&inputs.edit(1.1), &NONE, cache, active).unwrap().logits
        };
        run(&inputs, &mut cache, None);
        let (first, second) =
            (flags(&inputs, &model, |cell| cell % 6 == 0), flags(&inputs, &model, |c| c % 6 == 5));
        let before = run(&inputs, &mut cache, Some(&second));
        inputs.change_tokens(|index, id| if index % 24 < 2 { (id + 3) % 20 } else { id });
        // The changed tokens are those of the first cell, which isn't computed yet.
        assert_eq!(difference(run(&inputs, &mut cache, Some(&second)), before.clone()), 0.0);
        run(&inputs, &mut cache, Some(&first));
        assert!(difference(run(&inputs, &mut cache, Some(&second)), before) > 1e-4);
    }

    #[test]
    fn half_precision_follows_f32() {
        let (exact, mut inputs) = (model(true), Inputs::square());
        let run = |model: &MgtModel, inputs: &mut Inputs| {
            let mut cache = StepCache::new();
            let some = flags(inputs, model, |cell| cell % 2 == 0);
            model.forward_cached(&inputs.edit(1.1), &NONE, &mut cache, None).unwrap();
            inputs.change_tokens(|index, id| if index % 12 == 0 { 19 - id } else { id });
            let step = inputs.edit(1.1);
            let partial = model.forward_cached(&step, &NONE, &mut cache, Some(&some)).unwrap();
            inputs.change_tokens(|index, id| if index % 12 == 0 { 19 - id } else { id });
            partial.logits
        };
        let expected = run(&exact, &mut inputs);
        for (dtype, tolerance) in [(DType::BF16, 0.05), (DType::F16, 0.01)] {
            let half = run(&exact.clone().map(&mut Cast(dtype)), &mut inputs);
            assert_eq!(half.dtype(), dtype);
            let error = relative_rms(half.cast(DType::F32), expected.clone());
            assert!(error < tolerance, "{dtype:?}: {error}");
        }
    }

    #[test]
    fn a_cache_in_bf16_gives_nearly_the_same() {
        let (model, mut inputs) = (model(true), Inputs::square());
        let run = |dtype, inputs: &mut Inputs| {
            let mut cache = StepCache::with_dtype(dtype);
            let some = flags(inputs, &model, |cell| cell % 2 == 0);
            let full = model.forward_cached(&inputs.edit(1.1), &NONE, &mut cache, None).unwrap();
            inputs.change_tokens(|index, id| if index % 12 == 0 { 19 - id } else { id });
            let step = inputs.edit(1.1);
            let partial = model.forward_cached(&step, &NONE, &mut cache, Some(&some)).unwrap();
            inputs.change_tokens(|index, id| if index % 12 == 0 { 19 - id } else { id });
            (full.logits, partial.logits)
        };
        let (full, partial) = run(CacheDtype::Model, &mut inputs);
        let (full_bf16, partial_bf16) = run(CacheDtype::Bf16, &mut inputs);
        assert_eq!(difference(full_bf16, full), 0.0);
        let error = relative_rms(partial_bf16, partial);
        // Without instructions for bf16 it is kept in f32.
        assert!(error < 0.02, "{error}");
    }

    #[test]
    fn a_partial_step_refuses_what_its_cache_does_not_fit() {
        let (model, inputs) = (model(true), Inputs::square());
        let some = flags(&inputs, &model, |cell| cell == 1);
        let refused = |input: StepInput<'_>, request: &AttentionRequest, cache: &mut StepCache| {
            model.forward_cached(&input, request, cache, Some(&some)).unwrap_err().to_string()
        };
        let mut cache = StepCache::new();
        let error = refused(inputs.edit(1.1), &NONE, &mut cache);
        assert!(error.starts_with("step cache: expected one that a full step"), "{error}");

        model.forward_cached(&inputs.edit(1.1), &NONE, &mut cache, None).unwrap();
        for other in [inputs.edit(1.2), inputs.text_to_image()] {
            let error = refused(other, &NONE, &mut cache);
            assert!(error.contains("reference: Some") && error.contains("1.1"), "{error}");
        }
        let items = vec![ItemRows { item: 0, rows: TextRows::All }];
        let request = AttentionRequest { blocks: vec![0], items };
        let error = refused(inputs.edit(1.1), &request, &mut cache);
        assert!(error.starts_with("attention request: expected none"), "{error}");
        let other = ActiveRows::new(GridSize::new(4, 4), 2, &[true; 8]).unwrap().unwrap();
        let step = inputs.edit(1.1);
        let error = model.forward_cached(&step, &NONE, &mut cache, Some(&other)).unwrap_err();
        assert!(matches!(error, Error::Shape { what: "active cells", .. }), "{error}");

        // What is refused changes nothing.
        model.forward_cached(&step, &NONE, &mut cache, Some(&some)).unwrap();
        cache.put("of another model");
        let error = refused(inputs.edit(1.1), &NONE, &mut cache);
        assert!(error.contains("an empty one"), "{error}");
    }
}
