//! Writes a model with the weights of some components in 8 or 4 bits.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use editmgt_backends::{Dtype, DtypePolicy};
use editmgt_checkpoint::{
    QuantizationConfig, WeightBits, WeightFiles, WeightsName, copy_weights, quantize_weights,
};
use editmgt_store::StagedFolder;
use serde::Serialize;

use super::folder::ModelFolder;
use super::options::LoadOptions;
use super::stored::{Part, Stored, StoredModel, StoredText, StoredTransformer};
use crate::custom::CustomParts;
use crate::error::{EditError, ModelError};

/// A component whose weights can be quantised. The codec's can't: a code is the nearest of
/// thousands, which rounding would change, and most of its weights are convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum QuantizablePart {
    /// The transformer.
    Transformer,
    /// CLIP's text tower, or the small text encoder.
    TextEncoder,
    /// Gemma 2.
    LlmEncoder,
}

impl QuantizablePart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Transformer, Self::TextEncoder, Self::LlmEncoder];

    /// The name of its folder; that of the transformer may also be `editmgt`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::TextEncoder => "text_encoder",
            Self::LlmEncoder => "llm_encoder",
        }
    }
}

impl fmt::Display for QuantizablePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for QuantizablePart {
    type Err = EditError;

    fn from_str(text: &str) -> Result<Self, EditError> {
        match text {
            "editmgt" => Ok(Self::Transformer),
            name => Self::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| {
                let expected = "transformer (or editmgt), text_encoder or llm_encoder";
                EditError::option("parts", expected, text)
            }),
        }
    }
}

/// What [`quantize_model`] does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QuantizeRequest {
    /// Bits of a weight.
    pub bits: WeightBits,
    /// The components; `None` for all that the model has.
    pub parts: Option<Vec<QuantizablePart>>,
    /// The variant of the weights to read: see [`LoadOptions::variant`].
    pub variant: Option<String>,
    /// Whether keys of configs that this program doesn't know are ignored.
    pub accept_unknown_keys: bool,
}

impl QuantizeRequest {
    /// All components in these bits, from the plain files.
    pub fn new(bits: WeightBits) -> Self {
        Self { bits, parts: None, variant: None, accept_unknown_keys: false }
    }

    /// Replaces the components.
    #[must_use]
    pub fn parts(self, parts: impl Into<Vec<QuantizablePart>>) -> Self {
        Self { parts: Some(parts.into()), ..self }
    }

    /// Sets [`variant`](Self::variant).
    #[must_use]
    pub fn variant(self, variant: Option<String>) -> Self {
        Self { variant, ..self }
    }

    /// Sets [`accept_unknown_keys`](Self::accept_unknown_keys).
    #[must_use]
    pub fn accept_unknown_keys(self, accept_unknown_keys: bool) -> Self {
        Self { accept_unknown_keys, ..self }
    }
}

/// A component that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WrittenPart {
    /// Its name.
    pub name: &'static str,
    /// Bits of its quantised weights; `None` for a copy.
    pub bits: Option<WeightBits>,
    /// Bytes of the weights' files that were read.
    pub bytes_before: u64,
    /// Bytes of those that were written.
    pub bytes_after: u64,
}

/// Writes the model `folder` to the folder `out`, which must be new or empty, in the official
/// layout: weights of linear layers, and vocabularies of at least 1024 rows, of the components in
/// blocks of 32 values with a scale in f16; norms, biases, convolutions and the codec as they are.
/// Files that are no weights are copied, and `config.json` gets the key of
/// [`QuantizationConfig`]. Pieces of a tensor are in memory at a time. The folder appears when it
/// is complete.
///
/// `part` is called with each component before it is written.
///
/// # Errors
/// [`ModelError`] naming the file; [`ModelError::Folder`] for a component that the model doesn't
/// have or that is quantised already, and for a folder `out` that has files.
pub fn quantize_model(
    folder: &ModelFolder,
    out: &Path,
    request: &QuantizeRequest,
    mut part: impl FnMut(&str),
) -> Result<Vec<WrittenPart>, ModelError> {
    let staging = StagedFolder::new(out)?;
    let device = editmgt_backends::open_default()
        .map_err(|error| ModelError::folder(&folder.root, error.to_string()))?;
    let options = LoadOptions::new(device, DtypePolicy::uniform(Dtype::F32))
        .accept_unknown_keys(request.accept_unknown_keys);
    let options = LoadOptions { variant: request.variant.clone(), ..options };
    let stored = StoredModel::open(folder, &options, &[], &CustomParts::default())?;
    let (Part::Stored(transformer), Part::Stored(text)) = (&stored.transformer, &stored.text)
    else {
        unreachable!("no part is the user's own");
    };
    let mut has = vec![QuantizablePart::Transformer, QuantizablePart::TextEncoder];
    if matches!(text, StoredText::ClipGemma2 { .. }) {
        has.push(QuantizablePart::LlmEncoder);
    }
    let chosen: BTreeSet<_> = match &request.parts {
        None => has.iter().copied().collect(),
        Some(parts) => parts.iter().copied().collect(),
    };
    if let Some(absent) = chosen.iter().find(|part| !has.contains(part)) {
        let problem = format!("{absent} is not a component of this model");
        return Err(ModelError::folder(&folder.root, problem));
    }
    let to = staging.path();
    copy_files(&folder.root, to, |name| name != "pipeline.json")?;
    let mut written = Vec::new();
    for (name, dir) in folder.components() {
        part(name);
        let out = to.join(folder_name(name, dir));
        std::fs::create_dir(&out).map_err(ModelError::io(&out))?;
        let quantized = chosen.iter().find(|part| part.name() == name).map(|part| match part {
            QuantizablePart::Transformer => match transformer {
                StoredTransformer::Meissonic { model, .. } => quantizer(model, request.bits),
                StoredTransformer::Amused(model) => quantizer(model, request.bits),
            },
            QuantizablePart::TextEncoder => match text {
                StoredText::Clip(clip) | StoredText::ClipGemma2 { clip, .. } => {
                    quantizer(&clip.model, request.bits)
                }
                StoredText::Small(model, _) => quantizer(model, request.bits),
            },
            QuantizablePart::LlmEncoder => match text {
                StoredText::ClipGemma2 { gemma, .. } => quantizer(gemma, request.bits),
                _ => unreachable!("components that the model doesn't have are refused above"),
            },
        });
        let files = folder.weights(dir, &options)?;
        // The writer of weights takes an empty folder.
        match &quantized {
            Some(quantize) => quantize(&out, weights_name(name))?,
            None => copy_weights(&out, weights_name(name), &files)?,
        }
        copy_files(dir, &out, |name| name != "config.json" && !WeightFiles::is_weights_name(name))?;
        write_config(dir, &out, quantized.is_some().then_some(request.bits))?;
        let bytes = |files: WeightFiles| Ok::<_, ModelError>(files.summary()?.bytes_on_disk);
        written.push(WrittenPart {
            name,
            bits: quantized.is_some().then_some(request.bits),
            bytes_before: bytes(files)?,
            bytes_after: bytes(WeightFiles::open(&out)?)?,
        });
    }
    let others = [("tokenizer", Some(&folder.tokenizer)), ("scheduler", Some(&folder.scheduler))];
    for (name, dir) in others {
        let Some(dir) = dir else { continue };
        let out = to.join(name);
        std::fs::create_dir(&out).map_err(ModelError::io(&out))?;
        copy_files(dir, &out, |_| true)?;
    }
    // A tokenizer in a folder of its own moves to where the official layout has it.
    if let (Some(encoder), Some(tokenizer)) = (&folder.llm_encoder, &folder.llm_tokenizer)
        && encoder != tokenizer
    {
        copy_files(tokenizer, &to.join("llm_encoder"), |name| name != "config.json")?;
    }
    staging.publish()?;
    Ok(written)
}

/// Writes the quantised weights of a component.
type Quantizer<'a> = Box<dyn Fn(&Path, WeightsName) -> Result<(), ModelError> + 'a>;

fn quantizer<M: burn::module::Module>(stored: &Stored<M>, bits: WeightBits) -> Quantizer<'_> {
    Box::new(move |out, name| {
        if let Some(already) = stored.stored_bits() {
            let problem = format!("its weights are in {already} already; quantise the original");
            return Err(ModelError::folder(&stored.dir, problem));
        }
        let Stored { unloaded, keys, files, .. } = stored;
        Ok(quantize_weights(out, name, unloaded, keys, files, bits)?)
    })
}

fn weights_name(component: &str) -> WeightsName {
    match component {
        "transformer" | "vqvae" => WeightsName::Diffusion,
        _ => WeightsName::Model,
    }
}

/// The name of a component's folder in the official layout; a transformer may have two.
fn folder_name(component: &'static str, dir: &Path) -> &'static str {
    match component {
        "transformer" if dir.file_name().is_some_and(|name| name == "editmgt") => "editmgt",
        name => name,
    }
}

fn write_config(from: &Path, to: &Path, bits: Option<WeightBits>) -> Result<(), ModelError> {
    let (from, to) = (from.join("config.json"), to.join("config.json"));
    let text = editmgt_store::read_text(&from)?;
    let text = match bits {
        None => text,
        Some(bits) => QuantizationConfig::new(bits)
            .add_to(&text)
            .map_err(|cause| ModelError::Config { path: from, cause })?,
    };
    std::fs::write(&to, text).and_then(|()| sync(&to)).map_err(ModelError::io(&to))
}

fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Copies the regular files of a folder, or what links there point to, whose names pass.
fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), ModelError> {
    for entry in std::fs::read_dir(from).map_err(ModelError::io(from))? {
        let path: PathBuf = entry.map_err(ModelError::io(from))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_file() && !name.starts_with('.') && wanted(name) {
            let to = to.join(name);
            std::fs::copy(&path, &to).and_then(|_| sync(&to)).map_err(ModelError::io(&path))?;
        }
    }
    Ok(())
}
