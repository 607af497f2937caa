//! The worker: one thread that owns the model and runs one edit after the other.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use editmgt::image::ImageFormat;
use editmgt::{
    EditError, EditEvent, EditObserver, EditSettings, Flow, KeywordPolicy, LoopStep, Stage,
    preview_photo,
};
use serde_json::json;

use crate::app::App;
use crate::edit::{Deadline, Edit, Ending, Event};
use crate::error::ApiError;
use crate::generation::{self, Generation, GenerationWatch};
use crate::maps::{KeptMaps, StepMaps, words_of};
use crate::metrics::Metrics;
use crate::models::{InUse, Models};
use crate::options::ServerLimits;
use crate::speed;
use crate::store::Store;
use crate::sync::lock;

/// Longest side of previews, pixels.
pub(crate) const PREVIEW_SIDE: usize = 512;
/// Least time between two previews.
const PREVIEW_PAUSE: Duration = Duration::from_secs(1);
/// Weight of the latest edit in the estimate of speed.
const LATEST: f64 = 0.5;

/// What the worker does: one of these after the other.
#[derive(Clone)]
pub(crate) enum Job {
    Edit(Arc<Edit>),
    Generate(Arc<Generation>),
}

impl Job {
    fn id(&self) -> &str {
        match self {
            Self::Edit(edit) => &edit.id,
            Self::Generate(generation) => &generation.id,
        }
    }

    /// Position in the list of models.
    fn model(&self) -> usize {
        match self {
            Self::Edit(edit) => edit.model,
            Self::Generate(generation) => generation.model,
        }
    }

    fn start(&self) {
        if let Self::Edit(edit) = self {
            edit.start();
        }
    }

    fn set_position(&self, position: usize) {
        if let Self::Edit(edit) = self {
            edit.set_position(position);
        }
    }

    fn request_stop(&self) {
        match self {
            Self::Edit(edit) => edit.request_stop(),
            Self::Generate(generation) => generation.request_stop(),
        }
    }

    /// Ends one that has not begun.
    fn end_unstarted(&self) {
        match self {
            Self::Edit(edit) => edit.end(Ending::Stopped(None)),
            Self::Generate(generation) => generation.end(Err(ApiError::stopping())),
        }
    }

    /// Passes of the transformer times pixels, in thousands: what time is proportional to.
    fn work(&self) -> f64 {
        match self {
            Self::Edit(edit) => {
                let passes = if edit.look { 2 } else { passes(&edit.settings) };
                work(passes, edit.plan.model().height * edit.plan.model().width)
            }
            Self::Generate(generation) => {
                let settings = &generation.settings;
                let of_step = if settings.guidance_scale > 1.0 { 2 } else { 1 };
                let passes = of_step * settings.steps * settings.count;
                work(passes, settings.height * settings.width)
            }
        }
    }
}

/// A job that waits.
struct Waiting {
    job: Job,
    since: Instant,
}

/// Jobs that wait, and the one that runs.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    most: usize,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    running: Option<Job>,
    closed: bool,
    /// By model.
    speeds: HashMap<usize, Speed>,
    /// Models whose speed is to be measured when there is no job.
    unmeasured: VecDeque<usize>,
}

/// Seconds of a pass of the transformer over a thousand pixels.
#[derive(Clone, Copy)]
struct Speed {
    seconds: f64,
    /// Measured before the first job.
    is_rough: bool,
}

/// What the worker does next.
enum Next {
    /// A job, and how long it waited.
    Run(Job, Duration),
    /// Measure the speed of a model.
    Measure(usize),
}

impl Inner {
    fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.running.is_some())
    }

    /// Tells the jobs that wait how many are before them.
    fn tell_positions(&self) {
        let before = usize::from(self.running.is_some());
        for (i, waiting) in self.waiting.iter().enumerate() {
            waiting.job.set_position(before + i);
        }
    }

    /// Seconds until all have ended, roughly.
    fn seconds(&self) -> f64 {
        let jobs = self.running.iter().chain(self.waiting.iter().map(|waiting| &waiting.job));
        jobs.map(|job| self.estimate(job.model(), job.work()).unwrap_or(5.0)).sum()
    }

    fn estimate(&self, model: usize, work: f64) -> Option<f64> {
        self.speeds.get(&model).map(|speed| speed.seconds * work)
    }
}

/// The passes of the transformer that an edit takes; a guided step is two.
pub(crate) fn passes(settings: &EditSettings) -> usize {
    let (from, until) = settings.guidance_interval;
    let is_guided = |step: usize| {
        let middle = (step as f32 + 0.5) / settings.steps as f32;
        settings.guidance_scale > 1.0 && (from..=until).contains(&middle)
    };
    (0..settings.steps).map(|step| if is_guided(step) { 2 } else { 1 }).sum()
}

pub(crate) fn work(passes: usize, pixels: usize) -> f64 {
    passes as f64 * pixels as f64 / 1000.0
}

impl Queue {
    pub(crate) fn new(most: usize) -> Self {
        Self { inner: Mutex::default(), wake: Condvar::new(), most }
    }

    /// Appends jobs, all or none.
    ///
    /// # Errors
    /// Status 429 when there is no room, 503 when the server shuts down.
    pub(crate) fn push(&self, jobs: Vec<Job>) -> Result<(), ApiError> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(ApiError::stopping());
        }
        if inner.len() + jobs.len() > self.most {
            return Err(ApiError::queue_full((inner.seconds().ceil() as u64).clamp(1, 600)));
        }
        let since = Instant::now();
        inner.waiting.extend(jobs.into_iter().map(|job| Waiting { job, since }));
        inner.tell_positions();
        self.wake.notify_one();
        Ok(())
    }

    /// Jobs that run or wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }

    /// The model of the job that runs.
    pub(crate) fn running_model(&self) -> Option<usize> {
        lock(&self.inner).running.as_ref().map(Job::model)
    }

    /// Measures the speed of a model that was loaded, when no job waits.
    pub(crate) fn measure(&self, model: usize) {
        let mut inner = lock(&self.inner);
        if !inner.speeds.contains_key(&model) && !inner.unmeasured.contains(&model) {
            inner.unmeasured.push_back(model);
            self.wake.notify_one();
        }
    }

    /// Whether a measurement has to end.
    fn is_needed(&self) -> bool {
        let inner = lock(&self.inner);
        inner.closed || !inner.waiting.is_empty()
    }

    /// The speed of a model, unless a job has said it.
    fn measured(&self, model: usize, seconds: f64) {
        let speed = Speed { seconds, is_rough: true };
        lock(&self.inner).speeds.entry(model).or_insert(speed);
    }

    /// Estimated seconds of an edit with these passes over a model's image of these pixels.
    pub(crate) fn seconds(&self, model: usize, passes: usize, pixels: usize) -> Option<f64> {
        lock(&self.inner).estimate(model, work(passes, pixels))
    }

    /// Stops a job after the step that runs; one that waits at once.
    pub(crate) fn cancel(&self, job: &Job) {
        job.request_stop();
        let mut inner = lock(&self.inner);
        let Some(at) = inner.waiting.iter().position(|other| other.job.id() == job.id()) else {
            return;
        };
        inner.waiting.remove(at);
        inner.tell_positions();
        drop(inner);
        job.end_unstarted();
    }

    /// Takes no more jobs, ends those that wait and stops the one that runs.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        if let Some(running) = &inner.running {
            running.request_stop();
        }
        drop(inner);
        for Waiting { job, .. } in waiting {
            job.end_unstarted();
        }
        self.wake.notify_all();
    }

    /// Waits for something to do; `None` when the queue is closed.
    fn next(&self) -> Option<Next> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.closed {
                return None;
            }
            if let Some(Waiting { job, since }) = inner.waiting.pop_front() {
                job.start();
                inner.running = Some(job.clone());
                inner.tell_positions();
                return Some(Next::Run(job, since.elapsed()));
            }
            if let Some(model) = inner.unmeasured.pop_front() {
                return Some(Next::Measure(model));
            }
            inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The running job has ended; `seconds` of it, where they say how fast its model is.
    fn ended(&self, seconds: Option<f64>) {
        let mut inner = lock(&self.inner);
        if let (Some(job), Some(seconds)) = (inner.running.take(), seconds) {
            let latest = seconds / job.work();
            let seconds = match inner.speeds.get(&job.model()) {
                Some(speed) if !speed.is_rough => LATEST * latest + (1.0 - LATEST) * speed.seconds,
                _ => latest,
            };
            inner.speeds.insert(job.model(), Speed { seconds, is_rough: false });
        }
        inner.tell_positions();
    }
}

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

/// Tells the subscribers of an edit, and stops it.
struct Watch<'a> {
    edit: &'a Edit,
    deadline: Deadline,
    is_late: bool,
    completed: usize,
    /// When sampling began, and after how many steps.
    sampling: Option<(Instant, usize)>,
    previews: Previews,
}

/// Previews, at most one a second.
#[derive(Default)]
pub(crate) struct Previews(Option<Instant>);

impl Previews {
    pub(crate) fn is_due(&self) -> bool {
        self.0.is_none_or(|last| last.elapsed() >= PREVIEW_PAUSE)
    }

    /// A preview as PNG and as an event.
    pub(crate) fn encode(
        &mut self,
        completed: usize,
        total: usize,
        image: &editmgt::burn::tensor::Tensor<4>,
    ) -> Result<(Bytes, Event), EditError> {
        let png = preview_photo(image)?.encode(ImageFormat::Png)?;
        let url = format!("data:image/png;base64,{}", STANDARD.encode(&png));
        let data = json!({ "completed": completed, "total": total, "image": url });
        self.0 = Some(Instant::now());
        Ok((Bytes::from(png), Event::new("preview", &data)))
    }
}

impl<'a> Watch<'a> {
    fn new(edit: &'a Edit, most: Duration) -> Self {
        let completed = edit.resume.as_ref().map_or(0, |stopped| stopped.completed);
        let deadline = Deadline(Instant::now() + most);
        let previews = Previews::default();
        Self { edit, deadline, is_late: false, completed, sampling: None, previews }
    }

    fn step(&mut self, completed: usize, total: usize, masked: usize, held: f32) {
        let (start, first) = *self.sampling.get_or_insert((Instant::now(), completed));
        self.completed = completed;
        let done = completed.saturating_sub(first);
        let seconds = start.elapsed().as_secs_f64() / done.max(1) as f64;
        let left = (done > 0).then(|| seconds * total.saturating_sub(completed) as f64);
        let total = if self.edit.look { 1 } else { total };
        let event = Event::new(
            "step",
            &json!({
                "completed": completed, "total": total, "masked": masked, "held": held, "seconds_left": left,
            }),
        );
        self.edit.step(completed, event);
    }
}

impl EditObserver for Watch<'_> {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        match event {
            EditEvent::StageStarted(stage) => {
                if *stage == Stage::Sample {
                    self.sampling = Some((Instant::now(), self.completed));
                }
                self.edit.stage(*stage, true);
            }
            EditEvent::StageFinished(stage) => self.edit.stage(*stage, false),
            EditEvent::Step { completed, total, masked, held, .. } => {
                self.step(*completed, *total, *masked, *held);
                if self.edit.look {
                    return Flow::Stop;
                }
            }
            EditEvent::Preview { completed, total, image } => {
                match self.previews.encode(*completed, *total, image) {
                    Ok((png, event)) => self.edit.show(png, event),
                    // The edit itself is not harmed.
                    Err(error) => tracing::warn!(%error, "no preview"),
                }
            }
            _ => {}
        }
        self.is_late = self.deadline.is_over();
        if self.is_late || self.edit.stop_is_requested() { Flow::Stop } else { Flow::Continue }
    }

    fn wants_preview(&mut self, completed: usize, total: usize) -> bool {
        self.edit.previews && self.previews.is_due() && completed < total
    }

    fn preview_shrink(&self) -> usize {
        let model = self.edit.plan.model();
        model.height.max(model.width).div_ceil(PREVIEW_SIDE)
    }
}
