use serde::{Deserialize, Serialize};

use crate::run::Draws;

/// Mask distribution of training canvases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskingOptions {
    /// Additional share of samples whose canvas is fully masked, 0..1: few-step edits depend on
    /// their first step. 0 in the paper.
    pub fully_masked: f32,
}

impl Default for MaskingOptions {
    /// As in the paper.
    fn default() -> Self {
        Self { fully_masked: 0.0 }
    }
}

/// The masked positions of one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskDraw {
    /// The drawn mask ratio, above 0 up to 1, which determines the timestep.
    pub ratio: f32,
    /// Whether each position is masked; at least one is.
    pub masked: Vec<bool>,
}

impl MaskingOptions {
    /// Draws the mask of sample `sample` of the run over `positions` tokens, 1 or more.
    ///
    /// Source: the official training script. u is uniform, the ratio cos(π/2 u) then has the
    /// arccos density 2 / (π √(1 - r²)); positions are uniform without replacement.
    pub fn draw(&self, draws: &Draws, sample: u64, positions: usize) -> MaskDraw {
        let mut stream = draws.stream("edit mask", sample);
        let (u, full) = (stream.uniform(), stream.uniform());
        let ratio = if full < self.fully_masked { 1.0 } else { mask_ratio(u) };
        let order: Vec<f32> = (0..positions).map(|_| stream.uniform()).collect();
        MaskDraw { ratio, masked: smallest(&order, masked_count(positions, ratio)) }
    }
}

/// The mask of a sample at a given ratio.
pub(super) fn masked_at(draws: &Draws, sample: u64, positions: usize, ratio: f32) -> Vec<bool> {
    let mut stream = draws.stream("edit mask", sample);
    let order: Vec<f32> = (0..positions).map(|_| stream.uniform()).collect();
    smallest(&order, masked_count(positions, ratio))
}

/// cos(π/2 u) for u in [0, 1): 1 at 0, falling to 0.
pub fn mask_ratio(u: f32) -> f32 {
    (f64::from(u) * std::f64::consts::FRAC_PI_2).cos() as f32
}

/// How many of `positions` tokens a ratio masks: rounded half to even in f32, as torch rounds, and
/// at least one.
pub fn masked_count(positions: usize, ratio: f32) -> usize {
    ((positions as f32 * ratio).round_ties_even() as usize).clamp(1, positions)
}

/// Marks the `count` smallest values; ties are broken by index.
fn smallest(values: &[f32], count: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut marked = vec![false; values.len()];
    for &position in &order[..count] {
        marked[position] = true;
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: MaskingOptions = MaskingOptions { fully_masked: 0.0 };

    #[test]
    fn counts_are_rounded_half_to_even() {
        for (positions, ratio, expected) in [
            (256, 1.0, 256),
            (256, 0.0, 1),
            (256, 0.001, 1),
            (4, 0.625, 2),
            (4, 0.875, 4),
            (10, 0.25, 2),
            (10, 0.35, 4),
            (1, 0.3, 1),
        ] {
            assert_eq!(masked_count(positions, ratio), expected, "{ratio} of {positions}");
        }
    }

    #[test]
    fn ratios_have_the_arccos_density() {
        let draws = Draws::new(1);
        let samples = 20_000;
        let below = |bound: f64| {
            let ratio = |sample| PAPER.draw(&draws, sample, 1).ratio;
            (0..samples).filter(|&s| f64::from(ratio(s)) < bound).count() as f64 / samples as f64
        };
        for bound in [0.1f64, 0.5, 0.9] {
            // P(r < b) = 1 - 2/π arccos b. Four deviations of a share of 20,000 draws: 0.014.
            let expected = 1.0 - bound.acos() / std::f64::consts::FRAC_PI_2;
            assert!((below(bound) - expected).abs() < 0.014, "{bound}");
        }
    }

    #[test]
    fn every_position_is_as_likely() {
        let draws = Draws::new(2);
        let (positions, samples) = (16, 4000);
        let mut hits = vec![0; positions];
        let mut masked = 0;
        for sample in 0..samples {
            let draw = PAPER.draw(&draws, sample, positions);
            let count = draw.masked.iter().filter(|&&m| m).count();
            assert_eq!(count, masked_count(positions, draw.ratio));
            masked += count;
            for (hit, &m) in hits.iter_mut().zip(&draw.masked) {
                *hit += usize::from(m);
            }
        }
        let mean = masked as f64 / positions as f64;
        // Four deviations of a binomial count of 4000.
        assert!(hits.iter().all(|&hit| (hit as f64 - mean).abs() < 4.0 * 31.7), "{hits:?}");
    }

    #[test]
    fn the_share_of_full_masks_is_an_option() {
        let draws = Draws::new(3);
        let config = MaskingOptions { fully_masked: 0.35 };
        let full = (0..4000).filter(|&s| config.draw(&draws, s, 8).ratio == 1.0).count();
        // Four deviations of a binomial share of 4000 draws: 0.03.
        assert!((full as f64 / 4000.0 - 0.35).abs() < 0.03, "{full}");
        assert!((0..500).all(|s| PAPER.draw(&draws, s, 8).ratio < 1.0));
    }
}
