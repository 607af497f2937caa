//! `editmgt devices`.

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
    if args.json {
        println!("{}", serde_json::to_string_pretty(&devices)?);
    } else {
        devices.iter().for_each(print_row);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_row(device: &DeviceInfo) {
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
            println!("{name:18} {:14} memory {memory:12} {hardware}", dtypes.join(" "));
        }
        DeviceState::Unavailable { reason } => println!("{name:18} unavailable: {reason}"),
    }
}
