//! Repeated edits of one photo, and stopped and resumed edits.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::Tensor;
use editmgt::{
    AttentionRequest, CodecSpec, EditError, EditEvent, EditObserver, EditRequest, EditResult,
    Editor, Error, Flow, HoldPolicy, Holding, KeywordPolicy, LoopProgress, MapCombine, MapFilter,
    Mask, MgtTransformer, Previews, Silent, Stage, StepInput, StepOutput, StoppedEdit,
    TextConditioning, TextEncoder, TextSpec, TokenGrid, TransformerSpec, VqCodec, preview_photo,
};
use image::{GrayImage, Luma};

use crate::defaults::{masked, photo, request, small};

/// Call counts of the stages.
#[derive(Default)]
struct Calls {
    encoded: AtomicUsize,
    decoded: AtomicUsize,
    read: AtomicUsize,
    /// Images in the forward passes, including the unconditional ones.
    forwarded: AtomicUsize,
}

impl Calls {
    fn counts(&self) -> [usize; 3] {
        [&self.encoded, &self.decoded, &self.read].map(|count| count.load(Ordering::Relaxed))
    }
}

/// A stage that counts its calls.
struct Counting<T: ?Sized>(Box<T>, Arc<Calls>);

impl VqCodec for Counting<dyn VqCodec> {
    fn spec(&self) -> &CodecSpec {
        self.0.spec()
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid, Error> {
        self.1.encoded.fetch_add(1, Ordering::Relaxed);
        self.0.encode(images)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>, Error> {
        self.1.decoded.fetch_add(1, Ordering::Relaxed);
        self.0.decode(tokens)
    }
}

impl TextEncoder for Counting<dyn TextEncoder> {
    fn spec(&self) -> TextSpec {
        self.0.spec()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning, Error> {
        self.1.read.fetch_add(prompts.len(), Ordering::Relaxed);
        self.0.encode(prompts)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>, Error> {
        self.0.spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>, Error> {
        self.0.prompt_rows(prompt)
    }
}

impl MgtTransformer for Counting<dyn MgtTransformer> {
    fn spec(&self) -> &TransformerSpec {
        self.0.spec()
    }

    fn forward(&self, input: &StepInput<'_>, ask: &AttentionRequest) -> Result<StepOutput, Error> {
        self.1.forwarded.fetch_add(input.tokens.batch(), Ordering::Relaxed);
        self.0.forward(input, ask)
    }
}

fn counting() -> (Editor, Arc<Calls>) {
    let (mut model, calls) = (small(), Arc::new(Calls::default()));
    model.codec = Box::new(Counting(model.codec, calls.clone()));
    model.text = Box::new(Counting(model.text, calls.clone()));
    model.transformer = Box::new(Counting(model.transformer, calls.clone()));
    model.source = None;
    (Editor::new(model).unwrap(), calls)
}

fn stages(result: &EditResult) -> Vec<Stage> {
    result.report.seconds.iter().map(|(stage, _)| *stage).collect()
}

#[test]
fn a_second_edit_encodes_nothing_again() {
    use Stage::{Decode, EncodeImage, EncodeText, Sample};
    let (editor, calls) = counting();
    let open = editor.open_photo(photo(48, 40));
    let edit = |request: &EditRequest| open.edit(request).unwrap();
    let red = request(48);
    let blue = red.clone().instruction("make the owl blue");

    let first = edit(&red);
    assert_eq!(calls.counts(), [1, 2, 2], "a photo and its own decode, two prompts");
    assert_eq!(stages(&first), [EncodeText, EncodeImage, Sample, Decode]);
    let second = edit(&blue);
    assert_eq!(calls.counts(), [1, 3, 3], "another instruction; the photo's own decode is kept");
    assert_eq!(stages(&second), [EncodeText, Sample, Decode]);
    let again = edit(&red.clone().seed(1));
    assert_eq!(calls.counts(), [1, 4, 3]);
    assert_eq!(stages(&again), [Sample, Decode]);
    let larger = edit(&red.clone().size(64));
    assert_eq!(calls.counts(), [2, 6, 3], "other tokens of the photo, and their decode");
    assert_eq!(stages(&larger), [EncodeImage, Sample, Decode]);

    let fresh = editor.edit(open.photo(), &blue).unwrap();
    assert_eq!((fresh.tokens, fresh.image), (second.tokens, second.image));
    assert_eq!(calls.counts()[0], 3, "an edit by itself keeps nothing");
}

#[test]
fn previews_cost_nothing_unless_asked_for() {
    let (editor, calls) = counting();
    let open = editor.open_photo(photo(48, 48));
    let request = request(48).steps(5);
    let mut steps = 0;
    let mut watch = |event: &EditEvent<'_>| {
        assert!(!matches!(event, EditEvent::Preview { .. }), "not asked for");
        steps += usize::from(matches!(event, EditEvent::Step { .. }));
        Flow::Continue
    };
    let plain = open.edit_observed(&request, &mut watch).unwrap();
    assert_eq!((steps, calls.counts()[1]), (5, 2), "the edit, and the photo's own tokens");

    for (every, expected) in [(2, vec![2, 4, 5]), (0, vec![5]), (9, vec![5])] {
        let before = calls.counts()[1];
        let (mut seen, mut last) = (Vec::new(), None);
        let mut observer = Previews::every(every, |event: &EditEvent<'_>| {
            if let EditEvent::Preview { completed, total, image } = event {
                assert_eq!(*total, 5);
                seen.push(*completed);
                last = Some(preview_photo(image).unwrap());
            }
            Flow::Continue
        });
        let previewed = open.edit_observed(&request, &mut observer).unwrap();
        assert_eq!(seen, expected);
        // The edit, and the photo's own tokens in the size of the previews, which show the
        // composite.
        assert_eq!(calls.counts()[1] - before, expected.len() + 2);
        assert_eq!(previewed.tokens, plain.tokens, "looking changes nothing");
        // Nothing is held and the photo's size suits the codec: the last preview is the edit.
        assert_eq!(last.unwrap().rgb(), previewed.image.rgb());
    }
}

#[test]
fn a_variation_is_reproducible_alone() {
    let (editor, calls) = counting();
    let open = editor.open_photo(photo(48, 48));
    let request = request(48).variation(1).seed(5);
    let mut silent = Silent;
    let all: Vec<_> = open.variations(&request, 3, &mut silent).map(Result::unwrap).collect();
    assert_eq!(calls.counts(), [1, 4, 2], "three edits, and the photo's own tokens");
    for (i, one) in all.iter().enumerate() {
        let variation = 1 + i as u32;
        assert_eq!(one.report.settings.variation, variation);
        let alone = request.clone().variation(variation);
        let alone = editor.edit(open.photo(), &alone).unwrap();
        assert_eq!(alone.tokens, one.tokens);
        assert!(all[..i].iter().all(|other| other.tokens != one.tokens), "variation {variation}");
    }
    let last = request.variation(u32::MAX - 1);
    let mut silent = Silent;
    let ends: Vec<_> = open.variations(&last, 3, &mut silent).map(|r| r.is_ok()).collect();
    assert_eq!(ends, [true, false, false], "image indices end at 2^32");
}

/// Stops at the `n`th event, and counts events.
struct StopAt {
    n: usize,
    seen: usize,
}

impl EditObserver for StopAt {
    fn event(&mut self, _: &EditEvent<'_>) -> Flow {
        self.seen += 1;
        if self.seen == self.n { Flow::Stop } else { Flow::Continue }
    }
}

fn progress(error: EditError) -> Option<LoopProgress> {
    match error {
        EditError::Stopped(StoppedEdit { completed, total, progress, .. }) => {
            assert_eq!(progress.as_ref().map_or(0, |progress| progress.completed), completed);
            assert!(completed <= total);
            progress.map(|progress| *progress)
        }
        error => panic!("{error}"),
    }
}

#[test]
fn edit_resumed_after_any_stop_equals_unbroken_edit() {
    let editor = Editor::new(small()).unwrap();
    let open = editor.open_photo(photo(48, 48));
    let half = |x| Luma([if x < 24 { 0 } else { 255 }]);
    let mask = Mask::from_luma(GrayImage::from_fn(48, 48, |x, _| half(x)));
    let hold = Some(HoldPolicy::Threshold(0.4));
    let plain = request(48).steps(4).hold(hold);
    let cases = [
        (None, plain.clone()),
        (None, plain.clone().holding(Holding::Parity).seed(2)),
        (Some(&mask), plain.guidance_interval((0.0, 0.5))),
    ];
    for (mask, request) in cases {
        let request = masked(&request, mask);
        let unbroken = open.edit(&request).unwrap();
        // Sampling and decoding start and finish, four steps; nothing is encoded again.
        for n in 1..=8 {
            let mut stop = StopAt { n, seen: 0 };
            let stopped = progress(open.edit_observed(&request, &mut stop).unwrap_err());
            assert_eq!(stop.seen, n, "no event after the stop");
            let completed = stopped.as_ref().map_or(0, |progress| progress.completed);
            assert_eq!(completed, (n - 1).min(4));
            let Some(stopped) = stopped else { continue };
            let resumed = open.resume(&request, stopped, &mut Silent).unwrap();
            assert_eq!(resumed.tokens, unbroken.tokens, "stopped at event {n}");
            assert_eq!(resumed.image, unbroken.image);
            assert_eq!(
                (resumed.held, resumed.scores),
                (unbroken.held.clone(), unbroken.scores.clone())
            );
            assert_eq!(resumed.report.ties, unbroken.report.ties);
            assert_eq!(resumed.report.scores, unbroken.report.scores);
            assert_eq!(resumed.report.resumed_after, completed);
        }
    }
}

#[test]
fn progress_of_another_edit_is_refused() {
    let editor = Editor::new(small()).unwrap();
    let open = editor.open_photo(photo(48, 48));
    let plain = request(48).steps(4);
    let mut stop = StopAt { n: 8, seen: 0 };
    let stopped = progress(open.edit_observed(&plain, &mut stop).unwrap_err()).unwrap();
    let black =
        Mask::from_luma(GrayImage::from_fn(48, 48, |x, _| Luma([if x < 40 { 0 } else { 255 }])));
    for (what, mask, request) in [
        ("another size", None, plain.clone().size(64)),
        ("fewer steps", None, plain.clone().steps(2)),
        ("another mask", Some(&black), plain.clone()),
    ] {
        let error = open.resume(&masked(&request, mask), stopped.clone(), &mut Silent).unwrap_err();
        let refused = matches!(error, EditError::Stage(Error::Shape { .. } | Error::Value { .. }));
        assert!(refused, "{what}: {error}");
    }
}

#[test]
fn guidance_outside_its_interval_costs_nothing() {
    let (editor, calls) = counting();
    let open = editor.open_photo(photo(48, 48));
    for (scale, interval, images) in [
        (1.0, (0.0, 1.0), 4),
        (3.0, (0.0, 1.0), 8),
        (3.0, (0.0, 0.5), 6),
        (3.0, (0.3, 0.4), 5),
        (3.0, (0.5, 0.5), 4),
    ] {
        let before = calls.forwarded.load(Ordering::Relaxed);
        let request = request(48).steps(4).guidance_scale(scale).guidance_interval(interval);
        open.edit(&request).unwrap();
        let forwarded = calls.forwarded.load(Ordering::Relaxed) - before;
        assert_eq!(forwarded, images, "{scale} in {interval:?}");
    }
}

#[test]
fn phrases_have_a_map_each() {
    let editor = Editor::new(small()).unwrap();
    let open = editor.open_photo(photo(48, 48));
    let scores = |phrases: &[&str], how| {
        let phrases = phrases.iter().map(|&phrase| phrase.to_owned()).collect();
        let request = request(48)
            .steps(1)
            .hold(HoldPolicy::Threshold(0.5))
            .keyword(KeywordPolicy::Phrases(phrases))
            .keyword_maps(how);
        let result = open.edit(&request).unwrap();
        result.scores.unwrap().values().to_vec()
    };
    let (owl, fox) = (scores(&["owl"], MapCombine::Max), scores(&["fox"], MapCombine::Max));
    let largest = scores(&["owl", "fox"], MapCombine::Max);
    let mean = scores(&["owl", "fox"], MapCombine::Mean);
    assert_ne!(owl, fox);
    for i in 0..owl.len() {
        assert_eq!(largest[i], owl[i].max(fox[i]));
        // One sum of two numbers of about 1.
        assert!((mean[i] - (owl[i] + fox[i]) / 2.0).abs() < 1e-6);
    }
}

#[test]
fn score_map_filter_is_applied() {
    let editor = Editor::new(small()).unwrap();
    let open = editor.open_photo(photo(48, 48));
    let scores = |map_filter| {
        let request = request(48).steps(1).hold(HoldPolicy::Threshold(0.5)).map_filter(map_filter);
        let result = open.edit(&request).unwrap();
        (result.report.settings.map_filter, result.scores.unwrap().values().to_vec())
    };
    let maps: Vec<_> = MapFilter::ALL.map(|filter| scores(Some(filter))).into();
    for (i, (filter, map)) in maps.iter().enumerate() {
        assert_eq!(*filter, MapFilter::ALL[i]);
        assert!(maps[..i].iter().all(|(_, other)| other != map), "{filter:?}");
    }
    assert_eq!(scores(None), maps[1]);
    // Without smoothing, neighbours differ most.
    let rough = |map: &[f32]| map.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f32>();
    assert!(rough(&maps[0].1) > rough(&maps[2].1));
}

#[test]
fn report_describes_the_edit() {
    let editor = Editor::new(small()).unwrap();
    let photo = photo(48, 48);
    let edit = |hold| {
        let request = request(48).hold(hold);
        editor.edit(&photo, &request).unwrap().report
    };
    let report = edit(HoldPolicy::Budget(0.25));
    assert_eq!(report.model.as_ref().unwrap().sha256.len(), 64);
    assert!(report.tokens_held >= 0.75 && report.tokens_changed <= 0.25);
    // 12 by 12 tokens of 4 pixels: every held token is 16 pixels.
    assert!(report.pixels_kept >= report.tokens_held);
    let scores = report.scores.unwrap();
    let threshold = scores.threshold.unwrap();
    assert!(scores.stats.min < scores.stats.mean && scores.stats.mean < scores.stats.max);
    assert!(scores.stats.min < threshold && threshold <= scores.stats.max);

    let off = edit(HoldPolicy::Off);
    assert_eq!((off.scores, off.tokens_held, off.resumed_after), (None, 0.0, 0));
    let fixed = edit(HoldPolicy::Threshold(0.3)).scores.unwrap();
    assert_eq!(fixed.threshold, Some(0.3));
}
