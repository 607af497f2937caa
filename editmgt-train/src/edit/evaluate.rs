use std::collections::BTreeMap;

use burn::tensor::Tensor;
use editmgt_core::{Error, MgtTransformer};

use super::batch::BatchSettings;
use super::{EditBatch, EditDataset, EditModel, EditOptions, LossOptions, TextSide, masked_nll};
use crate::run::{Draws, Metrics, TrainError};
use editmgt_world::Category;
use editmgt_world::auc;

/// Mask ratios of the canvas at which the loss is measured.
const RATIOS: [f32; 4] = [1.0, 0.75, 0.5, 0.25];

/// Seed of the evaluation's draws, the same in every run.
const SEED: u64 = 0;

/// Measures a model on the first examples of a data set:
///
/// - `nll@r`: the loss with equal token weights at mask ratio r;
/// - `changed`, `changed/<category>`: accuracy of the most probable code on changed tokens of a
///   fully masked canvas;
/// - `kept`: the same for the unchanged tokens;
/// - `map_auc`: ROC AUC of the mean attention map of the supervised blocks for cells with changed
///   tokens, on a fully masked canvas (0.5 is chance).
pub(super) fn evaluate(
    model: &EditModel,
    text: &TextSide,
    data: &dyn EditDataset,
    options: &EditOptions,
) -> Result<Metrics, TrainError> {
    let plain = EditOptions { loss: options.loss.clone(), ..EditOptions::paper(options.batch) };
    let plain = EditOptions { timestep: options.timestep, ..plain };
    let settings = BatchSettings {
        options: &plain,
        draws: &Draws::new(SEED),
        grid: data.grid(),
        micro: data.micro(),
        mask_token: model.transformer().spec().mask_token,
    };
    let indices: Vec<u64> = (0..data.len().min(options.evaluated as u64)).collect();
    let mut losses = [Mean::default(); RATIOS.len()];
    let mut tokens = Tokens::default();
    let mut auc = Mean::default();
    let mut heads = BTreeMap::<String, Mean>::new();
    for (number, indices) in indices.chunks(options.batch).enumerate() {
        let examples = data.examples(indices)?;
        let categories: Vec<_> = examples.iter().map(|example| example.category).collect();
        let batch = EditBatch::new(settings, number as u64, examples)?;
        let prompts: Vec<&str> = batch.prompts.iter().map(String::as_str).collect();
        let text = text.encode(model, &prompts)?;
        for (ratio, mean) in RATIOS.into_iter().zip(&mut losses) {
            let batch = batch.remasked(settings, number as u64, ratio);
            let blocks: &[usize] = if ratio == 1.0 { &options.loss.map_blocks } else { &[] };
            let output = model.forward(&batch, &text, blocks)?;
            if ratio == 1.0 {
                for (name, answers) in model.head_answers(&batch, &output.reference)? {
                    let mean: &mut Mean = heads.entry(name).or_default();
                    answers.iter().for_each(|&right| mean.add(f64::from(u8::from(right)), 1.0));
                }
            }
            let logits = model.transformer().logits(output.features);
            if ratio == 1.0 {
                tokens.count(&batch, &categories, logits.clone())?;
                let inner = model.transformer().inner_grid(data.grid());
                map_aucs(&output.maps, &batch.region(inner), &mut auc)?;
            }
            let loss = masked_nll(logits, &batch.target, &batch.weights(&LossOptions::default()))?;
            let loss = loss.try_into_scalar::<f32>();
            let loss = loss.map_err(|e| Error::device("reading the loss", e))?;
            mean.add(f64::from(loss), indices.len() as f64);
        }
    }
    let mut metrics = Metrics::default();
    for (ratio, mean) in RATIOS.into_iter().zip(losses) {
        metrics = metrics.with(format!("nll@{ratio}"), mean.value());
    }
    if auc.weight > 0.0 {
        metrics = metrics.with("map_auc", auc.value());
    }
    for (name, mean) in heads.into_iter().filter(|(_, mean)| mean.weight > 0.0) {
        metrics = metrics.with(name, mean.value());
    }
    Ok(tokens.add_to(metrics))
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    fn value(self) -> f64 {
        self.sum / self.weight
    }
}

/// Counts of correct tokens.
#[derive(Debug, Default)]
struct Tokens {
    kept: Mean,
    changed: Mean,
    by_category: BTreeMap<Category, Mean>,
}

impl Tokens {
    fn count(
        &mut self,
        batch: &EditBatch,
        categories: &[Option<Category>],
        logits: Tensor<3>,
    ) -> Result<(), TrainError> {
        let best = logits.argmax(2).try_into_vec_as::<i64>();
        let best = best.map_err(|e| Error::device("reading the best codes", e))?;
        let positions = batch.target.size().len();
        for (i, (&target, best)) in batch.target.ids().iter().zip(best).enumerate() {
            let right = f64::from(u8::from(i64::from(target) == best));
            if !batch.changed[i] {
                self.kept.add(right, 1.0);
                continue;
            }
            self.changed.add(right, 1.0);
            if let Some(category) = categories[i / positions] {
                self.by_category.entry(category).or_default().add(right, 1.0);
            }
        }
        Ok(())
    }

    fn add_to(self, metrics: Metrics) -> Metrics {
        let named = [("kept".to_owned(), self.kept), ("changed".to_owned(), self.changed)];
        let by_category = self
            .by_category
            .into_iter()
            .map(|(category, mean)| (format!("changed/{}", category.name()), mean));
        let known = named.into_iter().chain(by_category).filter(|(_, mean)| mean.weight > 0.0);
        known.fold(metrics, |metrics, (name, mean)| metrics.with(name, mean.value()))
    }
}

/// ROC AUC of each item's mean map against its region; `None` for items that change everywhere or
/// nowhere.
fn map_aucs(maps: &[Tensor<2>], region: &[f32], mean: &mut Mean) -> Result<(), TrainError> {
    let Some(first) = maps.first() else { return Ok(()) };
    let [_, cells] = first.dims();
    let sum = maps[1..].iter().fold(first.clone(), |sum, map| sum + map.clone());
    let sum = sum.try_into_vec_as::<f32>();
    let sum = sum.map_err(|e| Error::device("reading attention maps", e))?;
    for (scores, region) in sum.chunks_exact(cells).zip(region.chunks_exact(cells)) {
        let marked: Vec<bool> = region.iter().map(|share| *share > 0.0).collect();
        if let Some(auc) = auc(scores, &marked) {
            mean.add(auc, 1.0);
        }
    }
    Ok(())
}

impl EditBatch {
    /// The same batch with every canvas masked at this ratio.
    fn remasked(&self, settings: BatchSettings<'_>, number: u64, ratio: f32) -> Self {
        let mut batch = self.clone();
        let positions = self.target.size().len();
        for item in 0..self.target.batch() {
            let sample = number * settings.options.batch as u64 + item as u64;
            let masked = super::masking::masked_at(settings.draws, sample, positions, ratio);
            let at = item * positions..(item + 1) * positions;
            let target = &self.target.ids()[at.clone()];
            let canvas = &mut batch.canvas.ids_mut()[at.clone()];
            for ((token, &id), &masked) in canvas.iter_mut().zip(target).zip(&masked) {
                *token = if masked { settings.mask_token } else { id };
            }
            batch.masked[at.clone()].copy_from_slice(&masked);
            batch.scored[at].copy_from_slice(&masked);
            batch.timestep[item] = settings.options.timestep.of(ratio);
        }
        batch
    }
}
