use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use editmgt::Editor;
use editmgt_store::Locking;
use editmgt_world::{Split, World};

use crate::statistics::median;
use crate::suite::one;
use crate::summary::{digits, table};
use crate::{
    Ablation, Better, COLUMNS, Comparison, EvalError, Record, Row, RunStore, Shard, Suite,
    WorldSuite, plot, plot_against, plotted,
};

/// Results of an ablation.
#[derive(Debug, Clone, PartialEq)]
pub struct Ablated {
    /// A row for each variation.
    pub rows: Vec<Row>,
    /// The comparison of each variation with the baseline; `None` for the baseline itself.
    pub against: Vec<Option<Comparison>>,
    /// The time of each variation; `None` if not measured, or not for every edit.
    pub times: Option<Vec<Time>>,
    /// The name of the baseline.
    pub baseline: String,
    /// The varied option.
    pub title: String,
}

/// Edit times of a variation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Time {
    /// Median in seconds; depends on the machine and its load.
    pub seconds: f64,
    /// Median of the ratios to the baseline's time, edit by edit: the edits of one index are made
    /// in succession, under much the same load.
    pub ratio: f64,
}

/// Inputs of [`ablate`].
#[derive(Clone, Copy)]
pub struct AblateInput<'a> {
    /// The editor.
    pub editor: &'a Editor,
    /// The world.
    pub world: &'a World,
    /// The split of the scenes.
    pub split: Split,
    /// Number of scenes, 1 or more.
    pub n: u64,
    /// The ablations to run.
    pub ablations: &'a [Ablation],
    /// The output folder of tables, plots and runs.
    pub dir: &'a Path,
    /// The seed of intervals and tests.
    pub seed: u64,
    /// Whether a file system without locks is accepted.
    pub locking: Locking,
}

/// The edits of a variation.
#[derive(Debug, Clone, Default)]
struct Edits {
    records: Vec<Record>,
    seconds: Vec<Option<f64>>,
}

/// Runs the edits of every variation, each as a separate run below the output folder, and writes a
/// table and a plot per ablation, `NAME.md` and `NAME.svg`, and for a timed one the plot of success
/// against time, `NAME-time.svg`. Finished edits are not repeated. `progress` gets the ablation's
/// name, the number of its edits done, and their total.
///
/// # Errors
/// Those of the edits, and of the folder.
pub fn ablate(
    input: &AblateInput<'_>,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Vec<Ablated>, EvalError> {
    let &AblateInput { ablations, dir, seed, .. } = input;
    std::fs::create_dir_all(dir).map_err(EvalError::io(dir))?;
    // Ablations share edits, their baselines for instance.
    let mut known: BTreeMap<String, Edits> = BTreeMap::new();
    let mut done = Vec::new();
    for ablation in ablations {
        let all = edits(input, ablation, &mut known, progress)?;
        let ablated = ablation.measured(&all, dir, seed)?;
        let file = |suffix: &str| dir.join(format!("{}{suffix}", ablation.name));
        editmgt_store::write(file(".md"), ablated.markdown())?;
        let svg = plot(ablation.name, &ablated.rows, &plotted(&ablated.rows))?;
        editmgt_store::write(file(".svg"), svg)?;
        if let Some(times) = &ablated.times {
            let ratios: Vec<f64> = times.iter().map(|time| time.ratio).collect();
            let axis = (format!("time, × that of {}", ablated.baseline), &*ratios);
            let svg = plot_against(ablation.name, &ablated.rows, "success", axis)?;
            editmgt_store::write(file("-time.svg"), svg)?;
        }
        done.push(ablated);
    }
    Ok(done)
}

/// The edits of each variation not in `known`, interleaved: the first of every variation, then the
/// second, so that their times are comparable.
fn edits(
    input: &AblateInput<'_>,
    ablation: &Ablation,
    known: &mut BTreeMap<String, Edits>,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Vec<Edits>, EvalError> {
    let &AblateInput { editor, world, split, n, dir, locking, .. } = input;
    let (mut keys, mut missing) = (Vec::new(), BTreeMap::new());
    for variation in &ablation.variations {
        let request = Some(variation.request.clone());
        let suite = WorldSuite { editor, request, world, split, n, oracle_mask: false };
        let identity = suite.identity()?;
        let key = identity.to_string();
        // Edits made at another time are not comparable.
        let made = known.contains_key(&key) && !ablation.timed;
        if !made && !missing.contains_key(&key) {
            let name = format!("{}-{}", ablation.name, file_name(&variation.name));
            let runs = dir.join("runs").join(&name);
            let store = RunStore::open_with(&runs, &identity, Shard::default(), locking)?;
            missing.insert(key.clone(), (suite, store, Edits::default()));
        }
        keys.push(key);
    }
    let (mut done, total) = (0, n * missing.len() as u64);
    for index in 0..n {
        for (suite, store, edits) in missing.values_mut() {
            edits.records.push(one(suite, index, Some(store), &mut |_| Ok(()))?);
            edits.seconds.push(store.seconds(index));
            done += 1;
            progress(ablation.name, done, total);
        }
    }
    known.extend(missing.into_iter().map(|(key, (_, _, edits))| (key, edits)));
    Ok(keys.iter().map(|key| known[key].clone()).collect())
}

/// The name of a variation's folder: letters, digits and dots, other characters replaced by dashes.
fn file_name(variation: &str) -> String {
    let words = variation.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

impl Ablation {
    /// The rows of its variations' edits, in order.
    fn measured(&self, edits: &[Edits], dir: &Path, seed: u64) -> Result<Ablated, EvalError> {
        let named = self.variations.iter().zip(edits);
        let rows = named.map(|(variation, edits)| Row::of(&variation.name, &edits.records, seed));
        let base = &edits[self.baseline];
        let against = edits.iter().enumerate().map(|(i, edits)| {
            let compare = || Comparison::of(&base.records, &edits.records, dir, seed);
            (i != self.baseline).then(compare).transpose()
        });
        let times = edits.iter().map(|edits| Time::of(&edits.seconds, &base.seconds));
        Ok(Ablated {
            rows: rows.collect(),
            against: against.collect::<Result<_, _>>()?,
            times: self.timed.then(|| times.collect()).flatten(),
            baseline: self.variations[self.baseline].name.clone(),
            title: self.title.to_owned(),
        })
    }
}

impl Time {
    /// The medians over the edits that both have a time for; `None` if there are none.
    fn of(seconds: &[Option<f64>], baseline: &[Option<f64>]) -> Option<Self> {
        let both = seconds.iter().zip(baseline).filter_map(|(one, base)| Some(((*one)?, (*base)?)));
        let (seconds, ratios): (Vec<f64>, Vec<f64>) =
            both.map(|(one, base)| (one, one / base)).unzip();
        Some(Self { seconds: median(&seconds)?, ratio: median(&ratios)? })
    }
}

impl Ablated {
    /// Markdown table of the means and their intervals, the significant differences from the
    /// baseline by the paired test, and, if measured, each variation's time.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        let has = |column: &&&str| self.rows.iter().any(|row| row.metrics.contains_key(**column));
        let columns: Vec<&str> = COLUMNS.iter().filter(has).copied().collect();
        // Writing to a string cannot fail.
        let _ = table(&mut text, "variation", &columns, &self.rows);
        let _ = writeln!(
            text,
            "\nDifferences from `{}`, edit by edit, whose 95% interval is on one side of 0:\n",
            self.baseline
        );
        let before = text.len();
        for (row, against) in self.rows.iter().zip(&self.against) {
            let Some(against) = against else { continue };
            for (metric, change) in &against.metrics {
                let difference = &change.difference;
                let sided = difference.low > 0.0 || difference.high < 0.0;
                if !sided || change.better == Better::Neither || !columns.contains(&metric.as_str())
                {
                    continue;
                }
                let more = difference.mean > 0.0;
                let verdict =
                    if more == (change.better == Better::More) { "better" } else { "worse" };
                let (digits, mean, low, high) =
                    (digits(metric), difference.mean, difference.low, difference.high);
                let _ = writeln!(
                    text,
                    "- `{}`: {metric} {mean:+.digits$} [{low:+.digits$}, {high:+.digits$}], \
                     p {:.4}: {verdict}",
                    row.group, change.p
                );
            }
        }
        if text.len() == before {
            text.push_str("none.\n");
        }
        if let Some(times) = &self.times {
            let _ = write!(
                text,
                "\nTime of an edit, the median over the edits, each made right after the others'. \
                 Seconds are this machine's; the ratio to `{}` is what to compare.\n\n\
                 | variation | ratio | seconds |\n|---|---|---|\n",
                self.baseline
            );
            for (row, Time { seconds, ratio }) in self.rows.iter().zip(times) {
                let _ = writeln!(text, "| {} | {ratio:.2} | {seconds:.3} |", row.group);
            }
        }
        text
    }
}
