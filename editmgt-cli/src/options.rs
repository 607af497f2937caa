//! The options that say how to edit.

use clap::Args;
use editmgt::{
    Blend, CompositePolicy, EditError, EditRequest, HoldPolicy, Holding, KeywordPolicy, MapCombine,
    MapFilter, Resize,
};

/// The options of an edit.
#[derive(Args)]
pub struct RequestArgs {
    /// Number of steps [default: the model's; officially 36]
    #[arg(long)]
    steps: Option<usize>,
    /// Classifier-free guidance, 0 to 100; 1 and below turns it off [default: the model's;
    /// officially 6]
    #[arg(long, allow_negative_numbers = true)]
    guidance: Option<f32>,
    /// The share of the steps, 0 to 1, before which there is no guidance [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    guidance_from: Option<f32>,
    /// The share of the steps, 0 to 1, after which there is no guidance [default: 1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    guidance_until: Option<f32>,
    /// How strongly the photo is attended to, 0 to 100; 1 is neutral [default: the model's;
    /// officially 1.1]
    #[arg(long, allow_negative_numbers = true)]
    strength: Option<f32>,
    /// Weight of the noise at the first and at the last step, 0 to 100 each [default: the model's;
    /// officially 2 0]
    #[arg(long, num_args = 2, value_names = ["FIRST", "LAST"], allow_negative_numbers = true)]
    temperature: Option<Vec<f32>>,
    /// What keeps the photo's own: off, auto, mask, a score from 0 to 1, budget:SHARE (at most
    /// that share may change), or mask+ and one of these [default: the model's; officially off; with
    /// --mask: mask]
    #[arg(long, value_name = "POLICY", allow_negative_numbers = true)]
    hold: Option<String>,
    /// Let so many tokens around it change, too [default: the model's; one cell for auto where
    /// attention is coarser than tokens, else 0]
    #[arg(long, value_name = "TOKENS")]
    hold_margin: Option<usize>,
    /// Treat what is kept exactly like the official code (it can change after all)
    #[arg(long, conflicts_with = "strict")]
    parity: bool,
    /// What is kept is kept for good, as by default
    #[arg(long)]
    strict: bool,
    /// Words of the instruction whose attention counts for --hold; may be given several times
    /// [default: the model's; officially all of it]
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    keyword: Vec<String>,
    /// Take the content words of the instruction as --keyword
    #[arg(long, conflicts_with = "keyword")]
    auto_keyword: bool,
    /// Let all of the instruction count for --hold, whatever the model's default
    #[arg(long, conflicts_with_all = ["keyword", "auto_keyword"])]
    no_keyword: bool,
    /// How the maps of several keywords become one: max or mean [default: max]
    #[arg(long, value_name = "HOW", value_parser = ["max", "mean"], requires = "keyword")]
    keyword_maps: Option<String>,
    /// How the score map is smoothed before --hold reads it: off, adaptive, gaussian, bilateral or
    /// morphology [default: the model's; officially adaptive]
    #[arg(long, value_name = "HOW", value_parser = MapFilter::ALL.map(MapFilter::name))]
    map_filter: Option<String>,
    /// Blocks whose attention counts for --hold, double blocks first [default: the model's;
    /// officially 28 to 36]
    #[arg(long, value_name = "BLOCK,…", value_delimiter = ',')]
    blocks: Option<Vec<usize>>,
    /// What to steer away from; read with guidance above 1 [default: the model's; officially a list
    /// of flaws]
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    negative: Option<String>,
    /// Same seed, same edit [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Which of the edits of this seed: each has noise of its own [default: 0]
    #[arg(long, value_name = "I")]
    variation: Option<u32>,
    /// Side of the square whose area the model works on [default: the model's own]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// How the photo is fitted to the model: fit stretches it by a few percent where needed, pad
    /// gives it a rim, crop leaves a rim of it as it is, native takes it as it is [default: fit]
    #[arg(long, value_name = "HOW", value_parser = ["fit", "pad", "crop", "native"])]
    resize: Option<String>,
    /// Which pixels come from the edit: visible (what visibly changed), held (all that was not held)
    /// or all [default: the model's; else visible]
    #[arg(long, value_name = "POLICY", value_parser = CompositePolicy::ALL.map(CompositePolicy::name))]
    composite: Option<String>,
    /// How photo and edit are mixed where they meet: as file values (srgb) or as light (linear)
    /// [default: srgb]
    #[arg(long, value_name = "HOW", value_parser = ["srgb", "linear"])]
    blend: Option<String>,
    /// Let the edit fade over this many pixels of the photo [default: 0]
    #[arg(long, value_name = "PIXELS")]
    feather: Option<usize>,
}

impl RequestArgs {
    /// `base` with the options that were given.
    ///
    /// # Errors
    /// [`EditError::Option`] for a hold policy that can't be parsed.
    pub fn request(&self, base: EditRequest) -> Result<EditRequest, EditError> {
        let hold: Option<HoldPolicy> = self.hold.as_deref().map(str::parse).transpose()?;
        // Of another edit's keyword is nothing left to say where nothing is held by it.
        let unread = hold.as_ref().is_some_and(|hold| !hold.needs_scores()) && !base.score_map;
        Ok(EditRequest {
            negative_prompt: self.negative.clone().or(base.negative_prompt),
            steps: self.steps.or(base.steps),
            guidance_scale: self.guidance.or(base.guidance_scale),
            guidance_interval: self.guidance_interval(base.guidance_interval),
            reference_strength: self.strength.or(base.reference_strength),
            temperature: match self.temperature.as_deref() {
                Some(both) => Some((both[0], both[1])),
                None => base.temperature,
            },
            hold: hold.or(base.hold),
            hold_margin: self.hold_margin.or(base.hold_margin),
            holding: match (self.parity, self.strict) {
                (true, _) => Holding::Parity,
                (_, true) => Holding::Strict,
                _ => base.holding,
            },
            keyword: self.keyword().or(base.keyword.filter(|_| !unread)),
            keyword_maps: match self.keyword_maps.as_deref() {
                Some("mean") => Some(MapCombine::Mean),
                Some(_) => Some(MapCombine::Max),
                None => base.keyword_maps,
            },
            map_filter: self.map_filter().or(base.map_filter),
            blocks: self.blocks.clone().or(base.blocks),
            seed: self.seed.unwrap_or(base.seed),
            variation: self.variation.unwrap_or(base.variation),
            size: self.size.or(base.size),
            score_map: base.score_map,
            resize: match self.resize.as_deref() {
                Some("pad") => Resize::Pad,
                Some("crop") => Resize::Crop,
                Some("native") => Resize::Native,
                Some(_) => Resize::Fit,
                None => base.resize,
            },
            composite: self.composite().or(base.composite),
            blend: match self.blend.as_deref() {
                Some("linear") => Blend::Linear,
                Some(_) => Blend::Srgb,
                None => base.blend,
            },
            feather: self.feather.unwrap_or(base.feather),
            instruction: base.instruction,
        })
    }

    fn guidance_interval(&self, base: Option<(f32, f32)>) -> Option<(f32, f32)> {
        if self.guidance_from.is_none() && self.guidance_until.is_none() {
            return base;
        }
        let (from, until) = base.unwrap_or((0.0, 1.0));
        Some((self.guidance_from.unwrap_or(from), self.guidance_until.unwrap_or(until)))
    }

    fn composite(&self) -> Option<CompositePolicy> {
        let given = self.composite.as_deref()?;
        CompositePolicy::ALL.into_iter().find(|policy| policy.name() == given)
    }

    fn map_filter(&self) -> Option<MapFilter> {
        let said = self.map_filter.as_deref()?;
        MapFilter::ALL.into_iter().find(|filter| filter.name() == said)
    }

    fn keyword(&self) -> Option<KeywordPolicy> {
        match (self.auto_keyword, self.no_keyword, self.keyword.is_empty()) {
            (true, ..) => Some(KeywordPolicy::Auto),
            (_, true, _) => Some(KeywordPolicy::All),
            (_, _, false) => Some(KeywordPolicy::Phrases(self.keyword.clone())),
            _ => None,
        }
    }
}
