use super::*;

fn half(dtype: Dtype, outcome: EditOutcome) -> DtypePrecision {
    let error = ValueError { relative_rms: 0.000_25, relative_max: 0.5, not_finite: 3 };
    DtypePrecision {
        dtype,
        compute: Compute::Dtype,
        quantize: None,
        text: error,
        transformer: LogitError { error, same_best: 0.75, divergence: None },
        attention: 0.125,
        codec: CodecError {
            tokens: 9,
            tokens_differ: 4,
            decoded_psnr: None,
            decoded_not_finite: 2,
        },
        edits: vec![EditPrecision { instruction: "make it blue".into(), seed: 5, outcome }],
    }
}

#[test]
fn table_has_a_row_per_number_and_lists_failures() {
    let done = EditOutcome::Done { tokens: 9, tokens_differ: 1, pixels_differ_by: 77 };
    let failed = EditOutcome::Failed { error: "no number".into() };
    let dtypes = vec![half(Dtype::F16, failed), half(Dtype::Bf16, done)];
    let mut report = PrecisionReport { device: "Flex".into(), model: None, dtypes };
    let table = report.to_string();
    let row = |name: &str| {
        let row = table.lines().find(|line| line.starts_with(name));
        row.unwrap_or_else(|| panic!("no {name} in {table}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(row("beside f32")[2..], ["f16", "bf16"]);
    assert_eq!(row("text features: error")[6..], ["2.5e-4", "2.5e-4"]);
    assert_eq!(row("logits: most likely")[7..], ["75.00%", "75.00%"]);
    assert_eq!(row("infinite or NaN")[3..], ["8", "8"]);
    assert_eq!(row("codec in this dtype: PSNR")[8..], ["no", "image", "no", "image"]);
    let edit = ["FAILED", "1", "of", "9", "tokens,", "77", "levels"];
    assert_eq!(row("edit 1: make it blue")[5..], edit);
    assert_eq!(table.lines().last(), Some("edit 1 in f16: no number"));
    let widths: Vec<_> = table.lines().take(12).map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{table}");

    let eight = DtypePrecision { quantize: Some(WeightBits::Eight), ..report.dtypes[0].clone() };
    assert_eq!(eight.name(), "8 bits");
    let int8 = DtypePrecision { compute: Compute::Int8, ..report.dtypes[0].clone() };
    assert_eq!(int8.name(), "int8");
    report.dtypes.clear();
    assert_eq!(report.to_string(), "Flex computes in f32 only");
}

#[cfg(feature = "embedded")]
#[test]
fn half_precision_of_the_small_model_is_near_f32() {
    let photo = Photo::open("testdata/scene.png").unwrap();
    let guided = EditRequest::new("make the red car blue").steps(3).guidance_scale(3.0).seed(7);
    let edits = [EditRequest::new("remove the green apple"), guided];
    let builder = editmgt::Editor::embedded();
    let report = precision(&builder, &photo, &edits).unwrap();
    assert!(report.model.is_some());
    let dtypes: Vec<_> = report.dtypes.iter().map(|half| half.dtype).collect();
    assert_eq!(dtypes, [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F32, Dtype::F32]);
    let (halves, others) = report.dtypes.split_at(2);
    let (int8, quantized) = others.split_first().unwrap();
    assert_eq!((int8.compute, int8.quantize, int8.codec.tokens_differ), (Compute::Int8, None, 0));
    for error in [int8.text.relative_rms, int8.transformer.error.relative_rms] {
        assert!((1e-3..0.1).contains(&error), "{int8:#?}");
    }
    assert!(int8.transformer.same_best > 0.9, "{int8:#?}");
    assert!(int8.edits.iter().all(|edit| matches!(edit.outcome, EditOutcome::Done { .. })));
    for (bits, got) in [WeightBits::Eight, WeightBits::Four].into_iter().zip(quantized) {
        assert_eq!((got.quantize, got.codec.tokens_differ), (Some(bits), 0));
        // The weights' errors are 0.005 and 0.08.
        let (least, most) = if bits == WeightBits::Eight { (1e-4, 2e-2) } else { (1e-3, 0.3) };
        for error in [got.text.relative_rms, got.transformer.error.relative_rms] {
            assert!((least..most).contains(&error), "{got:#?}");
        }
        assert!(got.edits.iter().all(|edit| matches!(edit.outcome, EditOutcome::Done { .. })));
    }
    for half in halves {
        let DtypePrecision { dtype, text, transformer, attention, codec, edits, .. } = half;
        // The 8 bits of bf16, or 11 of f16, through a few layers: near f32, but not equal.
        let (least, most) = if *dtype == Dtype::F16 { (1e-5, 1e-2) } else { (1e-4, 8e-2) };
        for error in [text.relative_rms, transformer.error.relative_rms, *attention] {
            assert!((least..most).contains(&error), "{half:#?}");
        }
        assert!(text.relative_max > text.relative_rms, "{half:#?}");
        assert!(transformer.same_best > 0.9, "{half:#?}");
        assert!((0.0..0.1).contains(&transformer.divergence.unwrap()), "{half:#?}");
        assert_eq!(text.not_finite + transformer.error.not_finite, 0, "{half:#?}");
        assert!(codec.tokens > codec.tokens_differ && codec.decoded_not_finite == 0, "{half:#?}");
        assert!(codec.decoded_psnr.is_some_and(|psnr| psnr > 30.0), "{half:#?}");
        assert_eq!(edits.len(), 2);
        for edit in edits {
            let EditOutcome::Done { tokens, tokens_differ, .. } = edit.outcome else {
                panic!("{half:#?}")
            };
            assert!(tokens == codec.tokens && tokens_differ < tokens, "{half:#?}");
        }
    }
    let error = precision(&builder, &photo, &[]).unwrap_err().to_string();
    assert_eq!(error, "edits: expected at least one, got none");
}
