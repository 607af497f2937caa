//! `editmgt serve`.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use editmgt_server::{Server, ServerLimits, ServerOptions};

use crate::Outcome;
use crate::number::number;
use crate::pull_first::PullFirst;
use crate::serve_models::ServeModels;
use crate::stop::StopSignal;

/// The variable with the token.
const TOKEN: &str = "EDITMGT_TOKEN";
/// How often Ctrl-C is looked for.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    models: ServeModels,
    #[command(flatten)]
    pull: PullFirst,
    /// Address to listen on; one that other machines reach needs a token
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8420)]
    port: u16,
    /// Token that requests must carry, at least 16 characters; other users of this machine can read
    /// arguments, so better set it as EDITMGT_TOKEN
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Name by which clients may reach the server, beside localhost and addresses; may be repeated
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// Minutes that photos and results are kept after they were last used
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=525_600))]
    keep: u64,
    /// Folder for uploaded photos, their masks and results, which then survive the program; created
    /// if needed [default: they are in memory only]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Most edits that run or wait
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().queue)]
    #[arg(value_parser = number::<usize>("a number of edits, 0 or more"), allow_negative_numbers = true)]
    max_queue: usize,
    /// Limit of photos and masks in megapixels
    #[arg(long, value_name = "MP", default_value_t = ServerLimits::default().photo_megapixels)]
    #[arg(value_parser = number::<u64>("whole megapixels, 0 or more"), allow_negative_numbers = true)]
    max_megapixels: u64,
    /// Limit of a photo's file in megabytes
    #[arg(long, value_name = "MB", default_value_t = ServerLimits::default().photo_bytes >> 20)]
    #[arg(value_parser = number::<usize>("megabytes, 0 or more"), allow_negative_numbers = true)]
    max_file: usize,
    /// Most steps of an edit
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().steps)]
    #[arg(value_parser = number::<usize>("a number of steps, 0 or more"), allow_negative_numbers = true)]
    max_steps: usize,
    /// Largest --size of an edit
    #[arg(long, value_name = "PIXELS", default_value_t = ServerLimits::default().size)]
    #[arg(value_parser = number::<usize>("a number of pixels, 0 or more"), allow_negative_numbers = true)]
    max_size: usize,
    /// Longest run of an edit in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_080))]
    max_minutes: u64,
    /// Limit of all photos and results that are kept, in megabytes
    #[arg(long, value_name = "MB", default_value_t = ServerLimits::default().kept_bytes >> 20)]
    #[arg(value_parser = number::<usize>("megabytes, 0 or more"), allow_negative_numbers = true)]
    max_kept: usize,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogForm::Text)]
    log: LogForm,
}

/// Form of the log.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogForm {
    /// Lines to read
    Text,
    /// A JSON object a line
    Json,
    /// No log
    Off,
}

impl ServeArgs {
    fn options(&self) -> ServerOptions {
        let mut limits = ServerLimits::default();
        limits.queue = self.max_queue.max(1);
        limits.photo_megapixels = self.max_megapixels;
        limits.photo_bytes = self.max_file.saturating_mul(1 << 20);
        limits.steps = self.max_steps;
        limits.size = self.max_size;
        limits.edit_time = Duration::from_secs(60 * self.max_minutes);
        limits.kept_bytes = self.max_kept.saturating_mul(1 << 20);
        let mut options = ServerOptions::default();
        options.address = SocketAddr::new(self.address, self.port);
        let of_environment = || std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        options.token = self.token.clone().or_else(of_environment);
        options.host_names.clone_from(&self.host_name);
        options.memory_budget = self.models.memory_budget.map(|megabytes| megabytes << 20);
        options.limits = limits;
        options.data.clone_from(&self.data);
        options.keep = Duration::from_secs(60 * self.keep);
        options
    }
}

pub(crate) fn run(args: ServeArgs) -> Outcome {
    let options = args.options();
    // Before the model is loaded.
    options.check()?;
    log(args.log)?;
    if let Some(stopped) = args.models.pull(&args.pull)? {
        return Ok(stopped);
    }
    let stop = StopSignal::on_ctrl_c()?;
    let models = args.models.models()?;
    let token = options.token.clone();
    let server = Server::start_models(models, options)?;
    // A program that starts this one reads the address here; a closed pipe is no error. The token
    // is shown to a person only, not to what keeps logs.
    let mut out = std::io::stdout();
    let shown = token.filter(|_| out.is_terminal());
    let fragment = shown.map_or_else(String::new, |token| format!("#token={token}"));
    let _unread =
        writeln!(out, "http://{}/{fragment}", server.address()).and_then(|()| out.flush());
    while !stop.is_set() {
        std::thread::sleep(PAUSE);
    }
    server.stop();
    Ok(ExitCode::SUCCESS)
}

/// Begins a log on standard error.
///
/// # Errors
/// A log that was begun before.
pub(crate) fn log(form: LogForm) -> Result<(), Box<dyn Error>> {
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    let installed = match form {
        LogForm::Text => subscriber.try_init(),
        LogForm::Json => subscriber.json().try_init(),
        LogForm::Off => return Ok(()),
    };
    installed.map_err(|error| format!("cannot write a log: {error}").into())
}
