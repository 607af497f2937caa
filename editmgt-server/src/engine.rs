//! The worker: one thread that owns the model and runs one edit after the other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use editmgt::image::ImageFormat;
use editmgt::{
    EditError, EditEvent, EditObserver, EditSettings, Editor, Flow, KeywordPolicy, LoopStep, Stage,
    preview_photo,
};
use serde_json::json;

use crate::app::App;
use crate::edit::{Deadline, Edit, Ending, Event};
use crate::error::ApiError;
use crate::maps::{KeptMaps, StepMaps, words_of};
use crate::metrics::Metrics;
use crate::options::ServerLimits;
use crate::store::Store;
use crate::sync::lock;

/// Longest side of previews, pixels.
const PREVIEW_SIDE: usize = 512;
/// Least time between two previews.
const PREVIEW_PAUSE: Duration = Duration::from_secs(1);
/// Weight of the latest edit in the estimate of speed.
const LATEST: f64 = 0.5;

/// Edits that wait, and the one that runs.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// Held while the model computes.
    device: Mutex<()>,
    wake: Condvar,
    most: usize,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Arc<Edit>>,
    running: Option<Arc<Edit>>,
    closed: bool,
    /// Seconds of a pass of the transformer over one token, by the edits so far.
    seconds_per_token: Option<f64>,
}

impl Inner {
    fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.running.is_some())
    }

    /// Tells the edits that wait how many are before them.
    fn tell_positions(&self) {
        let before = usize::from(self.running.is_some());
        for (i, edit) in self.waiting.iter().enumerate() {
            edit.set_position(before + i);
        }
    }

    /// Seconds until all have ended, roughly.
    fn seconds(&self) -> f64 {
        let edits = self.running.iter().chain(&self.waiting);
        edits.map(|edit| self.estimate(work_of(edit)).unwrap_or(5.0)).sum()
    }

    fn estimate(&self, work: f64) -> Option<f64> {
        self.seconds_per_token.map(|seconds| seconds * work)
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

/// Passes times pixels, in thousands: what time is proportional to.
fn work_of(edit: &Edit) -> f64 {
    let passes = if edit.look { 2 } else { passes(&edit.settings) };
    work(passes, edit.plan.model().height * edit.plan.model().width)
}

fn work(passes: usize, pixels: usize) -> f64 {
    passes as f64 * pixels as f64 / 1000.0
}

impl Queue {
    pub(crate) fn new(most: usize) -> Self {
        Self { inner: Mutex::default(), device: Mutex::default(), wake: Condvar::new(), most }
    }

    /// Appends edits, all or none.
    ///
    /// # Errors
    /// Status 429 when there is no room, 503 when the server shuts down.
    pub(crate) fn push(&self, edits: &[Arc<Edit>]) -> Result<(), ApiError> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(ApiError::stopping());
        }
        if inner.len() + edits.len() > self.most {
            return Err(ApiError::queue_full((inner.seconds().ceil() as u64).clamp(1, 600)));
        }
        inner.waiting.extend(edits.iter().cloned());
        inner.tell_positions();
        self.wake.notify_one();
        Ok(())
    }

    /// Edits that run or wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }

    /// Estimated seconds of an edit with these passes over a model's image of these pixels.
    pub(crate) fn seconds(&self, passes: usize, pixels: usize) -> Option<f64> {
        lock(&self.inner).estimate(work(passes, pixels))
    }

    /// Stops an edit after the step that runs; one that waits at once.
    pub(crate) fn cancel(&self, edit: &Edit) {
        edit.request_stop();
        let mut inner = lock(&self.inner);
        let Some(at) = inner.waiting.iter().position(|other| other.id == edit.id) else { return };
        inner.waiting.remove(at);
        inner.tell_positions();
        drop(inner);
        edit.end(Ending::Stopped(None));
    }

    /// Takes no more edits, ends those that wait and stops the one that runs.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        if let Some(running) = &inner.running {
            running.request_stop();
        }
        drop(inner);
        for edit in waiting {
            edit.end(Ending::Stopped(None));
        }
        self.wake.notify_all();
    }

    /// Waits until the model computes for no other, and keeps it so.
    pub(crate) fn device(&self) -> MutexGuard<'_, ()> {
        lock(&self.device)
    }

    /// Waits for the next edit; `None` when the queue is closed.
    fn next(&self) -> Option<Arc<Edit>> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.closed {
                return None;
            }
            if let Some(edit) = inner.waiting.pop_front() {
                edit.start();
                inner.running = Some(Arc::clone(&edit));
                inner.tell_positions();
                return Some(edit);
            }
            inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ended(&self, seconds_per_token: Option<f64>) {
        let mut inner = lock(&self.inner);
        inner.running = None;
        if let Some(latest) = seconds_per_token {
            let before = inner.seconds_per_token.unwrap_or(latest);
            inner.seconds_per_token = Some(LATEST * latest + (1.0 - LATEST) * before);
        }
        inner.tell_positions();
    }
}

/// What the worker needs.
pub(crate) struct Worker {
    pub(crate) editor: Editor,
    pub(crate) queue: Arc<Queue>,
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: ServerLimits,
}

impl Worker {
    /// The worker of a server.
    pub(crate) fn of(app: &App) -> Self {
        Self {
            editor: app.editor.clone(),
            queue: Arc::clone(&app.queue),
            store: Arc::clone(&app.store),
            metrics: Arc::clone(&app.metrics),
            limits: app.options.limits.clone(),
        }
    }

    /// Runs edits until the queue is closed.
    pub(crate) fn run(&self) {
        while let Some(edit) = self.queue.next() {
            let start = Instant::now();
            let device = self.queue.device();
            let ending = catch_unwind(AssertUnwindSafe(|| self.edit(&edit)));
            drop(device);
            let ending = ending.unwrap_or_else(|panic| {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
                let message = format!("a stage panicked: {}", message.unwrap_or("no message"));
                Ending::Failed(ApiError::internal(message))
            });
            let seconds = start.elapsed().as_secs_f64();
            let whole = matches!(ending, Ending::Done(_)) && edit.resume.is_none();
            if let Ending::Done(result) = &ending {
                self.metrics.stages(&result.report.seconds);
            }
            let status = ending.status().name();
            self.metrics.edit(status, seconds);
            tracing::info!(edit = edit.id, status, seconds, look = edit.look, "edit ended");
            // Before its subscribers hear of it: what they ask next counts it.
            self.queue.ended(whole.then(|| seconds / work_of(&edit)));
            edit.end(ending);
            self.store.trim(&edit.photo);
        }
    }

    fn edit(&self, edit: &Edit) -> Ending {
        if edit.stop_is_requested() {
            return Ending::Stopped(None);
        }
        let outcome = if edit.look { self.look(edit) } else { self.whole(edit) };
        outcome.unwrap_or_else(Ending::Failed)
    }

    /// All steps.
    fn whole(&self, edit: &Edit) -> Result<Ending, ApiError> {
        let mut maps = None;
        let mut watch = Watch::new(edit, self.limits.edit_time);
        let photo = edit.source(&self.editor);
        let mut visit = |step: LoopStep| StepMaps::record(&mut maps, step);
        let result =
            photo.edit_visiting(&edit.request, edit.resume.clone(), &mut watch, &mut visit);
        let completed = watch.completed;
        let is_late = watch.is_late;
        if let Some(maps) = maps {
            let encoder = &*self.editor.model().text;
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
    fn look(&self, edit: &Edit) -> Result<Ending, ApiError> {
        let encoder = &*self.editor.model().text;
        let words = words_of(encoder, &edit.request.instruction)?;
        let Some(own) = self.first_step(edit, &edit.request)? else {
            return Ok(Ending::Stopped(None));
        };
        let mut kept = KeptMaps::of_edit(own, &edit.settings, 1, encoder)?;
        if !words.is_empty() {
            let phrases = words.iter().map(|word| word.text.clone()).collect();
            let request = edit.request.clone().keyword(KeywordPolicy::Phrases(phrases));
            let Some(of_words) = self.first_step(edit, &request)? else {
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
        request: &editmgt::EditRequest,
    ) -> Result<Option<StepMaps>, ApiError> {
        let mut maps = None;
        let mut watch = Watch::new(edit, self.limits.edit_time);
        let mut visit = |step: LoopStep| StepMaps::record(&mut maps, step);
        let photo = edit.source(&self.editor);
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
    last_preview: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(edit: &'a Edit, most: Duration) -> Self {
        let completed = edit.resume.as_ref().map_or(0, |stopped| stopped.completed);
        let deadline = Deadline(Instant::now() + most);
        Self { edit, deadline, is_late: false, completed, sampling: None, last_preview: None }
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

    fn preview(
        &mut self,
        completed: usize,
        total: usize,
        image: &editmgt::burn::tensor::Tensor<4>,
    ) -> Result<(), EditError> {
        let png = preview_photo(image)?.encode(ImageFormat::Png)?;
        let url = format!("data:image/png;base64,{}", STANDARD.encode(&png));
        let data = json!({ "completed": completed, "total": total, "image": url });
        self.edit.show(Bytes::from(png), Event::new("preview", &data));
        self.last_preview = Some(Instant::now());
        Ok(())
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
                if let Err(error) = self.preview(*completed, *total, image) {
                    // The edit itself is not harmed.
                    tracing::warn!(%error, "no preview");
                }
            }
            _ => {}
        }
        self.is_late = self.deadline.is_over();
        if self.is_late || self.edit.stop_is_requested() { Flow::Stop } else { Flow::Continue }
    }

    fn wants_preview(&mut self, completed: usize, total: usize) -> bool {
        let due = self.last_preview.is_none_or(|last| last.elapsed() >= PREVIEW_PAUSE);
        self.edit.previews && due && completed < total
    }

    fn preview_shrink(&self) -> usize {
        let model = self.edit.plan.model();
        model.height.max(model.width).div_ceil(PREVIEW_SIDE)
    }
}
