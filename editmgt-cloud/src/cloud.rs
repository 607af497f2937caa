use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig,
};
use tokio::runtime::{self, Runtime};

use crate::secrets::Secrets;
use crate::{CloudError, Location, StoreId};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an object may take; the default of 30 seconds is too short for a large photo.
const PATIENCE: Duration = Duration::from_secs(300);
/// Objects that are read at once.
const AT_ONCE: usize = 32;

/// Reads and writes objects of stores, and files. Calls block.
///
/// Credentials are those of the environment, by the names that the stores' own tools read:
/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
/// `AWS_ENDPOINT_URL` (another server than Amazon's), `AWS_WEB_IDENTITY_TOKEN_FILE`, the machine's
/// role; `GOOGLE_SERVICE_ACCOUNT`, `GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_BASE_URL` (another
/// server than Google's).
pub struct Cloud {
    runtime: Runtime,
    variables: Vec<(String, String)>,
    secrets: Secrets,
    retry: RetryConfig,
    stores: Mutex<HashMap<StoreId, Arc<dyn ObjectStore>>>,
}

/// What the store says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its key within the folder that was listed.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl Cloud {
    /// With the variables of this process.
    ///
    /// # Errors
    /// [`CloudError::Store`] when no thread can be started.
    pub fn from_env() -> Result<Self, CloudError> {
        let variables = std::env::vars_os();
        let texts = variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::new(texts)
    }

    /// With these variables in place of the process's.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, CloudError> {
        let of_stores = |name: &str| {
            ["AWS_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix))
                || name == "SERVICE_ACCOUNT"
        };
        let variables: Vec<_> = variables
            .into_iter()
            .filter(|(name, value)| of_stores(name) && !value.is_empty())
            .collect();
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("editmgt-cloud")
            .enable_all()
            .build()
            .map_err(|cause| CloudError::Store {
                store: "threads".to_owned(),
                cause: cause.to_string(),
            })?;
        let secrets = Secrets::of(&variables);
        Ok(Self {
            runtime,
            variables,
            secrets,
            retry: RetryConfig::default(),
            stores: Mutex::default(),
        })
    }

    /// How often and for how long a failed request is tried again; by default 10 times in 3
    /// minutes, with pauses that grow from 0.1 to 15 seconds.
    #[must_use]
    pub fn retries(mut self, most: usize, pause: Duration) -> Self {
        let backoff = BackoffConfig { init_backoff: pause, ..BackoffConfig::default() };
        self.retry = RetryConfig { max_retries: most, backoff, ..RetryConfig::default() };
        self
    }

    fn store(&self, id: &StoreId) -> Result<Arc<dyn ObjectStore>, CloudError> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(id) {
            return Ok(Arc::clone(store));
        }
        let store = self.open(id).map_err(|error| CloudError::Store {
            store: id.to_string(),
            cause: self.secrets.hide(&error.to_string()),
        })?;
        stores.insert(id.clone(), Arc::clone(&store));
        Ok(store)
    }

    fn open(&self, id: &StoreId) -> object_store::Result<Arc<dyn ObjectStore>> {
        let options = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(PATIENCE);
        Ok(match id {
            StoreId::S3(bucket) => {
                let mut builder = AmazonS3Builder::new().with_client_options(options);
                for (name, value) in
                    self.variables.iter().filter(|(name, _)| name.starts_with("AWS_"))
                {
                    if let Ok(key) = name.to_ascii_lowercase().parse() {
                        builder = builder.with_config(key, value);
                    }
                    // A server that is named without TLS is meant without it.
                    if name.starts_with("AWS_ENDPOINT") && value.starts_with("http://") {
                        builder = builder.with_allow_http(true);
                    }
                }
                Arc::new(builder.with_bucket_name(bucket).with_retry(self.retry.clone()).build()?)
            }
            StoreId::Gcs(bucket) => {
                let is_plain = |(name, value): &(String, String)| {
                    name == "GOOGLE_BASE_URL" && value.starts_with("http://")
                };
                let options = options.with_allow_http(self.variables.iter().any(is_plain));
                let mut builder = GoogleCloudStorageBuilder::new().with_client_options(options);
                for (name, value) in &self.variables {
                    if name == "SERVICE_ACCOUNT" {
                        builder = builder.with_service_account_path(value);
                    } else if let (true, Ok(key)) =
                        (name.starts_with("GOOGLE_"), name.to_ascii_lowercase().parse())
                    {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.with_bucket_name(bucket).with_retry(self.retry.clone()).build()?)
            }
            StoreId::Http(server) => {
                let options = options.with_allow_http(server.starts_with("http://"));
                let builder = HttpBuilder::new().with_url(server).with_client_options(options);
                Arc::new(builder.with_retry(self.retry.clone()).build()?)
            }
        })
    }

    fn failed(&self, location: &Location, error: object_store::Error) -> CloudError {
        let location = location.to_string();
        match error {
            object_store::Error::NotFound { .. } => CloudError::NotFound { location },
            object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. } => CloudError::Exists { location },
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => CloudError::Denied { location },
            error => {
                CloudError::Transfer { location, cause: self.secrets.hide(&error.to_string()) }
            }
        }
    }

    fn key(location: &Location) -> Result<Option<(&StoreId, Key)>, CloudError> {
        let Location::Object { store, key } = location else { return Ok(None) };
        let parsed = match store {
            StoreId::Http(_) => Key::from_url_path(key),
            StoreId::S3(_) | StoreId::Gcs(_) => Key::parse(key),
        };
        let problem = "a key that the store allows";
        let key = parsed.map_err(|_| CloudError::Url { got: location.to_string(), problem })?;
        Ok(Some((store, key)))
    }

    /// Reads an object, or a file, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn get(&self, location: &Location, limit: u64) -> Result<Vec<u8>, CloudError> {
        let Some((store, key)) = Self::key(location)? else {
            let Location::Local(path) = location else { unreachable!("objects have a key") };
            let bytes = fs::metadata(path).map_err(CloudError::io(path))?.len();
            if bytes > limit {
                return Err(CloudError::TooLarge { location: location.to_string(), bytes, limit });
            }
            return fs::read(path).map_err(CloudError::io(path));
        };
        let store = self.store(store)?;
        self.runtime.block_on(self.get_object(&*store, &key, location, limit))
    }

    async fn get_object(
        &self,
        store: &dyn ObjectStore,
        key: &Key,
        location: &Location,
        limit: u64,
    ) -> Result<Vec<u8>, CloudError> {
        let failed = |error| self.failed(location, error);
        let result = store.get_opts(key, GetOptions::default()).await.map_err(failed)?;
        let too_large =
            |bytes| CloudError::TooLarge { location: location.to_string(), bytes, limit };
        if result.meta.size > limit {
            return Err(too_large(result.meta.size));
        }
        let size = result.meta.size;
        let mut contents = Vec::new();
        let mut parts = result.into_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(failed)?;
            contents.extend_from_slice(&part);
            if contents.len() as u64 > limit {
                return Err(too_large(contents.len() as u64));
            }
        }
        if contents.len() as u64 != size {
            let cause = format!("{} bytes came of {size}", contents.len());
            return Err(CloudError::Transfer { location: location.to_string(), cause });
        }
        Ok(contents)
    }

    /// Downloads an object of at most `limit` bytes to a file.
    ///
    /// # Errors
    /// [`CloudError`]; the file is then not there.
    pub fn download(&self, location: &Location, to: &Path, limit: u64) -> Result<(), CloudError> {
        let Some((store, key)) = Self::key(location)? else {
            return fs::write(to, self.get(location, limit)?).map_err(CloudError::io(to));
        };
        let store = self.store(store)?;
        let downloaded = self.runtime.block_on(async {
            let failed = |error| self.failed(location, error);
            let result = store.get_opts(&key, GetOptions::default()).await.map_err(failed)?;
            let size = result.meta.size;
            let mut file = fs::File::create(to).map_err(CloudError::io(to))?;
            let (mut parts, mut bytes) = (result.into_stream(), 0);
            while bytes <= limit && size <= limit {
                let Some(part) = parts.next().await else { break };
                let part = part.map_err(failed)?;
                bytes += part.len() as u64;
                file.write_all(&part).map_err(CloudError::io(to))?;
            }
            let most = bytes.max(size);
            if most > limit {
                return Err(CloudError::TooLarge {
                    location: location.to_string(),
                    bytes: most,
                    limit,
                });
            }
            if bytes != size {
                let cause = format!("{bytes} bytes came of {size}");
                return Err(CloudError::Transfer { location: location.to_string(), cause });
            }
            Ok(())
        });
        if downloaded.is_err() {
            // What came is of no use, and the error is more.
            let _gone = fs::remove_file(to);
        }
        downloaded
    }

    /// Reads several objects at once, each of at most `limit` bytes; `None` for one that is not
    /// there.
    ///
    /// # Errors
    /// [`CloudError`] of the first that fails otherwise.
    pub fn get_all(
        &self,
        locations: &[Location],
        limit: u64,
    ) -> Result<Vec<Option<Vec<u8>>>, CloudError> {
        let read = async |location: &Location| {
            let Some((store, key)) = Self::key(location)? else {
                return match self.get(location, limit) {
                    Err(CloudError::Io { cause, .. })
                        if cause.kind() == std::io::ErrorKind::NotFound =>
                    {
                        Ok(None)
                    }
                    read => read.map(Some),
                };
            };
            let store = self.store(store)?;
            match self.get_object(&*store, &key, location, limit).await {
                Err(CloudError::NotFound { .. }) => Ok(None),
                read => read.map(Some),
            }
        };
        self.runtime.block_on(stream::iter(locations).map(read).buffered(AT_ONCE).try_collect())
    }

    /// Writes an object, whole or not at all. With `replace` an existing one is replaced.
    ///
    /// # Errors
    /// [`CloudError`]; [`CloudError::Exists`] without `replace`.
    pub fn put(
        &self,
        location: &Location,
        bytes: Vec<u8>,
        replace: bool,
    ) -> Result<(), CloudError> {
        let Some((store, key)) = Self::key(location)? else {
            let Location::Local(path) = location else { unreachable!("objects have a key") };
            if !replace && path.exists() {
                return Err(CloudError::Exists { location: location.to_string() });
            }
            return Ok(editmgt_store::write(path, bytes)?);
        };
        if let StoreId::Http(_) = store {
            return Err(CloudError::ReadOnly { location: location.to_string() });
        }
        let store = self.store(store)?;
        let mode = if replace { PutMode::Overwrite } else { PutMode::Create };
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = store.put_opts(&key, PutPayload::from(bytes), options);
        self.runtime.block_on(put).map(drop).map_err(|error| self.failed(location, error))
    }

    /// The length of an object; `None` if there is none.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn head(&self, location: &Location) -> Result<Option<u64>, CloudError> {
        let Some((store, key)) = Self::key(location)? else {
            let Location::Local(path) = location else { unreachable!("objects have a key") };
            return Ok(fs::metadata(path).ok().map(|file| file.len()));
        };
        let store = self.store(store)?;
        match self.runtime.block_on(store.head(&key)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(location, error)),
        }
    }

    /// The objects in a folder of a store and in its subfolders.
    ///
    /// # Errors
    /// [`CloudError`]; [`CloudError::ReadOnly`] for an HTTP server, which has no lists.
    pub fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, CloudError> {
        let Some((store, key)) = Self::key(folder)? else {
            let problem = "a folder of a store";
            return Err(CloudError::Url { got: folder.to_string(), problem });
        };
        if let StoreId::Http(_) = store {
            return Err(CloudError::ReadOnly { location: folder.to_string() });
        }
        let store = self.store(store)?;
        let prefix = (!key.as_ref().is_empty()).then_some(&key);
        let info = |meta: object_store::ObjectMeta| {
            let name = meta.location.as_ref().strip_prefix(key.as_ref()).unwrap_or_default();
            ObjectInfo { name: name.trim_start_matches('/').to_owned(), bytes: meta.size }
        };
        let list = store.list(prefix).map_ok(info).try_collect();
        self.runtime.block_on(list).map_err(|error| self.failed(folder, error))
    }
}

/// Temporary files for objects that programs read as files.
pub struct Downloads {
    folder: tempfile::TempDir,
    limit: u64,
    kept: HashMap<Location, PathBuf>,
    count: u64,
}

impl Downloads {
    /// For objects of at most `limit` bytes, in the system's folder of temporary files.
    ///
    /// # Errors
    /// [`CloudError::Io`].
    pub fn new(limit: u64) -> Result<Self, CloudError> {
        let folder = tempfile::Builder::new().prefix("editmgt-").tempdir();
        let folder = folder.map_err(CloudError::io(std::env::temp_dir()))?;
        Ok(Self { folder, limit, kept: HashMap::new(), count: 0 })
    }

    /// The folder of these files, which is removed with this value.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file of an object, downloaded unless it is here; a local file itself.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn fetch(&mut self, cloud: &Cloud, location: &Location) -> Result<PathBuf, CloudError> {
        if let Location::Local(path) = location {
            return Ok(path.clone());
        }
        if let Some(path) = self.kept.get(location) {
            return Ok(path.clone());
        }
        self.count += 1;
        let extension =
            location.extension().filter(|text| text.chars().all(|c| c.is_ascii_alphanumeric()));
        let name = format!("{}.{}", self.count, extension.as_deref().unwrap_or("bin"));
        let path = self.folder.path().join(name);
        cloud.download(location, &path, self.limit)?;
        self.kept.insert(location.clone(), path.clone());
        Ok(path)
    }

    /// Removes the files of all objects but these.
    pub fn keep_only(&mut self, locations: &[&Location]) {
        self.kept.retain(|location, path| {
            let stays = locations.contains(&location);
            if !stays {
                // The folder goes later.
                let _gone = fs::remove_file(path);
            }
            stays
        });
    }
}
