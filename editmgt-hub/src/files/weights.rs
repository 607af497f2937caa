//! Sets of weights in a folder, by the names of its files.

use std::collections::{BTreeMap, BTreeSet};

use super::is_in;

/// Names of weights in a format.
struct Names {
    /// Those of diffusers and transformers, without the ending.
    stems: &'static [&'static str],
    ending: &'static str,
}

const SAFETENSORS: Names =
    Names { stems: &["diffusion_pytorch_model", "model"], ending: ".safetensors" };
const PICKLE: Names =
    Names { stems: &["diffusion_pytorch_model", "pytorch_model", "model"], ending: ".bin" };
/// Endings of what `torch.save` writes; of the last one nothing is read, because it holds more than
/// weights.
pub(super) const PICKLES: [&str; 4] = [".bin", ".pth", ".pt", ".ckpt"];
/// Starts of names of such files that are no weights: a trainer's, and one vector of Muddit's text
/// generation.
const BESIDE: [&str; 5] =
    ["training_args", "optimizer", "scheduler", "rng_state", "mask_token_embedding"];

/// The sets of weights in a folder, by variant; `None` is the plain one.
#[derive(Debug, Default)]
pub(super) struct Weights(pub(super) BTreeMap<Option<String>, WeightSet>);

/// One set of weights: a file, or an index and its shards.
#[derive(Debug, Default, Clone)]
pub(super) struct WeightSet {
    single: Option<String>,
    index: Option<String>,
    /// Shards by number, and how many there are by their names.
    shards: BTreeMap<u32, (String, u32)>,
}

impl Weights {
    /// Of safetensors files; of PyTorch's where a folder has nothing else and they are read.
    pub(super) fn of(folder: &str, files: &BTreeSet<String>) -> Self {
        let names = files.iter().filter_map(|file| is_in(file, folder));
        let names: Vec<_> = names.filter(|name| !editmgt_store::is_sidecar(name)).collect();
        // A file or an index.
        let has_safetensors = names.iter().any(|name| name.contains(SAFETENSORS.ending));
        if cfg!(feature = "pytorch") && !has_safetensors {
            Self::of_pickles(&names)
        } else {
            Self::of_names(&names, &SAFETENSORS)
        }
    }

    fn of_names(names: &[&str], format: &Names) -> Self {
        let mut sets = Self::default();
        names.iter().for_each(|name| sets.add(name, format));
        // Shards without an index are no set that can be read.
        sets.0.retain(|_, set| set.single.is_some() || set.index.is_some());
        sets
    }

    fn of_pickles(names: &[&str]) -> Self {
        let is_weights = |name: &&&str| {
            let read = &PICKLES[..3];
            let is_beside = BESIDE.iter().any(|start| name.starts_with(start));
            read.iter().any(|ending| name.ends_with(ending)) && !is_beside
        };
        let pickles: Vec<_> = names.iter().filter(is_weights).collect();
        let mut sets = Self::of_names(names, &PICKLE);
        // As the loader: without an official name the only file that can be meant.
        if let ([only], true) = (&pickles[..], sets.0.is_empty()) {
            sets.0.entry(None).or_default().single = Some((**only).to_owned());
        }
        sets
    }

    fn add(&mut self, name: &str, Names { stems, ending }: &Names) {
        // `model.safetensors.index.json`, `model.fp16.safetensors.index.json`,
        // `model.safetensors.index.fp16.json`.
        if let Some((stem, rest)) = name.split_once(&*format!("{ending}.index.")) {
            let variant = match (rest, rest.strip_suffix(".json")) {
                ("json", _) => stem.split_once('.').map(|(_, variant)| variant),
                (_, Some(variant)) => Some(variant),
                _ => return,
            };
            self.0.entry(variant.map(str::to_owned)).or_default().index = Some(name.to_owned());
            return;
        }
        let Some(stem) = name.strip_suffix(ending) else { return };
        // `model.fp16-00001-of-00002`, `model-00001-of-00002.fp16`.
        let shard = shard_of(stem);
        let whole = match &shard {
            Some((start, end, ..)) => format!("{}{}", &stem[..*start], &stem[*end..]),
            None => stem.to_owned(),
        };
        let (stem, variant) = match whole.split_once('.') {
            Some((stem, variant)) => (stem, Some(variant.to_owned())),
            None => (whole.as_str(), None),
        };
        if !stems.contains(&stem) {
            return;
        }
        let set = self.0.entry(variant).or_default();
        match shard {
            Some((_, _, number, total)) => {
                set.shards.insert(number, (name.to_owned(), total));
            }
            None => set.single = Some(name.to_owned()),
        }
    }

    /// As the loader chooses: the variant's set, else the plain one, else the only one.
    pub(super) fn choose(&self, variant: Option<&str>) -> (Option<&str>, Option<&WeightSet>) {
        let of = |variant: Option<&str>| self.0.get_key_value(&variant.map(str::to_owned));
        let only = || self.0.iter().next().filter(|_| self.0.len() == 1);
        let chosen = of(variant).or_else(|| of(None)).or_else(only);
        (chosen.and_then(|(variant, _)| variant.as_deref()), chosen.map(|(_, set)| set))
    }
}

impl WeightSet {
    /// The files, and the shards that are missing.
    pub(super) fn files(&self) -> (Vec<String>, Vec<String>) {
        let Some(index) = self.index.as_ref().filter(|_| self.single.is_none()) else {
            return (self.single.iter().cloned().collect(), Vec::new());
        };
        let mut found = vec![index.clone()];
        found.extend(self.shards.values().map(|(name, _)| name.clone()));
        let Some((name, total)) = self.shards.values().next() else {
            return (found, vec![format!("the shards of {index}")]);
        };
        let numbers = (1..=*total).filter(|number| !self.shards.contains_key(number));
        let missing = numbers.filter_map(|number| {
            let (start, end, ..) = shard_of(name)?;
            Some(format!("{}-{number:05}-of-{total:05}{}", &name[..start], &name[end..]))
        });
        (found, missing.collect())
    }
}

/// The largest number of shards that a name may claim: what lacks is listed.
const MAX_SHARDS: u32 = 9999;

/// Where `-00001-of-00002` is in a name, and its numbers.
fn shard_of(name: &str) -> Option<(usize, usize, u32, u32)> {
    let middle = name.find("-of-")?;
    let start = middle.checked_sub(6)?;
    let end = middle + 9;
    let number = name.get(start..middle)?.strip_prefix('-')?.parse().ok()?;
    let total = name.get(middle + 4..end)?.parse().ok().filter(|total| *total <= MAX_SHARDS)?;
    Some((start, end, number, total))
}
