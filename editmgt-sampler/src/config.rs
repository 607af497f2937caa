use editmgt_core::config::{ConfigError, ConfigKeys, UnknownKeys};
use serde::Deserialize;

use crate::{MaskingSchedule, Timesteps};

const COMPONENT: &str = "scheduler";

/// `scheduler/scheduler_config.json` of an official checkpoint.
///
/// ```
/// use editmgt_core::{ScheduleRequest, UnmaskScheduler};
/// use editmgt_sampler::{SchedulerConfig, Strict, Temperature};
///
/// let text = r#"{"mask_token_id": 8255, "masking_schedule": "cosine"}"#;
/// let config = SchedulerConfig::from_json(text)?;
/// let scheduler = Strict::new(config.masking_schedule, Temperature::Range(2.0, 0.0));
/// let plan = scheduler.plan(&ScheduleRequest { steps: 12, starting_mask_ratio: 1.0 })?;
/// assert_eq!(plan.timesteps[0], 11.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// The id of positions that are not decided yet; must equal the transformer's.
    pub mask_token_id: u32,
    /// How the fraction of masked tokens decreases.
    pub masking_schedule: MaskingSchedule,
    /// The model's timestep input: `countdown` (the official one, also if the key is absent),
    /// `remaining_share` (that of Muddit) or `mask_ratio`.
    pub timesteps: Timesteps,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mask_token_id: u32,
    masking_schedule: String,
    timesteps: Option<String>,
}

impl SchedulerConfig {
    /// The official schedule and timesteps.
    pub fn new(mask_token_id: u32) -> Self {
        let (masking_schedule, timesteps) = (MaskingSchedule::default(), Timesteps::default());
        Self { mask_token_id, masking_schedule, timesteps }
    }

    /// Replaces the timestep input.
    #[must_use]
    pub fn with_timesteps(self, timesteps: Timesteps) -> Self {
        Self { timesteps, ..self }
    }

    /// Parses the text of the file.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] for a missing key, [`ConfigError::UnknownKeys`],
    /// [`ConfigError::Unsupported`] for a schedule that is neither `cosine` nor `linear`.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::from_json_with(text, UnknownKeys::Refuse)
    }

    /// Reads the text of a file, as strictly as `unknown_keys` says.
    ///
    /// # Errors
    /// Those of [`from_json`](Self::from_json); with [`UnknownKeys::Accept`] none for an unknown
    /// key.
    pub fn from_json_with(text: &str, unknown_keys: UnknownKeys) -> Result<Self, ConfigError> {
        Self::from_json_for(text, unknown_keys, Timesteps::default())
    }

    /// As [`from_json_with`](Self::from_json_with) for a model whose timestep input is
    /// `timesteps_of_model` where the file has no key for it.
    ///
    /// # Errors
    /// Those of [`from_json_with`](Self::from_json_with).
    pub fn from_json_for(
        text: &str,
        unknown_keys: UnknownKeys,
        timesteps_of_model: Timesteps,
    ) -> Result<Self, ConfigError> {
        let File { mask_token_id, masking_schedule, timesteps } =
            ConfigKeys::read(COMPONENT, text, unknown_keys)?.parse()?;
        let masking_schedule = match masking_schedule.as_str() {
            "cosine" => MaskingSchedule::Cosine,
            "linear" => MaskingSchedule::Linear,
            other => {
                return Err(ConfigError::unsupported(
                    COMPONENT,
                    "masking_schedule",
                    "cosine or linear",
                    other,
                ));
            }
        };
        let timesteps = match timesteps.as_deref() {
            None => timesteps_of_model,
            Some("countdown") => Timesteps::Countdown,
            Some("mask_ratio") => Timesteps::MaskRatio,
            Some("remaining_share") => Timesteps::RemainingShare,
            Some(other) => {
                let expected = "countdown, remaining_share or mask_ratio";
                return Err(ConfigError::unsupported(COMPONENT, "timesteps", expected, other));
            }
        };
        Ok(Self { mask_token_id, masking_schedule, timesteps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_json_rejects_unknown_keys_and_values() {
        let config = SchedulerConfig::from_json(
            r#"{"_class_name": "Scheduler", "mask_token_id": 8255, "masking_schedule": "cosine"}"#,
        );
        let expected = SchedulerConfig {
            mask_token_id: 8255,
            masking_schedule: MaskingSchedule::Cosine,
            timesteps: Timesteps::Countdown,
        };
        assert_eq!(config.unwrap(), expected);
        let ratio = SchedulerConfig::from_json(
            r#"{"mask_token_id": 7, "masking_schedule": "linear", "timesteps": "mask_ratio"}"#,
        );
        assert_eq!(ratio.unwrap().timesteps, Timesteps::MaskRatio);
        let share = |text| {
            SchedulerConfig::from_json_for(text, UnknownKeys::Refuse, Timesteps::RemainingShare)
                .unwrap()
                .timesteps
        };
        let absent = r#"{"mask_token_id": 7, "masking_schedule": "linear"}"#;
        assert_eq!(share(absent), Timesteps::RemainingShare);
        let named =
            r#"{"mask_token_id": 7, "masking_schedule": "linear", "timesteps": "countdown"}"#;
        assert_eq!(share(named), Timesteps::Countdown);
        for (bad, named) in [
            (r#"{"mask_token_id": 7}"#, "masking_schedule"),
            (r#"{"masking_schedule": "linear"}"#, "mask_token_id"),
            (r#"{"mask_token_id": -1, "masking_schedule": "linear"}"#, "-1"),
            (r#"{"mask_token_id": 7, "masking_schedule": "square"}"#, "cosine or linear"),
            (
                r#"{"mask_token_id": 7, "masking_schedule": "linear", "timesteps": "up"}"#,
                "countdown, remaining_share or mask_ratio",
            ),
            (r#"{"mask_token_id": 7, "masking_schedule": "linear", "shift": 3}"#, "shift"),
        ] {
            let message = SchedulerConfig::from_json(bad).unwrap_err().to_string();
            assert!(message.contains(named), "{bad}: {message}");
        }
    }
}
