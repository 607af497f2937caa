//! Several photos in shared forward passes: each result is the one of an edit by itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use editmgt::sampler::HoldThreshold;
use editmgt::{
    AttentionRequest, ChaChaNoise, CompositePolicy, EditError, EditRequest, Editor, EditorBuilder,
    Error, HoldPolicy, KeywordPolicy, Mask, MgtTransformer, Model, ModelFolder, Photo, StepInput,
    StepOutput, TransformerSpec,
};
use image::{GrayImage, Luma};

use crate::defaults::{golden, options, photo};

/// A transformer that counts its forward passes.
struct Counting(Arc<dyn MgtTransformer>, Arc<AtomicUsize>);

impl MgtTransformer for Counting {
    fn spec(&self) -> &TransformerSpec {
        self.0.spec()
    }

    fn forward(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
    ) -> Result<StepOutput, Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.forward(input, request)
    }
}

/// A model of the table, and how often its transformer ran.
struct Subject {
    name: &'static str,
    root: PathBuf,
    transformer: Arc<dyn MgtTransformer>,
    passes: Arc<AtomicUsize>,
    /// Three photos of one size, and one of another.
    photos: [Photo; 4],
}

const STEPS: usize = 3;

impl Subject {
    fn all() -> [Self; 2] {
        let new = |name, root: PathBuf, sides: [u32; 2]| {
            let model = Model::load(&ModelFolder::open(&root).unwrap(), &options()).unwrap();
            let [one, other] = sides;
            let photos = [(one, 0), (one, 5), (one, 9), (other, 3)]
                .map(|(width, shift)| cut_from_photo([width, one], shift));
            Self {
                name,
                root,
                transformer: model.transformer.into(),
                passes: Arc::default(),
                photos,
            }
        };
        [
            new("embedded", "../editmgt/embedded".into(), [64, 100]),
            new("golden", golden("pipeline_edit_clip_nodown"), [48, 80]),
        ]
    }

    fn builder(&self) -> EditorBuilder {
        let counting = Counting(self.transformer.clone(), self.passes.clone());
        Editor::builder(&self.root).device(options().device).transformer(counting)
    }

    /// Edits each photo by itself and all of them together, compares, and returns how many passes
    /// of the transformer each took.
    fn compare(&self, case: &str, editor: &Editor, edits: &[(&Photo, EditRequest)]) -> [usize; 2] {
        let case = format!("{}, {case}", self.name);
        self.passes.store(0, Ordering::Relaxed);
        let alone: Vec<_> =
            edits.iter().map(|(photo, request)| editor.edit(photo, request)).collect();
        let passes = self.passes.swap(0, Ordering::Relaxed);
        let together: Vec<_> = editor.edit_batch(edits.iter().cloned()).collect();
        assert_eq!(together.len(), edits.len(), "{case}");
        for (i, (alone, together)) in alone.into_iter().zip(together).enumerate() {
            let case = format!("{case}, edit {i}");
            let (alone, together) = match (alone, together) {
                (Ok(alone), Ok(together)) => (alone, together),
                (Err(alone), Err(together)) => {
                    assert_eq!(together.to_string(), alone.to_string(), "{case}");
                    continue;
                }
                (alone, together) => panic!("{case}: {:?} {:?}", alone.err(), together.err()),
            };
            assert_eq!(together.tokens, alone.tokens, "{case}");
            assert_eq!(together.reference, alone.reference, "{case}");
            assert_eq!(together.held, alone.held, "{case}");
            assert_eq!(together.image, alone.image, "{case}");
            assert_eq!(together.change, alone.change, "{case}");
            assert_eq!(together.scores.is_some(), alone.scores.is_some(), "{case}");
            let (together, alone) = (together.report, alone.report);
            assert_eq!(together.request, alone.request, "{case}");
            assert_eq!(together.settings, alone.settings, "{case}");
            assert_eq!(together.composite, alone.composite, "{case}");
            assert_eq!(together.custom_stages, alone.custom_stages, "{case}");
            assert_eq!(together.blocks, alone.blocks, "{case}");
        }
        [passes, self.passes.load(Ordering::Relaxed)]
    }
}

/// Photos of one size and other content.
fn cut_from_photo([width, height]: [u32; 2], shift: u32) -> Photo {
    let larger = photo(width + shift, height + shift);
    let cut = image::imageops::crop_imm(larger.rgb(), shift, shift, width, height);
    Photo::from_rgb(cut.to_image()).unwrap()
}

/// Something that differs by seed.
fn request(instruction: &str) -> EditRequest {
    EditRequest::new(instruction).steps(STEPS).temperature((1.5, 0.0))
}

fn red() -> EditRequest {
    request("make the red car blue").hold(HoldPolicy::Auto)
}

#[test]
fn photos_of_one_size_share_passes() {
    for subject in Subject::all() {
        let [a, b, c, _] = &subject.photos;
        let edits = [
            (a, red().seed(1)),
            (b, request("remove the green apple").hold(HoldPolicy::Auto).seed(2)),
            (c, red().seed(1).variation(3)),
            (a, red().seed(4).composite(CompositePolicy::Held).feather(2)),
        ];
        for (limit, passes) in [(4, 1), (2, 2), (3, 2), (1, 4), (0, 4)] {
            let editor = subject.builder().forward_batch(limit).build().unwrap();
            let case = format!("passes of {limit}");
            let [alone, together] = subject.compare(&case, &editor, &edits);
            assert_eq!((alone, together), (4 * STEPS, passes * STEPS), "{case}");
        }
        // Seeds and variations count.
        let editor = subject.builder().build().unwrap();
        let tokens: Vec<_> = [red().seed(1), red().seed(2), red().seed(1).variation(1)]
            .map(|request| editor.edit(a, request.hold(HoldPolicy::Off)).unwrap().tokens)
            .into();
        assert!(tokens[0] != tokens[1] && tokens[0] != tokens[2], "{}", subject.name);
    }
}

#[test]
fn photos_of_two_sizes_and_other_options_take_turns() {
    for subject in Subject::all() {
        let [a, b, c, other] = &subject.photos;
        let editor = subject.builder().build().unwrap();
        let edits =
            [(a, red()), (b, red()), (other, red()), (other, red()), (c, red()), (a, red())];
        let [_, together] = subject.compare("two sizes", &editor, &edits);
        assert_eq!(together, 3 * STEPS);
        let edits = [
            (a, red()),
            (b, red().steps(2)),
            (c, red().reference_strength(0.7)),
            (a, red().hold(HoldPolicy::Threshold(0.3))),
            (b, red().score_map(true)),
        ];
        let [alone, together] = subject.compare("other options", &editor, &edits);
        assert_eq!(together, alone);
    }
}

#[test]
fn keywords_may_be_missing_in_some() {
    for subject in Subject::all() {
        let [a, b, c, _] = &subject.photos;
        let editor = subject.builder().build().unwrap();
        let auto = |text: &str| request(text).hold(HoldPolicy::Auto).keyword(KeywordPolicy::Auto);
        let edits =
            [(a, auto("make the red car blue")), (b, auto("make")), (c, auto("remove the apple"))];
        let [_, together] = subject.compare("keyword auto", &editor, &edits);
        assert_eq!(together, STEPS);
        let phrases = |text: &str, phrases: &[&str]| {
            let phrases = phrases.iter().map(|&phrase| phrase.to_owned()).collect();
            request(text).hold(HoldPolicy::Threshold(0.4)).keyword(KeywordPolicy::Phrases(phrases))
        };
        let edits = [
            (a, phrases("make the red car blue", &["red", "car"])),
            (b, phrases("remove the green apple", &["green apple", "remove"])),
            (c, phrases("remove the green apple", &["apple"])),
        ];
        let [_, together] = subject.compare("phrases", &editor, &edits);
        assert_eq!(together, 2 * STEPS);
    }
}

#[test]
fn a_mask_is_edited_by_itself() {
    for subject in Subject::all() {
        let [a, b, c, _] = &subject.photos;
        let editor = subject.builder().build().unwrap();
        let (width, height) = b.rgb().dimensions();
        let half = |x, _| Luma([if x < width / 2 { 0 } else { 255 }]);
        let mask = Mask::from_luma(GrayImage::from_fn(width, height, half));
        let edits = [(a, red()), (b, red().mask(mask)), (c, red()), (a, red().seed(5))];
        let [_, together] = subject.compare("a mask", &editor, &edits);
        assert_eq!(together, 3 * STEPS);
    }
}

#[test]
fn an_edit_that_fails_leaves_the_others_alone() {
    for subject in Subject::all() {
        let [a, b, c, _] = &subject.photos;
        let editor = subject.builder().build().unwrap();
        let phrase = |phrase: &str| red().keyword(KeywordPolicy::phrase(phrase));
        let edits = [
            (a, phrase("car")),
            // Found when its text is encoded, in the same pass as the others.
            (b, phrase("owl")),
            (c, phrase("red")),
            // Found before anything is computed.
            (a, red().steps(0)),
            (b, phrase("car").seed(5)),
            (c, phrase("car").seed(6)),
        ];
        let [_, together] = subject.compare("two fail", &editor, &edits);
        assert_eq!(together, 3 * STEPS);
        let errors: Vec<_> = editor.edit_batch(edits).map(|result| result.err()).collect();
        let failed: Vec<_> = (0..errors.len()).filter(|&i| errors[i].is_some()).collect();
        assert_eq!(failed, [1, 3]);
        assert!(matches!(errors[3], Some(EditError::Option { option: "steps", .. })));
    }
}

#[test]
fn guidance_has_a_negative_prompt_for_each() {
    for subject in Subject::all() {
        let [a, b, c, _] = &subject.photos;
        let editor = subject.builder().build().unwrap();
        let guided = |seed, negative: &str| {
            red().seed(seed).guidance_scale(3.0).negative_prompt(negative.to_owned())
        };
        let edits = [(a, guided(1, "")), (b, guided(2, "red car")), (c, guided(3, "house"))];
        let [alone, together] = subject.compare("guidance", &editor, &edits);
        assert_eq!(alone, 3 * together);
        let interval = |seed| guided(seed, "").guidance_interval((0.0, 0.5));
        let edits = [(a, interval(1)), (b, interval(2))];
        subject.compare("guidance in an interval", &editor, &edits);
    }
}

#[test]
fn custom_noise_and_holds_are_shared() {
    for subject in Subject::all() {
        let [a, b, c, _] = &subject.photos;
        let editor = subject
            .builder()
            .noise(ChaChaNoise::new(11))
            .hold(HoldThreshold::new(0.4).unwrap())
            .build()
            .unwrap();
        // The seed does not count then, the variation does.
        let edits = [(a, red().seed(1)), (b, red().seed(2).variation(4)), (c, red())];
        let [_, together] = subject.compare("noise and hold of the editor", &editor, &edits);
        assert_eq!(together, STEPS);

        let editor = subject.builder().build().unwrap();
        let hold = HoldPolicy::custom(HoldThreshold::new(0.4).unwrap());
        let other = HoldPolicy::custom(HoldThreshold::new(0.6).unwrap());
        let held = |hold: &HoldPolicy, seed| red().hold(hold.clone()).seed(seed);
        let edits = [(a, held(&hold, 1)), (b, held(&hold, 2)), (c, held(&other, 3))];
        let [_, together] = subject.compare("hold of the request", &editor, &edits);
        assert_eq!(together, 2 * STEPS);
    }
}
