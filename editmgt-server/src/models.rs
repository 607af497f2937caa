//! The models of a server: loaded when a request needs them, the least recently used unloaded when
//! memory gets short.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use axum::http::StatusCode;
use editmgt::{EditError, Editor, OpenPhoto, Photo};

use crate::error::ApiError;
use crate::sync::lock;

type Load = dyn Fn() -> Result<Editor, EditError> + Send + Sync;

/// A model that a server offers.
///
/// ```
/// use editmgt_server::ServedModel;
///
/// let small = ServedModel::new("embedded", 0, || editmgt::Editor::embedded().build());
/// assert_eq!(small.name(), "embedded");
/// ```
#[derive(Clone)]
pub struct ServedModel {
    name: String,
    argument: Option<String>,
    bytes: u64,
    load: Arc<Load>,
}

impl fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, argument, bytes, load: _ } = self;
        let mut shown = f.debug_struct("ServedModel");
        shown.field("name", name).field("argument", argument).field("bytes", bytes);
        shown.finish_non_exhaustive()
    }
}

impl ServedModel {
    /// A model that `load` loads when it is needed; `name` is for clients, not a path. `bytes` is
    /// the memory that it takes, as far as known: what
    /// [`ServerOptions::memory_budget`](crate::ServerOptions::memory_budget) counts.
    pub fn new(
        name: impl Into<String>,
        bytes: u64,
        load: impl Fn() -> Result<Editor, EditError> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), argument: None, bytes, load: Arc::new(load) }
    }

    /// A model that is loaded already, and stays so.
    pub fn loaded(name: impl Into<String>, editor: Editor) -> Self {
        Self::new(name, 0, move || Ok(editor.clone()))
    }

    /// Sets the argument of `--model` in commands to copy; without one it is the embedded model.
    #[must_use]
    pub fn argument(mut self, argument: Option<String>) -> Self {
        self.argument = argument;
        self
    }

    /// Its name for clients.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The memory that it takes, as far as known.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

struct Entry {
    model: ServedModel,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    editor: Option<Editor>,
    /// When it was last asked for, in the order of requests.
    used: u64,
}

/// A model that a request uses.
#[derive(Clone)]
pub(crate) struct InUse {
    /// Position in the list of models.
    pub(crate) model: usize,
    pub(crate) editor: Editor,
}

/// All models.
pub(crate) struct Models {
    entries: Vec<Entry>,
    budget: Option<u64>,
    clock: AtomicU64,
    /// One is loaded at a time.
    loading: Mutex<()>,
    /// Photos that are open in models: closed when their model is unloaded.
    open: Mutex<Vec<Weak<OpenIn>>>,
}

impl Models {
    pub(crate) fn new(models: Vec<ServedModel>, budget: Option<u64>) -> Self {
        let entry = |model| Entry { model, state: Mutex::default() };
        Self {
            entries: models.into_iter().map(entry).collect(),
            budget,
            clock: AtomicU64::new(0),
            loading: Mutex::new(()),
            open: Mutex::default(),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.model.name.as_str())
    }

    pub(crate) fn name(&self, model: usize) -> &str {
        &self.entries[model].model.name
    }

    /// The argument of `--model`; `None` for the embedded model.
    pub(crate) fn argument(&self, model: usize) -> Option<&str> {
        self.entries[model].model.argument.as_deref()
    }

    pub(crate) fn is_loaded(&self, model: usize) -> bool {
        lock(&self.entries[model].state).editor.is_some()
    }

    /// Number and bytes of the models that are loaded.
    pub(crate) fn loaded(&self) -> (usize, u64) {
        let loaded = (0..self.entries.len()).filter(|&model| self.is_loaded(model));
        loaded.fold((0, 0), |(count, bytes), model| {
            (count + 1, bytes + self.entries[model].model.bytes)
        })
    }

    /// The position of a model by name; without a name the first.
    ///
    /// # Errors
    /// Status 404.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<usize, ApiError> {
        let Some(name) = name else { return Ok(0) };
        self.names().position(|other| other == name).ok_or_else(|| {
            let names: Vec<_> = self.names().map(|name| format!("{name:?}")).collect();
            let message = format!("model: expected {}, got {name:?}", names.join(" or "));
            ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).param("model")
        })
    }

    /// A model, loaded where it is not. Blocks while it loads. `running` is the model that may not
    /// be unloaded.
    ///
    /// # Errors
    /// Status 429 where it does not fit beside the running one, 500 where it can't be loaded.
    pub(crate) fn get(&self, model: usize, running: Option<usize>) -> Result<InUse, ApiError> {
        if let Some(editor) = self.touched(model) {
            return Ok(InUse { model, editor });
        }
        let _one_at_a_time = lock(&self.loading);
        if let Some(editor) = self.touched(model) {
            return Ok(InUse { model, editor });
        }
        self.make_room(model, running)?;
        let entry = &self.entries[model];
        let name = &*entry.model.name;
        let start = std::time::Instant::now();
        let editor = (entry.model.load)().map_err(ApiError::internal)?;
        tracing::info!(model = name, seconds = start.elapsed().as_secs_f64(), "model loaded");
        lock(&entry.state).editor = Some(editor.clone());
        Ok(InUse { model, editor })
    }

    /// Whether models are unloaded to stay within a memory budget.
    pub(crate) fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// Loads the first model.
    ///
    /// # Errors
    /// Those of loading it.
    pub(crate) fn load_first(&self) -> Result<(), EditError> {
        let first = &self.entries[0];
        let editor = (first.model.load)()?;
        lock(&first.state).editor = Some(editor);
        Ok(())
    }

    fn touched(&self, model: usize) -> Option<Editor> {
        let mut state = lock(&self.entries[model].state);
        state.used = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        state.editor.clone()
    }

    /// Unloads what was used least recently until `model` fits.
    fn make_room(&self, model: usize, running: Option<usize>) -> Result<(), ApiError> {
        let Some(budget) = self.budget else { return Ok(()) };
        while self.loaded().1 + self.entries[model].model.bytes > budget {
            let idle = (0..self.entries.len())
                .filter(|&other| self.is_loaded(other) && Some(other) != running);
            // Those that take no memory would be unloaded for nothing.
            let idle = idle.filter(|&other| self.entries[other].model.bytes > 0);
            let oldest = idle.min_by_key(|&other| lock(&self.entries[other].state).used);
            match oldest {
                Some(oldest) => self.unload(oldest),
                None => return Err(ApiError::model_busy(self.name(model))),
            }
        }
        Ok(())
    }

    fn unload(&self, model: usize) {
        lock(&self.entries[model].state).editor = None;
        lock(&self.open).retain(|open| {
            let Some(open) = open.upgrade() else { return false };
            lock(&open.photos).remove(&model);
            true
        });
        tracing::info!(model = self.name(model), "model unloaded");
    }

    /// A photo that is opened by the models that edit it.
    pub(crate) fn openable(&self, photo: Arc<Photo>) -> Arc<OpenIn> {
        let openable = Arc::new(OpenIn { photo, photos: Mutex::default() });
        let mut open = lock(&self.open);
        // Those that are gone are forgotten now and then.
        if open.len() == open.capacity() {
            open.retain(|open| open.strong_count() > 0);
        }
        open.push(Arc::downgrade(&openable));
        openable
    }
}

/// A photo and what models have computed of it: its tokens and the features of its texts.
pub(crate) struct OpenIn {
    photo: Arc<Photo>,
    photos: Mutex<HashMap<usize, Arc<OpenPhoto>>>,
}

impl OpenIn {
    pub(crate) fn photo(&self) -> &Photo {
        &self.photo
    }

    pub(crate) fn by(&self, used: &InUse) -> Arc<OpenPhoto> {
        let mut photos = lock(&self.photos);
        let open = || Arc::new(used.editor.open_photo(Arc::clone(&self.photo)));
        Arc::clone(photos.entry(used.model).or_insert_with(open))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Models of these sizes, each the embedded one, and how often one was loaded.
    fn models(sizes: &[u64], budget: Option<u64>) -> (Models, Arc<AtomicUsize>) {
        let editor = Editor::embedded().build().unwrap();
        let loads = Arc::new(AtomicUsize::new(0));
        let model = |(i, &bytes): (usize, &u64)| {
            let (editor, loads) = (editor.clone(), Arc::clone(&loads));
            ServedModel::new(format!("m{i}"), bytes, move || {
                loads.fetch_add(1, Ordering::Relaxed);
                Ok(editor.clone())
            })
        };
        (Models::new(sizes.iter().enumerate().map(model).collect(), budget), loads)
    }

    fn loaded(models: &Models) -> Vec<usize> {
        (0..models.entries.len()).filter(|&model| models.is_loaded(model)).collect()
    }

    #[test]
    fn least_recently_used_model_is_unloaded_with_its_photos() {
        let (models, loads) = models(&[40, 40, 40], Some(100));
        let photo = Photo::from_bytes(include_bytes!("../scenes/scene.png")).unwrap();
        let photo = models.openable(Arc::new(photo));
        let first = models.get(0, None).unwrap();
        photo.by(&first);
        models.get(1, None).unwrap();
        models.get(0, None).unwrap();
        models.get(2, None).unwrap();
        assert_eq!((loaded(&models), models.loaded()), (vec![0, 2], (2, 80)));
        assert_eq!(lock(&photo.photos).len(), 1);
        models.get(1, None).unwrap();
        assert_eq!(loaded(&models), [1, 2]);
        assert_eq!(lock(&photo.photos).len(), 0, "a photo keeps no unloaded model in memory");
        models.get(2, None).unwrap();
        assert_eq!(loads.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn running_model_is_not_unloaded() {
        let (models, _) = models(&[60, 60], Some(100));
        models.get(0, None).unwrap();
        let refused = models.get(1, Some(0)).err().unwrap();
        assert_eq!((refused.status.as_u16(), refused.body.code), (429, "model_busy"));
        assert_eq!(loaded(&models), [0]);
        models.get(1, None).unwrap();
        assert_eq!(loaded(&models), [1]);
    }

    #[test]
    fn without_a_budget_all_stay() {
        let (models, _) = models(&[60, 60], None);
        for model in [0, 1, 0] {
            models.get(model, None).unwrap();
        }
        assert_eq!(loaded(&models), [0, 1]);
        let refused = models.find(Some("m2")).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.body.code), (404, "model_not_found"));
        assert_eq!((models.find(Some("m1")).unwrap(), models.find(None).unwrap()), (1, 0));
    }
}
