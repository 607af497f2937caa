use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::DType;
use editmgt_checkpoint::{WeightFiles, WeightsName, WriteOptions, load_module, save_module};
use editmgt_core::KeyMap;
use serde::{Deserialize, Serialize};

use super::TrainError;

/// Version of the checkpoint format.
const FORMAT: u32 = 1;
const STATE: &str = "state.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: u32,
    step: u64,
}

/// A checkpoint being written, in its own folder.
#[derive(Debug)]
pub struct CheckpointWriter {
    dir: PathBuf,
}

impl CheckpointWriter {
    pub(super) fn begin(dir: PathBuf) -> Result<Self, TrainError> {
        std::fs::create_dir(&dir).map_err(TrainError::io(&dir))?;
        Ok(Self { dir })
    }

    /// The path of a file of the checkpoint.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes the weights of a module, as f32, to a folder in the official layout.
    ///
    /// # Errors
    /// An I/O error.
    pub fn module<M: Module>(
        &self,
        name: &str,
        module: &M,
        keys: &KeyMap,
    ) -> Result<(), TrainError> {
        let options = WriteOptions::new(WeightsName::Diffusion, DType::F32);
        Ok(save_module(&self.path(name), module, keys, &options)?)
    }

    /// Writes a file, whose name may include the folder of a module.
    ///
    /// # Errors
    /// An I/O error.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        let path = self.path(name);
        File::create(&path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(TrainError::io(&path))
    }

    pub(super) fn finish(self, step: u64) -> Result<PathBuf, TrainError> {
        let state = serde_json::to_vec(&State { format: FORMAT, step });
        self.file(STATE, &state.expect("two numbers are JSON"))?;
        Ok(self.dir)
    }
}

/// A complete checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    dir: PathBuf,
    step: u64,
}

impl Checkpoint {
    /// Opens the folder of a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Io`] when it is not a checkpoint, [`TrainError::Malformed`] when it is damaged
    /// or of another version.
    pub fn open(dir: &Path) -> Result<Self, TrainError> {
        let path = dir.join(STATE);
        let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
        let state: State =
            serde_json::from_str(&text).map_err(|e| TrainError::malformed(&path, e))?;
        if state.format != FORMAT {
            let problem = format!("expected format {FORMAT}, got {}", state.format);
            return Err(TrainError::malformed(&path, problem));
        }
        Ok(Self { dir: dir.to_owned(), step: state.step })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Steps done, which is the index of the next step.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The path of a file of the checkpoint.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Loads weights that [`CheckpointWriter::module`] wrote into a module of the same shapes.
    ///
    /// # Errors
    /// [`TrainError::Weights`] when they are missing or of another module.
    pub fn module<M: Module>(&self, name: &str, module: M, keys: &KeyMap) -> Result<M, TrainError> {
        let files = WeightFiles::open(self.path(name))?;
        Ok(load_module(module, &files, keys, DType::F32)?)
    }
}
