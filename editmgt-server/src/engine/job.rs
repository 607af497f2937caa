//! What the worker runs, and how much work it is.

use std::sync::Arc;

use editmgt::EditSettings;

use crate::edit::{Edit, Ending};
use crate::error::ApiError;
use crate::generation::Generation;
use crate::metrics::Metrics;

/// What the worker does: one of these after the other.
#[derive(Clone)]
pub(crate) enum Job {
    Edit(Arc<Edit>),
    Generate(Arc<Generation>),
}

impl Job {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Edit(edit) => &edit.id,
            Self::Generate(generation) => &generation.id,
        }
    }

    /// Position in the list of models.
    pub(super) fn model(&self) -> usize {
        match self {
            Self::Edit(edit) => edit.model,
            Self::Generate(generation) => generation.model,
        }
    }

    pub(super) fn start(&self) {
        if let Self::Edit(edit) = self {
            edit.start();
        }
    }

    pub(super) fn set_position(&self, position: usize) {
        if let Self::Edit(edit) = self {
            edit.set_position(position);
        }
    }

    pub(super) fn request_stop(&self) {
        match self {
            Self::Edit(edit) => edit.request_stop(),
            Self::Generate(generation) => generation.request_stop(),
        }
    }

    /// Counts one that is stopped before it has begun.
    pub(super) fn count_unstarted(&self, metrics: &Metrics) {
        match self {
            Self::Edit(_) => metrics.unstarted_edit(),
            Self::Generate(_) => metrics.unstarted_generation(),
        }
    }

    /// Ends one that has not begun.
    pub(super) fn end_unstarted(&self) {
        match self {
            Self::Edit(edit) => edit.end(Ending::Stopped(None)),
            Self::Generate(generation) => generation.end(Err(ApiError::stopping())),
        }
    }

    /// Passes of the transformer times pixels, in thousands: what time is proportional to.
    pub(super) fn work(&self) -> f64 {
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
