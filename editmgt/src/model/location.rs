//! From what a user calls a model to its folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[cfg(feature = "hub")]
use editmgt_hub::{Hub, HubSettings, ModelLocation, ModelName};

use crate::error::ModelError;

/// A path, or with the feature `hub` a name.
#[derive(Debug, Clone)]
pub(crate) struct ModelOrigin {
    path: PathBuf,
    #[cfg(feature = "hub")]
    hub: Option<HubSettings>,
}

/// Where the parts of a model are.
pub(crate) struct Located {
    /// The model's own folder.
    pub(crate) root: PathBuf,
    /// The folder of each part, if they are not those below `root`; `None` for a part that there is
    /// not.
    pub(crate) parts: Option<BTreeMap<String, Option<PathBuf>>>,
}

impl ModelOrigin {
    pub(crate) fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            #[cfg(feature = "hub")]
            hub: None,
        }
    }

    /// Looks names up with these settings, not with those of the environment.
    #[cfg(feature = "hub")]
    pub(crate) fn set_hub(&mut self, settings: HubSettings) {
        self.hub = Some(settings);
    }

    /// A path that exists is the model. Otherwise a name is looked up in the hub's cache; nothing
    /// is downloaded.
    ///
    /// # Errors
    /// [`ModelError::Hub`] for a name of which the cache has no complete model,
    /// [`ModelError::NoModel`] for what is neither a path nor a name.
    #[cfg(feature = "hub")]
    pub(crate) fn locate(&self) -> Result<Located, ModelError> {
        let path = || Located { root: self.path.clone(), parts: None };
        if self.path.symlink_metadata().is_ok() {
            return Ok(path());
        }
        // The error of what is a path by its form is that of a missing folder.
        let Some(name) = self.path.to_str().filter(|text| !is_path(text)) else {
            return Ok(path());
        };
        if let Err(error) = name.parse::<ModelName>() {
            return Err(ModelError::NoModel { path: self.path.clone(), cause: Box::new(error) });
        }
        let settings = self.hub.clone().map_or_else(HubSettings::from_env, Ok)?;
        Ok(match Hub::new(settings).resolve(name)? {
            ModelLocation::Folder(root) => Located { root, parts: None },
            ModelLocation::Parts { root, parts } => {
                let parts = parts.into_iter().map(|(part, folder)| (part, Some(folder)));
                Located { root, parts: Some(parts.collect()) }
            }
        })
    }

    /// The path.
    #[cfg(not(feature = "hub"))]
    pub(crate) fn locate(&self) -> Result<Located, ModelError> {
        Ok(Located { root: self.path.clone(), parts: None })
    }
}

/// Whether this can only be a path: absolute, relative to a folder by dots, or with another
/// system's separators.
#[cfg(feature = "hub")]
fn is_path(text: &str) -> bool {
    let starts = ["/", "./", "../", "~"].iter().any(|start| text.starts_with(start));
    starts || [".", ".."].contains(&text) || text.contains('\\') || Path::new(text).is_absolute()
}
