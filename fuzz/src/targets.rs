//! One function per reader. An error is a right answer to any bytes; a panic is not.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use editmgt::batch::{BatchFolder, Shard, read_jobs};
use editmgt::lora::{LoraFile, LoraUse};
use editmgt::{
    EditDefaults, EditRecord, EditRequest, HoldPolicy, KeywordPolicy, MapFilter, Mask, Photo,
    PhotoLimits, Resize, content_words,
};
use editmgt_checkpoint::WeightFiles;
use editmgt_sampler::SchedulerConfig;
use editmgt_text::{ClipTextConfig, Gemma2Config, PromptTokenizer, SmallTextConfig, WordTokenizer};
use editmgt_transformer::MgtConfig;
use editmgt_vq::{CodecConfig, PatchVqConfig, VqConfig};

/// A reader of untrusted bytes.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Reads the bytes; panics where a property that the reader promises does not hold.
    pub body: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "safetensors", body: safetensors },
    Target { name: "index", body: index },
    Target { name: "config_vq", body: |bytes| config(bytes, VqConfig::from_json) },
    Target { name: "config_patch_vq", body: |bytes| config(bytes, PatchVqConfig::from_json) },
    Target { name: "config_codec", body: |bytes| config(bytes, CodecConfig::from_json) },
    Target { name: "config_clip", body: |bytes| config(bytes, ClipTextConfig::from_json) },
    Target { name: "config_gemma2", body: |bytes| config(bytes, Gemma2Config::from_json) },
    Target { name: "config_small", body: |bytes| config(bytes, SmallTextConfig::from_json) },
    Target { name: "config_transformer", body: transformer },
    Target { name: "config_scheduler", body: |bytes| config(bytes, SchedulerConfig::from_json) },
    Target { name: "edit_defaults", body: |bytes| config(bytes, EditDefaults::from_json) },
    Target { name: "photo_bmp", body: photo },
    Target { name: "photo_gif", body: photo },
    Target { name: "photo_jpeg", body: photo },
    Target { name: "photo_png", body: photo },
    Target { name: "photo_tiff", body: photo },
    Target { name: "photo_webp", body: photo },
    Target { name: "exif", body: exif },
    Target { name: "mask", body: mask },
    Target { name: "record", body: record },
    Target { name: "jobs", body: jobs },
    Target { name: "manifest", body: manifest },
    Target { name: "adapter_config", body: adapter_config },
    Target { name: "adapter_weights", body: adapter_weights },
    Target { name: "clip_tokenizer", body: |bytes| clip_files(bytes, "tokenizer.json") },
    Target { name: "clip_vocab", body: |bytes| clip_files(bytes, "vocab.json") },
    Target { name: "clip_merges", body: |bytes| clip_files(bytes, "merges.txt") },
    Target { name: "clip_settings", body: |bytes| clip_files(bytes, "tokenizer_config.json") },
    Target { name: "gemma_tokenizer", body: gemma_tokenizer },
    Target { name: "small_tokenizer", body: small_tokenizer },
    Target { name: "request", body: request },
    Target { name: "words", body: words },
    Target { name: "prompts", body: prompts },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Photos may be this large here, so that an input takes milliseconds; the program's own limits
/// are larger.
const PHOTO_LIMITS: PhotoLimits =
    PhotoLimits { max_pixels: 1 << 18, max_side: 1 << 15, max_bytes: 1 << 20 };

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
    if let Ok(config) = MgtConfig::from_json(&text(bytes)) {
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

fn photo(bytes: &[u8]) {
    let Ok(photo) = Photo::decode_within(bytes, &PHOTO_LIMITS) else { return };
    let size = photo.size();
    let (width, height) = photo.rgb().dimensions();
    assert_eq!((size.width, size.height), (width as usize, height as usize));
    assert!((size.width * size.height) as u64 <= PHOTO_LIMITS.max_pixels);
    if let Some(alpha) = photo.alpha() {
        assert_eq!(alpha.dimensions(), (width, height));
    }
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

/// What is read is written, and read again as the same.
fn request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<EditRequest>(bytes) else { return };
    let Ok(written) = serde_json::to_string(&request) else { return };
    let again: EditRequest = serde_json::from_str(&written).expect("a written request is readable");
    assert_eq!(serde_json::to_string(&again).ok(), Some(written));
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
