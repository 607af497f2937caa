//! CLIP, Gemma2 and the tokenisers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};
use editmgt::{Compute, InferencePrecision, WithOperands};
use editmgt_checkpoint::{WeightFiles, load_module, module_tensors};
use editmgt_core::{Error, TextEncoder};
use editmgt_diagnostics::verify::{Comparison, GoldenFolder, VerifyError};
use editmgt_tests::golden;
use editmgt_text::{
    ClipEncoder, ClipGemma2Encoder, ClipTextConfig, DEFAULT_NEGATIVE_PROMPT, Gemma2Config,
    PromptTokenizer, TokenIds,
};

fn folder(name: &str) -> PathBuf {
    golden(name).unwrap_or_else(|| panic!("no golden folder {name}"))
}

fn text(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap()
}

fn assert_all_pass(comparisons: Result<Vec<Comparison>, VerifyError>, at_least: usize) {
    let comparisons = comparisons.unwrap();
    for comparison in &comparisons {
        println!("{:40} {:?}", comparison.name, comparison.measure);
    }
    assert!(comparisons.len() >= at_least, "{} comparisons", comparisons.len());
    let failed: Vec<_> = comparisons.iter().filter(|comparison| !comparison.pass).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_default_negative_prompt_is_the_official_one() {
    let golden = GoldenFolder::open(&folder("tokenizers")).unwrap();
    assert_eq!(golden.meta::<String>("/negative_prompt").unwrap(), DEFAULT_NEGATIVE_PROMPT);
}

/// A folder with only `vocab.json` and `merges.txt` gives the ids of one with `tokenizer.json`.
#[test]
fn slow_and_fast_files_give_equal_ids() {
    let dir = folder("tokenizers");
    let fast = dir.join("clip_tokenizer");
    let slow = tempfile::tempdir().unwrap();
    for file in ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"] {
        std::fs::copy(fast.join(file), slow.path().join(file)).unwrap();
    }
    let slow = PromptTokenizer::clip(slow.path()).unwrap();
    let fast = PromptTokenizer::clip(&fast).unwrap();
    let golden = GoldenFolder::open(&dir).unwrap();
    let prompts: BTreeMap<usize, String> = golden.meta("/prompts").unwrap();
    for prompt in prompts.values() {
        assert_eq!(slow.encode(&[prompt]).unwrap(), fast.encode(&[prompt]).unwrap(), "{prompt:?}");
    }
}

/// Half precision accumulates in f32, so it stays near the f32 result.
#[test]
fn half_precision_stays_near() {
    let device = Device::flex();
    let relative = |got: Tensor<3>, expected: Tensor<3>| {
        let difference = (got.cast(DType::F32) - expected.clone()).abs().max();
        (difference / expected.abs().max()).into_scalar::<f32>()
    };
    // Each value has 8 (bf16) or 11 (f16) bits, and a few layers accumulate their roundings.
    for (dtype, limit) in [(DType::BF16, 2e-2), (DType::F16, 3e-3)] {
        let (dir, files) = open("clip");
        let config = ClipTextConfig::from_json(&text(&dir, "config.json")).unwrap();
        let encode = |dtype| {
            let model =
                load_module(config.init(&device).unwrap(), &files, &config.keys(), dtype).unwrap();
            model.forward(&ids(20, config.vocab_size)).unwrap().last_hidden_state
        };
        let (got, expected) = (encode(dtype), encode(DType::F32));
        assert_eq!(got.dtype(), dtype);
        let error = relative(got, expected);
        assert!(error > 0.0 && error < limit, "CLIP in {dtype:?}: {error}");

        let (dir, files) = open("gemma2");
        let config = Gemma2Config::from_json(&text(&dir, "config.json")).unwrap();
        let encode = |dtype| {
            let model =
                load_module(config.init(&device).unwrap(), &files, &config.keys(), dtype).unwrap();
            model.forward(&ids(20, config.vocab_size)).unwrap()
        };
        let (got, expected) = (encode(dtype), encode(DType::F32));
        assert_eq!(got.dtype(), dtype);
        let error = relative(got, expected);
        assert!(error > 0.0 && error < limit, "Gemma2 in {dtype:?}: {error}");
    }
}

/// As they are loaded for inference on the CPU, where bf16 is the precision of matrices and
/// operands only.
#[test]
fn bf16_operands_stay_near() {
    let device = Device::flex();
    let relative = |got: Tensor<3>, expected: Tensor<3>| {
        assert_eq!(got.dtype(), DType::F32);
        let difference = (got - expected.clone()).abs().max();
        (difference / expected.abs().max()).into_scalar::<f32>()
    };
    let [wide, narrow] = [DType::F32, DType::BF16]
        .map(|dtype| InferencePrecision::new(&device, dtype, Compute::Dtype));
    let (dir, files) = open("clip");
    let config = ClipTextConfig::from_json(&text(&dir, "config.json")).unwrap();
    let encode = |precision: InferencePrecision| {
        let model = config.init(&device).unwrap();
        let model = load_module(model, &files, &config.keys(), precision.load).unwrap();
        let model = model.with_operands(precision.operands);
        model.forward(&ids(20, config.vocab_size)).unwrap().last_hidden_state
    };
    let error = relative(encode(narrow), encode(wide));
    assert!(error > 0.0 && error < 2e-2, "CLIP: {error}");

    let (dir, files) = open("gemma2");
    let config = Gemma2Config::from_json(&text(&dir, "config.json")).unwrap();
    let encode = |precision: InferencePrecision| {
        let model = config.init(&device).unwrap();
        let model = load_module(model, &files, &config.keys(), precision.load).unwrap();
        model.with_operands(precision.operands).forward(&ids(20, config.vocab_size)).unwrap()
    };
    let error = relative(encode(narrow), encode(wide));
    assert!(error > 0.0 && error < 2e-2, "Gemma2: {error}");
}

fn open(name: &str) -> (PathBuf, WeightFiles) {
    let dir = folder(name);
    let files = WeightFiles::open(&dir).unwrap();
    (dir, files)
}

fn ids(length: usize, vocab_size: usize) -> TokenIds {
    let ids = (0..2 * length).map(|i| (i * 37 % vocab_size) as u32).collect();
    TokenIds::new(length, ids).unwrap()
}

/// The complete model has exactly the keys and shapes that the official code saves.
#[test]
fn the_complete_gemma2_is_the_official_file() {
    let (dir, files) = open("gemma2");
    let config = Gemma2Config::from_json(&text(&dir, "config.json")).unwrap();
    let complete = config.init_complete(&Device::flex()).unwrap();
    let listed: BTreeMap<_, _> = module_tensors(&complete, &config.keys())
        .unwrap()
        .into_iter()
        .map(|tensor| (tensor.key, tensor.shape))
        .collect();
    let saved: BTreeMap<_, _> =
        files.entries().iter().map(|(key, entry)| (key.clone(), entry.shape.clone())).collect();
    assert_eq!(listed, saved);
}

/// Prompts through both complete encoders, against the pipelines' recordings.
#[test]
fn encoders() {
    let device = Device::flex();
    let clip = || {
        let (dir, files) = open("clip");
        let config = ClipTextConfig::from_json(&text(&dir, "config.json")).unwrap();
        let keys = config.keys();
        let model = load_module(config.init(&device).unwrap(), &files, &keys, DType::F32).unwrap();
        let tokenizer = folder("tokenizers").join("clip_tokenizer");
        ClipEncoder::new(model, PromptTokenizer::clip(&tokenizer).unwrap()).unwrap()
    };
    let (dir, files) = open("gemma2");
    let config = Gemma2Config::from_json(&text(&dir, "config.json")).unwrap();
    let gemma =
        load_module(config.init(&device).unwrap(), &files, &config.keys(), DType::F32).unwrap();
    let tokenizer = folder("tokenizers").join("gemma_tokenizer");
    let tokenizer = PromptTokenizer::gemma(&tokenizer).unwrap();
    let both = ClipGemma2Encoder::new(clip(), gemma, tokenizer).unwrap();

    let (one, two) = (ids(5, 9), TokenIds::new(5, vec![2; 5]).unwrap());
    assert!(matches!(both.encode_ids(&one, &two), Err(Error::Shape { .. })));
    let long = both.tokenizer().clone().with_length(config.max_position_embeddings + 1).unwrap();
    let gemma = config.init(&device).unwrap();
    assert!(matches!(ClipGemma2Encoder::new(clip(), gemma, long), Err(Error::Shape { .. })));

    let encoders: [(&str, Box<dyn TextEncoder>); 2] = [
        ("pipeline_edit_clip_nodown", Box::new(clip())),
        ("pipeline_edit_gemma_down", Box::new(both)),
    ];
    for (pipeline, encoder) in encoders {
        let dir = folder(pipeline);
        let golden = GoldenFolder::open(&dir).unwrap();
        let settings = text(&dir, "pipeline.json");
        let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
        let prompt = |name: &str| settings["args"][name].as_str().unwrap().to_owned();
        let (positive, negative) = (prompt("prompt"), prompt("negative_prompt"));
        // Batched, in the order of guidance: prompts of a batch must be independent.
        let features = encoder.encode(&[&negative, &positive]).unwrap();
        let spec = encoder.spec();
        assert_eq!(features.hidden.dims(), [2, spec.rows, spec.hidden_size]);
        assert_eq!(features.pooled.dims(), [2, spec.pooled_size]);
        for (item, name) in ["uncond", "cond"].into_iter().enumerate() {
            let hidden = features.hidden.clone().narrow(0, item, 1);
            let pooled = features.pooled.clone().narrow(0, item, 1);
            let expected = |part: &str| golden.floats(&format!("{name}.{part}")).unwrap();
            let comparisons = vec![
                Comparison::tensor(hidden, &expected("encoder_hidden_states"), 1e-4).unwrap(),
                Comparison::tensor(pooled, &expected("text_embeds"), 1e-4).unwrap(),
            ];
            assert_all_pass(Ok(comparisons), 2);
        }
        for span in encoder.spans(&positive, "OWL").unwrap() {
            let rows = encoder.prompt_rows(&positive).unwrap();
            assert!(rows.start <= span.start && span.end <= rows.end && rows.end <= spec.rows);
        }
        assert!(encoder.encode(&[]).is_err());
    }
}

/// The rows of a phrase contain the phrase, in each encoder's own sequence.
#[test]
fn phrases_index_the_sequence_of_the_encoder() {
    let dir = folder("tokenizers");
    let clip = PromptTokenizer::clip(&dir.join("clip_tokenizer")).unwrap();
    let gemma = PromptTokenizer::gemma(&dir.join("gemma_tokenizer")).unwrap();
    let vocabulary = gemma_vocabulary(&dir);
    for (prompt, phrase, times) in [
        ("replace the OWL with a red fox", "owl", 1),
        ("replace the OWL with a red fox", "Red Fox", 1),
        ("naïve café 東京 😀 — test, 42!", "CAFÉ", 1),
        ("naïve café 東京 😀 — test, 42!", "東京", 1),
        ("naïve café 東京 😀 — test, 42!", "😀", 1),
        (DEFAULT_NEGATIVE_PROMPT, "signature", 2),
    ] {
        let rows = |tokenizer: &PromptTokenizer, span: Range<usize>| {
            tokenizer.encode(&[prompt]).unwrap().ids()[span].to_vec()
        };
        // CLIP first splits text into words, so a phrase has the same tokens everywhere.
        let alone =
            clip.encode(&[phrase]).unwrap().ids()[clip.prompt_rows(phrase).unwrap()].to_vec();
        let spans = clip.spans(prompt, phrase).unwrap();
        assert_eq!(spans.len(), times, "{phrase:?} in {prompt:?}");
        for span in spans {
            assert_eq!(rows(&clip, span), alone, "{phrase:?} in {prompt:?}");
        }
        // Gemma's tokens can include the following comma or space.
        let spans = gemma.spans(prompt, phrase).unwrap();
        assert_eq!(spans.len(), times, "{phrase:?} in {prompt:?}");
        for span in spans {
            let bytes: Vec<u8> =
                rows(&gemma, span).iter().flat_map(|id| vocabulary[id].clone()).collect();
            let text = String::from_utf8(bytes).unwrap().replace('▁', " ").to_lowercase();
            let text = text.trim_end_matches([',', ' ']);
            assert_eq!(text, phrase.to_lowercase(), "in {prompt:?}");
        }
    }
}

/// The bytes of each of Gemma's tokens.
fn gemma_vocabulary(dir: &Path) -> BTreeMap<u32, Vec<u8>> {
    let file = text(dir, "gemma_tokenizer/tokenizer.json");
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    let tokens = file["model"]["vocab"].as_object().unwrap();
    let bytes = |token: &str| {
        let byte = token.strip_prefix("<0x").and_then(|byte| byte.strip_suffix('>'));
        match byte {
            Some(byte) => vec![u8::from_str_radix(byte, 16).unwrap()],
            None => token.as_bytes().to_vec(),
        }
    };
    tokens.iter().map(|(token, id)| (id.as_u64().unwrap() as u32, bytes(token))).collect()
}
