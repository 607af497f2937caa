use std::fmt;

use serde::Serialize;

use super::KnownFailure;
use crate::Dtype;

/// The results of [`run`](super::run).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConformanceReport {
    /// One entry for each check and float type.
    pub checks: Vec<CheckReport>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The operation.
    pub name: String,
    /// The float type of its inputs; `None` for integers and booleans.
    pub dtype: Option<Dtype>,
    /// The largest absolute difference from the reference, relative to the reference's largest
    /// absolute value; `None` if nothing could be compared.
    pub max_error: Option<f64>,
    /// The largest error that passes.
    pub tolerance: f64,
    /// The outcome.
    pub verdict: Verdict,
    /// The reason why the check is [known to fail](super::KNOWN_FAILURES) on this device, if it is.
    pub known: Option<&'static str>,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// Within the tolerance.
    Pass,
    /// Wrong results, or unsupported in a type that every edit needs.
    Fail {
        /// What failed.
        reason: String,
    },
    /// The device doesn't support the operation in half precision.
    Unsupported {
        /// The backend's error message, if it has one.
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

    /// Whether no checks failed except known failures.
    pub fn pass(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The checks that failed unexpectedly.
    pub fn failures(&self) -> impl Iterator<Item = &CheckReport> {
        self.checks.iter().filter(|check| check.failed() && check.known.is_none())
    }

    /// The checks that failed as expected.
    pub fn known_failures(&self) -> impl Iterator<Item = &CheckReport> {
        self.checks.iter().filter(|check| check.failed() && check.known.is_some())
    }

    /// The checks that passed although they are known to fail: fixed upstream, or not affected on
    /// this hardware.
    pub fn outdated(&self) -> impl Iterator<Item = &CheckReport> {
        let passed = |check: &&CheckReport| check.verdict == Verdict::Pass;
        self.checks.iter().filter(passed).filter(|check| check.known.is_some())
    }
}

/// A table with a line for each check, and a summary line.
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
                // Error messages of backends may have several lines.
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
