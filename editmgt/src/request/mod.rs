//! What a user asks for, and what is in force.
//!
//! ```text
//! EditRequest (what the user said) ─┐
//! EditDefaults (the model's folder) ┼─► EditSettings (every option in force, in the report)
//! the official inference script ────┘
//! ```

mod composite;
mod defaults;
mod hold;
mod keyword;
mod map_filter;
mod ranges;
mod settings;

use editmgt_core::MapCombine;
use serde::{Deserialize, Serialize};

pub use composite::CompositePolicy;
pub use defaults::EditDefaults;
pub use hold::HoldPolicy;
pub use keyword::{KeywordPolicy, content_words};
pub use map_filter::MapFilter;
pub use settings::EditSettings;
pub(crate) use settings::ModelFacts;

use crate::error::EditError;
use crate::photo::{Blend, MAX_FEATHER, Resize};

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

/// What a user asks for: everything about one edit but the photo and the user's mask.
///
/// `None` means that the user did not say: then the model's own defaults hold
/// ([`EditDefaults`]), and where it has none, those of the official inference script. What came
/// of it is an [`EditSettings`], which describes each option.
///
/// In JSON only what was said is written; a key nobody knows is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EditRequest {
    /// What to change, in words. Not empty.
    pub instruction: String,
    /// See [`EditSettings::negative_prompt`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// See [`EditSettings::steps`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// See [`EditSettings::guidance_scale`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f32>,
    /// See [`EditSettings::guidance_interval`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<(f32, f32)>,
    /// See [`EditSettings::reference_strength`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_strength: Option<f32>,
    /// See [`EditSettings::temperature`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<(f32, f32)>,
    /// See [`EditSettings::hold`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldPolicy>,
    /// See [`EditSettings::hold_margin`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_margin: Option<usize>,
    /// How held tokens are treated.
    pub holding: Holding,
    /// See [`EditSettings::keyword`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyword: Option<KeywordPolicy>,
    /// See [`EditSettings::keyword_maps`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyword_maps: Option<MapCombine>,
    /// See [`EditSettings::map_filter`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_filter: Option<MapFilter>,
    /// See [`EditSettings::blocks`]; an empty list is none said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<usize>>,
    /// Same seed, same edit.
    pub seed: u64,
    /// Which of the edits of this seed, below 2^32: each has noise of its own.
    pub variation: u32,
    /// See [`EditSettings::size`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// See [`EditSettings::score_map`].
    pub score_map: bool,
    /// How the photo becomes a picture that suits the model.
    pub resize: Resize,
    /// See [`EditSettings::composite`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub composite: Option<CompositePolicy>,
    /// How photo and edit are mixed where they meet.
    pub blend: Blend,
    /// See [`EditSettings::feather`].
    pub feather: usize,
}

impl Default for EditRequest {
    fn default() -> Self {
        Self {
            instruction: String::new(),
            negative_prompt: None,
            steps: None,
            guidance_scale: None,
            guidance_interval: None,
            reference_strength: None,
            temperature: None,
            hold: None,
            hold_margin: None,
            holding: Holding::Strict,
            keyword: None,
            keyword_maps: None,
            map_filter: None,
            blocks: None,
            seed: 0,
            variation: 0,
            size: None,
            score_map: false,
            resize: Resize::Fit,
            composite: None,
            blend: Blend::default(),
            feather: 0,
        }
    }
}

impl From<&str> for EditRequest {
    fn from(instruction: &str) -> Self {
        Self::new(instruction)
    }
}

impl EditRequest {
    /// More steps than there are decisions to make help nobody.
    pub const MAX_STEPS: usize = 4096;

    /// An edit with the defaults.
    pub fn new(instruction: impl Into<String>) -> Self {
        Self { instruction: instruction.into(), ..Self::default() }
    }

    /// The same with this policy: see [`EditSettings::hold`].
    #[must_use]
    pub fn hold(mut self, hold: HoldPolicy) -> Self {
        self.hold = Some(hold);
        self
    }

    /// The same with this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same with this number of steps.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Checks every option that was said, before anything is loaded.
    ///
    /// # Errors
    /// [`EditError::Option`] with the option, what was expected and what came.
    pub fn check(&self) -> Result<(), EditError> {
        if self.instruction.trim().is_empty() {
            return Err(EditError::option("instruction", "some words", "nothing"));
        }
        if self.feather > MAX_FEATHER {
            let expected = format!("0 to {MAX_FEATHER} pixels");
            return Err(EditError::option("feather", expected, self.feather));
        }
        match ranges::check(&self.said()) {
            None => Ok(()),
            Some(problem) => Err(EditError::option(problem.option, problem.expected, problem.got)),
        }
    }

    /// The options that a model may have defaults for.
    fn said(&self) -> EditDefaults {
        EditDefaults {
            size: self.size,
            negative_prompt: self.negative_prompt.clone(),
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            guidance_interval: self.guidance_interval,
            reference_strength: self.reference_strength,
            temperature: self.temperature,
            hold: self.hold.clone(),
            hold_margin: self.hold_margin,
            keyword: self.keyword.clone(),
            keyword_maps: self.keyword_maps,
            map_filter: self.map_filter,
            blocks: self.blocks.clone(),
            composite: self.composite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::photo::MAX_SIDE;

    #[test]
    fn every_option_is_checked() {
        let good = EditRequest::new("make it red");
        good.check().unwrap();
        type Spoil = fn(&mut EditRequest);
        let cases: [(&str, Spoil); 25] = [
            ("instruction", |r| r.instruction = " \n".into()),
            ("keyword", |r| r.keyword = Some(KeywordPolicy::phrase(""))),
            ("keyword", |r| r.keyword = Some(KeywordPolicy::Phrases(vec![]))),
            ("steps", |r| r.steps = Some(0)),
            ("steps", |r| r.steps = Some(usize::MAX)),
            ("guidance", |r| r.guidance_scale = Some(f32::NAN)),
            ("guidance", |r| r.guidance_scale = Some(f32::INFINITY)),
            ("guidance", |r| r.guidance_scale = Some(f32::NEG_INFINITY)),
            ("guidance interval", |r| r.guidance_interval = Some((0.0, f32::INFINITY))),
            ("strength", |r| r.reference_strength = Some(f32::NAN)),
            ("strength", |r| r.reference_strength = Some(f32::INFINITY)),
            ("temperature", |r| r.temperature = Some((f32::NAN, 0.0))),
            ("temperature", |r| r.temperature = Some((f32::NEG_INFINITY, 0.0))),
            ("hold", |r| r.hold = Some(HoldPolicy::Threshold(f32::NAN))),
            ("hold", |r| r.hold = Some(HoldPolicy::Threshold(f32::INFINITY))),
            ("hold", |r| r.hold = Some(HoldPolicy::Budget(f32::INFINITY))),
            ("guidance interval", |r| r.guidance_interval = Some((f32::NAN, 1.0))),
            ("strength", |r| r.reference_strength = Some(-0.1)),
            ("temperature", |r| r.temperature = Some((0.0, f32::INFINITY))),
            ("hold", |r| r.hold = Some(HoldPolicy::Threshold(1.01))),
            ("hold", |r| r.hold = Some(HoldPolicy::Budget(f32::NAN))),
            ("hold margin", |r| r.hold_margin = Some(usize::MAX)),
            ("size", |r| r.size = Some(0)),
            ("size", |r| r.size = Some(MAX_SIDE + 1)),
            ("feather", |r| r.feather = MAX_FEATHER + 1),
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
            ("guidance_scale", "1e39", "guidance"),
            ("reference_strength", "1e300", "strength"),
            ("temperature", "[1e39, 0]", "temperature"),
            ("guidance_interval", "[0, 1e39]", "guidance interval"),
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
