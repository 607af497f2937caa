use editmgt::{
    CompositePolicy, EditError, EditRequest, Editor, HoldPolicy, Holding, KeywordPolicy, MapFilter,
    StepPlan,
};

/// The names of all ablations.
pub const ABLATION_NAMES: [&str; 10] = [
    "steps",
    "cached",
    "hold",
    "layers",
    "filter",
    "keyword",
    "holding",
    "composite",
    "strength",
    "guidance",
];

/// One option of an edit and the values to compare; everything else is fixed.
#[derive(Debug, Clone, PartialEq)]
pub struct Ablation {
    /// Name of its files: `hold`, `layers`, …
    pub name: &'static str,
    /// Title.
    pub title: &'static str,
    /// The compared values, each with a name.
    pub variations: Vec<Variation>,
    /// The name of the baseline among them.
    pub baseline: usize,
    /// Whether time is part of the result.
    pub timed: bool,
}

/// One value of the varied option.
#[derive(Debug, Clone, PartialEq)]
pub struct Variation {
    /// Its name: `auto`, `block 3`, `1.1`.
    pub name: String,
    /// The edit request.
    pub request: EditRequest,
}

const THRESHOLDS: [f32; 7] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7];
const STRENGTHS: [f32; 7] = [0.5, 0.8, 1.0, 1.1, 1.3, 1.6, 2.0];
const STEPS: [usize; 6] = [1, 2, 4, 8, 16, 36];
const GUIDANCE: [f32; 6] = [1.0, 1.5, 2.0, 3.0, 6.0, 9.0];

/// All ablations around the options of `base`:
///
/// - `steps`: a sweep around the current value, with the time of an edit;
/// - `cached`: every step in full, and cached steps with several refresh intervals, with the time
///   of an edit;
/// - `hold`: off, thresholds from 0.1 to 0.7, auto;
/// - `layers`: no localisation, the current blocks together, each block by itself;
/// - `filter`: smoothing of the score map, or none;
/// - `keyword`: attention of all words or of the content words;
/// - `holding`: strict, or as the official code;
/// - `composite`: with and without hold, and the source of the output pixels;
/// - `strength`, `guidance`: sweeps around the current value.
///
/// Ablations that require a score-based hold use `auto` if `base` has none.
///
/// # Errors
/// An option of `base` out of range.
pub fn ablations(editor: &Editor, base: &EditRequest) -> Result<Vec<Ablation>, EditError> {
    // Each edit has its own instruction; a request without one is refused.
    let with_instruction = base.clone().instruction("any");
    let settings = editor.settings(&with_instruction)?;
    let mut held = base.clone();
    if !settings.hold.needs_scores() {
        held.hold = Some(HoldPolicy::Auto);
    }
    let off = base.clone().hold(HoldPolicy::Off).keyword(None);
    let with = |name: &str, request: EditRequest| Variation { name: name.to_owned(), request };

    let thresholds = THRESHOLDS.map(|threshold| {
        let hold = Some(HoldPolicy::Threshold(threshold));
        with(&threshold.to_string(), base.clone().hold(hold))
    });
    let auto = base.clone().hold(HoldPolicy::Auto);
    let mut hold = vec![with("off", off.clone())];
    hold.extend(thresholds);
    hold.push(with("auto", auto));

    let blocks = 0..editor.model().transformer.spec().blocks();
    let alone = blocks.map(|block| {
        let blocks = Some(vec![block]);
        with(&format!("block {block}"), held.clone().blocks(blocks))
    });
    let mut layers = vec![with("together", held.clone()), with("none", off.clone())];
    layers.extend(alone);

    let filter = MapFilter::ALL.map(|filter| with(filter.name(), held.clone().map_filter(filter)));
    let filter_in_force = MapFilter::ALL.iter().position(|filter| *filter == settings.map_filter);
    let keyword = [("all", KeywordPolicy::All), ("auto", KeywordPolicy::Auto)]
        .map(|(name, policy)| with(name, held.clone().keyword(policy)));
    let holding = [("strict", Holding::Strict), ("parity", Holding::Parity)]
        .map(|(name, holding)| with(name, held.clone().holding(holding)));
    let composite = [
        ("neither", &off, CompositePolicy::All),
        ("visible", &off, CompositePolicy::Visible),
        ("hold", &held, CompositePolicy::All),
        ("hold + held", &held, CompositePolicy::Held),
        ("hold + visible", &held, CompositePolicy::Visible),
    ]
    .map(|(name, request, composite)| {
        // Added only if not in force already, so that other ablations share the edits.
        let asked = (composite != settings.composite).then_some(composite);
        with(name, request.clone().composite(asked.or(request.composite)))
    });
    let one = |name, title, variations: Vec<Variation>| Ablation {
        name,
        title,
        variations,
        baseline: 0,
        timed: false,
    };
    let plans = [
        StepPlan::Exact,
        StepPlan::cached(0),
        StepPlan::cached(8),
        StepPlan::cached(4),
        StepPlan::cached(2),
    ];
    let mut cached: Vec<_> =
        plans.map(|plan| with(&plan.to_string(), base.clone().steps_plan(plan))).into();
    let plan = StepPlan::cached(8);
    let reused = base.clone().steps_plan(plan).guidance_reuse(true);
    cached.push(with(&format!("{plan}, guidance reused"), reused));
    let steps = sweep("steps", "Steps", &STEPS, settings.steps, |value| base.clone().steps(value));
    Ok(vec![
        // First, so that its baseline's edits, which others share, are made and timed here.
        Ablation { timed: true, ..steps },
        Ablation {
            timed: true,
            ..one("cached", "Steps that compute only what is masked or changed", cached)
        },
        one("hold", "Hold policy: off, a threshold, auto", hold),
        one("layers", "Attention blocks of the score map: together and each by itself", layers),
        Ablation {
            baseline: filter_in_force.unwrap_or_default(),
            ..one("filter", "Smoothing of the score map", filter.into())
        },
        one("keyword", "Words whose attention makes the score map", keyword.into()),
        one("holding", "Holding: strict, or as the official code (parity)", holding.into()),
        one(
            "composite",
            "Tokens are held (hold), and the photo's own pixels put back where held, or where nothing visible changed",
            composite.into(),
        ),
        sweep("strength", "Reference strength", &STRENGTHS, settings.reference_strength, |value| {
            base.clone().reference_strength(value)
        }),
        sweep("guidance", "Guidance scale", &GUIDANCE, settings.guidance_scale, |value| {
            base.clone().guidance_scale(value)
        }),
    ])
}

/// A sweep of these values and the current one, which is the baseline, in ascending order.
fn sweep<T: PartialOrd + Copy + ToString>(
    name: &'static str,
    title: &'static str,
    values: &[T],
    current: T,
    request: impl Fn(T) -> EditRequest,
) -> Ablation {
    let below = values.iter().copied().filter(|value| *value < current);
    let above = values.iter().copied().filter(|value| *value > current);
    let baseline = below.clone().count();
    let values = below.chain([current]).chain(above);
    let variations =
        values.map(|value| Variation { name: value.to_string(), request: request(value) });
    Ablation { name, title, variations: variations.collect(), baseline, timed: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_has_the_value_in_force_once() {
        for (current, expected, baseline) in [
            (2.0, vec!["1", "1.5", "2", "3", "6", "9"], 2),
            (4.0, vec!["1", "1.5", "2", "3", "4", "6", "9"], 4),
            (0.0, vec!["0", "1", "1.5", "2", "3", "6", "9"], 0),
            (20.0, vec!["1", "1.5", "2", "3", "6", "9", "20"], 6),
        ] {
            let made = sweep("guidance", "", &GUIDANCE, current, |value| {
                EditRequest::default().guidance_scale(value)
            });
            let names: Vec<&str> = made.variations.iter().map(|v| v.name.as_str()).collect();
            assert_eq!((names, made.baseline), (expected, baseline));
            assert_eq!(made.variations[made.baseline].request.guidance_scale, Some(current));
        }
    }
}
