//! Which sets of weights a folder has, and which of them is meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::CheckpointError;
use crate::files::Format;

/// Names of weights in a format.
struct Names {
    /// Those of an unsharded checkpoint, as the official libraries write them, without the ending.
    stems: &'static [&'static str],
    ending: &'static str,
}

const SAFETENSORS: Names =
    Names { stems: &["diffusion_pytorch_model", "model"], ending: ".safetensors" };
const PICKLE: Names =
    Names { stems: &["diffusion_pytorch_model", "pytorch_model", "model"], ending: ".bin" };
/// The name of the plain index follows its stem; diffusers and older versions name that of a
/// variant otherwise.
pub(crate) const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// What a stage is compared with lies beside its weights.
#[cfg(feature = "pytorch")]
const EXPECTED_VALUES: &str = "golden.safetensors";

/// The files that stand for a set of weights, by variant: a single file, or an index of shards.
/// `None` is the plain set, the one without a variant in its names.
type Sets = BTreeMap<Option<String>, Vec<String>>;

/// The weights of a folder.
#[derive(Debug, Default)]
pub(crate) struct WeightSets {
    sets: Sets,
    /// Other safetensors files.
    others: Vec<String>,
    /// The sets of PyTorch's files.
    pickle_sets: Sets,
    /// All of PyTorch's files.
    pickles: Vec<String>,
}

/// The set of weights to read.
pub(crate) struct Chosen {
    pub(crate) format: Format,
    pub(crate) variant: Option<String>,
    /// The file of the weights, or the index of their shards.
    pub(crate) file: PathBuf,
}

impl WeightSets {
    /// Lists the folder; files that a system put there are skipped.
    pub(crate) fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let mut found = Self::default();
        for entry in std::fs::read_dir(dir).map_err(CheckpointError::io(dir))? {
            let name = entry.map_err(CheckpointError::io(dir))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if !editmgt_store::is_sidecar(&name) {
                found.add(name);
            }
        }
        found
            .sets
            .values_mut()
            .chain(found.pickle_sets.values_mut())
            .for_each(|names| names.sort());
        found.others.sort();
        found.pickles.sort();
        // `vae.pt`: no name of the official layout, but the only file that can be meant.
        if let ([only], true) = (&found.pickles[..], found.pickle_sets.is_empty())
            && [".bin", ".pth", ".pt"].iter().any(|ending| only.ends_with(ending))
        {
            found.pickle_sets.insert(None, vec![only.clone()]);
        }
        Ok(found)
    }

    fn add(&mut self, name: String) {
        let to = |sets: &mut Sets, variant: Option<&str>| {
            sets.entry(variant.map(str::to_owned)).or_default().push(name.clone());
        };
        if let Some(variant) = SAFETENSORS.variant(&name) {
            to(&mut self.sets, variant);
        } else if name.ends_with(SAFETENSORS.ending) {
            self.others.push(name);
        } else if is_pickle(&name) {
            if let Some(variant) = PICKLE.variant(&name) {
                to(&mut self.pickle_sets, variant);
            }
            self.pickles.push(name);
        }
    }

    /// The sets of the format that is read: PyTorch's only where a folder has nothing else.
    fn readable(&self) -> (Format, &Sets) {
        #[cfg(feature = "pytorch")]
        {
            let has_others = self.others.iter().any(|name| name != EXPECTED_VALUES);
            if self.sets.is_empty() && !has_others && !self.pickle_sets.is_empty() {
                return (Format::Pickle, &self.pickle_sets);
            }
        }
        (Format::Safetensors, &self.sets)
    }

    /// The names of the variants.
    pub(crate) fn variants(&self) -> impl Iterator<Item = &str> {
        self.readable().1.keys().filter_map(Option::as_deref)
    }

    /// The set of a variant; without one the plain set, or the only one there is.
    pub(crate) fn choose(
        &self,
        dir: &Path,
        variant: Option<&str>,
    ) -> Result<Chosen, CheckpointError> {
        let (format, sets) = self.readable();
        let dir_owned = || dir.to_owned();
        let list = |names: &[String]| names.to_vec();
        let all: Vec<_> = sets.values().flatten().cloned().collect();
        let (variant, names) = match (variant, sets.get_key_value(&variant.map(str::to_owned))) {
            (_, Some(set)) => set,
            (Some(variant), None) => {
                let variant = variant.to_owned();
                return Err(CheckpointError::NoVariant { dir: dir_owned(), variant, found: all });
            }
            (None, None) => match sets.iter().collect::<Vec<_>>()[..] {
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
            [name] => Ok(Chosen { format, variant: variant.clone(), file: dir.join(name) }),
            _ => Err(CheckpointError::SeveralWeights { dir: dir_owned(), found: list(names) }),
        }
    }
}

/// Whether the name is that of weights, or of their index.
pub(crate) fn is_weights_name(name: &str) -> bool {
    name.ends_with(SAFETENSORS.ending) || SAFETENSORS.variant(name).is_some() || is_pickle(name)
}

/// Whether the name is that of weights, or of their index, as `torch.save` writes them.
fn is_pickle(name: &str) -> bool {
    let extension =
        |name: &str| [".bin", ".pth", ".pt", ".ckpt"].iter().any(|end| name.ends_with(end));
    // Files beside the weights: of the trainer, and one vector of Muddit's text generation.
    const BESIDE: [&str; 5] =
        ["training_args", "optimizer", "scheduler", "rng_state", "mask_token_embedding"];
    let weights = !BESIDE.iter().any(|start| name.starts_with(start));
    weights && (extension(name) || (name.contains(".bin.index.") && name.ends_with(".json")))
}

impl Names {
    /// The variant of a file that stands for a set of weights, `None` in it for the plain one;
    /// `None` for any other file.
    fn variant<'a>(&self, name: &'a str) -> Option<Option<&'a str>> {
        let Self { stems, ending } = self;
        if let Some(stem) = name.strip_suffix(&*format!("{ending}.index.json")) {
            return Some(stem.split_once('.').map(|(_, variant)| variant));
        }
        if let Some((_, rest)) = name.split_once(&*format!("{ending}.index.")) {
            return rest.strip_suffix(".json").map(Some);
        }
        let stem = name.strip_suffix(ending)?;
        match stem.split_once('.') {
            None => stems.contains(&stem).then_some(None),
            // Shards are of their index's set: `model.fp16-00001-of-00002`,
            // `model-00001-of-00002.fp16`.
            Some((stem, variant)) if stems.contains(&stem) && !variant.contains("-of-") => {
                Some(Some(variant))
            }
            Some(_) => None,
        }
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
            assert_eq!(SAFETENSORS.variant(name), expected, "{name}");
        }
    }

    #[test]
    fn names_of_pytorch_weights() {
        for (name, expected) in [
            ("pytorch_model.bin", Some(None)),
            ("diffusion_pytorch_model.bin", Some(None)),
            ("pytorch_model.fp16.bin", Some(Some("fp16"))),
            ("pytorch_model.bin.index.json", Some(None)),
            ("pytorch_model.bin.index.fp16.json", Some(Some("fp16"))),
            ("pytorch_model-00001-of-00002.bin", None),
            ("open_clip_pytorch_model.bin", None),
            ("pytorch_model.pt", None),
        ] {
            assert_eq!(PICKLE.variant(name), expected, "{name}");
        }
    }
}
