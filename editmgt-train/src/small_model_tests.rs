//! The embedded small model, in its own world.

use std::collections::BTreeMap;

use editmgt::{EditRequest, Editor, Photo};
use editmgt_world::{Category, Split, World, WorldConfig, touched, trial, trial_with_oracle_mask};

/// Per category. The model's card has the success rates over many more.
const SCENES: u64 = 10;

#[test]
fn it_edits_held_out_scenes_of_every_category() {
    let editor = Editor::embedded().build().unwrap();
    let world = World::new(WorldConfig::embedded()).unwrap();
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
fn an_oracle_mask_keeps_all_other_tokens() {
    let editor = Editor::embedded().build().unwrap();
    let world = World::new(WorldConfig::embedded()).unwrap();
    for index in 0..14 {
        let (at, request) = ((Split::Test, index), EditRequest::default());
        let (trial, example, edited) =
            trial_with_oracle_mask(&editor, &world, at, &request).unwrap();
        assert_eq!(trial.tokens_changed_outside, 0.0, "{index}");
        let changed = example.pair.changed.unwrap();
        let free = edited.held.held().iter().filter(|held| !**held).count();
        let touched = touched(&changed, edited.tokens.size()).into_iter().filter(|&t| t).count();
        assert_eq!(free, touched, "{index}");
    }
}

#[test]
fn unknown_words_are_named() {
    let editor = Editor::embedded().build().unwrap();
    let world = World::new(WorldConfig::embedded()).unwrap();
    let photo = Photo::from_rgb(world.pair(Split::Test, 0).pair.before).unwrap();
    let request = EditRequest::new("replace the owl with a zebra");
    let error = editor.edit(&photo, &request).unwrap_err().to_string();
    for part in ["\"owl\"", "\"zebra\"", "car"] {
        assert!(error.contains(part), "{error}");
    }
}
