//! Reads a golden folder: `golden.safetensors` beside its `manifest.json`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use editmgt_core::{GridSize, TokenGrid};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

use super::VerifyError;

/// A folder with expected values.
#[derive(Debug)]
pub struct GoldenFolder {
    dir: PathBuf,
    manifest: serde_json::Value,
    bytes: Vec<u8>,
}

/// A tensor of the golden file, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenTensor<T> {
    /// Name in the file.
    pub name: String,
    /// Extents.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<T>,
}

impl GoldenFolder {
    /// Opens `dir`, which must hold `golden.safetensors` and `manifest.json`.
    ///
    /// # Errors
    /// [`VerifyError::Io`] and [`VerifyError::Golden`] with the file's name.
    pub fn open(dir: &Path) -> Result<Self, VerifyError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| match source.kind() {
                ErrorKind::NotFound => {
                    let message = format!("expected a golden folder, found no {name} there");
                    VerifyError::golden(dir.to_owned(), message)
                }
                _ => VerifyError::Io { path, cause: source },
            })
        };
        let bytes = read("golden.safetensors")?;
        let manifest = serde_json::from_slice(&read("manifest.json")?)
            .map_err(|e| VerifyError::golden(dir.join("manifest.json"), e.to_string()))?;
        let folder = Self { dir: dir.to_owned(), manifest, bytes };
        folder.file()?;
        Ok(folder)
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self) -> Result<SafeTensors<'_>, VerifyError> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|e| VerifyError::golden(self.dir.join("golden.safetensors"), e.to_string()))
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match self.file() {
            Ok(file) => file.names().into_iter().map(str::to_owned).collect(),
            Err(_) => Vec::new(),
        };
        names.sort();
        names
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.file().is_ok_and(|file| file.tensor(name).is_ok())
    }

    /// A value of the manifest's `meta`, by JSON pointer (`"/cosine/temperature"`).
    ///
    /// # Errors
    /// [`VerifyError::Golden`] when it is missing or of another type.
    pub fn meta<T: DeserializeOwned>(&self, pointer: &str) -> Result<T, VerifyError> {
        let error = |what: String| VerifyError::golden(self.dir.join("manifest.json"), what);
        let value = self
            .manifest
            .pointer(&format!("/meta{pointer}"))
            .ok_or_else(|| error(format!("meta has no {pointer}")))?;
        T::deserialize(value).map_err(|e| error(format!("meta{pointer}: {e}")))
    }

    /// The manifest's description of a tensor; empty without one.
    pub fn meaning(&self, name: &str) -> &str {
        let tensor = self.manifest.get("tensors").and_then(|tensors| tensors.get(name));
        tensor.and_then(|tensor| tensor["meaning"].as_str()).unwrap_or("")
    }

    /// An error about the golden file.
    pub fn malformed(&self, message: impl Into<String>) -> VerifyError {
        VerifyError::golden(self.dir.join("golden.safetensors"), message.into())
    }

    fn values<T>(
        &self,
        name: &str,
        convert: impl Fn(Dtype, &[u8]) -> Option<Vec<T>>,
    ) -> Result<GoldenTensor<T>, VerifyError> {
        let error = |what| VerifyError::golden(self.dir.join("golden.safetensors"), what);
        let file = self.file()?;
        let view = file.tensor(name).map_err(|_| error(format!("no tensor {name:?}")))?;
        let values = convert(view.dtype(), view.data())
            .ok_or_else(|| error(format!("{name}: unexpected dtype {:?}", view.dtype())))?;
        Ok(GoldenTensor { name: name.to_owned(), shape: view.shape().to_vec(), values })
    }

    /// A float tensor (f32).
    ///
    /// # Errors
    /// [`VerifyError::Golden`] when it is missing or of another dtype.
    pub fn floats(&self, name: &str) -> Result<GoldenTensor<f32>, VerifyError> {
        self.values(name, |dtype, data| match dtype {
            Dtype::F32 => Some(chunks(data, f32::from_le_bytes)),
            _ => None,
        })
    }

    /// An integer tensor (u8, i32 or i64), widened.
    ///
    /// # Errors
    /// [`VerifyError::Golden`] when it is missing or of another dtype.
    pub fn ints(&self, name: &str) -> Result<GoldenTensor<i64>, VerifyError> {
        self.values(name, |dtype, data| match dtype {
            Dtype::U8 | Dtype::BOOL => Some(data.iter().map(|&b| b.into()).collect()),
            Dtype::I32 => Some(chunks(data, |b| i32::from_le_bytes(b).into())),
            Dtype::I64 => Some(chunks(data, i64::from_le_bytes)),
            _ => None,
        })
    }

    /// A float tensor on a device. The rank must be `D`.
    ///
    /// # Errors
    /// As [`floats`](Self::floats), and for another rank.
    pub fn tensor<const D: usize>(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<Tensor<D>, VerifyError> {
        let GoldenTensor { shape, values, .. } = self.floats(name)?;
        if shape.len() != D {
            let what = format!("{name}: expected rank {D}, got {shape:?}");
            return Err(VerifyError::golden(self.dir.join("golden.safetensors"), what));
        }
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// An integer tensor `[B, H, W]` as tokens.
    ///
    /// # Errors
    /// As [`ints`](Self::ints), and for another rank or a negative id.
    pub fn tokens(&self, name: &str) -> Result<TokenGrid, VerifyError> {
        let error = |what| VerifyError::golden(self.dir.join("golden.safetensors"), what);
        let GoldenTensor { shape, values, .. } = self.ints(name)?;
        let [batch, height, width] = shape[..] else {
            return Err(error(format!("{name}: expected [B, H, W], got {shape:?}")));
        };
        let ids = values
            .into_iter()
            .map(|id| u32::try_from(id).map_err(|_| error(format!("{name}: token {id}"))))
            .collect::<Result<_, _>>()?;
        Ok(TokenGrid::new(batch, GridSize::new(height, width), ids)?)
    }
}

fn chunks<const N: usize, T>(data: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|bytes| convert(*bytes)).collect()
}
