//! The options of generating images from text.

use editmgt_sampler::MaskingSchedule;
use editmgt_text::DEFAULT_NEGATIVE_PROMPT;
use serde::{Deserialize, Serialize};

use super::options::{OptionInfo, joined, read};
use super::text::OptionText;
use super::{MAX_STEPS, is_factor, is_interval};
use crate::error::EditError;
use crate::photo::{MAX_SIDE, MIN_SIDE};

/// Most images of one request.
const MAX_COUNT: usize = 1024;

with_loop_options! {
    request_table! {
        /// What to generate from text.
        ///
        /// ```
        /// use editmgt::GenerateRequest;
        ///
        /// let request = GenerateRequest::new("a red fox in the snow").width(1280).height(768).count(4);
        /// assert_eq!(request.width, Some(1280));
        /// request.check()?;
        /// # Ok::<(), editmgt::EditError>(())
        /// ```
        ///
        /// `None` means that the request leaves an option unset: then the model's own defaults hold
        /// ([`EditDefaults::generate`](crate::EditDefaults::generate)), and where it has none,
        /// those of the official script of its base ([`ModelKind`](crate::ModelKind)). The result
        /// is a [`GenerateSettings`].
        #[serde(deny_unknown_fields, default)]
        #[non_exhaustive]
        request GenerateRequest {
            /// What the images show, in words. Not empty.
            prompt;
        }
        /// Default options of a model for generating images: the key `generate` of its
        /// `edit_defaults.json`, [`EditDefaults`](crate::EditDefaults).
        #[serde(deny_unknown_fields, default)]
        #[non_exhaustive]
        defaults GenerateDefaults {}
        /// Every option in force for generated images.
        ///
        /// [`GenerateRequest::from`] makes a request of it that asks for exactly this.
        #[serde(try_from = "GenerateRequest")]
        #[non_exhaustive]
        settings GenerateSettings;
    }
    model {
        /// Width of the images in pixels, a multiple of the model's cell (officially 16 or 32); by
        /// default the side of the square that the model was trained on.
        width: usize;
        "8 to 16384 pixels", |side| (MIN_SIDE..=MAX_SIDE).contains(side);
        default None;
        /// Height of the images in pixels, as the width.
        height: usize;
        "8 to 16384 pixels", |side| (MIN_SIDE..=MAX_SIDE).contains(side);
        default None;
    }
    plain {
        /// Number of images, 1 to 1024: the variations from `variation` on, several in one forward
        /// pass.
        count: usize;
        "1 to 1024", |count| (1..=MAX_COUNT).contains(count);
        default 1;
    }
}

impl From<&str> for GenerateRequest {
    fn from(prompt: &str) -> Self {
        Self::new(prompt)
    }
}

impl From<String> for GenerateRequest {
    fn from(prompt: String) -> Self {
        Self::new(prompt)
    }
}

impl From<&GenerateRequest> for GenerateRequest {
    fn from(request: &GenerateRequest) -> Self {
        request.clone()
    }
}

impl GenerateRequest {
    /// An image with the defaults.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), ..Self::default() }
    }

    /// Another prompt, the same options.
    #[must_use]
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = prompt.into();
        self
    }

    /// Checks every option that was set, before anything is loaded.
    ///
    /// # Errors
    /// [`EditError::Option`] with the option, what was expected and what came.
    pub fn check(&self) -> Result<(), EditError> {
        if self.prompt.trim().is_empty() {
            return Err(EditError::option("prompt", "some words", "nothing"));
        }
        if let Some((option, expected, got)) = self.out_of_range() {
            return Err(EditError::option(option, expected, got));
        }
        let last = self.variation as usize + self.count - 1;
        if u32::try_from(last).is_err() {
            return Err(EditError::option("variation", "below 2^32 for every image", last));
        }
        Ok(())
    }

    /// The options in force: those set here, then `defaults`.
    pub(crate) fn resolve(
        &self,
        defaults: GenerateDefaults,
    ) -> Result<GenerateSettings, EditError> {
        self.with(self.said().or(defaults)).try_into()
    }

    /// Every option is read.
    fn without_unread_options(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let good = GenerateRequest::new("a fox").width(512);
        good.check().unwrap();
        for (request, named) in [
            (good.clone().prompt(" \n"), "prompt: expected some words"),
            (good.clone().width(7), "width: expected 8 to 16384 pixels, got 7"),
            (good.clone().height(MAX_SIDE + 1), "height: expected 8 to 16384"),
            (good.clone().count(0), "count: expected 1 to 1024, got 0"),
            (good.clone().steps(0), "steps: expected 1 to 4096"),
            (good.clone().guidance_scale(f32::NAN), "guidance_scale: expected 0 to 100"),
            (good.clone().temperature((0.0, -1.0)), "temperature: expected 0 to 100"),
            (good.clone().variation(u32::MAX).count(2), "variation: expected below 2^32"),
        ] {
            let message = request.check().unwrap_err().to_string();
            assert!(message.starts_with(named), "{named}: {message}");
        }
    }

    #[test]
    fn settings_ask_for_the_same_again_and_survive_json() {
        let size = GenerateDefaults { width: Some(64), height: Some(96), ..Default::default() };
        let request = GenerateRequest::new("a fox").steps(3).count(2).seed(9).anyway(true);
        let settings = request.resolve(size).unwrap();
        assert_eq!((settings.width, settings.height, settings.steps), (64, 96, 3));
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<GenerateSettings>(&json).unwrap(), settings);
        let again = GenerateRequest::from(settings.clone());
        assert_eq!(again.resolve(GenerateDefaults::default()).unwrap(), settings);
        // Sizes depend on the model.
        let message = request.resolve(GenerateDefaults::default()).unwrap_err().to_string();
        assert!(message.starts_with("width: expected"), "{message}");
    }

    #[test]
    fn every_option_has_a_text() {
        for option in GenerateRequest::options() {
            let mut request = GenerateRequest::new("a fox");
            if let Some(default) = option.default {
                request.set(option.name, &default).unwrap();
                request.check().unwrap();
            }
        }
        let message = GenerateRequest::new("a fox").set("hold", "auto").unwrap_err().to_string();
        assert!(message.starts_with("option: expected negative_prompt"), "{message}");
    }
}
