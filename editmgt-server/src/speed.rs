//! How fast a model is on its device, before its first edit: two steps of a small edit that is
//! thrown away.

use std::time::Instant;

use editmgt::image::DynamicImage;
use editmgt::{EditEvent, EditObserver, EditRequest, Editor, Flow, Photo};

use crate::api::known_instruction;
use crate::engine::{passes, work};
use crate::error::ApiError;
use crate::options::ServerLimits;
use crate::prepare;

/// Largest side of the edit's image, pixels.
const SIDE: usize = 256;
/// The first step may include what happens once: compilation, a choice of kernels.
const STEPS: usize = 2;

/// Seconds of a pass of the transformer over a thousand pixels; `None` where `must_end` ended the
/// measurement.
///
/// # Errors
/// Those of the edit, which no client sees.
pub(crate) fn measure(
    editor: &Editor,
    limits: &ServerLimits,
    must_end: impl Fn() -> bool,
) -> Result<Option<f64>, ApiError> {
    let request = EditRequest::new(known_instruction(editor));
    let side = editor.settings(&request)?.size.min(SIDE);
    let request = request.size(side).steps(STEPS);
    let photo = Photo::try_from(DynamicImage::new_rgb8(side as u32, side as u32))?;
    let (settings, plan) = prepare::plan(editor, photo.size(), &request, limits)?;
    let mut watch = Stopwatch { must_end, began: None, seconds: None };
    // It is stopped, or its result is of no use.
    let _edited = editor.edit_observed(&photo, &request, &mut watch);
    let pixels = plan.model().height * plan.model().width;
    let of_step = passes(&settings) as f64 / STEPS as f64;
    Ok(watch.seconds.map(|seconds| seconds / (of_step * work(1, pixels))))
}

/// Measures the last step.
struct Stopwatch<F> {
    must_end: F,
    began: Option<Instant>,
    seconds: Option<f64>,
}

impl<F: Fn() -> bool> EditObserver for Stopwatch<F> {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        if let EditEvent::Step { completed, .. } = event {
            self.seconds = self.began.map(|began| began.elapsed().as_secs_f64());
            self.began = (*completed < STEPS).then(Instant::now);
        }
        if self.seconds.is_some() || (self.must_end)() { Flow::Stop } else { Flow::Continue }
    }
}
