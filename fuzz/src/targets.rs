//! One function per reader. An error is a right answer to any bytes; a panic is not.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use editmgt::batch::{BatchFolder, Shard, read_jobs};
use editmgt::lora::{LoraFile, LoraUse};
use editmgt::{
    EditDefaults, EditRecord, EditRequest, HoldPolicy, KeywordPolicy, MapFilter, Mask, Photo,
    PhotoLimits, Resize, content_words,
};
use editmgt_checkpoint::WeightFiles;
use editmgt_core::{
    CellScores, ChaChaNoise, GridSize, HoldRequest, NoiseRequest, NoiseSource, RegionHold,
    ScheduleRequest, ScoreMap, StepState, TokenGrid, UnmaskScheduler,
};
use editmgt_eval::Answer;
use editmgt_sampler::{
    HoldAuto, HoldBudget, HoldMargin, HoldThreshold, MaskingSchedule, Parity, SchedulerConfig,
    Strict, Temperature,
};
use editmgt_text::{ClipTextConfig, Gemma2Config, PromptTokenizer, SmallTextConfig, WordTokenizer};
use editmgt_train::data::{DataOptions, PairData};
use editmgt_transformer::TransformerConfig;
use editmgt_vq::{CodecConfig, PatchVqConfig, VqConfig};

use crate::Form;

/// A reader of untrusted bytes.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Reads the bytes; panics where a property that the reader promises does not hold.
    pub body: fn(&[u8]),
    /// What its inputs are, for mutations that keep lengths and checksums right.
    pub form: Form,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "safetensors", body: safetensors, form: Form::SafeTensors },
    Target { name: "pickle", body: pickle, form: Form::Bytes },
    Target { name: "index", body: index, form: Form::Json },
    Target {
        name: "config_vq",
        body: |bytes| config(bytes, VqConfig::from_json),
        form: Form::Json,
    },
    Target {
        name: "config_patch_vq",
        body: |bytes| config(bytes, PatchVqConfig::from_json),
        form: Form::Json,
    },
    Target {
        name: "config_codec",
        body: |bytes| config(bytes, CodecConfig::from_json),
        form: Form::Json,
    },
    Target {
        name: "config_clip",
        body: |bytes| config(bytes, ClipTextConfig::from_json),
        form: Form::Json,
    },
    Target {
        name: "config_gemma2",
        body: |bytes| config(bytes, Gemma2Config::from_json),
        form: Form::Json,
    },
    Target {
        name: "config_small",
        body: |bytes| config(bytes, SmallTextConfig::from_json),
        form: Form::Json,
    },
    Target { name: "config_transformer", body: transformer, form: Form::Json },
    Target {
        name: "config_scheduler",
        body: |bytes| config(bytes, SchedulerConfig::from_json),
        form: Form::Json,
    },
    Target {
        name: "edit_defaults",
        body: |bytes| config(bytes, EditDefaults::from_json),
        form: Form::Json,
    },
    Target { name: "photo_bmp", body: photo, form: Form::Bytes },
    Target { name: "photo_gif", body: photo, form: Form::Bytes },
    Target { name: "photo_jpeg", body: photo, form: Form::Bytes },
    Target { name: "photo_png", body: photo, form: Form::Png },
    Target { name: "photo_tiff", body: photo, form: Form::Bytes },
    Target { name: "photo_webp", body: photo, form: Form::Bytes },
    Target { name: "exif", body: exif, form: Form::Bytes },
    Target { name: "mask", body: mask, form: Form::Png },
    Target { name: "record", body: record, form: Form::Png },
    Target { name: "jobs", body: jobs, form: Form::JsonLines },
    Target { name: "manifest", body: manifest, form: Form::JsonLines },
    Target { name: "adapter_config", body: adapter_config, form: Form::Json },
    Target { name: "adapter_weights", body: adapter_weights, form: Form::SafeTensors },
    Target {
        name: "clip_tokenizer",
        body: |bytes| clip_files(bytes, "tokenizer.json"),
        form: Form::Json,
    },
    Target { name: "clip_vocab", body: |bytes| clip_files(bytes, "vocab.json"), form: Form::Json },
    Target {
        name: "clip_merges",
        body: |bytes| clip_files(bytes, "merges.txt"),
        form: Form::Bytes,
    },
    Target {
        name: "clip_settings",
        body: |bytes| clip_files(bytes, "tokenizer_config.json"),
        form: Form::Json,
    },
    Target { name: "gemma_tokenizer", body: gemma_tokenizer, form: Form::Json },
    Target { name: "small_tokenizer", body: small_tokenizer, form: Form::Json },
    Target { name: "request", body: request, form: Form::Json },
    Target { name: "words", body: words, form: Form::Bytes },
    Target { name: "prompts", body: prompts, form: Form::Bytes },
    Target { name: "hold_scores", body: hold_scores, form: Form::Bytes },
    Target { name: "unmask_logits", body: unmask_logits, form: Form::Bytes },
    Target { name: "rating", body: rating, form: Form::Json },
    Target { name: "training_rows", body: training_rows, form: Form::JsonLines },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Photos may be this large here, so that an input takes milliseconds; the program's own limits
/// are larger.
const PHOTO_LIMITS: PhotoLimits =
    PhotoLimits::DEFAULT.with_max_pixels(1 << 18).with_max_bytes(1 << 20);

thread_local! {
    static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    static TOKENIZER: OnceCell<PromptTokenizer> = const { OnceCell::new() };
}

/// Gives readers of files the bytes under this name, in the thread's own folder.
fn with_file<T>(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| {
            let memory = Path::new("/dev/shm");
            let made = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
            made.expect("a temporary folder can be made")
        });
        let path = folder.path().join(name);
        let parent = path.parent().expect("a file lies in a folder");
        std::fs::create_dir_all(parent).expect("a temporary folder can be made");
        std::fs::write(&path, bytes).expect("a temporary file can be written");
        read(&path)
    })
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn golden_file(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).expect("the goldens are part of the repository")
}

/// The bytes as text, as far as they are text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn config<T, E>(bytes: &[u8], read: fn(&str) -> Result<T, E>) {
    let _ = read(&text(bytes));
}

fn transformer(bytes: &[u8]) {
    if let Ok(config) = TransformerConfig::from_json(&text(bytes)) {
        config.keys();
    }
}

fn safetensors(bytes: &[u8]) {
    with_file("weights.safetensors", bytes, |path| {
        let Ok(files) = WeightFiles::open_file(path) else { return };
        let _ = files.summary();
        for key in files.entries().keys().take(4) {
            let _ = files.values(key);
        }
    });
}

fn pickle(bytes: &[u8]) {
    with_file("pickle/pytorch_model.bin", bytes, |path| {
        let folder = path.parent().expect("a file lies in a folder");
        let Ok(files) = WeightFiles::open(folder) else { return };
        let _ = files.summary();
        for (key, entry) in files.entries().iter().take(4) {
            // What is read is no longer than the file, whatever the pickle says.
            assert!(entry.bytes.end <= bytes.len() as u64, "{key}");
            let _ = files.values(key);
        }
    });
}

fn index(bytes: &[u8]) {
    let weights = small_weights();
    with_file("index/model-00001-of-00001.safetensors", &weights, |_| ());
    with_file("index/model.safetensors.index.json", bytes, |path| {
        let _ = WeightFiles::open(path.parent().expect("a file lies in a folder"));
    });
}

/// A file with one tensor of one number.
fn small_weights() -> Vec<u8> {
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(&1f32.to_le_bytes());
    file
}

/// Largest photo, pixels, that is written again.
const REWRITTEN_PIXELS: usize = 1 << 12;

fn photo(bytes: &[u8]) {
    let Ok(photo) = Photo::from_bytes_within(bytes, &PHOTO_LIMITS) else { return };
    let size = photo.size();
    let (width, height) = photo.rgb().dimensions();
    assert_eq!((size.width, size.height), (width as usize, height as usize));
    assert!((size.width * size.height) as u64 <= PHOTO_LIMITS.max_pixels);
    if let Some(alpha) = photo.alpha() {
        assert_eq!(alpha.dimensions(), (width, height));
    }
    if width as usize * height as usize <= REWRITTEN_PIXELS {
        let sum: usize = bytes.iter().map(|&byte| usize::from(byte)).sum();
        rewritten(&photo, ["png", "tiff", "bmp", "webp", "jpg"][sum % 5]);
    }
}

/// A photo that can be read can be written with all that it carries, and read again with the same
/// pixels.
fn rewritten(photo: &Photo, extension: &str) {
    with_file(&format!("rewritten.{extension}"), b"", |path| {
        photo.save(path).expect("a photo can be written");
        let again = Photo::open(path).expect("a written photo can be read");
        assert_eq!(again.size(), photo.size(), "{extension}");
        if extension != "jpg" {
            assert!(again.rgb() == photo.rgb(), "{extension}: other colours");
            assert!(again.alpha() == photo.alpha(), "{extension}: another opacity");
        }
    });
}

/// A small JPEG whose EXIF block is the input.
fn exif(bytes: &[u8]) {
    let jpeg = include_bytes!("../corpus/photo_jpeg/small.jpg");
    let block = &bytes[..bytes.len().min(65_000)];
    let mut file = vec![0xff, 0xd8, 0xff, 0xe1];
    file.extend_from_slice(&(block.len() as u16 + 8).to_be_bytes());
    file.extend_from_slice(b"Exif\0\0");
    file.extend_from_slice(block);
    file.extend_from_slice(&jpeg[2..]);
    photo(&file);
}

fn mask(bytes: &[u8]) {
    with_file("mask", bytes, |path| {
        let _ = Mask::open_within(path, &PHOTO_LIMITS);
    });
}

fn record(bytes: &[u8]) {
    with_file("record.png", bytes, |path| {
        let Ok(record) = EditRecord::open(path) else { return };
        record.differences(None);
    });
}

fn jobs(bytes: &[u8]) {
    with_file("jobs.jsonl", bytes, |path| {
        let _ = read_jobs(path);
    });
}

fn manifest(bytes: &[u8]) {
    with_file("batch/manifest.jsonl", bytes, |path| {
        let _ =
            BatchFolder::open(path.parent().expect("a file lies in a folder"), Shard::ALL, true);
    });
}

fn adapter_config(bytes: &[u8]) {
    with_file("adapter/adapter_model.safetensors", &small_weights(), |_| ());
    with_file("adapter/adapter_config.json", bytes, |path| {
        let _ = LoraFile::open(path.parent().expect("a file lies in a folder"));
    });
}

fn adapter_weights(bytes: &[u8]) {
    let config = br#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4}"#;
    with_file("factors/adapter_config.json", config, |_| ());
    with_file("factors/adapter_model.safetensors", bytes, |path| {
        let _ = LoraFile::open(path.parent().expect("a file lies in a folder"));
        let _ = LoraFile::open(path);
    });
}

/// A CLIP tokeniser folder of which one file is the input.
fn clip_files(bytes: &[u8], name: &str) {
    let folder = format!("clip-{name}");
    let put = |file: &str, bytes: &[u8]| {
        with_file(&format!("{folder}/{file}"), bytes, |path| {
            path.parent().expect("a file lies in a folder").to_owned()
        })
    };
    for other in ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"] {
        put(other, &golden_file(&format!("tokenizers/clip_tokenizer/{other}")));
    }
    let dir = put(name, bytes);
    if let Ok(tokenizer) = PromptTokenizer::clip(&dir) {
        let _ = tokenizer.encode(&["make the cat black"]);
    }
}

fn gemma_tokenizer(bytes: &[u8]) {
    let settings = golden_file("tokenizers/gemma_tokenizer/tokenizer_config.json");
    with_file("gemma/tokenizer_config.json", &settings, |_| ());
    with_file("gemma/tokenizer.json", bytes, |path| {
        let dir = path.parent().expect("a file lies in a folder");
        if let Ok(tokenizer) = PromptTokenizer::gemma(dir) {
            let _ = tokenizer.encode(&["make the cat black"]);
        }
    });
}

fn small_tokenizer(bytes: &[u8]) {
    if let Ok(tokenizer) = WordTokenizer::from_json(Path::new("vocab.json"), bytes, 12) {
        let _ = tokenizer.encode(&["make the circle red"]);
    }
}

/// A request that passes its check is written, and read again as the same.
fn request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<EditRequest>(bytes) else { return };
    if request.check().is_err() {
        return;
    }
    let written = serde_json::to_string(&request).expect("a sound request can be written");
    let again: EditRequest = serde_json::from_str(&written).expect("a written request is readable");
    assert_eq!(again, request);
}

/// The short texts of options and requests.
fn words(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(policy) = text.parse::<HoldPolicy>() {
        let written = policy.to_string();
        let again: HoldPolicy = written.parse().expect("a written policy is readable");
        assert_eq!(again.to_string(), written);
    }
    let _ = text.parse::<Shard>();
    let _ = text.parse::<LoraUse>();
    content_words(&text);
    let _ = serde_json::from_str::<KeywordPolicy>(&text);
    let _ = serde_json::from_str::<MapFilter>(&text);
    let _ = serde_json::from_str::<Resize>(&text);
}

/// Every row that a phrase has lies in the prompt, and the prompt in the sequence.
fn prompts(bytes: &[u8]) {
    let text = text(bytes);
    TOKENIZER.with(|tokenizer| {
        let tokenizer = tokenizer.get_or_init(|| {
            PromptTokenizer::clip(&golden("tokenizers/clip_tokenizer")).expect("a golden is sound")
        });
        let rows = tokenizer.prompt_rows(&text).expect("any text has tokens");
        assert!(rows.end <= tokenizer.length());
        for phrase in text.split_whitespace().take(3) {
            for span in tokenizer.spans(&text, phrase).unwrap_or_default() {
                assert!(rows.start <= span.start && span.end <= rows.end, "{span:?} of {rows:?}");
            }
        }
    });
}

/// The bytes as small numbers, then as `f32` of any bits.
fn numbers(bytes: &[u8]) -> (impl Iterator<Item = usize> + '_, impl Iterator<Item = f32> + '_) {
    let (small, rest) = bytes.split_at(bytes.len().min(8));
    let values = rest.chunks(4).cycle().map(|chunk| {
        let mut bits = [0; 4];
        bits[..chunk.len()].copy_from_slice(chunk);
        f32::from_bits(u32::from_le_bytes(bits))
    });
    (small.iter().map(|&byte| usize::from(byte)).chain(std::iter::repeat(0)), values)
}

/// Whatever the scores are, a policy gives a mask of their grid, or refuses.
fn hold_scores(bytes: &[u8]) {
    let (mut small, mut values) = numbers(bytes);
    let mut next = || small.next().expect("the numbers never end");
    let batch = 1 + next() % 2;
    let tokens = GridSize::new(1 + next() % 12, 1 + next() % 12);
    let cells = GridSize::new(1 + next() % 6, 1 + next() % 6);
    let (margin, step) = (next() % 8, next() % 4);
    let mut map = |size: GridSize| {
        let scores = (0..batch * size.len()).map(|_| values.next().unwrap_or_default()).collect();
        ScoreMap::new(batch, size, scores).expect("as many scores as tokens")
    };
    let (scores, first, cell_scores, first_cells) =
        (map(tokens), map(tokens), map(cells), map(cells));
    let cells = CellScores { scores: &cell_scores, first: &first_cells };
    let policies: [Box<dyn RegionHold>; 4] = [
        Box::new(HoldAuto),
        Box::new(HoldThreshold::new(0.5).expect("within 0 and 1")),
        Box::new(HoldBudget::new(0.3).expect("within 0 and 1")),
        Box::new(HoldMargin::new(Box::new(HoldAuto), margin)),
    ];
    for policy in &policies {
        for cells in [None, Some(cells)] {
            let request = HoldRequest { scores: &scores, first: &first, mask: None, step, cells };
            let Ok(held) = policy.hold(&request) else { continue };
            assert_eq!((held.batch(), held.size()), (batch, tokens));
            policy.threshold(&request, batch - 1);
        }
    }
}

/// Whatever the logits are, a step gives codes and mask tokens, or refuses.
fn unmask_logits(bytes: &[u8]) {
    const CODES: usize = 5;
    let (mut small, mut values) = numbers(bytes);
    let mut next = || small.next().expect("the numbers never end");
    let (batch, size) = (1 + next() % 2, GridSize::new(1 + next() % 4, 1 + next() % 4));
    let request = ScheduleRequest { steps: 1 + next() % 6, starting_mask_ratio: 1.0 };
    let count = batch * size.len() * CODES;
    let logits: Vec<f32> = (0..count).map(|_| values.next().unwrap_or_default()).collect();
    let device = Device::flex();
    let logits =
        Tensor::<3>::from_data(TensorData::new(logits, [batch, size.len(), CODES]), &device);
    let tokens = TokenGrid::filled(batch, size, CODES as u32);
    let temperature = Temperature::default();
    let schedulers: [Box<dyn UnmaskScheduler>; 2] = [
        Box::new(Strict::new(MaskingSchedule::default(), temperature)),
        Box::new(Parity::new(MaskingSchedule::default(), temperature)),
    ];
    for scheduler in &schedulers {
        let schedule = scheduler.plan(&request).expect("a plan for a sound request");
        let step = next() % schedule.len();
        let request = NoiseRequest { first_image: 0, batch, size, step };
        let noise = ChaChaNoise::new(0).step_noise(&request).expect("a step within its bounds");
        let state = StepState {
            schedule: &schedule,
            step,
            logits: logits.clone(),
            tokens: &tokens,
            reference: None,
            hold: None,
            mask_token: CODES as u32,
            noise,
        };
        let Ok(result) = scheduler.step(state) else { continue };
        assert!(result.tokens.ids().iter().all(|&id| id <= CODES as u32));
        assert!(result.predicted.ids().iter().all(|&id| id < CODES as u32));
    }
}

fn rating(bytes: &[u8]) {
    if let Answer::Scores(scores) = Answer::parse(&text(bytes)) {
        assert!((0.0..=10.0).contains(&scores.overall()), "{scores:?}");
    }
}

/// A list of training pairs whose pictures are not there.
fn training_rows(bytes: &[u8]) {
    with_file("pairs/rows.jsonl", bytes, |path| {
        let options = serde_json::json!({
            "source": "jsonl",
            "path": path,
            "validation": {"share": 0.5},
            "cache": path.with_file_name("cache"),
            "pictures": {"height": 16, "width": 16},
        });
        let options: DataOptions = serde_json::from_value(options).expect("sound options");
        let _ = PairData::open(&options);
    });
}
