use editmgt_core::MapCombine;
use serde::{Deserialize, Serialize};

use super::{
    CompositePolicy, EditDefaults, EditRequest, HoldPolicy, Holding, KeywordPolicy, MapFilter,
};
use crate::photo::{Blend, Resize};

/// Every option in force for one edit: what the user said, what the model's folder says where the
/// user said nothing, and the official defaults where neither does.
///
/// [`EditRequest::from`] makes a request of it that asks for exactly this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditSettings {
    /// What to change, in words.
    pub instruction: String,
    /// What to steer away from. Read when `guidance_scale` is above 1.
    pub negative_prompt: String,
    /// Number of steps, 1 to [`EditRequest::MAX_STEPS`].
    pub steps: usize,
    /// Classifier-free guidance, 0 to 100; 1 and below turns it off and halves the work.
    pub guidance_scale: f32,
    /// The share of the run, 0 to 1 each, from which and until which guidance acts: step `i` of
    /// `n` is guided when its middle, `(i + 0.5) / n`, lies between. A step outside is half the
    /// work.
    pub guidance_interval: (f32, f32),
    /// γ, 0 to 100: how strongly the photo's tokens are attended to. 1 leaves the attention alone.
    pub reference_strength: f32,
    /// Weight of the Gumbel noise at the first and the last step, 0 to 100 each.
    pub temperature: (f32, f32),
    /// Which tokens keep the photo's.
    pub hold: HoldPolicy,
    /// How many tokens may change around what a threshold lets change, 0 to 64; by default none
    /// for a given threshold, and for [`HoldPolicy::Auto`] one cell of an attention coarser than the
    /// tokens (2 for the official model).
    pub hold_margin: usize,
    /// How held tokens are treated.
    pub holding: Holding,
    /// Whose attention says where the edit is.
    pub keyword: KeywordPolicy,
    /// How the maps of several phrases become one.
    pub keyword_maps: MapCombine,
    /// How each map is smoothed. Records of before this was an option have the default.
    #[serde(default)]
    pub map_filter: MapFilter,
    /// Blocks whose attention is consolidated, double blocks first; by default the documented
    /// ones of the official model (28 to 36) where the model has them, else every single block.
    pub blocks: Vec<usize>,
    /// Same seed, same edit.
    pub seed: u64,
    /// Which of the edits of this seed it is, below 2^32; 0 is the first.
    pub variation: u32,
    /// Side of the square whose area the model works on, in pixels; by default what the model was
    /// made for. At least one cell of the model and at most 16,384.
    pub size: usize,
    /// Whether to find out where the edit is even if nothing is held by it: for a map
    /// ([`EditResult::overlay`](crate::EditResult::overlay)). Costs a little time and memory.
    pub score_map: bool,
    /// How the photo becomes a picture that suits the model. [`Resize::Native`] does not read
    /// `size`.
    pub resize: Resize,
    /// Which pixels are the photo's own bytes instead of the codec's.
    pub composite: CompositePolicy,
    /// How photo and edit are mixed where a pixel shows some of both.
    pub blend: Blend,
    /// Over how many pixels, 0 to 4096, the edit fades: outward from what visibly changed
    /// ([`ChangeMask::grown`](crate::photo::ChangeMask::grown)), with [`CompositePolicy::Held`] inward
    /// from what was held ([`ChangeMask::feathered`](crate::photo::ChangeMask::feathered)).
    pub feather: usize,
}

/// What the options depend on that only a loaded model can tell.
#[derive(Debug, Clone)]
pub(crate) struct ModelFacts {
    /// Side of the picture that it is made for, pixels.
    pub(crate) size: usize,
    /// Blocks whose attention localises.
    pub(crate) blocks: Vec<usize>,
    /// Tokens along a side of an attention cell where that is more than one token; else 0.
    pub(crate) coarser: usize,
}

impl EditRequest {
    /// The options in force with a model's own defaults; `masked` says whether there is a user's
    /// mask.
    pub(crate) fn resolve(
        &self,
        defaults: &EditDefaults,
        facts: ModelFacts,
        masked: bool,
    ) -> EditSettings {
        let mut said = self.said();
        if masked {
            // A drawing says where; what the model does by default gives way to it.
            said.hold = Some(said.hold.unwrap_or(HoldPolicy::Mask).with_mask());
        }
        let all = said.or(defaults.clone()).or(EditDefaults::official());
        let official = "the official defaults have it";
        let hold = all.hold.expect(official);
        let margin = match &hold {
            HoldPolicy::Auto => facts.coarser,
            HoldPolicy::MaskAnd(policy) if **policy == HoldPolicy::Auto => facts.coarser,
            _ => 0,
        };
        EditSettings {
            instruction: self.instruction.clone(),
            negative_prompt: all.negative_prompt.expect(official),
            steps: all.steps.expect(official),
            guidance_scale: all.guidance_scale.expect(official),
            guidance_interval: all.guidance_interval.expect(official),
            reference_strength: all.reference_strength.expect(official),
            temperature: all.temperature.expect(official),
            hold,
            hold_margin: all.hold_margin.unwrap_or(margin),
            holding: self.holding,
            keyword: all.keyword.expect(official),
            keyword_maps: all.keyword_maps.expect(official),
            map_filter: all.map_filter.expect(official),
            blocks: all.blocks.filter(|blocks| !blocks.is_empty()).unwrap_or(facts.blocks),
            seed: self.seed,
            variation: self.variation,
            size: all.size.unwrap_or(facts.size),
            score_map: self.score_map,
            resize: self.resize,
            composite: all.composite.expect(official),
            blend: self.blend,
            feather: self.feather,
        }
    }
}

impl EditSettings {
    /// Whether attention must be captured.
    pub fn needs_scores(&self) -> bool {
        self.score_map || self.hold.needs_scores()
    }
}

impl From<EditSettings> for EditRequest {
    fn from(settings: EditSettings) -> Self {
        // A keyword that nobody reads is refused.
        let read = settings.needs_scores();
        let keyword = Some(settings.keyword).filter(|_| read);
        Self {
            instruction: settings.instruction,
            negative_prompt: Some(settings.negative_prompt),
            steps: Some(settings.steps),
            guidance_scale: Some(settings.guidance_scale),
            guidance_interval: Some(settings.guidance_interval),
            reference_strength: Some(settings.reference_strength),
            temperature: Some(settings.temperature),
            hold: Some(settings.hold),
            hold_margin: Some(settings.hold_margin),
            holding: settings.holding,
            keyword,
            keyword_maps: Some(settings.keyword_maps),
            map_filter: Some(settings.map_filter),
            blocks: Some(settings.blocks),
            seed: settings.seed,
            variation: settings.variation,
            size: Some(settings.size),
            score_map: settings.score_map,
            resize: settings.resize,
            composite: Some(settings.composite),
            blend: settings.blend,
            feather: settings.feather,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> ModelFacts {
        ModelFacts { size: 1024, blocks: vec![28, 29], coarser: 1 }
    }

    fn resolve(request: &EditRequest, defaults: &EditDefaults, masked: bool) -> EditSettings {
        request.resolve(defaults, facts(), masked)
    }

    #[test]
    fn who_says_nothing_gets_the_official_defaults() {
        let settings = resolve(&EditRequest::new("make it red"), &EditDefaults::default(), false);
        let expected = EditSettings {
            instruction: "make it red".into(),
            negative_prompt: editmgt_text::DEFAULT_NEGATIVE_PROMPT.into(),
            steps: 36,
            guidance_scale: 6.0,
            guidance_interval: (0.0, 1.0),
            reference_strength: 1.1,
            temperature: (2.0, 0.0),
            hold: HoldPolicy::Off,
            hold_margin: 0,
            holding: Holding::Strict,
            keyword: KeywordPolicy::All,
            keyword_maps: MapCombine::Max,
            map_filter: MapFilter::Adaptive,
            blocks: vec![28, 29],
            seed: 0,
            variation: 0,
            size: 1024,
            score_map: false,
            resize: Resize::Fit,
            composite: CompositePolicy::Visible,
            blend: Blend::default(),
            feather: 0,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn the_user_comes_before_the_model_and_the_model_before_the_script() {
        let defaults = EditDefaults {
            size: Some(128),
            steps: Some(8),
            negative_prompt: Some(String::new()),
            hold: Some(HoldPolicy::Auto),
            keyword: Some(KeywordPolicy::Auto),
            blocks: Some(vec![2]),
            ..EditDefaults::default()
        };
        let request = EditRequest { steps: Some(4), seed: 3, ..EditRequest::new("make it red") };
        let settings = resolve(&request, &defaults, false);
        assert_eq!((settings.steps, settings.size, settings.seed), (4, 128, 3));
        assert_eq!((&*settings.negative_prompt, settings.guidance_scale), ("", 6.0));
        assert_eq!((&settings.hold, settings.hold_margin), (&HoldPolicy::Auto, 1));
        assert_eq!((settings.keyword.clone(), settings.blocks[0]), (KeywordPolicy::Auto, 2));
        // What is in force can be asked for, whatever the model's defaults are.
        let again = EditRequest::from(settings.clone());
        assert_eq!(resolve(&again, &EditDefaults::default(), false), settings);
    }

    #[test]
    fn a_mask_comes_before_the_models_policy_and_joins_the_users() {
        let defaults = EditDefaults { hold: Some(HoldPolicy::Auto), ..EditDefaults::default() };
        let hold = |hold: Option<HoldPolicy>, masked| {
            let request = EditRequest { hold, ..EditRequest::new("make it red") };
            let settings = resolve(&request, &defaults, masked);
            (settings.hold.to_string(), settings.hold_margin)
        };
        assert_eq!(hold(None, false), ("auto".into(), 1));
        assert_eq!(hold(None, true), ("mask".into(), 0));
        assert_eq!(hold(Some(HoldPolicy::Auto), true), ("mask+auto".into(), 1));
        assert_eq!(hold(Some(HoldPolicy::Threshold(0.5)), true), ("mask+0.5".into(), 0));
        assert_eq!(hold(Some(HoldPolicy::Off), true), ("mask".into(), 0));
        assert_eq!(hold(Some(HoldPolicy::Off), false), ("off".into(), 0));
    }
}
