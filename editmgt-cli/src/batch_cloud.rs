//! `editmgt batch` with URLs.
//!
//! ```text
//! jobs ─► temporary file ─► read_jobs      photo, mask ─► temporary files ─► Batch::edit
//! OUT/manifest/NAME.json ─► done before?   result ─► OUT/NAME.png, then its entry ─► OUT/manifest/NAME.json
//! ```
//!
//! Each object is put whole: a killed run loses at most the current job, and another run does it
//! again.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use editmgt::ModelSource;
use editmgt::batch::{
    Batch, BatchEntry, BatchError, BatchFolder, BatchJob, JobStatus, RunAccess, Shard, read_jobs,
};
use editmgt_cloud::{Cloud, CloudError, Downloads, Location, is_url};
use serde_json::Value;

use crate::Outcome;
use crate::batch::{BatchArgs, run_jobs};
use crate::progress::Progress;
use crate::stop::StopSignal;

/// Longest file of jobs, and longest entry.
const JOBS_BYTES: u64 = 1 << 30;
const ENTRY_BYTES: u64 = 16 << 20;
/// Folder of the entries beside the results.
const ENTRIES: &str = "manifest";

/// A job and where its files are.
struct Placed {
    job: BatchJob,
    photo: Location,
    mask: Option<Location>,
}

fn location(path: &Path) -> Result<Location, CloudError> {
    match path.to_str() {
        Some(text) => Location::parse(text),
        None => Ok(Location::Local(path.to_owned())),
    }
}

/// Reads the jobs, and finds where their files are.
fn placed_jobs(
    cloud: &Cloud,
    downloads: &mut Downloads,
    given: &Path,
) -> Result<Vec<Placed>, Box<dyn Error>> {
    let from = location(given)?;
    let file = match &from {
        Location::Local(path) => path.clone(),
        _ => {
            let file = downloads.folder().join("jobs.jsonl");
            cloud.download(&from, &file, JOBS_BYTES)?;
            file
        }
    };
    // By the name that the file was given by.
    let jobs = read_jobs(&file).map_err(|error| match error {
        BatchError::Lines { lines, .. } => BatchError::Lines { path: given.to_owned(), lines },
        BatchError::NoJobs { .. } => BatchError::NoJobs { path: given.to_owned() },
        error => error,
    })?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let base = from.parent();
    let place = |path: &Path| match (path.to_str(), &from) {
        (Some(text), _) if is_url(text) => Location::parse(text),
        (Some(_), Location::Object { .. }) => match path.strip_prefix(folder) {
            // Of a file of jobs in a store: relative to that.
            Ok(inside) => base.join(&inside.to_string_lossy().replace('\\', "/")),
            Err(_absolute) => Ok(Location::Local(path.to_owned())),
        },
        _ => Ok(Location::Local(path.to_owned())),
    };
    let placed = |job: BatchJob| -> Result<Placed, Box<dyn Error>> {
        let at = |error: CloudError| format!("{}: line {}: {error}", given.display(), job.line);
        let photo = place(&job.photo).map_err(at)?;
        let mask = job.mask.as_deref().map(place).transpose().map_err(at)?;
        Ok(Placed { photo, mask, job })
    };
    jobs.into_iter().map(placed).collect()
}

/// Results in a folder of a store.
struct Results {
    folder: Location,
    extension: String,
    /// Length of each object in the folder.
    objects: HashMap<String, u64>,
    /// Of this shard's jobs, by name.
    entries: HashMap<String, BatchEntry>,
}

impl Results {
    fn result(&self, job: &BatchJob) -> String {
        format!("{}.{}", job.name, self.extension)
    }

    fn entry(job: &str) -> String {
        format!("{ENTRIES}/{job}.json")
    }

    /// Looks at what is there.
    fn open(
        cloud: &Cloud,
        folder: Location,
        args: &BatchArgs,
        jobs: &[&Placed],
    ) -> Result<Self, Box<dyn Error>> {
        let objects = cloud.list(&folder)?;
        let objects = objects.into_iter().map(|object| (object.name, object.bytes)).collect();
        let (extension, entries) = (args.format.clone(), HashMap::new());
        let mut results = Self { folder, extension, objects, entries };
        let names = jobs.iter().map(|placed| Self::entry(&placed.job.name));
        let names: Vec<_> = names.filter(|name| results.objects.contains_key(name)).collect();
        let locations =
            names.iter().map(|name| results.folder.join(name)).collect::<Result<Vec<_>, _>>()?;
        if !args.resume {
            let own = jobs.iter().map(|placed| results.result(&placed.job));
            let there = own.into_iter().find(|name| results.objects.contains_key(name));
            if let Some(name) = there.or(names.into_iter().next()) {
                let object = results.folder.join(&name)?;
                return Err(format!(
                    "{object}: this object is there before the batch, which would overwrite it; use another folder, or \
                     --resume if an earlier run made it"
                )
                .into());
            }
            return Ok(results);
        }
        for (bytes, location) in cloud.get_all(&locations, ENTRY_BYTES)?.into_iter().zip(&locations)
        {
            let Some(bytes) = bytes else { continue };
            let entry: BatchEntry = serde_json::from_slice(&bytes)
                .map_err(|error| format!("{location}: expected an entry of a batch: {error}"))?;
            results.entries.insert(entry.name.clone(), entry);
        }
        Ok(results)
    }

    /// Whether a job was done, and its result is there in its length.
    fn is_done(&self, job: &BatchJob) -> bool {
        let Some(entry) = self.entries.get(&job.name) else { return false };
        let output = entry.output.as_ref().and_then(|output| self.objects.get(output));
        entry.status == JobStatus::Done
            && entry.sha256 == job.sha256
            && output.is_some()
            && output.copied() == entry.output_bytes
    }

    /// Checks that the existing results were made by this model.
    fn check_model(&self, model: Option<&ModelSource>, jobs: &[&Placed]) -> Result<(), BatchError> {
        let named = |model: Option<&ModelSource>| {
            model.map_or_else(|| "a model of custom parts".to_owned(), ToString::to_string)
        };
        for placed in jobs.iter().filter(|placed| self.is_done(&placed.job)) {
            let entry = &self.entries[&placed.job.name];
            let report = entry.report.as_ref().map(|report| report["model"].clone());
            let before =
                report.and_then(|model: Value| serde_json::from_value::<ModelSource>(model).ok());
            let same = match (&before, model) {
                (Some(before), Some(model)) => before.is_same(model),
                (before, model) => before.is_none() && model.is_none(),
            };
            if !same {
                return Err(BatchError::OtherModel {
                    manifest: PathBuf::from(format!(
                        "{}/{}",
                        self.folder,
                        Self::entry(&entry.name)
                    )),
                    job: entry.name.clone(),
                    made_with: named(before.as_ref()),
                    got: named(model),
                });
            }
        }
        Ok(())
    }

    /// Puts a result, then its entry: an entry never names a result that is not there.
    fn put(&self, cloud: &Cloud, entry: &BatchEntry, from: &Path) -> Result<(), Box<dyn Error>> {
        if let Some(output) = &entry.output {
            let file = from.join(output);
            let bytes =
                std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            cloud.put(&self.folder.join(output)?, bytes, true)?;
            // In the store now.
            std::fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        let entry_json = serde_json::to_vec_pretty(entry)?;
        Ok(cloud.put(&self.folder.join(&Self::entry(&entry.name))?, entry_json, true)?)
    }
}

/// Checks that no result replaces a photo or a mask.
fn check_roles(jobs: &[Placed], folder: &Location, extension: &str) -> Result<(), Box<dyn Error>> {
    let mut inputs = HashMap::new();
    for placed in jobs {
        inputs.insert(&placed.photo, &placed.job.name);
        inputs.extend(placed.mask.as_ref().map(|mask| (mask, &placed.job.name)));
    }
    for placed in jobs {
        let result = folder.join(&format!("{}.{extension}", placed.job.name))?;
        if let Some(of) = inputs.get(&result) {
            let name = &placed.job.name;
            return Err(format!(
                "{result}: the result of {name} would replace an image of {of}; use another folder"
            )
            .into());
        }
    }
    Ok(())
}

/// The job with the files that were downloaded for it.
fn fetched(
    cloud: &Cloud,
    downloads: &mut Downloads,
    placed: &Placed,
) -> Result<BatchJob, CloudError> {
    // The last photo may be that of the next job.
    let needed: Vec<_> = std::iter::once(&placed.photo).chain(&placed.mask).collect();
    downloads.keep_only(&needed);
    let mut job = placed.job.clone();
    job.photo = downloads.fetch(cloud, &placed.photo)?;
    job.mask = placed.mask.as_ref().map(|mask| downloads.fetch(cloud, mask)).transpose()?;
    Ok(job)
}

/// A failure by the names that the user gave.
fn renamed(entry: &mut BatchEntry, placed: &Placed, job: &BatchJob) {
    let Some(error) = &mut entry.error else { return };
    let files =
        [(Some(&job.photo), Some(&placed.photo)), (job.mask.as_ref(), placed.mask.as_ref())];
    for (file, location) in files {
        if let (Some(file), Some(location)) = (file, location) {
            *error = error.replace(&file.display().to_string(), &location.to_string());
        }
    }
}

pub(crate) fn run(args: BatchArgs, shard: Shard) -> Outcome {
    // Everything that can be checked is checked before the model is loaded.
    let cloud = Cloud::from_env()?;
    let mut downloads = Downloads::new(args.limits.limits().max_bytes)?;
    let all = placed_jobs(&cloud, &mut downloads, &args.jobs)?;
    let out = location(&args.out)?;
    check_roles(&all, &out, &args.format)?;
    let jobs: Vec<&Placed> = all.iter().filter(|placed| placed.job.is_in(shard)).collect();
    let builder = args.compute.builder()?;
    let results = match &out {
        Location::Local(_) => None,
        _ => Some(Results::open(&cloud, out.clone(), &args, &jobs)?),
    };
    let mut folder = match &out {
        Location::Local(path) => {
            let access = RunAccess { resume: args.resume, locking: args.lock.locking() };
            BatchFolder::open(path, shard, access)?
        }
        // Of this process only.
        _ => BatchFolder::open(downloads.folder().join("results"), Shard::ALL, true)?,
    };
    if let (Location::Local(path), false) = (&out, args.resume || !shard.is_all()) {
        let own =
            jobs.iter().map(|placed| path.join(format!("{}.{}", placed.job.name, args.format)));
        if let Some(there) = own.into_iter().find(|path| path.exists()) {
            let there = there.display();
            return Err(format!(
                "{there}: this file is there before the batch, which would overwrite it; use another folder, or --resume \
                 if an earlier run made it"
            )
            .into());
        }
    }

    let stop = StopSignal::on_ctrl_c()?;
    let mut progress = Progress::new(args.quiet, stop);
    progress.show_stage("loading model");
    let editor = builder.build()?;
    if let Some(results) = &results {
        results.check_model(editor.model().source.as_ref(), &jobs)?;
    }
    let made = folder.dir().to_owned();
    let mut batch = Batch::new(editor, &mut folder)?;
    batch.extension = args.format;
    batch.limits = args.limits.limits();
    batch.record = !args.no_record;
    let places: HashMap<&str, &Placed> =
        jobs.iter().map(|placed| (&*placed.job.name, *placed)).collect();
    let own = jobs.iter().map(|placed| &placed.job);
    run_jobs(&mut batch, own, args.resume, &mut progress, |batch, job, progress| {
        let is_done =
            results.as_ref().map_or_else(|| batch.is_done(job), |results| results.is_done(job));
        if is_done {
            return Ok(None);
        }
        let placed = places[&*job.name];
        let entry = match fetched(&cloud, &mut downloads, placed) {
            Ok(job) => {
                let mut entry = batch.edit(&job, progress)?;
                renamed(&mut entry, placed, &job);
                entry
            }
            Err(error) => batch.fail(job, error.to_string())?,
        };
        if let Some(results) = &results {
            progress.show_stage("uploading result");
            results.put(&cloud, &entry, &made)?;
        }
        Ok(Some(entry))
    })
}
