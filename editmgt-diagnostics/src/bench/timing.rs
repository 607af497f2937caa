use std::time::Instant;

use burn::tensor::Device;
use editmgt_core::{Error, Result};
use serde::Serialize;

use super::{BenchRequest, BenchStage};
use crate::process;

/// Measurements of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTiming {
    /// The stage.
    pub stage: BenchStage,
    /// Description of its input.
    pub input: String,
    /// Seconds of each run, in order.
    pub seconds: Vec<f64>,
    /// Median of [`seconds`](Self::seconds); of an even number of runs the mean of the two middle
    /// ones.
    pub median_seconds: f64,
    /// The fastest run.
    pub min_seconds: f64,
    /// The slowest run.
    pub max_seconds: f64,
    /// Mean CPU seconds of a run over all cores, with a resolution of 10 ms over the number of
    /// runs; `None` if the system doesn't report it. On a GPU this covers only the host's work.
    pub cpu_seconds: Option<f64>,
    /// Floating point operations of a run, by the sizes of its matrix products and convolutions,
    /// two per multiply-add; `None` if there are none. Norms, activations and softmax are ignored.
    pub flops: Option<u64>,
    /// [`flops`](Self::flops) by the median, in 10⁹ per second.
    pub gflops_per_second: Option<f64>,
    /// Peak memory of the process during the stage, weights included, in bytes (host memory, not a
    /// GPU's); `None` if the system doesn't report it.
    pub peak_memory_bytes: Option<u64>,
    /// Seconds to create the weights.
    pub setup_seconds: f64,
    /// The plain reads of a file that the runs are compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
}

/// A plain read of a file before each run of a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// The length of the file.
    pub bytes: u64,
    /// Seconds of each read, in order.
    pub seconds: Vec<f64>,
    /// Median of [`seconds`](Self::seconds); of an even number the mean of the two middle ones.
    pub median_seconds: f64,
    /// The stage's median divided by this one.
    pub ratio: f64,
}

/// Callback for each finished stage.
pub(super) type Done<'a> = &'a mut dyn FnMut(StageTiming);

/// Description of a stage before it runs.
pub(super) struct Described {
    pub(super) stage: BenchStage,
    pub(super) input: String,
    pub(super) flops: Option<u64>,
    pub(super) setup_seconds: f64,
}

impl Described {
    /// Runs a stage the requested number of times.
    pub(super) fn measure<T>(
        self,
        request: &BenchRequest,
        run: impl FnMut() -> Result<T>,
    ) -> Result<StageTiming> {
        self.measure_after(request, || Ok(()), run)
    }

    /// As [`measure`](Self::measure), with unmeasured work before each run.
    pub(super) fn measure_after<T, E: From<Error>>(
        self,
        request: &BenchRequest,
        before: impl FnMut() -> Result<(), E>,
        run: impl FnMut() -> Result<T, E>,
    ) -> Result<StageTiming, E> {
        let BenchRequest { device, warmup, repeat, .. } = request;
        let Measured { seconds, spread, cpu_seconds, peak_memory_bytes } =
            measured_after(device, *warmup, *repeat, before, run)?;
        Ok(StageTiming {
            stage: self.stage,
            input: self.input,
            cpu_seconds,
            seconds,
            median_seconds: spread.median,
            min_seconds: spread.min,
            max_seconds: spread.max,
            flops: self.flops,
            gflops_per_second: self.flops.map(|flops| flops as f64 / spread.median / 1e9),
            peak_memory_bytes,
            setup_seconds: self.setup_seconds,
            reading: None,
        })
    }
}

/// Measurements of some runs.
pub(super) struct Measured {
    /// Seconds of each run, in order.
    pub(super) seconds: Vec<f64>,
    pub(super) spread: Spread,
    /// CPU seconds of all cores, the mean over the runs.
    pub(super) cpu_seconds: Option<f64>,
    /// Peak memory of the process, from the first measured run on.
    pub(super) peak_memory_bytes: Option<u64>,
}

/// Runs something `warmup` times, then `repeat` measured times, 1 or more. Results are dropped
/// after the clock has stopped.
pub(super) fn measured<T, E: From<Error>>(
    device: &Device,
    warmup: usize,
    repeat: usize,
    run: impl FnMut() -> Result<T, E>,
) -> Result<Measured, E> {
    measured_after(device, warmup, repeat, || Ok(()), run)
}

/// As [`measured`], with unmeasured work before each run.
fn measured_after<T, E: From<Error>>(
    device: &Device,
    warmup: usize,
    repeat: usize,
    mut before: impl FnMut() -> Result<(), E>,
    mut run: impl FnMut() -> Result<T, E>,
) -> Result<Measured, E> {
    for _ in 0..warmup {
        before()?;
        run()?;
        wait(device)?;
    }
    process::reset_peak_memory();
    let mut cpu = Some(0.0);
    let mut seconds = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        before()?;
        let (cpu_before, start) = (process::cpu_seconds(), Instant::now());
        let result = run()?;
        wait(device)?;
        seconds.push(start.elapsed().as_secs_f64());
        let spent = process::cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
        cpu = cpu.zip(spent).map(|(sum, spent)| sum + spent);
        drop(result);
    }
    Ok(Measured {
        spread: Spread::of(&seconds),
        seconds,
        cpu_seconds: cpu.map(|cpu| cpu / repeat as f64),
        peak_memory_bytes: process::peak_memory(),
    })
}

/// Waits for the device to finish all queued work: GPU calls are asynchronous.
pub(super) fn wait(device: &Device) -> Result<()> {
    device.sync().map_err(|error| Error::device("waiting for the device", error))
}

/// Median and extremes of some numbers.
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of one or more numbers.
    pub(super) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        let median = (sorted[last / 2] + sorted[sorted.len() / 2]) / 2.0;
        Self { median, min: sorted[0], max: sorted[last] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        for (values, median) in [
            (vec![7.0], 7.0),
            (vec![9.0, 1.0], 5.0),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 9.0, 1.0, 2.0], 3.0),
        ] {
            let spread = Spread::of(&values);
            assert_eq!(spread.median, median, "{values:?}");
            assert_eq!(spread.min, values.iter().copied().fold(f64::INFINITY, f64::min));
            assert_eq!(spread.max, values.iter().copied().fold(0.0, f64::max));
        }
    }
}
