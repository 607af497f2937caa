//! The training configs under `configs/` are read, and are those of the models that they name.
#![forbid(unsafe_code)]

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use editmgt_train::codec::CodecRun;
use editmgt_train::edit::{EditFile, EditModel, EditParts, EditRun, LossOptions, TuneRun};
use editmgt_train::run::freeze;
use editmgt_transformer::{Connector, MgtConfig, TextArchitecture};
use editmgt_world::{Category, WorldConfig, shapes, sprites};

/// A config by its file name; tests run in the folder of their package.
fn config(name: &str) -> String {
    std::fs::read_to_string(Path::new("../configs").join(name)).unwrap()
}

#[test]
fn every_config_is_read() {
    let entries = std::fs::read_dir("../configs").unwrap().map(Result::unwrap);
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        let text = config(&name);
        if name.ends_with("-codec.toml") {
            CodecRun::from_toml(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else {
            let run = EditFile::from_toml(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let is_stage = name.starts_with("editmgt-stage");
            assert_eq!(matches!(run, EditFile::Tune(_)), is_stage, "{name}: {run:?}");
        }
    }
}

#[test]
fn stages_of_the_full_size_model_train_it_without_an_adapter() {
    for stage in 1..=3 {
        let run = TuneRun::from_toml(&config(&format!("editmgt-stage{stage}.toml"))).unwrap();
        assert!(run.lora.is_none(), "stage {stage}: {run:?}");
    }
}

#[test]
fn first_stage_trains_only_what_reads_the_text() {
    let stage = TuneRun::from_toml(&config("editmgt-stage1.toml")).unwrap();
    let device = Device::flex().autodiff();
    // The layers of the full-size model, a few small ones of each kind.
    let width = 16;
    let transformer = MgtConfig {
        num_layers: 2,
        num_single_layers: 2,
        attention_head_dim: 8,
        num_attention_heads: 2,
        joint_attention_dim: width,
        pooled_projection_dim: width,
        axes_dims_rope: [2, 2, 4],
        vocab_size: 17,
        codebook_size: 16,
        downsample: true,
        upsample: true,
        text_encoder_architecture: TextArchitecture::Small,
        connector_type: Connector::Linear,
        ..MgtConfig::official()
    };
    let parts = EditParts { transformer: transformer.init(&device).unwrap(), text: None };
    let model = EditModel::new(parts, &LossOptions::default(), width, &device);
    let model = freeze(model, &stage.freeze).unwrap();

    let mut trained = Trained::default();
    model.transformer().visit(&mut trained);
    let text = [
        "connector.",
        "context_embedder.",
        "encoder_proj_layer_norm.",
        "_context.",
        ".norm_added_",
        ".add_",
        ".to_add_out.",
    ];
    let trained = trained.found;
    assert!(trained.iter().all(|path| text.iter().any(|part| path.contains(part))), "{trained:?}");
    // 2 + 2 + 1 outside the blocks; in a double block: norm1_context 2, ff_context 4, the norms of
    // queries and keys 2, three projections 6, to_add_out 2.
    assert_eq!(trained.len(), 5 + 2 * 16);
}

/// The paths of the parameters that are trained.
#[derive(Default)]
struct Trained {
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Trained {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.found.push(self.path.join("."));
        }
    }
}

#[test]
fn configs_of_the_embedded_model_are_of_its_world() {
    let edit = EditRun::from_toml(&config("second-edit.toml")).unwrap();
    let codec = CodecRun::from_toml(&config("second-codec.toml")).unwrap();
    let all = |world: WorldConfig| world.with_categories(Category::ALL.to_vec());
    assert_eq!(all(edit.world.unwrap()), WorldConfig::embedded());
    // Its scenes are crowded; it sees images only.
    let WorldConfig::Sprites(world) = all(codec.world) else { panic!("a world of sprites") };
    let sprites::SpritesConfig { max_objects, naming, clear_places, .. } =
        sprites::SpritesConfig::embedded();
    let world = sprites::SpritesConfig { max_objects, naming, clear_places, ..world };
    assert_eq!(WorldConfig::Sprites(world), WorldConfig::embedded());
}

#[test]
fn configs_of_the_first_model_are_of_the_small_world() {
    let edit = EditRun::from_toml(&config("shapes-edit.toml")).unwrap();
    let world = edit.world.unwrap().with_categories(Category::ALL.to_vec());
    assert_eq!(world, WorldConfig::small());
    let codec = CodecRun::from_toml(&config("shapes-codec.toml")).unwrap();
    let WorldConfig::Shapes(world) = codec.world else { panic!("a world of shapes") };
    assert_eq!(shapes::WorldConfig { max_objects: 3, ..world }, shapes::WorldConfig::small());
}
