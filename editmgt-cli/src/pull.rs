//! `editmgt pull`.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use editmgt::hub::{
    Hub, HubError, HubSettings, PullEvent, PullObserver, PullPlan, PullReport, PullRequest,
    RepositoryPlan,
};
use editmgt::{ModelError, ModelFolder};
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use crate::Outcome;
use crate::stop::StopSignal;

#[derive(Args)]
pub(crate) struct PullArgs {
    /// A repository on the Hugging Face hub (ORG/NAME), or an alias that `editmgt models` lists;
    /// @REVISION may follow
    #[arg(value_name = "NAME")]
    name: String,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Which weights to download where there are several: fp16 for *.fp16.safetensors [default:
    /// those without a variant in their names]
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Only these parts: transformer, vqvae, text_encoder, tokenizer, llm_encoder, scheduler, or
    /// their folders
    #[arg(long, value_name = "PART,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Ask the hub for a newer commit even if the cache has all files of the known one
    #[arg(long)]
    refresh: bool,
    /// List the files that would be downloaded
    #[arg(long)]
    dry_run: bool,
    /// No progress bars or progress lines
    #[arg(short, long)]
    quiet: bool,
}

impl PullArgs {
    fn request(&self) -> PullRequest {
        let mut request = PullRequest::new(&self.name).only(&self.only).refresh(self.refresh);
        if let Some(revision) = &self.revision {
            request = request.revision(revision);
        }
        match &self.variant {
            Some(variant) => request.variant(variant),
            None => request,
        }
    }
}

pub(crate) fn run(args: PullArgs) -> Outcome {
    let hub = Hub::new(HubSettings::from_env()?);
    let mut out = io::stdout();
    if args.dry_run {
        let plan = hub.plan(&args.request())?;
        note_licences(&plan);
        write_plan(&mut out, &plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    if Path::new(&args.name).is_dir() {
        eprintln!("note: {0} is a folder here, too: --model {0} means the folder", args.name);
    }
    let report = match fetch(&args.request(), args.quiet)? {
        Ok(report) => report,
        Err(stopped) => return Ok(stopped),
    };
    let downloaded = match report.downloaded_bytes {
        0 => "nothing to download".to_owned(),
        bytes => format!("{} downloaded", size(bytes)),
    };
    // The model is there; a closed pipe is not an error.
    let _unread = writeln!(out, "{}: {downloaded}", args.name);
    for repository in &report.plan.repositories {
        let _unread = writeln!(out, "{}", repository.snapshot.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Downloads a model with the settings of the environment; the exit status if it was stopped.
pub(crate) fn fetch(
    request: &PullRequest,
    quiet: bool,
) -> Result<Result<PullReport, ExitCode>, Box<dyn Error>> {
    let hub = Hub::new(HubSettings::from_env()?);
    let mut show = Show::new(quiet, StopSignal::on_ctrl_c()?);
    let report = hub.pull(request, &mut show);
    show.clear();
    match report {
        Err(HubError::Stopped) => match show.refusal {
            Some(refusal) => Err(refusal.into()),
            None => Ok(Err(StopSignal::stopped(&HubError::Stopped.to_string()))),
        },
        report => Ok(Ok(report?)),
    }
}

/// Decimal units, as the hub's pages have them.
pub(crate) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        bytes if bytes >= 1e9 => format!("{:.2} GB", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes if bytes >= 1e3 => format!("{:.1} kB", bytes / 1e3),
        bytes => format!("{bytes} B"),
    }
}

/// Licences are printed before the first download of a repository, even if `quiet`.
fn note_licences(plan: &PullPlan) {
    for RepositoryPlan { repository, licence, is_gated, .. } in
        plan.repositories.iter().filter(|repository| repository.is_first)
    {
        let known = plan.known.filter(|known| known.repository == *repository);
        let licence = licence.as_deref().or(known.map(|known| known.licence));
        let licence = licence.unwrap_or("stated on its page");
        eprintln!("note: licence of {repository}: {licence}");
        if let Some(more) = known.and_then(|known| known.licence_note) {
            eprintln!("note: {more}");
        }
        if *is_gated {
            eprintln!("note: {repository} is gated: its terms must be accepted on its page first");
        }
    }
}

fn write_plan(out: &mut impl Write, plan: &PullPlan) -> io::Result<()> {
    for repository in &plan.repositories {
        let RepositoryPlan { repository, revision, commit, files, .. } = repository;
        writeln!(out, "{repository} at {revision} ({commit:.12})")?;
        for file in files {
            let state = match file.cached {
                cached if cached == file.bytes => "in the cache".to_owned(),
                0 => String::new(),
                cached => format!("{} in the cache", size(cached)),
            };
            let row = format!("  {:>10}  {:60} {state}", size(file.bytes), file.path);
            writeln!(out, "{}", row.trim_end())?;
        }
    }
    let (missing, total) = (size(plan.missing_bytes()), size(plan.total_bytes()));
    writeln!(out, "{} files to download, {missing} of {total}", plan.missing_files())
}

/// A bar for the file and one for all, on a terminal; a line for each file otherwise.
struct Show {
    bars: Option<Bars>,
    lines: bool,
    files: usize,
    finished: usize,
    waits: bool,
    stop: StopSignal,
    /// What the small files of the model say against it.
    refusal: Option<ModelError>,
    plan: Option<PullPlan>,
}

struct Bars {
    all: MultiProgress,
    file: ProgressBar,
    total: ProgressBar,
}

impl Show {
    fn new(quiet: bool, stop: StopSignal) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self {
            bars: (!quiet && is_terminal).then(Bars::new),
            lines: !quiet && !is_terminal,
            files: 0,
            finished: 0,
            waits: false,
            stop,
            refusal: None,
            plan: None,
        }
    }

    fn clear(&self) {
        if let Some(bars) = &self.bars {
            let _closed = bars.all.clear();
        }
    }

    fn tell(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| eprintln!("{line}")),
            None if self.lines => eprintln!("{line}"),
            None => {}
        }
    }

    /// Whether the index of a pipeline names a class that is not computed here: found before its
    /// weights come.
    fn is_refused(&mut self, repository: &str, path: &str) -> bool {
        let plan = self.plan.iter().flat_map(|plan| &plan.repositories);
        let snapshot = plan.filter(|plan| plan.repository == repository).map(|plan| &plan.snapshot);
        if path == "model_index.json" {
            for snapshot in snapshot {
                if let Err(error @ ModelError::Class { .. }) = ModelFolder::open(snapshot) {
                    self.refusal = Some(error);
                    return true;
                }
            }
        }
        false
    }
}

impl Bars {
    fn new() -> Self {
        let style = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let all = MultiProgress::new();
        let file = all.add(ProgressBar::no_length());
        file.set_style(style("{wide_msg} {bytes}/{total_bytes}"));
        let total = all.add(ProgressBar::no_length());
        total.set_style(style(
            "{wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        ));
        Self { all, file, total }
    }
}

impl PullObserver for Show {
    fn event(&mut self, event: &PullEvent<'_>) -> ControlFlow<()> {
        match event {
            PullEvent::Planned(plan) => {
                self.files = plan.missing_files();
                if plan.missing_bytes() > 0 {
                    note_licences(plan);
                    let missing = size(plan.missing_bytes());
                    self.tell(&format!("{} files to download, {missing}", self.files));
                }
                if let Some(bars) = &self.bars {
                    bars.total.set_length(plan.total_bytes());
                    bars.total.set_position(plan.total_bytes() - plan.missing_bytes());
                    bars.total.reset_eta();
                }
                self.plan = Some((*plan).clone());
            }
            PullEvent::Received { file, bytes, total, .. } => {
                self.waits = false;
                if let Some(bars) = &self.bars {
                    bars.file.set_message(file.path.clone());
                    bars.file.set_length(file.bytes);
                    bars.file.set_position(*bytes);
                    bars.total.set_position(*total);
                }
            }
            PullEvent::Finished { repository, file } => {
                if file.cached < file.bytes {
                    self.finished += 1;
                    let (number, all, bytes) = (self.finished, self.files, size(file.bytes));
                    if self.lines {
                        self.tell(&format!("{number} of {all}: {} ({bytes})", file.path));
                    }
                }
                if self.is_refused(repository, &file.path) {
                    return ControlFlow::Break(());
                }
            }
            // Once for each wait.
            PullEvent::Waiting { left, reason } if !self.waits => {
                let left = HumanDuration((*left).max(Duration::from_secs(1)));
                self.tell(&format!("{reason}; trying again in {left}"));
                self.waits = true;
            }
            _ => {}
        }
        if self.stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (585_000_000, "585.0 MB"),
            (4_030_000_000, "4.03 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
