//! The files of an adapter, and the tensor names of PEFT, diffusers and kohya.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use editmgt_checkpoint::WeightFiles;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CONFIG, LoraConfig, LoraError, LoraFactors, PREFIX, WEIGHTS};

/// The weights file of diffusers.
const DIFFUSERS_WEIGHTS: &str = "pytorch_lora_weights.safetensors";
/// Prefixes of kohya's names, in which underscores replace dots.
const FLAT_PREFIXES: [&str; 2] = ["lora_unet_", "lora_transformer_"];

/// The files of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdapterFiles {
    /// PEFT's config; `None` for a single weights file.
    pub(super) config: Option<PathBuf>,
    pub(super) weights: PathBuf,
}

impl AdapterFiles {
    /// Finds the files in the folder or file `path`.
    pub(super) fn find(path: &Path) -> Result<Self, LoraError> {
        let metadata = std::fs::metadata(path).map_err(LoraError::io(path))?;
        if !metadata.is_dir() {
            let beside = path.with_file_name(CONFIG);
            let is_peft = path.file_name().is_some_and(|name| name == WEIGHTS) && beside.is_file();
            return Ok(Self { config: is_peft.then_some(beside), weights: path.to_owned() });
        }
        let (config, weights) = (path.join(CONFIG), path.join(WEIGHTS));
        // A config without its weights may be beside a file of another layout.
        if weights.is_file() {
            return Ok(Self { config: Some(config), weights });
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(LoraError::io(path))? {
            let name = entry.map_err(LoraError::io(path))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if name.ends_with(".safetensors") && !editmgt_store::is_sidecar(&name) {
                found.push(name);
            }
        }
        found.sort();
        let weights = match &found[..] {
            _ if found.iter().any(|name| name == DIFFUSERS_WEIGHTS) => DIFFUSERS_WEIGHTS,
            [single] => single.as_str(),
            _ => return Err(LoraError::NoAdapter { path: path.to_owned(), found }),
        };
        if config.is_file() {
            // Its numbers don't apply to weights of another layout, but it reveals whether the base
            // was modified.
            LoraConfig::read(&config)?;
        }
        Ok(Self { config: None, weights: path.join(weights) })
    }
}

/// The role of an adapter's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    A,
    B,
    Alpha,
}

/// Parses a tensor's name to a layer and a role. Kohya's layers keep their prefix.
fn parse(key: &str) -> Option<(&str, Part)> {
    let suffixes = [
        (".lora_A.weight", Part::A),
        (".lora_B.weight", Part::B),
        (".lora_down.weight", Part::A),
        (".lora_up.weight", Part::B),
        (".lora.down.weight", Part::A),
        (".lora.up.weight", Part::B),
        (".alpha", Part::Alpha),
    ];
    let (layer, part) =
        suffixes.iter().find_map(|(suffix, part)| Some((key.strip_suffix(*suffix)?, *part)))?;
    if FLAT_PREFIXES.iter().any(|prefix| layer.starts_with(prefix)) {
        return Some((layer, part));
    }
    let layer = layer.strip_prefix(PREFIX).or_else(|| layer.strip_prefix("transformer."))?;
    Some((layer, part))
}

/// The name of the model's layer for `layer`, `None` if unknown or ambiguous.
pub(super) fn resolve<'a, T>(layer: &str, known: &'a BTreeMap<String, T>) -> Option<&'a str> {
    if let Some((name, _)) = known.get_key_value(layer) {
        return Some(name);
    }
    let flat = FLAT_PREFIXES.iter().find_map(|prefix| layer.strip_prefix(prefix))?;
    let mut names = known.keys().filter(|name| name.replace('.', "_") == flat);
    match (names.next(), names.next()) {
        (Some(name), None) => Some(name),
        _ => None,
    }
}

/// Reads a single weights file. The strength of each layer is multiplied into its B.
pub(super) fn read_single(
    path: &Path,
) -> Result<(LoraConfig, BTreeMap<String, LoraFactors>), LoraError> {
    let files = WeightFiles::open_file(path)?;
    let metadata = Metadata::read(path)?;
    let mut parts = BTreeMap::<&str, BTreeMap<u8, &str>>::new();
    for key in files.entries().keys() {
        let Some((layer, part)) = parse(key) else {
            return Err(LoraError::Key { path: path.to_owned(), key: key.clone() });
        };
        if parts.entry(layer).or_default().insert(part as u8, key).is_some() {
            let problem = format!("{layer}: two tensors for one factor");
            return Err(LoraError::Config { path: path.to_owned(), problem });
        }
    }
    let mut layers = BTreeMap::new();
    for (layer, keys) in parts {
        let key = |part: Part| keys.get(&(part as u8)).copied();
        let (Some(a_key), Some(b_key)) = (key(Part::A), key(Part::B)) else {
            return Err(LoraError::Half { path: path.to_owned(), layer: layer.to_owned() });
        };
        let shape = |key: &str| files.entries()[key].shape.clone();
        let (a_shape, b_shape) = (shape(a_key), shape(b_key));
        let rank = match (&a_shape[..], &b_shape[..]) {
            ([rows, _], [_, columns]) if rows == columns && *rows > 0 => *rows,
            _ => {
                return Err(LoraError::Rank {
                    path: path.to_owned(),
                    layer: layer.to_owned(),
                    rank: a_shape.first().copied().unwrap_or(0),
                    a: a_shape,
                    b: b_shape,
                });
            }
        };
        let values = |key: &str| Ok::<_, LoraError>(files.values(key)?.unwrap_or_default());
        let strength = match key(Part::Alpha) {
            Some(key) => match values(key)?[..] {
                [alpha] if alpha.is_finite() => f64::from(alpha) / rank as f64,
                _ => {
                    let problem = format!("{key}: expected one finite number");
                    return Err(LoraError::Config { path: path.to_owned(), problem });
                }
            },
            None => metadata.strength(path, layer, rank)?,
        };
        let (a, mut b) = (values(a_key)?, values(b_key)?);
        if strength != 1.0 {
            b.iter_mut().for_each(|value| *value = (f64::from(*value) * strength) as f32);
        }
        layers.insert(layer.to_owned(), LoraFactors { rank, a, b });
    }
    let Some(rank) = layers.values().map(|factors| factors.rank).max() else {
        return Err(LoraError::NoAdapter { path: path.to_owned(), found: Vec::new() });
    };
    let config = LoraConfig { rank, alpha: rank as f64, rank_stabilised: false, dropout: 0.0 };
    Ok((config, layers))
}

/// File-wide values of a header.
struct Metadata {
    /// The config of the transformer in diffusers' metadata.
    config: Option<LoraConfig>,
    /// kohya's `ss_network_alpha`.
    alpha: Option<f64>,
}

impl Metadata {
    fn read(path: &Path) -> Result<Self, LoraError> {
        #[derive(Deserialize)]
        struct Header {
            #[serde(rename = "__metadata__", default)]
            texts: BTreeMap<String, String>,
        }
        let mut file = File::open(path).map_err(LoraError::io(path))?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(LoraError::io(path))?;
        let mut header = Vec::new();
        let length = u64::from_le_bytes(length);
        file.take(length).read_to_end(&mut header).map_err(LoraError::io(path))?;
        let wrong = |problem: String| LoraError::Config { path: path.to_owned(), problem };
        let Header { texts } =
            serde_json::from_slice(&header).map_err(|e| wrong(format!("__metadata__: {e}")))?;
        let config = match texts.get("lora_adapter_metadata") {
            None => None,
            Some(text) => {
                let all: Map<String, Value> = serde_json::from_str(text)
                    .map_err(|e| wrong(format!("lora_adapter_metadata: {e}")))?;
                let config: Map<String, Value> = all
                    .into_iter()
                    .filter_map(|(key, v)| Some((key.strip_prefix("transformer.")?.to_owned(), v)))
                    .collect();
                if config.is_empty() { None } else { Some(LoraConfig::of(path, config.into())?) }
            }
        };
        let alpha = texts.get("ss_network_alpha").filter(|text| *text != "None");
        let alpha = alpha.map(|text| match text.parse::<f64>() {
            Ok(alpha) if alpha.is_finite() => Ok(alpha),
            _ => Err(wrong(format!("ss_network_alpha: expected a number, got {text:?}"))),
        });
        Ok(Self { config, alpha: alpha.transpose()? })
    }

    /// The factor of a layer's product without an alpha.
    fn strength(&self, path: &Path, layer: &str, rank: usize) -> Result<f64, LoraError> {
        match (&self.config, self.alpha) {
            (Some(config), _) if config.rank == rank => Ok(config.strength()),
            (Some(config), _) => {
                let expected = config.rank;
                let problem = format!("{layer}: expected the rank {expected}, got {rank}");
                Err(LoraError::Config { path: path.to_owned(), problem })
            }
            (None, Some(alpha)) => Ok(alpha / rank as f64),
            (None, None) => Ok(1.0),
        }
    }
}
