//! What the public registry and docs.rs need of every published crate. `scripts/check_packages.sh`
//! compiles the packages.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates that are not for others to depend on.
const UNPUBLISHED: [&str; 3] = ["editmgt-examples", "editmgt-fuzz", "editmgt-tests"];

#[test]
fn every_library_and_program_is_published() {
    let mut unpublished: Vec<_> = crates().into_iter().filter(|it| !it.is_published()).collect();
    unpublished.sort_by_key(|it| it.name().to_owned());
    assert_eq!(unpublished.iter().map(Crate::name).collect::<Vec<_>>(), UNPUBLISHED);
}

#[test]
fn published_crates_have_the_metadata_of_a_registry() {
    for it in published() {
        for key in ["description", "license", "repository", "readme", "rust_version"] {
            let text = it.metadata[key].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{}: no {key}", it.name());
        }
        assert!(it.file("README.md").is_file() || it.file("../README.md").is_file());
        for key in ["keywords", "categories"] {
            let words = strings(&it.metadata[key]);
            assert!((1..=5).contains(&words.len()), "{}: {key}: {words:?}", it.name());
            assert!(words.iter().all(|word| word.len() <= 20), "{}: {key}: {words:?}", it.name());
        }
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let text = fs::read_to_string(it.file(licence)).unwrap_or_default();
            let expected = fs::read_to_string(Path::new("..").join(licence)).unwrap();
            assert!(text == expected, "{}: expected a link {licence} to ../{licence}", it.name());
        }
        assert!(it.name().starts_with("editmgt"), "{}", it.name());
    }
}

#[test]
fn published_crates_depend_on_versions() {
    let crates = crates();
    let has_features = |name: &str| {
        let named = crates.iter().find(|it| it.name() == name);
        named.is_some_and(|it| it.metadata["features"].get("default").is_some())
    };
    for it in crates.iter().filter(|it| it.is_published()) {
        for dependency in it.metadata["dependencies"].as_array().expect("a list") {
            let name = dependency["name"].as_str().expect("a name");
            let version = dependency["req"].as_str().expect("a version");
            let what = format!("{}: {name} = {version:?}", it.name());
            if dependency["kind"] == "dev" && UNPUBLISHED.contains(&name) {
                // Packages leave out what has a path alone; the tests that need it are excluded.
                assert_eq!(version, "*", "{what}");
                assert!(it.read("Cargo.toml").contains("exclude = [\"/tests\"]"), "{what}");
                continue;
            }
            assert!(version != "*", "{what}: expected a version");
            assert!(!version.starts_with('='), "{what}: an exact version can't be combined");
            assert!(!UNPUBLISHED.contains(&name), "{what}: is not published");
            let turns_on = has_features(name) && dependency["uses_default_features"] == true;
            assert!(!turns_on, "{what}: turns on the default features");
        }
    }
}

#[test]
fn features_are_documented() {
    for it in published() {
        let Some(source) = it.library() else { continue };
        let docs_rs = &it.metadata["metadata"]["docs"]["rs"];
        assert_eq!(strings(&docs_rs["rustdoc-args"]), ["--cfg", "docsrs"], "{}", it.name());
        let manifest = it.read("Cargo.toml");
        let Some((_, features)) = manifest.split_once("\n[features]\n") else { continue };
        let mut is_documented = false;
        for line in features.lines().take_while(|line| !line.starts_with('[')) {
            if line.starts_with("## ") {
                is_documented = true;
            } else if let Some((feature, _)) =
                line.split_once(" = ").filter(|_| !line.starts_with('#'))
            {
                assert!(is_documented || feature == "default", "{}: feature {feature}", it.name());
                is_documented = false;
            }
        }
        let source = fs::read_to_string(source).unwrap();
        assert!(source.contains("document_features::document_features!()"), "{}", it.name());
    }
}

/// A package has only its own files, so neither code nor tests may read others.
#[test]
fn packaged_sources_stay_in_their_crate() {
    let mut outside = Vec::new();
    let mut includes = 0;
    for it in published() {
        let has_tests = !it.read("Cargo.toml").contains("exclude = [\"/tests\"]");
        let folders = ["src", "tests", "benches", "examples"].map(|folder| it.file(folder));
        let folders = folders.into_iter().filter(|folder| has_tests || !folder.ends_with("tests"));
        for file in folders.flat_map(|folder| sources(&folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let folder = file.parent().expect("a file is in a folder");
            for path in included(&text) {
                includes += 1;
                let inside = folder.join(path).canonicalize().is_ok_and(|path| {
                    path.starts_with(it.folder().canonicalize().expect("the crate is there"))
                });
                if !inside {
                    outside.push(format!("{}: {path}", file.display()));
                }
            }
            outside.extend(read_beside(&text).map(|path| format!("{}: {path}", file.display())));
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
    assert!(includes > 0);
}

#[test]
fn the_check_finds_paths_outside_a_crate() {
    let text = r#"include_str!("../../a.toml"); include_bytes!("b.png"); concat!("../c/", "d")"#;
    assert_eq!(included(text).collect::<Vec<_>>(), ["../../a.toml", "b.png"]);
    let text = r#"open("../examples/a.png"), ("../a", "../../b"), join("../editmgt/embedded")"#;
    let found: Vec<_> = read_beside(text).collect();
    assert_eq!(found, ["../examples/a.png", "../editmgt/embedded"]);
}

#[test]
fn copies_of_the_scene_are_the_same() {
    let scene = fs::read("../examples/scenes/scene.png").unwrap();
    let mut copies = 0;
    for folder in published().iter().flat_map(|it| [it.file("testdata"), it.file("src")]) {
        let Ok(copy) = fs::read(folder.join("scene.png")) else { continue };
        assert!(copy == scene, "{}: expected a copy of examples/scenes", folder.display());
        copies += 1;
    }
    assert!(copies > 0);
}

#[test]
fn the_embedded_model_is_small() {
    let size = size(Path::new("../editmgt/embedded"));
    assert!(size <= 10_000_000, "{size} bytes");
}

/// A crate of the workspace, as `cargo metadata` describes it.
struct Crate {
    metadata: Value,
}

impl Crate {
    fn name(&self) -> &str {
        self.metadata["name"].as_str().expect("a crate has a name")
    }

    fn is_published(&self) -> bool {
        self.metadata["publish"].is_null()
    }

    fn folder(&self) -> PathBuf {
        let manifest = self.metadata["manifest_path"].as_str().expect("a crate has a manifest");
        Path::new(manifest).parent().expect("a manifest is in a folder").to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// The root of its library, unless it is a program.
    fn library(&self) -> Option<PathBuf> {
        let targets = self.metadata["targets"].as_array().expect("a crate has targets");
        let library = targets.iter().find(|target| strings(&target["kind"]) == ["lib"])?;
        Some(PathBuf::from(library["src_path"].as_str().expect("a target has a root")))
    }
}

fn crates() -> Vec<Crate> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir("..");
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let Value::Array(packages) = metadata["packages"].take() else { panic!("no packages") };
    packages.into_iter().map(|metadata| Crate { metadata }).collect()
}

fn published() -> Vec<Crate> {
    crates().into_iter().filter(Crate::is_published).collect()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The Rust files below a folder; none where there is no such folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The literal paths of `include_str!` and `include_bytes!`.
fn included(text: &str) -> impl Iterator<Item = &str> {
    let calls = ["include_str!(\"", "include_bytes!(\""];
    calls
        .into_iter()
        .flat_map(|call| text.split(call).skip(1))
        .map(|rest| rest.split_once('"').map_or(rest, |(path, _)| path))
}

/// Paths in string literals that lead to other folders of the repository from where tests run.
fn read_beside(text: &str) -> impl Iterator<Item = &str> {
    let beside = ["examples", "tests", "configs", "docs", "scripts", "editmgt", "shared"];
    let literals =
        text.split('"').filter_map(|literal| Some((literal, literal.strip_prefix("../")?)));
    literals
        .filter(move |(_, path)| beside.into_iter().any(|folder| path.starts_with(folder)))
        .map(|(literal, _)| literal)
}

/// Bytes of all files in a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => size(&entry.path()),
        metadata => metadata.len(),
    });
    sizes.sum()
}
