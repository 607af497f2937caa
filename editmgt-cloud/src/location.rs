use std::fmt;
use std::path::{Path, PathBuf};

use crate::CloudError;

/// Where a file is: a path, or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A file or folder of this machine.
    Local(PathBuf),
    /// An object of a store.
    Object {
        /// The store.
        store: StoreId,
        /// The object's key, without a slash at its beginning; of an HTTP server its path,
        /// percent-encoded.
        key: String,
    },
}

/// A store of objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreId {
    /// A bucket of S3, or of a server that speaks its protocol.
    S3(String),
    /// A bucket of Google Cloud Storage.
    Gcs(String),
    /// A server: scheme, host and port, such as `https://example.org:8443`.
    Http(String),
}

/// Whether a text names something by a URL: it begins with a scheme.
pub fn is_url(text: &str) -> bool {
    scheme(text).is_some()
}

/// Scheme and rest. A single letter is a drive of Windows.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(plain);
    is_scheme.then_some((scheme, rest))
}

impl Location {
    /// Reads a URL (`s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `http://` or `https://HOST/PATH`,
    /// `file:///PATH`) or a path.
    ///
    /// ```
    /// use editmgt_cloud::Location;
    ///
    /// let jobs = Location::parse("s3://photos/2026/jobs.jsonl")?;
    /// assert_eq!(jobs.parent().join("cat.jpg")?.to_string(), "s3://photos/2026/cat.jpg");
    /// # Ok::<(), editmgt_cloud::CloudError>(())
    /// ```
    ///
    /// # Errors
    /// [`CloudError::Url`].
    pub fn parse(text: &str) -> Result<Self, CloudError> {
        let Some((scheme, rest)) = scheme(text) else { return Ok(Self::Local(text.into())) };
        // A name or password in a URL is a secret that no message repeats.
        let shown = match rest.split_once('/') {
            Some((host, path)) if host.contains('@') => format!("{scheme}://…/{path}"),
            None if rest.contains('@') => format!("{scheme}://…"),
            _ => text.split(['?', '#']).next().unwrap_or_default().to_owned(),
        };
        let refused = |problem| CloudError::Url { got: shown.clone(), problem };
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            let is_path = path.starts_with('/') && !path.contains('%');
            return if is_path {
                Ok(Self::Local(local(path)))
            } else {
                Err(refused("file:///PATH without percent signs, or the path itself"))
            };
        }
        let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') {
            return Err(refused("no name or password: credentials come from the environment"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(refused("a bucket or a host behind ://"));
        }
        let store = match &*scheme {
            "s3" | "s3a" => StoreId::S3(host.to_owned()),
            "gs" => StoreId::Gcs(host.to_owned()),
            "http" | "https" => {
                if key.contains(['?', '#']) {
                    return Err(refused("no query: signed URLs are not supported"));
                }
                StoreId::Http(format!("{scheme}://{host}"))
            }
            _ => return Err(refused("s3://, gs://, http://, https://, file:// or a path")),
        };
        let key = key.trim_end_matches('/');
        if key
            .split('/')
            .any(|part| matches!(part, "." | "..") || (part.is_empty() && !key.is_empty()))
        {
            return Err(refused("a key without empty parts, \".\" and \"..\""));
        }
        Ok(Self::Object { store, key: key.to_owned() })
    }

    /// Whether it is a file of this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The folder that it is in.
    #[must_use]
    pub fn parent(&self) -> Self {
        match self {
            Self::Local(path) => Self::Local(path.parent().unwrap_or(Path::new("")).to_owned()),
            Self::Object { store, key } => {
                let parent = key.rsplit_once('/').map_or("", |(parent, _)| parent);
                Self::Object { store: store.clone(), key: parent.to_owned() }
            }
        }
    }

    /// A place in this folder, or, where `name` is a URL or an absolute path, that one.
    ///
    /// # Errors
    /// [`CloudError::Url`].
    pub fn join(&self, name: &str) -> Result<Self, CloudError> {
        match self {
            _ if is_url(name) => Self::parse(name),
            Self::Local(path) => Ok(Self::Local(path.join(name))),
            Self::Object { store, key } => {
                let name = name.strip_prefix("./").unwrap_or(name);
                let inside = if key.is_empty() { name.to_owned() } else { format!("{key}/{name}") };
                let joined = Self::Object { store: store.clone(), key: inside };
                if name.is_empty() || name.starts_with('/') {
                    let problem = "a name relative to the folder";
                    return Err(CloudError::Url { got: joined.to_string(), problem });
                }
                Self::parse(&joined.to_string())
            }
        }
    }

    /// The extension of its name, in lower case.
    pub fn extension(&self) -> Option<String> {
        let name = match self {
            Self::Local(path) => path.file_name()?.to_str()?.to_owned(),
            Self::Object { key, .. } => key.rsplit('/').next()?.to_owned(),
        };
        Some(name.rsplit_once('.')?.1.to_ascii_lowercase())
    }
}

/// The path of a `file:` URL; on Windows without the slash before the drive.
fn local(path: &str) -> PathBuf {
    let has_drive = path.as_bytes().get(2) == Some(&b':');
    if cfg!(windows) && has_drive { path[1..].into() } else { path.into() }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(bucket) => write!(f, "s3://{bucket}"),
            Self::Gcs(bucket) => write!(f, "gs://{bucket}"),
            Self::Http(server) => f.write_str(server),
        }
    }
}

/// A path, or the URL.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Object { store, key } => write!(f, "{store}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_are_told_apart() {
        for (text, shown) in [
            ("jobs.jsonl", "jobs.jsonl"),
            ("/data/cat.jpg", "/data/cat.jpg"),
            ("file:///data/cat.jpg", "/data/cat.jpg"),
            ("file://localhost/data/cat.jpg", "/data/cat.jpg"),
            ("s3://bucket/a b/ä?.jpg", "s3://bucket/a b/ä?.jpg"),
            ("s3a://bucket/x/", "s3://bucket/x"),
            ("gs://bucket", "gs://bucket/"),
            ("HTTPS://host.example:8443/a%20b.jpg", "https://host.example:8443/a%20b.jpg"),
            ("http://[::1]:9000/x", "http://[::1]:9000/x"),
            // A drive of Windows.
            ("c://data", "c://data"),
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), shown);
        }
        assert!(is_url("s3://x") && !is_url("c://x") && !is_url("a/b") && !is_url("://x"));
    }

    #[test]
    fn other_urls_are_refused_without_their_secrets() {
        for text in [
            "ftp://host/x",
            "s3://",
            "s3:///key",
            "s3://b/a//b",
            "gs://b/../x",
            "https://name:secret@host/x",
            "https://secret@host",
            "https://host/x?X-Amz-Signature=secret",
            "file://host/x",
            "file:///a%20secret",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(matches!(error, CloudError::Url { .. }), "{text}");
            let hides = !text.contains("@") && !text.contains('?');
            assert!(hides || !error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn names_are_joined_within_the_folder() {
        let folder = Location::parse("s3://bucket/in").unwrap();
        for (name, joined) in [
            ("a.jpg", "s3://bucket/in/a.jpg"),
            ("./b/a.jpg", "s3://bucket/in/b/a.jpg"),
            ("gs://other/a.jpg", "gs://other/a.jpg"),
        ] {
            assert_eq!(folder.join(name).unwrap().to_string(), joined);
        }
        for name in ["../a.jpg", "/etc/passwd", "", "a//b"] {
            assert!(folder.join(name).is_err(), "{name}");
        }
        let root = Location::parse("s3://bucket/a.jpg").unwrap().parent();
        assert_eq!(root.join("b.JPG").unwrap().to_string(), "s3://bucket/b.JPG");
        assert_eq!(root.join("b.JPG").unwrap().extension().as_deref(), Some("jpg"));
    }
}
