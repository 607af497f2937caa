//! Killed batches, and simulated power loss.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::batch::{batch, cat, job};
use crate::program::{GOLDEN_MODEL, Scratch, command};

/// Number of kills.
const KILLS: usize = 200;
/// Jobs of a batch.
const JOBS: u64 = 4;

/// A stream of numbers that is the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// The results by name.
fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    // A kill can precede the creation of the folder.
    let Ok(entries) = fs::read_dir(dir) else { return BTreeMap::new() };
    let entries = entries.map(|entry| entry.unwrap().path());
    let results = entries.filter(|path| path.extension().is_some_and(|ext| ext == "png"));
    results
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

/// The names of finished jobs in the manifest; a torn last line is ignored.
fn done(dir: &Path) -> Vec<String> {
    let text = fs::read(dir.join("manifest.jsonl")).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n');
    let entries = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let done = entries.filter(|entry| entry["status"] == "done");
    done.map(|entry| entry["output"].as_str().unwrap().to_owned()).collect()
}

/// Simulates the loss of the page cache; returns whether a finished job was damaged.
fn tear(dir: &Path, numbers: &mut Numbers) -> bool {
    let names: Vec<String> = results(dir).into_keys().collect();
    let manifest = dir.join("manifest.jsonl");
    let (Ok(text), false) = (fs::read(&manifest), names.is_empty()) else { return false };
    let result = dir.join(&names[numbers.below(names.len() as u64) as usize]);
    let bytes = fs::read(&result).unwrap();
    match numbers.below(6) {
        0 => fs::write(&result, "").unwrap(),
        1 => fs::write(&result, &bytes[..numbers.below(bytes.len() as u64) as usize]).unwrap(),
        2 => fs::remove_file(&result).unwrap(),
        3 => fs::write(&manifest, &text[..numbers.below(text.len() as u64 + 1) as usize]).unwrap(),
        4 => fs::write(&manifest, [&text, &b"{\"name\": \"00\0\0\xff"[..]].concat()).unwrap(),
        _ => fs::write(&result, vec![0; bytes.len()]).unwrap(),
    }
    true
}

#[test]
fn batch_killed_200_times_equals_an_unbroken_one() {
    let scratch = Scratch::new();
    let lines: String =
        (0..JOBS).map(|seed| job(&cat(), json!({"seed": seed, "steps": 1}))).collect();
    let jobs = scratch.write("jobs.jsonl", lines);
    let unbroken = scratch.path("unbroken");
    let start = Instant::now();
    batch(&jobs, &unbroken, "").done();
    // Kills are spread over a run, from its start to after its end.
    let whole = start.elapsed().as_micros() as u64;
    let expected = results(&unbroken);
    assert_eq!(expected.len() as u64, JOBS);

    let mut numbers = Numbers(1);
    let (mut kills, mut batches) = (0, 0);
    while kills < KILLS {
        let out = scratch.path(&format!("out/{batches}"));
        loop {
            let mut command = command();
            command.args(["batch", "--model", GOLDEN_MODEL, "-q", "--resume", "--out"]);
            command.arg(&out).arg(&jobs).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_micros(numbers.below(whole * 6 / 5)));
            child.kill().unwrap();
            kills += 1;
            // It may have ended just before.
            let ended = child.wait().unwrap().success();
            // Every finished result is complete and correct.
            let found = results(&out);
            for name in done(&out) {
                assert!(found.get(&name) == expected.get(&name), "{name} after {kills} kills");
            }
            if ended || kills == KILLS {
                break;
            }
            // Occasional system crashes, which lose more than a kill.
            if numbers.below(6) == 0 && tear(&out, &mut numbers) {
                break;
            }
        }
        batch(&jobs, &out, "--resume").done();
        assert!(results(&out) == expected, "batch {batches}");
        let names = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name());
        let temporary = names.filter(|name| name.to_string_lossy().ends_with(".tmp")).count();
        assert_eq!(temporary, 0, "batch {batches}");
        let printed = batch(&jobs, &out, "--resume").done();
        assert_eq!(printed, format!("0 done, 0 failed, {JOBS} done before\n"));
        batches += 1;
    }
    assert!(batches > 3, "{batches} batches");
}
