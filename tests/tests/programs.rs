//! The programs that people write with the library, run with the small model.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use editmgt::image::{self, ImageFormat};
use editmgt::lora::{LoraConfig, LoraFactors, LoraFile, LoraStreams};
use editmgt::sampler::{MaskingSchedule, Strict, Temperature};
use editmgt::{
    CodecSpec, EditError, EditEvent, EditRequest, Editor, Flow, HoldPolicy, LoadOptions, Mask,
    Model, Photo, Schedule, ScheduleRequest, Silent, StepResult, StepState, TokenGrid,
    UnmaskScheduler, VqCodec,
};

type Outcome = Result<(), Box<dyn Error>>;

/// The folder of the small model; [`Editor::embedded`] is the same in the program.
const MODEL: &str = "../editmgt/embedded";
const PHOTO: &str = "../examples/scenes/scene.png";
const INSTRUCTION: &str = "make the red car blue";

#[test]
fn program_1_edits() -> Outcome {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("out.png");

    let editor = Editor::open(MODEL)?;
    editor.edit(&Photo::open(PHOTO)?, INSTRUCTION)?.image.save(&out)?;

    assert_eq!(Photo::open(&out)?.size(), Photo::open(PHOTO)?.size());
    Ok(())
}

#[test]
fn program_2_has_options_and_a_mask() -> Outcome {
    let dir = tempfile::tempdir()?;
    let photo = Photo::open(PHOTO)?;
    let (width, height) = photo.rgb().dimensions();
    let mask = dir.path().join("m.png");
    image::GrayImage::from_pixel(width, height, image::Luma([255])).save(&mask)?;

    let request =
        EditRequest::new(INSTRUCTION).hold(HoldPolicy::Auto).seed(7).mask(Mask::open(mask)?);
    let result = Editor::open(MODEL)?.edit(&photo, request)?;

    assert_eq!(result.report.settings.hold.to_string(), "mask+auto");
    assert_eq!(result.report.settings.seed, 7);
    Ok(())
}

/// Keeps the steps of another scheduler in mind and adds nothing.
struct MyScheduler(Strict);

impl UnmaskScheduler for MyScheduler {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule, editmgt::Error> {
        self.0.plan(request)
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult, editmgt::Error> {
        self.0.step(state)
    }
}

#[test]
fn program_3_has_a_sampler() -> Outcome {
    let scheduler = MyScheduler(Strict::new(MaskingSchedule::Linear, Temperature::Range(1.0, 0.0)));

    let editor = Editor::builder(MODEL).scheduler(scheduler).build()?;
    let result = editor.edit(&Photo::open(PHOTO)?, INSTRUCTION)?;

    assert_eq!(result.report.custom_stages, ["scheduler"]);
    Ok(())
}

/// Passes everything on.
struct MyCodec(Box<dyn VqCodec>);

impl VqCodec for MyCodec {
    fn spec(&self) -> &CodecSpec {
        self.0.spec()
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid, editmgt::Error> {
        self.0.encode(images)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>, editmgt::Error> {
        self.0.decode(tokens)
    }
}

#[test]
fn program_4_has_a_codec() -> Outcome {
    let model = Model::embedded(&LoadOptions::for_device(editmgt::open_default_device()?)?, &[])?;

    let editor = Editor::builder(MODEL).codec(MyCodec(model.codec)).build()?;
    let result = editor.edit(&Photo::open(PHOTO)?, INSTRUCTION)?;

    assert_eq!(result.report.model, None, "it is no longer the folder's model");
    Ok(())
}

#[test]
fn program_5_observes_cancels_and_resumes() -> Outcome {
    let editor = Editor::open(MODEL)?;
    let photo = Photo::open(PHOTO)?;
    let request = EditRequest::new(INSTRUCTION).steps(4);
    let whole = editor.edit(&photo, &request)?;
    let mut steps = Vec::new();

    let outcome = editor.edit_with(&photo, &request, |event: &EditEvent<'_>| {
        if let EditEvent::Step { completed, .. } = event {
            steps.push(*completed);
        }
        if steps.len() == 2 { Flow::Stop } else { Flow::Continue }
    });
    let Err(EditError::Stopped(stopped)) = outcome else { panic!("it was not stopped") };
    assert_eq!((stopped.completed, stopped.total), (2, 4));
    let result = editor.open_photo(photo).resume(&request, stopped, &mut Silent)?;

    assert_eq!(steps, [1, 2]);
    assert_eq!(result.report.resumed_after, 2);
    assert_eq!(result.image, whole.image);
    Ok(())
}

#[test]
fn program_6_edits_several() -> Outcome {
    let dir = tempfile::tempdir()?;
    let editor = Editor::open(MODEL)?;
    let photos = [Photo::open(PHOTO)?, Photo::open(PHOTO)?];
    let request = EditRequest::new(INSTRUCTION);

    for (i, result) in editor.edit_batch(photos.iter().map(|p| (p, &request))).enumerate() {
        result?.image.save(dir.path().join(format!("{i}.png")))?;
    }

    assert_eq!(fs::read_dir(dir.path())?.count(), 2);
    Ok(())
}

/// An adapter of one layer of the small model.
fn write_adapter(dir: &Path) -> Outcome {
    let factors = LoraFactors { rank: 1, a: vec![0.1; 128], b: vec![0.1; 128] };
    let layers = [("single_transformer_blocks.0.attn.to_q".to_owned(), factors)];
    let config = LoraConfig::new(1, 1.0);
    Ok(LoraFile::new(config, LoraStreams::Both, layers.into()).save(dir)?)
}

#[test]
fn program_7_has_adapters_and_swaps_them() -> Outcome {
    let dir = tempfile::tempdir()?;
    let style = dir.path().join("style");
    write_adapter(&style)?;
    let style = format!("{}:0.8", style.display());

    let editor = Editor::builder(MODEL).lora(style.parse()?).build()?;
    let plain = editor.with_loras(&[])?;

    let loras = |editor: &Editor| -> Result<usize, Box<dyn Error>> {
        let result = editor.edit(&Photo::open(PHOTO)?, INSTRUCTION)?;
        Ok(result.report.model.ok_or("no model")?.loras.len())
    };
    assert_eq!((loras(&editor)?, loras(&plain)?), (1, 0));
    Ok(())
}

#[test]
fn program_8_names_its_device() -> Outcome {
    let editor = Editor::builder(MODEL).device(editmgt::open_device("cpu")?).build()?;

    editor.edit(&Photo::open(PHOTO)?, INSTRUCTION)?;
    assert!(editmgt::open_device("cpu:7").is_err());
    Ok(())
}

#[test]
fn program_9_stays_in_memory() -> Outcome {
    let bytes = fs::read(PHOTO)?;
    let editor = Editor::embedded().build()?;

    let photo = Photo::try_from(image::load_from_memory(&bytes)?)?;
    let result = editor.edit(&photo, INSTRUCTION)?;
    let png: Vec<u8> = result.image.encode(ImageFormat::Png)?;

    assert_eq!(Photo::from_bytes(&png)?.rgb(), result.image.rgb());
    Ok(())
}

#[test]
fn one_editor_serves_threads() -> Outcome {
    let editor = Editor::embedded().build()?;
    let photo = Arc::new(Photo::open(PHOTO)?);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (editor, photo) = (editor.clone(), photo.clone());
            std::thread::spawn(move || editor.edit(&photo, INSTRUCTION).map(|edit| edit.image))
        })
        .collect();
    let images: Vec<_> =
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<_, _>>()?;
    assert_eq!(images[0], images[1]);
    Ok(())
}
