//! HTML report of a run.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::panels::{PANELS, panel_path};
use crate::summary::digits;
use crate::{Better, COLUMNS, Estimate, EvalError, Record, Summary, plot, plotted};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Name of the edits without a category.
const NO_CATEGORY: &str = "unknown";

/// Options of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportOptions {
    /// The title.
    pub title: String,
    /// The metric by which the worst edits are chosen.
    pub by: String,
    /// Most edits in the gallery.
    pub cases: usize,
    /// The seed of the intervals.
    pub seed: u64,
}

/// The run in the folder `dir` as one self-contained HTML page: a table, plots, and a gallery of
/// the worst edits, which can be filtered by category and sorted by any metric. The images of an
/// edit are shown if the run saved them ([`Panels::save`](crate::Panels::save)).
///
/// # Errors
/// [`EvalError::NoRecords`] when no record has the metric; [`EvalError::Io`] for unreadable images.
pub fn report(
    dir: &Path,
    records: &[Record],
    options: &ReportOptions,
) -> Result<String, EvalError> {
    let summary = Summary::of(records, options.seed);
    let worst = worst(records, options);
    if worst.is_empty() {
        let problem = format!("expected edits with the metric {}, got none", options.by);
        return Err(EvalError::NoRecords { path: dir.to_owned(), problem });
    }
    let title = escaped(&options.title);
    let mut page = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    table(&mut page, &summary);
    let metrics = plotted(&summary.rows);
    if !metrics.is_empty() {
        let svg = plot("by category", &summary.rows, &metrics)?;
        let _ = write!(page, "<figure>\n{svg}\n</figure>\n");
    }
    gallery(&mut page, dir, &worst, records.len(), &options.by)?;
    let _ = write!(page, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    Ok(page)
}

/// The worst first; ties in their order.
fn worst<'a>(records: &'a [Record], options: &ReportOptions) -> Vec<&'a Record> {
    let sign = if Better::of(&options.by) == Better::More { 1.0 } else { -1.0 };
    let key = |record: &Record| record.metrics.get(&options.by).map(|value| sign * value);
    let mut worst: Vec<(f64, &Record)> =
        records.iter().filter_map(|record| Some((key(record)?, record))).collect();
    worst.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    worst.into_iter().take(options.cases).map(|(_, record)| record).collect()
}

fn table(page: &mut String, summary: &Summary) {
    let has = |column: &&&str| summary.all().metrics.contains_key(**column);
    let columns: Vec<&str> = COLUMNS.iter().filter(has).copied().collect();
    page.push_str("<table id=\"summary\">\n<thead><tr><th>edits</th><th>n</th>");
    for column in &columns {
        let _ = write!(page, "<th>{column}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &summary.rows {
        let _ = write!(page, "<tr><th>{}</th><td>{}</td>", escaped(&row.group), row.edits);
        for column in &columns {
            match row.metrics.get(*column) {
                Some(Estimate { mean, low, high, .. }) => {
                    let digits = digits(column);
                    let _ = write!(
                        page,
                        "<td>{mean:.digits$}<small>{low:.digits$} to {high:.digits$}</small></td>"
                    );
                }
                None => page.push_str("<td>-</td>"),
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n<p>Means; below each, its 95% bootstrap interval.");
    if summary.skipped > 0 {
        let _ = write!(page, " {} edits were skipped.", summary.skipped);
    }
    page.push_str("</p>\n");
}

fn gallery(
    page: &mut String,
    dir: &Path,
    cases: &[&Record],
    all: usize,
    by: &str,
) -> Result<(), EvalError> {
    let category = |record: &Record| escaped(record.group().unwrap_or(NO_CATEGORY));
    let categories: BTreeSet<String> = cases.iter().map(|record| category(record)).collect();
    let metrics: BTreeSet<&str> =
        cases.iter().flat_map(|record| record.metrics.iter().map(|(name, _)| name)).collect();
    let _ = write!(
        page,
        "<h2>The worst {} of {all} edits by {}</h2>\n<p class=\"controls\"><label>Category \
         <select id=\"category\"><option value=\"\">all</option>",
        cases.len(),
        escaped(by)
    );
    for category in categories {
        let _ = write!(page, "<option>{category}</option>");
    }
    page.push_str("</select></label> <label>Worst first by <select id=\"metric\">");
    for metric in metrics {
        let selected = if metric == by { " selected" } else { "" };
        let more = Better::of(metric) == Better::More;
        let metric = escaped(metric);
        let _ = write!(page, "<option data-more=\"{more}\"{selected}>{metric}</option>");
    }
    page.push_str("</select></label> <output id=\"shown\"></output></p>\n<div id=\"gallery\">\n");
    for record in cases {
        let numbers = serde_json::to_string(&record.metrics).expect("metrics are JSON");
        let _ = write!(
            page,
            "<article data-category=\"{}\" data-metrics=\"{}\">\n<h3>{}</h3>\n<p>{} {}</p>\n\
             <div class=\"panels\">",
            category(record),
            escaped(&numbers),
            escaped(&record.instruction),
            category(record),
            escaped(record.name.as_deref().unwrap_or(&record.index.to_string())),
        );
        for panel in PANELS {
            let path = panel_path(dir, record.index, panel);
            match std::fs::read(&path) {
                Ok(png) => {
                    let data = STANDARD.encode(png);
                    let _ = write!(
                        page,
                        "<figure><img alt=\"{panel}\" src=\"data:image/png;base64,{data}\">\
                         <figcaption>{panel}</figcaption></figure>"
                    );
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(EvalError::io(&path)(e)),
            }
        }
        page.push_str("</div>\n<dl>");
        for (name, value) in record.metrics.iter() {
            let digits = digits(name);
            let _ = write!(page, "<div><dt>{}</dt><dd>{value:.digits$}</dd></div>", escaped(name));
        }
        page.push_str("</dl>\n</article>\n");
    }
    page.push_str("</div>\n");
    Ok(())
}

/// Escapes text for HTML, including attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
