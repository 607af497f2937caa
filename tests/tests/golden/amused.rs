//! aMUSEd: its official values, and its folders behind the library.

use std::path::Path;

use burn::tensor::Device;
use editmgt::{
    ChaChaNoise, Dtype, DtypePolicy, EditError, EditLoop, EditRequest, Editor, Error,
    GenerateRequest, GridSize, Job, LoopInput, LoopStages, LoraUse, Mask, MicroConditions, Model,
    ModelError, ModelFolder, ModelKind, NoiseRequest, NoiseSource, Photo, StepNoise, TokenDraw,
    TokenGrid,
    sampler::{Consolidator, HoldOff, Strict, Temperature},
};
use editmgt_diagnostics::init::{InitRequest, Preset, init};
use editmgt_diagnostics::inspect::inspect;
use editmgt_diagnostics::verify::{GoldenFolder, GoldenStage, verify};
use editmgt_testkit::assert_transformer_contract;
use editmgt_tests::golden_amused;
use editmgt_tests::spoil::{change_json, change_tensor, copy_folder, weights};
use image::{GrayImage, Luma};

use crate::check_folder;
use crate::defaults::{options, photo};
use crate::low_memory::write_adapter;

#[test]
fn components_have_the_official_values() {
    for (name, stage, at_least) in [
        ("clip", GoldenStage::Clip, 3),
        ("vq", GoldenStage::VqCodec, 12),
        ("uvit_down", GoldenStage::Transformer, 30),
        ("uvit_nodown", GoldenStage::Transformer, 30),
    ] {
        check_folder(&golden_amused(name), stage, at_least);
    }
}

#[test]
fn pipelines_have_the_official_values() {
    for name in ["pipeline_amused_t2i", "pipeline_amused_inpaint", "pipeline_amused_img2img"] {
        check_folder(&golden_amused(name), GoldenStage::Pipeline, 30);
    }
}

/// Order is easily mistaken where both halves have the same shape: the goldens see each.
#[test]
fn a_wrong_order_of_halves_fails() {
    /// Channels of the pooled text vector.
    const POOLED: usize = 28;
    for (tensor, pooled_first) in [
        // Scale before shift, and values before gates: the halves of the rows.
        ("transformer_layers.0.norm1.linear.weight", false),
        ("transformer_layers.1.norm3.linear.weight", false),
        ("transformer_layers.1.ff.net.0.proj.weight", false),
        ("up_block.res_blocks.0.cond_embeds_mapper.weight", false),
        // Pooled text before micro-conditions: columns.
        ("cond_embed.linear_1.weight", true),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("uvit");
        copy_folder(&golden_amused("uvit_nodown"), &dir);
        change_tensor(&weights(&dir), tensor, |shape, bytes| {
            if pooled_first {
                for row in bytes.chunks_exact_mut(4 * shape[1]) {
                    row.rotate_left(4 * POOLED);
                }
            } else {
                let half = bytes.len() / 2;
                bytes.rotate_left(half);
            }
        });
        let verification = verify(&dir, &Device::flex()).unwrap();
        let logits = verification.comparisons.iter().find(|line| line.name == "sq.logits").unwrap();
        assert!(!logits.pass, "{tensor}: {logits:?}");
    }
}

/// A recorded value that the pass does not have is a failure, not a line less.
#[test]
fn an_unknown_intermediate_result_fails() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("uvit");
    copy_folder(&golden_amused("uvit_down"), &dir);
    let file = dir.join("golden.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let (from, to) = (b"dbg.to_hidden", b"dbg.ot_hidden");
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    let mut renamed = bytes;
    renamed[at..at + to.len()].copy_from_slice(to);
    std::fs::write(&file, renamed).unwrap();
    let verification = verify(&dir, &Device::flex()).unwrap();
    let failed: Vec<_> = verification.comparisons.iter().filter(|line| !line.pass).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].name, "dbg.ot_hidden");
}

pub(crate) fn tiny(root: &Path, name: &str, preset: Preset) -> std::path::PathBuf {
    let dir = root.join(name);
    init(&dir, &InitRequest { preset, dtype: Dtype::F32, seed: 1 }).unwrap();
    dir
}

/// Text to image on a small grid, by the loop itself.
pub(crate) fn generate(model: &Model, prompt: &str) -> TokenGrid {
    sample(model, prompt).0
}

/// As [`generate`], with the logits of all steps, in which small differences show.
pub(crate) fn sample(model: &Model, prompt: &str) -> (TokenGrid, Vec<f32>) {
    let text = model.text.encode(&[prompt]).unwrap();
    let negative = model.text.encode(&[""]).unwrap();
    let spec = model.transformer.spec();
    let size = GridSize::new(4, 6);
    let factor = model.codec.spec().downsample_factor;
    let micro = MicroConditions::uncropped(size.height * factor, size.width * factor);
    let canvas = TokenGrid::filled(1, size, spec.mask_token);
    let input = LoopInput::new(text, canvas, micro, 3).with_guidance(4.0, Some(negative));
    let scheduler = Strict::new(model.scheduler.masking_schedule, Temperature::default())
        .with_timesteps(model.scheduler.timesteps);
    let (consolidator, noise) = (Consolidator::parity(), ChaChaNoise::new(5));
    let stages = LoopStages::new(&*model.transformer, &scheduler, &consolidator, &HoldOff, &noise);
    let mut edit = EditLoop::new(stages, input).unwrap();
    let mut logits = Vec::new();
    while !edit.is_done() {
        logits.extend(edit.step().unwrap().logits.try_into_vec_as::<f32>().unwrap());
    }
    let tokens = edit.tokens().clone();
    assert_eq!(tokens.count(spec.mask_token), 0);
    let image = model.codec.decode(&tokens).unwrap();
    assert_eq!(image.dims(), [1, 3, size.height * factor, size.width * factor]);
    (tokens, logits)
}

#[test]
fn a_folder_in_the_official_layout_generates() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = tiny(scratch.path(), "amused", Preset::AmusedTiny);
    let folder = ModelFolder::open(&dir).unwrap();
    assert_eq!(folder.llm_encoder, None);
    let model = Model::load(&folder, &options()).unwrap();
    assert_transformer_contract(&*model.transformer, &Device::flex());
    let (tokens, logits) = sample(&model, "a red fox");
    assert!(logits != sample(&model, "a blue car").1);
    // One component at a time gives the same.
    let on_demand = Model::on_demand(&folder, &options(), &[]).unwrap();
    assert!(!on_demand.transformer.takes_reference());
    assert_eq!(generate(&on_demand, "a red fox"), tokens);

    let summary = inspect(&dir).unwrap();
    let names: Vec<_> = summary.components.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["transformer", "vqvae", "text_encoder"]);
}

#[test]
fn half_precision_weights_generate_as_f32() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = tiny(scratch.path(), "amused", Preset::AmusedTiny);
    let half = crate::half_precision::stored_as(
        burn::tensor::DType::F16,
        &dir,
        scratch.path().join("half"),
    );
    let load = |dir: &Path, dtype| {
        let options = editmgt::LoadOptions::new(Device::flex(), DtypePolicy::uniform(dtype));
        Model::load(&ModelFolder::open(dir).unwrap(), &options).unwrap()
    };
    // The widened weights are those of a folder that stores them in f32.
    let wide = crate::half_precision::stored_as(
        burn::tensor::DType::F32,
        &half,
        scratch.path().join("wide"),
    );
    let expected = generate(&load(&wide, Dtype::F32), "a red fox");
    assert_eq!(generate(&load(&half, Dtype::F32), "a red fox"), expected);
    // In f16 itself it runs, with other roundings.
    generate(&load(&half, Dtype::F16), "a red fox");
}

#[test]
fn edits_and_adapters_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = tiny(scratch.path(), "amused", Preset::AmusedTiny);
    for low_memory in [false, true] {
        let builder = Editor::builder(&dir).low_memory(low_memory);
        let editor = builder.clone().build().unwrap();
        let edit = EditRequest::new("make it red").size(128).steps(2);
        let error = editor.edit(&photo(50, 40), &edit).unwrap_err();
        assert!(matches!(error, EditError::NotTrained { job: Job::Edit, .. }), "{error}");
        // Not even anyway: there is no stream for the photo.
        let error = editor.edit(&photo(50, 40), edit.anyway(true)).unwrap_err();
        let EditError::Option { option: "model", expected, .. } = &error else { panic!("{error}") };
        assert!(expected.contains("reference"), "{error}");

        let adapter = scratch.path().join(format!("adapter-{low_memory}"));
        write_adapter(&adapter, "transformer_layers.0.attn1.to_q", [48; 2], Default::default());
        let error = builder.lora(LoraUse::new(&adapter)).build().err().unwrap();
        assert!(matches!(&error, EditError::Model(ModelError::Lora(_))), "{error}");
        assert!(error.to_string().contains("UVit2DModel"), "{error}");
    }
    let folder = ModelFolder::open(&dir).unwrap();
    let error = folder.load_transformer(&options()).unwrap_err();
    assert!(error.to_string().contains("Meissonic"), "{error}");
}

#[test]
fn wrong_configs_are_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = tiny(scratch.path(), "amused", Preset::AmusedTiny);
    let path = dir.join("transformer/config.json");
    let before = std::fs::read(&path).unwrap();
    for (key, value, named) in [
        ("use_bias", serde_json::json!(true), "use_bias"),
        ("mixture_of_experts", serde_json::json!(8), "--accept-unknown-keys"),
        ("_class_name", serde_json::json!("UVitModel"), "UVit2DModel, got UVitModel"),
        ("micro_cond_embed_dim", serde_json::json!(1280), "five times"),
        // Another model's weights.
        ("num_hidden_layers", serde_json::json!(4), "transformer_layers.3."),
        ("block_out_channels", serde_json::json!(48), "expected"),
        ("codebook_size", serde_json::json!(32), "mlm_layer.conv2.weight"),
        ("vocab_size", serde_json::json!(80), "embed.embeddings.weight"),
    ] {
        change_json(&path, |config| config[key] = value);
        let error = Editor::builder(&dir).build().err().unwrap().to_string();
        assert!(error.contains(named), "{key}: {error}");
        std::fs::write(&path, &before).unwrap();
    }
}

/// The draws of the official generator. Image to image draws its mask before the first step.
struct Recorded {
    folder: GoldenFolder,
    first_step: usize,
}

impl NoiseSource for Recorded {
    fn step_noise(&self, request: &NoiseRequest) -> Result<StepNoise, Error> {
        let tokens = request.batch * request.size.len();
        let floats = |name: &str| -> Result<Vec<f32>, Error> {
            Ok(self.folder.floats(name).map_err(Error::stage)?.values)
        };
        if request.step < self.first_step {
            let confidence = floats("add_noise.uniform")?;
            return Ok(StepNoise { draw: TokenDraw::Uniforms(vec![0.5; tokens]), confidence });
        }
        let name = |what| format!("step{}.{what}", request.step);
        let draw = self.folder.tokens(&name("sampled_ids")).map_err(Error::stage)?;
        // The last step draws none.
        let confidence = if self.folder.has(&name("gumbel_uniform")) {
            floats(&name("gumbel_uniform"))?
        } else {
            vec![0.0; tokens]
        };
        Ok(StepNoise { draw: TokenDraw::Tokens(draw), confidence })
    }
}

/// An editor over a recorded pipeline, with its draws.
fn recorded(name: &str) -> (Editor, GoldenFolder) {
    let dir = golden_amused(name);
    let folder = GoldenFolder::open(&dir).unwrap();
    let first_step = folder.meta("/first_step").unwrap();
    let noise = Recorded { folder: GoldenFolder::open(&dir).unwrap(), first_step };
    let builder = Editor::builder(&dir).device(options().device).noise(noise);
    (builder.for_job(Job::Generate).build().unwrap(), folder)
}

#[test]
fn generate_is_the_official_pipeline() {
    let (editor, folder) = recorded("pipeline_amused_t2i");
    assert!(matches!(editor.model().kind, ModelKind::Amused { tokens: 12 }));
    let request = GenerateRequest::new("a red fox on the blue car").width(80).height(48);
    let result = editor.generate(request.steps(6).guidance_scale(4.0)).unwrap();
    assert_eq!(result.report.settings.negative_prompt, "");
    assert_eq!(result.tokens, folder.tokens("step5.prev_sample").unwrap());
}

#[test]
fn image_to_image_is_the_official_pipeline() {
    let (editor, folder) = recorded("pipeline_amused_img2img");
    let photo = Photo::open(golden_amused("pipeline_amused_img2img").join("reference.png"));
    let photo = photo.unwrap();
    let request = GenerateRequest::new("make it into ghibli style")
        .negative_prompt("blurry, ugly".to_owned())
        .width(64)
        .height(56)
        .steps(8)
        .guidance_scale(5.0);
    let result = editor.image_to_image(&photo, 0.8, &request).unwrap();
    assert_eq!(result.reference, folder.tokens("reference_tokens").unwrap());
    assert_eq!((result.report.first_step, result.report.masked), (2, 209));
    assert_eq!(result.tokens, folder.tokens("step7.prev_sample").unwrap());
    let image = &result.images[0].image;
    assert_eq!((image.size().height, image.size().width), (56, 64));
}

#[test]
fn strength_decides_what_is_left_of_the_photo() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = tiny(scratch.path(), "amused", Preset::AmusedTiny);
    let editor = Editor::builder(&dir).for_job(Job::Generate).build().unwrap();
    let photo = photo(200, 120);
    let request = GenerateRequest::new("a fox").steps(8).seed(3).count(2);
    let kept = |strength| {
        let result = editor.image_to_image(&photo, strength, &request).unwrap();
        assert_eq!(result.images.len(), 2);
        // The photo's shape, with the area of the model's square: 8 x 8 tokens of 16 pixels.
        let size = result.images[0].image.size();
        assert!(size.width > size.height && size.width.is_multiple_of(32), "{size}");
        let reference = result.reference.repeat(2);
        let same = result.tokens.ids().iter().zip(reference.ids()).filter(|(a, b)| a == b);
        (same.count(), result.report.masked)
    };
    let (most, few) = (kept(0.25), kept(0.75));
    assert!(most.0 > few.0 && most.1 < few.1, "{most:?}, {few:?}");
    // Strength 1 is text to image.
    let whole = editor.image_to_image(&photo, 1.0, &request).unwrap();
    let size = whole.images[0].image.size();
    let generated = request.clone().width(size.width).height(size.height);
    assert_eq!(whole.tokens, editor.generate(&generated).unwrap().tokens);
    for strength in [0.0, 1.5, f64::NAN, 0.1] {
        let error = editor.image_to_image(&photo, strength, &request).unwrap_err();
        assert!(matches!(error, EditError::Option { option: "strength", .. }), "{error}");
    }
}

#[test]
fn inpainting_keeps_what_the_mask_leaves_black() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = tiny(scratch.path(), "amused", Preset::AmusedTiny);
    let editor = Editor::builder(&dir).for_job(Job::Inpaint).build().unwrap();
    let photo = photo(200, 120);
    let luma = GrayImage::from_fn(200, 120, |x, _| Luma([if x < 60 { 255 } else { 0 }]));
    let request = EditRequest::new("a fox").steps(3).size(128).mask(Mask::from_luma(luma));
    let result = editor.inpaint(&photo, request).unwrap();
    let size = result.tokens.size();
    for (position, (now, before)) in
        result.tokens.ids().iter().zip(result.reference.ids()).enumerate()
    {
        // The mask's white part ends in the middle of a token.
        if position % size.width > size.width / 3 {
            assert_eq!(now, before, "{position}");
        }
    }
    assert_ne!(result.tokens, result.reference);
}
