//! The worker: one thread that owns the model and runs one edit after the other.

mod job;
mod queue;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use editmgt::{EditError, KeywordPolicy, LoopStep};

pub(crate) use job::{Job, passes, work};
use queue::Next;
pub(crate) use queue::Queue;
use watch::Watch;
pub(crate) use watch::{PREVIEW_SIDE, Previews};

use crate::app::App;
use crate::edit::{Deadline, Edit, Ending};
use crate::error::ApiError;
use crate::generation::{self, Generation, GenerationWatch};
use crate::maps::{KeptMaps, StepMaps, words_of};
use crate::metrics::Metrics;
use crate::models::{InUse, Models};
use crate::options::ServerLimits;
use crate::speed;
use crate::store::Store;

/// What the worker needs.
pub(crate) struct Worker {
    pub(crate) models: Arc<Models>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: ServerLimits,
}

/// The outcome of `work`, or status 500 where it panics.
fn caught<T>(work: impl FnOnce() -> Result<T, ApiError>) -> Result<T, ApiError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = format!("a stage panicked: {}", message.unwrap_or("no message"));
        Err(ApiError::internal(message))
    })
}

impl Worker {
    /// The worker of a server.
    pub(crate) fn of(app: &App) -> Self {
        Self {
            models: Arc::clone(&app.models),
            queue: Arc::clone(&app.queue),
            store: Arc::clone(&app.store),
            metrics: Arc::clone(&app.metrics),
            limits: app.options.limits.clone(),
        }
    }

    /// Runs jobs until the queue is closed.
    pub(crate) fn run(&self) {
        while let Some(next) = self.queue.next() {
            let job = match next {
                Next::Run(job, waited) => {
                    self.metrics.waited(waited.as_secs_f64());
                    job
                }
                Next::Measure(model) => {
                    self.measure(model);
                    continue;
                }
            };
            match job {
                Job::Edit(edit) => self.run_edit(&edit),
                Job::Generate(generation) => self.run_generation(&generation),
            }
        }
    }

    fn measure(&self, model: usize) {
        let speed = caught(|| {
            let used = self.models.get(model, None)?;
            speed::measure(&used.editor, &self.limits, || self.queue.is_needed())
        });
        match speed {
            Ok(Some(seconds)) => self.queue.measured(model, seconds),
            // Interrupted by a job, which says it.
            Ok(None) => {}
            // Its first edit tells.
            Err(error) => {
                let name = self.models.name(model);
                tracing::debug!(model = name, error = error.body.message, "no speed");
            }
        }
    }

    fn run_edit(&self, edit: &Edit) {
        let start = Instant::now();
        let ending = caught(|| self.edit(edit)).unwrap_or_else(Ending::Failed);
        let seconds = start.elapsed().as_secs_f64();
        let whole = matches!(ending, Ending::Done(_)) && edit.resume.is_none();
        if let Ending::Done(result) = &ending {
            self.metrics.stages(&result.report.seconds);
        }
        // Before its subscribers hear that it is done: then it is in the folder.
        let archive = match &ending {
            Ending::Done(result) => caught(|| self.store.archive(edit, result, &self.models)),
            _ => Ok(None),
        };
        let status = ending.status().name();
        self.metrics.edit(status, seconds);
        let model = self.models.name(edit.model);
        tracing::info!(edit = edit.id, model, status, seconds, look = edit.look, "edit ended");
        // Before its subscribers hear of it: what they ask next counts it.
        self.queue.ended(whole.then_some(seconds));
        edit.end(ending);
        match archive {
            Ok(Some(archive)) => edit.archived(archive),
            Ok(None) => {}
            // It stays in memory.
            Err(error) => {
                let error = error.body.message;
                tracing::warn!(edit = edit.id, error, "a result was not written");
            }
        }
        self.store.trim(&edit.photo);
    }

    fn run_generation(&self, generation: &Generation) {
        let start = Instant::now();
        let outcome = caught(|| self.generate(generation));
        let seconds = start.elapsed().as_secs_f64();
        let status = match &outcome {
            Ok(result) => {
                self.metrics.stages(&result.report.seconds);
                "done"
            }
            Err(_) if generation.stop_is_requested() => "stopped",
            Err(_) => "failed",
        };
        self.metrics.generation(status, seconds);
        let model = self.models.name(generation.model);
        tracing::info!(generation = generation.id, model, status, seconds, "generation ended");
        self.queue.ended(outcome.is_ok().then_some(seconds));
        generation.end(outcome);
    }

    fn generate(&self, generation: &Generation) -> Result<Arc<editmgt::GenerateResult>, ApiError> {
        if generation.stop_is_requested() {
            return Err(ApiError::stopping());
        }
        let used = self.models.get(generation.model, None)?;
        let mut watch = GenerationWatch {
            generation,
            deadline: Deadline(Instant::now() + self.limits.edit_time),
            is_late: false,
            previews: Previews::default(),
        };
        let result = used.editor.generate_observed(&generation.request, &mut watch);
        let late = watch.is_late.then(|| self.late());
        generation::outcome(result, late)
    }

    fn edit(&self, edit: &Edit) -> Result<Ending, ApiError> {
        if edit.stop_is_requested() {
            return Ok(Ending::Stopped(None));
        }
        let used = self.models.get(edit.model, None)?;
        if edit.look { self.look(edit, &used) } else { self.whole(edit, &used) }
    }

    /// All steps.
    fn whole(&self, edit: &Edit, used: &InUse) -> Result<Ending, ApiError> {
        let mut maps = None;
        let mut watch = Watch::new(edit, self.limits.edit_time);
        let photo = edit.source(&self.models)?.by(used);
        let mut visit = |step: LoopStep| StepMaps::record(&mut maps, step);
        let result =
            photo.edit_visiting(&edit.request, edit.resume.clone(), &mut watch, &mut visit);
        let completed = watch.completed;
        let is_late = watch.is_late;
        if let Some(maps) = maps {
            let encoder = &*used.editor.model().text;
            edit.keep_maps(KeptMaps::of_edit(maps, &edit.settings, completed, encoder)?);
        }
        match result {
            Ok(result) => Ok(Ending::Done(Box::new(result))),
            Err(EditError::Stopped(_)) if is_late => Err(self.late()),
            Err(EditError::Stopped(stopped)) => Ok(Ending::Stopped(Some(stopped))),
            Err(error) => Err(error.into()),
        }
    }

    /// The first step, by the request's keyword and by each content word.
    fn look(&self, edit: &Edit, used: &InUse) -> Result<Ending, ApiError> {
        let encoder = &*used.editor.model().text;
        let words = words_of(encoder, &edit.request.instruction)?;
        let Some(own) = self.first_step(edit, used, &edit.request)? else {
            return Ok(Ending::Stopped(None));
        };
        let mut kept = KeptMaps::of_edit(own, &edit.settings, 1, encoder)?;
        if !words.is_empty() {
            let phrases = words.iter().map(|word| word.text.clone()).collect();
            let request = edit.request.clone().keyword(KeywordPolicy::Phrases(phrases));
            let Some(of_words) = self.first_step(edit, used, &request)? else {
                return Ok(Ending::Stopped(None));
            };
            kept = kept.with_words(words, of_words);
        }
        edit.keep_maps(kept);
        Ok(Ending::Looked)
    }

    /// The attention of the first step; `None` if the edit was stopped.
    fn first_step(
        &self,
        edit: &Edit,
        used: &InUse,
        request: &editmgt::EditRequest,
    ) -> Result<Option<StepMaps>, ApiError> {
        let mut maps = None;
        let mut watch = Watch::new(edit, self.limits.edit_time);
        let mut visit = |step: LoopStep| StepMaps::record(&mut maps, step);
        let photo = edit.source(&self.models)?.by(used);
        let result = photo.edit_visiting(request, None, &mut watch, &mut visit);
        let (is_late, is_stopped) = (watch.is_late, edit.stop_is_requested());
        match result {
            Err(EditError::Stopped(_)) if is_late => Err(self.late()),
            Err(EditError::Stopped(_)) if is_stopped => Ok(None),
            Ok(_) | Err(EditError::Stopped(_)) => Ok(maps),
            Err(error) => Err(error.into()),
        }
    }

    fn late(&self) -> ApiError {
        let seconds = self.limits.edit_time.as_secs();
        let message = format!("the edit took longer than {seconds} s, the limit of this server");
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "time_limit", message)
    }
}
