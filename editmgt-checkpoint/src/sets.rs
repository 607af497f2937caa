//! Which sets of weights a folder has, and which of them is meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::CheckpointError;

/// The names of an unsharded checkpoint, as the official libraries write them, without `.safetensors`.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// The name of the plain index follows its stem; the other two are diffusers' and older ones' for a variant.
pub(crate) const INDEX_SUFFIX: &str = ".safetensors.index.json";
const INDEX_START: &str = ".safetensors.index.";
const INDEX_END: &str = ".json";

/// The files that stand for a set of weights, by variant: a single file, or an index of shards. `None` is the
/// plain set, the one without a variant in its names.
#[derive(Debug, Default)]
pub(crate) struct WeightSets {
    sets: BTreeMap<Option<String>, Vec<String>>,
    /// Other safetensors files.
    others: Vec<String>,
    /// PyTorch pickles, which are named in an error and never read.
    pickles: Vec<String>,
}

impl WeightSets {
    /// Lists the folder; files that a system put there are skipped.
    pub(crate) fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let mut found = Self::default();
        for entry in std::fs::read_dir(dir).map_err(CheckpointError::io(dir))? {
            let name = entry.map_err(CheckpointError::io(dir))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if editmgt_store::is_sidecar(&name) {
                continue;
            }
            match variant(&name) {
                Some(variant) => {
                    found.sets.entry(variant.map(str::to_owned)).or_default().push(name);
                }
                None if name.ends_with(".safetensors") => found.others.push(name),
                None if is_pickle(&name) => found.pickles.push(name),
                None => {}
            }
        }
        found.sets.values_mut().for_each(|names| names.sort());
        found.others.sort();
        found.pickles.sort();
        Ok(found)
    }

    /// The names of the variants.
    pub(crate) fn variants(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().filter_map(Option::as_deref)
    }

    /// The set of a variant; without one the plain set, or the only one there is. Returns its variant and its
    /// file.
    pub(crate) fn choose(
        &self,
        dir: &Path,
        variant: Option<&str>,
    ) -> Result<(Option<String>, PathBuf), CheckpointError> {
        let dir_owned = || dir.to_owned();
        let list = |names: &[String]| names.to_vec();
        let all: Vec<_> = self.sets.values().flatten().cloned().collect();
        let (variant, names) = match (variant, self.sets.get_key_value(&variant.map(str::to_owned)))
        {
            (_, Some(set)) => set,
            (Some(variant), None) => {
                let variant = variant.to_owned();
                return Err(CheckpointError::NoVariant { dir: dir_owned(), variant, found: all });
            }
            (None, None) => match self.sets.iter().collect::<Vec<_>>()[..] {
                [only] => only,
                [] if self.others.is_empty() && !self.pickles.is_empty() => {
                    let found = list(&self.pickles);
                    return Err(CheckpointError::OnlyPickles { dir: dir_owned(), found });
                }
                [] => {
                    let found = list(&self.others);
                    return Err(CheckpointError::NoWeights { dir: dir_owned(), found });
                }
                _ => {
                    return Err(CheckpointError::SeveralVariants { dir: dir_owned(), found: all });
                }
            },
        };
        match &names[..] {
            [name] => Ok((variant.clone(), dir.join(name))),
            _ => Err(CheckpointError::SeveralWeights { dir: dir_owned(), found: list(names) }),
        }
    }
}

/// Whether the name is that of weights, or of their index.
pub(crate) fn is_weights_name(name: &str) -> bool {
    name.ends_with(".safetensors") || variant(name).is_some() || is_pickle(name)
}

/// Whether the name is that of weights, or of their index, as `torch.save` writes them.
fn is_pickle(name: &str) -> bool {
    let extension =
        |name: &str| [".bin", ".pth", ".pt", ".ckpt"].iter().any(|end| name.ends_with(end));
    // Files beside the weights: of the trainer, and one vector of Muddit's text generation.
    const BESIDE: [&str; 5] =
        ["training_args", "optimizer", "scheduler", "rng_state", "mask_token_embedding"];
    let weights = !BESIDE.iter().any(|start| name.starts_with(start));
    weights && extension(name.strip_suffix(".index.json").unwrap_or(name))
}

/// The variant of a file that stands for a set of weights, `None` in it for the plain one; `None` for any other
/// file.
fn variant(name: &str) -> Option<Option<&str>> {
    if let Some(stem) = name.strip_suffix(INDEX_SUFFIX) {
        return Some(stem.split_once('.').map(|(_, variant)| variant));
    }
    if let Some((_, rest)) = name.split_once(INDEX_START) {
        return rest.strip_suffix(INDEX_END).map(Some);
    }
    let stem = name.strip_suffix(".safetensors")?;
    match stem.split_once('.') {
        None => STEMS.contains(&stem).then_some(None),
        // Shards are of their index's set: `model.fp16-00001-of-00002`, `model-00001-of-00002.fp16`.
        Some((stem, variant)) if STEMS.contains(&stem) && !variant.contains("-of-") => {
            Some(Some(variant))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pickles() {
        for (name, expected) in [
            ("pytorch_model.bin", true),
            ("diffusion_pytorch_model.bin", true),
            ("pytorch_model-00001-of-00002.bin", true),
            ("pytorch_model.bin.index.json", true),
            ("vae.pt", true),
            ("model.ckpt", true),
            ("model.safetensors", false),
            ("model.safetensors.index.json", false),
            ("training_args.bin", false),
            ("optimizer.pt", false),
            ("mask_token_embedding.pth", false),
            ("config.json", false),
        ] {
            assert_eq!(is_pickle(name), expected, "{name}");
        }
    }

    #[test]
    fn names_of_all_libraries_and_versions() {
        for (name, expected) in [
            ("model.safetensors", Some(None)),
            ("diffusion_pytorch_model.safetensors", Some(None)),
            ("model.fp16.safetensors", Some(Some("fp16"))),
            ("diffusion_pytorch_model.non_ema.safetensors", Some(Some("non_ema"))),
            ("model.safetensors.index.json", Some(None)),
            ("model.safetensors.index.fp16.json", Some(Some("fp16"))),
            ("diffusion_pytorch_model.fp16.safetensors.index.json", Some(Some("fp16"))),
            ("model-00001-of-00002.safetensors", None),
            ("model.fp16-00001-of-00002.safetensors", None),
            ("diffusion_pytorch_model-00001-of-00002.fp16.safetensors", None),
            ("adapter_model.safetensors", None),
            ("model.bin", None),
            ("config.json", None),
        ] {
            assert_eq!(variant(name), expected, "{name}");
        }
    }
}
