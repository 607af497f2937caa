//! The models of `editmgt serve`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use editmgt::{EditError, Editor, EditorBuilder, ModelFolder};
use editmgt_server::ServedModel;

use crate::model::{DeviceArgs, FilesArgs, note_folder};
use crate::pull_first::PullFirst;

/// The name of the model in the program.
#[cfg(feature = "embedded")]
const EMBEDDED: &str = "embedded";

/// The models, and how they are loaded.
#[derive(Args)]
pub(crate) struct ServeModels {
    /// A model's folder, or its name if the hub's cache has it (see `editmgt models`); may be
    /// repeated: the first answers requests that name none, the others are loaded when they are
    /// needed. `embedded` is the small model in the program [default: embedded]
    #[cfg(feature = "embedded")]
    #[arg(short, long, value_name = "DIR|NAME")]
    model: Vec<PathBuf>,
    /// A model's folder, or its name if the hub's cache has it (see `editmgt models`); may be
    /// repeated: the first answers requests that name none, the others are loaded when they are
    /// needed
    #[cfg(not(feature = "embedded"))]
    #[arg(short, long, value_name = "DIR|NAME", required = true)]
    model: Vec<PathBuf>,
    /// Name of a model for clients, in the order of --model [default: the name of the model's
    /// folder]
    #[arg(long, value_name = "NAME")]
    model_name: Vec<String>,
    /// Most megabytes that the weights of loaded models may take: the least recently used is
    /// unloaded [default: all that were used stay loaded]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub(crate) memory_budget: Option<u64>,
    #[command(flatten)]
    files: FilesArgs,
    #[command(flatten)]
    run: DeviceArgs,
}

/// Where a model is from.
#[derive(Clone)]
enum Source {
    #[cfg(feature = "embedded")]
    Embedded,
    Folder(PathBuf),
}

impl Source {
    fn of(argument: &Path) -> Self {
        #[cfg(feature = "embedded")]
        if argument == Path::new(EMBEDDED) && !argument.exists() {
            return Self::Embedded;
        }
        Self::Folder(argument.to_owned())
    }

    fn builder(&self) -> EditorBuilder {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded => Editor::embedded(),
            Self::Folder(folder) => Editor::builder(folder),
        }
    }

    /// The last part of the folder's name.
    fn name(&self) -> String {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded => EMBEDDED.to_owned(),
            Self::Folder(folder) => folder
                .file_name()
                .map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned()),
        }
    }

    /// The argument in commands to copy: no path of this machine's disk.
    fn argument(&self) -> Option<String> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded => None,
            Self::Folder(_) => Some(self.name()),
        }
    }

    /// Bytes of the weights' files: about what they take in memory, in the dtype of the files.
    fn bytes(&self) -> Result<u64, EditError> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded => Ok(0),
            Self::Folder(folder) => {
                note_folder(folder);
                let folder = ModelFolder::open(folder)?;
                Ok(folder.components().into_iter().map(|(_, dir)| bytes_of_weights(dir)).sum())
            }
        }
    }
}

/// Bytes of the files of weights in a folder; 0 where it can't be read, which loading it reports.
fn bytes_of_weights(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .filter_map(|path| Some(path.metadata().ok()?.len()))
        .sum()
}

impl ServeModels {
    /// Downloads the models that the hub's cache lacks, if that was asked for. `Some` with the exit
    /// status if a download was stopped.
    pub(crate) fn pull(&self, first: &PullFirst) -> Result<Option<ExitCode>, Box<dyn Error>> {
        for model in &self.model {
            if let Source::Folder(name) = Source::of(model)
                && let Some(stopped) = first.run_named(Some(&name), self.files.variant(), false)?
            {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    /// The models; none is loaded yet, but all folders are looked into.
    pub(crate) fn models(&self) -> Result<Vec<ServedModel>, Box<dyn Error>> {
        let mut sources: Vec<_> = self.model.iter().map(|model| Source::of(model)).collect();
        #[cfg(feature = "embedded")]
        if sources.is_empty() {
            sources.push(Source::Embedded);
        }
        if self.model_name.len() > sources.len() {
            let (names, models) = (self.model_name.len(), sources.len());
            let message = format!(
                "--model-name: expected at most one for each model ({models}), got {names}"
            );
            return Err(message.into());
        }
        // A wrong device is known before any model is loaded.
        if let Some(first) = sources.first() {
            let _checked = self.builder(first)?;
        }
        let served = |(i, source): (usize, &Source)| {
            let name = self.model_name.get(i).cloned().unwrap_or_else(|| source.name());
            let (files, run, of) = (self.files.clone(), self.run.clone(), source.clone());
            let load = move || run.apply(files.apply(of.builder()))?.build();
            Ok(ServedModel::new(name, source.bytes()?, load).argument(source.argument()))
        };
        sources.iter().enumerate().map(served).collect()
    }

    fn builder(&self, source: &Source) -> Result<EditorBuilder, EditError> {
        self.run.apply(self.files.apply(source.builder()))
    }
}
