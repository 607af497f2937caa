//! Against `transformers`: `scripts/make_similarity_references.py` made the checkpoints and values.

use std::fs;
use std::path::PathBuf;

use burn::tensor::Device;
use editmgt::config::UnknownKeys;
use editmgt_checkpoint::WeightFiles;
use editmgt_train::data::Captions;
use editmgt_world::Metrics;
use image::RgbImage;
use serde_json::{Value, json};

use super::preparation::{Preparation, Processor};
use super::{Clip, Compared, Dino, Encoders, WithSimilarity};
use crate::{Better, EvalError, Measured, Panels, Record, Suite};

const CLIPS: [&str; 2] = ["clip", "clip_old"];
const DINOS: [&str; 2] = ["dinov2", "vit"];
const PICTURES: [&str; 5] = ["before", "blurred", "edited", "noise", "wide"];

fn testdata() -> PathBuf {
    PathBuf::from("testdata")
}

pub(super) fn folder(name: &str) -> PathBuf {
    testdata().join("encoders").join(name)
}

fn picture(name: &str) -> RgbImage {
    let root = if name == "wide" { folder("") } else { testdata() };
    image::open(root.join(format!("{name}.png"))).unwrap().to_rgb8()
}

fn pictures() -> Vec<RgbImage> {
    PICTURES.iter().map(|name| picture(name)).collect()
}

pub(super) fn device() -> Device {
    editmgt::open_device("cpu").unwrap()
}

fn expected(key: &str) -> Vec<f32> {
    let file = WeightFiles::open_file(folder("references.safetensors")).unwrap();
    file.values(key).unwrap().unwrap_or_else(|| panic!("no {key}"))
}

fn references() -> Value {
    serde_json::from_slice(&fs::read(folder("references.json")).unwrap()).unwrap()
}

/// Features are of the order of one; sums of dozens of f32 terms differ in order.
fn assert_near(got: &[f32], key: &str) {
    let expected = expected(key);
    assert_eq!(got.len(), expected.len(), "{key}");
    let difference = |(a, b): (&f32, &f32)| (a - b).abs();
    let largest = got.iter().zip(&expected).map(difference).fold(0.0, f32::max);
    assert!(largest < 1e-5, "{key}: {largest}");
}

/// Bit-for-bit equal to Pillow's resizing and NumPy's arithmetic.
#[test]
fn pixels_are_those_of_the_image_processors() {
    let kinds = [Processor::Clip, Processor::Clip, Processor::Clip, Processor::Vit];
    for (name, kind) in CLIPS.into_iter().chain(DINOS).zip(kinds) {
        let preparation = Preparation::read(&folder(name), kind, UnknownKeys::Refuse).unwrap();
        for (picture, pixels) in PICTURES.iter().zip(pictures()) {
            let got = preparation.values(&pixels).unwrap();
            assert!(got == expected(&format!("{name}.pixels.{picture}")), "{name}: {picture}");
        }
    }
}

#[test]
fn features_are_those_of_the_library() {
    let pictures = pictures();
    let pictures: Vec<&RgbImage> = pictures.iter().collect();
    let references = references();
    let captions: Vec<&str> =
        references["captions"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    for name in CLIPS {
        let clip = Clip::open(&folder(name), &device()).unwrap();
        for (picture, got) in PICTURES.iter().zip(clip.images(&pictures).unwrap()) {
            assert_near(&got, &format!("{name}.image.{picture}"));
        }
        for (i, got) in clip.captions(&captions).unwrap().iter().enumerate() {
            assert_near(got, &format!("{name}.text.{i}"));
        }
        assert!(clip.captions(&[]).unwrap().is_empty());
    }
    for name in DINOS {
        let dino = Dino::open(&folder(name), &device()).unwrap();
        for (picture, got) in PICTURES.iter().zip(dino.images(&pictures).unwrap()) {
            assert_near(&got, &format!("{name}.image.{picture}"));
        }
        assert!(dino.images(&[&RgbImage::new(0, 3)]).is_err());
    }
}

/// Batched images have the same features as single ones.
#[test]
fn batched_images_are_independent() {
    let dino = Dino::open(&folder("vit"), &device()).unwrap();
    let (wide, noise) = (picture("wide"), picture("noise"));
    let many: Vec<&RgbImage> = (0..19).map(|i| if i % 3 == 1 { &wide } else { &noise }).collect();
    let features = dino.images(&many).unwrap();
    assert_eq!(features.len(), many.len());
    for (i, feature) in features.iter().enumerate() {
        assert_near(feature, if i % 3 == 1 { "vit.image.wide" } else { "vit.image.noise" });
    }
}

#[test]
fn similarities_are_those_of_torch() {
    let references = references();
    let name_of = |value: &Value| value.as_str().unwrap().to_owned();
    for (clip, dino) in CLIPS.into_iter().zip(DINOS) {
        let encoders = Encoders {
            clip: Some(Clip::open(&folder(clip), &device()).unwrap()),
            dino: Some(Dino::open(&folder(dino), &device()).unwrap()),
        };
        for (i, edit) in references["edits"].as_array().unwrap().iter().enumerate() {
            let caption = |key: &str| {
                let number = edit[key].as_u64().unwrap() as usize;
                Some(name_of(&references["captions"][number]))
            };
            let picture = |key: &str| picture(&name_of(&edit[key]));
            let captions = Captions { before: caption("said"), after: caption("wanted") };
            let (before, after, truth) = (picture("before"), picture("after"), picture("truth"));
            let truth = Some(&truth);
            let edit = Compared { before: &before, after: &after, truth, captions: &captions };
            let found = encoders.compare(&edit).unwrap();
            let unknown = encoders.compare(&Compared { truth: None, ..edit }).unwrap();
            assert_eq!((unknown.get("clip_i"), unknown.get("dino_i")), (None, None));
            assert_eq!(unknown.get("clip_t"), found.get("clip_t"));
            let mut count = 0;
            for (model, names) in [
                (
                    clip,
                    &[
                        ("image", "clip_i"),
                        ("image_from_photo", "clip_i_from_photo"),
                        ("text", "clip_t"),
                        ("direction", "clip_direction"),
                    ][..],
                ),
                (dino, &[("image", "dino_i"), ("image_from_photo", "dino_i_from_photo")]),
            ] {
                for (key, name) in names {
                    let expected = references["similarities"][model][i].get(key);
                    let (got, expected) = (found.get(name), expected.and_then(Value::as_f64));
                    count += usize::from(got.is_some());
                    match (got, expected) {
                        (None, None) => {}
                        (Some(got), Some(expected)) if (got - expected).abs() < 1e-5 => {}
                        other => panic!("{model} {i} {name}: {other:?}"),
                    }
                }
            }
            assert_eq!(found.iter().count(), count);
            let silent = Compared { captions: &Captions::default(), ..edit };
            let found = encoders.compare(&silent).unwrap();
            assert_eq!((found.get("clip_t"), found.get("clip_direction")), (None, None));
            assert!(found.get("clip_i").is_some());
        }
    }
}

/// Precomputed edits, the second of which was skipped.
struct Made;

impl Suite for Made {
    fn identity(&self) -> Result<Value, EvalError> {
        Ok(json!({"suite": "made"}))
    }

    fn len(&self) -> u64 {
        2
    }

    fn captions(&self, _index: u64) -> Captions {
        Captions { before: None, after: Some("a red circle".into()) }
    }

    fn measure(&self, index: u64) -> Result<Measured, EvalError> {
        let record = Record {
            index,
            name: None,
            category: None,
            kind: None,
            instruction: "make it red".into(),
            metrics: Metrics::default().with("l1", 0.5),
            skipped: (index == 1).then(|| "corrupt".into()),
        };
        let panels = (index == 0).then(|| Panels {
            before: picture("before"),
            truth: Some(picture("blurred")),
            map: None,
            held: None,
            after: picture("edited"),
        });
        Ok(Measured { record, panels, seconds: None })
    }
}

#[test]
fn similarity_is_added_to_any_suite() {
    let references = references();
    let clip = Clip::open(&folder("clip"), &device()).unwrap();
    let sha256 = clip.sha256().to_owned();
    let encoders = Encoders { clip: Some(clip), dino: None };
    let suite = WithSimilarity { suite: &Made, encoders: &encoders };
    let identity = suite.identity().unwrap();
    assert_eq!(identity["suite"], "made");
    assert_eq!(identity["encoders"], json!({"clip": {"sha256": sha256}, "dino": null}));
    assert_eq!(suite.len(), 2);
    let measured = suite.measure(0).unwrap();
    let metrics = measured.record.metrics;
    let names: Vec<&str> = metrics.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["clip_i", "clip_i_from_photo", "clip_t", "l1"]);
    let expected = references["similarities"]["clip"][0]["image"].as_f64().unwrap();
    assert!((metrics.get("clip_i").unwrap() - expected).abs() < 1e-5);
    assert_eq!(suite.measure(1).unwrap(), Made.measure(1).unwrap());
    assert!(Encoders::default().is_empty() && !encoders.is_empty());
    for name in ["clip_i", "clip_t", "clip_direction", "dino_i"] {
        assert_eq!(Better::of(name), Better::More);
    }
    for name in ["clip_i_from_photo", "dino_i_from_photo"] {
        assert_eq!(Better::of(name), Better::Neither);
    }
}
