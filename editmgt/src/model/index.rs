//! `model_index.json`, in which diffusers writes the parts of a pipeline and their classes.

use std::collections::BTreeMap;
use std::path::Path;

use editmgt_core::config::UnknownKeys;
use serde_json::{Map, Value};

use crate::error::ModelError;

const FILE: &str = "model_index.json";

/// The classes that are read for each part. Other parts (processors of images, safety checkers) are
/// not used.
const CLASSES: [(&str, &[&str]); 8] = [
    ("transformer", TRANSFORMERS),
    ("editmgt", TRANSFORMERS),
    ("vqvae", &["VQModel", "PatchVqModel"]),
    ("text_encoder", &["CLIPTextModelWithProjection", "CLIPModel"]),
    ("tokenizer", &["CLIPTokenizer", "CLIPTokenizerFast"]),
    ("llm_encoder", &["Gemma2Model", "Gemma2ForCausalLM"]),
    ("llm_tokenizer", &["GemmaTokenizer", "GemmaTokenizerFast"]),
    ("scheduler", &["Scheduler", "AmusedScheduler"]),
];

const TRANSFORMERS: &[&str] = &["Transformer2DModel", "SymmetricTransformer2DModel", "UVit2DModel"];

/// The pipelines that consist of these parts: the official code's (Meissonic, Monetico and EditMGT;
/// Muddit), and diffusers' of aMUSEd.
const PIPELINES: &[&str] = &[
    "Pipeline",
    "Img2ImgPipeline",
    "InpaintPipeline",
    "EditMGTPipeline",
    "UnifiedPipeline",
    "UnifiedPipeline_new",
    "AmusedPipeline",
    "AmusedImg2ImgPipeline",
    "AmusedInpaintPipeline",
];

/// The known parts that an index names, with their classes.
#[derive(Debug, Default)]
pub(super) struct ModelIndex(BTreeMap<&'static str, String>);

impl ModelIndex {
    /// Reads the index of the folder `root`, where there is one. The class of the pipeline itself
    /// may be any if unknown keys are accepted.
    pub(super) fn read(root: &Path, unknown: UnknownKeys) -> Result<Self, ModelError> {
        let path = root.join(FILE);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let text = editmgt_store::read_text(&path)?;
        let map: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|e| ModelError::folder(&path, format!("not an index of a pipeline: {e}")))?;
        let mut parts = BTreeMap::new();
        for (part, known) in CLASSES {
            let class = match map.get(part).map(|value| (value, value.as_array())) {
                // The pipeline has no such part, or is used without it.
                None | Some((Value::Null, _)) => continue,
                Some((_, Some(pair))) if pair.iter().all(Value::is_null) => continue,
                Some((_, Some(pair))) if pair.len() == 2 && pair[1].is_string() => {
                    pair[1].as_str().unwrap_or_default().to_owned()
                }
                Some((got, _)) => {
                    let problem = format!("{part}: expected [library, class], got {got}");
                    return Err(ModelError::folder(&path, problem));
                }
            };
            if !known.contains(&class.as_str()) {
                return Err(ModelError::Class { path, part, class, known });
            }
            parts.insert(part, class);
        }
        match map.get("_class_name") {
            None | Some(Value::Null) => {}
            Some(Value::String(class)) if PIPELINES.contains(&class.as_str()) => {}
            Some(_) if unknown == UnknownKeys::Accept => {}
            Some(Value::String(class)) => {
                let class = class.clone();
                return Err(ModelError::Pipeline { path, class, known: PIPELINES });
            }
            Some(got) => {
                let problem = format!("_class_name: expected the name of a class, got {got}");
                return Err(ModelError::folder(&path, problem));
            }
        }
        Ok(Self(parts))
    }

    /// Whether the pipeline has this part.
    pub(super) fn names(&self, part: &str) -> bool {
        self.0.contains_key(part)
    }
}
