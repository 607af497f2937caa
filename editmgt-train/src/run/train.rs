use std::path::Path;

use editmgt_core::Flow;
use serde::{Deserialize, Serialize};

use super::metrics::{Kind, MetricsLog};
use super::{Checkpoint, CheckpointWriter, Metrics, RunFolder, TrainError};
use crate::data::DataReport;

/// What a run trains.
pub trait Trainee {
    /// One step, counted from 0. It may depend only on `step`, the config, and the state that
    /// [`save`](Self::save) saves.
    ///
    /// # Errors
    /// Any error; the run stops and its checkpoints remain.
    fn step(&mut self, step: u64) -> Result<Metrics, TrainError>;

    /// Measures the state after `step` steps, without changing it.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn evaluate(&self, step: u64) -> Result<Metrics, TrainError>;

    /// Saves everything that the next step reads.
    ///
    /// # Errors
    /// An I/O error.
    fn save(&self, to: &CheckpointWriter) -> Result<(), TrainError>;

    /// Loads the state written by [`save`](Self::save).
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another model.
    fn load(&mut self, from: &Checkpoint) -> Result<(), TrainError>;
}

/// Step count and logging, evaluation and checkpoint intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopOptions {
    /// Number of steps of the run.
    pub steps: u64,
    /// Logging interval in steps.
    pub log_every: u64,
    /// Evaluation interval in steps; also at the end.
    pub evaluate_every: u64,
    /// Checkpoint interval in steps; also at the end.
    pub checkpoint_every: u64,
    /// Number of the newest checkpoints to keep.
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

/// An event of a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainEvent<'a> {
    /// Images of the data are being encoded, before the run begins.
    Encoding {
        /// Rows done.
        completed: u64,
        /// All uncached rows.
        total: u64,
    },
    /// The data are ready, before the run begins.
    Data {
        /// Counts of used and skipped rows.
        report: &'a DataReport,
    },
    /// The run starts, or resumes after `step` steps.
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
        /// Its metrics.
        metrics: &'a Metrics,
    },
    /// An evaluation is done.
    Evaluation {
        /// Steps done.
        completed: u64,
        /// Its metrics.
        metrics: &'a Metrics,
    },
    /// A checkpoint is written.
    Saved {
        /// Its folder.
        dir: &'a Path,
    },
}

/// Trains to the last step, or until `watch` answers [`Flow::Stop`] to a step: then the state is
/// saved, from which a run can be resumed. Returns the number of steps done.
///
/// # Errors
/// [`TrainError::Step`] with the step, the cause and the last good checkpoint; any other error
/// before the first step.
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
            flow.map_err(|e| TrainError::Step { step, kept: kept.take(), cause: Box::new(e) })?;
        completed += 1;
        if flow == Flow::Stop {
            break;
        }
    }
    Ok(completed)
}
