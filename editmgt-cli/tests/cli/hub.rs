//! `editmgt pull`, `editmgt models`, and models by their names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use editmgt::hub::{HubError, HubSettings};
use editmgt::{EditError, Editor, ModelError};
use editmgt_tests::hub::{StubFault, StubHub, StubRepository};
use serde_json::Value;

use crate::hub_layouts::{Job, LAYOUTS, Layout};
use crate::program::{CAT, INSTRUCTION, Ran, Scratch, command, root};

/// A cache of its own, and a hub that may be gone.
struct Place {
    scratch: Scratch,
    endpoint: String,
    offline: bool,
}

impl Place {
    fn new(stub: &StubHub) -> Self {
        Self { scratch: Scratch::new(), endpoint: stub.endpoint(), offline: false }
    }

    fn home(&self) -> PathBuf {
        self.scratch.path("home")
    }

    /// The program, without the environment of the tests.
    fn command(&self) -> Command {
        let mut command = command();
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("HF_") || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        for name in ["HUGGINGFACE_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN", "TRANSFORMERS_OFFLINE"] {
            command.env_remove(name);
        }
        // The checkout has a folder `editmgt`, which is not the model of this name.
        command.current_dir(self.scratch.path(""));
        command.env("HF_HOME", self.home()).env("HF_ENDPOINT", &self.endpoint);
        if self.offline {
            command.env("HF_HUB_OFFLINE", "1");
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        ran(self.command().args(args))
    }
}

/// The photo, from any folder.
fn cat() -> String {
    root().join(CAT).to_str().unwrap().to_owned()
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran {
        program: "editmgt",
        status: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn repositories(layout: &Layout, scratch: &Path) -> Vec<StubRepository> {
    (layout.repositories)(scratch)
}

fn editmgt() -> (StubHub, Scratch) {
    let scratch = Scratch::new();
    (StubHub::new(repositories(&LAYOUTS[0], &scratch.path(""))), scratch)
}

#[test]
fn every_published_layout_is_pulled_inspected_and_used_without_the_hub() {
    for layout in &LAYOUTS {
        let source = Scratch::new();
        let stub = StubHub::new(repositories(layout, &source.path("")));
        let mut place = Place::new(&stub);
        let name = layout.name;
        let options: Vec<&str> = layout.variant.iter().flat_map(|it| ["--variant", it]).collect();
        let with = |args: &[&'static str]| [args, &[name][..], &options[..]].concat();
        let pulled = place.run(&with(&["pull"]));
        assert_eq!(pulled.status, Some(0), "{pulled:?}");
        assert!(pulled.stderr.contains("note: licence of "), "{pulled:?}");
        drop(stub);
        place.offline = true;
        let again = place.run(&with(&["pull"])).done();
        assert!(again.contains("nothing to download"), "{again}");
        let table = place.run(&with(&["inspect", "--json"])).done();
        let table: Value = serde_json::from_str(&table).unwrap();
        let dtypes: Vec<_> = table["total"]["dtypes"].as_object().unwrap().keys().collect();
        let stored = if layout.variant == Some("fp16") { "F16" } else { "F32" };
        assert_eq!(dtypes, [stored], "{name}");
        let output = place.scratch.out("o.png");
        let output = output.to_str().unwrap();
        let photo = cat();
        let (words, size) = match layout.job {
            Job::Edit => (&["edit", &photo, INSTRUCTION, "--size", "128"][..], (451, 300)),
            Job::Generate => {
                (&["generate", "a red fox", "--width", "64", "--height", "64"][..], (64, 64))
            }
        };
        let more = ["-o", output, "--model", name, "--quiet", "--steps", "1"];
        place.run(&[words, &more, &options].concat()).done();
        assert_eq!(image::image_dimensions(output).unwrap(), size, "{name}");
        let models: Value = serde_json::from_str(&place.run(&["models", "--json"]).done()).unwrap();
        let models = models["models"].as_array().unwrap();
        let found =
            models.iter().find(|it| it["alias"] == name || it["repository"] == name).unwrap();
        assert_eq!(found["state"], "complete", "{found:#}");
    }
}

#[test]
fn a_library_names_the_cache_itself() {
    let (stub, _scratch) = editmgt();
    let place = Place::new(&stub);
    assert_eq!(place.run(&["pull", "editmgt", "--quiet"]).status, Some(0));
    let mut settings = HubSettings::new(place.home().join("hub"));
    let build = |settings| Editor::builder("WeiChow/EditMGT").hub(settings).build();
    build(settings.clone()).unwrap();
    settings.cache = place.scratch.path("elsewhere");
    let error = build(settings).err().unwrap();
    assert!(
        matches!(error, EditError::Model(ModelError::Hub(HubError::NotCached { .. }))),
        "{error}"
    );
}

#[test]
fn a_snapshot_folder_is_a_model_too() {
    let (stub, _scratch) = editmgt();
    let place = Place::new(&stub);
    let pulled = place.run(&["pull", "editmgt", "--quiet"]);
    assert_eq!(pulled.status, Some(0), "{pulled:?}");
    let folder = pulled.stdout.lines().last().unwrap();
    assert!(folder.contains("models--WeiChow--EditMGT/snapshots/"), "{folder}");
    let by_folder = place.run(&["inspect", folder]).done();
    assert_eq!(place.run(&["inspect", "editmgt"]).done(), by_folder);
    assert_eq!(place.run(&["inspect", "WeiChow/EditMGT@main"]).done(), by_folder);
}

#[test]
fn nothing_is_downloaded_unasked() {
    let (stub, _scratch) = editmgt();
    let place = Place::new(&stub);
    let output = place.scratch.out("o.png");
    let photo = cat();
    let edit = ["edit", &photo, INSTRUCTION, "--quiet", "-o", output.to_str().unwrap()];
    let edit = [&edit[..], &["--model", "WeiChow/EditMGT"]].concat();
    place.run(&edit).refused("a name", &["no such folder", "editmgt pull WeiChow/EditMGT"]);
    place.run(&["inspect", "meissonic"]).refused("an alias", &["editmgt pull meissonic"]);
    place.run(&["inspect", "nowhere"]).refused("no alias", &["nowhere", "No such file"]);
    place.scratch.assert_nothing_written("edit");
    assert_eq!(stub.requests(), []);
    assert!(!place.home().exists());
}

#[test]
fn dry_run_lists_and_writes_nothing() {
    let (stub, _scratch) = editmgt();
    let place = Place::new(&stub);
    let planned = place.run(&["pull", "editmgt", "--dry-run"]);
    assert_eq!(planned.status, Some(0), "{planned:?}");
    for part in ["licence of WeiChow/EditMGT: cc-by-4.0", "Gemma"] {
        assert!(planned.stderr.contains(part), "{planned:?}");
    }
    for part in [
        "editmgt/diffusion_pytorch_model.safetensors",
        "llm_encoder/model-00002-of-00002.safetensors",
        "files to download",
    ] {
        assert!(planned.stdout.contains(part), "{planned:?}");
    }
    for part in ["README", "tokenizer.model", "generation_config"] {
        assert!(!planned.stdout.contains(part), "{planned:?}");
    }
    assert!(!place.home().exists());
}

#[test]
fn refusals_are_one_line_with_status_2() {
    let (stub, _scratch) = editmgt();
    let place = Place::new(&stub);
    let refused = |args: &[&str], named: &[&str]| place.run(args).refused(&args.join(" "), named);
    refused(&["pull", "nothing"], &["ORG/NAME", "meissonic"]);
    refused(&["pull", "some-one/Else"], &["some-one/Else", "HF_TOKEN"]);
    refused(&["pull", "editmgt", "--revision", "v2"], &["no revision \"v2\""]);
    refused(&["pull", "editmgt", "--variant", "int8"], &["no weights of the variant \"int8\""]);
    refused(&["pull", "editmgt", "--only", "unet"], &["no part \"unet\"", "vqvae"]);
    stub.other("datasets/some-one/Data");
    refused(&["pull", "some-one/Data"], &["is a dataset"]);
    stub.fault("api/models", 1, StubFault::page(200));
    refused(&["pull", "editmgt"], &["web page", "HTTPS_PROXY"]);
    stub.change("WeiChow/EditMGT", |repository| repository.is_gated = true);
    for _ in ["first", "again, with the licence"] {
        let mut command = place.command();
        command.args(["pull", "editmgt", "--quiet"]).env("HF_TOKEN", StubHub::OTHER);
        let pulled = ran(&mut command);
        assert_eq!(pulled.status, Some(2), "{pulled:?}");
        assert!(pulled.stderr.contains("editmgt: WeiChow/EditMGT is gated"), "{pulled:?}");
        assert!(pulled.stderr.contains("note: licence of WeiChow/EditMGT"), "{pulled:?}");
    }
    let table = place.run(&["models"]).done();
    let row = table.lines().find(|line| line.starts_with("editmgt ")).unwrap();
    assert!(!row.contains("partial"), "{row}");
    let mut command = place.command();
    ran(command.args(["pull", "editmgt"]).env("HF_TOKEN", "hf_wrong"))
        .refused("wrong token", &["refuses the token"]);
    let place = Place { offline: true, ..place };
    place.run(&["pull", "editmgt"]).refused("offline", &["HF_HUB_OFFLINE"]);
}

#[test]
fn token_file_is_read() {
    let (stub, _scratch) = editmgt();
    stub.change("WeiChow/EditMGT", |repository| repository.is_gated = true);
    let place = Place::new(&stub);
    fs::create_dir_all(place.home()).unwrap();
    fs::write(place.home().join("token"), StubHub::GRANTED).unwrap();
    let pulled = place.run(&["pull", "editmgt", "--only", "scheduler"]);
    assert_eq!(pulled.status, Some(0), "{pulled:?}");
    let table = place.run(&["models"]).done();
    let row = table.lines().find(|line| line.starts_with("editmgt ")).unwrap();
    assert!(row.contains("partial: main (") && row.contains("missing"), "{row}");
}

#[test]
fn class_that_is_not_computed_ends_the_download_before_the_weights() {
    let source = Scratch::new();
    let stub = StubHub::new(repositories(&LAYOUTS[1], &source.path("")));
    stub.change("MeissonFlow/Meissonic", |repository| {
        let index = &repository.files["model_index.json"];
        let index = String::from_utf8(index.clone()).unwrap().replace("VQModel", "AutoencoderKL");
        repository.files.insert("model_index.json".into(), index.into());
    });
    let place = Place::new(&stub);
    let pulled = place.run(&["pull", "meissonic", "--quiet"]);
    assert_eq!(pulled.status, Some(2), "{pulled:?}");
    assert!(pulled.stderr.contains("AutoencoderKL"), "{pulled:?}");
    assert!(stub.requests().iter().all(|request| !request.is_cdn), "a large file was downloaded");
}

#[test]
fn folder_of_the_same_name_wins_and_that_is_reported() {
    let (stub, source) = editmgt();
    let place = Place::new(&stub);
    assert_eq!(place.run(&["pull", "editmgt", "--quiet"]).status, Some(0));
    let here = place.scratch.path("here");
    fs::create_dir_all(here.join("WeiChow/EditMGT")).unwrap();
    let inspect = |name: &str| ran(place.command().current_dir(&here).args(["inspect", name]));
    let refused = inspect("WeiChow/EditMGT");
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(refused.stderr.starts_with("note: WeiChow/EditMGT is a folder here"), "{refused:?}");
    assert!(refused.stderr.contains("not a model folder"), "{refused:?}");
    inspect("editmgt").done();
    // A folder whose name is no model's in the cache has no note.
    let folder = source.path("editmgt-source");
    place.run(&["inspect", folder.to_str().unwrap()]).done();
}

#[test]
fn outputs_in_the_cache_of_the_model_are_refused() {
    let (stub, _scratch) = editmgt();
    let place = Place::new(&stub);
    let pulled = place.run(&["pull", "editmgt", "--quiet"]);
    let folder = pulled.stdout.lines().last().unwrap();
    let report = Path::new(folder).join("editmgt/config.json");
    let output = place.scratch.out("o.png");
    let photo = cat();
    let args = ["edit", &photo, INSTRUCTION, "-o", output.to_str().unwrap(), "--model", "editmgt"];
    let args = [&args[..], &["--report", report.to_str().unwrap()]].concat();
    place.run(&args).refused("a report over a config", &["config.json", "model"]);
}

#[test]
fn models_lists_the_known_ones_with_the_source_of_their_sizes() {
    let (stub, _scratch) = editmgt();
    let place = Place::new(&stub);
    let table = place.run(&["models"]).done();
    for part in [
        "WeiChow/EditMGT",
        "MeissonFlow/Meissonic",
        "Collov-Labs/Monetico",
        "amused-256",
        "muddit-1024",
        "CC-BY-4.0",
        "Apache-2.0",
        "openrail++",
        "11.30 GB",
        "Gemma",
        "computed",
        "seen",
        "Cache: ",
    ] {
        assert!(table.contains(part), "expected {part:?} in {table}");
    }
    assert_eq!(stub.requests(), []);
}
