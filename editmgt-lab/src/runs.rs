//! Options shared by the commands that measure.

use clap::Args;
use editmgt::{Device, DtypePolicy};

#[derive(Args)]
pub(crate) struct MeasureArgs {
    /// Number of measured runs
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) repeat: usize,
    /// Number of warm-up runs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) warmup: usize,
    /// Threads of the CPU backends [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Compute device: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32, f16 or bf16, for transformer and text; the codec runs in f32 [default: by the device]
    #[arg(long)]
    dtype: Option<String>,
}

impl MeasureArgs {
    /// Sets the number of threads for the whole process, and opens the device.
    pub(crate) fn open(&self) -> Result<(Device, DtypePolicy), Box<dyn std::error::Error>> {
        if let Some(threads) = self.threads {
            if threads == 0 {
                return Err("--threads: expected 1 or more, got 0".into());
            }
            // The CPU backends use rayon's global pool.
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        }
        let device = editmgt::open_device(&self.device)?;
        let dtype = self.dtype.as_deref().map(str::parse).transpose()?;
        let policy = DtypePolicy::choose(&device, dtype)?;
        Ok((device, policy))
    }
}
