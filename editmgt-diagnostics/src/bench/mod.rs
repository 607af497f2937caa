//! Time and memory of each stage of an edit: with random weights in the sizes of a preset, made in
//! memory, one component at a time; only the loading stage writes files. Also the cost of whole
//! edits of a model by load, [`edit_cost`], and the time of an edit's steps by step plan,
//! [`plan_times`].
//!
//! Absolute times vary on a busy machine: compare two alternating runs, preferably by [CPU
//! time](StageTiming::cpu_seconds).

mod cost;
mod flops;
mod inputs;
mod load;
mod plans;
mod stage;
mod stages;
mod timing;

use std::path::PathBuf;

use burn::tensor::Device;
use editmgt::{EditError, ModelError};
use editmgt_backends::DtypePolicy;
use serde::Serialize;

use crate::init::{Configs, Preset};

pub use cost::{EditCost, EditLoad, edit_cost};
pub use plans::{PlanTime, PlansRequest, plan_times};
pub use stage::BenchStage;
pub use timing::{Reading, StageTiming};

/// Request of a bench.
#[derive(Debug, Clone)]
pub struct BenchRequest {
    /// The sizes of the model.
    pub preset: Preset,
    /// Both sides of the image, a positive multiple of 32.
    pub size: usize,
    /// The stages. Order and repetitions are ignored: stages that share a component run together.
    pub stages: Vec<BenchStage>,
    /// Warm-up runs of each stage.
    pub warmup: usize,
    /// Measured runs of each stage, 1 or more.
    pub repeat: usize,
    /// The device.
    pub device: Device,
    /// The precision of each component.
    pub dtype: DtypePolicy,
    /// The folder of the temporary files of [`BenchStage::Load`], 4 GB with [`Preset::Full`]; they
    /// are removed afterwards.
    pub scratch: PathBuf,
}

impl BenchRequest {
    /// The default image side of a preset: 1024 for [`Preset::Full`].
    pub fn default_size(preset: Preset) -> usize {
        match preset {
            Preset::Full => 1024,
            Preset::Tiny | Preset::MeissonicTiny | Preset::AmusedTiny => 128,
        }
    }

    fn check(&self) -> Result<(), EditError> {
        if self.preset == Preset::AmusedTiny {
            return Err(EditError::option("preset", "full or tiny", self.preset));
        }
        Self::check_size(self.size)?;
        if self.repeat == 0 {
            return Err(EditError::option("repeat", "1 or more", self.repeat));
        }
        if self.stages.is_empty() {
            return Err(EditError::option("stages", BenchStage::names(), "none"));
        }
        Ok(())
    }

    fn check_size(size: usize) -> Result<(), EditError> {
        if size == 0 || !size.is_multiple_of(PIXELS_PER_CELL) || size > MAX_SIZE {
            let expected = format!("a multiple of {PIXELS_PER_CELL} up to {MAX_SIZE}");
            return Err(EditError::option("size", expected, size));
        }
        Ok(())
    }
}

/// Granularity of the image sides: the codec's 16 pixels per token times the 2 tokens per cell of
/// the transformer, in every preset.
const PIXELS_PER_CELL: usize = 32;

/// Attention grows with the fourth power of the side.
const MAX_SIZE: usize = 4096;

/// Results of a bench.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// The program's version.
    pub version: &'static str,
    /// The sizes of the model.
    #[serde(serialize_with = "as_text")]
    pub preset: Preset,
    /// Both sides of the image, pixels.
    pub size: usize,
    /// The device.
    pub device: String,
    /// The precision of each component.
    pub dtype: DtypePolicy,
    /// The stages, in the order of measurement.
    pub stages: Vec<StageTiming>,
}

fn as_text<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Measures, and passes each stage to `done` when it is finished.
///
/// Weights exist only while the stages of their component run: the largest component of
/// [`Preset::Full`] is Gemma2, with 10 GB in f32.
///
/// # Errors
/// [`EditError::Option`] for an invalid request, [`EditError::Stage`] when a stage fails,
/// [`EditError::Model`] when the files of [`BenchStage::Load`] cannot be written or read.
pub fn bench(
    request: &BenchRequest,
    mut done: impl FnMut(&StageTiming),
) -> Result<BenchReport, EditError> {
    request.check()?;
    let mut stages = Vec::new();
    let configs = Configs::of(request.preset);
    stages::run(request, &configs, &mut |timing| {
        done(&timing);
        stages.push(timing);
    })?;
    Ok(BenchReport {
        version: env!("CARGO_PKG_VERSION"),
        preset: request.preset,
        size: request.size,
        device: format!("{:?}", request.device),
        dtype: request.dtype,
        stages,
    })
}

/// An error in a preset's config, which has no file.
fn config_error(component: &str) -> impl FnOnce(editmgt_core::config::ConfigError) -> ModelError {
    let path = PathBuf::from(component).join("config.json");
    move |cause| ModelError::Config { path, cause }
}

#[cfg(test)]
mod tests;
