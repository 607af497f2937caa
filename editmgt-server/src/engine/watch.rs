//! What a running edit tells its subscribers.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use editmgt::image::ImageFormat;
use editmgt::{EditError, EditEvent, EditObserver, Flow, Stage, preview_photo};
use serde_json::json;

use crate::edit::{Deadline, Edit, Event};

/// Longest side of previews, pixels.
pub(crate) const PREVIEW_SIDE: usize = 512;
/// Least time between two previews.
const PREVIEW_PAUSE: Duration = Duration::from_secs(1);

/// Tells the subscribers of an edit, and stops it.
pub(super) struct Watch<'a> {
    edit: &'a Edit,
    deadline: Deadline,
    pub(super) is_late: bool,
    pub(super) completed: usize,
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
    pub(super) fn new(edit: &'a Edit, most: Duration) -> Self {
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
