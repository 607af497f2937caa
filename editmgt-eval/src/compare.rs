use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::summary::digits;
use crate::{Better, Estimate, EvalError, Record, sign_flip_test};

/// Difference of one metric between two runs, over the edits that both have it for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The mean of the first run.
    pub a: f64,
    /// The mean of the second.
    pub b: f64,
    /// The second minus the first, edit by edit.
    pub difference: Estimate,
    /// Two-sided p-value of the mean difference by [`sign_flip_test`]. Among many metrics some fall
    /// below 0.05 by chance.
    pub p: f64,
    /// Whether higher is better.
    pub better: Better,
}

/// Two runs of one suite, compared edit by edit. Its `Display` is a table in Markdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Number of edits in both runs.
    pub edits: usize,
    /// Number of edits that one of them lacks or skipped; they are ignored.
    pub unpaired: usize,
    /// Every metric that both runs have.
    pub metrics: BTreeMap<String, Change>,
}

impl Comparison {
    /// Compares the records of `a` with those of `b`; `seed` is that of intervals and tests.
    ///
    /// [`EvalError::NoRecords`] when no edit is in both, or an index has two different
    /// instructions, so that the runs are of different suites. `name` is the name of `b` in the
    /// error.
    pub fn of(a: &[Record], b: &[Record], name: &Path, seed: u64) -> Result<Self, EvalError> {
        let used = |records: &[Record]| -> BTreeMap<u64, Record> {
            let used = records.iter().filter(|record| record.skipped.is_none());
            used.map(|record| (record.index, record.clone())).collect()
        };
        let (a, b) = (used(a), used(b));
        let no_pairs = |problem: String| EvalError::NoRecords { path: name.to_owned(), problem };
        let pairs: Vec<(&Record, &Record)> =
            a.iter().filter_map(|(index, a)| Some((a, b.get(index)?))).collect();
        if pairs.is_empty() {
            return Err(no_pairs("expected edits that both runs have, got none".into()));
        }
        let key = |record: &Record| (record.name.clone(), record.instruction.clone());
        if let Some((a, b)) = pairs.iter().find(|(a, b)| key(a) != key(b)) {
            let (index, a, b) = (a.index, &a.instruction, &b.instruction);
            let problem = format!(
                "expected runs of one suite, but edit {index} is {a:?} in one and {b:?} in the other"
            );
            return Err(no_pairs(problem));
        }
        let names: BTreeSet<&str> =
            pairs.iter().flat_map(|(a, _)| a.metrics.iter().map(|(name, _)| name)).collect();
        let metrics = names.into_iter().filter_map(|name| {
            let both =
                |(a, b): &(&Record, &Record)| Some((a.metrics.get(name)?, b.metrics.get(name)?));
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().filter_map(both).unzip();
            Some((name.to_owned(), Change::of(name, &a, &b, seed)?))
        });
        Ok(Self {
            edits: pairs.len(),
            unpaired: a.len() + b.len() - 2 * pairs.len(),
            metrics: metrics.collect(),
        })
    }
}

impl Change {
    fn of(name: &str, a: &[f64], b: &[f64], seed: u64) -> Option<Self> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
        Some(Self {
            a: mean(a),
            b: mean(b),
            difference: Estimate::of(&differences, seed)?,
            p: sign_flip_test(&differences, seed)?,
            better: Better::of(name),
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| metric | n | A | B | B - A | p | |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for (name, change) in &self.metrics {
            let Change { a, b, difference, p, better } = change;
            let Estimate { n, mean, low, high } = difference;
            let verdict = match (better, *low > 0.0, *high < 0.0) {
                (Better::More, true, _) | (Better::Less, _, true) => "B is better",
                (Better::More, _, true) | (Better::Less, true, _) => "B is worse",
                _ => "",
            };
            let digits = digits(name);
            writeln!(
                f,
                "| {name} | {n} | {a:.digits$} | {b:.digits$} | \
                 {mean:+.digits$} [{low:+.digits$}, {high:+.digits$}] | {p:.4} | {verdict} |"
            )?;
        }
        if self.unpaired > 0 {
            writeln!(f, "\n{} edits are in one run only and are ignored.", self.unpaired)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use editmgt_world::Metrics;

    use super::*;
    use crate::summary::tests::record;

    fn run(values: &[f64]) -> Vec<Record> {
        (0..).zip(values).map(|(index, value)| record(index, None, *value)).collect()
    }

    #[test]
    fn edits_are_compared_in_pairs() {
        let a = run(&[0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let b = run(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
        let comparison = Comparison::of(&a, &b, Path::new("b"), 0).unwrap();
        assert_eq!((comparison.edits, comparison.unpaired), (8, 1));
        let success = &comparison.metrics["success"];
        assert_eq!((success.a, success.b, success.difference.mean), (0.25, 0.875, 0.625));
        // Five differences of one: only flipping all or none reaches the same mean.
        assert_eq!(success.p, 2.0 / 32.0);
        assert!(success.difference.low > 0.0);
        let text = comparison.to_string();
        assert!(text.contains("| success | 8 | 0.250 | 0.875 | +0.625 [+"), "{text}");
        assert!(text.contains("| 0.0625 | B is better |"), "{text}");
        let back = Comparison::of(&b, &a, Path::new("a"), 0).unwrap().to_string();
        assert!(back.contains("B is worse"), "{back}");
        assert_eq!(comparison.metrics["other"].p, 1.0);
    }

    #[test]
    fn runs_that_have_nothing_in_common_are_refused() {
        let a = run(&[1.0]);
        let mut b = run(&[1.0]);
        b[0].instruction = "y".into();
        let error = Comparison::of(&a, &b, Path::new("b"), 0).unwrap_err().to_string();
        assert!(error.starts_with("b: expected runs of one suite, but edit 0 is \"x\""), "{error}");
        b[0] = Record { skipped: Some("gone".into()), metrics: Metrics::default(), ..a[0].clone() };
        let error = Comparison::of(&a, &b, Path::new("b"), 0).unwrap_err().to_string();
        assert!(error.contains("expected edits that both runs have"), "{error}");
    }
}
