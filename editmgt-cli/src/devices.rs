//! `editmgt devices`.

use std::io::{self, Write};
use std::process::{Command, ExitCode};

use clap::Args;
use editmgt::{Backend, DeviceInfo, DeviceState};
use indicatif::HumanBytes;

use crate::Outcome;
use crate::failure::quietly;

#[derive(Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List the devices of one backend only, without protection from a crash of its driver
    #[arg(long, hide = true, value_parser = backend)]
    backend: Option<Backend>,
}

fn backend(name: &str) -> Result<Backend, String> {
    let built = Backend::built().find(|backend| backend.name() == name);
    built.ok_or_else(|| "no backend of this build".to_owned())
}

pub(crate) fn run(args: DevicesArgs) -> Outcome {
    let devices = match args.backend {
        Some(backend) => quietly(|| editmgt::devices::list_of(backend)),
        None => Backend::built().flat_map(survey).collect(),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&devices)?)?;
    } else {
        devices.iter().try_for_each(|device| write_row(&mut out, device))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists the devices of a backend in a child process, because a GPU driver can end its process.
fn survey(backend: Backend) -> Vec<DeviceInfo> {
    if backend.is_cpu() {
        return quietly(|| editmgt::devices::list_of(backend));
    }
    let program = std::env::current_exe().map(Command::new);
    let answer = program.map_err(|error| error.to_string()).and_then(|mut program| {
        list_in_child(program.args(["devices", "--json", "--backend", backend.name()]))
    });
    answer.unwrap_or_else(|reason| vec![DeviceInfo::unavailable(backend, reason)])
}

/// The devices listed by a process, or why it failed.
fn list_in_child(process: &mut Command) -> Result<Vec<DeviceInfo>, String> {
    let output = process.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("its driver ended the process that tried it ({})", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn write_row(out: &mut impl Write, device: &DeviceInfo) -> io::Result<()> {
    let mark = if device.default { " (default)" } else { "" };
    let name = format!("{}{mark}", device.name);
    match &device.state {
        DeviceState::Ready { hardware, dtypes, memory } => {
            let dtypes: Vec<_> = dtypes.iter().map(|dtype| dtype.name()).collect();
            let memory = match memory {
                Some(bytes) => HumanBytes(*bytes).to_string(),
                None => "unknown".to_owned(),
            };
            let hardware = hardware.as_deref().unwrap_or("");
            let dtypes = dtypes.join(" ");
            let row = format!("{name:18} {dtypes:14} memory {memory:12} {hardware}");
            writeln!(out, "{}", row.trim_end())
        }
        DeviceState::Unavailable { reason } => {
            writeln!(out, "{name:18} unavailable: {reason}")
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_ends_its_process_is_survived() {
        let shell = |script: &str| list_in_child(Command::new("sh").args(["-c", script]));
        assert_eq!(shell("echo []"), Ok(Vec::new()));
        for (script, reason) in
            [("kill -s SEGV $$", "signal: 11"), ("exit 3", "exit status: 3"), ("echo", "EOF")]
        {
            let error = shell(script).unwrap_err();
            assert!(error.contains(reason), "{script}: {error}");
        }
        assert!(list_in_child(&mut Command::new("/nowhere/at-all")).is_err());
    }
}
