use editmgt_backends::Dtype;

use super::*;

fn request(stages: &[BenchStage]) -> BenchRequest {
    BenchRequest {
        preset: Preset::Tiny,
        size: 64,
        stages: stages.to_vec(),
        warmup: 0,
        repeat: 2,
        device: editmgt_backends::open("cpu").unwrap(),
        dtype: DtypePolicy::uniform(Dtype::F32),
        scratch: std::env::temp_dir(),
    }
}

#[test]
fn every_stage_is_measured_once() {
    let mut shown = Vec::new();
    // Requested twice and in reverse order.
    let asked: Vec<_> = BenchStage::ALL.into_iter().rev().chain(BenchStage::ALL).collect();
    let report = bench(&request(&asked), |timing| shown.push(timing.clone())).unwrap();
    assert_eq!(report.stages, shown);
    let stages: Vec<_> = shown.iter().map(|timing| timing.stage).collect();
    // Loading has a line for each pair of dtypes.
    let (last, once) = (BenchStage::Load, &BenchStage::ALL[..7]);
    assert_eq!(stages, [once, &[last; 3]].concat());
    for timing in shown {
        let stage = timing.stage;
        assert_eq!(timing.seconds.len(), 2, "{stage}");
        assert!(timing.min_seconds <= timing.median_seconds, "{stage}");
        assert!(timing.median_seconds <= timing.max_seconds, "{stage}");
        // A step outside the networks has no matrix products and convolutions.
        let network = ![BenchStage::Step, BenchStage::Load].contains(&stage);
        assert_eq!(timing.flops.is_some(), network, "{stage}");
        assert_eq!(timing.gflops_per_second.is_some(), timing.flops.is_some(), "{stage}");
    }
}

#[test]
fn loading_is_compared_with_reading_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let load = BenchRequest {
        scratch: scratch.path().to_owned(),
        warmup: 1,
        ..request(&[BenchStage::Load])
    };
    let stages = bench(&load, |_| ()).unwrap().stages;
    let inputs: Vec<_> = stages.iter().map(|timing| timing.input.as_str()).collect();
    for (input, pair) in inputs.iter().zip(["f32 as f32", "bf16 as f32", "bf16 as bf16"]) {
        assert!(input.contains(&format!(" of {pair};")), "{input}");
    }
    let readings: Vec<_> = stages.iter().map(|timing| timing.reading.as_ref().unwrap()).collect();
    for (timing, reading) in stages.iter().zip(&readings) {
        assert_eq!(reading.seconds.len(), 2, "the warm-up does not count");
        assert_eq!(reading.ratio, timing.median_seconds / reading.median_seconds);
    }
    let [f32, bf16, same] = [0, 1, 2].map(|i| readings[i].bytes);
    // The headers have about the same length.
    assert!(bf16 == same && bf16 < f32 && f32 < 2 * bf16, "{f32} {bf16}");
    assert!(std::fs::read_dir(scratch.path()).unwrap().next().is_none(), "a file was left");

    let nowhere = BenchRequest { scratch: scratch.path().join("nowhere"), ..load };
    let error = bench(&nowhere, |_| ()).unwrap_err();
    assert!(matches!(error, EditError::Model(ModelError::Io { .. })), "{error}");
}

#[test]
fn half_precision_runs_too() {
    let stages = [BenchStage::Clip, BenchStage::Gemma2, BenchStage::Capture];
    let dtype = DtypePolicy::networks(Dtype::Bf16);
    let report = bench(&BenchRequest { dtype, ..request(&stages) }, |_| ()).unwrap();
    assert_eq!(report.stages.len(), 3);
}

#[test]
fn rejects_invalid_loads() {
    let good = request(&[BenchStage::Clip]);
    for (bad, option, got) in [
        (BenchRequest { size: 0, ..good.clone() }, "size", "0"),
        (BenchRequest { size: 48, ..good.clone() }, "size", "48"),
        (BenchRequest { size: 1 << 20, ..good.clone() }, "size", "1048576"),
        (BenchRequest { repeat: 0, ..good.clone() }, "repeat", "0"),
        (BenchRequest { stages: Vec::new(), ..good.clone() }, "stages", "none"),
    ] {
        let error = bench(&bad, |_| ()).unwrap_err();
        let EditError::Option { option: named, got: value, .. } = &error else { panic!("{error}") };
        assert_eq!((*named, &**value), (option, got), "{error}");
    }
}

#[test]
fn a_stage_is_known_by_its_name() {
    for stage in BenchStage::ALL {
        assert_eq!(stage.name().parse::<BenchStage>().unwrap(), stage);
        assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
    }
    let error = "vq_encode".parse::<BenchStage>().unwrap_err();
    assert!(matches!(error, EditError::Option { option: "stages", .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("vq-encode") && message.contains("vq_encode"), "{message}");
}
