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
    }
}

#[test]
fn every_stage_is_measured_once() {
    let mut shown = Vec::new();
    // Asked for twice and backwards.
    let asked: Vec<_> = BenchStage::ALL.into_iter().rev().chain(BenchStage::ALL).collect();
    let report = bench(&request(&asked), |timing| shown.push(timing.clone())).unwrap();
    assert_eq!(report.stages, shown);
    let stages: Vec<_> = shown.iter().map(|timing| timing.stage).collect();
    assert_eq!(stages, BenchStage::ALL);
    for timing in shown {
        let stage = timing.stage;
        assert_eq!(timing.seconds.len(), 2, "{stage}");
        assert!(timing.min_seconds <= timing.median_seconds, "{stage}");
        assert!(timing.median_seconds <= timing.max_seconds, "{stage}");
        // All but the step is matrix products and convolutions.
        assert_eq!(timing.flops.is_some(), stage != BenchStage::Step, "{stage}");
        assert_eq!(timing.gflops_per_second.is_some(), timing.flops.is_some(), "{stage}");
    }
}

#[test]
fn half_precision_runs_too() {
    let stages = [BenchStage::Clip, BenchStage::Gemma2, BenchStage::Capture];
    let dtype = DtypePolicy { vq: Dtype::F32, ..DtypePolicy::uniform(Dtype::Bf16) };
    let report = bench(&BenchRequest { dtype, ..request(&stages) }, |_| ()).unwrap();
    assert_eq!(report.stages.len(), 3);
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let good = request(&[BenchStage::Clip]);
    for (bad, option, got) in [
        (BenchRequest { size: 0, ..good.clone() }, "size", "0"),
        (BenchRequest { size: 48, ..good.clone() }, "size", "48"),
        (BenchRequest { size: 1 << 20, ..good.clone() }, "size", "1048576"),
        (BenchRequest { repeat: 0, ..good.clone() }, "repeat", "0"),
        (BenchRequest { stages: Vec::new(), ..good.clone() }, "stages", "none"),
    ] {
        let error = bench(&bad, |_| ()).unwrap_err();
        let EditError::Option { option: named, got: said, .. } = &error else { panic!("{error}") };
        assert_eq!((*named, &**said), (option, got), "{error}");
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
