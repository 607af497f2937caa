//! Options shared by the commands that measure.

#[cfg(feature = "train")]
use std::path::{Path, PathBuf};

use clap::Args;
use editmgt::{Device, DtypePolicy};
#[cfg(feature = "train")]
use editmgt_store::FileRoles;

#[cfg(feature = "train")]
use crate::files;
use crate::model::PrecisionArgs;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Args)]
pub(crate) struct MeasureArgs {
    /// Number of measured runs
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) repeat: usize,
    /// Number of warm-up runs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) warmup: usize,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

impl MeasureArgs {
    /// Sets the number of threads for the whole process, and opens the device.
    pub(crate) fn open(&self) -> Fallible<(Device, DtypePolicy)> {
        let device = self.compute.open()?;
        let policy = self.precision.policy(&device)?;
        Ok((device, policy))
    }
}

#[derive(Args)]
pub(crate) struct ComputeArgs {
    /// Threads of the CPU backends [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Compute device: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl ComputeArgs {
    /// Sets the number of threads for the whole process, and opens the device.
    pub(crate) fn open(&self) -> Fallible<Device> {
        if let Some(threads) = self.threads {
            if threads == 0 {
                return Err("--threads: expected 1 or more, got 0".into());
            }
            // The CPU backends use rayon's global pool.
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        }
        Ok(editmgt::open_device(&self.device)?)
    }
}

/// The files of an output prefix: a table, OUT.csv, and a plot, OUT.svg. They must be writable, and
/// none of the files that the command reads.
#[cfg(feature = "train")]
pub(crate) fn table_and_plot(prefix: &Path, read: FileRoles) -> Fallible<(PathBuf, PathBuf)> {
    let file = |extension: &str| {
        let mut name = prefix.as_os_str().to_owned();
        name.push(extension);
        PathBuf::from(name)
    };
    let (csv, svg) = (file(".csv"), file(".svg"));
    files::check_outputs(read, [("table", Some(&*csv)), ("plot", Some(&*svg))])?;
    Ok((csv, svg))
}
