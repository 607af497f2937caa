//! What a user asks for, and what is in force.
//!
//! ```text
//! EditRequest (set by the user) ────┐
//! EditDefaults (the model's folder) ┼─► EditSettings (every option in force, in the report)
//! the official inference script ────┘
//! ```

#[macro_use]
mod table;

mod composite;
mod defaults;
mod generate;
mod hold;
mod keyword;
mod map_filter;
mod options;
mod settings;
mod task;
mod text;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use composite::CompositePolicy;
pub use defaults::default_blocks;
pub use generate::{GenerateDefaults, GenerateRequest, GenerateSettings};
pub use hold::{CustomHold, HoldPolicy};
pub use keyword::{KeywordPolicy, content_words};
pub use map_filter::MapFilter;
pub use options::{EditDefaults, EditRequest, EditSettings, OptionInfo};
pub(crate) use settings::ModelFacts;
pub use task::{Job, Task};

use crate::error::EditError;
use crate::photo::Mask;

/// Most steps of a loop.
const MAX_STEPS: usize = 4096;
/// Largest guidance scale, strength and temperature.
const MAX_FACTOR: f32 = 100.0;

fn is_factor(value: &f32) -> bool {
    (0.0..=MAX_FACTOR).contains(value)
}

fn is_interval((from, until): &(f32, f32)) -> bool {
    editmgt_sampler::check_guidance_interval((*from, *until)).is_ok()
}

/// How held tokens are treated over the steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holding {
    /// A held token is the photo's own for good.
    #[default]
    Strict,
    /// The official step, bug for bug: a held token keeps the model's confidence and can be
    /// masked again.
    Parity,
}

impl From<&str> for EditRequest {
    fn from(instruction: &str) -> Self {
        Self::new(instruction)
    }
}

impl From<String> for EditRequest {
    fn from(instruction: String) -> Self {
        Self::new(instruction)
    }
}

impl From<&EditRequest> for EditRequest {
    fn from(request: &EditRequest) -> Self {
        request.clone()
    }
}

impl EditRequest {
    /// Most steps.
    pub const MAX_STEPS: usize = MAX_STEPS;

    /// An edit with the defaults.
    pub fn new(instruction: impl Into<String>) -> Self {
        Self { instruction: instruction.into(), ..Self::default() }
    }

    /// Another instruction, the same options.
    #[must_use]
    pub fn instruction(mut self, instruction: impl Into<String>) -> Self {
        self.instruction = instruction.into();
        self
    }

    /// White where the photo may change: any size with the photo's proportions.
    #[must_use]
    pub fn mask(mut self, mask: impl Into<Arc<Mask>>) -> Self {
        self.mask = Some(mask.into());
        self
    }

    /// Attention of these words of the instruction says where the edit is.
    #[must_use]
    pub fn keywords<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.keyword = Some(KeywordPolicy::Phrases(words.into_iter().map(Into::into).collect()));
        self
    }

    /// Checks every option that is set, before anything is loaded.
    ///
    /// # Errors
    /// [`EditError::Option`] with the option, what was expected and what came.
    pub fn check(&self) -> Result<(), EditError> {
        if self.instruction.trim().is_empty() {
            return Err(EditError::option("instruction", "some words", "nothing"));
        }
        match self.out_of_range() {
            None => self.task.check(self),
            Some((option, expected, got)) => Err(EditError::option(option, expected, got)),
        }
    }

    /// A keyword is refused where nothing is held by scores; an edit that holds nothing by them
    /// has none to ask for.
    fn without_unread_options(mut self) -> Self {
        let reads = self.hold.as_ref().is_none_or(HoldPolicy::needs_scores) || self.score_map;
        self.keyword = self.keyword.filter(|_| reads);
        self
    }
}

#[cfg(test)]
mod tests {
    use editmgt_core::{StepPlan, Tiling};

    use super::*;
    use crate::photo::{MAX_FEATHER, MAX_SIDE};

    #[test]
    fn every_option_is_checked() {
        let good = EditRequest::new("make it red");
        good.check().unwrap();
        type Spoil = fn(&mut EditRequest);
        let cases: [(&str, Spoil); 27] = [
            ("instruction", |r| r.instruction = " \n".into()),
            ("keyword", |r| r.keyword = Some(KeywordPolicy::phrase(""))),
            ("keyword", |r| r.keyword = Some(KeywordPolicy::Phrases(vec![]))),
            ("steps", |r| r.steps = Some(0)),
            ("steps", |r| r.steps = Some(usize::MAX)),
            ("guidance_scale", |r| r.guidance_scale = Some(f32::NAN)),
            ("guidance_scale", |r| r.guidance_scale = Some(f32::INFINITY)),
            ("guidance_scale", |r| r.guidance_scale = Some(f32::NEG_INFINITY)),
            ("guidance_interval", |r| r.guidance_interval = Some((0.0, f32::INFINITY))),
            ("steps_plan", |r| r.steps_plan = Some(StepPlan::Cached { warm_up: 0, refresh: 8 })),
            ("reference_strength", |r| r.reference_strength = Some(f32::NAN)),
            ("reference_strength", |r| r.reference_strength = Some(f32::INFINITY)),
            ("temperature", |r| r.temperature = Some((f32::NAN, 0.0))),
            ("temperature", |r| r.temperature = Some((f32::NEG_INFINITY, 0.0))),
            ("hold", |r| r.hold = Some(HoldPolicy::Threshold(f32::NAN))),
            ("hold", |r| r.hold = Some(HoldPolicy::Threshold(f32::INFINITY))),
            ("hold", |r| r.hold = Some(HoldPolicy::Budget(f32::INFINITY))),
            ("guidance_interval", |r| r.guidance_interval = Some((f32::NAN, 1.0))),
            ("reference_strength", |r| r.reference_strength = Some(-0.1)),
            ("temperature", |r| r.temperature = Some((0.0, f32::INFINITY))),
            ("hold", |r| r.hold = Some(HoldPolicy::Threshold(1.01))),
            ("hold", |r| r.hold = Some(HoldPolicy::Budget(f32::NAN))),
            ("hold_margin", |r| r.hold_margin = Some(usize::MAX)),
            ("size", |r| r.size = Some(0)),
            ("size", |r| r.size = Some(MAX_SIDE + 1)),
            ("feather", |r| r.feather = MAX_FEATHER + 1),
            ("tile", |r| r.tile = Tiling::Pixels(15)),
        ];
        for (named, spoil) in cases {
            let mut request = good.clone();
            spoil(&mut request);
            let message = request.check().unwrap_err().to_string();
            assert!(message.starts_with(named), "{named}: {message}");
        }
    }

    /// JSON has no NaN, and a number beyond f32 becomes infinite.
    #[test]
    fn numbers_of_json_that_are_not_finite_are_refused() {
        for (key, value, named) in [
            ("guidance_scale", "1e39", "guidance_scale"),
            ("reference_strength", "1e300", "reference_strength"),
            ("temperature", "[1e39, 0]", "temperature"),
            ("guidance_interval", "[0, 1e39]", "guidance_interval"),
            ("hold", r#"{"threshold": 1e39}"#, "hold"),
            ("hold", r#"{"budget": -1e39}"#, "hold"),
        ] {
            let json = format!(r#"{{"instruction": "a", "{key}": {value}}}"#);
            let request: EditRequest = serde_json::from_str(&json).unwrap();
            let message = request.check().unwrap_err().to_string();
            assert!(message.starts_with(named), "{json}: {message}");
        }
        for bad in ["NaN", "Infinity", "-Infinity", "1e400", "\"NaN\"", "true"] {
            let json = format!(r#"{{"instruction": "a", "guidance_scale": {bad}}}"#);
            assert!(serde_json::from_str::<EditRequest>(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_request_survives_json_and_says_only_what_was_said() {
        let request =
            EditRequest { hold: Some(HoldPolicy::Auto), ..EditRequest::new("make it red") };
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<EditRequest>(&json).unwrap(), request);
        assert!(json.contains(r#""hold":"auto""#) && !json.contains("steps"), "{json}");
        let error = serde_json::from_str::<EditRequest>(r#"{"colour": "red"}"#).unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
    }
}
