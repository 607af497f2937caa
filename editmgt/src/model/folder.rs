//! Paths of a model's components.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use editmgt_checkpoint::{CheckpointError, WeightFiles};
use editmgt_core::config::UnknownKeys;
use editmgt_store::FileRoles;
use serde::Deserialize;

use super::index::ModelIndex;
use super::location::{Located, ModelOrigin};
use super::options::LoadOptions;
use crate::custom::CustomParts;
use crate::error::ModelError;

/// The folders of a model's components. Loads nothing.
///
/// Two layouts are read:
/// - the official one: `editmgt/` (or `transformer/`), `vqvae/`, `text_encoder/`, `tokenizer/`,
///   `llm_encoder/` (weights and tokenizer, absent for a model that reads CLIP alone) and
///   `scheduler/`; a `model_index.json` of diffusers says which of the folders are parts, and of
///   which class they are. The files may be links, as in a snapshot in the hub's cache;
/// - a `pipeline.json` whose `components` name the folders, relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelFolder {
    /// The model's own folder.
    pub root: PathBuf,
    /// Config and weights of the transformer.
    pub transformer: PathBuf,
    /// Config and weights of the VQ codec.
    pub vqvae: PathBuf,
    /// Config and weights of the CLIP text tower.
    pub text_encoder: PathBuf,
    /// CLIP's tokenizer.
    pub tokenizer: PathBuf,
    /// Config and weights of the LLM, if there is one.
    pub llm_encoder: Option<PathBuf>,
    /// The LLM's tokenizer.
    pub llm_tokenizer: Option<PathBuf>,
    /// `scheduler_config.json`.
    pub scheduler: PathBuf,
}

#[derive(Deserialize)]
struct PipelineFile {
    components: BTreeMap<String, Option<PathBuf>>,
}

impl ModelFolder {
    /// Declares the files of the model in `root` (or of this name) as inputs, including those of
    /// folders named in its `pipeline.json`. Unreadable folders are refused when the model is
    /// loaded.
    pub fn declare_inputs(root: &Path, what: &str, roles: &mut FileRoles) {
        // Of the folder itself its own files: it may hold anything besides, if it is `/` all there
        // is.
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            if entry.path().is_file() {
                roles.input(what, entry.path());
            }
        }
        if let Ok(folder) = Self::open_accepting(root, UnknownKeys::Accept) {
            let others = [folder.tokenizer.as_path(), folder.scheduler.as_path()];
            let components = folder.components().into_iter().map(|(_, dir)| dir);
            for dir in components.chain(others).chain(folder.llm_tokenizer.as_deref()) {
                roles.input_tree(what, dir);
            }
        }
    }

    /// Finds the components of the model in the folder `root`. With the feature `hub` it may also
    /// be a model's name (`editmgt`, `WeiChow/EditMGT`, `WeiChow/EditMGT@REVISION`), if there is no
    /// such file or folder: it is looked up in the hub's cache, with the settings of the
    /// environment, and never downloaded.
    ///
    /// # Errors
    /// [`ModelError::Folder`] naming every missing component, [`ModelError::Class`] for a component
    /// of a class that this program doesn't compute, [`ModelError::Pipeline`] for a pipeline of
    /// another method, [`ModelError::Io`] when the folder, its `pipeline.json` or
    /// `model_index.json` cannot be read; with the feature `hub` `ModelError::Hub` for a name that
    /// the cache has no complete model of.
    pub fn open(root: &Path) -> Result<Self, ModelError> {
        Self::open_accepting(root, UnknownKeys::Refuse)
    }

    /// Finds them also in a pipeline of an unknown class, if unknown keys are accepted.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_accepting(root: &Path, unknown: UnknownKeys) -> Result<Self, ModelError> {
        Self::open_with(&ModelOrigin::new(root), &CustomParts::default(), unknown)
    }

    /// Finds the components that these parts don't replace. The folder of one that they replace
    /// need not be there.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn open_with(
        origin: &ModelOrigin,
        parts: &CustomParts,
        unknown: UnknownKeys,
    ) -> Result<Self, ModelError> {
        let Located { root, parts: located } = origin.locate()?;
        let root = root.as_path();
        std::fs::read_dir(root).map_err(ModelError::io(root))?;
        let pipeline = root.join("pipeline.json");
        let named = match located {
            Some(parts) => Some(parts),
            None if pipeline.is_file() => Some(read_pipeline(&pipeline)?),
            None => None,
        };
        let index = match named {
            None => ModelIndex::read(root, unknown)?,
            Some(_) => ModelIndex::default(),
        };
        let find = |component: &str, folders: &[&str]| -> Option<PathBuf> {
            match &named {
                None => match folders.iter().find(|folder| index.names(folder)) {
                    Some(folder) => Some(root.join(folder)),
                    None => folders.iter().map(|f| root.join(f)).find(|dir| dir.is_dir()),
                },
                Some(named) => named.get(component)?.as_ref().map(|dir| root.join(dir)),
            }
        };
        let mut missing = Vec::new();
        let mut require = |replaced: bool, component: &str, folders: &[&str]| {
            let found = find(component, folders).filter(|dir| replaced || dir.is_dir());
            found.unwrap_or_else(|| {
                if replaced {
                    return root.join(folders[0]);
                }
                missing.push(match &named {
                    None if folders.iter().any(|folder| index.names(folder)) => {
                        format!("{component}/ of model_index.json")
                    }
                    None => {
                        folders.iter().map(|f| format!("{f}/")).collect::<Vec<_>>().join(" or ")
                    }
                    Some(_) => format!("{component} of pipeline.json"),
                });
                PathBuf::new()
            })
        };
        let mut folder = Self {
            transformer: require(
                parts.transformer.is_some(),
                "transformer",
                &["editmgt", "transformer"],
            ),
            vqvae: require(parts.codec.is_some(), "vqvae", &["vqvae"]),
            text_encoder: require(parts.text.is_some(), "text_encoder", &["text_encoder"]),
            tokenizer: require(parts.text.is_some(), "tokenizer", &["tokenizer"]),
            scheduler: require(parts.scheduler.is_some(), "scheduler", &["scheduler"]),
            llm_encoder: find("llm_encoder", &["llm_encoder"]),
            llm_tokenizer: find("llm_tokenizer", &["llm_tokenizer"]),
            root: root.to_owned(),
        };
        // These are optional, but must exist if named.
        for (component, dir) in
            [("llm_encoder", &folder.llm_encoder), ("llm_tokenizer", &folder.llm_tokenizer)]
        {
            if parts.text.is_none() && dir.as_ref().is_some_and(|dir| !dir.is_dir()) {
                missing.push(match &named {
                    None => format!("{component}/ of model_index.json"),
                    Some(_) => format!("{component} of pipeline.json"),
                });
            }
        }
        if !missing.is_empty() {
            let problem = format!("not a model folder: it lacks {}", missing.join(", "));
            return Err(ModelError::folder(root, problem));
        }
        // The official checkpoint keeps the LLM's tokenizer beside its weights.
        if folder.llm_tokenizer.is_none() {
            folder.llm_tokenizer = folder.llm_encoder.clone();
        }
        Ok(folder)
    }

    /// Opens the weights of the component in `dir`: those of the options' variant, or the plain
    /// ones of a component that does not have it. Only headers are read.
    ///
    /// # Errors
    /// [`CheckpointError::NoVariant`] if no component has the variant, and those of
    /// [`WeightFiles::open`].
    pub fn weights(&self, dir: &Path, options: &LoadOptions) -> Result<WeightFiles, ModelError> {
        self.variant_weights(dir, options.variant.as_deref())
    }

    /// The same by the name of the variant.
    ///
    /// # Errors
    /// Those of [`weights`](Self::weights).
    pub fn variant_weights(
        &self,
        dir: &Path,
        variant: Option<&str>,
    ) -> Result<WeightFiles, ModelError> {
        let Some(variant) = variant else { return Ok(WeightFiles::open(dir)?) };
        let has = |dir| -> Result<bool, CheckpointError> {
            Ok(WeightFiles::variants(dir)?.iter().any(|name| name == variant))
        };
        if !has(dir)? {
            for (_, other) in self.components() {
                if has(other)? {
                    return Ok(WeightFiles::open(dir)?);
                }
            }
        }
        Ok(WeightFiles::open_variant(dir, Some(variant))?)
    }

    /// Name and folder of each component that has a config and weights.
    pub fn components(&self) -> Vec<(&'static str, &Path)> {
        let mut components = vec![
            ("transformer", self.transformer.as_path()),
            ("vqvae", self.vqvae.as_path()),
            ("text_encoder", self.text_encoder.as_path()),
        ];
        components.extend(self.llm_encoder.as_deref().map(|dir| ("llm_encoder", dir)));
        components
    }
}

fn read_pipeline(path: &Path) -> Result<BTreeMap<String, Option<PathBuf>>, ModelError> {
    let text = editmgt_store::read_text(path)?;
    let file: PipelineFile =
        serde_json::from_str(&text).map_err(|e| ModelError::folder(path, e.to_string()))?;
    Ok(file.components)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_component_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["transformer", "tokenizer", "scheduler"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let message = ModelFolder::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("vqvae/, text_encoder/"), "{message}");
        for name in ["vqvae", "text_encoder", "llm_encoder"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let folder = ModelFolder::open(dir.path()).unwrap();
        assert_eq!(folder.llm_tokenizer, folder.llm_encoder);
        assert_eq!(folder.components().len(), 4);
    }

    #[test]
    fn model_index_names_parts_and_classes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["editmgt", "transformer", "vqvae", "text_encoder", "tokenizer", "scheduler"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let open = |index: &str| {
            std::fs::write(root.join("model_index.json"), index).unwrap();
            ModelFolder::open(root)
        };
        let official = r#"{
            "_class_name": "Pipeline", "_diffusers_version": "0.32.1", "requires_safety_checker": false,
            "feature_extractor": [null, null], "image_processor": ["diffusers", "Whatever"],
            "transformer": ["transformer", "Transformer2DModel"], "vqvae": ["diffusers", "VQModel"],
            "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["scheduler", "Scheduler"]
        }"#;
        let folder = open(official).unwrap();
        // Without the index it would be editmgt/.
        assert_eq!(folder.transformer, root.join("transformer"));
        assert_eq!(folder.llm_encoder, None);
        for (from, to, named) in [
            ("\"Transformer2DModel\"", "\"FluxTransformer2DModel\"", "FluxTransformer2DModel"),
            ("VQModel", "AutoencoderKL", "vqvae is of the class \"AutoencoderKL\""),
            ("CLIPTextModelWithProjection", "T5EncoderModel", "T5EncoderModel"),
            ("[\"scheduler\", \"Scheduler\"]", "7", "scheduler"),
            (
                "\"feature_extractor\"",
                "\"llm_encoder\": [\"transformers\", \"Gemma2Model\"], \"x\"",
                "llm_encoder/ of model_index.json",
            ),
        ] {
            let changed = official.replace(from, to);
            assert_ne!(changed, official);
            let message = open(&changed).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
            assert!(matches!(
                open(&official.replace("VQModel", "AutoencoderKL")),
                Err(ModelError::Class { .. })
            ));
        }
        assert!(open("[]").is_err());
        // Our parts in a pipeline that is not ours.
        let foreign = official.replace("\"Pipeline\"", "\"StableDiffusionPipeline\"");
        let error = open(&foreign).unwrap_err();
        assert!(matches!(error, ModelError::Pipeline { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("\"StableDiffusionPipeline\""), "{message}");
        assert!(message.contains("--accept-unknown-keys"), "{message}");
        ModelFolder::open_accepting(root, UnknownKeys::Accept).unwrap();
        let number = official.replace("\"Pipeline\"", "7");
        assert!(open(&number).unwrap_err().to_string().contains("_class_name"));
        // Parts that it doesn't name are found by their folders.
        assert_eq!(open("{}").unwrap().transformer, root.join("editmgt"));
    }

    #[test]
    fn a_pipeline_file_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pipeline.json");
        for (text, named) in [
            ("{", "pipeline.json"),
            (r#"{"components": {}}"#, "transformer of pipeline.json"),
            (r#"{"components": {"vqvae": "nowhere"}}"#, "vqvae of pipeline.json"),
            (r#"{"components": {"llm_encoder": "nowhere"}}"#, "llm_encoder of pipeline.json"),
        ] {
            std::fs::write(&file, text).unwrap();
            let message = ModelFolder::open(dir.path()).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
        assert!(matches!(
            ModelFolder::open(&dir.path().join("nowhere")),
            Err(ModelError::Io { .. })
        ));
    }
}
