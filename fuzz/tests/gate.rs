//! The committed corpus and some mutations of it, for every target.

use editmgt_fuzz::{Failure, Form, RunOptions, TARGETS, Target, corpus, run};

#[test]
fn every_target_survives_its_corpus_and_mutations() {
    let crashes = tempfile::tempdir().unwrap();
    for target in TARGETS {
        let seeds = corpus(target.name).unwrap();
        assert!(!seeds.is_empty(), "{}: no corpus", target.name);
        let options = RunOptions {
            seed: 0,
            first: 0,
            inputs: 1000,
            time: None,
            crashes: crashes.path().to_owned(),
            keep_each: false,
        };
        if let Err(failure) = run(target, &seeds, &options) {
            panic!("{}: {} on {:?}", failure.target, failure.message, std::fs::read(failure.path));
        }
    }
}

#[test]
fn stores_the_input_that_panics() {
    let crashes = tempfile::tempdir().unwrap();
    let body = |bytes: &[u8]| assert!(bytes.len() < 3, "too long");
    let options = RunOptions {
        seed: 0,
        first: 0,
        inputs: 1000,
        time: None,
        crashes: crashes.path().to_owned(),
        keep_each: false,
    };
    let failure = run(&Target { name: "test", body, form: Form::Bytes }, &[vec![1, 2]], &options)
        .unwrap_err();
    let Failure { path, message, .. } = failure;
    assert_eq!(message, "too long");
    assert!(std::fs::read(path).unwrap().len() >= 3);
}
