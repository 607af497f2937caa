//! `editmgt-fuzz [TARGET|all] [--inputs N] [--seconds N] [--seed N] [--first N] [--keep-each]`
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use editmgt_fuzz::{RunOptions, TARGETS, corpus, run, target};

const USAGE: &str = "expected [TARGET|all|list] [--inputs N] [--seconds N] [--seed N] [--first N] \
                     [--crashes DIR] [--keep-each]";

fn main() -> ExitCode {
    match execute() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn execute() -> Result<bool, String> {
    let mut name = "all".to_owned();
    let mut options = RunOptions {
        seed: 0,
        first: 0,
        inputs: 10_000,
        time: None,
        crashes: PathBuf::from("fuzz/crashes"),
        keep_each: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--keep-each" {
            options.keep_each = true;
            continue;
        }
        let Some(option) = argument.strip_prefix("--") else {
            name = argument;
            continue;
        };
        let value = arguments.next().ok_or(USAGE)?;
        let number = || value.parse::<u64>().map_err(|e| format!("--{option} {value}: {e}"));
        match option {
            "inputs" => options.inputs = number()?,
            "seconds" => options.time = Some(Duration::from_secs(number()?)),
            "seed" => options.seed = number()?,
            "first" => options.first = number()?,
            "crashes" => options.crashes = value.into(),
            _ => return Err(USAGE.to_owned()),
        }
    }
    if name == "list" {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return Ok(true);
    }
    let targets: Vec<_> = match name.as_str() {
        "all" => TARGETS.iter().collect(),
        name => vec![target(name).ok_or_else(|| format!("{name}: no such target; {USAGE}"))?],
    };
    let mut clean = true;
    for target in targets {
        let seeds = corpus(target.name).map_err(|e| format!("corpus/{}: {e}", target.name))?;
        match run(target, &seeds, &options) {
            Ok(done) => println!(
                "{}: {} inputs, {:.1} s, slowest {:.3} s",
                target.name, done.inputs, done.seconds, done.slowest
            ),
            Err(failure) => {
                clean = false;
                println!(
                    "{}: panic: {} ({})",
                    target.name,
                    failure.message,
                    failure.path.display()
                );
            }
        }
    }
    Ok(clean)
}
