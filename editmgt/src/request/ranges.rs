//! The ranges of the options, for whoever sets them: a user or a model's file of defaults.

use editmgt_core::Error;
use editmgt_sampler::check_guidance_interval;

use super::{EditDefaults, EditRequest, HoldPolicy, KeywordPolicy};
use crate::photo::MAX_SIDE;

/// Largest guidance, strength and temperature.
const MAX_FACTOR: f32 = 100.0;

/// Widest margin, in tokens: beyond, nothing would be held anyway.
const MAX_MARGIN: usize = 64;

/// An option that is out of its range.
pub(super) struct Problem {
    /// What the command line calls it.
    pub(super) option: &'static str,
    /// What the file calls it.
    pub(super) key: &'static str,
    pub(super) expected: String,
    pub(super) got: String,
}

fn problem(
    (option, key): (&'static str, &'static str),
    expected: impl ToString,
    got: impl ToString,
) -> Problem {
    Problem { option, key, expected: expected.to_string(), got: got.to_string() }
}

/// The first option that is out of its range, if any.
pub(super) fn check(options: &EditDefaults) -> Option<Problem> {
    factors(options).or_else(|| counts(options)).or_else(|| places(options))
}

fn factors(options: &EditDefaults) -> Option<Problem> {
    let temperature = options.temperature.unwrap_or_default();
    let names = ("temperature", "temperature");
    [
        (("guidance", "guidance_scale"), options.guidance_scale),
        (("strength", "reference_strength"), options.reference_strength),
        (names, Some(temperature.0)),
        (names, Some(temperature.1)),
    ]
    .into_iter()
    .find_map(|(names, value)| {
        let value = value.filter(|value| !(0.0..=MAX_FACTOR).contains(value))?;
        Some(problem(names, format!("0 to {MAX_FACTOR}"), value))
    })
}

fn counts(options: &EditDefaults) -> Option<Problem> {
    let steps = (("steps", "steps"), options.steps, 1..=EditRequest::MAX_STEPS, "");
    let size = (("size", "size"), options.size, 1..=MAX_SIDE, " pixels");
    let margin = (("hold margin", "hold_margin"), options.hold_margin, 0..=MAX_MARGIN, " tokens");
    [steps, size, margin].into_iter().find_map(|(names, value, range, unit)| {
        let value = value.filter(|value| !range.contains(value))?;
        Some(problem(names, format!("{} to {}{unit}", range.start(), range.end()), value))
    })
}

fn places(options: &EditDefaults) -> Option<Problem> {
    let interval = options.guidance_interval.map(check_guidance_interval);
    if let Some(Err(Error::Value { what, expected, got })) = interval {
        return Some(problem((what, "guidance_interval"), expected, got));
    }
    if let Some(got) = options.hold.as_ref().and_then(HoldPolicy::out_of_range) {
        return Some(problem(("hold", "hold"), "0 to 1", got));
    }
    if let Some(got) = options.keyword.as_ref().and_then(KeywordPolicy::problem) {
        return Some(problem(("keyword", "keyword"), "a word of the instruction", got));
    }
    None
}
