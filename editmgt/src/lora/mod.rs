//! LoRA adapters. A single file of weights may use the names of PEFT, diffusers or kohya; adapters
//! are written in PEFT's layout: a folder with `adapter_model.safetensors` and
//! `adapter_config.json`, with layers named as in the official checkpoint.
//!
//! An adapter for all streams is merged into the weights when a model is loaded. One for the
//! reference stream only, or for all others, cannot be merged, because the streams share weights:
//! it is computed beside them. PEFT's config has no key for the streams, so they are in a third
//! file, `editmgt_adapter.json`; an adapter without it is for all streams, unless a [`LoraUse`]
//! overrides it.

mod config;
mod error;
mod files;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use burn::tensor::DType;
use editmgt_checkpoint::{
    TensorSpec, WeightFiles, WeightsName, WriteOptions, module_paths, save_tensors,
};
use editmgt_core::KeyMap;
use editmgt_transformer::MgtModel;

pub use config::LoraConfig;
use config::OwnConfig;
pub use editmgt_transformer::{LinearLayer, Lora, LoraFactors, LoraStreams};
pub use error::LoraError;
use files::AdapterFiles;
pub use source::LoraSource;

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
const OWN_CONFIG: &str = "editmgt_adapter.json";
const PREFIX: &str = "base_model.model.";

/// An adapter to load, with its options.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LoraUse {
    /// Its folder or file.
    pub path: PathBuf,
    /// Scale: 1 as trained, 0 without effect.
    pub scale: f32,
    /// The streams to apply it to; `None` for those that it was trained for.
    pub streams: Option<LoraStreams>,
    /// Whether an adapter for all streams is merged into the weights (the default), or computed
    /// beside them: equal up to rounding, but slower.
    pub merge: bool,
}

impl LoraUse {
    /// The adapter at scale 1, on the streams that it was trained for.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), scale: 1.0, streams: None, merge: true }
    }

    /// Replaces the scale.
    #[must_use]
    pub fn with_scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// Replaces the streams.
    #[must_use]
    pub fn with_streams(self, streams: impl Into<Option<LoraStreams>>) -> Self {
        Self { streams: streams.into(), ..self }
    }

    /// Replaces whether the adapter is merged into the weights.
    #[must_use]
    pub fn with_merge(self, merge: bool) -> Self {
        Self { merge, ..self }
    }
}

impl FromStr for LoraUse {
    type Err = LoraError;

    /// `PATH[:SCALE[:STREAMS]]`; a path may have colons.
    fn from_str(text: &str) -> Result<Self, LoraError> {
        let wrong = || LoraError::Choice { text: text.to_owned() };
        let (rest, streams) = match text.rsplit_once(':') {
            Some((rest, "image")) => (rest, Some(LoraStreams::Image)),
            Some((rest, "reference")) => (rest, Some(LoraStreams::Reference)),
            Some((rest, "both")) => (rest, Some(LoraStreams::Both)),
            _ => (text, None),
        };
        let number = rest.rsplit_once(':').and_then(|(path, n)| Some((path, n.parse().ok()?)));
        let (path, scale) = match number {
            Some((path, scale)) => (path, scale),
            // Streams are only recognised after a scale.
            None if streams.is_some() => return Err(wrong()),
            None => (rest, 1.0f32),
        };
        if path.is_empty() || !scale.is_finite() {
            return Err(wrong());
        }
        Ok(Self { path: path.into(), scale, streams, merge: true })
    }
}

/// A parsed adapter, with layers named as in the official checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFile {
    path: PathBuf,
    /// Its config.
    pub config: LoraConfig,
    /// The streams that it was trained for.
    pub streams: LoraStreams,
    /// Its factors by layer, for instance `transformer_blocks.0.attn.to_out.0`.
    pub layers: BTreeMap<String, LoraFactors>,
}

impl LoraFile {
    /// An adapter of these factors.
    pub fn new(
        config: LoraConfig,
        streams: LoraStreams,
        layers: BTreeMap<String, LoraFactors>,
    ) -> Self {
        Self { path: PathBuf::new(), config, streams, layers }
    }

    /// Reads an adapter: a folder in PEFT's layout, a file of weights, or a folder with one.
    ///
    /// # Errors
    /// [`LoraError`]: a malformed config or an unsupported kind of adapter, an unknown tensor, a
    /// factor without its counterpart or of another rank.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LoraError> {
        let place = path.as_ref();
        let AdapterFiles { config, weights: path } = AdapterFiles::find(place)?;
        let Some(config) = config else {
            let (config, layers) = files::read_single(&path)?;
            let streams = LoraStreams::default();
            return Ok(Self { path: place.to_owned(), config, streams, layers });
        };
        let own = config.with_file_name(OWN_CONFIG);
        let config = LoraConfig::read(&config)?;
        let OwnConfig { streams } = OwnConfig::read(&own)?;
        let files = WeightFiles::open_file(&path)?;
        let mut layers = BTreeMap::new();
        for layer in layer_names(&path, &files)? {
            let factors = read_factors(&path, &files, &layer, config.rank)?;
            layers.insert(layer, factors);
        }
        Ok(Self { path: place.to_owned(), config, streams, layers })
    }

    /// Writes the adapter to the folder `dir`, which must be new or empty. It appears when
    /// complete.
    ///
    /// # Errors
    /// A folder with files, or an I/O error; nothing is left behind then.
    pub fn save(&self, dir: &Path) -> Result<(), LoraError> {
        let parent = dir.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(LoraError::io(parent))?;
        let staging = editmgt_store::StagedFolder::new(dir)?;
        let rank = self.config.rank;
        let mut tensors = Vec::new();
        for (layer, factors) in &self.layers {
            let LoraFactors { a, b, .. } = factors;
            if factors.rank != rank {
                let (path, layer) = (dir.to_owned(), layer.clone());
                let of = |values: &[f32]| values.len() / factors.rank.max(1);
                let (a, b) = (vec![factors.rank, of(a)], vec![of(b), factors.rank]);
                return Err(LoraError::Rank { path, layer, rank, a, b });
            }
            for (factor, shape, values) in
                [("A", vec![rank, a.len() / rank], a), ("B", vec![b.len() / rank, rank], b)]
            {
                let key = format!("{PREFIX}{layer}.lora_{factor}.weight");
                tensors.push((TensorSpec { key, shape }, values.clone()));
            }
        }
        let options = WriteOptions::new(WeightsName::Adapter, DType::F32);
        let options = options.with_max_shard_bytes(u64::MAX);
        save_tensors(staging.path(), &tensors, &options)?;
        let layers: Vec<&str> = self.layers.keys().map(String::as_str).collect();
        let own = serde_json::to_string(&OwnConfig { streams: self.streams });
        let own = own.expect("the name of the streams is JSON") + "\n";
        for (name, text) in [(CONFIG, self.config.json(&layers)), (OWN_CONFIG, own)] {
            let path = staging.path().join(name);
            std::fs::write(&path, text).map_err(LoraError::io(&path))?;
        }
        staging.publish()?;
        Ok(())
    }

    /// The adapter of a trained model, for saving: the first one attached by
    /// [`MgtModel::with_lora`].
    ///
    /// # Errors
    /// A failed read-back, or an invalid key map.
    pub fn of_model(
        model: &MgtModel,
        keys: &KeyMap,
        config: LoraConfig,
        streams: LoraStreams,
    ) -> Result<Self, LoraError> {
        let factors = model.lora_factors().map_err(refused(Path::new("adapter")))?;
        let names: BTreeMap<String, String> = linear_layers(model, keys)?
            .into_iter()
            .map(|(name, layer)| (layer.path, name))
            .collect();
        let layers = factors.into_iter().map(|(path, factors)| (names[&path].clone(), factors));
        Ok(Self::new(config, streams, layers.collect()))
    }

    /// Converts the adapter for a model.
    ///
    /// # Errors
    /// [`LoraError::UnknownLayers`] and [`LoraError::Size`] when it is for another model.
    pub fn for_model(
        &self,
        model: &MgtModel,
        keys: &KeyMap,
        scale: f32,
        streams: LoraStreams,
    ) -> Result<Lora, LoraError> {
        let known = linear_layers(model, keys)?;
        let is_unknown = |layer: &&String| files::resolve(layer, &known).is_none();
        let unknown: Vec<String> = self.layers.keys().filter(is_unknown).cloned().collect();
        if !unknown.is_empty() {
            return Err(LoraError::UnknownLayers { path: self.path.clone(), layers: unknown });
        }
        let mut layers = BTreeMap::new();
        for (name, factors) in &self.layers {
            let known_name =
                files::resolve(name, &known).expect("unknown layers are refused above");
            let LinearLayer { path, inputs, outputs } = &known[known_name];
            let rank = factors.rank;
            let got = (factors.a.len() / rank, factors.b.len() / rank);
            if got != (*inputs, *outputs) {
                let (path, layer) = (self.path.clone(), name.clone());
                let expected = (*inputs, *outputs);
                return Err(LoraError::Size { path, layer, rank, expected, got });
            }
            layers.insert(path.clone(), factors.clone());
        }
        let scale = f64::from(scale) * self.config.strength();
        Ok(Lora { layers, scale, streams, dropout: 0.0 })
    }
}

/// The linear layers of a model by their names in its official checkpoint.
///
/// # Errors
/// An invalid key map.
pub fn linear_layers(
    model: &MgtModel,
    keys: &KeyMap,
) -> Result<BTreeMap<String, LinearLayer>, LoraError> {
    let mut by_path: BTreeMap<String, LinearLayer> =
        model.linear_layers().into_iter().map(|layer| (layer.path.clone(), layer)).collect();
    let paths = module_paths(model, keys)?;
    let named = paths.into_iter().filter_map(|(key, path)| {
        let layer = by_path.remove(path.strip_suffix(".weight")?)?;
        Some((key.strip_suffix(".weight")?.to_owned(), layer))
    });
    Ok(named.collect())
}

/// Reads the adapters, before a model is loaded for them.
///
/// # Errors
/// Those of [`LoraFile::open`].
pub fn open_loras(loras: &[LoraUse]) -> Result<Vec<(LoraUse, LoraFile)>, LoraError> {
    loras.iter().map(|choice| Ok((choice.clone(), LoraFile::open(&choice.path)?))).collect()
}

/// Applies adapters to a model: those for all streams are merged into its weights (unless
/// [`LoraUse::merge`] is off, or the weights are quantised, which merging would expand), the others
/// attached. An adapter of scale 0 is validated and ignored.
///
/// # Errors
/// Those of [`LoraFile::for_model`]; a layer that the selected streams do not use.
pub fn apply_loras(
    mut model: MgtModel,
    keys: &KeyMap,
    loras: &[(LoraUse, LoraFile)],
) -> Result<MgtModel, LoraError> {
    let mut attached = Vec::new();
    let quantized = model.has_quantized_weights();
    for (choice, file) in loras {
        let streams = choice.streams.unwrap_or(file.streams);
        let lora = file.for_model(&model, keys, choice.scale, streams)?;
        if streams == LoraStreams::Both && choice.merge && !quantized {
            model = model.merge_lora(&lora).map_err(refused(&choice.path))?;
        } else {
            attached.push(lora);
        }
    }
    let path = loras.last().map_or(Path::new(""), |(choice, _)| choice.path.as_path());
    model.with_lora(&attached, false).map_err(refused(path))
}

fn refused(path: &Path) -> impl FnOnce(editmgt_core::Error) -> LoraError {
    let path = path.to_owned();
    move |cause| LoraError::Model { path, cause }
}

/// The layers that a file has factors for.
fn layer_names(path: &Path, files: &WeightFiles) -> Result<Vec<String>, LoraError> {
    let mut names = BTreeMap::<String, usize>::new();
    for key in files.entries().keys() {
        let layer = key.strip_prefix(PREFIX).and_then(|key| {
            key.strip_suffix(".lora_A.weight").or_else(|| key.strip_suffix(".lora_B.weight"))
        });
        let Some(layer) = layer else {
            return Err(LoraError::Key { path: path.to_owned(), key: key.clone() });
        };
        *names.entry(layer.to_owned()).or_default() += 1;
    }
    match names.iter().find(|(_, factors)| **factors != 2) {
        Some((layer, _)) => Err(LoraError::Half { path: path.to_owned(), layer: layer.clone() }),
        None => Ok(names.into_keys().collect()),
    }
}

fn read_factors(
    path: &Path,
    files: &WeightFiles,
    layer: &str,
    rank: usize,
) -> Result<LoraFactors, LoraError> {
    let read = |factor: &str| {
        let key = format!("{PREFIX}{layer}.lora_{factor}.weight");
        let shape = files.entries().get(&key).map(|entry| entry.shape.clone());
        Ok::<_, LoraError>((shape.unwrap_or_default(), files.values(&key)?.unwrap_or_default()))
    };
    let ((a_shape, a), (b_shape, b)) = (read("A")?, read("B")?);
    match (&a_shape[..], &b_shape[..]) {
        ([rows, _], [_, columns]) if [*rows, *columns] == [rank; 2] => {
            Ok(LoraFactors { rank, a, b })
        }
        _ => Err(LoraError::Rank {
            path: path.to_owned(),
            layer: layer.to_owned(),
            rank,
            a: a_shape,
            b: b_shape,
        }),
    }
}
