//! Tiny data sets, and a codec simple enough to predict.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor};
use editmgt_checkpoint::WeightFiles;
use editmgt_core::{CodecSpec, GridSize, TokenGrid, VqCodec};
use editmgt_vq::{CodecConfig, PatchVqConfig};
use image::{GrayImage, Luma, Rgb, RgbImage};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::*;
use crate::run::TrainError;
use editmgt_world::Category;

/// A token is the red level of the first pixel of its 8x8 patch.
struct Levels {
    spec: CodecSpec,
    encoded: AtomicUsize,
}

impl VqCodec for Levels {
    fn spec(&self) -> &CodecSpec {
        &self.spec
    }

    fn encode(&self, images: Tensor<4>) -> editmgt_core::Result<TokenGrid> {
        let [batch, channels, height, width] = images.dims();
        let values = images.try_into_vec_as::<f32>().unwrap();
        let size = GridSize::new(height / 8, width / 8);
        let mut ids = Vec::new();
        for image in values.chunks(channels * height * width) {
            for y in (0..height).step_by(8) {
                ids.extend((0..width).step_by(8).map(|x| (image[y * width + x] * 255.0) as u32));
            }
        }
        self.encoded.fetch_add(batch, Ordering::Relaxed);
        TokenGrid::new(batch, size, ids)
    }

    fn decode(&self, _tokens: &TokenGrid) -> editmgt_core::Result<Tensor<4>> {
        unreachable!("no test decodes tokens")
    }
}

/// A codec and a data set in temporary folders.
struct Bench {
    root: tempfile::TempDir,
    codec: Levels,
}

impl Bench {
    fn new() -> Self {
        let spec = CodecSpec { downsample_factor: 8, codebook_size: 256 };
        let bench = Self {
            root: tempfile::tempdir().unwrap(),
            codec: Levels { spec, encoded: AtomicUsize::new(0) },
        };
        bench.weights(1);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn weights(&self, value: u8) {
        let bytes = [value; 4];
        let view = TensorView::new(Dtype::U8, vec![4], &bytes).unwrap();
        let bytes = safetensors::serialize([("weight", view)], None::<HashMap<_, _>>).unwrap();
        std::fs::create_dir_all(self.path("codec")).unwrap();
        let path = self.path("codec/diffusion_pytorch_model.safetensors");
        std::fs::write(path, bytes).unwrap();
    }

    fn options(&self, path: &str) -> PairOptions {
        PairOptions {
            path: self.path(path),
            layout: Layout::Plain,
            columns: ColumnNames::default(),
            mask: MaskReading::Auto,
            validation: ValidationPart::Share(0.5),
            cache: self.path("cache"),
            vocabulary: 100,
            pictures: ImageOptions::new(16, 24),
        }
    }

    fn prepare(&self, source: &DataOptions) -> Result<PreparedPairs, TrainError> {
        self.prepare_for(source, 1000)
    }

    fn prepare_for(
        &self,
        source: &DataOptions,
        evaluated: usize,
    ) -> Result<PreparedPairs, TrainError> {
        let config = CodecConfig::Patch(PatchVqConfig {
            encoder_channels: vec![8],
            code_channels: 4,
            num_codes: 256,
            decoder_channels: vec![4, 4],
            blocks_per_level: 1,
        });
        let weights = WeightFiles::open(self.path("codec")).unwrap();
        let codec = PairCodec {
            config: &config,
            weights: &weights,
            codec: &self.codec,
            device: &Device::flex(),
        };
        let readable = |instruction: &str| {
            if instruction.contains("zebra") { Err("there is no zebra".to_owned()) } else { Ok(()) }
        };
        PairData::open(source)?.prepare(codec, evaluated, &readable, &mut |done, all| {
            assert!(done <= all);
        })
    }

    /// Number of images encoded since the last call.
    fn encoded(&self) -> usize {
        self.codec.encoded.swap(0, Ordering::Relaxed)
    }
}

fn flat(level: u8, width: u32, height: u32) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb([level, 0, 0]))
}

fn save(path: &Path, picture: &RgbImage) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Row `number` of a good folder: a flat image becomes another.
fn add_row(root: &Path, number: u8) {
    let name = format!("{number:03}");
    save(&root.join(format!("before/{name}.png")), &flat(number, 24, 16));
    save(&root.join(format!("after/{name}.png")), &flat(number + 100, 24, 16));
    write(&root.join(format!("instruction/{name}.txt")), &format!("make it {number}\n"));
}

fn folder(root: &Path, rows: u8) {
    (0..rows).for_each(|number| add_row(root, number));
}

fn all(edits: &PairEdits) -> Vec<EditExample> {
    edits.examples(&(0..edits.len()).collect::<Vec<_>>()).unwrap()
}

fn causes(skips: &Skips) -> BTreeMap<SkipCause, u64> {
    skips.iter().map(|(cause, rows)| (cause, rows.count)).collect()
}

#[test]
fn a_folder_and_a_list_of_the_same_pairs_are_the_same_examples() {
    let bench = Bench::new();
    let root = bench.path("pairs");
    folder(&root, 12);
    let mut mask = GrayImage::new(24, 16);
    mask.put_pixel(23, 15, Luma([255]));
    for number in 0..12 {
        std::fs::create_dir_all(root.join("mask")).unwrap();
        mask.save(root.join(format!("mask/{number:03}.png"))).unwrap();
        write(&root.join(format!("category/{number:03}.txt")), "color\n");
        write(&root.join(format!("scene/{number:03}.txt")), &format!("{}", number / 2));
    }
    let lines = (0..12).map(|number| {
        let file = |column: &str| format!("{column}/{number:03}.png");
        let line = json!({
            "before": file("before"), "after": file("after"), "mask": file("mask"),
            "instruction": format!("make it {number}"), "category": "color", "scene": number / 2,
            "what else there is": [1, 2],
        });
        format!("{line}\n\n")
    });
    write(&root.join("pairs.jsonl"), &lines.collect::<String>());

    let columns = ColumnNames { group: Some("scene".into()), ..ColumnNames::default() };
    let by_folder = PairOptions { columns, ..bench.options("pairs") };
    let by_list = PairOptions { path: root.join("pairs.jsonl"), ..by_folder.clone() };
    let folder = bench.prepare(&DataOptions::Folder(by_folder)).unwrap();
    let list = bench.prepare(&DataOptions::Jsonl(by_list)).unwrap();
    assert_eq!(all(&folder.train), all(&list.train));
    assert_eq!(folder.train.grid(), GridSize::new(2, 3));

    let mut numbers = Vec::new();
    for edits in [&folder.train, &folder.validation] {
        assert!(edits.len() >= 2);
        for example in all(edits) {
            let number = example.before[0];
            assert_eq!(example.before, [number; 6]);
            assert_eq!(example.after, [number + 100; 6]);
            // The mask selects among all tokens that differ.
            assert_eq!(example.changed, [false, false, false, false, false, true]);
            assert_eq!(example.instruction, format!("make it {number}"));
            assert_eq!(example.category, Some(Category::Colour));
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..12).collect::<Vec<_>>());
    // Both edits of a scene are on the same side.
    let train = all(&folder.train);
    let on_train = |number: u32| train.iter().any(|example| example.before[0] == number);
    assert!((0..6).all(|scene| on_train(2 * scene) == on_train(2 * scene + 1)));
    assert_eq!(
        folder.report.train.categories,
        BTreeMap::from([("colour".into(), train.len() as u64)])
    );
}

#[test]
fn cached_rows_are_not_encoded_again() {
    let bench = Bench::new();
    let root = bench.path("pairs");
    folder(&root, 10);
    std::fs::write(root.join("after/004.png"), "no picture").unwrap();
    let source = DataOptions::Folder(bench.options("pairs"));
    let first = bench.prepare(&source).unwrap();
    assert_eq!((bench.encoded(), first.report.encoded, first.report.cached), (18, 9, 0));

    let second = bench.prepare(&source).unwrap();
    assert_eq!((bench.encoded(), second.report.encoded, second.report.cached), (0, 0, 9));
    assert_eq!(all(&second.train), all(&first.train));
    assert_eq!(all(&second.validation), all(&first.validation));
    assert_eq!(second.report.skipped, first.report.skipped);
    assert_eq!(second.report.fingerprint, first.report.fingerprint);

    // One image is replaced, another repaired.
    save(&root.join("after/002.png"), &flat(77, 24, 16));
    save(&root.join("after/004.png"), &flat(78, 24, 16));
    let third = bench.prepare(&source).unwrap();
    assert_eq!((bench.encoded(), third.report.encoded, third.report.cached), (4, 2, 8));
    assert_eq!(third.report.skipped.total(), 0);
    assert_ne!(third.report.fingerprint, first.report.fingerprint);
    let learned = all(&third.train);
    let examples = [learned.clone(), all(&third.validation)].concat();
    let exchanged = examples.iter().find(|example| example.before[0] == 2).unwrap();
    assert_eq!(exchanged.after, [77; 6]);

    // A damaged file of the cache.
    let key = std::fs::read_dir(bench.path("cache")).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(key).unwrap().map(|entry| entry.unwrap().path());
    let mut shards: Vec<_> =
        files.filter(|path| path.extension().unwrap() == "safetensors").collect();
    shards.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
    std::fs::write(&shards[shards.len() - 1], "half a fi").unwrap();
    let fourth = bench.prepare(&source).unwrap();
    assert_eq!(fourth.report.damaged_cache_files, 1);
    assert!(fourth.report.encoded > 0);
    assert_eq!(all(&fourth.train), learned);
    bench.encoded();

    // Another codec, another crop.
    bench.weights(2);
    assert_eq!(bench.prepare(&source).unwrap().report.cached, 0);
    bench.weights(1);
    assert_eq!(bench.prepare(&source).unwrap().report.encoded, 0);
    let mut other = bench.options("pairs");
    other.pictures.height = 8;
    assert_eq!(bench.prepare(&DataOptions::Folder(other)).unwrap().report.cached, 0);
}

#[test]
fn bad_rows_of_a_folder_are_counted_by_cause() {
    use SkipCause::*;
    let bench = Bench::new();
    let root = bench.path("pairs");
    folder(&root, 20);
    let whole = std::fs::read(root.join("after/000.png")).unwrap();
    std::fs::remove_file(root.join("after/000.png")).unwrap();
    std::fs::remove_file(root.join("before/001.png")).unwrap();
    std::fs::remove_file(root.join("instruction/002.txt")).unwrap();
    write(&root.join("instruction/003.txt"), " \n");
    std::fs::write(root.join("instruction/004.txt"), [0xff, 0xfe]).unwrap();
    std::fs::write(root.join("before/005.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(root.join("before/006.png"), []).unwrap();
    save(&root.join("after/007.png"), &flat(1, 16, 24));
    save(&root.join("before/008.png"), &flat(1, 4, 4));
    save(&root.join("mask/009.png"), &flat(255, 24, 24));
    save(&root.join("before/010.jpg"), &flat(1, 24, 16));
    write(&root.join("instruction/011.txt"), "add a zebra");
    write(&root.join("before/.hidden"), "no row");
    let mut options = bench.options("pairs");
    options.validation = ValidationPart::Share(0.3);
    let expected = BTreeMap::from([
        (MissingImage, 2),
        (MissingColumn, 1),
        (EmptyInstruction, 1),
        (WrongType, 1),
        (CorruptImage, 3),
        (SizeMismatch, 1),
        (MaskMismatch, 1),
        (Malformed, 1),
        (UnreadableInstruction, 1),
    ]);
    let source = DataOptions::Folder(options.clone());
    for _ in 0..2 {
        let prepared = bench.prepare(&source).unwrap();
        let report = &prepared.report;
        assert_eq!(causes(&report.skipped), expected, "{report}");
        assert_eq!((report.rows, report.train.rows + report.validation.rows), (20, 8), "{report}");
        assert!(report.to_string().contains("corrupt image: 005"), "{report}");
    }
    // Images of equal aspect ratio but different sizes are accepted by option.
    save(&root.join("after/007.png"), &flat(1, 48, 32));
    assert_eq!(causes(&bench.prepare(&source).unwrap().report.skipped), expected);
    options.pictures.accept_rescaled = true;
    let accepted = bench.prepare(&DataOptions::Folder(options)).unwrap();
    assert_eq!(accepted.report.skipped.count(SizeMismatch), 0);
}

#[test]
fn bad_rows_of_a_list_are_counted_by_cause() {
    use SkipCause::*;
    let bench = Bench::new();
    let root = bench.path("pairs");
    folder(&root, 8);
    let good = |number: u8| {
        json!({
            "before": format!("before/{number:03}.png"), "after": format!("after/{number:03}.png"),
            "instruction": format!("make it {number}"), "mask": null,
        })
    };
    let bad = |column: &str, value: Value| {
        let mut row = good(0);
        row[column] = value;
        row.to_string()
    };
    let mut lines: Vec<String> = (0..8).map(|number| good(number).to_string()).collect();
    lines.extend([
        "{\"before\": ".to_owned(),
        "[1, 2]".to_owned(),
        bad("instruction", json!(7)),
        bad("before", json!({"bytes": "..."})),
        bad("after", Value::Null),
        bad("instruction", Value::Null),
        bad("instruction", json!("")),
        bad("after", json!("nowhere.png")),
        bad("mask", json!("nowhere.png")),
        bad("after", json!("pairs.jsonl")),
        bad("category", json!(["add"])),
    ]);
    write(&root.join("pairs.jsonl"), &lines.join("\n"));
    let source = DataOptions::Jsonl(bench.options("pairs/pairs.jsonl"));
    let report = bench.prepare(&source).unwrap().report;
    let expected = BTreeMap::from([
        (Malformed, 2),
        (WrongType, 3),
        (MissingColumn, 2),
        (EmptyInstruction, 1),
        (MissingImage, 2),
        (CorruptImage, 1),
    ]);
    assert_eq!(causes(&report.skipped), expected, "{report}");
    assert_eq!(report.rows, 19);
    let shown = report.to_string();
    assert!(shown.contains("wrong type: line 11: instruction: expected a text, got 7"), "{shown}");
}

/// With a byte order mark, line ends of Windows, numbers with a decimal point and `null`.
#[test]
fn reads_lists_of_other_programs_and_counts_every_row() {
    let bench = Bench::new();
    let root = bench.path("pairs");
    folder(&root, 6);
    let row = |number: u8, more: &str| {
        format!(
            r#"{{"before": "before/{number:03}.png", "after": "after/{number:03}.png",
               "instruction": "make it {number}"{more}}}"#
        )
        .replace('\n', " ")
    };
    let columns = ColumnNames { group: Some("scene".into()), ..ColumnNames::default() };
    let prepare = |text: &str| {
        write(&root.join("pairs.jsonl"), text);
        let path = root.join("pairs.jsonl");
        let options = PairOptions { path, columns: columns.clone(), ..bench.options("pairs") };
        bench.prepare(&DataOptions::Jsonl(options))
    };
    let lines = |more: &dyn Fn(u8) -> String, end: &str| -> String {
        (0..6).map(|number| row(number, &more(number)) + end).collect()
    };
    let whole = lines(&|number| format!(r#", "scene": {number}"#), "\n");
    let expected = prepare(&whole).unwrap();
    assert_eq!((expected.report.rows, expected.report.skipped.total()), (6, 0));
    for text in [
        format!("\u{feff}{whole}"),
        whole.replace('\n', "\r\n"),
        format!("\u{feff}{}", whole.replace('\n', "\r\n\r\n")),
        lines(&|number| format!(r#", "scene": {number}.0"#), "\n"),
        lines(&|number| format!(r#", "scene": {number}, "mask": null, "category": null"#), "\n"),
    ] {
        let got = prepare(&text).unwrap();
        assert_eq!(got.report.skipped.total(), 0, "{text}: {}", got.report);
        // Blank lines change the numbers of the rows, and these their order.
        let sorted = |edits: &PairEdits| {
            let mut all = all(edits);
            all.sort_by_key(|example| example.before[0]);
            all
        };
        assert_eq!(sorted(&got.train), sorted(&expected.train), "{text}");
        assert_eq!(sorted(&got.validation), sorted(&expected.validation), "{text}");
    }
    // Unusable rows are counted, and the message names the line and the key.
    for (bad, named) in [
        (row(0, r#", "scene": null"#), "line 1: no scene"),
        (row(0, r#", "scene": [1]"#), "line 1: scene: expected a text, got [1]"),
        (row(0, r#", "scene": 1, "mask": 7.0"#), "line 1: mask: expected a text, got 7"),
        (row(0, r#", "scene": 1"#).replace("\"before/000.png\"", "null"), "line 1: no before"),
        (
            row(0, r#", "scene": 1"#).replace("\"make it 0\"", "7.0"),
            "line 1: instruction: expected",
        ),
        (format!("// {}", row(0, "")), "line 1: expected a JSON object, got a comment"),
    ] {
        let report = prepare(&format!("\u{feff}{bad}\n{whole}")).unwrap().report.to_string();
        assert!(report.contains(named), "{named}: {report}");
    }
    let utf16: Vec<u8> = whole.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(root.join("utf16.jsonl"), utf16).unwrap();
    let options = PairOptions { columns: columns.clone(), ..bench.options("pairs/utf16.jsonl") };
    let error = PairData::open(&DataOptions::Jsonl(options)).err().unwrap().to_string();
    assert!(error.contains("UTF-16"), "{error}");
}

/// What macOS, Windows and NAS devices leave beside the files.
#[test]
fn sidecar_files_are_no_rows_and_no_tokens() {
    let bench = Bench::new();
    let root = bench.path("pairs");
    folder(&root, 6);
    let source = DataOptions::Folder(bench.options("pairs"));
    let expected = bench.prepare(&source).unwrap();
    bench.encoded();
    for column in ["before", "after", "instruction"] {
        for name in ["._000.png", "._000.txt", ".DS_Store", "Thumbs.db", "desktop.ini"] {
            write(&root.join(column).join(name), "sidecar");
        }
        std::fs::create_dir(root.join(column).join("@eaDir")).unwrap();
    }
    write(&root.join("._part.parquet"), "sidecar");
    let mut shards = Vec::new();
    for folder in std::fs::read_dir(bench.path("cache")).unwrap() {
        let shard = folder.unwrap().path().join("._0.safetensors");
        std::fs::write(&shard, "sidecar").unwrap();
        shards.push(shard);
    }
    let got = bench.prepare(&source).unwrap();
    assert_eq!(got.report.skipped.total(), 0, "{}", got.report);
    assert_eq!(got.report.damaged_cache_files, 0);
    assert_eq!((all(&got.train), bench.encoded()), (all(&expected.train), 0));
    assert!(!shards.is_empty() && shards.iter().all(|shard| shard.exists()));
    assert_eq!(PairFormat::of(&root), PairFormat::Folder);
}

#[test]
fn data_set_without_a_usable_row_is_an_error_with_the_reason() {
    let bench = Bench::new();
    let options = |path: &str| DataOptions::Folder(bench.options(path));
    let error = |source: &DataOptions| bench.prepare(source).err().unwrap();

    assert!(matches!(error(&options("nowhere")), TrainError::Io { .. }));
    std::fs::create_dir(bench.path("empty")).unwrap();
    let none = error(&options("empty"));
    assert!(matches!(none, TrainError::Dataset(DataError::NoRows { .. })), "{none}");

    // Another layout's columns.
    folder(&bench.path("other"), 3);
    let layout = PairOptions { layout: Layout::EmuEdit, ..bench.options("other") };
    let message = error(&DataOptions::Folder(layout)).to_string();
    assert!(message.contains("3 missing image (missing image, 000: no image/000.*)"), "{message}");

    // Every image is damaged, which is found when they are read.
    folder(&bench.path("damaged"), 12);
    for number in 0..12 {
        let path = bench.path("damaged").join(format!("before/{number:03}.png"));
        std::fs::write(path, "no picture").unwrap();
    }
    let damaged = error(&options("damaged"));
    let message = damaged.to_string();
    assert!(matches!(damaged, TrainError::Dataset(DataError::NothingLeft { .. })), "{message}");
    assert!(
        message.contains("no row is left for training; skipped: 12 corrupt image"),
        "{message}"
    );

    folder(&bench.path("few"), 1);
    let few = error(&options("few")).to_string();
    assert!(few.contains("none of its 1 group(s)") && few.contains("validation.path"), "{few}");

    let mut odd = bench.options("few");
    odd.pictures.height = 17;
    odd.validation = ValidationPart::Path(bench.path("few"));
    let message = error(&DataOptions::Folder(odd)).to_string();
    assert!(message.starts_with("height: expected a multiple of 8"), "{message}");
}

#[test]
fn rows_keep_their_split_when_rows_are_added() {
    let bench = Bench::new();
    let root = bench.path("pairs");
    folder(&root, 30);
    let source = DataOptions::Folder(bench.options("pairs"));
    let side = |edits: &PairEdits| {
        let mut numbers: Vec<u32> = all(edits).iter().map(|example| example.before[0]).collect();
        numbers.sort_unstable();
        numbers
    };
    let before = side(&bench.prepare(&source).unwrap().validation);
    // Five deviations of a binomial count.
    assert!((2..29).contains(&before.len()), "{before:?}");
    folder(&root, 60);
    let mut after = side(&bench.prepare(&source).unwrap().validation);
    after.retain(|&number| number < 30);
    assert_eq!(after, before);
}

#[test]
fn an_evaluation_gets_as_many_rows_as_it_needs() {
    let bench = Bench::new();
    folder(&bench.path("train"), 3);
    folder(&bench.path("held"), 9);
    // The validation split is shuffled: whatever the order, some of the requested rows are bad.
    for number in 0..6 {
        let path = bench.path("held").join(format!("after/{number:03}.png"));
        std::fs::write(path, "no picture").unwrap();
    }
    let mut options = bench.options("train");
    options.validation = ValidationPart::Path(bench.path("held"));
    let source = DataOptions::Folder(options);
    let prepared = bench.prepare_for(&source, 3).unwrap();
    let report = &prepared.report;
    assert_eq!((report.rows, report.train.rows, report.validation.rows), (12, 3, 3));
    assert_eq!(report.skipped.total() + report.spare, 6);
    assert!(all(&prepared.validation).iter().all(|example| example.before[0] >= 6));
    let one = bench.prepare_for(&source, 1).unwrap();
    assert_eq!(one.report.validation.rows, 1);
    assert_eq!(all(&one.validation)[0], all(&prepared.validation)[0]);
}

#[test]
fn several_crops_of_a_pair_are_several_examples() {
    let bench = Bench::new();
    let root = bench.path("pairs");
    for number in 0..6 {
        add_row(&root, number);
        let ramp =
            |shift: u32| RgbImage::from_fn(120, 16, move |x, _| Rgb([(x + shift) as u8, 0, 0]));
        save(&root.join(format!("before/{number:03}.png")), &ramp(0));
        save(&root.join(format!("after/{number:03}.png")), &ramp(100));
    }
    let mut options = bench.options("pairs");
    options.pictures = ImageOptions { crop: Crop::Random, crops: 3, seed: 5, ..options.pictures };
    let source = DataOptions::Folder(options.clone());
    let prepared = bench.prepare(&source).unwrap();
    assert_eq!(prepared.report.train.examples, 3 * prepared.report.train.rows);
    assert_eq!(prepared.train.len(), prepared.report.train.examples);
    let examples = all(&prepared.train);
    let mut places = Vec::new();
    for example in &examples {
        let left = example.before[0];
        assert_eq!(example.before[..3], [left, left + 8, left + 16]);
        // The same position in both images.
        assert_eq!(example.after[..3], [left + 100, left + 108, left + 116]);
        places.push(left);
    }
    places.sort_unstable();
    places.dedup();
    assert!(places.len() > 3, "{places:?}");
    bench.encoded();
    assert_eq!(all(&bench.prepare(&source).unwrap().train), examples);
    assert_eq!(bench.encoded(), 0);
    options.pictures.seed = 6;
    assert_ne!(all(&bench.prepare(&DataOptions::Folder(options)).unwrap().train), examples);
}

#[test]
fn run_resumes_only_with_its_original_data() {
    let bench = Bench::new();
    folder(&bench.path("pairs"), 12);
    std::fs::create_dir(bench.path("run")).unwrap();
    let source = DataOptions::Folder(bench.options("pairs"));
    let report = || bench.prepare(&source).unwrap().report;
    report().save(&bench.path("run")).unwrap();
    report().save(&bench.path("run")).unwrap();
    let text = std::fs::read_to_string(bench.path("run/data.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["rows"], 12);
    write(&bench.path("pairs/instruction/003.txt"), "make it something else");
    let error = report().save(&bench.path("run")).unwrap_err();
    assert!(matches!(error, TrainError::Dataset(DataError::Changed { .. })), "{error}");
}

#[test]
fn index_out_of_range_is_an_error() {
    let bench = Bench::new();
    folder(&bench.path("pairs"), 12);
    let prepared = bench.prepare(&DataOptions::Folder(bench.options("pairs"))).unwrap();
    let error = prepared.train.examples(&[0, 12]).unwrap_err().to_string();
    assert!(error.starts_with("example 12: expected an index below"), "{error}");
}

#[test]
fn photos_come_in_their_own_size_with_their_mask() {
    let bench = Bench::new();
    let root = bench.path("photos");
    folder(&root, 3);
    // Half the size of the image, white on the left.
    let mask = GrayImage::from_fn(12, 8, |x, _| Luma([if x < 6 { 255 } else { 0 }]));
    std::fs::create_dir(root.join("mask")).unwrap();
    mask.save(root.join("mask/001.png")).unwrap();
    save(&root.join("after/002.png"), &flat(1, 16, 24));
    let open = |path: &Path| {
        PairPhotos::open(PairFormat::of(path), path, &Layout::Plain.columns(), MaskReading::Auto)
    };
    let photos = open(&root).unwrap();
    assert_eq!((photos.len(), photos.name(1), photos.instruction(1)), (3, "001", "make it 1"));
    let pair = photos.read(1).unwrap().unwrap();
    assert_eq!((&pair.before, &pair.after), (&flat(1, 24, 16), &flat(101, 24, 16)));
    let changed = pair.changed.unwrap();
    assert_eq!(changed.dimensions(), (24, 16));
    assert!(changed.enumerate_pixels().all(|(x, _, p)| p.0[0] == if x < 12 { 255 } else { 0 }));
    assert_eq!(photos.read(0).unwrap().unwrap().changed, None);
    let wrong = photos.read(2).unwrap().unwrap_err();
    assert!(wrong.starts_with("mismatched sizes: "), "{wrong}");

    let before = photos.fingerprint();
    assert_eq!(open(&root).unwrap().fingerprint(), before);
    write(&root.join("instruction/002.txt"), "make it something else");
    assert_ne!(open(&root).unwrap().fingerprint(), before);
    for (path, format) in [
        (root.clone(), PairFormat::Folder),
        (root.join("list.jsonl"), PairFormat::Jsonl),
        (root.join("train-*.parquet"), PairFormat::Parquet),
    ] {
        assert_eq!(PairFormat::of(&path), format);
    }
    write(&root.join("part.parquet"), "");
    assert_eq!(PairFormat::of(&root), PairFormat::Parquet);
    assert!(open(&bench.path("nowhere.jsonl")).is_err());
}

#[test]
fn captions_are_optional() {
    let bench = Bench::new();
    let root = bench.path("photos");
    folder(&root, 2);
    let open = |path: &Path, columns: &Columns| {
        PairPhotos::open(PairFormat::of(path), path, columns, MaskReading::Auto).unwrap()
    };
    let plain = Layout::Plain.columns();
    let silent = open(&root, &plain);
    assert_eq!(silent.captions(1), &Captions::default());
    std::fs::create_dir(root.join("caption_after")).unwrap();
    write(&root.join("caption_after/001.txt"), " a blue square\n");
    let photos = open(&root, &plain);
    let after = Some("a blue square".to_owned());
    assert_eq!(photos.captions(0), &Captions::default());
    assert_eq!(photos.captions(1), &Captions { before: None, after: after.clone() });
    assert_ne!(photos.fingerprint(), silent.fingerprint());

    let line = |caption: Value| {
        let pictures = json!({"before": "before/000.png", "after": "after/000.png"});
        let mut line = json!({"instruction": "make it blue", "said": caption});
        line.as_object_mut().unwrap().extend(pictures.as_object().unwrap().clone());
        line.to_string()
    };
    let lines = [line(json!("red")), line(json!("  ")), line(Value::Null), line(json!(3))];
    write(&root.join("list.jsonl"), &lines.join("\n"));
    let names = ColumnNames { caption_before: Some("said".into()), ..ColumnNames::default() };
    let photos = open(&root.join("list.jsonl"), &names.over(Layout::Plain).unwrap());
    let before: Vec<_> = (0..3).map(|row| photos.captions(row).before.as_deref()).collect();
    assert_eq!((before, photos.len()), (vec![Some("red"), None, None], 3));
    assert!(photos.skips().to_string().contains("wrong type"), "{}", photos.skips());
}

#[cfg(feature = "parquet")]
mod parquet {
    use super::*;

    const ROWS: &str = "src/data/fixtures";

    fn source(bench: &Bench, file: &str, layout: Layout) -> DataOptions {
        let options = PairOptions {
            path: Path::new(ROWS).join(file),
            layout,
            validation: ValidationPart::Path(Path::new(ROWS).join("magic_brush.parquet")),
            pictures: ImageOptions::new(16, 16),
            ..bench.options("")
        };
        DataOptions::Parquet(options)
    }

    #[test]
    fn files_that_hugging_face_writes_in_the_layout_of_magic_brush() {
        use SkipCause::*;
        let bench = Bench::new();
        let source = source(&bench, "magic_brush.parquet", Layout::MagicBrush);
        let prepared = bench.prepare(&source).unwrap();
        let report = &prepared.report;
        // Each fault is found twice: the validation split is the same file here.
        let expected = BTreeMap::from([
            (EmptyInstruction, 2),
            (MissingColumn, 2),
            (MissingImage, 2),
            (CorruptImage, 2),
            (SizeMismatch, 2),
        ]);
        assert_eq!(causes(&report.skipped), expected, "{report}");
        let examples = all(&prepared.train);
        let instructions: Vec<&str> =
            examples.iter().map(|example| example.instruction.as_str()).collect();
        assert_eq!(instructions, ["make it blue", "make it green", "make it blue"]);
        // Red, blue, green by their red levels; the first has a mask with a hole on the left.
        assert_eq!((&*examples[0].before, &*examples[0].after), (&[200; 4][..], &[30; 4][..]));
        assert_eq!(examples[0].changed, [true, false, true, false]);
        bench.encoded();
        assert_eq!(all(&bench.prepare(&source).unwrap().train), examples);
        assert_eq!(bench.encoded(), 0);
    }

    #[test]
    fn the_layouts_of_crisp_edit_and_emu_edit() {
        let bench = Bench::new();
        for (file, layout, categories) in [
            (
                "crisp_edit.parquet",
                Layout::CrispEdit,
                &["Colour", "Background", "Motion", "Style"][..],
            ),
            ("emu_edit.parquet", Layout::EmuEdit, &["Add", "", ""]),
        ] {
            let DataOptions::Parquet(mut options) = source(&bench, file, layout) else { panic!() };
            options.validation = ValidationPart::Path(options.path.clone());
            let prepared = bench.prepare(&DataOptions::Parquet(options)).unwrap();
            let examples = all(&prepared.train);
            let got =
                examples.iter().map(|e| e.category.map_or(String::new(), |c| format!("{c:?}")));
            assert_eq!(got.collect::<Vec<_>>(), categories);
        }
        let path = Path::new(ROWS).join("emu_edit.parquet");
        let columns = Layout::EmuEdit.columns();
        let photos =
            PairPhotos::open(PairFormat::Parquet, &path, &columns, MaskReading::Auto).unwrap();
        let captions = Captions { before: Some("red".into()), after: Some("blue".into()) };
        assert_eq!(photos.captions(2), &captions);
    }

    #[test]
    fn files_without_the_columns_leave_nothing() {
        let bench = Bench::new();
        for (file, layout, expected) in [
            ("crisp_edit.parquet", Layout::MagicBrush, "4 missing column (missing column, "),
            ("wrong_types.parquet", Layout::Plain, "3 wrong type (wrong type, "),
        ] {
            let DataOptions::Parquet(mut options) = source(&bench, file, layout) else { panic!() };
            options.validation = ValidationPart::Share(0.5);
            let error = bench.prepare(&DataOptions::Parquet(options)).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_folder_or_a_pattern_is_all_its_files() {
        let bench = Bench::new();
        std::fs::create_dir(bench.path("[data]")).unwrap();
        for name in ["train-0", "train-1", "dev-0"] {
            let to = bench.path("[data]").join(format!("{name}.parquet"));
            std::fs::copy(Path::new(ROWS).join("crisp_edit.parquet"), to).unwrap();
        }
        let rows = |path: PathBuf| {
            let options = PairOptions {
                path,
                layout: Layout::CrispEdit,
                validation: ValidationPart::Share(0.5),
                pictures: ImageOptions::new(16, 16),
                ..bench.options("")
            };
            bench.prepare(&DataOptions::Parquet(options)).map(|prepared| prepared.report.rows)
        };
        assert_eq!(rows(bench.path("[data]")).unwrap(), 12);
        assert_eq!(rows(bench.path("[[]data]/train-*.parquet")).unwrap(), 8);
        let none = rows(bench.path("[[]data]/test-*.parquet")).unwrap_err();
        assert!(matches!(none, TrainError::Dataset(DataError::NoRows { .. })), "{none}");
        std::fs::write(bench.path("[data]/train-0.parquet"), "PAR1 no parquet").unwrap();
        let damaged = rows(bench.path("[data]")).unwrap_err();
        assert!(matches!(damaged, TrainError::Malformed { .. }), "{damaged}");
    }
}
