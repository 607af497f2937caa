//! The options of an edit, and of the other tasks that begin with a photo.

use std::sync::Arc;

use editmgt_core::{CacheDtype, MapCombine, StepPlan, Tiling};
use editmgt_sampler::MaskingSchedule;
use editmgt_text::DEFAULT_NEGATIVE_PROMPT;
use serde::{Deserialize, Serialize};

use super::text::OptionText;
use super::{
    CompositePolicy, GenerateDefaults, HoldPolicy, Holding, Job, KeywordPolicy, MAX_STEPS,
    MapFilter, Task, is_factor, is_interval,
};
use crate::error::EditError;
use crate::photo::{Blend, MAX_FEATHER, MAX_SIDE, Mask, Resize};

/// An option of an edit: a row of the table that requests, defaults, settings, ranges, JSON and the
/// command line are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionInfo {
    /// Its key in JSON; the field of [`EditRequest`] and [`EditSettings`].
    pub name: &'static str,
    /// What it does, one or more sentences.
    pub doc: String,
    /// The values that are accepted, in words.
    pub expected: &'static str,
    /// Its default as [`EditRequest::set`] reads it; `None` where it depends on the model.
    pub default: Option<String>,
    /// Whether a model's folder may have a default of its own
    /// ([`EditDefaults`]).
    pub of_model: bool,
}

with_loop_options! {
    request_table! {
        /// What a user asks for: everything about one edit but the photo.
        ///
        /// ```
        /// use editmgt::{EditRequest, HoldPolicy};
        ///
        /// let request = EditRequest::new("make the cat black").hold(HoldPolicy::Auto).seed(7);
        /// assert_eq!(request.hold, Some(HoldPolicy::Auto));
        /// ```
        ///
        /// `None` uses the model's default ([`EditDefaults`]), and where it has none, that of the
        /// official inference script. The outcome is an [`EditSettings`].
        ///
        /// In JSON only what is set is written, the mask never; an unknown key is refused.
        #[serde(deny_unknown_fields, default)]
        #[non_exhaustive]
        request EditRequest {
            /// What to change, in words; with another `task` than an edit, what to generate. Not
            /// empty.
            instruction;
            /// Where the photo may change; `None`: anywhere. Not part of the JSON.
            mask: Option<Arc<Mask>>;
        }
        /// Default options of a model, for those that a request leaves unset.
        ///
        /// The contents of an `edit_defaults.json` in a model's folder. What is absent there is as
        /// in the official inference script ([`official`](Self::official)); a request comes before
        /// both. A model that was trained on images of 128 pixels with a closed vocabulary says for
        /// instance
        ///
        /// ```
        /// # let text = r#"
        /// { "version": 1, "size": 128, "negative_prompt": "", "steps": 8, "hold": "auto" }
        /// # "#;
        /// # let defaults = editmgt::EditDefaults::from_json(text)?;
        /// # assert_eq!(defaults.steps, Some(8));
        /// # assert_eq!(editmgt::EditDefaults::from_json(&defaults.to_json())?, defaults);
        /// # Ok::<(), editmgt::config::ConfigError>(())
        /// ```
        #[serde(deny_unknown_fields, default)]
        #[non_exhaustive]
        defaults EditDefaults {
            /// The jobs that the model was trained for, where its configs don't tell.
            trained_for: Vec<Job>;
            /// Defaults of inpainting and outpainting, before those of an edit.
            inpaint: Box<EditDefaults>;
            /// Defaults of generating images from text, before those of an edit.
            generate: Box<GenerateDefaults>;
        }
        /// Every option in force for one edit: what the request says, what the model's folder says
        /// where the request doesn't, and the official defaults where neither does.
        ///
        /// [`EditRequest::from`] makes a request of it that asks for exactly this. Read from JSON,
        /// options that a record of an older version does not have are the official defaults.
        #[serde(try_from = "EditRequest")]
        #[non_exhaustive]
        settings EditSettings;
    }
    model {
        /// Side of the square whose area the model works on, in pixels; by default the size that
        /// the model was trained on. At least one cell of the model and at most 16,384. Not read
        /// with `resize` `native`.
        size: usize;
        "1 to 16384 pixels", |size| (1..=MAX_SIDE).contains(size);
        default None;
        /// γ, 0 to 100: how strongly the photo's tokens are attended to. 1 leaves the attention
        /// unchanged.
        reference_strength: f32;
        "0 to 100", is_factor;
        default Some(1.1);
        /// Which steps compute the whole picture: `exact` (all of them), or `cached:R`: between
        /// full steps, every `R`-th (`never`: no more after the first two), only the part that is
        /// still masked or has changed is computed. `cached` is `cached:8`; a third number is the
        /// number of full steps at the start, 2 by default: `cached:8:1`. Takes the time of an edit
        /// in proportion to its size; the result can differ a little. Models that cannot do it
        /// compute every step in full.
        steps_plan: StepPlan;
        "exact, cached, cached:R or cached:R:W (R 0 to 4096 steps or never, W 1 to 4096)", |plan| plan.is_valid();
        default Some(StepPlan::Exact);
        /// Whether the partial steps of a cached `steps_plan` compute the picture with the
        /// instruction only, and take what guidance adds from the last full step: about half their
        /// work. The result can differ a little.
        guidance_reuse: bool;
        "true or false", |_| true;
        default Some(false);
        /// The precision of what the full steps of a cached `steps_plan` keep: `model`, that of the
        /// model, or `bf16`, half the memory of f32; the result can differ a little. On the CPU,
        /// where the processor has instructions for bf16.
        cache_dtype: CacheDtype;
        "model or bf16", |_| true;
        default Some(CacheDtype::Model);
        /// Which tokens stay the photo's: `off` (none), `auto`, `mask`, those with a score below a
        /// number from 0 to 1, `budget:SHARE` (at most that fraction may change), or `mask+` and
        /// one of these.
        hold: HoldPolicy;
        "off, auto, mask, a number from 0 to 1, budget:SHARE or mask+POLICY", |hold| hold.out_of_range().is_none();
        default Some(HoldPolicy::Off);
        /// How many tokens may change around what a threshold lets change, 0 to 64; by default 0
        /// for a given threshold, and for `auto` one cell of an attention coarser than the tokens
        /// (2 for the official model).
        hold_margin: usize;
        "0 to 64 tokens", |margin| *margin <= MAX_MARGIN;
        default None;
        /// Whose attention says where the edit is.
        keyword: KeywordPolicy;
        "all, auto or words of the instruction", |keyword| keyword.problem().is_none();
        default Some(KeywordPolicy::All);
        /// How the maps of several phrases are combined: `max` or `mean`.
        keyword_maps: MapCombine;
        "max or mean", |_| true;
        default Some(MapCombine::Max);
        /// How the score map is smoothed before `hold` reads it: `off`, `adaptive`, `gaussian`,
        /// `bilateral` or `morphology`.
        map_filter: MapFilter;
        "off, adaptive, gaussian, bilateral or morphology", |_| true;
        default Some(MapFilter::Adaptive);
        /// Blocks whose attention is consolidated, double blocks first; by default the documented
        /// ones of the official model (28 to 36) where the model has them, else every single block.
        /// An empty list means the default.
        blocks: Vec<usize>;
        "numbers of blocks", |_| true;
        default None;
        /// Which pixels come from the edit, the others are the photo's own bytes: `visible` (what
        /// visibly changed), `held` (all that was not held) or `all`.
        composite: CompositePolicy;
        "visible, held or all", |_| true;
        default Some(CompositePolicy::Visible);
    }
    plain {
        /// How held tokens are treated: `strict` (they stay the photo's) or `parity` (the official
        /// step, which can mask them again).
        holding: Holding;
        "strict or parity", |_| true;
        default Holding::Strict;
        /// Whether to compute where the edit is even if nothing is held by it: for a map. Costs a
        /// little time and memory.
        score_map: bool;
        "true or false", |_| true;
        default false;
        /// How the photo is fitted to the model: `fit` stretches it by a few percent where needed,
        /// `pad` adds a margin, `crop` leaves a margin of it unedited, `native` takes it as it is,
        /// `mask` edits the part around the mask at the photo's own resolution.
        resize: Resize;
        "fit, pad, crop, native or mask", |_| true;
        default Resize::Fit;
        /// Side of the tiles, in pixels, in which the codec encodes and decodes: `auto` (tiles for
        /// an image that would need too much memory as a whole), `off`, or 16 to 16384. Tiles bound
        /// the memory and take more time; the result is the same up to rounding.
        tile: Tiling;
        "auto, off or 16 to 16384 pixels", |tile| tile.is_valid();
        default Tiling::Auto;
        /// How photo and edit are mixed where a pixel shows some of both: as file values (`srgb`)
        /// or as light (`linear`).
        blend: Blend;
        "srgb or linear", |_| true;
        default Blend::Srgb;
        /// Over how many pixels, 0 to 4096, the edit fades: outward from what visibly changed, with
        /// `composite` `held` inward from what was held.
        feather: usize;
        "0 to 4096 pixels", |feather| *feather <= MAX_FEATHER;
        default 0;
        /// What the photo is for: `edit` (a model that was trained to edit changes it), `inpaint`
        /// (what the mask leaves white is generated, the rest is known), or
        /// `outpaint:LEFT,TOP,RIGHT,BOTTOM` (margins of these pixels are generated around the
        /// photo).
        task: Task;
        "edit, inpaint or outpaint:LEFT,TOP,RIGHT,BOTTOM", |_| true;
        default Task::Edit;
    }
}

/// Widest margin, in tokens: beyond, nothing would be held anyway.
const MAX_MARGIN: usize = 64;

/// Lines of documentation as one text.
pub(super) fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

pub(super) fn read<T: OptionText>(
    name: &'static str,
    expected: &'static str,
    text: &str,
) -> Result<T, EditError> {
    T::from_text(text).ok_or_else(|| EditError::option(name, expected, format!("{text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every option is set to, as text, and the same as JSON.
    const VALUES: [(&str, &str, &str); 28] = [
        ("negative_prompt", "5", "\"5\""),
        ("steps", "12", "12"),
        ("guidance_scale", "3.5", "3.5"),
        ("guidance_interval", "0.25,0.75", "[0.25,0.75]"),
        ("temperature", "2, 0", "[2.0,0.0]"),
        ("masking_schedule", "linear", "\"linear\""),
        ("size", "512", "512"),
        ("reference_strength", "1.25", "1.25"),
        ("steps_plan", "cached:4", r#"{"cached":{"warm_up":2,"refresh":4}}"#),
        ("guidance_reuse", "true", "true"),
        ("cache_dtype", "bf16", "\"bf16\""),
        ("hold", "mask+budget:0.5", r#"{"mask_and":{"budget":0.5}}"#),
        ("hold_margin", "2", "2"),
        ("keyword", "auto", "\"auto\""),
        ("keyword_maps", "mean", "\"mean\""),
        ("map_filter", "off", "\"off\""),
        ("blocks", "28,29", "[28,29]"),
        ("composite", "held", "\"held\""),
        ("holding", "parity", "\"parity\""),
        ("score_map", "true", "true"),
        ("resize", "native", "\"native\""),
        ("tile", "256", "256"),
        ("blend", "linear", "\"linear\""),
        ("feather", "9", "9"),
        ("task", "outpaint:4,3,2,1", r#"{"outpaint":{"left":4,"top":3,"right":2,"bottom":1}}"#),
        ("seed", "7", "7"),
        ("variation", "3", "3"),
        ("anyway", "true", "true"),
    ];

    #[test]
    fn every_option_is_set_by_text_as_by_json() {
        let names: Vec<_> = EditRequest::options().iter().map(|option| option.name).collect();
        assert_eq!(names, VALUES.map(|(name, ..)| name));
        for (name, text, json) in VALUES {
            let mut by_text = EditRequest::new("make it red");
            by_text.set(name, text).unwrap();
            let json = format!(r#"{{"instruction": "make it red", "{name}": {json}}}"#);
            let by_json: EditRequest = serde_json::from_str(&json).unwrap();
            assert_eq!(by_text, by_json, "{name}");
            assert_ne!(by_text, EditRequest::new("make it red"), "{name}");
            by_text.check().unwrap();
            // As text again, it is read as the same value, also among all options in force.
            let texts = by_text.texts();
            assert_eq!(texts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [name]);
            let mut again = EditRequest::new("make it red");
            again.set(name, &texts[0].1).unwrap();
            assert_eq!(again, by_text, "{name}");
            let in_force = by_text.size(512).hold_margin(0).blocks(vec![1]);
            let settings = EditSettings::try_from(in_force.clone()).unwrap();
            let texts = settings.texts();
            assert_eq!(texts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
            let mut read = EditRequest::new("make it red");
            texts.iter().for_each(|(name, text)| read.set(name, text).unwrap());
            assert_eq!(EditSettings::try_from(read).unwrap(), settings, "{name}");
        }
        assert_eq!(EditRequest::new("make it red").texts(), []);
    }

    #[test]
    fn the_defaults_are_readable_and_within_range() {
        for option in EditRequest::options() {
            assert!(!option.doc.is_empty() && !option.expected.is_empty(), "{}", option.name);
            let mut request = EditRequest::new("make it red");
            if let Some(default) = option.default {
                request.set(option.name, &default).unwrap();
                request.check().unwrap();
            }
        }
    }

    #[test]
    fn what_is_no_value_is_refused_with_the_accepted_ones() {
        for (name, text, expected) in [
            ("steps", "many", "steps: expected 1 to 4096, got \"many\""),
            ("temperature", "1", "temperature: expected 0 to 100 each, got \"1\""),
            ("temperature", "1,2,3", "temperature: expected"),
            ("blocks", "1,x", "blocks: expected numbers of blocks"),
            ("hold", "maybe", "hold: expected off, auto"),
            ("resize", "stretch", "resize: expected fit, pad, crop, native or mask"),
            ("tile", "small", "tile: expected auto, off or 16 to 16384 pixels"),
            ("score_map", "1", "score_map: expected true or false"),
            ("colour", "red", "option: expected negative_prompt, steps"),
        ] {
            let error = EditRequest::new("make it red").set(name, text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{name} {text}: {error}");
        }
    }
}
