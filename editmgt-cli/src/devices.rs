//! `editmgt devices`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use editmgt::{DeviceInfo, DeviceState};
use indicatif::HumanBytes;

use crate::Outcome;

#[derive(Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: DevicesArgs) -> Outcome {
    // A backend whose driver is broken panics while it is probed. That is caught and listed with
    // its reason; the panic's own message would only tear the table apart.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let devices = editmgt::devices();
    std::panic::set_hook(hook);
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&devices)?)?;
    } else {
        devices.iter().try_for_each(|device| write_row(&mut out, device))?;
    }
    Ok(ExitCode::SUCCESS)
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
