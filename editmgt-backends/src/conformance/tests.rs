use burn::tensor::Tensor;

use super::*;

fn device() -> Device {
    crate::open_default().unwrap()
}

/// If a known failure no longer fails, remove it from `KNOWN_FAILURES` and `docs/backends.md`.
#[cfg(feature = "flex")]
#[test]
fn flex_conforms_except_for_its_known_failures() {
    let report = run(&Device::flex());
    assert!(report.pass(), "{report}");
    let known: Vec<_> = report.known_failures().map(|check| (&*check.name, check.dtype)).collect();
    assert_eq!(known, [("matmul of one row", Some(Dtype::F16))], "{report}");
    let unsupported = |check: &CheckReport| matches!(check.verdict, Verdict::Unsupported { .. });
    assert!(!report.checks.iter().any(unsupported), "{report}");
}

#[test]
fn known_failures_name_existing_checks() {
    for known in KNOWN_FAILURES {
        let named = |check: &&Check| check.name == known.operation;
        let check = checks().find(named).unwrap_or_else(|| panic!("{known:?}"));
        let fits = match known.dtype {
            Some(dtype) => check.types != Types::Ints && check.types.dtypes().contains(&dtype),
            None => check.types == Types::Ints,
        };
        assert!(fits, "{known:?}");
    }
}

#[test]
fn known_failures_pass_the_report_and_are_listed_when_fixed() {
    let wrong = spoilt(Tolerance::Exact, |inputs| {
        Answer::new(inputs.tensor([1], 1.0).0.ones_like(), [1], vec![0.0])
    });
    let right = spoilt(Tolerance::Exact, |inputs| {
        let (x, expected) = inputs.tensor([4], 1.0);
        Answer::new(x, [4], expected)
    });
    let known = KnownFailure {
        backend: crate::Backend::Flex,
        hardware: None,
        operation: "spoilt",
        dtype: Some(Dtype::F32),
        reason: "a bug of others",
    };
    for (check, dtype, [failures, known_failures, outdated], said) in [
        (&wrong, Dtype::F32, [0, 1, 0], "known: a bug of others"),
        (&wrong, Dtype::F16, [1, 0, 0], "FAIL: the error is above"),
        (&right, Dtype::F32, [0, 0, 1], "passes, not as known: a bug of others"),
        (&right, Dtype::F16, [0, 0, 0], "0 fail, 0 known to fail"),
    ] {
        let check = check.run(&device(), dtype, &Dtype::ALL);
        let mut report = ConformanceReport { checks: vec![check] };
        report.mark(&[&known]);
        assert_eq!(report.pass(), failures == 0, "{report}");
        assert_eq!(report.failures().count(), failures, "{report}");
        assert_eq!(report.known_failures().count(), known_failures, "{report}");
        assert_eq!(report.outdated().count(), outdated, "{report}");
        assert!(report.to_string().contains(said), "{report}");
    }
}

/// Every passing check fails if one value of its reference is off by twice the tolerance.
#[test]
fn every_check_detects_a_wrong_value() {
    let device = device();
    for check in checks() {
        let mut answer = (check.answer)(&mut Inputs::new(&device, Dtype::F32));
        assert_eq!(check.judge(Dtype::F32, &answer).verdict, Verdict::Pass, "{}", check.name);
        let largest = answer.expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let middle = answer.expected.len() / 2;
        let error = largest * check.tolerance.of(Dtype::F32);
        // The smallest error that the device's error can't cancel; a small one for exact checks.
        answer.expected[middle] += if error == 0.0 { 1e-3 } else { 2.1 * error };
        let verdict = check.judge(Dtype::F32, &answer).verdict;
        assert!(matches!(verdict, Verdict::Fail { .. }), "{}: {verdict:?}", check.name);
    }
}

fn spoilt(tolerance: Tolerance, answer: fn(&mut Inputs) -> Answer) -> Check {
    Check { name: "spoilt", types: Types::Floats, tolerance, answer }
}

#[test]
fn wrong_shapes_values_and_panics_fail() {
    let exact = |answer| spoilt(Tolerance::Exact, answer);
    for (what, check) in [
        ("[2, 3]", exact(|inputs| Answer::new(inputs.tensor([3, 2], 1.0).0, [2, 3], vec![0.0; 6]))),
        ("NaN", exact(|inputs| Answer::new(inputs.tensor([1], 1.0).0 * f32::NAN, [1], vec![0.0]))),
        (
            "above",
            exact(|inputs| Answer::new(inputs.tensor([1], 1.0).0.ones_like(), [1], vec![0.0])),
        ),
        ("no kernel", exact(|_| panic!("no kernel"))),
        (
            // Two functions that differ by at most 5e-4 must be distinguished.
            "above",
            spoilt(Tolerance::Function, |inputs| {
                let (x, _) = inputs.tensor([500], 4.0);
                let expected = burn::tensor::activation::gelu_approximate(x.clone());
                let expected = expected.try_into_vec_as::<f32>().unwrap();
                let expected = expected.into_iter().map(f64::from).collect();
                Answer::new(burn::tensor::activation::gelu(x), [500], expected)
            }),
        ),
    ] {
        let report = check.run(&device(), Dtype::F32, &Dtype::ALL);
        let Verdict::Fail { reason } = &report.verdict else { panic!("{what}: {report:?}") };
        assert!(reason.contains(what), "{reason}");
        let report = ConformanceReport { checks: vec![report] };
        assert!(!report.pass());
        assert!(report.to_string().contains("FAIL"), "{report}");
    }
}

#[test]
fn missing_half_precision_is_unsupported_not_failed() {
    let panics = spoilt(Tolerance::Exact, |_| panic!("no kernel for this"));
    let right = spoilt(Tolerance::Exact, |inputs| {
        let (x, expected) = inputs.tensor([4], 1.0);
        Answer::new(x, [4], expected)
    });
    for (check, supported, reason) in [
        (panics, Dtype::ALL.as_slice(), "no kernel for this"),
        (right, &[Dtype::F32], "does not support bf16"),
    ] {
        let report = check.run(&device(), Dtype::Bf16, supported);
        let expected =
            matches!(&report.verdict, Verdict::Unsupported { reason: got } if got.contains(reason));
        assert!(expected, "{report:?}");
        let report = ConformanceReport { checks: vec![report] };
        assert!(report.pass());
        assert!(
            report.to_string().ends_with("0 of 1 pass, 0 fail, 0 known to fail, 1 unsupported"),
            "{report}"
        );
    }
}

#[test]
fn inputs_are_reproducible_and_exact_in_every_type() {
    let device = device();
    for dtype in Dtype::supported(&device) {
        let draw = || Inputs::new(&device, dtype).tensor([1000], 4.0);
        let (x, values): (Tensor<1>, _) = draw();
        assert_eq!(values, draw().1);
        assert_eq!(Answer::new(x, [1000], values).max_error(), Ok(0.0), "{dtype}");
    }
}
