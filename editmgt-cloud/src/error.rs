use std::io;
use std::path::PathBuf;

/// Why a file of a store can't be read or written. No message has credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// Not a URL of a store.
    #[error("expected {problem}, got {got:?}")]
    Url {
        /// The URL without secrets.
        got: String,
        /// What was expected.
        problem: &'static str,
    },
    /// There is no such object.
    #[error("{location}: there is no such object")]
    NotFound {
        /// Its URL.
        location: String,
    },
    /// The object exists and was not to be replaced.
    #[error("{location}: this object exists and is not overwritten")]
    Exists {
        /// Its URL.
        location: String,
    },
    /// The store refuses the credentials, or these don't suffice.
    #[error("{location}: the store refuses access; check {}", variables_of(location))]
    Denied {
        /// The object's URL.
        location: String,
    },
    /// An object over the limit.
    #[error("{location}: {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its URL.
        location: String,
        /// Its length.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A place that results can't be put to.
    #[error("{location}: results can be put to s3://, gs:// and folders, not to an HTTP server")]
    ReadOnly {
        /// Its URL.
        location: String,
    },
    /// The store can't be opened with what the environment says.
    #[error("{store}: {cause}; check {}", variables_of(store))]
    Store {
        /// The store.
        store: String,
        /// What is wrong.
        cause: String,
    },
    /// The connection failed, after retries.
    #[error("{location}: {cause}")]
    Transfer {
        /// The object's URL.
        location: String,
        /// The last failure.
        cause: String,
    },
    /// A file of this machine.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A file of this machine can't be written.
    #[error(transparent)]
    Write(#[from] editmgt_store::StoreError),
}

/// The variables that credentials come from.
fn variables_of(location: &str) -> &'static str {
    if location.starts_with("s3:") {
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL"
    } else if location.starts_with("gs:") {
        "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS"
    } else {
        "who may read it: an HTTP server gets no credentials"
    }
}

impl CloudError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { path, cause }
    }

    /// Whether trying again later can help: not so for what is missing, refused or too large.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transfer { .. })
    }
}
