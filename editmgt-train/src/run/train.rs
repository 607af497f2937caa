use std::path::Path;

use editmgt_core::Flow;
use serde::{Deserialize, Serialize};

use super::metrics::{Kind, MetricsLog};
use super::{Checkpoint, CheckpointWriter, Metrics, RunFolder, TrainError};
use crate::data::DataReport;

/// What is trained.
pub trait Trainee {
    /// One step; 0 is the first. What it does may depend on nothing but `step`, the config, and
    /// the state that [`save`](Self::save) saves.
    ///
    /// # Errors
    /// Anything; the run stops and its checkpoints stay.
    fn step(&mut self, step: u64) -> Result<Metrics, TrainError>;

    /// Measures the state after `step` steps, and leaves it as it is.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn evaluate(&self, step: u64) -> Result<Metrics, TrainError>;

    /// Writes everything that the next step reads.
    ///
    /// # Errors
    /// Whatever the system refuses.
    fn save(&self, to: &CheckpointWriter) -> Result<(), TrainError>;

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of something else.
    fn load(&mut self, from: &Checkpoint) -> Result<(), TrainError>;
}

/// How long a run is, and what it does how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopOptions {
    /// All steps of the run.
    pub steps: u64,
    /// A line in the log every so many steps.
    pub log_every: u64,
    /// An evaluation every so many steps, and at the end.
    pub evaluate_every: u64,
    /// A checkpoint every so many steps, and at the end.
    pub checkpoint_every: u64,
    /// So many checkpoints are kept, the newest.
    pub keep: usize,
}

impl LoopOptions {
    /// Checks that nothing is 0.
    ///
    /// # Errors
    /// [`TrainError::Option`] with the key.
    pub fn validate(&self) -> Result<(), TrainError> {
        for (key, value) in [
            ("steps", self.steps),
            ("log_every", self.log_every),
            ("evaluate_every", self.evaluate_every),
            ("checkpoint_every", self.checkpoint_every),
            ("keep", self.keep as u64),
        ] {
            if value == 0 {
                return Err(TrainError::option(key, "1 or more", value));
            }
        }
        Ok(())
    }
}

/// Something that happened in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainEvent<'a> {
    /// Pictures of the data become tokens, before the run begins.
    Encoding {
        /// Rows done.
        completed: u64,
        /// All rows that are not in the cache.
        total: u64,
    },
    /// The data are ready, before the run begins.
    Data {
        /// What became of the rows.
        report: &'a DataReport,
    },
    /// The run goes on after so many steps; 0 for a new one.
    Started {
        /// Steps done.
        completed: u64,
        /// All steps.
        total: u64,
    },
    /// A step is done.
    Step {
        /// Steps done.
        completed: u64,
        /// All steps.
        total: u64,
        /// Its numbers.
        metrics: &'a Metrics,
    },
    /// An evaluation is done.
    Evaluation {
        /// Steps done.
        completed: u64,
        /// Its numbers.
        metrics: &'a Metrics,
    },
    /// A checkpoint is written.
    Saved {
        /// Its folder.
        dir: &'a Path,
    },
}

/// Trains until the last step, or until `watch` answers [`Flow::Stop`] to a step: then the state
/// is saved, and a resumed run goes on from there. Says how many steps are done.
///
/// # Errors
/// [`TrainError::Step`] with the step, the cause and the last good checkpoint; before the first
/// step, whatever keeps the run from starting.
pub fn run(
    trainee: &mut impl Trainee,
    folder: &RunFolder,
    options: &LoopOptions,
    watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
) -> Result<u64, TrainError> {
    options.validate()?;
    let mut kept = None;
    let mut completed = 0;
    if let Some(checkpoint) = folder.latest()? {
        trainee.load(&checkpoint)?;
        completed = checkpoint.step();
        kept = Some(checkpoint.dir().to_owned());
    }
    let mut log = MetricsLog::open(folder.root(), completed)?;
    let total = options.steps;
    watch(&TrainEvent::Started { completed, total });
    while completed < total {
        let step = completed;
        let mut turn = || {
            let metrics = trainee.step(step)?;
            let completed = step + 1;
            let flow = watch(&TrainEvent::Step { completed, total, metrics: &metrics });
            let is_due = |every: u64| completed.is_multiple_of(every);
            if is_due(options.log_every) || completed == total {
                log.write(completed, Kind::Train, &metrics)?;
            }
            if is_due(options.evaluate_every) || completed == total {
                let metrics = trainee.evaluate(completed)?;
                log.write(completed, Kind::Evaluation, &metrics)?;
                watch(&TrainEvent::Evaluation { completed, metrics: &metrics });
            }
            if is_due(options.checkpoint_every) || completed == total || flow == Flow::Stop {
                log.sync()?;
                let dir = folder.save(completed, options.keep, |to| trainee.save(to))?;
                watch(&TrainEvent::Saved { dir: &dir });
                kept = Some(dir);
            }
            Ok(flow)
        };
        let flow = turn();
        let flow =
            flow.map_err(|e| TrainError::Step { step, kept: kept.take(), source: Box::new(e) })?;
        completed += 1;
        if flow == Flow::Stop {
            break;
        }
    }
    Ok(completed)
}
