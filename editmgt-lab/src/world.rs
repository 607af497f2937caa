//! `editmgt-lab world`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use editmgt_store::StagedFolder;
use editmgt_world::{Category, Example, Split, World, WorldConfig, contact_sheet};
use serde_json::{Value, json};

use crate::Outcome;

#[derive(Args)]
pub(crate) struct WorldArgs {
    /// Number of pairs
    #[arg(long, default_value_t = 16)]
    n: u64,
    /// Seed of the pairs [default: the config's]
    #[arg(long)]
    seed: Option<u64>,
    /// The folder to write; must be empty or not exist
    #[arg(long)]
    out: PathBuf,
    /// Only add, remove, replace, colour, background, style or motion [default: all, alternating]
    #[arg(long)]
    category: Option<String>,
    /// train, validation or test
    #[arg(long, default_value = "train")]
    split: String,
    /// A world's config in JSON, with defaults for missing keys [default: the embedded model's
    /// world]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Use the second world, of sprites, with all its features
    #[arg(long, conflicts_with = "config")]
    second: bool,
}

pub(crate) fn run(args: WorldArgs) -> Outcome {
    if args.n == 0 {
        return Err("--n: expected at least 1, got 0".into());
    }
    let split: Split = args.split.parse().map_err(|e| format!("--split: {e}"))?;
    let mut config = match &args.config {
        Some(path) => read_config(path).map_err(|e| format!("{}: {e}", path.display()))?,
        None if args.second => WorldConfig::second(),
        None => WorldConfig::embedded(),
    };
    if let Some(seed) = args.seed {
        config = config.with_seed(seed);
    }
    if let Some(name) = args.category {
        let category: Category =
            serde_json::from_value(Value::String(name)).map_err(|e| format!("--category: {e}"))?;
        config = config.with_categories(vec![category]);
    }
    let world = World::new(config)?;

    let staging = StagedFolder::new(&args.out)?;
    let mut examples = Vec::new();
    let mut lines = String::new();
    for index in 0..args.n {
        let example = world.pair(split, index);
        lines += &format!("{}\n", save(staging.path(), index, &example)?);
        // The sheet is for people: one with thousands of pairs would be too large.
        if index < SHEET_LIMIT {
            examples.push(example);
        }
    }
    fs::write(staging.path().join("pairs.jsonl"), lines)?;
    fs::write(
        staging.path().join("world.json"),
        format!("{:#}\n", serde_json::to_value(world.config())?),
    )?;
    let pairs: Vec<_> = examples.iter().map(|example| &example.pair).collect();
    contact_sheet(&pairs).save(staging.path().join("sheet.png"))?;
    staging.publish()?;
    println!("{}: wrote {} pairs; sheet.png shows them at a glance", args.out.display(), args.n);
    Ok(ExitCode::SUCCESS)
}

/// Pairs on the contact sheet.
const SHEET_LIMIT: u64 = 64;

fn read_config(path: &Path) -> Result<WorldConfig, Box<dyn Error>> {
    let text = editmgt_store::read_text(path)?;
    Ok(WorldConfig::from_json(&text).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// Writes the images of a pair and returns its line of the list.
fn save(folder: &Path, index: u64, example: &Example) -> Result<Value, Box<dyn Error>> {
    let pair = &example.pair;
    let name = |kind: &str| format!("{index:05}_{kind}.png");
    pair.before.save(folder.join(name("before")))?;
    pair.after.save(folder.join(name("after")))?;
    if let Some(mask) = &pair.changed {
        mask.save(folder.join(name("mask")))?;
    }
    let truth = serde_json::to_value(&example.truth)?;
    Ok(json!({
        "before": name("before"),
        "instruction": pair.instruction,
        "after": name("after"),
        "mask": name("mask"),
        "category": pair.category,
        "phrase": pair.phrase,
        "edit": truth["edit"],
        "scene_before": truth["scene_before"],
        "scene_after": truth["scene_after"],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(out: &Path) -> WorldArgs {
        WorldArgs {
            n: 8,
            seed: None,
            out: out.to_path_buf(),
            category: None,
            split: "train".into(),
            config: None,
            second: false,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_folder_holds_each_pair_and_the_world_that_made_it() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        run(WorldArgs { category: Some("colour".into()), seed: Some(3), ..args(&first) }).unwrap();
        assert_eq!(names(&first).len(), 8 * 3 + 3);

        let list = fs::read_to_string(first.join("pairs.jsonl")).unwrap();
        let lines: Vec<Value> = list.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 8);
        for line in &lines {
            assert_eq!(line["category"], "colour");
            for picture in ["before", "after", "mask"] {
                assert!(first.join(line[picture].as_str().unwrap()).is_file());
            }
        }

        // The config beside the pairs reproduces the same pairs.
        let again = WorldArgs { config: Some(first.join("world.json")), ..args(&second) };
        run(again).unwrap();
        assert_eq!(fs::read_to_string(second.join("pairs.jsonl")).unwrap(), list);
        assert_eq!(names(root.path()), ["first", "second"]);

        // So does that of the second world.
        let (sprites, again) = (root.path().join("sprites"), root.path().join("again"));
        run(WorldArgs { second: true, ..args(&sprites) }).unwrap();
        run(WorldArgs { config: Some(sprites.join("world.json")), ..args(&again) }).unwrap();
        let list = |folder: &Path| fs::read_to_string(folder.join("pairs.jsonl")).unwrap();
        assert_eq!(list(&sprites), list(&again));
        let line: Value = serde_json::from_str(list(&again).lines().next().unwrap()).unwrap();
        assert!(line["scene_before"]["objects"][0]["thing"].is_string(), "{line}");
    }

    #[test]
    fn invalid_options_are_refused_without_output() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let config = root.path().join("bad.json");
        fs::write(&config, r#"{"canvas": 101}"#).unwrap();
        for (bad, named) in [
            (WorldArgs { n: 0, ..args(&out) }, "--n"),
            (WorldArgs { split: "dev".into(), ..args(&out) }, "--split: expected train"),
            (WorldArgs { category: Some("size".into()), ..args(&out) }, "motion"),
            (WorldArgs { config: Some(config.clone()), ..args(&out) }, "canvas"),
            (WorldArgs { config: Some(root.path().join("none")), ..args(&out) }, "none"),
            (args(root.path()), "not empty"),
            (args(&config), "bad.json"),
        ] {
            let message = run(bad).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
            assert_eq!(names(root.path()), ["bad.json"]);
        }
    }
}
