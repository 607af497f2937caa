use serde::{Deserialize, Serialize};

use super::TrainError;

/// Learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Constant.
    Constant,
    /// Cosine decay to the floor.
    Cosine,
}

/// The learning rate of each step: a linear warm-up, then constant or cosine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrSchedule {
    /// The highest rate.
    pub peak: f64,
    /// Number of warm-up steps.
    pub warm_up: u64,
    /// Decay after the warm-up.
    pub decay: Decay,
    /// The rate at the end of a cosine.
    pub floor: f64,
}

impl LrSchedule {
    /// The rate of step `step` (0 is the first) of `total`.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        match self.decay {
            Decay::Constant => self.peak,
            Decay::Cosine => {
                let length = total.saturating_sub(self.warm_up).max(1) as f64;
                let done = ((step - self.warm_up) as f64 / length).min(1.0);
                let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                self.floor + (self.peak - self.floor) * share
            }
        }
    }

    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        if !(self.peak > 0.0 && self.peak.is_finite()) {
            return Err(TrainError::option("peak", "a rate above 0", self.peak));
        }
        if !(0.0..=self.peak).contains(&self.floor) {
            return Err(TrainError::option("floor", "a rate from 0 to the peak", self.floor));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_stays_or_falls() {
        let cosine = LrSchedule { peak: 2.0, warm_up: 4, decay: Decay::Cosine, floor: 1.0 };
        let constant = LrSchedule { decay: Decay::Constant, ..cosine };
        let at_once = LrSchedule { warm_up: 0, ..cosine };
        for (schedule, step, expected) in [
            (cosine, 0, 0.5),
            (cosine, 3, 2.0),
            (cosine, 4, 2.0),
            (cosine, 8, 1.5),
            (cosine, 12, 1.0),
            (cosine, 99, 1.0),
            (constant, 1, 1.0),
            (constant, 11, 2.0),
            (at_once, 0, 2.0),
            (at_once, 6, 1.5),
        ] {
            let got = schedule.at(step, 12);
            assert!((got - expected).abs() < 1e-12, "step {step}: {got} is not {expected}");
        }
    }
}
