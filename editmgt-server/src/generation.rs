//! Images from text on the server: what was asked for, and what came of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use editmgt::GenerateSettings;
use editmgt::{EditError, EditEvent, EditObserver, Flow, GenerateRequest, GenerateResult};
use serde_json::json;
use tokio::sync::broadcast;

use crate::edit::{Deadline, Event};
use crate::engine::{PREVIEW_SIDE, Previews};
use crate::error::ApiError;
use crate::sync::lock;

/// Events that a slow subscriber may lag behind before it misses some.
const EVENTS: usize = 16;

/// A request for images, which lives as long as the HTTP request that it answers.
pub(crate) struct Generation {
    pub(crate) id: String,
    /// Position in the list of models.
    pub(crate) model: usize,
    pub(crate) request: GenerateRequest,
    pub(crate) settings: GenerateSettings,
    /// Whether previews are decoded.
    pub(crate) previews: bool,
    stop: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
    events: broadcast::Sender<Event>,
}

type Outcome = Result<Arc<GenerateResult>, ApiError>;

impl Generation {
    pub(crate) fn new(
        id: String,
        model: usize,
        request: GenerateRequest,
        settings: GenerateSettings,
        previews: bool,
    ) -> Self {
        Self {
            id,
            model,
            request,
            settings,
            previews,
            stop: AtomicBool::new(false),
            outcome: Mutex::new(None),
            events: broadcast::channel(EVENTS).0,
        }
    }

    /// Steps and previews to come, and the end. To be called before it is queued.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn request_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stop_is_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends it, once.
    pub(crate) fn end(&self, outcome: Outcome) {
        lock(&self.outcome).get_or_insert(outcome);
        let event = Event { last: true, ..Event::new("end", &json!({})) };
        // Without subscribers the event is dropped.
        let _receivers = self.events.send(event);
    }

    /// What came of it; status 503 where the server stopped it.
    pub(crate) fn outcome(&self) -> Outcome {
        lock(&self.outcome).clone().unwrap_or_else(|| Err(ApiError::stopping()))
    }
}

/// Sends steps and previews of a generation, and stops it.
pub(crate) struct GenerationWatch<'a> {
    pub(crate) generation: &'a Generation,
    pub(crate) deadline: Deadline,
    pub(crate) is_late: bool,
    pub(crate) previews: Previews,
}

impl EditObserver for GenerationWatch<'_> {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        match event {
            EditEvent::Step { completed, total, .. } => {
                let step = json!({"completed": completed, "total": total});
                let _receivers = self.generation.events.send(Event::new("step", &step));
            }
            EditEvent::Preview { completed, total, image } => {
                match self.previews.encode(*completed, *total, image) {
                    Ok((_, event)) => {
                        let _receivers = self.generation.events.send(event);
                    }
                    // The images themselves are not harmed.
                    Err(error) => tracing::warn!(%error, "no preview"),
                }
            }
            _ => {}
        }
        self.is_late = self.deadline.is_over();
        if self.is_late || self.generation.stop_is_requested() {
            Flow::Stop
        } else {
            Flow::Continue
        }
    }

    fn wants_preview(&mut self, completed: usize, total: usize) -> bool {
        self.generation.previews && self.previews.is_due() && completed < total
    }

    fn preview_shrink(&self) -> usize {
        let settings = &self.generation.settings;
        settings.height.max(settings.width).div_ceil(PREVIEW_SIDE)
    }
}

/// The outcome of a run.
pub(crate) fn outcome(
    result: Result<GenerateResult, EditError>,
    late: Option<ApiError>,
) -> Outcome {
    match (result, late) {
        (Ok(result), _) => Ok(Arc::new(result)),
        (Err(EditError::Stopped(_)), Some(late)) => Err(late),
        (Err(error), _) => Err(error.into()),
    }
}
