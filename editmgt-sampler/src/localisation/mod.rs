//! Localisation of an edit (EditMGT, arXiv 2512.11715, multi-layer attention consolidation): from
//! attention maps to one score per token.
//!
//! Mean over layers, rescale to 0..1, smooth, and interpolate from the cells of the model's inner
//! grid to tokens. All of it runs on the host in f32: a map has a few thousand values, and a score
//! decides whether a token may change.
//!
//! Source: the official `local_guidance`, which smooths with scipy, OpenCV and scikit-image; their
//! borders and roundings are kept.

mod adaptive;
mod bilateral;
mod border;
mod gaussian;
mod morphology;
mod resize;
mod smoothing;

use editmgt_core::{AttentionConsolidator, AttentionMaps, Error, GridSize, Result, ScoreMap};

pub use smoothing::{Filter, MAX_STRENGTH, Smoothing};

/// Turns the attention of several layers into one score per token: mean over layers, rescaling to
/// 0..1, smoothing on the grid of the attention, bicubic interpolation to the tokens.
///
/// ```
/// use editmgt_core::{AttentionConsolidator, AttentionMaps, GridSize};
/// use editmgt_sampler::{Consolidator, Filter, Smoothing};
///
/// let maps = AttentionMaps::new(vec![28], 1, GridSize::new(1, 3), vec![0.1, 0.3, 0.2])?;
/// let plain = Consolidator::default().with_smoothing(None);
/// let scores = plain.consolidate(&maps, GridSize::new(1, 3))?;
/// assert!((scores.values()[2] - 0.5).abs() < 1e-6);
///
/// let soft = plain.with_smoothing(Some(Smoothing::new(Filter::Gaussian, 0.5)?));
/// assert_eq!(soft.consolidate(&maps, GridSize::new(2, 6))?.size(), GridSize::new(2, 6));
/// # Ok::<(), editmgt_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Consolidator {
    rescale: bool,
    smoothing: Option<Smoothing>,
    smoothing_grid: SmoothingGrid,
}

/// The grid on which a map is smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SmoothingGrid {
    /// The grid of the map.
    Real,
    /// The grid that the official code guesses from the number of cells.
    Guessed,
}

impl SmoothingGrid {
    fn of(self, real: GridSize) -> GridSize {
        match (self, real.len()) {
            (Self::Real, _) => real,
            (Self::Guessed, 1024) => GridSize::new(32, 32),
            (Self::Guessed, 4096) => GridSize::new(64, 64),
            // One column, as OpenCV treats a list.
            (Self::Guessed, n) => GridSize::new(n, 1),
        }
    }
}

impl Default for Consolidator {
    /// Rescales, then smooths with the adaptive filter at strength 1, as the official pipeline
    /// does, but on the real grid.
    fn default() -> Self {
        Self {
            rescale: true,
            smoothing: Some(Smoothing::default()),
            smoothing_grid: SmoothingGrid::Real,
        }
    }
}

impl Consolidator {
    /// As [`default`](Self::default), but bug for bug: a map of 1024 or 4096 cells is smoothed as a
    /// square even if its grid isn't one, and any other map as a one-dimensional signal.
    pub fn parity() -> Self {
        Self { smoothing_grid: SmoothingGrid::Guessed, ..Self::default() }
    }

    /// Sets the smoothing; `None` for no smoothing.
    pub fn with_smoothing(mut self, smoothing: Option<Smoothing>) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// Sets whether each map is rescaled to 0..1 before smoothing. Without rescaling, the bilateral
    /// filter, which works on bytes, clips to 0..1.
    pub fn with_rescale(mut self, rescale: bool) -> Self {
        self.rescale = rescale;
        self
    }
}

impl AttentionConsolidator for Consolidator {
    fn consolidate(&self, maps: &AttentionMaps, target: GridSize) -> Result<ScoreMap> {
        if maps.blocks().is_empty() {
            return Err(Error::shape("attention maps", "at least one layer", 0));
        }
        if maps.size().is_empty() || target.is_empty() {
            let got = format!("{} cells for {target} tokens", maps.size());
            return Err(Error::shape("attention maps", "at least one cell and token", got));
        }
        let mut values = Vec::with_capacity(maps.items() * target.len());
        for item in 0..maps.items() {
            let mut scores = mean_over_layers(maps, item)?;
            if self.rescale {
                rescale(&mut scores);
            }
            if let Some(smoothing) = &self.smoothing {
                scores = smoothing.apply(&scores, self.smoothing_grid.of(maps.size()));
            }
            values.extend(resize::bicubic(scores, maps.size(), target));
        }
        ScoreMap::new(maps.items(), target, values)
    }
}

fn mean_over_layers(maps: &AttentionMaps, item: usize) -> Result<Vec<f32>> {
    let mut sums = vec![0.0f64; maps.size().len()];
    for (layer, block) in maps.blocks().iter().enumerate() {
        for (sum, &value) in sums.iter_mut().zip(maps.map(layer, item)) {
            if !value.is_finite() {
                let got = format!("{value} in block {block}, item {item}");
                return Err(Error::value("attention", "finite numbers", got));
            }
            *sum += f64::from(value);
        }
    }
    let layers = maps.blocks().len() as f64;
    Ok(sums.into_iter().map(|sum| (sum / layers) as f32).collect())
}

/// Rescales values to 0..1; a constant list becomes 0.
fn rescale(values: &mut [f32]) {
    /// Avoids a division by 0 for constant lists; the official value.
    const EPSILON: f32 = 1e-8;
    let (min, max) = range(values);
    values.iter_mut().for_each(|v| *v = (*v - min) / (max - min + EPSILON));
}

fn range(values: &[f32]) -> (f32, f32) {
    let start = (f32::INFINITY, f32::NEG_INFINITY);
    values.iter().fold(start, |(min, max), &v| (min.min(v), max.max(v)))
}

#[cfg(test)]
mod tests;
