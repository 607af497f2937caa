//! An edit on the server: what was asked for, how far it is, and what came of it.

mod event;
mod status;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use axum::body::Bytes;
use editmgt::{EditRequest, EditResult, EditSettings, PixelSize, ResizePlan, Stage, StoppedEdit};
use serde_json::json;
use tokio::sync::broadcast;

pub(crate) use event::Event;
pub(crate) use status::{Ending, Outcome, Status};
pub(crate) use view::{EditView, ReportOf, notes_of, sentences};

use crate::disk::Archive;
use crate::error::ApiError;
use crate::maps::KeptMaps;
use crate::models::{Models, OpenIn};
use crate::store::{StoredMask, StoredPhoto};
use crate::sync::lock;

/// Events that a slow subscriber may lag behind before it misses some; the last one is never
/// missed.
const EVENTS: usize = 256;

/// An edit and its state.
pub(crate) struct Edit {
    pub(crate) id: String,
    /// Position in the order of starts.
    pub(crate) serial: u64,
    pub(crate) photo: Arc<StoredPhoto>,
    /// Position in the list of models.
    pub(crate) model: usize,
    pub(crate) model_name: String,
    /// The edit whose result is edited.
    pub(crate) base: Option<Arc<Edit>>,
    /// The edit that this one follows in the history.
    pub(crate) parent: Option<String>,
    pub(crate) mask: Option<Arc<StoredMask>>,
    /// Only the first step, for maps.
    pub(crate) look: bool,
    pub(crate) request: EditRequest,
    /// The options as they were given.
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) settings: EditSettings,
    pub(crate) plan: ResizePlan,
    /// Where it continues.
    pub(crate) resume: Option<StoppedEdit>,
    /// Whether previews are decoded.
    pub(crate) previews: bool,
    stop: AtomicBool,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    /// Its result as a photo to edit.
    open: OnceLock<Arc<OpenIn>>,
}

/// What a new edit is made of.
pub(crate) struct NewEdit {
    pub(crate) id: String,
    pub(crate) photo: Arc<StoredPhoto>,
    pub(crate) model: usize,
    pub(crate) model_name: String,
    pub(crate) base: Option<Arc<Edit>>,
    pub(crate) parent: Option<String>,
    pub(crate) mask: Option<Arc<StoredMask>>,
    pub(crate) look: bool,
    pub(crate) request: EditRequest,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) settings: EditSettings,
    pub(crate) plan: ResizePlan,
    pub(crate) resume: Option<StoppedEdit>,
    pub(crate) previews: bool,
}

struct State {
    status: Status,
    completed: usize,
    total: usize,
    /// The events of stages so far.
    stages: Vec<Event>,
    step: Option<Event>,
    preview: Option<(Bytes, Event)>,
    outcome: Option<Outcome>,
    maps: Option<Arc<KeptMaps>>,
    error: Option<ApiError>,
    stopped: Option<StoppedEdit>,
    position: usize,
}

impl Edit {
    pub(crate) fn new(new: NewEdit, serial: u64) -> Self {
        let NewEdit {
            id,
            photo,
            model,
            model_name,
            base,
            parent,
            mask,
            look,
            request,
            options,
            settings,
            plan,
            resume,
            previews,
        } = new;
        let state = State {
            status: Status::Queued,
            completed: resume.as_ref().map_or(0, |stopped| stopped.completed),
            total: if look { 1 } else { settings.steps },
            stages: Vec::new(),
            step: None,
            preview: None,
            outcome: None,
            maps: None,
            error: None,
            stopped: None,
            position: 0,
        };
        Self {
            id,
            serial,
            photo,
            model,
            model_name,
            base,
            parent,
            mask,
            look,
            request,
            options,
            settings,
            plan,
            resume,
            previews,
            stop: AtomicBool::new(false),
            state: Mutex::new(state),
            events: broadcast::channel(EVENTS).0,
            open: OnceLock::new(),
        }
    }

    /// One that is done, of an earlier run of the program.
    pub(crate) fn restored(new: NewEdit, serial: u64, archive: Archive) -> Self {
        let edit = Self::new(new, serial);
        {
            let mut state = lock(&edit.state);
            state.status = Status::Done;
            state.completed = state.total;
            state.outcome = Some(Outcome::Archived(Arc::new(archive)));
        }
        edit
    }

    /// Its result is in a folder from now on.
    pub(crate) fn archived(&self, archive: Archive) {
        lock(&self.state).outcome = Some(Outcome::Archived(Arc::new(archive)));
    }

    /// The photo that is edited: the photo, or the result of the base.
    ///
    /// # Errors
    /// Status 500 where the file of a result can't be read.
    pub(crate) fn source(&self, models: &Models) -> Result<Arc<OpenIn>, ApiError> {
        match self.base.as_ref().and_then(|base| Some((base, base.outcome()?))) {
            Some((base, outcome)) => {
                if let Some(open) = base.open.get() {
                    return Ok(Arc::clone(open));
                }
                let open = models.openable(Arc::new(outcome.image()?));
                Ok(Arc::clone(base.open.get_or_init(|| open)))
            }
            None => Ok(Arc::clone(&self.photo.open)),
        }
    }

    /// The size of its result.
    pub(crate) fn size(&self) -> PixelSize {
        self.plan.photo()
    }

    pub(crate) fn status(&self) -> Status {
        lock(&self.state).status
    }

    pub(crate) fn error(&self) -> Option<ApiError> {
        lock(&self.state).error.clone()
    }

    /// What a done edit left.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        lock(&self.state).outcome.clone()
    }

    /// The result of a done edit, where it is in memory.
    pub(crate) fn result(&self) -> Option<Arc<EditResult>> {
        match self.outcome()? {
            Outcome::Live(result) => Some(result),
            Outcome::Archived(_) => None,
        }
    }

    pub(crate) fn maps(&self) -> Option<Arc<KeptMaps>> {
        lock(&self.state).maps.clone()
    }

    pub(crate) fn preview(&self) -> Option<Bytes> {
        lock(&self.state).preview.as_ref().map(|(png, _)| png.clone())
    }

    /// Where a stopped edit can continue.
    pub(crate) fn stopped(&self) -> Option<StoppedEdit> {
        lock(&self.state).stopped.clone()
    }

    /// Asks it to stop after the step that runs.
    pub(crate) fn request_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stop_is_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Bytes that it keeps.
    pub(crate) fn bytes(&self) -> usize {
        let state = lock(&self.state);
        let pixels = self.plan.photo().height * self.plan.photo().width;
        // RGB, opacity, and the weight of the edit in each pixel; a photo opened from it is a copy.
        let result = match &state.outcome {
            Some(Outcome::Live(_)) => 5 * pixels,
            Some(Outcome::Archived(archive)) => archive.bytes,
            None => 0,
        };
        let result = result + if self.open.get().is_some() { 4 * pixels } else { 0 };
        let maps = state.maps.as_ref().map_or(0, |maps| maps.bytes());
        result
            + maps
            + state.preview.as_ref().map_or(0, |(png, event)| png.len() + event.data.len())
    }

    pub(crate) fn start(&self) {
        lock(&self.state).status = Status::Running;
    }

    /// Tells subscribers how many edits are before it.
    pub(crate) fn set_position(&self, position: usize) {
        let mut state = lock(&self.state);
        if state.status == Status::Queued && state.position != position {
            state.position = position;
            self.send(Event::queued(position));
        }
    }

    pub(crate) fn stage(&self, stage: Stage, is_started: bool) {
        let stage_state = if is_started { "started" } else { "finished" };
        let event = Event::new("stage", &json!({ "stage": stage, "state": stage_state }));
        let mut state = lock(&self.state);
        state.stages.push(event.clone());
        self.send(event);
    }

    pub(crate) fn step(&self, completed: usize, event: Event) {
        let mut state = lock(&self.state);
        state.completed = completed;
        state.step = Some(event.clone());
        self.send(event);
    }

    pub(crate) fn show(&self, png: Bytes, event: Event) {
        let mut state = lock(&self.state);
        state.preview = Some((png, event.clone()));
        self.send(event);
    }

    pub(crate) fn keep_maps(&self, maps: KeptMaps) {
        lock(&self.state).maps = Some(Arc::new(maps));
    }

    pub(crate) fn end(&self, ending: Ending) {
        let mut state = lock(&self.state);
        if state.status.has_ended() {
            return;
        }
        state.status = match ending {
            Ending::Done(result) => {
                state.completed = state.total;
                state.outcome = Some(Outcome::Live(Arc::new(*result)));
                Status::Done
            }
            Ending::Looked => Status::Done,
            Ending::Stopped(stopped) => {
                // One that was stopped before it began continues where it would have begun.
                let stopped = stopped.or_else(|| self.resume.clone());
                state.completed = stopped.as_ref().map_or(0, |stopped| stopped.completed);
                state.stopped = stopped;
                Status::Stopped
            }
            Ending::Failed(error) => {
                state.error = Some(error);
                Status::Failed
            }
        };
        let name = state.status.name();
        let event = Event { last: true, ..Event::new(name, &self.view_of(&state)) };
        self.send(event);
    }

    /// Without subscribers the event is dropped.
    fn send(&self, event: Event) {
        let _receivers = self.events.send(event);
    }

    /// The events that say where it stands, and those to come; of an edit that has ended only the
    /// last.
    pub(crate) fn subscribe(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let state = lock(&self.state);
        let receiver = self.events.subscribe();
        let mut now = Vec::new();
        match state.status {
            Status::Queued => now.push(Event::queued(state.position)),
            Status::Running => {
                now.extend(state.stages.iter().cloned());
                now.extend(state.step.clone());
                now.extend(state.preview.as_ref().map(|(_, event)| event.clone()));
            }
            status => {
                let view = self.view_of(&state);
                now.push(Event { last: true, ..Event::new(status.name(), &view) });
            }
        }
        (now, receiver)
    }
}

/// When a run must end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(pub(crate) Instant);

impl Deadline {
    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}
