//! `editmgt pull`, `editmgt models`, and models by their names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use editmgt::hub::{HubError, HubSettings};
use editmgt::{EditError, Editor, ModelError};
use editmgt_tests::hub::{StubFault, StubHub, StubRepository};
use serde_json::{Value, json};

use crate::hub_layouts::{Job, LAYOUTS, Layout};
use crate::program::{CAT, INSTRUCTION, Ran, Scratch, command, root};
#[cfg(feature = "pytorch")]
use crate::spoil::as_pickle;
use crate::spoil::{change_json, with_tensor};

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

/// Old repositories have `.bin` alone.
#[cfg(feature = "pytorch")]
#[test]
fn weights_of_pytorch_are_pulled_and_used_where_there_is_nothing_else() {
    let source = Scratch::new();
    let layout = LAYOUTS.iter().find(|layout| layout.name == "monetico").unwrap();
    let repository = repositories(layout, &source.path("")).remove(0);
    let generate = |place: &Place| {
        let output = place.scratch.out("o.png");
        let size = ["--width", "64", "--height", "64", "--steps", "2", "--seed", "3", "--quiet"];
        let words = ["generate", "a fox", "-m", "monetico", "-o", output.to_str().unwrap()];
        place.run(&[&words[..], &size].concat()).done();
        image::open(output).unwrap().into_rgb8()
    };
    let pull = |repository: StubRepository| {
        let stub = StubHub::new([repository]);
        let place = Place::new(&stub);
        let pulled = place.run(&["pull", "monetico", "--quiet"]);
        assert_eq!(pulled.status, Some(0), "{pulled:?}");
        let files: Vec<String> = stub.requests().iter().map(|it| it.path.clone()).collect();
        (place, files)
    };
    let (plain, _) = pull(repository.clone());
    let expected = generate(&plain);

    let mut pickles = repository;
    // Expected values of `editmgt verify`, which no published repository has.
    pickles.files.retain(|path, _| !path.ends_with("golden.safetensors"));
    for (folder, from, to) in [
        ("transformer", "diffusion_pytorch_model", "diffusion_pytorch_model"),
        ("vqvae", "diffusion_pytorch_model", "diffusion_pytorch_model"),
        ("text_encoder", "model", "pytorch_model"),
    ] {
        let file = pickles.files.remove(&format!("{folder}/{from}.safetensors")).unwrap();
        pickles = pickles
            .file(&format!("{folder}/{to}.bin"), as_pickle(&file))
            .file(&format!("{folder}/training_args.bin"), "never read");
    }
    let (place, files) = pull(pickles);
    let has = |end: &str| files.iter().any(|file| file.ends_with(end));
    assert!(has("text_encoder/pytorch_model.bin") && !has("training_args.bin"), "{files:?}");
    assert!(generate(&place) == expected);
    let table = place.run(&["inspect", "monetico", "--json"]).done();
    let table: Value = serde_json::from_str(&table).unwrap();
    assert_eq!(table["total"]["files"], 3);
    let of_safetensors = plain.run(&["inspect", "monetico", "--json"]).done();
    let of_safetensors: Value = serde_json::from_str(&of_safetensors).unwrap();
    assert_eq!(table["total"]["parameters"], of_safetensors["total"]["parameters"]);
    assert_ne!(table["sha256"], of_safetensors["sha256"]);
}

/// The text tower that Meissonic's scripts prefer: a whole CLIPModel in a repository of its own.
#[test]
fn a_whole_clip_model_is_pulled_and_used_as_text_encoder() {
    const NAME: &str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K";
    let source = Scratch::new();
    let layout = LAYOUTS.iter().find(|layout| layout.name == "monetico").unwrap();
    let base = repositories(layout, &source.path("")).remove(0);
    let mut clip = StubRepository::new(NAME);
    for (path, bytes) in &base.files {
        if let Some(name) = path.strip_prefix("tokenizer/") {
            clip = clip.file(name, bytes.clone());
        }
    }
    let mut text: Value = serde_json::from_slice(&base.files["text_encoder/config.json"]).unwrap();
    text["model_type"] = json!("clip_text_model");
    let config = json!({
        "model_type": "clip", "architectures": ["CLIPModel"],
        "projection_dim": text["projection_dim"], "logit_scale_init_value": 2.6592,
        "text_config": text, "vision_config": {"model_type": "clip_vision_model"},
    });
    let whole = with_tensor(
        &base.files["text_encoder/model.safetensors"],
        "vision_model.embeddings.class_embedding",
        &[64],
    );
    let clip = clip
        .file("config.json", config.to_string())
        .file("model.safetensors", whole)
        .file("pytorch_model.bin", "beside safetensors")
        .file("open_clip_pytorch_model.bin", "another library's")
        .file("open_clip_config.json", "{}")
        .file("preprocessor_config.json", "{}");
    let stub = StubHub::new([base, clip]);
    let mut place = Place::new(&stub);
    let mut snapshots = Vec::new();
    for name in ["monetico", NAME] {
        let pulled = place.run(&["pull", name, "--quiet"]);
        assert_eq!(pulled.status, Some(0), "{pulled:?}");
        snapshots.push(PathBuf::from(pulled.stdout.lines().last().unwrap()));
    }
    assert!(!stub.requests().iter().any(|request| request.path.ends_with(".bin")));
    drop(stub);
    place.offline = true;
    let [base, clip] = &snapshots[..] else { panic!("{snapshots:?}") };
    let folder = place.scratch.path("with-clip");
    fs::create_dir(&folder).unwrap();
    let part = |name: &str| base.join(name);
    let components = json!({
        "transformer": part("transformer"), "vqvae": part("vqvae"),
        "scheduler": part("scheduler"), "text_encoder": clip, "tokenizer": clip,
    });
    fs::write(folder.join("pipeline.json"), json!({"components": components}).to_string()).unwrap();
    let generate = |model: &Path| {
        let output = place.scratch.out("o.png");
        let size = ["--width", "64", "--height", "64", "--steps", "2", "--seed", "3", "--quiet"];
        let words = ["generate", "a fox", "-m", model.to_str().unwrap(), "-o"];
        place.run(&[&words[..], &[output.to_str().unwrap()], &size].concat()).done();
        image::open(output).unwrap().into_rgb8()
    };
    assert!(generate(&folder) == generate(base));
}

/// Our parts in a pipeline of another method.
#[test]
fn a_pipeline_of_another_class_is_refused_by_name() {
    let source = Scratch::new();
    let layout = LAYOUTS.iter().find(|layout| layout.name == "monetico").unwrap();
    let repository = repositories(layout, &source.path("")).remove(0);
    let folder = source.path("foreign");
    for (path, bytes) in &repository.files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    change_json(&folder.join("model_index.json"), |index| {
        index["_class_name"] = json!("LatentConsistencyModelPipeline");
    });
    let place = Place::new(&StubHub::new([]));
    let folder = folder.to_str().unwrap();
    let output = place.scratch.out("o.png");
    let words = ["generate", "a fox", "-m", folder, "-o", output.to_str().unwrap(), "--quiet"];
    let named = ["\"LatentConsistencyModelPipeline\"", "--accept-unknown-keys"];
    place.run(&words).refused("generate", &named);
    place.run(&["inspect", folder]).refused("inspect", &named);
    place.scratch.assert_nothing_written("foreign");
    place.run(&["inspect", folder, "--accept-unknown-keys"]).done();
    let more = ["--accept-unknown-keys", "--width", "64", "--height", "64", "--steps", "1"];
    place.run(&[&words[..], &more].concat()).done();
}

#[test]
fn commands_download_their_model_first_if_asked() {
    let (stub, _scratch) = editmgt();
    let mut place = Place::new(&stub);
    let output = place.scratch.out("o.png");
    let (photo, output) = (cat(), output.to_str().unwrap().to_owned());
    let edit = ["edit", &photo, INSTRUCTION, "-o", &output, "--model", "editmgt", "--quiet"];
    let quick = ["--steps", "1", "--size", "128"];
    place.run(&[&edit[..], &quick].concat()).refused("no --pull", &["editmgt pull editmgt"]);
    // What is wrong anyway is said before anything is downloaded.
    let wrong = [&edit[..], &["--pull", "--steps", "0"]].concat();
    place.run(&wrong).refused("steps", &["steps: "]);
    assert_eq!(stub.requests(), []);
    let ran = place.run(&[&edit[..], &quick, &["--pull"]].concat());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stderr.starts_with("note: licence of WeiChow/EditMGT: cc-by-4.0"), "{ran:?}");
    drop(stub);
    place.offline = true;
    place.run(&[&edit[..], &quick, &["--pull"]].concat()).done();
    place.run(&["inspect", "editmgt", "--pull"]).done();
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
    place
        .run(&["inspect", "nowhere"])
        .refused("no alias", &["nowhere", "no such folder", "ORG/NAME"]);
    for (name, named) in [
        ("a/b/c", "not the name of a repository"),
        ("editmgt@", "not a revision"),
        ("https://huggingface.co/datasets/a/b", "a dataset or a Space"),
        ("https://huggingface.co/WeiChow/EditMGT", "editmgt pull WeiChow/EditMGT"),
    ] {
        place.run(&["inspect", name]).refused(name, &[named]);
    }
    let path = "./a/b/c";
    place.run(&["inspect", path]).refused("a path", &[path, "No such file"]);
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
    for (options, named) in [
        (["--revision", ""], "--revision: expected a branch, a tag or a commit"),
        (["--revision", "../x"], "--revision: expected a branch, a tag or a commit"),
        (["--variant", ""], "--variant: expected the name of a variant"),
        (["--variant", "fp16/x"], "--variant: expected the name of a variant"),
        (["--only", ""], "--only: expected the names of parts"),
    ] {
        refused(&[&["pull", "editmgt"], &options[..]].concat(), &[named]);
    }
    refused(&["pull", "editmgt@a", "--revision", "b"], &["two revisions", "\"a\"", "\"b\""]);
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
