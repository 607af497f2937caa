//! Which steps of a loop compute the whole canvas.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which steps of a loop compute the whole canvas.
///
/// As text `exact`, `cached`, `cached:R` or `cached:R:W` ([`FromStr`] and
/// [`Display`](fmt::Display)): `R` is the refresh interval or `never`, `W` the warm-up.
///
/// ```
/// use editmgt_core::StepPlan;
///
/// let plan: StepPlan = "cached:4".parse()?;
/// assert_eq!(plan, StepPlan::Cached { warm_up: 2, refresh: 4 });
/// assert!(plan.is_full(0) && plan.is_full(1) && !plan.is_full(2) && plan.is_full(5));
/// # Ok::<(), editmgt_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StepPlan {
    /// Every step computes the whole canvas, as the official pipeline does.
    #[default]
    Exact,
    /// Steps between full ones compute only the cells of the canvas that have a mask token or have
    /// changed, against the kept keys and values of the rest.
    Cached {
        /// Full steps at the start, 1 to [`MAX`](Self::MAX).
        warm_up: usize,
        /// A full step follows the previous one after this number of steps; 0: never again.
        refresh: usize,
    },
}

impl StepPlan {
    /// Largest warm-up and refresh interval.
    pub const MAX: usize = 4096;
    /// Full steps at the start, unless the plan says otherwise: the second one computes the tokens
    /// that the first one held.
    pub const WARM_UP: usize = 2;
    /// Refresh interval, unless the plan says otherwise: lost no successful edit where it was
    /// measured.
    pub const REFRESH: usize = 8;

    /// Cached steps with a full step after every `refresh` steps, and the default warm-up.
    pub const fn cached(refresh: usize) -> Self {
        Self::Cached { warm_up: Self::WARM_UP, refresh }
    }

    /// Whether step `step` (0 is the first) computes the whole canvas.
    pub fn is_full(self, step: usize) -> bool {
        match self {
            Self::Exact => true,
            Self::Cached { warm_up, refresh } => match (step + 1).checked_sub(warm_up.max(1)) {
                None | Some(0) => true,
                Some(since) => refresh > 0 && since.is_multiple_of(refresh),
            },
        }
    }

    /// Whether the numbers are in range.
    pub fn is_valid(self) -> bool {
        match self {
            Self::Exact => true,
            Self::Cached { warm_up, refresh } => {
                (1..=Self::MAX).contains(&warm_up) && refresh <= Self::MAX
            }
        }
    }
}

impl fmt::Display for StepPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Cached { warm_up, refresh } = self else { return f.write_str("exact") };
        match refresh {
            0 => f.write_str("cached:never")?,
            refresh => write!(f, "cached:{refresh}")?,
        }
        if *warm_up == Self::WARM_UP { Ok(()) } else { write!(f, ":{warm_up}") }
    }
}

impl FromStr for StepPlan {
    type Err = Error;

    /// Reads the text form. The range is checked by [`is_valid`](Self::is_valid).
    fn from_str(text: &str) -> Result<Self> {
        let error = || {
            let expected = "exact, cached, cached:R or cached:R:W (R a number of steps or never)";
            Error::value("step plan", expected, text)
        };
        let mut parts = text.split(':');
        let (kind, refresh, warm_up, rest) =
            (parts.next(), parts.next(), parts.next(), parts.next());
        let number = |part: &str| part.parse::<usize>().map_err(|_| error());
        match (kind, refresh, rest) {
            (Some("exact"), None, None) => Ok(Self::Exact),
            (Some("cached"), _, None) => Ok(Self::Cached {
                warm_up: warm_up.map_or(Ok(Self::WARM_UP), number)?,
                refresh: match refresh {
                    None => Self::REFRESH,
                    Some("never") => 0,
                    Some(refresh) => number(refresh)?,
                },
            }),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_full_at_warm_up_and_refresh() {
        let full = |plan: StepPlan| (0..12).filter(|&step| plan.is_full(step)).collect::<Vec<_>>();
        let cached = |warm_up, refresh| StepPlan::Cached { warm_up, refresh };
        assert_eq!(full(cached(2, 4)), [0, 1, 5, 9]);
        assert_eq!(full(cached(1, 8)), [0, 8]);
        assert_eq!(full(cached(3, 0)), [0, 1, 2]);
        for plan in [StepPlan::Exact, cached(1, 1), cached(5, 1)] {
            assert_eq!(full(plan).len(), 12, "{plan}");
        }
    }

    #[test]
    fn plans_have_a_text_and_a_json_form() {
        let cached = |warm_up, refresh| StepPlan::Cached { warm_up, refresh };
        for (text, plan, json) in [
            ("exact", StepPlan::Exact, r#""exact""#),
            ("cached:8", cached(2, 8), r#"{"cached":{"warm_up":2,"refresh":8}}"#),
            ("cached:never", cached(2, 0), r#"{"cached":{"warm_up":2,"refresh":0}}"#),
            ("cached:4:1", cached(1, 4), r#"{"cached":{"warm_up":1,"refresh":4}}"#),
        ] {
            assert_eq!(text.parse::<StepPlan>().unwrap(), plan);
            assert_eq!(plan.to_string(), text);
            assert_eq!(serde_json::to_string(&plan).unwrap(), json);
            assert_eq!(serde_json::from_str::<StepPlan>(json).unwrap(), plan);
        }
        assert_eq!("cached".parse::<StepPlan>().unwrap(), StepPlan::cached(8));
        for bad in ["", "Exact", "exact:3", "cached:", "cached:x", "cached:8:2:1", "cached:-1"] {
            assert!(bad.parse::<StepPlan>().is_err(), "{bad}");
        }
        assert!(cached(1, 0).is_valid() && StepPlan::Exact.is_valid());
        assert!(!cached(0, 8).is_valid() && !cached(1, StepPlan::MAX + 1).is_valid());
    }
}
