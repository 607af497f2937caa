//! The endpoints of a server (`editmgt-server/API.md`) that an edit needs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::RemoteError;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take, a photo's upload included.
const PATIENCE: Duration = Duration::from_secs(180);
/// Longest pause in a stream of events, which has a comment every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest answer that is no image.
const JSON_BYTES: u64 = 64 << 20;
/// Longest image.
const IMAGE_BYTES: u64 = 4 << 30;

/// Where a server is, and the token for it.
#[derive(Clone)]
pub(super) struct Address {
    /// Without a slash at the end.
    url: String,
    token: Option<String>,
    host: String,
    is_encrypted: bool,
}

impl Address {
    /// Reads an address: the link that `serve` prints is one, with its token behind the `#`. A
    /// `token` comes before it.
    ///
    /// # Errors
    /// [`RemoteError::Url`], [`RemoteError::Token`].
    pub(super) fn new(given: &str, token: Option<String>) -> Result<Self, RemoteError> {
        let (url, fragment) = given.split_once('#').unwrap_or((given, ""));
        let of_link = fragment.strip_prefix("token=").map(str::to_owned);
        // The token in a link is a secret that no message repeats.
        let refused = |problem| RemoteError::Url { got: url.to_owned(), problem };
        let uri: Uri = url.parse().map_err(|_| refused(""))?;
        let is_encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refused("")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refused(""))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            let problem = " with a name or password; give the server's token as --token";
            let hidden = authority.rsplit_once('@').map_or("", |(_, host)| host);
            return Err(RemoteError::Url { got: hidden.to_owned(), problem });
        }
        if uri.query().is_some() {
            return Err(refused(" with a query"));
        }
        if uri.port().is_none() && authority.len() > host.len() {
            return Err(refused(" with a port that is no number up to 65535"));
        }
        let token = token.or(of_link).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(RemoteError::Token);
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token, host, is_encrypted })
    }

    fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether others on the way can read photos and the token.
    pub(super) fn is_open_to_others(&self) -> bool {
        !self.is_encrypted && !self.is_local()
    }
}

/// A client of one server.
#[derive(Clone)]
pub(super) struct Client {
    address: Address,
    agent: Agent,
    events: Agent,
}

/// A server-sent event.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: Value,
}

impl Event {
    /// Whether it is the last.
    pub(super) fn is_last(&self) -> bool {
        matches!(&*self.name, "done" | "stopped" | "failed")
    }
}

/// What came of a request to start an edit.
pub(super) enum Started {
    /// The edit's id.
    Edit(String),
    /// No room: try again later.
    Full { seconds: u64 },
}

impl Client {
    pub(super) fn new(address: Address) -> Self {
        let config = || {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                // Our server never redirects, and the token is for it only.
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_connect(Some(CONNECT))
                .user_agent(concat!("editmgt/", env!("CARGO_PKG_VERSION")));
            if address.is_local() { config.proxy(None) } else { config }
        };
        let agent = config().timeout_global(Some(PATIENCE)).build().into();
        let events = config().timeout_per_read(Some(SILENCE)).build().into();
        Self { address, agent, events }
    }

    pub(super) fn url(&self) -> &str {
        &self.address.url
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.address.url)
    }

    fn bearer(&self) -> Option<String> {
        self.address.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    fn get(&self, agent: &Agent, path: &str) -> Result<Response<Body>, ureq::Error> {
        let mut request = agent.get(self.at(path));
        if let Some(bearer) = self.bearer() {
            request = request.header(AUTHORIZATION, bearer);
        }
        request.call()
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.post(self.at(path)).header(CONTENT_TYPE, kind);
        if let Some(bearer) = self.bearer() {
            request = request.header(AUTHORIZATION, bearer);
        }
        request.send(body)
    }

    fn lost(&self, cause: impl ToString) -> RemoteError {
        RemoteError::Lost { url: self.address.url.clone(), cause: cause.to_string() }
    }

    fn not_ours(&self, got: impl Into<String>) -> RemoteError {
        RemoteError::NotOurs { url: self.address.url.clone(), got: got.into() }
    }

    /// An answer of 200 to 299.
    fn accepted(&self, response: Response<Body>) -> Result<Response<Body>, RemoteError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let is_unauthorized = status.as_u16() == 401;
        let answer = self.json(response).ok();
        let message = answer.as_ref().and_then(|answer| answer["error"]["message"].as_str());
        match message {
            Some(_) if is_unauthorized => {
                let given = self.address.token.is_some();
                Err(RemoteError::Unauthorized { url: self.address.url.clone(), given })
            }
            Some(message) => Err(RemoteError::Refused { message: message.to_owned() }),
            None => Err(self.not_ours(format!("an answer of another kind (status {status})"))),
        }
    }

    fn json(&self, response: Response<Body>) -> Result<Value, RemoteError> {
        let mut body = response.into_body();
        let text = body.with_config().limit(JSON_BYTES).read_to_vec();
        let text = text.map_err(|error| self.lost(error))?;
        serde_json::from_slice(&text).map_err(|_| self.not_ours("an answer that is not JSON"))
    }

    /// The server's model and limits; also a check that there is a server of ours.
    ///
    /// # Errors
    /// [`RemoteError::Connect`], [`RemoteError::NotOurs`], [`RemoteError::Unauthorized`].
    pub(super) fn model(&self) -> Result<Value, RemoteError> {
        let response = self.get(&self.agent, "/api/model").map_err(|error| {
            RemoteError::Connect { url: self.address.url.clone(), cause: error.to_string() }
        })?;
        let model = self.json(self.accepted(response)?)?;
        if model["version"].is_string() && model["limits"]["photo_bytes"].is_u64() {
            Ok(model)
        } else {
            Err(self.not_ours("another JSON answer"))
        }
    }

    /// Uploads a photo; what the server says of it.
    ///
    /// # Errors
    /// Those of the server, and a lost connection.
    pub(super) fn add_photo(&self, bytes: &[u8]) -> Result<Value, RemoteError> {
        let kind = "application/octet-stream";
        let response = self.post("/api/photos", kind, bytes).map_err(|error| self.lost(error))?;
        self.json(self.accepted(response)?)
    }

    /// Uploads a mask of a photo; its id.
    ///
    /// # Errors
    /// As [`add_photo`](Self::add_photo).
    pub(super) fn add_mask(&self, photo: &str, png: &[u8]) -> Result<String, RemoteError> {
        let path = format!("/api/photos/{photo}/masks");
        let response = self.post(&path, "image/png", png).map_err(|error| self.lost(error))?;
        self.id(&self.json(self.accepted(response)?)?)
    }

    /// The id in an answer: never a path.
    pub(super) fn id(&self, answer: &Value) -> Result<String, RemoteError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let id = answer["id"].as_str().filter(|id| !id.is_empty() && id.chars().all(plain));
        id.map(str::to_owned).ok_or_else(|| self.not_ours("an answer without an id"))
    }

    /// Starts an edit.
    ///
    /// # Errors
    /// As [`add_photo`](Self::add_photo).
    pub(super) fn start(
        &self,
        photo: &str,
        mask: Option<&str>,
        instruction: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Started, RemoteError> {
        let body = json!({
            "photo": photo, "mask": mask, "instruction": instruction, "options": options,
        });
        let kind = "application/json";
        let response = self.post("/api/edits", kind, body.to_string().as_bytes());
        let response = response.map_err(|error| self.lost(error))?;
        if response.status().as_u16() == 429 {
            let seconds = response.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok());
            let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(5);
            return Ok(Started::Full { seconds });
        }
        Ok(Started::Edit(self.id(&self.json(self.accepted(response)?)?)?))
    }

    /// Calls `take` with each event of an edit until the last, or until `take` answers false.
    ///
    /// # Errors
    /// [`RemoteError::Lost`] where the stream breaks off before the last event.
    pub(super) fn events(
        &self,
        edit: &str,
        mut take: impl FnMut(Event) -> bool,
    ) -> Result<(), RemoteError> {
        let response = self.get(&self.events, &format!("/api/edits/{edit}/events"));
        let response = self.accepted(response.map_err(|error| self.lost(error))?)?;
        let mut lines = BufReader::new(response.into_body().into_reader());
        let (mut name, mut data) = (String::new(), None);
        loop {
            let mut line = String::new();
            let read = (&mut lines).take(JSON_BYTES).read_line(&mut line);
            if read.map_err(|error| self.lost(error))? == 0 {
                return Err(self.lost("its answer ended early"));
            }
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(text) = line.strip_prefix("event:") {
                name = text.trim().to_owned();
            } else if let Some(text) = line.strip_prefix("data:") {
                data = serde_json::from_str(text.trim()).ok();
            } else if line.is_empty()
                && let Some(data) = data.take()
            {
                let event = Event { name: std::mem::take(&mut name), data };
                let last = event.is_last();
                if !take(event) || last {
                    return Ok(());
                }
            }
        }
    }

    /// Stops an edit after the step that runs.
    ///
    /// # Errors
    /// As [`add_photo`](Self::add_photo).
    pub(super) fn cancel(&self, edit: &str) -> Result<(), RemoteError> {
        let path = format!("/api/edits/{edit}/cancel");
        let response =
            self.post(&path, "application/json", b"").map_err(|error| self.lost(error))?;
        self.accepted(response).map(drop)
    }

    /// What an edit left: `result?format=png`, `map`, `report`.
    ///
    /// # Errors
    /// As [`add_photo`](Self::add_photo).
    pub(super) fn fetch(&self, edit: &str, what: &str) -> Result<Vec<u8>, RemoteError> {
        let response = self.get(&self.agent, &format!("/api/edits/{edit}/{what}"));
        let response = self.accepted(response.map_err(|error| self.lost(error))?)?;
        let mut body = response.into_body();
        body.with_config().limit(IMAGE_BYTES).read_to_vec().map_err(|error| self.lost(error))
    }

    /// Stops the edits of a photo and forgets it.
    pub(super) fn forget(&self, photo: &str) {
        let mut request = self.agent.delete(self.at(&format!("/api/photos/{photo}")));
        if let Some(bearer) = self.bearer() {
            request = request.header(AUTHORIZATION, bearer);
        }
        // The server forgets it by itself, later.
        let _kept = request.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_urls_without_secrets() {
        for (given, url, token) in [
            ("http://127.0.0.1:8420", "http://127.0.0.1:8420", None),
            ("http://127.0.0.1:8420/", "http://127.0.0.1:8420", None),
            ("https://host.example/editmgt/", "https://host.example/editmgt", None),
            ("http://[::1]:80/#token=abc", "http://[::1]:80", Some("abc")),
        ] {
            let address = Address::new(given, None).unwrap();
            assert_eq!((&*address.url, address.token.as_deref()), (url, token), "{given}");
        }
        let address = Address::new("http://h#token=abc", Some("other".into())).unwrap();
        assert_eq!(address.token.as_deref(), Some("other"));
        for given in [
            "",
            "127.0.0.1:8420",
            "ftp://h",
            "http://",
            "http:///x",
            "http://h:99999",
            "http://h?x=1",
            "file:///x",
        ] {
            let error = Address::new(given, None).err();
            assert!(matches!(error, Some(RemoteError::Url { .. })), "{given}: {error:?}");
        }
        let error = Address::new("http://me:secret@h:1", None).err().unwrap().to_string();
        assert!(!error.contains("secret") && error.contains("--token"), "{error}");
        assert!(matches!(Address::new("http://h", Some("a b".into())), Err(RemoteError::Token)));
    }

    #[test]
    fn only_addresses_of_this_machine_are_safe_without_encryption() {
        for (given, open) in [
            ("http://127.0.0.1:1", false),
            ("http://localhost", false),
            ("http://[::1]", false),
            ("https://host.example", false),
            ("http://host.example", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(Address::new(given, None).unwrap().is_open_to_others(), open, "{given}");
        }
    }
}
