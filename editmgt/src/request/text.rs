//! Values of options as text: what a command line, a form or a query string gives.

use editmgt_core::{CacheDtype, MapCombine, StepPlan, Tiling};
use editmgt_sampler::MaskingSchedule;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CompositePolicy, HoldPolicy, Holding, KeywordPolicy, MapFilter, Task};
use crate::photo::{Blend, Resize};

/// A value that can be read from text and written as text.
pub(super) trait OptionText: Sized {
    /// Parses a value; `None` for an invalid text.
    fn from_text(text: &str) -> Option<Self>;

    /// What [`from_text`](Self::from_text) reads as this value.
    fn to_text(&self) -> String;
}

/// Types whose `FromStr` and `Display` are meant.
macro_rules! plain_text {
    ($($type:ty),+) => {
        $(impl OptionText for $type {
            fn from_text(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }

            fn to_text(&self) -> String {
                self.to_string()
            }
        })+
    };
}

plain_text!(usize, u32, u64, f32, bool, HoldPolicy, StepPlan, Task, Tiling);

/// Enums of names: the names are those of JSON.
macro_rules! names {
    ($($type:ty),+) => {
        $(impl OptionText for $type {
            fn from_text(text: &str) -> Option<Self> {
                by_name(text)
            }

            fn to_text(&self) -> String {
                name_of(self)
            }
        })+
    };
}

names!(Holding, CacheDtype, MapCombine, MapFilter, MaskingSchedule, CompositePolicy, Resize, Blend);

fn by_name<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(Value::String(text.trim().to_owned())).ok()
}

/// The name of a value in JSON; the JSON itself for what is more than a name.
fn name_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

impl OptionText for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn to_text(&self) -> String {
        self.clone()
    }
}

impl OptionText for KeywordPolicy {
    /// `all`, `auto`, or words of the instruction: one phrase, or several with commas between.
    fn from_text(text: &str) -> Option<Self> {
        by_name(text).or_else(|| {
            Some(Self::Phrases(text.split(',').map(|phrase| phrase.trim().to_owned()).collect()))
        })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl OptionText for (f32, f32) {
    /// Two numbers with a comma between.
    fn from_text(text: &str) -> Option<Self> {
        let (first, second) = text.split_once(',')?;
        Some((f32::from_text(first)?, f32::from_text(second)?))
    }

    fn to_text(&self) -> String {
        format!("{},{}", self.0, self.1)
    }
}

impl OptionText for Vec<usize> {
    /// Numbers with commas between.
    fn from_text(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::new());
        }
        text.split(',').map(usize::from_text).collect()
    }

    fn to_text(&self) -> String {
        self.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}
