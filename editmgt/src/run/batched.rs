//! Several edits in shared forward passes.

use std::borrow::Borrow;
use std::collections::VecDeque;

use editmgt_core::{
    ChaChaNoise, Error, GridSize, HoldMask, LoopProgress, NoiseRequest, NoiseSource, ScoreMap,
    Silent, StepNoise, TextConditioning, TextRows, TokenDraw, TokenGrid,
};

use editmgt_sampler::LoopInput;

use super::sampling::{LoopOptions, Sampling};
use super::stages::Stages;
use super::{Features, PhotoRun, Planned, Prepared};
use crate::editor::{EditResult, Editor};
use crate::error::EditError;
use crate::photo::Photo;
use crate::request::{EditRequest, EditSettings, KeywordPolicy, Task};

/// The results of [`Editor::edit_batch`].
pub(crate) struct Batched<'a, I, P> {
    editor: &'a Editor,
    edits: I,
    /// Most photos of a forward pass.
    limit: usize,
    /// Features of texts, shared by all photos.
    texts: Features,
    /// The first edit that does not fit to those before it.
    next: Option<Entry<P>>,
    done: VecDeque<Result<EditResult, EditError>>,
}

/// An edit that can be computed.
struct Entry<P> {
    photo: P,
    request: EditRequest,
    /// Edits of equal keys share a pass.
    key: Option<Key>,
}

/// What edits of one forward pass have in common.
#[derive(PartialEq)]
struct Key {
    grid: GridSize,
    /// Without what may differ.
    settings: EditSettings,
}

impl Key {
    /// `None` for an edit that shares with none.
    fn new(request: &EditRequest, planned: &Planned, downsample_factor: usize) -> Option<Self> {
        if request.mask.is_some() || request.task != Task::Edit {
            return None;
        }
        // Different phrases are different rows, but equally many maps.
        let keyword = match &planned.settings.keyword {
            KeywordPolicy::Phrases(phrases) => {
                KeywordPolicy::Phrases(vec![String::new(); phrases.len()])
            }
            other => other.clone(),
        };
        let settings = EditSettings {
            instruction: String::new(),
            negative_prompt: String::new(),
            keyword,
            seed: 0,
            variation: 0,
            size: 0,
            resize: Default::default(),
            tile: Default::default(),
            composite: Default::default(),
            blend: Default::default(),
            feather: 0,
            ..planned.settings.clone()
        };
        Some(Self { grid: planned.plan.grid(downsample_factor), settings })
    }
}

impl<'a, I, P, R> Batched<'a, I, P>
where
    I: Iterator<Item = (P, R)>,
    P: Borrow<Photo>,
    R: Into<EditRequest>,
{
    pub(crate) fn new(editor: &'a Editor, edits: I, limit: usize) -> Self {
        let (texts, done) = (Features::default(), VecDeque::new());
        Self { editor, edits, limit: limit.max(1), texts, next: None, done }
    }

    /// The next edit, or why it can't be computed.
    fn entry(&mut self) -> Option<Result<Entry<P>, EditError>> {
        if let Some(next) = self.next.take() {
            return Some(Ok(next));
        }
        let (photo, request) = self.edits.next()?;
        let request = request.into();
        let features = self.texts.of_another_photo();
        let run = PhotoRun {
            editor: self.editor,
            photo: photo.borrow(),
            request: &request,
            features: &features,
        };
        let factor = self.editor.model().codec.spec().downsample_factor;
        let key = match run.plan() {
            Ok(planned) => Key::new(&request, &planned, factor),
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(Entry { photo, request, key }))
    }

    /// Computes the edits of the next pass.
    fn advance(&mut self) -> Option<()> {
        let first = match self.entry()? {
            Ok(entry) => entry,
            Err(error) => {
                self.done.push_back(Err(error));
                return Some(());
            }
        };
        let mut pass = vec![first];
        let mut failed = None;
        while pass.len() < self.limit && pass[0].key.is_some() {
            match self.entry() {
                Some(Ok(entry)) if entry.key == pass[0].key => pass.push(entry),
                Some(Ok(entry)) => {
                    self.next = Some(entry);
                    break;
                }
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                None => break,
            }
        }
        self.done.extend(self.run(pass));
        self.done.extend(failed.map(Err));
        Some(())
    }

    fn run(&self, pass: Vec<Entry<P>>) -> Vec<Result<EditResult, EditError>> {
        let features: Vec<_> = pass.iter().map(|_| self.texts.of_another_photo()).collect();
        let runs: Vec<_> = pass
            .iter()
            .zip(&features)
            .map(|(entry, features)| PhotoRun {
                editor: self.editor,
                photo: entry.photo.borrow(),
                request: &entry.request,
                features,
            })
            .collect();
        let together = (runs.len() > 1).then(|| together(self.editor, &runs));
        match together {
            Some(Ok(results)) => results,
            // What fails together is tried alone, so that each edit has its own result or error.
            Some(Err(_)) | None => runs.iter().map(|run| run.run(None, &mut Silent)).collect(),
        }
    }
}

impl<I, P, R> Iterator for Batched<'_, I, P>
where
    I: Iterator<Item = (P, R)>,
    P: Borrow<Photo>,
    R: Into<EditRequest>,
{
    type Item = Result<EditResult, EditError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.done.is_empty() {
            self.advance()?;
        }
        self.done.pop_front()
    }
}

/// One loop for all: each stage for all photos before the next one, so that a model that is loaded
/// on demand loads each component once.
fn together(
    editor: &Editor,
    runs: &[PhotoRun<'_>],
) -> Result<Vec<Result<EditResult, EditError>>, EditError> {
    let mut observer = Silent;
    let plans = runs.iter().map(PhotoRun::plan).collect::<Result<Vec<_>, _>>()?;
    let steps = plans[0].settings.steps;
    let mut stages = Stages::new(&mut observer, steps, None);
    for (run, planned) in runs.iter().zip(&plans) {
        run.text(&planned.settings, &mut stages)?;
    }
    let mut prepared = Vec::new();
    for (run, planned) in runs.iter().zip(plans) {
        prepared.push(run.prepare(planned, &mut stages)?);
    }
    let noise = PerImage::new(editor, &prepared);
    let sampling = Sampling {
        editor,
        options: LoopOptions::of_edit(editor.model(), &prepared[0].settings),
        hold: &prepared[0].hold,
        noise: Some(&noise),
        input: joined(&prepared)?,
        from: None,
        composite: None,
    };
    let progress = stages.sample(|observer| sampling.run(observer, &mut drop))?;
    let share = 1.0 / runs.len() as f64;
    let seconds: Vec<_> =
        stages.seconds.iter().map(|&(stage, seconds)| (stage, seconds * share)).collect();
    let results = runs.iter().zip(prepared).enumerate().map(|(i, (run, prepared))| {
        let mut observer = Silent;
        let mut stages = Stages::new(&mut observer, steps, None);
        stages.seconds.clone_from(&seconds);
        run.finish(prepared, of_image(&progress, i)?, 0, &mut stages)
    });
    Ok(results.collect())
}

/// The inputs of several loops as one.
fn joined(prepared: &[Prepared]) -> Result<LoopInput, Error> {
    let inputs = || prepared.iter().map(|prepared| &prepared.input);
    let texts: Vec<_> = inputs().map(|input| &input.text).collect();
    let negatives: Option<Vec<_>> = inputs().map(|input| input.negative.as_ref()).collect();
    let grids = |of: fn(&LoopInput) -> &TokenGrid| {
        let ids = inputs().flat_map(|input| of(input).ids().iter().copied()).collect();
        TokenGrid::new(prepared.len(), prepared[0].reference.size(), ids)
    };
    let mut input = prepared[0].input.clone();
    input.text = TextConditioning::cat(&texts)?;
    input.negative = match negatives {
        Some(negatives) => Some(TextConditioning::cat(&negatives)?),
        None => None,
    };
    input.canvas = grids(|input| &input.canvas)?;
    let references = prepared.iter().flat_map(|prepared| prepared.reference.ids());
    input.reference = Some(TokenGrid::new(
        prepared.len(),
        prepared[0].reference.size(),
        references.copied().collect(),
    )?);
    // An instruction without content words has one map of all rows.
    let maps = inputs().map(|input| input.localisation.rows.len()).max().unwrap_or_default();
    input.localisation.rows = inputs()
        .flat_map(|input| {
            let rows = &input.localisation.rows;
            let missing = maps - rows.len();
            rows.iter().cloned().chain(std::iter::repeat_n(TextRows::All, missing))
        })
        .collect();
    Ok(input)
}

/// The state of one image of a batch.
fn of_image(progress: &LoopProgress, image: usize) -> Result<LoopProgress, Error> {
    let size = progress.tokens.size();
    let place = image * size.len()..(image + 1) * size.len();
    let scores = |map: &Option<ScoreMap>| match map {
        Some(map) => ScoreMap::new(1, map.size(), map.image(image).to_vec()).map(Some),
        None => Ok(None),
    };
    Ok(LoopProgress {
        completed: progress.completed,
        tokens: TokenGrid::new(1, size, progress.tokens.image(image).to_vec())?,
        ever_held: HoldMask::new(1, size, progress.ever_held.held()[place].to_vec())?,
        first_scores: scores(&progress.first_scores)?,
        scores: scores(&progress.scores)?,
        first_cells: scores(&progress.first_cells)?,
        cells: scores(&progress.cells)?,
        ties: progress.ties,
        since_full: Vec::new(),
        work: progress.work,
    })
}

/// The noise that each image of a batch has alone.
struct PerImage<'a> {
    /// Seed and variation of each image.
    images: Vec<(ChaChaNoise, usize)>,
    /// In the place of the seeds.
    custom: Option<&'a dyn NoiseSource>,
}

impl<'a> PerImage<'a> {
    fn new(editor: &'a Editor, prepared: &[Prepared]) -> Self {
        let image = |prepared: &Prepared| {
            (ChaChaNoise::new(prepared.settings.seed), prepared.settings.variation as usize)
        };
        let custom = editor.custom().noise.as_deref();
        Self { images: prepared.iter().map(image).collect(), custom }
    }
}

impl NoiseSource for PerImage<'_> {
    fn step_noise(&self, request: &NoiseRequest) -> Result<StepNoise, Error> {
        let mut all: Option<StepNoise> = None;
        for (of_seed, variation) in &self.images {
            let request = NoiseRequest { first_image: *variation, batch: 1, ..*request };
            let noise = self.custom.unwrap_or(of_seed).step_noise(&request)?;
            match &mut all {
                None => all = Some(noise),
                Some(all) => append(all, noise)?,
            }
        }
        all.ok_or_else(|| Error::value("batch", "at least one image", 0))
    }
}

fn append(all: &mut StepNoise, noise: StepNoise) -> Result<(), Error> {
    match (&mut all.draw, noise.draw) {
        (TokenDraw::Uniforms(all), TokenDraw::Uniforms(more)) => all.extend(more),
        (TokenDraw::Tokens(all), TokenDraw::Tokens(more)) => {
            let ids = all.ids().iter().chain(more.ids()).copied().collect();
            *all = TokenGrid::new(all.batch() + more.batch(), all.size(), ids)?;
        }
        _ => return Err(Error::value("noise", "draws of one kind for all images", "two kinds")),
    }
    all.confidence.extend(noise.confidence);
    Ok(())
}
