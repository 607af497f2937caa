use super::{CompositePolicy, EditDefaults, EditRequest, EditSettings, HoldPolicy};

/// What the options depend on that only a loaded model can tell.
#[derive(Debug, Clone)]
pub(crate) struct ModelFacts {
    /// Side of the picture that it is made for, pixels.
    pub(crate) size: usize,
    /// Blocks whose attention localises.
    pub(crate) blocks: Vec<usize>,
    /// Tokens along a side of an attention cell where that is more than one token; else 0.
    pub(crate) coarser: usize,
    /// What the official script of the model's family sets for the task.
    pub(crate) script: EditDefaults,
}

impl EditRequest {
    /// The options in force with a model's own defaults.
    pub(crate) fn resolve(&self, defaults: &EditDefaults, facts: ModelFacts) -> EditSettings {
        let mut said = self.said();
        if self.task.is_inpainting() {
            said = said.or(inpainting(defaults));
        } else if self.mask.is_some() {
            // The user's mask takes precedence over the model's default policy.
            said.hold = Some(said.hold.unwrap_or(HoldPolicy::Mask).with_mask());
        }
        said.blocks = said.blocks.filter(|blocks| !blocks.is_empty());
        let all = said.or(defaults.clone()).or(facts.script).or(EditDefaults::official());
        let margin = match all.hold.as_ref() {
            Some(HoldPolicy::Auto) => facts.coarser,
            Some(HoldPolicy::MaskAnd(policy)) if **policy == HoldPolicy::Auto => facts.coarser,
            _ => 0,
        };
        let of_model = EditDefaults {
            size: Some(facts.size),
            blocks: Some(facts.blocks),
            hold_margin: Some(margin),
            ..EditDefaults::default()
        };
        let all = EditDefaults { blocks: all.blocks.filter(|b| !b.is_empty()), ..all }.or(of_model);
        self.with(all).try_into().expect("every option has a default now")
    }
}

/// What an inpainting does by default: the folder's options for it, and in the place of those that
/// an edit has for its photo, the official pipeline's.
fn inpainting(defaults: &EditDefaults) -> EditDefaults {
    let own = defaults.inpaint.as_deref().cloned().unwrap_or_default();
    own.or(EditDefaults {
        hold: Some(HoldPolicy::Mask),
        reference_strength: Some(1.0),
        // All that the mask leaves white is generated, whether it differs from the photo or not.
        composite: Some(CompositePolicy::Held),
        ..EditDefaults::default()
    })
}

impl EditSettings {
    /// Whether attention must be captured.
    pub fn needs_scores(&self) -> bool {
        self.score_map || self.hold.needs_scores()
    }
}

#[cfg(test)]
mod tests {
    use editmgt_core::{CacheDtype, MapCombine, StepPlan, Tiling};
    use editmgt_sampler::MaskingSchedule;

    use super::*;
    use crate::photo::{Blend, Mask, Resize};
    use crate::request::{Holding, KeywordPolicy, MapFilter, Task};

    fn facts() -> ModelFacts {
        ModelFacts { size: 1024, blocks: vec![28, 29], coarser: 1, script: EditDefaults::default() }
    }

    fn resolve(request: &EditRequest, defaults: &EditDefaults) -> EditSettings {
        request.resolve(defaults, facts())
    }

    #[test]
    fn who_says_nothing_gets_the_official_defaults() {
        let settings = resolve(&EditRequest::new("make it red"), &EditDefaults::default());
        let expected = EditSettings {
            instruction: "make it red".into(),
            negative_prompt: editmgt_text::DEFAULT_NEGATIVE_PROMPT.into(),
            steps: 36,
            guidance_scale: 6.0,
            guidance_interval: (0.0, 1.0),
            steps_plan: StepPlan::Exact,
            guidance_reuse: false,
            cache_dtype: CacheDtype::Model,
            reference_strength: 1.1,
            temperature: (2.0, 0.0),
            masking_schedule: MaskingSchedule::Cosine,
            task: Task::Edit,
            anyway: false,
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
            tile: Tiling::Auto,
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
        let settings = resolve(&request, &defaults);
        assert_eq!((settings.steps, settings.size, settings.seed), (4, 128, 3));
        assert_eq!((&*settings.negative_prompt, settings.guidance_scale), ("", 6.0));
        assert_eq!((&settings.hold, settings.hold_margin), (&HoldPolicy::Auto, 1));
        assert_eq!((settings.keyword.clone(), settings.blocks[0]), (KeywordPolicy::Auto, 2));
        // What is in force can be asked for, whatever the model's defaults are.
        let again = EditRequest::from(settings.clone());
        assert_eq!(resolve(&again, &EditDefaults::default()), settings);
    }

    #[test]
    fn a_mask_comes_before_the_models_policy_and_joins_the_users() {
        let defaults = EditDefaults { hold: Some(HoldPolicy::Auto), ..EditDefaults::default() };
        let hold = |hold: Option<HoldPolicy>, masked: bool| {
            let white = image::GrayImage::from_pixel(2, 2, image::Luma([255]));
            let mut request = EditRequest::new("make it red").hold(hold);
            request.mask = masked.then(|| Mask::from_luma(white).into());
            let settings = resolve(&request, &defaults);
            (settings.hold.to_string(), settings.hold_margin)
        };
        assert_eq!(hold(None, false), ("auto".into(), 1));
        assert_eq!(hold(None, true), ("mask".into(), 0));
        assert_eq!(hold(Some(HoldPolicy::Auto), true), ("mask+auto".into(), 1));
        assert_eq!(hold(Some(HoldPolicy::Threshold(0.5)), true), ("mask+0.5".into(), 0));
        assert_eq!(hold(Some(HoldPolicy::Off), true), ("mask".into(), 0));
        assert_eq!(hold(Some(HoldPolicy::Off), false), ("off".into(), 0));
    }

    #[test]
    fn an_inpainting_has_defaults_of_its_own() {
        let inpaint = EditDefaults { steps: Some(5), ..EditDefaults::default() };
        let defaults = EditDefaults {
            steps: Some(8),
            guidance_scale: Some(3.0),
            hold: Some(HoldPolicy::Auto),
            composite: Some(CompositePolicy::All),
            reference_strength: Some(2.0),
            inpaint: Some(Box::new(inpaint)),
            ..EditDefaults::default()
        };
        let script = EditDefaults {
            steps: Some(64),
            guidance_scale: Some(9.0),
            masking_schedule: Some(MaskingSchedule::Linear),
            ..EditDefaults::default()
        };
        let facts = ModelFacts { script, ..facts() };
        let request = EditRequest::new("a fox").task(Task::Inpaint);
        let settings = request.resolve(&defaults, facts.clone());
        assert_eq!(
            (settings.steps, settings.guidance_scale),
            (5, 3.0),
            "its own, then the folder's"
        );
        assert_eq!(settings.masking_schedule, MaskingSchedule::Linear, "the script's");
        // Those of an edit say how its photo is used.
        assert_eq!(
            (&settings.hold, settings.composite),
            (&HoldPolicy::Mask, CompositePolicy::Held)
        );
        assert_eq!(settings.reference_strength, 1.0);
        let again = EditRequest::from(settings.clone());
        again.check().unwrap();
        assert_eq!(again.resolve(&EditDefaults::default(), facts), settings);
    }
}
