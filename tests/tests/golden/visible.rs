//! The composite by visible change: pixels without visible change are the photo's, byte for byte,
//! for all kinds of edits. The small model edits a scene of its own world, in which the edited
//! region is known.

use std::ops::Range;
use std::sync::Arc;

use editmgt::batch::{Batch, BatchFolder, JobStatus, Shard, read_jobs};
use editmgt::{
    CompositePolicy, EditError, EditEvent, EditRequest, EditResult, Editor, Flow, HoldPolicy,
    Photo, Previews, Resize, Silent, StoppedEdit, preview_photo,
};
use image::RgbImage;
use serde_json::json;

const SCENE: &str = "../examples/scenes/scene.png";
const INSTRUCTION: &str = "make the red car blue";
/// Columns and rows of the red car in the scene, and half a cell of the model's attention around
/// it: nothing else may change.
const AROUND_THE_CAR: [Range<u32>; 2] = [8..56, 72..120];

fn editor(low_memory: bool) -> Editor {
    Editor::builder("../editmgt/embedded").low_memory(low_memory).build().unwrap()
}

fn scene() -> Photo {
    Photo::open(SCENE).unwrap()
}

/// Nothing is held: the result depends on the composite only.
fn request() -> EditRequest {
    EditRequest::new(INSTRUCTION).hold(HoldPolicy::Off)
}

/// Only the surroundings of the car changed, and the car did.
fn assert_local(edited: &RgbImage, photo: &RgbImage, what: &str) {
    let mut changed = 0;
    for (x, y, pixel) in edited.enumerate_pixels() {
        if AROUND_THE_CAR[0].contains(&x) && AROUND_THE_CAR[1].contains(&y) {
            changed += usize::from(pixel != photo.get_pixel(x, y))
        } else {
            assert_eq!(pixel, photo.get_pixel(x, y), "{what}: {x},{y}")
        }
    }
    assert!(changed > 50, "{what}: {changed} pixels changed");
}

/// The result is consistent: pixels of weight 0 are the photo's.
fn assert_consistent(result: &EditResult, photo: &Photo, what: &str) {
    assert_eq!(result.report.settings.composite, CompositePolicy::Visible, "{what}");
    assert_eq!(result.report.tokens_held, 0.0, "{what}");
    let weights = result.change.as_ref().unwrap().weights();
    let pairs = result.image.rgb().pixels().zip(photo.rgb().pixels());
    let mut kept = 0;
    for (i, (pixel, own)) in pairs.enumerate() {
        assert!(weights[i] > 0 || pixel == own, "{what}: pixel {i}");
        kept += usize::from(pixel == own);
    }
    let share = kept as f32 / weights.len() as f32;
    assert!((result.report.pixels_kept - share).abs() < 1e-6, "{what}: {share}");
    assert!(weights.contains(&0), "{what}: everything changed");
}

#[test]
fn previews_change_only_the_edited_region() {
    let photo = scene();
    let editor = editor(false);
    for shrink in [1, 2] {
        let mut previews = Vec::new();
        let mut observer = Previews::every(1, |event: &EditEvent<'_>| {
            if let EditEvent::Preview { image, .. } = event {
                previews.push(preview_photo(image).unwrap());
            }
            Flow::Continue
        })
        .shrunk(shrink);
        let result = editor.edit_observed(&photo, &request(), &mut observer).unwrap();
        assert_local(result.image.rgb(), photo.rgb(), "the result");
        assert_eq!(previews.len(), result.report.settings.steps);
        let last = previews.last().unwrap().rgb();
        if shrink == 1 {
            assert_eq!(last, result.image.rgb(), "the last preview is the result");
            assert_local(previews[0].rgb(), photo.rgb(), "the first preview");
        } else {
            for (x, y, pixel) in last.enumerate_pixels() {
                if AROUND_THE_CAR[0].contains(&(2 * x)) && AROUND_THE_CAR[1].contains(&(2 * y)) {
                    continue;
                }
                // A pixel of the preview is the mean of four.
                for channel in 0..3 {
                    let four = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| {
                        f32::from(photo.rgb().get_pixel(2 * x + dx, 2 * y + dy).0[channel])
                    });
                    let mean = four.iter().sum::<f32>() / 4.0;
                    let got = f32::from(pixel.0[channel]);
                    assert!((got - mean).abs() <= 0.51, "{x},{y}: {got}, not {mean}");
                }
            }
        }
    }
}

#[test]
fn every_resize_changes_only_the_edited_region() {
    let editor = editor(false);
    let whole = scene();
    let mut cropped = 0;
    let (width, height) = whole.rgb().dimensions();
    for (w, h) in [
        (width, height),
        (width, height - 16),
        (width, height - 19),
        (width - 23, height),
        (width - 3, height - 5),
    ] {
        // The car stays in the image.
        let part = image::imageops::crop_imm(whole.rgb(), 0, 0, w, h).to_image();
        let photo = Photo::from_rgb(part).unwrap();
        for resize in [Resize::Fit, Resize::Pad, Resize::Crop, Resize::Native] {
            // The photo without resizing.
            if resize == Resize::Native && [w, h].iter().any(|side| side % 16 != 0) {
                continue;
            }
            for feather in [0, 5] {
                let what = format!("{w}x{h}, {resize:?}, feather {feather}");
                let request = request().resize(resize).feather(feather);
                let result = editor.edit(&photo, &request).unwrap();
                assert_consistent(&result, &photo, &what);
                assert_eq!(result.image.size(), photo.size(), "{what}");
                if (w, h) == (width, height) {
                    assert_local(result.image.rgb(), photo.rgb(), &what);
                }
                // Cropped pixels are the photo's.
                let grid = result.reference.size();
                let rows = result.report.plan.token_rows(grid.height);
                let columns = result.report.plan.token_columns(grid.width);
                let mut unseen = 0;
                for (x, y, pixel) in result.image.rgb().enumerate_pixels() {
                    if rows[y as usize].zip(columns[x as usize]).is_none() {
                        assert_eq!(pixel, photo.rgb().get_pixel(x, y), "{what}: {x},{y}");
                        unseen += 1;
                    }
                }
                if resize == Resize::Crop {
                    cropped += unseen;
                }
            }
        }
    }
    assert!(cropped > 0, "nothing was cropped");
}

#[test]
fn low_memory_variations_and_resumed_edits_change_only_the_edited_region() {
    let photo = Arc::new(scene());
    let request = request().steps(3);
    let mut results = Vec::new();
    for low_memory in [false, true] {
        let open = editor(low_memory).open_photo(photo.clone());
        let whole: Vec<_> =
            open.variations(&request, 2, &mut Silent).collect::<Result<_, _>>().unwrap();
        for (variation, result) in whole.iter().enumerate() {
            let what = format!("variation {variation}, low memory {low_memory}");
            assert_consistent(result, &photo, &what);
            assert_local(result.image.rgb(), photo.rgb(), &what);
        }
        // Stopped after the first step, and resumed, also by another editor.
        let mut stop = |event: &EditEvent<'_>| match event {
            EditEvent::Step { completed: 1, .. } => Flow::Stop,
            _ => Flow::Continue,
        };
        let stopped = open.edit_observed(&request, &mut stop).unwrap_err();
        let EditError::Stopped(StoppedEdit { progress: Some(progress), .. }) = stopped else {
            panic!("{stopped}")
        };
        for open in [open, editor(low_memory).open_photo(photo.clone())] {
            let resumed = open.resume(&request, (*progress).clone(), &mut Silent).unwrap();
            assert_eq!(resumed.report.resumed_after, 1);
            assert_consistent(&resumed, &photo, "resumed");
            assert_eq!(resumed.image, whole[0].image, "low memory {low_memory}");
            assert_eq!(resumed.report.composite, whole[0].report.composite);
        }
        results.push(whole.into_iter().map(|result| result.image).collect::<Vec<_>>());
    }
    assert_eq!(results[0], results[1], "low memory gives the same image");
}

#[test]
fn batches_change_only_the_edited_region() {
    let photo = scene();
    let dir = tempfile::tempdir().unwrap();
    let scene = std::fs::canonicalize(SCENE).unwrap();
    let job = |more: serde_json::Value| {
        let mut job = json!({"photo": scene, "instruction": INSTRUCTION, "hold": "off"});
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("{job}\n")
    };
    let lines = [json!({}), json!({"variation": 1}), json!({"resize": "native"})].map(job);
    let path = dir.path().join("jobs.jsonl");
    std::fs::write(&path, lines.concat()).unwrap();
    let jobs = read_jobs(&path).unwrap();
    for extension in ["png", "tiff", "bmp", "webp"] {
        let out = dir.path().join(extension);
        let mut folder = BatchFolder::open(&out, Shard::ALL, false).unwrap();
        let mut batch = Batch::new(editor(false), &mut folder).unwrap();
        batch.extension = extension.to_owned();
        for job in &jobs {
            let entry = batch.edit(job, &mut Silent).unwrap();
            assert_eq!(entry.status, JobStatus::Done, "{entry:?}");
            let written = image::open(out.join(entry.output.unwrap())).unwrap().into_rgb8();
            assert_local(&written, photo.rgb(), &format!("{extension}, {}", job.name));
        }
    }
}
