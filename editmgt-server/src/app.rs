//! What all handlers share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::disk::Disk;
use crate::edit::{Edit, NewEdit};
use crate::engine::{Job, Queue};
use crate::error::ApiError;
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::models::{InUse, Models, ServedModel};
use crate::options::ServerOptions;
use crate::store::Store;

/// Uploads that are in memory at once; others wait.
const UPLOADS: usize = 8;
/// Images that are decoded at once.
const DECODERS: usize = 2;

pub(crate) type Shared = Arc<App>;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) models: Arc<Models>,
    pub(crate) options: ServerOptions,
    pub(crate) guard: Guard,
    pub(crate) queue: Arc<Queue>,
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) uploads: Semaphore,
    decoders: Semaphore,
}

impl App {
    pub(crate) fn new(
        models: Vec<ServedModel>,
        options: ServerOptions,
        disk: Option<Disk>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        Self {
            models: Arc::new(Models::new(models, options.memory_budget)),
            guard: Guard::new(&options),
            queue: Arc::new(Queue::new(options.limits.queue, Arc::clone(&metrics))),
            store: Arc::new(Store::new(options.limits.clone(), disk)),
            metrics,
            uploads: Semaphore::new(UPLOADS),
            decoders: Semaphore::new(DECODERS),
            options,
        }
    }

    /// Decodes an image on a thread that may block, a few at once.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) async fn decode<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _permit = self.decoders.acquire().await.map_err(ApiError::internal)?;
        blocking(work).await
    }

    /// A model, loaded where it is not. Blocks while it loads.
    ///
    /// # Errors
    /// Those of [`Models::get`].
    pub(crate) fn model(&self, model: usize) -> Result<InUse, ApiError> {
        let was_loaded = self.models.is_loaded(model);
        let used = self.models.get(model, self.queue.running_model())?;
        if !was_loaded {
            self.measure(model);
        }
        Ok(used)
    }

    /// Measures the speed of a loaded model when no job waits. Not within a memory budget: a model
    /// that is measured could not be unloaded for one that a client needs.
    pub(crate) fn measure(&self, model: usize) {
        if !self.models.has_budget() {
            self.queue.measure(model);
        }
    }

    /// Keeps edits and queues them, all or none.
    ///
    /// # Errors
    /// Status 429 where there is no room, 503 when the server shuts down.
    pub(crate) fn start(&self, edits: Vec<NewEdit>) -> Result<Vec<Arc<Edit>>, ApiError> {
        let edits = self.store.add_edits(edits)?;
        let jobs = edits.iter().map(|edit| Job::Edit(Arc::clone(edit))).collect();
        if let Err(error) = self.queue.push(jobs) {
            self.store.forget_edits(&edits);
            return Err(error);
        }
        Ok(edits)
    }

    /// Stops the edits of a photo and forgets it.
    ///
    /// # Errors
    /// Status 404.
    pub(crate) fn forget_photo(&self, id: &str) -> Result<(), ApiError> {
        let edits = self.store.remove_photo(id).ok_or_else(|| ApiError::not_found("photo"))?;
        for edit in edits {
            self.queue.cancel(&Job::Edit(edit));
        }
        Ok(())
    }
}

/// Runs `work` on a thread that may block.
///
/// # Errors
/// Those of `work`; status 500 where it panics.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ApiError::internal(error)))
}
