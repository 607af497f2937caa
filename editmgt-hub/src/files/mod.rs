//! Which files of a repository, or of a snapshot in the cache, a model needs. Works on names alone.

mod weights;

use std::collections::BTreeSet;

use crate::known::{KnownModel, KnownPart};
use weights::{PICKLES, Weights};

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

    /// The parts of any repository in the official layout, by its files; `indexed` are the parts
    /// that its `model_index.json` names. A repository with weights in its own folder and no
    /// transformer's is one component.
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

#[cfg(test)]
mod tests;
