//! The embedded small model, in its own world.

use std::collections::BTreeMap;
use std::path::Path;

use editmgt::{EditRequest, Editor, Photo};
use editmgt_world::{Category, Split, World, WorldConfig, shapes, trial};

use crate::codec::CodecRun;
use crate::edit::EditRun;

/// Per category. The model's card has the success rates over many more.
const SCENES: u64 = 10;

#[test]
fn it_edits_held_out_scenes_of_every_category() {
    let editor = Editor::embedded().build().unwrap();
    let world = World::new(WorldConfig::small()).unwrap();
    let mut successes = BTreeMap::new();
    // The categories alternate.
    for index in 0..SCENES * Category::ALL.len() as u64 {
        let request = EditRequest::default();
        let (trial, ..) = trial(&editor, &world, (Split::Test, index), &request).unwrap();
        *successes.entry(trial.category).or_default() += u64::from(trial.judgement.success);
    }
    assert_eq!(successes.len(), Category::ALL.len());
    // Few scenes give a coarse rate; the lowest category has 82% of 73.
    assert!(successes.values().all(|&n| 2 * n >= SCENES), "{successes:?}");
    let all: u64 = successes.values().sum();
    assert!(10 * all >= 8 * SCENES * Category::ALL.len() as u64, "{successes:?}");
}

#[test]
fn unknown_words_are_named() {
    let editor = Editor::embedded().build().unwrap();
    let world = World::new(WorldConfig::small()).unwrap();
    let photo = Photo::from_rgb(world.pair(Split::Test, 0).pair.before).unwrap();
    let request = EditRequest::new("replace the owl with a zebra");
    let error = editor.edit(&photo, &request).unwrap_err().to_string();
    for part in ["\"owl\"", "\"zebra\"", "circle"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn embedded_model_is_small_and_has_the_configs_world() {
    let edit = EditRun::from_toml(include_str!("../../configs/embedded-edit.toml")).unwrap();
    let world = edit.world.unwrap().with_categories(Category::ALL.to_vec());
    assert_eq!(world, WorldConfig::small());
    let codec = CodecRun::from_toml(include_str!("../../configs/world-codec.toml")).unwrap();
    let WorldConfig::Shapes(world) = codec.world else { panic!("a world of shapes") };
    assert_eq!(shapes::WorldConfig { max_objects: 3, ..world }, shapes::WorldConfig::small());

    let folder = Path::new("../editmgt/embedded");
    assert!(size(folder) <= 8_000_000, "{} bytes", size(folder));
}

/// Bytes of all files in a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => size(&entry.path()),
        metadata => metadata.len(),
    });
    sizes.sum()
}
