//! `editmgt batch`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use editmgt::batch::{
    Batch, BatchEntry, BatchError, BatchFolder, BatchJob, JobStatus, RunAccess, Shard, read_jobs,
};
use editmgt_store::{FileRoles, StoreError};

use crate::Outcome;
use crate::limits::LimitArgs;
use crate::lock::LockArgs;
use crate::model::ComputeArgs;
use crate::progress::Progress;
use crate::pull_first::PullFirst;
use crate::stop::StopSignal;

#[derive(Args)]
pub(crate) struct BatchArgs {
    /// The jobs: a JSON object per line, with photo, instruction, optional mask, name and task (edit,
    /// inpaint or {"outpaint": {"left": 256}}), and options as in a report's `request`; paths are relative to the file's folder
    jobs: PathBuf,
    /// Output folder of the results and manifest.jsonl; created if needed
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    pull: PullFirst,
    /// Resume the batch in DIR: finished jobs are skipped
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    lock: LockArgs,
    /// Run every N-th job, from the I-th on; the shards of a batch can run concurrently, in one
    /// folder or in several
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Format of the results
    #[arg(long, default_value = "png", value_parser = ["png", "jpg", "webp", "bmp", "tiff"])]
    format: String,
    /// Don't write the record of the edit into PNGs
    #[arg(long)]
    no_record: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// No progress bar or progress lines
    #[arg(short, long)]
    quiet: bool,
}

impl BatchArgs {
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

/// Existing files are protected on the first run of a batch.
fn refuse_existing(args: &BatchArgs, jobs: &[BatchJob]) -> Result<(), String> {
    let results = jobs.iter().map(|job| args.result(job));
    match results.into_iter().find(|result| result.exists() && !is_folder_of_shards(args)) {
        Some(result) => Err(format!(
            "{}: this file is there before the batch, which would overwrite it; use another folder, \
             or --resume if an earlier run made it",
            result.display()
        )),
        None => Ok(()),
    }
}

/// Other shards may already have written results.
fn is_folder_of_shards(args: &BatchArgs) -> bool {
    args.shard.is_some_and(|shard| !shard.is_all())
}

pub(crate) fn run(args: BatchArgs) -> Outcome {
    // Everything that can be checked is checked before the model is loaded.
    let jobs = read_jobs(&args.jobs)?;
    let shard = args.shard.unwrap_or(Shard::ALL);
    if let Some(stopped) = args.pull.run(&args.compute, args.quiet)? {
        return Ok(stopped);
    }
    let builder = args.compute.builder()?;
    args.check_files(&jobs, shard)?;
    let access = RunAccess { resume: args.resume, locking: args.lock.locking() };
    let mut folder = BatchFolder::open(&args.out, shard, access)?;
    if !args.resume {
        refuse_existing(&args, &jobs)?;
    }

    let stop = StopSignal::on_ctrl_c()?;
    let mut progress = Progress::new(args.quiet, stop);
    progress.show_stage("loading model");
    let mut batch = Batch::new(builder.build()?, &mut folder)?;
    batch.extension = args.format;
    batch.limits = args.limits.limits();
    batch.record = !args.no_record;

    let (mut done, mut failed, mut before) = (0, 0, 0);
    for job in jobs.iter().filter(|job| job.is_in(shard)) {
        if batch.is_done(job) {
            before += 1;
            continue;
        }
        let start = Instant::now();
        let entry = batch.edit(job, &mut progress);
        progress.finish();
        for cut in batch.prompts_cut() {
            progress.note(&format!("{}: {cut}", job.name));
        }
        let entry = match entry {
            Err(BatchError::Stopped(stopped)) => {
                let what = format!("{}: {stopped}; resume it with --resume", job.name);
                return Ok(StopSignal::stopped(&what));
            }
            entry => entry?,
        };
        match entry.status {
            JobStatus::Done => done += 1,
            JobStatus::Failed => failed += 1,
        }
        tell(&entry, start);
    }
    let skipped = if args.resume { format!(", {before} done before") } else { String::new() };
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
