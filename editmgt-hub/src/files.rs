//! Which files of a repository, or of a snapshot in the cache, a model needs. Works on names alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::known::{KnownModel, KnownPart};

/// Files of the model's own folder that are read if they are there.
const ROOT_FILES: [&str; 2] = ["model_index.json", "edit_defaults.json"];
const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
];
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
/// Endings of what `torch.save` writes; of the last one nothing is read, because it holds more than weights.
const PICKLES: [&str; 4] = [".bin", ".pth", ".pt", ".ckpt"];
/// Starts of names of such files that are no weights: a trainer's, and one vector of Muddit's text generation.
const BESIDE: [&str; 5] =
    ["training_args", "optimizer", "scheduler", "rng_state", "mask_token_embedding"];

/// What a part consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Weights,
    /// An LLM has its tokenizer beside its weights.
    WeightsAndTokenizer,
    Tokenizer,
    Scheduler,
}

/// A part and its folder in the repository; an empty folder is the repository's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) component: String,
    pub(crate) folder: String,
    kind: Kind,
}

impl Part {
    fn new(component: &str, folder: &str) -> Self {
        let kind = match component {
            "tokenizer" | "llm_tokenizer" => Kind::Tokenizer,
            "scheduler" => Kind::Scheduler,
            "llm_encoder" => Kind::WeightsAndTokenizer,
            _ => Kind::Weights,
        };
        Self { component: component.to_owned(), folder: folder.to_owned(), kind }
    }

    fn is_named(&self, name: &str) -> bool {
        self.component == name || self.folder == name
    }

    /// A path in its folder.
    fn path(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }
}

/// The parts of a model that a repository has, and what else of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) parts: Vec<Part>,
    /// Whether the repository is the model's own, whose root may hold defaults and an index.
    root_files: bool,
}

impl Layout {
    /// The parts of a known model in one of its repositories.
    pub(crate) fn known(model: &KnownModel, repository: &str) -> Self {
        let is_in = |part: &&KnownPart| part.repository.unwrap_or(model.repository) == repository;
        let parts = model.parts.iter().filter(is_in);
        let parts = parts.map(|part| Part::new(part.component, part.folder)).collect();
        Self { parts, root_files: repository == model.repository }
    }

    /// The parts of any repository in the official layout, by its files; `indexed` are the parts that its
    /// `model_index.json` names. A repository with weights in its own folder and no transformer's is one component.
    pub(crate) fn of_files(files: &BTreeSet<String>, indexed: &[String]) -> Self {
        let has = |folder: &str| files.iter().any(|file| is_in(file, folder).is_some());
        let is_wanted = |folder: &str| has(folder) || indexed.iter().any(|part| part == folder);
        let own_weights = Weights::of("", files);
        let transformer = ["editmgt", "transformer"].into_iter().find(|folder| is_wanted(folder));
        if transformer.is_none() && files.contains("config.json") && !own_weights.0.is_empty() {
            let has_tokenizer = files.iter().any(|file| TOKENIZER_FILES.contains(&file.as_str()));
            let kind = if has_tokenizer { Kind::WeightsAndTokenizer } else { Kind::Weights };
            let part = Part { component: "model".into(), folder: String::new(), kind };
            return Self { parts: vec![part], root_files: false };
        }
        let mut parts = vec![Part::new("transformer", transformer.unwrap_or("editmgt"))];
        for component in ["vqvae", "text_encoder", "tokenizer", "scheduler"] {
            parts.push(Part::new(component, component));
        }
        for component in ["llm_encoder", "llm_tokenizer"] {
            if is_wanted(component) {
                parts.push(Part::new(component, component));
            }
        }
        if has("llm_tokenizer") {
            for part in parts.iter_mut().filter(|part| part.component == "llm_encoder") {
                part.kind = Kind::Weights;
            }
        }
        Self { parts, root_files: true }
    }

    /// Whether there is a part of this name or folder.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.is_named(name))
    }

    /// Leaves only the parts of these names or folders; an empty list leaves all.
    pub(crate) fn only(&mut self, names: &[String]) {
        if !names.is_empty() {
            self.parts.retain(|part| names.iter().any(|name| part.is_named(name)));
        }
    }

    /// The files to read, and what is missing.
    pub(crate) fn needed(&self, files: &BTreeSet<String>, variant: Option<&str>) -> Needed {
        let mut needed = Needed::default();
        if self.root_files {
            let root = ROOT_FILES.iter().filter(|name| files.contains(**name));
            needed.files.extend(root.map(|name| (*name).to_owned()));
        }
        for part in &self.parts {
            part.need(files, variant, &mut needed);
        }
        needed
    }
}

/// The files that a model needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) files: BTreeSet<String>,
    /// Files and folders that are not there.
    pub(crate) lacking: Vec<String>,
    /// All variants of the weights.
    pub(crate) variants: BTreeSet<String>,
    /// How many parts have weights of the variant that was asked for; and how many lack it.
    pub(crate) with_variant: usize,
    pub(crate) without_variant: usize,
}

impl Part {
    fn need(&self, files: &BTreeSet<String>, variant: Option<&str>, needed: &mut Needed) {
        if !self.folder.is_empty() && !files.iter().any(|file| is_in(file, &self.folder).is_some())
        {
            needed.lacking.push(format!("{}/", self.folder));
            return;
        }
        let mut require = |name: &str| {
            let path = self.path(name);
            if files.contains(&path) {
                needed.files.insert(path);
            } else {
                needed.lacking.push(path);
            }
        };
        match self.kind {
            Kind::Weights | Kind::WeightsAndTokenizer => require("config.json"),
            Kind::Scheduler => require("scheduler_config.json"),
            Kind::Tokenizer => {}
        }
        if matches!(self.kind, Kind::Tokenizer | Kind::WeightsAndTokenizer) {
            let has = |name: &str| files.contains(&self.path(name));
            let is_complete = has("tokenizer.json") || (has("vocab.json") && has("merges.txt"));
            if !is_complete {
                needed.lacking.push(self.path("tokenizer.json"));
            }
            let present = TOKENIZER_FILES.iter().filter(|name| has(name));
            needed.files.extend(present.map(|name| self.path(name)));
        }
        if matches!(self.kind, Kind::Weights | Kind::WeightsAndTokenizer) {
            let weights = Weights::of(&self.folder, files);
            needed.variants.extend(weights.0.keys().flatten().cloned());
            let (chosen, set) = weights.choose(variant);
            if chosen == variant {
                needed.with_variant += 1;
            } else {
                needed.without_variant += 1;
            }
            match set {
                None => {
                    let mut names = files.iter().filter_map(|file| is_in(file, &self.folder));
                    let pickle = names.find(|name| PICKLES.iter().any(|end| name.ends_with(end)));
                    let reason = pickle.map_or_else(String::new, |name| {
                        format!(" (it has {name}, a PyTorch pickle, which is not read as weights)")
                    });
                    needed.lacking.push(format!("safetensors in {}{reason}", self.path("")));
                }
                Some(set) => {
                    let (found, lacking) = set.files();
                    needed.files.extend(found.iter().map(|name| self.path(name)));
                    needed.lacking.extend(lacking.iter().map(|name| self.path(name)));
                }
            }
        }
    }
}

/// The name of a file in this very folder.
fn is_in<'a>(file: &'a str, folder: &str) -> Option<&'a str> {
    let name = match folder {
        "" => file,
        folder => file.strip_prefix(folder)?.strip_prefix('/')?,
    };
    (!name.contains('/')).then_some(name)
}

/// The sets of weights in a folder, by variant; `None` is the plain one.
#[derive(Debug, Default)]
struct Weights(BTreeMap<Option<String>, WeightSet>);

/// One set of weights: a file, or an index and its shards.
#[derive(Debug, Default, Clone)]
struct WeightSet {
    single: Option<String>,
    index: Option<String>,
    /// Shards by number, and how many there are by their names.
    shards: BTreeMap<u32, (String, u32)>,
}

impl Weights {
    /// Of safetensors files; of PyTorch's where a folder has nothing else and they are read.
    fn of(folder: &str, files: &BTreeSet<String>) -> Self {
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
        // `model.safetensors.index.json`, `model.fp16.safetensors.index.json`, `model.safetensors.index.fp16.json`.
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
    fn choose(&self, variant: Option<&str>) -> (Option<&str>, Option<&WeightSet>) {
        let of = |variant: Option<&str>| self.0.get_key_value(&variant.map(str::to_owned));
        let only = || self.0.iter().next().filter(|_| self.0.len() == 1);
        let chosen = of(variant).or_else(|| of(None)).or_else(only);
        (chosen.and_then(|(variant, _)| variant.as_deref()), chosen.map(|(_, set)| set))
    }
}

impl WeightSet {
    /// The files, and the shards that are missing.
    fn files(&self) -> (Vec<String>, Vec<String>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn weights(names: &[&str], variant: Option<&str>) -> (Vec<String>, Vec<String>) {
        let layout = Layout { parts: vec![Part::new("vqvae", "vqvae")], root_files: false };
        let mut files: Vec<String> = names.iter().map(|name| format!("vqvae/{name}")).collect();
        files.push("vqvae/config.json".into());
        let needed = layout.needed(&files.into_iter().collect(), variant);
        let strip = |path: &String| path.replace("vqvae/", "");
        let files = needed.files.iter().map(strip).filter(|name| name != "config.json").collect();
        (files, needed.lacking.iter().map(strip).collect())
    }

    #[test]
    fn one_set_of_weights_is_chosen() {
        let both = ["model.safetensors", "model.fp16.safetensors", "model.bin", "x.safetensors"];
        let only_fp16 = ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"];
        let shards = [
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.fp16.safetensors.index.json",
            "model.fp16-00001-of-00001.safetensors",
            "model-00001-of-00002.bf16.safetensors",
            "model-00002-of-00002.bf16.safetensors",
            "model.safetensors.index.bf16.json",
        ];
        for (names, variant, expected) in [
            (&both[..], None, &both[..1]),
            (&both, Some("fp16"), &both[1..2]),
            (&both, Some("bf16"), &both[..1]),
            (&only_fp16, None, &only_fp16[..1]),
            (&shards, None, &[shards[1], shards[2], shards[0]]),
            (&shards, Some("fp16"), &[shards[4], shards[3]]),
            (&shards, Some("bf16"), &[shards[5], shards[6], shards[7]]),
            (
                &["model.safetensors", "._model.fp16.safetensors"],
                Some("fp16"),
                &["model.safetensors"],
            ),
        ] {
            let (files, lacking) = weights(names, variant);
            assert_eq!(
                (files.iter().map(String::as_str).collect::<Vec<_>>(), lacking.len()),
                (expected.to_vec(), 0)
            );
        }
    }

    #[cfg(feature = "pytorch")]
    #[test]
    fn pytorch_weights_are_chosen_only_where_there_is_nothing_else() {
        let shards = [
            "pytorch_model.bin.index.json",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
        ];
        for (names, variant, expected) in [
            (&["pytorch_model.bin", "training_args.bin"][..], None, &["pytorch_model.bin"][..]),
            (&["diffusion_pytorch_model.bin", "x.pt"], None, &["diffusion_pytorch_model.bin"]),
            (
                &["pytorch_model.bin", "pytorch_model.fp16.bin"],
                Some("fp16"),
                &["pytorch_model.fp16.bin"],
            ),
            (&shards, None, &[shards[1], shards[2], shards[0]]),
            (
                &["open_clip.pt", "optimizer.pt", "mask_token_embedding.pth"],
                None,
                &["open_clip.pt"],
            ),
            (&["model.safetensors", "pytorch_model.bin"], None, &["model.safetensors"]),
        ] {
            let (files, lacking) = weights(names, variant);
            assert_eq!(
                (files, lacking.len()),
                (expected.iter().map(|n| n.to_string()).collect(), 0)
            );
        }
        for names in [&["a.pt", "b.pt"][..], &["x.safetensors", "pytorch_model.bin"]] {
            assert_eq!(weights(names, None).1.len(), 1, "{names:?}");
        }
        assert_eq!(weights(&shards[..2], None).1, [shards[2]]);
    }

    #[test]
    fn missing_shards_and_weights_are_named() {
        let index = "model.safetensors.index.json";
        for (names, lacking) in [
            (&[][..], &["safetensors in "][..]),
            (&["model-00001-of-00001.safetensors"], &["safetensors in "]),
            (
                &["model.ckpt"],
                &[
                    "safetensors in  (it has model.ckpt, a PyTorch pickle, which is not read as weights)",
                ],
            ),
            (&[index], &["the shards of model.safetensors.index.json"]),
            (
                &[index, "model-00002-of-00003.safetensors"],
                &["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
            ),
        ] {
            assert_eq!(weights(names, None).1, lacking, "{names:?}");
        }
    }

    #[test]
    fn code_readmes_and_images_are_not_needed() {
        let files = set(&[
            ".gitattributes",
            "README.md",
            "assets/a.png",
            "edit_defaults.json",
            "model_index.json",
            "scheduler/scheduler.py",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/generation_config.json",
            "text_encoder/model.safetensors",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model.safetensors",
            "transformer/transformer.py",
            "vqvae/config.json",
            "vqvae/diffusion_pytorch_model.safetensors",
        ]);
        let needed = Layout::of_files(&files, &[]).needed(&files, None);
        assert!(needed.lacking.is_empty(), "{needed:?}");
        let left: Vec<_> = files.difference(&needed.files).map(String::as_str).collect();
        let expected = [
            ".gitattributes",
            "README.md",
            "assets/a.png",
            "scheduler/scheduler.py",
            "text_encoder/generation_config.json",
            "transformer/transformer.py",
        ];
        assert_eq!(left, expected);
        // An index names a part that is not there.
        let needed = Layout::of_files(&files, &["llm_encoder".into()]).needed(&files, None);
        assert_eq!(needed.lacking, ["llm_encoder/"]);
    }

    #[test]
    fn a_component_alone_is_a_layout() {
        let files = set(&["config.json", "model.safetensors", "tokenizer.json", "README.md"]);
        let needed = Layout::of_files(&files, &[]).needed(&files, None);
        assert_eq!((needed.files.len(), needed.lacking.len()), (3, 0), "{needed:?}");
        let files = set(&["README.md", "data.parquet"]);
        let needed = Layout::of_files(&files, &[]).needed(&files, None);
        assert_eq!(needed.lacking.len(), 5, "{needed:?}");
    }
}
