//! What a user asks for.

use editmgt_text::DEFAULT_NEGATIVE_PROMPT;
use serde::{Deserialize, Serialize};

use crate::error::EditError;
use crate::photo::MAX_SIDE;

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

/// Everything about one edit but the photo and the user's mask.
///
/// The defaults are those of the official inference script (36 steps, guidance 6, reference
/// strength 1.1, temperature 2 to 0, no hold).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EditRequest {
    /// What to change, in words. Not empty.
    pub instruction: String,
    /// What to steer away from. Read when `guidance_scale` is above 1.
    pub negative_prompt: String,
    /// Number of steps, 1 to [`EditRequest::MAX_STEPS`].
    pub steps: usize,
    /// Classifier-free guidance, 0 to 100; 1 and below turns it off and halves the work.
    pub guidance_scale: f32,
    /// γ, 0 to 100: how strongly the photo's tokens are attended to. 1 leaves the attention alone.
    pub reference_strength: f32,
    /// Weight of the Gumbel noise at the first and the last step, 0 to 100 each.
    pub temperature: (f32, f32),
    /// λ in 0..=1: tokens that score below keep the photo's. `None`: nothing is held by score.
    pub hold: Option<f32>,
    /// How held tokens are treated.
    pub holding: Holding,
    /// Words of the instruction whose attention says where the edit is; `None`: every text row.
    pub keyword: Option<String>,
    /// Blocks whose attention is consolidated, double blocks first; empty: the documented ones of
    /// the official model (28 to 36) where the model has them, else every single block.
    pub blocks: Vec<usize>,
    /// Same seed, same edit.
    pub seed: u64,
    /// Side of the square whose area the model works on, in pixels; `None`: what the model was
    /// made for. At least one token of the model and at most 16,384.
    pub size: Option<usize>,
    /// Whether held tokens get the photo's own pixels back instead of the codec's.
    pub composite: bool,
}

impl Default for EditRequest {
    fn default() -> Self {
        Self {
            instruction: String::new(),
            negative_prompt: DEFAULT_NEGATIVE_PROMPT.to_owned(),
            steps: 36,
            guidance_scale: 6.0,
            reference_strength: 1.1,
            temperature: (2.0, 0.0),
            hold: None,
            holding: Holding::Strict,
            keyword: None,
            blocks: Vec::new(),
            seed: 0,
            size: None,
            composite: true,
        }
    }
}

impl EditRequest {
    /// More steps than there are decisions to make help nobody.
    pub const MAX_STEPS: usize = 4096;

    /// An edit with the defaults.
    pub fn new(instruction: impl Into<String>) -> Self {
        Self { instruction: instruction.into(), ..Self::default() }
    }

    /// Checks every option, before anything is loaded.
    ///
    /// # Errors
    /// [`EditError::Option`] with the option, what was expected and what came.
    pub fn check(&self) -> Result<(), EditError> {
        if self.instruction.trim().is_empty() {
            return Err(EditError::option("instruction", "some words", "nothing"));
        }
        if self.keyword.as_ref().is_some_and(|keyword| keyword.trim().is_empty()) {
            return Err(EditError::option("keyword", "a word of the instruction", "nothing"));
        }
        if !(1..=Self::MAX_STEPS).contains(&self.steps) {
            let expected = format!("1 to {}", Self::MAX_STEPS);
            return Err(EditError::option("steps", expected, self.steps));
        }
        for (name, value, max) in [
            ("guidance", self.guidance_scale, 100.0),
            ("strength", self.reference_strength, 100.0),
            ("temperature", self.temperature.0, 100.0),
            ("temperature", self.temperature.1, 100.0),
            ("hold", self.hold.unwrap_or(0.0), 1.0),
        ] {
            if !(0.0..=max).contains(&value) {
                return Err(EditError::option(name, format!("0 to {max}"), value));
            }
        }
        if let Some(size) = self.size.filter(|size| !(1..=MAX_SIDE).contains(size)) {
            return Err(EditError::option("size", format!("1 to {MAX_SIDE} pixels"), size));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_checked() {
        let good = EditRequest::new("make it red");
        good.check().unwrap();
        type Spoil = fn(&mut EditRequest);
        let cases: [(&str, Spoil); 10] = [
            ("instruction", |r| r.instruction = " \n".into()),
            ("keyword", |r| r.keyword = Some("".into())),
            ("steps", |r| r.steps = 0),
            ("steps", |r| r.steps = usize::MAX),
            ("guidance", |r| r.guidance_scale = f32::NAN),
            ("strength", |r| r.reference_strength = -0.1),
            ("temperature", |r| r.temperature.1 = f32::INFINITY),
            ("hold", |r| r.hold = Some(1.01)),
            ("size", |r| r.size = Some(0)),
            ("size", |r| r.size = Some(MAX_SIDE + 1)),
        ];
        for (named, spoil) in cases {
            let mut request = good.clone();
            spoil(&mut request);
            let message = request.check().unwrap_err().to_string();
            assert!(message.starts_with(named), "{named}: {message}");
        }
    }

    #[test]
    fn a_request_survives_json() {
        let request = EditRequest { hold: Some(0.3), ..EditRequest::new("make it red") };
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<EditRequest>(&json).unwrap(), request);
    }
}
