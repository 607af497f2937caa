//! Mask schedules and temperatures, in f32 with the roundings of the official scheduler: a rounding
//! decides how many tokens a step unmasks.

use std::f32::consts::PI;

use editmgt_core::{Error, Result, Schedule, ScheduleRequest};
use serde::{Deserialize, Serialize};

/// f32 represents step numbers exactly up to this.
const MAX_STEPS: usize = 1 << f32::MANTISSA_DIGITS;

/// How the fraction of masked tokens decreases over a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskingSchedule {
    /// `cos(π/2 · progress)`: few tokens early, most of them late. Used by the official models.
    #[default]
    Cosine,
    /// `1 - progress`: the same number at every step.
    Linear,
}

impl MaskingSchedule {
    /// The fraction of the canvas, 0..1, that is still masked after step `step` (0 is the first) of
    /// `steps`; 0 after the last.
    ///
    /// Source: the official scheduler; Chang et al., MaskGIT, section 3.3.
    pub fn mask_ratio(self, step: usize, steps: usize) -> f32 {
        if step + 1 >= steps {
            return 0.0;
        }
        let progress = (step + 1) as f32 / steps as f32;
        match self {
            // The angle is rounded to f32 as in the official code. The cosine is computed in f64
            // and rounded, so that token counts don't depend on the platform's f32 cosine.
            Self::Cosine => f64::from(progress * PI / 2.0).cos() as f32,
            Self::Linear => 1.0 - progress,
        }
    }
}

/// The model's timestep input at each step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timesteps {
    /// The remaining steps, `n-1 … 0`, as in the official scheduler.
    #[default]
    Countdown,
    /// The fraction of the canvas that is masked before the step, which means the same in training
    /// and in inference for any number of steps.
    MaskRatio,
    /// The share of the steps that remain after this one, `(n-1)/n … 0`: what Muddit's inference
    /// passes to the same architecture.
    RemainingShare,
}

/// Weight of the Gumbel noise in the confidence of a token, for each step.
///
/// In JSON a pair of values or a single one, as in the official pipeline's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Temperature {
    /// Linear from the first value at the first step to the second at the last.
    Range(f32, f32),
    /// Linear from this value to 0.01, as the official scheduler treats a single value.
    Decay(f32),
}

impl Default for Temperature {
    /// From 2 to 0, as in the official pipeline.
    fn default() -> Self {
        Self::Range(2.0, 0.0)
    }
}

impl Temperature {
    const DECAY_END: f32 = 0.01;

    /// One value per step; a single step gets the first.
    fn values(self, steps: usize) -> Result<Vec<f32>> {
        let (start, end) = match self {
            Self::Range(start, end) => (start, end),
            Self::Decay(start) => (start, Self::DECAY_END),
        };
        for t in [start, end] {
            if !(t >= 0.0 && t.is_finite()) {
                return Err(Error::value("temperature", "a finite number, 0 or more", t));
            }
        }
        let last = steps - 1;
        let increment = (end - start) / last.max(1) as f32;
        // From the nearer end, as torch's linspace, so that both ends are exact.
        let value = |i: usize| {
            if i < steps / 2 || last == 0 {
                start + increment * i as f32
            } else {
                end - increment * (last - i) as f32
            }
        };
        Ok((0..steps).map(value).collect())
    }
}

/// The plan of a run.
pub(crate) fn plan(
    masking: MaskingSchedule,
    temperature: Temperature,
    timesteps: Timesteps,
    request: &ScheduleRequest,
) -> Result<Schedule> {
    let ScheduleRequest { steps, starting_mask_ratio: start } = *request;
    if !(1..=MAX_STEPS).contains(&steps) {
        return Err(Error::value("steps", format!("1 to {MAX_STEPS}"), steps));
    }
    if !(start > 0.0 && start <= 1.0) {
        return Err(Error::value("starting mask ratio", "above 0, up to 1", start));
    }
    let mask_ratios: Vec<f32> = (0..steps).map(|i| start * masking.mask_ratio(i, steps)).collect();
    let timesteps = match timesteps {
        Timesteps::Countdown => (0..steps).rev().map(|t| t as f32).collect(),
        Timesteps::RemainingShare => {
            // Divided in f32, as in the official code.
            (0..steps).rev().map(|t| t as f32 / steps as f32).collect()
        }
        Timesteps::MaskRatio => [start].iter().chain(&mask_ratios[..steps - 1]).copied().collect(),
    };
    Ok(Schedule { timesteps, mask_ratios, temperatures: temperature.values(steps)? })
}

/// Number of `unknown` masked tokens that stay masked after a step: `target` rounded down, but at
/// least one is unmasked, and at least one is left for the last step.
pub(crate) fn mask_len(target: f32, unknown: usize) -> usize {
    (target.floor() as usize).min(unknown.saturating_sub(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(steps: usize, starting_mask_ratio: f32) -> ScheduleRequest {
        ScheduleRequest { steps, starting_mask_ratio }
    }

    #[test]
    fn timesteps_count_down_or_are_shares_or_mask_ratios() {
        let timesteps = |convention| {
            let request = request(3, 0.5);
            plan(MaskingSchedule::Linear, Temperature::default(), convention, &request).unwrap()
        };
        let countdown = timesteps(Timesteps::Countdown);
        assert_eq!(countdown.timesteps, [2.0, 1.0, 0.0]);
        assert!(countdown.mask_ratios.iter().all(|&ratio| ratio < 0.5));
        let share = timesteps(Timesteps::RemainingShare);
        assert_eq!(share.timesteps, [2.0 / 3.0, 1.0 / 3.0, 0.0]);
        let plan = timesteps(Timesteps::MaskRatio);
        assert_eq!(plan.timesteps[0], 0.5);
        assert_eq!(plan.timesteps[1..], plan.mask_ratios[..2]);
    }

    /// `cosine 36 4096 [4092, 4080, …]` a line; f64 arithmetic gets some of them wrong.
    const MASK_LEN: &str = include_str!("../testdata/mask_len.txt");

    #[test]
    fn masked_counts_of_the_official_scheduler() {
        let mut lines = 0;
        for line in MASK_LEN.lines().filter(|line| !line.starts_with('#')) {
            let (run, counts) = line.split_once('[').unwrap();
            let run: Vec<&str> = run.split_whitespace().collect();
            let [name, steps, tokens] = run[..] else { panic!("{line}") };
            let masking = match name {
                "cosine" => MaskingSchedule::Cosine,
                _ => MaskingSchedule::Linear,
            };
            let (steps, tokens) = (steps.parse().unwrap(), tokens.parse::<usize>().unwrap());
            let plan =
                plan(masking, Temperature::default(), Timesteps::Countdown, &request(steps, 1.0))
                    .unwrap();
            let got: Vec<usize> = plan.mask_ratios[..steps - 1]
                .iter()
                .map(|ratio| mask_len(tokens as f32 * ratio, tokens))
                .collect();
            let counts = counts.trim_end_matches(']').split(", ");
            assert_eq!(got, counts.map(|n| n.parse().unwrap()).collect::<Vec<usize>>(), "{line}");
            assert_eq!(plan.mask_ratios[steps - 1], 0.0);
            lines += 1;
        }
        assert_eq!(lines, 13);
    }

    #[test]
    fn mask_len_unmasks_one_and_leaves_one() {
        for (target, unknown, expected) in
            [(0.3, 9, 1), (5.9, 9, 5), (9.0, 9, 8), (20.0, 9, 8), (20.0, 1, 1), (20.0, 0, 1)]
        {
            assert_eq!(mask_len(target, unknown), expected, "{target} of {unknown}");
        }
    }

    #[test]
    fn temperatures_are_linear_with_exact_ends() {
        for (temperature, steps, expected) in [
            (Temperature::Range(2.0, 0.0), 1, vec![2.0]),
            (Temperature::Range(2.0, 0.0), 5, vec![2.0, 1.5, 1.0, 0.5, 0.0]),
            (Temperature::Range(3.0, 0.5), 2, vec![3.0, 0.5]),
            (Temperature::Decay(4.01), 3, vec![4.01, 2.01, 0.01]),
        ] {
            assert_eq!(temperature.values(steps).unwrap(), expected, "{temperature:?}");
        }
    }

    #[test]
    fn plan_rejects_invalid_steps_ratios_and_temperatures() {
        let good = Temperature::default();
        for (steps, start, temperature) in [
            (0, 1.0, good),
            (usize::MAX, 1.0, good),
            (4, 0.0, good),
            (4, 1.1, good),
            (4, f32::NAN, good),
            (4, 1.0, Temperature::Range(f32::NAN, 0.0)),
            (4, 1.0, Temperature::Range(1.0, f32::INFINITY)),
            (4, 1.0, Temperature::Decay(-1.0)),
        ] {
            let plan = plan(
                MaskingSchedule::Cosine,
                temperature,
                Timesteps::Countdown,
                &request(steps, start),
            );
            assert!(plan.is_err(), "{steps} steps from {start}, {temperature:?}");
        }
    }
}
