//! Ratings by a vision-language model behind an OpenAI-compatible endpoint, which gets the photo
//! and the result of every edit of a run.

mod answer;
mod endpoint;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use editmgt_world::Metrics;
use serde::{Deserialize, Serialize};

use editmgt_store::Locking;

use crate::lines::Lines;
use crate::panels::panel_path;
use crate::store::check_identity;
use crate::{EvalError, Record, gedit, read_records};

pub use answer::{Answer, Scores};
pub use endpoint::Endpoint;

/// A line of `ratings.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rating {
    index: u64,
    #[serde(flatten)]
    answer: Answer,
}

/// Results of a rating.
#[derive(Debug, Clone, PartialEq)]
pub struct Rated {
    /// Every edit with scores, with `rated_followed`, `rated_kept` and `rated_overall` as its
    /// metrics.
    pub records: Vec<Record>,
    /// The edits with an unusable answer, and why. They are requested again when the rating is
    /// resumed.
    pub problems: Vec<(u64, String)>,
}

/// Rates every edit of the run in `dir`, and writes to `out` the rater (`rater.json`) and a line
/// per answer (`ratings.jsonl`), as it arrives. Edits with scores are not requested again.
/// `progress` gets the number done and the total.
///
/// # Errors
/// [`EvalError::NoRecords`] for a run without images; [`EvalError::OtherRun`] when `out` is of
/// another rater; [`EvalError::Endpoint`] and [`EvalError::Status`], with earlier ratings kept;
/// [`EvalError::Io`], [`EvalError::Malformed`], [`EvalError::InUse`].
pub fn rate(
    dir: &Path,
    out: &Path,
    endpoint: &Endpoint,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rated, EvalError> {
    rate_with(dir, out, endpoint, Locking::Required, progress)
}

/// As [`rate`], optionally on a file system without locks.
///
/// # Errors
/// Those of [`rate`].
pub fn rate_with(
    dir: &Path,
    out: &Path,
    endpoint: &Endpoint,
    locking: Locking,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rated, EvalError> {
    let mut records = read_records(dir)?;
    records.retain(|record| record.skipped.is_none());
    std::fs::create_dir_all(out).map_err(EvalError::io(out))?;
    check_identity(&out.join("rater.json"), &endpoint.identity())?;
    let (mut lines, known) = Lines::open::<Rating>(out.join("ratings.jsonl"), locking)?;
    // A later answer replaces an unusable one.
    let mut answers: BTreeMap<u64, Answer> =
        known.into_iter().map(|rating| (rating.index, rating.answer)).collect();
    let total = records.len() as u64;
    for (done, record) in (1..).zip(&records) {
        let index = record.index;
        if !matches!(answers.get(&index), Some(Answer::Scores(_))) {
            let [before, after] = pictures(dir, record)?;
            let answer = endpoint.rate(&record.instruction, &before, &after)?;
            lines.add(&Rating { index, answer: answer.clone() })?;
            answers.insert(index, answer);
        }
        progress(done, total);
    }
    let mut rated = Rated { records: Vec::new(), problems: Vec::new() };
    for record in records {
        match answers.remove(&record.index) {
            Some(Answer::Scores(scores)) => {
                let metrics = Metrics::default()
                    .with("rated_followed", scores.followed)
                    .with("rated_kept", scores.kept)
                    .with("rated_overall", scores.overall());
                rated.records.push(Record { metrics, ..record });
            }
            Some(Answer::Problem(problem)) => rated.problems.push((record.index, problem)),
            None => {}
        }
    }
    Ok(rated)
}

/// The PNGs of the photo and the result: the gallery's, or in the layout of GEdit-Bench.
fn pictures(dir: &Path, record: &Record) -> Result<[Vec<u8>; 2], EvalError> {
    let panel = |name: &str| panel_path(dir, record.index, name);
    let mut places = vec![(panel("before"), panel("after"))];
    places.extend(record.name.as_deref().map(|name| gedit::pictures(dir, name)));
    let there = |(before, after): &&(PathBuf, PathBuf)| before.exists() && after.exists();
    let Some((before, after)) = places.iter().find(there) else {
        let problem =
            format!("expected the images of edit {}; make the run with --pictures", record.index);
        return Err(EvalError::NoRecords { path: dir.to_owned(), problem });
    };
    let read = |path: &Path| std::fs::read(path).map_err(EvalError::io(path));
    Ok([read(before)?, read(after)?])
}
