use std::fmt;

use serde::Serialize;

use super::KnownFailure;
use crate::Dtype;

/// What [`run`](super::run) found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConformanceReport {
    /// One entry for each check and float type.
    pub checks: Vec<CheckReport>,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The operation.
    pub name: String,
    /// The float type of its inputs; `None` where only integers and truth values take part.
    pub dtype: Option<Dtype>,
    /// The largest difference from the reference, as a share of the reference's largest number;
    /// `None` where nothing could be compared.
    pub max_error: Option<f64>,
    /// The largest error that passes.
    pub tolerance: f64,
    /// The outcome.
    pub verdict: Verdict,
    /// Why the check is [known to fail](super::KNOWN_FAILURES) on this device, if it is.
    pub known: Option<&'static str>,
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// Within the tolerance.
    Pass,
    /// Wrong, or not to be had at all in a type that every edit needs.
    Fail {
        /// In which way.
        reason: String,
    },
    /// The device can't do this in half precision.
    Unsupported {
        /// Why, in the backend's own words where it has any.
        reason: String,
    },
}

impl CheckReport {
    fn failed(&self) -> bool {
        matches!(self.verdict, Verdict::Fail { .. })
    }
}

impl ConformanceReport {
    /// Marks the checks that are known to fail.
    pub(super) fn mark(&mut self, known: &[&KnownFailure]) {
        for check in &mut self.checks {
            let same = |known: &&&KnownFailure| {
                (known.operation, known.dtype) == (&*check.name, check.dtype)
            };
            check.known = known.iter().find(same).map(|known| known.reason);
        }
    }

    /// Whether no check failed but those that are known to.
    pub fn pass(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The checks that failed although nothing is known of it.
    pub fn failures(&self) -> impl Iterator<Item = &CheckReport> {
        self.checks.iter().filter(|check| check.failed() && check.known.is_none())
    }

    /// The checks that failed as they are known to.
    pub fn known_failures(&self) -> impl Iterator<Item = &CheckReport> {
        self.checks.iter().filter(|check| check.failed() && check.known.is_some())
    }

    /// The checks that passed although they are known to fail: upstream has mended something, or
    /// other hardware does better.
    pub fn outdated(&self) -> impl Iterator<Item = &CheckReport> {
        let passed = |check: &&CheckReport| check.verdict == Verdict::Pass;
        self.checks.iter().filter(passed).filter(|check| check.known.is_some())
    }
}

/// A table with a line for each check, and a last line that sums up.
impl fmt::Display for ConformanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        writeln!(f, "{:width$}  dtype  max error  tolerance", "operation")?;
        for check in &self.checks {
            let dtype = check.dtype.map_or("int", Dtype::name);
            let error = check.max_error.map_or("-".to_owned(), |error| format!("{error:.1e}"));
            write!(f, "{:width$}  {dtype:5}  {error:>9}  {:9.1e}", check.name, check.tolerance)?;
            match (&check.verdict, check.known) {
                (Verdict::Pass, None) => writeln!(f)?,
                (Verdict::Pass, Some(known)) => writeln!(f, "  passes, not as known: {known}")?,
                (Verdict::Fail { .. }, Some(known)) => writeln!(f, "  known: {known}")?,
                // A backend's message may have several lines.
                (Verdict::Fail { reason }, None) => {
                    writeln!(f, "  FAIL: {}", first_line(reason))?;
                }
                (Verdict::Unsupported { reason }, _) => {
                    writeln!(f, "  unsupported: {}", first_line(reason))?;
                }
            }
        }
        let unsupported =
            |check: &&CheckReport| matches!(check.verdict, Verdict::Unsupported { .. });
        let unsupported = self.checks.iter().filter(unsupported).count();
        let (total, failed) = (self.checks.len(), self.failures().count());
        let known = self.known_failures().count();
        let passed = total - failed - known - unsupported;
        write!(f, "{passed} of {total} pass, {failed} fail, {known} known to fail, ")?;
        write!(f, "{unsupported} unsupported")
    }
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message")
}
