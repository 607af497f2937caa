use std::collections::BTreeMap;

use editmgt_core::{GridSize, MicroConditions, Result, TokenGrid};

use super::{DroppedText, EditExample, EditOptions, LossOptions};
use crate::run::Draws;

/// A batch: the model's inputs and its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct EditBatch {
    /// The canvas: the target with mask tokens.
    pub canvas: TokenGrid,
    /// The reference; `None` if dropped.
    pub reference: Option<TokenGrid>,
    /// Target tokens of the canvas.
    pub target: TokenGrid,
    /// The instructions; empty if dropped.
    pub prompts: Vec<String>,
    /// One timestep per sample.
    pub timestep: Vec<f32>,
    /// Micro-conditioning of the images.
    pub micro: Vec<MicroConditions>,
    /// Whether each token is masked, `[B, N]` row-major.
    pub masked: Vec<bool>,
    /// Whether the loss counts each token, `[B, N]` row-major: those that are masked, or some of
    /// them ([`LossOptions::scored_tokens`]).
    pub scored: Vec<bool>,
    /// Whether each token differs from the reference, `[B, N]` row-major.
    pub changed: Vec<bool>,
    /// What each token of the reference shows, `[B, N, questions]` row-major; empty if unknown.
    pub contents: Vec<u32>,
}

/// Settings shared by all batches of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchSettings<'a> {
    pub(super) options: &'a EditOptions,
    pub(super) draws: &'a Draws,
    pub(super) grid: GridSize,
    pub(super) micro: MicroConditions,
    pub(super) mask_token: u32,
}

impl EditBatch {
    /// Batch number `number` of the run. A pure function of its arguments.
    ///
    /// # Errors
    /// [`editmgt_core::Error::Shape`] when an example has another grid.
    pub(super) fn new(
        settings: BatchSettings<'_>,
        number: u64,
        examples: Vec<EditExample>,
    ) -> Result<Self> {
        let BatchSettings { options, draws, grid, micro, mask_token } = settings;
        let conditions = options.conditions;
        let without_reference =
            draws.stream("edit reference dropout", number).uniform() < conditions.reference_dropout;
        let count = examples.len();
        let (mut canvas, mut reference, mut target) = (Vec::new(), Vec::new(), Vec::new());
        let (mut masked, mut scored, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut prompts, mut timestep, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        for (position, example) in examples.into_iter().enumerate() {
            let sample = number * options.batch as u64 + position as u64;
            let without_text =
                draws.stream("edit text dropout", sample).uniform() < conditions.text_dropout;
            // A sample without reference cannot be asked to copy it.
            let copies = without_text
                && !without_reference
                && conditions.dropped_text == DroppedText::Reference;
            let (after, is_changed) = if copies {
                (example.before.clone(), vec![false; example.changed.len()])
            } else {
                (example.after, example.changed)
            };
            let mask = options.masking.draw(draws, sample, grid.len());
            let hide = |(&id, &masked): (&u32, &bool)| if masked { mask_token } else { id };
            canvas.extend(after.iter().zip(&mask.masked).map(hide));
            target.extend(after);
            reference.extend(example.before);
            contents.extend(example.contents);
            scored.extend(match options.loss.scored_tokens {
                Some(most) => some_of(&mask.masked, &is_changed, most, draws, sample),
                None => mask.masked.clone(),
            });
            masked.extend(mask.masked);
            changed.extend(is_changed);
            prompts.push(if without_text { String::new() } else { example.instruction });
            timestep.push(options.timestep.of(mask.ratio));
        }
        if changed.len() != masked.len() {
            let got = changed.len();
            return Err(editmgt_core::Error::shape("changed tokens", masked.len(), got));
        }
        let reference = TokenGrid::new(count, grid, reference)?;
        Ok(Self {
            canvas: TokenGrid::new(count, grid, canvas)?,
            reference: (!without_reference).then_some(reference),
            target: TokenGrid::new(count, grid, target)?,
            prompts,
            timestep,
            micro: vec![micro; count],
            masked,
            scored,
            changed,
            contents,
        })
    }

    /// Weight of each token in the likelihood, `[B, N]`: 0 unless scored.
    pub(super) fn weights(&self, options: &LossOptions) -> Vec<f32> {
        let tokens = self.target.size().len();
        let items = self.scored.chunks(tokens).zip(self.changed.chunks(tokens)).enumerate();
        let weigh = |(item, (scored, changed)): (usize, (&[bool], &[bool]))| {
            let ids = self.target.image(item);
            let mut count = BTreeMap::<u32, f32>::new();
            ids.iter().for_each(|&id| *count.entry(id).or_default() += 1.0);
            let rare = ids.iter().map(|id| count[id].powf(-options.rarity));
            let mut weights: Vec<f32> =
                rare.zip(scored).map(|(rare, &scored)| if scored { rare } else { 0.0 }).collect();
            let sum = |of: bool| {
                let those = weights.iter().zip(changed).filter(|(_, changed)| **changed == of);
                those.map(|(weight, _)| weight).sum::<f32>()
            };
            let (of_changed, of_kept) = match (options.changed_share, sum(true), sum(false)) {
                (None, ..) => (options.changed_weight, 1.0),
                // Nothing is masked.
                (_, 0.0, 0.0) => (0.0, 0.0),
                // If one kind is empty, the other has the whole weight.
                (_, 0.0, kept) => (0.0, 1.0 / kept),
                (_, changed, 0.0) => (1.0 / changed, 0.0),
                (Some(share), changed, kept) => (share / changed, (1.0 - share) / kept),
            };
            for (weight, &changed) in weights.iter_mut().zip(changed) {
                *weight *= if changed { of_changed } else { of_kept };
            }
            weights
        };
        items.flat_map(weigh).collect()
    }

    /// What the first token of each cell of the grid inside the blocks shows, `[B, cells,
    /// questions]`.
    pub(super) fn contents(&self, inner: GridSize, questions: usize) -> Vec<u32> {
        let size = self.target.size();
        let (rows, columns) =
            (size.height.div_ceil(inner.height), size.width.div_ceil(inner.width));
        let of_image = self.contents.chunks_exact(size.len() * questions);
        let cells = of_image.flat_map(|image| {
            (0..inner.len()).flat_map(move |cell| {
                let (row, column) = (cell / inner.width * rows, cell % inner.width * columns);
                let token = row * size.width + column;
                &image[token * questions..(token + 1) * questions]
            })
        });
        cells.copied().collect()
    }

    /// Whether each cell of the grid inside the blocks shows an object, `[B, cells]`: by the first
    /// question about it, whose class 0 is none. False where that is unknown.
    pub(super) fn shows(&self, inner: GridSize, questions: usize) -> Vec<bool> {
        if questions == 0 {
            return vec![false; self.target.batch() * inner.len()];
        }
        let contents = self.contents(inner, questions);
        contents.chunks_exact(questions).map(|answers| answers[0] != 0).collect()
    }

    /// The share of changed tokens in each cell of the grid inside the blocks, `[B, cells]`.
    pub(super) fn region(&self, inner: GridSize) -> Vec<f32> {
        let size = self.target.size();
        let (rows, columns) =
            (size.height.div_ceil(inner.height), size.width.div_ceil(inner.width));
        let mut region = vec![0.0; self.target.batch() * inner.len()];
        for (position, _) in self.changed.iter().enumerate().filter(|(_, changed)| **changed) {
            let (item, token) = (position / size.len(), position % size.len());
            let (row, column) = (token / size.width / rows, token % size.width / columns);
            region[item * inner.len() + row * inner.width + column] += 1.0;
        }
        region.iter_mut().for_each(|share| *share /= (rows * columns) as f32);
        region
    }
}

/// At most `most` of the masked tokens that change and as many of the others, drawn at random.
fn some_of(
    masked: &[bool],
    changed: &[bool],
    most: usize,
    draws: &Draws,
    sample: u64,
) -> Vec<bool> {
    let mut stream = draws.stream("edit scored", sample);
    let order: Vec<f32> = masked.iter().map(|_| stream.uniform()).collect();
    let mut scored = vec![false; masked.len()];
    for kind in [true, false] {
        let of_kind = |&token: &usize| masked[token] && changed[token] == kind;
        let mut tokens: Vec<usize> = (0..masked.len()).filter(of_kind).collect();
        tokens.sort_by(|&a, &b| order[a].total_cmp(&order[b]));
        tokens.iter().take(most).for_each(|&token| scored[token] = true);
    }
    scored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::{ConditionOptions, MaskingOptions};

    const GRID: GridSize = GridSize::new(2, 4);
    const MASK: u32 = 99;

    fn batch(options: &EditOptions, number: u64) -> EditBatch {
        let example = EditExample {
            before: (0..8).collect(),
            after: (0..8).map(|id| if id < 3 { id + 50 } else { id }).collect(),
            changed: (0..8).map(|id| id < 3).collect(),
            instruction: "make it red".into(),
            category: None,
            contents: Vec::new(),
        };
        let settings = BatchSettings {
            options,
            draws: &Draws::new(11),
            grid: GRID,
            micro: MicroConditions::uncropped(16, 32),
            mask_token: MASK,
        };
        EditBatch::new(settings, number, vec![example; options.batch]).unwrap()
    }

    #[test]
    fn only_masked_positions_are_hidden_and_are_labels() {
        let options = EditOptions::paper(16);
        let batch = batch(&options, 3);
        let loss = LossOptions { changed_weight: 4.0, ..LossOptions::default() };
        let weights = batch.weights(&loss);
        for (i, &masked) in batch.masked.iter().enumerate() {
            let (canvas, target) = (batch.canvas.ids()[i], batch.target.ids()[i]);
            assert_eq!(canvas, if masked { MASK } else { target });
            let expected = if batch.changed[i] { 4.0 } else { 1.0 };
            assert_eq!(weights[i], if masked { expected } else { 0.0 });
        }
        assert_eq!(batch.reference.unwrap().ids()[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(batch.prompts.iter().all(|prompt| prompt == "make it red"));
    }

    #[test]
    fn changed_tokens_have_their_share_of_every_sample() {
        let loss = LossOptions { changed_share: Some(0.75), ..LossOptions::default() };
        let mut batch = batch(&EditOptions::paper(3), 0);
        // All scored; nothing changed; nothing scored among the changed.
        batch.scored =
            [[true; 8], [true; 8], [false, false, false, true, true, true, true, true]].concat();
        batch.changed[8..16].fill(false);
        let weights = batch.weights(&loss);
        let sums = |item: usize| {
            let of = |range: std::ops::Range<usize>| weights[range].iter().sum::<f32>();
            (of(item * 8..item * 8 + 3), of(item * 8 + 3..item * 8 + 8))
        };
        for (item, expected) in [(0.75, 0.25), (0.375, 0.625), (0.0, 1.0)].iter().enumerate() {
            let got = sums(item);
            assert!(
                (got.0 - expected.0).abs() < 1e-6 && (got.1 - expected.1).abs() < 1e-6,
                "{got:?}"
            );
        }
    }

    #[test]
    fn some_tokens_of_each_kind_are_scored() {
        let mut options = EditOptions::paper(1);
        options.masking = MaskingOptions { fully_masked: 1.0 };
        options.loss = LossOptions {
            changed_share: Some(0.75),
            scored_tokens: Some(2),
            ..LossOptions::default()
        };
        let mut seen = [0; 8];
        for number in 0..40 {
            let batch = batch(&options, number);
            assert_eq!(batch.masked, [true; 8]);
            let of = |range: std::ops::Range<usize>| {
                batch.scored[range].iter().filter(|&&scored| scored).count()
            };
            // Of three changed and five others.
            assert_eq!([of(0..3), of(3..8)], [2, 2]);
            let weights = batch.weights(&options.loss);
            let sums = [&weights[..3], &weights[3..]].map(|part| part.iter().sum::<f32>());
            assert!((sums[0] - 0.75).abs() < 1e-6 && (sums[1] - 0.25).abs() < 1e-6, "{sums:?}");
            seen.iter_mut().zip(&batch.scored).for_each(|(n, &scored)| *n += u32::from(scored));
        }
        // Each about as often as the others of its kind: 26.7 and 16 of 40, four deviations.
        assert!(seen[..3].iter().all(|&n| n.abs_diff(27) <= 12), "{seen:?}");
        assert!(seen[3..].iter().all(|&n| n.abs_diff(16) <= 12), "{seen:?}");
        options.loss.scored_tokens = None;
        assert_eq!(batch(&options, 0).scored, [true; 8]);
    }

    #[test]
    fn a_cell_shows_what_its_first_token_shows() {
        let mut batch = batch(&EditOptions::paper(2), 0);
        batch.contents = (0..2 * 8 * 3).collect();
        let of_cells = batch.contents(GridSize::new(1, 2), 3);
        assert_eq!(of_cells, [0, 1, 2, 6, 7, 8, 24, 25, 26, 30, 31, 32]);
    }

    #[test]
    fn rarity_divides_the_weight_of_equal_tokens() {
        let mut batch = batch(&EditOptions::paper(1), 0);
        batch.scored = vec![true; 8];
        batch.target = TokenGrid::new(1, GRID, vec![7, 7, 7, 7, 5, 5, 5, 9]).unwrap();
        let loss = LossOptions { rarity: 1.0, ..LossOptions::default() };
        let third = 1.0f32 / 3.0;
        assert_eq!(batch.weights(&loss), [0.25, 0.25, 0.25, 0.25, third, third, third, 1.0]);
        // Within its share: three changed of one kind, and 1/4, three thirds and 1 of the others.
        let weights = batch.weights(&LossOptions { changed_share: Some(0.75), ..loss });
        let expected =
            [[0.25; 3].as_slice(), &[0.25 / 9.0], &[1.0 / 27.0; 3], &[1.0 / 9.0]].concat();
        assert!(weights.iter().zip(&expected).all(|(w, e)| (w - e).abs() < 1e-6), "{weights:?}");
    }

    #[test]
    fn nothing_masked_counts_nothing() {
        let loss = LossOptions { changed_share: Some(0.75), ..LossOptions::default() };
        let mut batch = batch(&EditOptions::paper(1), 0);
        batch.scored.fill(false);
        assert_eq!(batch.weights(&loss), [0.0; 8]);
    }

    #[test]
    fn a_batch_split_in_two_draws_the_same() {
        let whole = batch(&EditOptions::paper(4), 1);
        let second = batch(&EditOptions::paper(2), 3);
        assert_eq!(whole.masked[16..], second.masked);
        assert_eq!(whole.timestep[2..], second.timestep);
    }

    #[test]
    fn conditions_are_dropped() {
        let mut options = EditOptions::paper(8);
        options.conditions = ConditionOptions {
            text_dropout: 0.25,
            dropped_text: DroppedText::Reference,
            reference_dropout: 0.1,
        };
        let (mut texts, mut references) = (0, 0);
        for number in 0..500 {
            let batch = batch(&options, number);
            references += usize::from(batch.reference.is_none());
            for (item, prompt) in batch.prompts.iter().enumerate() {
                let copies = prompt.is_empty() && batch.reference.is_some();
                texts += usize::from(prompt.is_empty());
                let expected = if copies { 0 } else { 50 };
                assert_eq!(batch.target.image(item)[0], expected);
                assert_eq!(batch.changed[item * 8], !copies);
            }
        }
        // Four deviations of binomial counts: 109 of 4000, 27 of 500.
        assert!((texts as f64 - 1000.0).abs() < 110.0, "{texts}");
        assert!((references as f64 - 50.0).abs() < 27.0, "{references}");
        options.conditions.dropped_text = DroppedText::Target;
        assert!((0..50).all(|n| batch(&options, n).target.image(0)[0] == 50));
    }

    #[test]
    fn full_masks_and_timesteps() {
        let mut options = EditOptions::paper(4);
        options.masking = MaskingOptions { fully_masked: 1.0 };
        let full = batch(&options, 0);
        assert!(full.masked.iter().all(|&masked| masked));
        assert_eq!(full.timestep, [1000.0; 4]);
        options.timestep = crate::edit::TimestepConvention::MaskRatio;
        assert_eq!(batch(&options, 0).timestep, [1.0; 4]);
    }

    #[test]
    fn the_region_on_the_inner_grid() {
        let batch = batch(&EditOptions::paper(1), 0);
        assert_eq!(batch.region(GridSize::new(1, 2)), [0.5, 0.25]);
        assert_eq!(batch.region(GRID)[..4], [1.0, 1.0, 1.0, 0.0]);
    }
}
