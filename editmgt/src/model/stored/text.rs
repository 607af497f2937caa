//! The text encoder without its weights.

use burn::tensor::DType;
use editmgt_checkpoint::WeightBits;
use editmgt_core::TextEncoder;
use editmgt_text::{
    ClipEncoder, ClipGemma2Encoder, ClipText, ClipTextConfig, Gemma2, Gemma2Config,
    PromptTokenizer, SmallText, SmallTextConfig, SmallTextEncoder, WordTokenizer,
};
use editmgt_transformer::TextArchitecture;

use super::component::{Stored, read_component};
use super::transformer::read_transformer;
use crate::error::ModelError;
use crate::model::folder::ModelFolder;
use crate::model::options::LoadOptions;

/// The text encoder named in a transformer's config, and its tokenisers.
pub(crate) enum StoredText {
    Clip(Box<StoredClip>),
    ClipGemma2 { clip: Box<StoredClip>, gemma: Box<Stored<Gemma2>>, tokenizer: PromptTokenizer },
    Small(Box<Stored<SmallText>>, WordTokenizer),
}

/// CLIP's text tower.
pub(crate) struct StoredClip {
    pub(crate) model: Stored<ClipText>,
    pub(crate) tokenizer: PromptTokenizer,
}

impl StoredClip {
    fn load(self) -> Result<ClipEncoder, ModelError> {
        Ok(ClipEncoder::new(self.model.load()?, self.tokenizer)?)
    }
}

impl StoredText {
    /// Of the text encoder and of Gemma2.
    pub(super) fn bits(&self) -> [Option<WeightBits>; 2] {
        match self {
            Self::Clip(clip) => [clip.model.bits(), None],
            Self::ClipGemma2 { clip, gemma, .. } => [clip.model.bits(), gemma.bits()],
            Self::Small(model, _) => [model.bits(), None],
        }
    }

    pub(crate) fn load(self) -> Result<LoadedText, ModelError> {
        Ok(match self {
            Self::Clip(clip) => LoadedText::Clip(Box::new(clip.load()?)),
            Self::ClipGemma2 { clip, gemma, tokenizer } => {
                let encoder = ClipGemma2Encoder::new(clip.load()?, gemma.load()?, tokenizer)?;
                LoadedText::ClipGemma2(Box::new(encoder))
            }
            Self::Small(model, tokenizer) => {
                LoadedText::Small(Box::new(SmallTextEncoder::new(model.load()?, tokenizer)?))
            }
        })
    }
}

/// A text encoder by its concrete type.
#[non_exhaustive]
pub enum LoadedText {
    /// CLIP's text tower, for both rows and pooled vector.
    Clip(Box<ClipEncoder>),
    /// Gemma 2 for the rows, CLIP for the pooled vector.
    ClipGemma2(Box<ClipGemma2Encoder>),
    /// The small encoder, trained with its transformer.
    Small(Box<SmallTextEncoder>),
}

impl LoadedText {
    /// The encoder as a trait object.
    pub fn into_boxed(self) -> Box<dyn TextEncoder> {
        match self {
            Self::Clip(encoder) => encoder,
            Self::ClipGemma2(encoder) => encoder,
            Self::Small(encoder) => encoder,
        }
    }
}

/// The text encoder of a folder whose transformer is replaced: what the transformer's config says
/// where there is one, else what the encoder's own files say.
pub(super) fn text_architecture(
    folder: &ModelFolder,
    options: &LoadOptions,
) -> Result<TextArchitecture, ModelError> {
    const CONFIG: &str = "config.json";
    if folder.transformer.join(CONFIG).is_file() {
        return Ok(read_transformer(folder, options)?.text_encoder_architecture().clone());
    }
    if folder.llm_encoder.is_some() {
        return Ok(TextArchitecture::ClipGemma2);
    }
    let path = folder.text_encoder.join(CONFIG);
    let text = editmgt_store::read_text(&path)?;
    let config: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| ModelError::folder(path, error.to_string()))?;
    Ok(if config["model_type"] == SmallTextConfig::MODEL_TYPE {
        TextArchitecture::Small
    } else {
        TextArchitecture::Clip
    })
}

pub(super) fn open_text(
    folder: &ModelFolder,
    architecture: &TextArchitecture,
    options: &LoadOptions,
) -> Result<StoredText, ModelError> {
    let (dir, device) = (&folder.text_encoder, &options.device);
    let dtype: DType = options.dtype.text.into();
    if *architecture == TextArchitecture::Small {
        let config = read_component(dir, options, SmallTextConfig::from_json_with)?;
        let files = folder.weights(dir, options)?;
        let model = Stored::open(files, dtype, || Ok((config.keys(), config.init(device)?)))?;
        let model = model.for_inference(options)?;
        let tokenizer = WordTokenizer::open(&folder.tokenizer, model.unloaded.spec().rows)?;
        return Ok(StoredText::Small(Box::new(model), tokenizer));
    }
    let config = read_component(dir, options, ClipTextConfig::from_json_with)?;
    let files = folder.weights(dir, options)?;
    let model = Stored::open(files, dtype, || Ok((config.keys(), config.init(device)?)))?;
    let model = model.for_inference(options)?;
    let clip = Box::new(StoredClip { model, tokenizer: PromptTokenizer::clip(&folder.tokenizer)? });
    if *architecture == TextArchitecture::Clip {
        return Ok(StoredText::Clip(clip));
    }
    let (Some(dir), Some(tokenizer)) = (&folder.llm_encoder, &folder.llm_tokenizer) else {
        let problem = "the transformer needs CLIP and Gemma2, but there is no llm_encoder";
        return Err(ModelError::folder(&folder.root, problem));
    };
    let config = read_component(dir, options, Gemma2Config::from_json_with)?;
    let files = folder.weights(dir, options)?;
    let gemma = Stored::open(files, dtype, || Ok((config.keys(), config.init(device)?)))?;
    let gemma = gemma.for_inference(options)?;
    let tokenizer = PromptTokenizer::gemma(tokenizer)?;
    Ok(StoredText::ClipGemma2 { clip, gemma: Box::new(gemma), tokenizer })
}
