//! `editmgt batch`.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use clap::Args;
use editmgt::batch::{
    Batch, BatchEntry, BatchError, BatchFolder, BatchJob, JobStatus, RunAccess, Shard, read_jobs,
};
use editmgt_store::{FileRoles, ShardError, StoreError};

use crate::Outcome;
use crate::limits::LimitArgs;
use crate::lock::LockArgs;
use crate::model::ComputeArgs;
use crate::progress::Progress;
use crate::pull_first::PullFirst;
use crate::stop::StopSignal;

#[derive(Args)]
pub(crate) struct BatchArgs {
    /// The jobs: a JSON object per line, with photo, instruction, optional mask, name and task
    /// (edit, inpaint or {"outpaint": {"left": 256}}), and options as in a report's `request`;
    /// paths are relative to the file's folder. With the feature `cloud`, all may be URLs: s3://,
    /// gs://, http(s)://, file://
    pub(crate) jobs: PathBuf,
    /// Output folder of the results and manifest.jsonl; created if needed
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    #[command(flatten)]
    pub(crate) pull: PullFirst,
    /// Resume the batch in DIR: finished jobs are skipped
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
    /// Run every N-th job, from the I-th on; the shards of a batch can run concurrently, in one
    /// folder or in several. auto takes the task of a Slurm array job or a Kubernetes Indexed Job
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArg>,
    /// Format of the results
    #[arg(long, default_value = "png", value_parser = ["png", "jpg", "webp", "bmp", "tiff"])]
    pub(crate) format: String,
    /// Don't write the record of the edit into PNGs
    #[arg(long)]
    pub(crate) no_record: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// No progress bar or progress lines
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Which shard is run.
#[derive(Clone, Copy)]
enum ShardArg {
    /// By the variables of a scheduler.
    Auto,
    Given(Shard),
}

impl FromStr for ShardArg {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Given) }
    }
}

impl BatchArgs {
    fn shard(&self) -> Result<Shard, String> {
        match self.shard {
            None => Ok(Shard::ALL),
            Some(ShardArg::Given(shard)) => Ok(shard),
            Some(ShardArg::Auto) => Shard::of_array_task(|name| std::env::var(name).ok())
                .map_err(|error| format!("--shard auto: {error}")),
        }
    }

    fn result(&self, job: &BatchJob) -> PathBuf {
        self.out.join(format!("{}.{}", job.name, self.format))
    }

    /// Checks that no output of any job of any shard is an input or another output.
    fn check_files(&self, jobs: &[BatchJob], shard: Shard) -> Result<(), StoreError> {
        let mut roles = FileRoles::default();
        roles.input("file of jobs", &self.jobs);
        self.compute.declare(&mut roles);
        for job in jobs {
            roles.input(format!("photo of {}", job.name), &job.photo);
            if let Some(mask) = &job.mask {
                roles.input(format!("mask of {}", job.name), mask);
            }
        }
        for own in BatchFolder::own_files(&self.out, shard) {
            roles.output("batch's own files", own)?;
        }
        jobs.iter().try_for_each(|job| roles.output(&*job.name, self.result(job)))
    }
}

/// Whether a path is a URL.
fn is_url(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains("://"))
}

#[cfg(not(feature = "cloud"))]
fn needs_cloud(url: &Path) -> String {
    format!(
        "{}: expected a path: URLs need a build with the feature `cloud` (cargo install editmgt-cli --features cloud)",
        url.display()
    )
}

/// Existing files are protected on the first run of a batch.
fn refuse_existing(args: &BatchArgs, jobs: &[BatchJob], shard: Shard) -> Result<(), String> {
    // Other shards may already have written results.
    let is_of_shards = !shard.is_all();
    let mut results = jobs.iter().map(|job| args.result(job));
    match results.find(|result| result.exists() && !is_of_shards) {
        Some(result) => Err(format!(
            "{}: this file is there before the batch, which would overwrite it; use another folder, \
             or --resume if an earlier run made it",
            result.display()
        )),
        None => Ok(()),
    }
}

pub(crate) fn run(args: BatchArgs) -> Outcome {
    // Everything that can be checked is checked before the model is loaded.
    let shard = args.shard()?;
    #[cfg(feature = "cloud")]
    if is_url(&args.jobs) || is_url(&args.out) {
        return crate::batch_cloud::run(args, shard);
    }
    #[cfg(not(feature = "cloud"))]
    if let Some(url) = [&args.jobs, &args.out].into_iter().find(|path| is_url(path)) {
        return Err(needs_cloud(url).into());
    }
    let jobs = read_jobs(&args.jobs)?;
    let mut places = jobs.iter().flat_map(|job| [Some(&job.photo), job.mask.as_ref()]).flatten();
    if let Some(_url) = places.find(|path| is_url(path)) {
        #[cfg(feature = "cloud")]
        return crate::batch_cloud::run(args, shard);
        #[cfg(not(feature = "cloud"))]
        return Err(needs_cloud(_url).into());
    }
    if let Some(stopped) = args.pull.run(&args.compute, args.quiet)? {
        return Ok(stopped);
    }
    let builder = args.compute.builder()?;
    args.check_files(&jobs, shard)?;
    let access = RunAccess { resume: args.resume, locking: args.lock.locking() };
    let mut folder = BatchFolder::open(&args.out, shard, access)?;
    if !args.resume {
        refuse_existing(&args, &jobs, shard)?;
    }

    let stop = StopSignal::on_ctrl_c()?;
    let mut progress = Progress::new(args.quiet, stop);
    progress.show_stage("loading model");
    let mut batch = Batch::new(builder.build()?, &mut folder)?;
    batch.extension = args.format;
    batch.limits = args.limits.limits();
    batch.record = !args.no_record;

    let own = jobs.iter().filter(|job| job.is_in(shard));
    run_jobs(&mut batch, own, args.resume, &mut progress, |batch, job, progress| {
        if batch.is_done(job) { Ok(None) } else { Ok(Some(batch.edit(job, progress)?)) }
    })
}

/// Runs jobs one after the other. `edit` gives the entry of a job, or `None` if it was done before.
pub(crate) fn run_jobs<'j, 'b>(
    batch: &mut Batch<'b>,
    jobs: impl Iterator<Item = &'j BatchJob>,
    resume: bool,
    progress: &mut Progress,
    mut edit: impl FnMut(
        &mut Batch<'b>,
        &BatchJob,
        &mut Progress,
    ) -> Result<Option<BatchEntry>, Box<dyn Error>>,
) -> Outcome {
    let (mut done, mut failed, mut before) = (0, 0, 0);
    for job in jobs {
        let start = Instant::now();
        let entry = edit(batch, job, progress);
        progress.finish();
        for cut in batch.prompts_cut() {
            progress.note(&format!("{}: {cut}", job.name));
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => match error.downcast::<BatchError>().map(|error| *error) {
                Ok(BatchError::Stopped(stopped)) => {
                    let what = format!("{}: {stopped}; resume it with --resume", job.name);
                    return Ok(StopSignal::stopped(&what));
                }
                Ok(error) => return Err(error.into()),
                Err(error) => return Err(error),
            },
        };
        let Some(entry) = entry else {
            before += 1;
            continue;
        };
        match entry.status {
            JobStatus::Done => done += 1,
            JobStatus::Failed => failed += 1,
        }
        tell(&entry, start);
    }
    let skipped = if resume { format!(", {before} done before") } else { String::new() };
    let _unread = writeln!(std::io::stdout(), "{done} done, {failed} failed{skipped}");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The results are written; a closed pipe is not an error.
fn tell(entry: &BatchEntry, start: Instant) {
    let mut out = std::io::stdout();
    let _unread = match (&entry.output, &entry.error) {
        (Some(output), _) => writeln!(out, "{output}: {:.1} s", start.elapsed().as_secs_f64()),
        (_, error) => {
            let error = error.as_deref().unwrap_or_default().replace(['\n', '\r'], " ");
            writeln!(out, "{}: failed: {error}", entry.name)
        }
    };
}
