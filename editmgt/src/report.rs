//! What was done, for the record.

use std::time::Duration;

use editmgt_core::{GridSize, Stage};
use serde::Serialize;

use crate::photo::PixelSize;
use crate::request::{EditRequest, EditSettings};

/// A record of one edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EditReport {
    /// Version of this library.
    pub version: &'static str,
    /// What the user said.
    pub request: EditRequest,
    /// Every option in force.
    pub settings: EditSettings,
    /// Size of the photo, and so of the result, in pixels.
    pub photo: PixelSize,
    /// Size that the model worked on, in pixels.
    pub model_pixels: PixelSize,
    /// The token grid.
    pub grid: GridSize,
    /// Blocks whose attention was consolidated; empty when none was needed.
    pub blocks: Vec<usize>,
    /// Share of the tokens that are the photo's own because they were held, 0..1.
    pub tokens_held: f32,
    /// Share of the tokens that differ from the photo's, 0..1.
    pub tokens_changed: f32,
    /// Tokens within 1e-4 of being decided otherwise, over all steps.
    pub ties: usize,
    /// Seconds that each stage took, in order.
    pub seconds: Vec<(Stage, f64)>,
}

/// Measures the stages of an edit.
#[derive(Debug, Default)]
pub(crate) struct Timings(pub(crate) Vec<(Stage, f64)>);

impl Timings {
    pub(crate) fn add(&mut self, stage: Stage, duration: Duration) {
        self.0.push((stage, duration.as_secs_f64()));
    }
}
