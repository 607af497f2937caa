use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use editmgt::Editor;
use editmgt_train::world::{Split, World};

use crate::summary::{digits, table};
use crate::{
    Ablation, Better, COLUMNS, Comparison, EvalError, Record, Row, RunStore, Shard, Suite,
    WorldSuite, files, plot, plotted, run,
};

/// What came of an ablation.
#[derive(Debug, Clone, PartialEq)]
pub struct Ablated {
    /// A row for each variation.
    pub rows: Vec<Row>,
    /// Each variation against the baseline; `None` for the baseline itself.
    pub against: Vec<Option<Comparison>>,
    /// The name of the baseline.
    pub baseline: String,
    /// What was varied.
    pub title: String,
}

/// What [`ablate`] is asked for.
#[derive(Clone, Copy)]
pub struct AblateInput<'a> {
    /// What edits.
    pub editor: &'a Editor,
    /// The world.
    pub world: &'a World,
    /// Which of its scenes.
    pub split: Split,
    /// How many of them, 1 or more.
    pub n: u64,
    /// What is varied.
    pub ablations: &'a [Ablation],
    /// Where tables, plots and runs go.
    pub dir: &'a Path,
    /// The seed of intervals and tests.
    pub seed: u64,
}

/// Makes the edits of every variation, each into a run of its own below the folder, and writes for
/// each ablation a table and a plot: `NAME.md` and `NAME.svg`. What is done already is not done
/// again. `progress` gets what is being done, how many edits of it are
/// done, and how many there are.
///
/// # Errors
/// Those of the edits, and of the folder.
pub fn ablate(
    input: &AblateInput<'_>,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Vec<Ablated>, EvalError> {
    let &AblateInput { editor, world, split, n, ablations, dir, seed } = input;
    std::fs::create_dir_all(dir).map_err(EvalError::io(dir))?;
    // Ablations share their baselines.
    let mut known: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    let mut done = Vec::new();
    for ablation in ablations {
        let mut records = Vec::new();
        for variation in &ablation.variations {
            let request = Some(variation.request.clone());
            let suite = WorldSuite { editor, request, world, split, n };
            let identity = suite.identity()?;
            let key = identity.to_string();
            if !known.contains_key(&key) {
                let name = format!("{}-{}", ablation.name, variation.name.replace(' ', "-"));
                let runs = dir.join("runs").join(&name);
                let mut store = RunStore::open(&runs, &identity, Shard::default())?;
                let made = run(
                    &suite,
                    Shard::default(),
                    Some(&mut store),
                    &mut |_| Ok(()),
                    &mut |done, total| progress(&name, done, total),
                )?;
                known.insert(key.clone(), made);
            }
            records.push(known[&key].clone());
        }
        let ablated = ablation.measured(&records, dir, seed)?;
        files::write(&dir.join(format!("{}.md", ablation.name)), ablated.markdown().as_bytes())?;
        let svg = plot(ablation.name, &ablated.rows, &plotted(&ablated.rows))?;
        files::write(&dir.join(format!("{}.svg", ablation.name)), svg.as_bytes())?;
        done.push(ablated);
    }
    Ok(done)
}

impl Ablation {
    /// The rows of its variations' records, in their order.
    fn measured(
        &self,
        records: &[Vec<Record>],
        dir: &Path,
        seed: u64,
    ) -> Result<Ablated, EvalError> {
        let named = self.variations.iter().zip(records);
        let rows =
            named.clone().map(|(variation, records)| Row::of(&variation.name, records, seed));
        let base = &records[self.baseline];
        let against = records.iter().enumerate().map(|(i, records)| {
            let compare = || Comparison::of(base, records, dir, seed);
            (i != self.baseline).then(compare).transpose()
        });
        Ok(Ablated {
            rows: rows.collect(),
            against: against.collect::<Result<_, _>>()?,
            baseline: self.variations[self.baseline].name.clone(),
            title: self.title.to_owned(),
        })
    }
}

impl Ablated {
    /// A table of the means and their intervals, and one of the differences from the baseline that
    /// the paired test finds.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        let has = |column: &&&str| self.rows.iter().any(|row| row.metrics.contains_key(**column));
        let columns: Vec<&str> = COLUMNS.iter().filter(has).copied().collect();
        // Writing to a string can't fail.
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
        text
    }
}
