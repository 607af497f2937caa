//! Requests to the hub: redirects, the token, refusals, and when to ask again.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body, Proxy};

use crate::hash::Checksum;
use crate::{HubError, HubSettings};

/// Most redirects of a request.
const MAX_REDIRECTS: usize = 10;
/// Most bytes of a list of files, and of a page that explains a refusal.
const MAX_LIST: u64 = 64 << 20;
const MAX_PAGE: u64 = 64 << 10;
/// The hub's reason for a repository that it has taken down; it has no code of its own.
const DISABLED: &str = "Access to this resource is disabled";

/// Why a request failed, and whether it is worth asking again.
pub(crate) enum Failure {
    /// Asking again gives the same.
    Final(HubError),
    /// No connection was made.
    Unreachable(HubError),
    /// Cut, too many requests, or the hub's own trouble.
    Retry { after: Option<Duration>, error: HubError },
}

/// What a request is about, for errors.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) repository: &'a str,
    pub(crate) revision: &'a str,
    pub(crate) expected: &'static str,
}

pub(crate) struct Client<'a> {
    agent: Agent,
    settings: &'a HubSettings,
}

/// A repository at a revision, as the hub describes it.
pub(crate) struct RemoteRepository {
    pub(crate) commit: String,
    pub(crate) licence: Option<String>,
    pub(crate) is_gated: bool,
    pub(crate) files: Vec<RemoteFile>,
}

pub(crate) struct RemoteFile {
    pub(crate) path: String,
    /// Length and hash; `None` where the hub left them out.
    pub(crate) contents: Option<(u64, Checksum)>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    gated: Value,
    #[serde(default, rename = "cardData")]
    card: Value,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl<'a> Client<'a> {
    pub(crate) fn new(settings: &'a HubSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here: the token must not go to another host.
            .max_redirects(0)
            // A range of a file is a range of its own bytes.
            .accept_encoding("identity")
            .user_agent(concat!("editmgt/", env!("CARGO_PKG_VERSION")))
            .proxy(if settings.system_proxy { Proxy::try_from_env() } else { None })
            .timeout_connect(Some(settings.timeout))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout));
        Self { agent: config.build().into(), settings }
    }

    /// The URL of a file.
    pub(crate) fn file_url(&self, repository: &str, commit: &str, path: &str) -> String {
        format!("{}/{repository}/resolve/{commit}/{}", self.settings.endpoint, encode(path, true))
    }

    /// The files of a repository at a revision, with lengths and hashes.
    ///
    /// # Errors
    /// All that a hub can refuse.
    pub(crate) fn list(
        &self,
        repository: &str,
        revision: &str,
        waiting: &mut dyn FnMut(Duration, &str) -> ControlFlow<()>,
    ) -> Result<RemoteRepository, HubError> {
        let endpoint = &self.settings.endpoint;
        let revision_part = encode(revision, false);
        let url = format!("{endpoint}/api/models/{repository}/revision/{revision_part}?blobs=true");
        let about = About { repository, revision, expected: "a list of files" };
        let mut backoff = Backoff::new(self.settings);
        let text = loop {
            let answer = self.get(&url, 0, about).and_then(|response| {
                let mut body = response.into_body();
                let read = body.with_config().limit(MAX_LIST).read_to_string();
                read.map_err(|error| connection(&url, error))
            });
            match answer {
                Ok(text) => break text,
                Err(Failure::Final(error @ HubError::NotFound { .. })) => {
                    return Err(self.other_kind(repository).unwrap_or(error));
                }
                Err(Failure::Unreachable(error)) => return Err(error),
                Err(failure) => backoff.wait(failure, waiting)?,
            }
        };
        let info: Info = match serde_json::from_str(&text) {
            Ok(info) => info,
            Err(_) if text.trim_start().starts_with('<') => {
                return Err(web_page(&url, about, &text));
            }
            Err(error) => {
                let problem = format!("expected a list of files as JSON, got {error}");
                return Err(HubError::Reply { url, problem });
            }
        };
        if !crate::cache::is_commit(&info.sha) {
            let problem = format!("expected a commit, got {:?}", info.sha);
            return Err(HubError::Reply { url, problem });
        }
        let licence = info.card.get("license").and_then(Value::as_str).map(str::to_owned);
        let is_gated = !matches!(info.gated, Value::Null | Value::Bool(false));
        let files = info.siblings.into_iter().map(RemoteFile::from).collect();
        Ok(RemoteRepository { commit: info.sha, licence, is_gated, files })
    }

    /// The error for a name that is a dataset's or a Space's.
    fn other_kind(&self, repository: &str) -> Option<HubError> {
        let endpoint = &self.settings.endpoint;
        let about = About { repository, revision: "main", expected: "a description" };
        [("datasets", "dataset"), ("spaces", "Space")].into_iter().find_map(|(path, kind)| {
            let url = format!("{endpoint}/api/{path}/{repository}");
            self.get(&url, 0, about).ok()?;
            let (repository, endpoint) = (repository.to_owned(), endpoint.clone());
            Some(HubError::OtherKind { repository, endpoint, kind })
        })
    }

    /// One request, from this byte on, with its redirects. The answer has a status of success.
    pub(crate) fn get(
        &self,
        url: &str,
        from: u64,
        about: About<'_>,
    ) -> Result<Response<Body>, Failure> {
        let mut at = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&at);
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            if let Some(token) = self.token_for(&at)? {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| connection(&at, error))?;
            if !response.status().is_redirection() {
                return self.check(&at, response, about);
            }
            let location = header(response.headers(), "location").unwrap_or_default();
            at = match location {
                place if place.starts_with('/') && !place.starts_with("//") => {
                    format!("{}{place}", origin(&at))
                }
                place if is_url(place) => place.to_owned(),
                place => {
                    let problem = format!("expected a URL to be redirected to, got {place:?}");
                    return Err(Failure::Final(HubError::Reply { url: at, problem }));
                }
            };
        }
        let problem = format!("redirected more than {MAX_REDIRECTS} times");
        Err(Failure::Final(HubError::Reply { url: url.to_owned(), problem }))
    }

    /// The token, for the hub's own URLs.
    fn token_for(&self, url: &str) -> Result<Option<&str>, Failure> {
        let Some(token) = &self.settings.token else { return Ok(None) };
        if origin(url) != origin(&self.settings.endpoint) {
            return Ok(None);
        }
        if token.text().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Some(token.text()));
        }
        let endpoint = self.settings.endpoint.clone();
        let reason = "it has characters that no token has".to_owned();
        Err(Failure::Final(HubError::WrongToken { endpoint, reason }))
    }

    fn check(
        &self,
        url: &str,
        response: Response<Body>,
        about: About<'_>,
    ) -> Result<Response<Body>, Failure> {
        let status = response.status();
        let kind = header(response.headers(), "content-type").unwrap_or_default();
        let is_page = kind.starts_with("text/html");
        if status.is_success() && !is_page {
            return Ok(response);
        }
        let headers = response.headers().clone();
        let mut body = response.into_body();
        let text = body.with_config().limit(MAX_PAGE).lossy_utf8(true).read_to_string();
        let text = text.unwrap_or_default();
        // What the hub refuses has no page, or a code beside it; a proxy's refusal is a page.
        let is_hubs = header(&headers, "x-error-code").is_some();
        let is_proxys = status.is_success() || matches!(status.as_u16(), 403 | 407 | 511);
        if is_page && !is_hubs && is_proxys {
            return Err(Failure::Final(web_page(url, about, &text)));
        }
        Err(self.refusal(url, status, &headers, &text, about))
    }

    fn refusal(
        &self,
        url: &str,
        status: StatusCode,
        headers: &HeaderMap,
        text: &str,
        about: About<'_>,
    ) -> Failure {
        let endpoint = self.settings.endpoint.clone();
        let has_token = self.settings.token.is_some();
        let repository = about.repository.to_owned();
        let reason = header(headers, "x-error-message").map(str::to_owned).unwrap_or_else(|| {
            let json: Value = serde_json::from_str(text).unwrap_or_default();
            json.get("error").and_then(Value::as_str).unwrap_or_default().to_owned()
        });
        let code = header(headers, "x-error-code").unwrap_or_default();
        // Only the hub was sent the token.
        let was_sent = has_token && origin(url) == origin(&endpoint);
        let error = match (code, status.as_u16()) {
            ("GatedRepo", _) => HubError::Gated { repository, endpoint, has_token },
            ("RevisionNotFound", _) => {
                HubError::Revision { repository, endpoint, revision: about.revision.to_owned() }
            }
            (code, 401) if was_sent && code != "RepoNotFound" => {
                let reason = if reason.is_empty() { "status 401".to_owned() } else { reason };
                HubError::WrongToken { endpoint, reason }
            }
            ("RepoNotFound", _) | ("", 401 | 404) => {
                HubError::NotFound { repository, endpoint, has_token }
            }
            (_, 403) if reason.trim_end_matches('.') == DISABLED => {
                HubError::Disabled { repository, endpoint }
            }
            (_, 403) => HubError::Forbidden { repository, reason },
            (_, 429) => {
                let limited = header(headers, "ratelimit").and_then(until_next_window);
                let after = limited
                    .or_else(|| header(headers, "retry-after").and_then(|text| text.parse().ok()));
                let error = HubError::RateLimited { url: url.to_owned(), seconds: after };
                return Failure::Retry { after: after.map(Duration::from_secs), error };
            }
            (_, status) => {
                let expected = about.expected;
                let error = HubError::Status { url: url.to_owned(), expected, status, reason };
                if status >= 500 || status == 408 {
                    return Failure::Retry { after: None, error };
                }
                error
            }
        };
        Failure::Final(error)
    }
}

impl From<Sibling> for RemoteFile {
    fn from(file: Sibling) -> Self {
        let contents = match file.lfs {
            Some(lfs) => Checksum::sha256(&lfs.sha256).map(|sum| (lfs.size, sum)),
            None => file.blob_id.and_then(|id| Some((file.size?, Checksum::git_blob(&id)?))),
        };
        Self { path: file.rfilename, contents }
    }
}

/// A failure of the connection.
pub(crate) fn connection(url: &str, error: ureq::Error) -> Failure {
    use std::io::ErrorKind as Kind;
    let failed = |reason: String| HubError::Connection { url: url.to_owned(), reason, attempts: 1 };
    match error {
        ureq::Error::HostNotFound => Failure::Unreachable(failed("the host is not found".into())),
        ureq::Error::ConnectionFailed => Failure::Unreachable(failed("no connection".into())),
        ureq::Error::Io(error) => match error.kind() {
            Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable => {
                Failure::Unreachable(failed(error.to_string()))
            }
            _ => Failure::Retry {
                after: None,
                error: failed(format!("the connection was cut: {error}")),
            },
        },
        ureq::Error::Timeout(_) => {
            Failure::Retry { after: None, error: failed("the hub does not answer".into()) }
        }
        error => Failure::Final(failed(error.to_string())),
    }
}

/// Repeats a request a limited number of times, with waits that double.
pub(crate) struct Backoff<'a> {
    settings: &'a HubSettings,
    failed: u32,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(settings: &'a HubSettings) -> Self {
        Self { settings, failed: 0 }
    }

    /// Something was received: counting begins again.
    pub(crate) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The failure itself, if it is final or one too many; [`HubError::Stopped`].
    pub(crate) fn wait(
        &mut self,
        failure: Failure,
        waiting: &mut dyn FnMut(Duration, &str) -> ControlFlow<()>,
    ) -> Result<(), HubError> {
        let (after, error) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Unreachable(error) => (None, error),
            Failure::Retry { after, error } => (after, error),
        };
        self.failed += 1;
        let is_too_long = after.is_some_and(|after| after > self.settings.longest_wait);
        if self.failed > self.settings.retries || is_too_long {
            return Err(match error {
                HubError::Connection { url, reason, .. } => {
                    HubError::Connection { url, reason, attempts: self.failed }
                }
                error => error,
            });
        }
        let doubled = self.settings.first_wait.saturating_mul(1 << (self.failed - 1).min(16));
        let wait = after.unwrap_or(doubled).min(self.settings.longest_wait);
        let reason = match &error {
            HubError::Connection { reason, .. } => reason.clone(),
            HubError::RateLimited { .. } => "the hub limits requests".to_owned(),
            error => error.to_string(),
        };
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if waiting(left, &reason).is_break() {
                return Err(HubError::Stopped);
            }
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Seconds until requests are allowed again, by a header `RateLimit`: `"api";r=0;t=295` says that
/// none is left for 295 s. One second more, because they are rounded. `None` where every limit in
/// it has some left.
fn until_next_window(header: &str) -> Option<u64> {
    let exhausted = header.split(',').filter_map(|limit| {
        let parameter = |name: &str| -> Option<u64> {
            let mut pairs = limit.split(';').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| key.trim() == name)?.1.trim().parse().ok()
        };
        let seconds = parameter("t")?;
        (parameter("r")? == 0).then(|| seconds.saturating_add(1))
    });
    exhausted.max()
}

fn web_page(url: &str, about: About<'_>, text: &str) -> HubError {
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let start = start + "<title>".len();
        let end = lower[start..].find("</title>")?;
        Some(text[start..start + end].trim().chars().take(80).collect())
    });
    HubError::WebPage { url: url.to_owned(), expected: about.expected, title }
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// Percent-encodes what a URL's path may not have; slashes, too, unless they separate folders.
fn encode(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if plain || (keep_slashes && byte == b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limit_without_requests_left_names_the_wait() {
        for (header, expected) in [
            ("\"api\";r=0;t=295", Some(296)),
            ("\"api\"; r=0; t=0", Some(1)),
            ("\"api\";r=0;t=5, \"resolvers\";r=0;t=60", Some(61)),
            ("\"api\";r=12;t=295, \"pages\";r=0;t=7", Some(8)),
            ("\"api\";r=12;t=295", None),
            ("\"api\";r=0", None),
            ("\"api\";r=0;t=-1", None),
            ("", None),
        ] {
            assert_eq!(until_next_window(header), expected, "{header}");
        }
    }

    #[test]
    fn origins_and_paths() {
        for (url, expected) in [
            ("https://huggingface.co/a/b?c", "https://huggingface.co"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://h?x=/", "http://h"),
        ] {
            assert_eq!(origin(url), expected);
        }
        assert_ne!(origin("http://127.0.0.1:80/"), origin("http://127.0.0.1:81/"));
        assert_eq!(encode("a b/ü#.json", true), "a%20b/%C3%BC%23.json");
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
