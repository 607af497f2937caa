use super::*;

/// Four tokens of three codes, all equally likely.
fn step() -> StepTrace {
    StepTrace {
        tokens: vec![0, 1, 2, 9],
        predicted: vec![0, 1, 2, 0],
        held: vec![false; 4],
        scores: vec![0.1, 0.2, 0.3, 0.4],
        logits: vec![0.0; 12],
        uniforms: vec![0.333_33, 0.5, 0.9, 0.1],
    }
}

fn changed(change: impl Fn(&mut StepTrace)) -> StepTrace {
    let mut step = step();
    change(&mut step);
    step
}

#[test]
fn ties_explain_near_decisions() {
    type Change = fn(&mut StepTrace);
    let cases: [(&str, Change, usize, usize); 9] = [
        ("nothing", |_| (), 0, 0),
        ("the next code, on the edge", |s| (s.tokens[0], s.predicted[0]) = (1, 1), 1, 1),
        ("a code far away", |s| (s.tokens[0], s.predicted[0]) = (2, 2), 1, 0),
        ("the next code, not on the edge", |s| (s.tokens[1], s.predicted[1]) = (2, 2), 1, 0),
        ("not a codebook index", |s| (s.tokens[0], s.predicted[0]) = (7, 7), 1, 0),
        ("masked, as good as equal", |s| s.tokens[1] = 9, 1, 1),
        ("masked, by another model", |s| (s.tokens[1], s.logits[7]) = (9, 0.1), 1, 0),
        (
            "held, by scores as good as equal",
            |s| (s.held[2], s.tokens[2], s.predicted[2], s.scores[2]) = (true, 0, 0, 0.300_01),
            1,
            1,
        ),
        (
            "held, by other scores",
            |s| (s.held[2], s.tokens[2], s.predicted[2], s.scores[1]) = (true, 0, 0, 0.21),
            1,
            0,
        ),
    ];
    for (what, change, differ, ties) in cases {
        let (expected, got) = (step(), changed(change));
        assert_eq!(differing(&expected.tokens, &got.tokens).count(), differ, "{what}");
        assert_eq!(expected.ties(&got), ties, "{what}");
    }
}

fn trace(change: impl Fn(&mut EditTrace)) -> EditTrace {
    let mut trace =
        EditTrace { photo: vec![5, 6, 7, 8], steps: vec![step(), step()], pixels: vec![3, 4, 5] };
    change(&mut trace);
    trace
}

#[test]
fn edit_agreement_table() {
    type Change = fn(&mut EditTrace);
    fn tie(step: &mut StepTrace) {
        (step.tokens[0], step.predicted[0]) = (1, 1);
    }
    fn error(step: &mut StepTrace) {
        (step.tokens[0], step.predicted[0]) = (2, 2);
    }
    /// Name, change, whether it still agrees, and the differing tokens of each step with its ties.
    type Case = (&'static str, Change, bool, [(usize, usize); 2]);
    let cases: [Case; 7] = [
        ("the same", |_| (), true, [(0, 0), (0, 0)]),
        ("a level of rounding", |r| r.pixels[1] = 5, true, [(0, 0), (0, 0)]),
        ("another image from the same tokens", |r| r.pixels[1] = 6, false, [(0, 0), (0, 0)]),
        ("another photo", |r| r.photo[3] = 1, false, [(0, 0), (0, 0)]),
        ("an error at last", |r| error(&mut r.steps[1]), false, [(0, 0), (1, 0)]),
        (
            "a tie and its consequences",
            |r| {
                tie(&mut r.steps[0]);
                error(&mut r.steps[1]);
                r.pixels[0] = 99;
            },
            true,
            [(1, 1), (1, 0)],
        ),
        (
            "a tie beside an error",
            |r| {
                tie(&mut r.steps[0]);
                (r.steps[0].tokens[1], r.steps[0].predicted[1]) = (2, 2);
            },
            false,
            [(2, 1), (0, 0)],
        ),
    ];
    for (what, change, pass, steps) in cases {
        let agreement = trace(|_| ()).agreement(&trace(change));
        let got: Vec<_> = agreement.steps.iter().map(|step| (step.differ, step.ties)).collect();
        assert_eq!((agreement.pass(), &got[..]), (pass, &steps[..]), "{what}");
        assert_eq!(agreement.ties(), steps[0].1, "{what}");
    }
}

#[cfg(feature = "embedded")]
#[test]
fn an_edit_agrees_with_itself_and_not_with_another() {
    let photo = Photo::open("testdata/scene.png").unwrap();
    let request = EditRequest::new("make the red car blue");
    let editor = Editor::embedded().build().unwrap();
    let same = compare_edits(&editor, &editor, &photo, &request).unwrap();
    assert_eq!((same.pass(), same.steps_equal(), same.ties()), (true, same.steps.len(), 0));
    assert!(same.tokens > 0 && !same.steps.is_empty() && same.pixels_differ_by == 0);

    let expected = EditTrace::of(&editor, &photo, &request).unwrap();
    let other = EditRequest::new("make the red car green");
    let got = EditTrace::of(&editor, &photo, &other).unwrap();
    let agreement = expected.agreement(&got);
    assert!(!agreement.pass() && agreement.photo_differs == 0, "{agreement:?}");
    // Every drawn token is where its uniform falls.
    let step = &expected.steps[0];
    let drawn = (0..step.tokens.len()).filter(|&at| !step.held[at]);
    assert!(drawn.clone().count() > 0);
    for at in drawn {
        assert!(step.is_near(at, step.predicted[at]), "{at}");
    }
}
