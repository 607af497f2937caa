use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use editmgt_world::Category;
use serde::{Deserialize, Serialize};

use crate::{Estimate, Record};

/// Columns of a printed table, of which the measured ones are shown; a summary in JSON has all
/// metrics.
pub const COLUMNS: [&str; 23] = [
    "success",
    "right",
    "tokens_changed_outside",
    "pixels_changed_outside",
    "l1",
    "l1_inside",
    "l1_outside",
    "psnr",
    "ssim",
    "butteraugli",
    "butteraugli_outside",
    "clip_i",
    "clip_t",
    "clip_direction",
    "dino_i",
    "score_auc",
    "score_iou",
    "free_iou",
    "tokens_held",
    "pixels_changed",
    "rated_followed",
    "rated_kept",
    "rated_overall",
];

/// The mean of every metric over a group of records, each with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The group: a category, `local edits`, `all`.
    pub group: String,
    /// Number of records.
    pub edits: usize,
    /// The metrics that at least one of them has.
    pub metrics: BTreeMap<String, Estimate>,
}

impl Row {
    /// The row of these records.
    pub fn of<'a>(
        group: impl Into<String>,
        records: impl IntoIterator<Item = &'a Record>,
        seed: u64,
    ) -> Self {
        let (mut edits, mut values) = (0, BTreeMap::<&str, Vec<f64>>::new());
        for record in records {
            edits += 1;
            for (name, value) in record.metrics.iter() {
                values.entry(name).or_default().push(value);
            }
        }
        let metrics = values
            .into_iter()
            .filter_map(|(name, values)| Some((name.to_owned(), Estimate::of(&values, seed)?)));
        Self { group: group.into(), edits, metrics: metrics.collect() }
    }
}

/// A run in one table: a row per category, for local edits, and for all. Its `Display` is Markdown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The rows, `all` is the last.
    pub rows: Vec<Row>,
    /// Number of edits skipped for unusable images.
    pub skipped: usize,
    /// The seed of the intervals.
    pub seed: u64,
}

impl Summary {
    /// The summary of these records. Their order affects the resamples: sort them by index.
    pub fn of(records: &[Record], seed: u64) -> Self {
        let used: Vec<&Record> = records.iter().filter(|record| record.skipped.is_none()).collect();
        let row = |group: &str, keep: &dyn Fn(&Record) -> bool| {
            Row::of(group, used.iter().copied().filter(|record| keep(record)), seed)
        };
        let kinds: BTreeSet<(Option<Category>, &str)> = used
            .iter()
            .filter_map(|r| Some((r.category.filter(|_| r.kind.is_none()), r.group()?)))
            .collect();
        let named = kinds.iter().map(|(_, kind)| row(kind, &|r| r.group() == Some(kind)));
        let mut rows: Vec<Row> = named.collect();
        if used.iter().filter_map(|r| r.category).collect::<BTreeSet<_>>().len() > 1 {
            rows.push(row("local edits", &|r| r.category.is_some() && r.is_local()));
        }
        rows.push(row("all", &|_| true));
        rows.retain(|row| row.edits > 0 || row.group == "all");
        Self { rows, skipped: records.len() - used.len(), seed }
    }

    /// The row of all records.
    pub fn all(&self) -> &Row {
        self.rows.last().expect("a summary has a row of all records")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |column: &&&str| self.all().metrics.contains_key(**column);
        let columns: Vec<&str> = COLUMNS.iter().filter(shown).copied().collect();
        table(f, "edits", &columns, &self.rows)?;
        if self.skipped > 0 {
            writeln!(f, "\n{} edits were skipped: their images are unusable.", self.skipped)?;
        }
        Ok(())
    }
}

/// A Markdown table: a line per row, each cell a mean and its interval.
pub(crate) fn table(
    f: &mut impl fmt::Write,
    first: &str,
    columns: &[&str],
    rows: &[Row],
) -> fmt::Result {
    writeln!(f, "| {first} | n | {} |", columns.join(" | "))?;
    writeln!(f, "|---|---|{}", "---|".repeat(columns.len()))?;
    for row in rows {
        write!(f, "| {} | {} |", row.group, row.edits)?;
        for column in columns {
            match row.metrics.get(*column) {
                Some(Estimate { mean, low, high, .. }) => {
                    let digits = digits(column);
                    write!(f, " {mean:.digits$} [{low:.digits$}, {high:.digits$}] |")?;
                }
                None => write!(f, " - |")?,
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

/// Significant decimals: decibels are tens, squares are small.
pub(crate) fn digits(metric: &str) -> usize {
    match metric {
        m if m.starts_with("psnr") => 1,
        m if m.starts_with("rated") => 2,
        m if m.starts_with("l1") => 4,
        m if m.starts_with("l2") => 5,
        _ => 3,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use editmgt_world::Metrics;

    use super::*;

    pub(crate) fn record(index: u64, category: Option<Category>, success: f64) -> Record {
        let metrics = Metrics::default().with("success", success).with("other", 2.0);
        let instruction = "x".to_owned();
        Record { index, name: None, category, kind: None, instruction, metrics, skipped: None }
    }

    #[test]
    fn a_summary_counts_each_category_once() {
        let categories = [Category::Add, Category::Style, Category::Add, Category::Remove];
        let mut records: Vec<Record> = (0..)
            .zip(categories)
            .map(|(i, category)| record(i, Some(category), f64::from(u8::from(i < 2))))
            .collect();
        let out = Record { skipped: Some("no picture".into()), ..record(4, None, 0.0) };
        records.push(Record { metrics: Metrics::default(), ..out });
        let summary = Summary::of(&records, 1);
        let means: Vec<_> = summary
            .rows
            .iter()
            .map(|row| (&*row.group, row.edits, row.metrics["success"].mean))
            .collect();
        let third = 1.0 / 3.0;
        assert_eq!(
            means,
            [
                ("add", 2, 0.5),
                ("remove", 1, 0.0),
                ("style", 1, 1.0),
                ("local edits", 3, third),
                ("all", 4, 0.5)
            ]
        );
        assert_eq!((summary.skipped, summary.all().metrics["other"].mean), (1, 2.0));
        let text = summary.to_string();
        assert!(
            text.starts_with("| edits | n | success |\n|---|---|---|\n| add | 2 | 0.500 ["),
            "{text}"
        );
        assert!(text.ends_with("\n1 edits were skipped: their images are unusable.\n"), "{text}");
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
    }

    #[test]
    fn the_datas_own_kinds_come_before_ours() {
        let kinds = ["tone", "add-hat", "tone"];
        let categories = [None, Some(Category::Add), None];
        let records: Vec<Record> = (0..)
            .zip(kinds.iter().zip(categories))
            .map(|(i, (kind, category))| Record {
                kind: Some((*kind).to_owned()),
                ..record(i, category, 1.0)
            })
            .collect();
        let rows = Summary::of(&records, 0).rows;
        let groups: Vec<_> = rows.iter().map(|row| (&*row.group, row.edits)).collect();
        assert_eq!(groups, [("add-hat", 1), ("tone", 2), ("all", 3)]);
    }

    #[test]
    fn without_categories_there_is_one_row() {
        let summary = Summary::of(&[record(0, None, 1.0)], 0);
        assert_eq!(summary.rows.len(), 1);
        assert!(Summary::of(&[], 0).all().metrics.is_empty());
    }
}
