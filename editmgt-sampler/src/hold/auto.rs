//! Automatic hold threshold (Otsu).

use editmgt_core::{Error, GridSize, HoldMask, HoldRequest, RegionHold, Result, ScoreMap};

/// Fewer tokens than this have no histogram worth the name.
const MIN_TOKENS: usize = 16;

/// A score map whose range is below this is flat. (The consolidator stretches every map to 0..1,
/// so only a map of one value is.)
const MIN_RANGE: f32 = 1e-3;

/// The least share of the variance that the split must explain. Cut in two, a single hump explains
/// 0.64 (a bell) to 0.75 (a box) of its own variance, so less than this does not prove two kinds.
/// A prototype, on 512 scenes of the first small model's world and raw scores of cells: 365 of 366
/// local edits are found, 3 background and 3 style edits are taken for local ones.
const MIN_SEPARATION: f64 = 0.80;

/// The largest share of the image that an edit of a *part* of it can have. A map that is high
/// over more than this says "the background" or "everything".
const MAX_SHARE: f64 = 0.5;

/// The smallest share: below, the peak is more likely an outlier of the attention than an object.
const MIN_SHARE: f64 = 1.0 / 256.0;

/// What the histogram of a score map says about where the edit ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AutoThreshold {
    /// Two kinds of tokens: those below this score are not meant.
    Found {
        /// The threshold λ.
        threshold: f32,
        /// The share of the variance that the two kinds explain, 0..1.
        separation: f32,
    },
    /// All scores are alike, or there are too few of them.
    Flat,
    /// The scores make one hump: no place to cut.
    Unseparated {
        /// The share of the variance that the best cut explains.
        separation: f32,
    },
    /// More than half of the image is meant: an edit of the background, or of everything.
    Everywhere {
        /// The share of the tokens above the best cut.
        share: f32,
    },
    /// Hardly anything is meant: an outlier, not an object.
    Nowhere {
        /// The share of the tokens above the best cut.
        share: f32,
    },
}

impl AutoThreshold {
    /// Looks for the threshold in the scores of one image. Pure.
    ///
    /// Otsu's method on the scores: the cut that explains most of the variance, over all cuts
    /// between two neighbouring values. It counts only with the safeguards of [`HoldAuto`].
    ///
    /// Scores on the model's attention grid serve best: upsampling adds slopes between the two
    /// kinds, which look like a third.
    ///
    /// # Errors
    /// [`Error::Value`] for a score that is no finite number.
    ///
    /// Source: Otsu, A threshold selection method from gray-level histograms, 1979.
    pub fn of(scores: &[f32]) -> Result<Self> {
        if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
            return Err(Error::value("scores", "finite numbers", score));
        }
        let mut sorted = scores.to_vec();
        sorted.sort_by(f32::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Ok(Self::Flat);
        };
        if sorted.len() < MIN_TOKENS || max - min < MIN_RANGE {
            return Ok(Self::Flat);
        }
        let range = f64::from(max) - f64::from(min);
        let rescaled: Vec<f64> =
            sorted.iter().map(|&v| (f64::from(v) - f64::from(min)) / range).collect();
        let (above, separation) = best_cut(&rescaled);
        let cut = sorted.len() - above;
        let share = above as f64 / sorted.len() as f64;
        Ok(if separation < MIN_SEPARATION {
            Self::Unseparated { separation: separation as f32 }
        } else if share > MAX_SHARE {
            Self::Everywhere { share: share as f32 }
        } else if share < MIN_SHARE {
            Self::Nowhere { share: share as f32 }
        } else {
            // The upper neighbour itself: `score < threshold` is then exactly the lower part.
            Self::Found { threshold: sorted[cut], separation: separation as f32 }
        })
    }

    /// λ, where one was found.
    pub fn threshold(self) -> Option<f32> {
        match self {
            Self::Found { threshold, .. } => Some(threshold),
            _ => None,
        }
    }
}

/// How many of the `sorted` values lie above the cut that explains most of their variance, and
/// the share that it explains. Never cuts between equal values.
fn best_cut(sorted: &[f64]) -> (usize, f64) {
    let n = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / n;
    let total: f64 = sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let (mut best, mut explained, mut below) = (0, 0.0, 0.0);
    for cut in 1..sorted.len() {
        below += sorted[cut - 1];
        if sorted[cut - 1] == sorted[cut] {
            continue;
        }
        let (low, high) = (cut as f64, n - cut as f64);
        let gap = below / low - (mean * n - below) / high;
        let between = low * high / (n * n) * gap * gap;
        if between > explained {
            (best, explained) = (sorted.len() - cut, between);
        }
    }
    (best, if total > 0.0 { explained / total } else { 0.0 })
}

/// Holds what scores below a threshold taken from the map's own histogram, see
/// [`AutoThreshold::of`]; holds **nothing** when the histogram gives no clear answer.
///
/// - A flat map, or one whose scores make a single hump (noise, a slow gradient): nothing is held.
/// - A map that is high over more than half of the image (change the background, change the
///   style): nothing is held. A fixed threshold would hold back parts of what was asked for.
/// - A map that is high at one lonely spot (an attention sink), or over a few percent but not by
///   much: nothing is held.
/// - Two clear kinds of tokens: the lower ones are held.
///
/// The threshold is found, and applied, on the model's attention grid where the request has scores
/// there ([`HoldRequest::cells`]): a token is held when its cell is. Without, it is found and
/// applied on the tokens' scores.
///
/// Each image is judged by its own maps. The first step decides *whether* anything is held: where
/// its map gives no clear answer, neither do later ones (in an edit of the whole image they say
/// what is still to fill, which looks like an object). Where it does, each step says *what* by its
/// own map. Put a [`HoldMargin`](crate::HoldMargin) around it where the attention is coarser than
/// the tokens.
///
/// ```
/// use editmgt_core::{GridSize, HoldRequest, RegionHold, ScoreMap};
/// use editmgt_sampler::HoldAuto;
///
/// let size = GridSize::new(4, 8);
/// let object = |i: usize| if i % 8 < 2 { 0.9 - 0.01 * i as f32 } else { 0.02 * (i % 3) as f32 };
/// let scores = ScoreMap::new(1, size, (0..32).map(object).collect())?;
/// assert_eq!(HoldAuto.hold(&HoldRequest::first(&scores, None))?.share(), 0.75);
///
/// let flat = ScoreMap::new(1, size, vec![0.4; 32])?;
/// assert_eq!(HoldAuto.hold(&HoldRequest::first(&flat, None))?.share(), 0.0);
/// # Ok::<(), editmgt_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldAuto;

impl HoldAuto {
    /// λ of one image at one step, where there is one.
    fn of(request: &HoldRequest<'_>, image: usize) -> Result<Option<f32>> {
        let (scores, first) = maps(request);
        let threshold = AutoThreshold::of(first.image(image))?.threshold();
        if threshold.is_none() || request.step == 0 {
            return Ok(threshold);
        }
        Ok(AutoThreshold::of(scores.image(image))?.threshold())
    }
}

/// The maps of this step and of the first that decide: those on the attention grid, if any.
fn maps<'a>(request: &HoldRequest<'a>) -> (&'a ScoreMap, &'a ScoreMap) {
    request.cells.map_or((request.scores, request.first), |cells| (cells.scores, cells.first))
}

/// The cell of each token, row-major. A cell stands for `f` by `f` tokens, the last ones maybe for
/// fewer; where the grids don't fit so, the cells are stretched over the tokens.
fn cells_of_tokens(tokens: GridSize, cells: GridSize) -> Vec<usize> {
    let along = |tokens: usize, cells: usize| -> Vec<usize> {
        let factor = tokens.div_ceil(cells);
        let fits = tokens.div_ceil(factor) == cells;
        let cell = |token: usize| if fits { token / factor } else { token * cells / tokens };
        (0..tokens).map(cell).collect()
    };
    let columns = along(tokens.width, cells.width);
    let rows = along(tokens.height, cells.height).into_iter();
    rows.flat_map(|row| columns.iter().map(move |column| row * cells.width + column)).collect()
}

impl RegionHold for HoldAuto {
    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask> {
        let tokens = request.scores;
        let (scores, first) = maps(request);
        if (first.batch(), first.size()) != (scores.batch(), scores.size()) {
            return Err(Error::shape("scores of the first step", scores.size(), first.size()));
        }
        if scores.batch() != tokens.batch() || scores.size().is_empty() != tokens.size().is_empty()
        {
            let got = format!("{} of {}", scores.batch(), scores.size());
            return Err(Error::shape("scores of the cells", tokens.batch(), got));
        }
        let cells = if tokens.size().is_empty() {
            Vec::new()
        } else {
            cells_of_tokens(tokens.size(), scores.size())
        };
        let mut held = Vec::with_capacity(tokens.values().len());
        for image in 0..scores.batch() {
            let threshold = Self::of(request, image)?;
            let values = scores.image(image);
            held.extend(cells.iter().map(|&cell| threshold.is_some_and(|t| values[cell] < t)));
        }
        HoldMask::new(tokens.batch(), tokens.size(), held)
    }

    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        let (scores, first) = maps(request);
        let batch = scores.batch().min(first.batch());
        (image < batch).then(|| Self::of(request, image).ok()?).flatten()
    }
}

#[cfg(test)]
mod tests;
