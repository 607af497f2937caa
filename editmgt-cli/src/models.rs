//! `editmgt models`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use editmgt::hub::{CachedRepository, Hub, HubSettings, KnownModel};
use serde_json::{Value, json};

use crate::Outcome;
use crate::pull::size;

#[derive(Args)]
pub(crate) struct ModelsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How much of a model the cache has.
fn state(hub: &Hub, known: &KnownModel, cached: &[CachedRepository]) -> &'static str {
    let is_begun = |it: &CachedRepository| !it.revisions.is_empty() || it.unfinished_bytes > 0;
    // What another model uses, too, is no beginning of this one.
    let is_own = |it: &&CachedRepository| it.repository == known.repository;
    if hub.resolve(known.alias).is_ok() {
        "complete"
    } else if cached.iter().filter(is_own).any(is_begun) {
        "partial"
    } else {
        "absent"
    }
}

pub(crate) fn run(args: ModelsArgs) -> Outcome {
    let hub = Hub::new(HubSettings::from_env()?);
    let (known, others) = (hub.known()?, hub.others()?);
    let mut out = io::stdout().lock();
    if args.json {
        let models = known.iter().map(|(known, cached)| {
            let mut model = serde_json::to_value(known)?;
            model["memory"] = json!(known.memory());
            model["memory_8_bits"] = json!(known.memory_quantized(8));
            model["memory_4_bits"] = json!(known.memory_quantized(4));
            model["state"] = json!(state(&hub, known, cached));
            model["cached"] = serde_json::to_value(cached)?;
            Ok(model)
        });
        let models = models.collect::<Result<Vec<Value>, serde_json::Error>>()?;
        let cache = &hub.settings().cache;
        let all = json!({"cache": cache, "models": models, "others": others});
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:12} {:22} {:18} {:>6} {:12} {:>8} {:>8} {:>8} {:>8}  in the cache",
        "name", "repository", "does", "pixels", "licence", "download", "memory", "8 bits", "4 bits"
    )?;
    for (known, cached) in &known {
        let figure = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), size);
        let (download, memory) = (figure(known.download), figure(known.memory()));
        let [eight, four] = [8, 4].map(|bits| figure(known.memory_quantized(bits)));
        let own = cached.iter().find(|it| it.repository == known.repository);
        let row = format!(
            "{:12} {:22} {:18} {:>6} {:12} {download:>8} {memory:>8} {eight:>8} {four:>8}  {}",
            known.alias,
            known.repository,
            known.tasks.join(", "),
            known.pixels,
            known.licence,
            describe(state(&hub, known, cached), own),
        );
        writeln!(out, "{}", row.trim_end())?;
    }
    for other in &others {
        writeln!(out, "{:12} {:22} {}", "", other.repository, describe("complete", Some(other)))?;
    }
    write_notes(&mut out, &hub, known.iter().map(|(known, _)| *known))?;
    Ok(ExitCode::SUCCESS)
}

/// `complete: main (0a00f14ea159), 11.30 GB`.
fn describe(state: &str, cached: Option<&CachedRepository>) -> String {
    let Some(cached) = cached.filter(|_| state != "absent") else { return "-".to_owned() };
    let revisions = cached.revisions.iter().map(|revision| {
        let refs = if revision.refs.is_empty() {
            String::new()
        } else {
            format!("{} ", revision.refs.join(", "))
        };
        let lacking = match revision.lacking.len() {
            0 => String::new(),
            count => format!(", {count} files or folders missing"),
        };
        format!("{refs}({:.12}), {}{lacking}", revision.commit, size(revision.bytes))
    });
    let mut parts: Vec<String> = revisions.collect();
    if cached.unfinished_bytes > 0 {
        parts.push(format!("{} of unfinished downloads", size(cached.unfinished_bytes)));
    }
    format!("{state}: {}", parts.join("; "))
}

fn write_notes<'a>(
    out: &mut impl Write,
    hub: &Hub,
    known: impl Iterator<Item = &'a KnownModel>,
) -> io::Result<()> {
    writeln!(out, "Cache: {}", hub.settings().cache.display())?;
    writeln!(
        out,
        "Memory is for the weights alone, as they are stored, or quantised to 8 or 4 bits (--quantize); activations come \
         on top. --low-memory keeps the largest part only."
    )?;
    for known in known {
        let note =
            known.licence_note.map_or_else(String::new, |note| format!(" Licences: {note}."));
        writeln!(out, "{}: sizes {}.{note}", known.alias, known.size_source)?;
    }
    Ok(())
}
