use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{Mutator, Target};

/// Most memory of the process, bytes.
const MAX_MEMORY: u64 = 1 << 30;
/// How often time and memory are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Longest time of one input.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much to run, and where failures go.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Seed of the mutations.
    pub seed: u64,
    /// The first mutation.
    pub first: u64,
    /// Number of mutations, beside the corpus.
    pub inputs: u64,
    /// Ends the run earlier.
    pub time: Option<Duration>,
    /// Gets each failing input as `TARGET-INDEX`.
    pub crashes: PathBuf,
    /// Writes every input to `crashes` before it is executed: for a process that aborts.
    pub keep_each: bool,
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Inputs executed, corpus included.
    pub inputs: u64,
    /// The slowest input, seconds.
    pub slowest: f64,
    /// Seconds in all.
    pub seconds: f64,
}

/// An input that a target panicked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The target.
    pub target: &'static str,
    /// Where the input was stored.
    pub path: PathBuf,
    /// Message of the panic.
    pub message: String,
}

/// The committed seeds of a target, in the order of their names; for a format of photos, the files
/// of the decoders' corpus, too.
///
/// # Errors
/// What the system refuses; a folder that is missing.
pub fn corpus(target: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = |dir: PathBuf| -> std::io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(dir)?;
        let mut paths =
            entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    let mut paths = files(root.join("corpus").join(target))?;
    if let Some(format) = target.strip_prefix("photo_") {
        let photos = files(root.join("../editmgt/testdata/corpus"))?;
        let extensions = match format {
            "jpeg" => &["jpg", "jpeg"][..],
            "tiff" => &["tif", "tiff"],
            _ => &[format],
        };
        paths.extend(photos.into_iter().filter(|path| {
            let extension = path.extension().and_then(std::ffi::OsStr::to_str);
            extension.is_some_and(|extension| extensions.contains(&extension))
        }));
    }
    paths.iter().map(std::fs::read).collect()
}

/// The input in progress, for the watchdog.
struct Current {
    name: String,
    input: Vec<u8>,
    since: Instant,
}

/// Executes the corpus of a target, then mutations of it.
///
/// A watchdog stores the input and ends the process with status 3 when an input takes longer than
/// 2 s or the process has more than 1 GiB (Linux).
///
/// # Errors
/// [`Failure`] for the first input that panics.
///
/// # Panics
/// When the crash folder can't be written.
pub fn run(target: &Target, seeds: &[Vec<u8>], options: &RunOptions) -> Result<Summary, Failure> {
    let current = Arc::new(Mutex::new(None::<Current>));
    let crashes = options.crashes.clone();
    let watched = Arc::downgrade(&current);
    let watchdog = std::thread::spawn(move || {
        while let Some(current) = watched.upgrade() {
            if let Some(current) = current.lock().expect("no panic under the lock").as_ref() {
                let memory = resident();
                if current.since.elapsed() > PATIENCE || memory > Some(MAX_MEMORY) {
                    let path = store(&crashes, &current.name, &current.input);
                    let seconds = current.since.elapsed().as_secs_f64();
                    eprintln!("{}: {seconds:.2} s, {memory:?} bytes resident", path.display());
                    std::process::exit(3);
                }
            }
            drop(current);
            std::thread::sleep(LOOK);
        }
    });
    let started = Instant::now();
    let mutator = Mutator::new(seeds, target.form, options.seed);
    let mut summary = Summary { inputs: 0, slowest: 0.0, seconds: 0.0 };
    let mutations = (options.first..options.first.saturating_add(options.inputs))
        .map(|index| (format!("{}-{index}", target.name), mutator.input(index)));
    let known = seeds.iter().enumerate();
    let known = known.map(|(i, seed)| (format!("{}-corpus-{i}", target.name), seed.clone()));
    let mut failure = None;
    for (name, input) in known.chain(mutations) {
        if options.keep_each {
            store(&options.crashes, target.name, &input);
        }
        let since = Instant::now();
        let state = Current { name: name.clone(), input: input.clone(), since };
        *current.lock().expect("no panic under the lock") = Some(state);
        let result = catch_unwind(AssertUnwindSafe(|| (target.body)(&input)));
        *current.lock().expect("no panic under the lock") = None;
        summary.inputs += 1;
        summary.slowest = summary.slowest.max(since.elapsed().as_secs_f64());
        if let Err(panic) = result {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let path = store(&options.crashes, &name, &input);
            let message = message.unwrap_or_default();
            failure = Some(Failure { target: target.name, path, message });
            break;
        }
        if options.time.is_some_and(|time| started.elapsed() >= time) {
            break;
        }
    }
    drop(current);
    watchdog.join().expect("the watchdog doesn't panic");
    summary.seconds = started.elapsed().as_secs_f64();
    failure.map_or(Ok(summary), Err)
}

fn store(dir: &Path, name: &str, input: &[u8]) -> PathBuf {
    std::fs::create_dir_all(dir).expect("the crash folder can be made");
    let path = dir.join(name);
    std::fs::write(&path, input).expect("the crash folder can be written");
    path
}

/// Memory that the process holds now, bytes, where the system says so (Linux).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
