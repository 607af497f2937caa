//! A stand-in for the Hugging Face hub, on the loopback: the answers of its HTTP API that a
//! download sees.
//!
//! Large files are redirected to a second port, as to the hub's content delivery network; small
//! ones to a path of the same host. Both ports know ranges. Faults can be put in the way of
//! requests, and every request is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Files of this length and more are large ones, with a SHA-256 (LFS).
const LARGE: usize = 1000;

/// A repository of models on the hub.
#[derive(Debug, Clone)]
pub struct StubRepository {
    /// `ORG/NAME`.
    pub name: String,
    /// The commit of `main`, and the only one.
    pub commit: String,
    /// Contents by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The licence of its card.
    pub licence: Option<String>,
    /// Whether only [`StubHub::GRANTED`] may read the files.
    pub is_gated: bool,
}

impl StubRepository {
    /// An empty repository. Its commit depends on its name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            commit: hex(&Sha1::digest(name.as_bytes())),
            files: BTreeMap::new(),
            licence: None,
            is_gated: false,
        }
    }

    /// Adds a file.
    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), bytes.into());
        self
    }

    /// Adds the files of a folder below `prefix`, a path that is empty or ends with a slash.
    pub fn folder(mut self, prefix: &str, dir: &Path) -> Self {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                self = self.folder(&format!("{path}/"), &entry.path());
            } else {
                self.files.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
        self
    }

    /// The name of a file's contents in the cache.
    pub fn hash(&self, path: &str) -> String {
        let bytes = &self.files[path];
        if bytes.len() >= LARGE { hex(&Sha256::digest(bytes)) } else { git_blob(bytes) }
    }

    fn info(&self) -> Value {
        let siblings = self.files.iter().map(|(path, bytes)| {
            let mut file = json!({
                "rfilename": path, "size": bytes.len(), "blobId": git_blob(bytes)
            });
            if bytes.len() >= LARGE {
                let sha256 = hex(&Sha256::digest(bytes));
                file["lfs"] = json!({"sha256": sha256, "size": bytes.len(), "pointerSize": 134});
            }
            file
        });
        let siblings: Vec<Value> = siblings.collect();
        let gated = if self.is_gated { json!("manual") } else { json!(false) };
        json!({
            "id": self.name, "modelId": self.name, "sha": self.commit, "private": false, "gated": gated,
            "cardData": {"license": self.licence}, "siblings": siblings
        })
    }
}

/// What happens to a request in the place of its answer.
#[derive(Debug, Clone)]
pub enum StubFault {
    /// An answer with this status, headers (each with its line end) and body.
    Answer(u16, String, String),
    /// The connection is cut after this many bytes of the body.
    Cut(usize),
    /// The whole file, whatever the range.
    NoRanges,
    /// The last byte of the body is another one.
    Damage,
    /// The body has more bytes than it should.
    TooLong,
}

impl StubFault {
    /// A proxy's page.
    pub fn page(status: u16) -> Self {
        let body = "<!DOCTYPE html><html><head><title>Sign in to the network</title></head></html>";
        Self::Answer(status, "Content-Type: text/html; charset=utf-8\r\n".into(), body.into())
    }

    /// A refusal of the hub with its code.
    pub fn refusal(status: u16, code: &str, message: &str) -> Self {
        let headers = format!("X-Error-Code: {code}\r\nX-Error-Message: {message}\r\n");
        Self::Answer(status, headers, json!({ "error": message }).to_string())
    }

    /// Too many requests, as the hub says it: by `RateLimit` and without `Retry-After`.
    pub fn window(seconds: u64) -> Self {
        Self::Answer(429, format!("RateLimit: \"api\";r=0;t={seconds}\r\n"), String::new())
    }

    /// Too many requests, with `Retry-After`.
    pub fn rate_limit(seconds: u64) -> Self {
        Self::Answer(429, format!("Retry-After: {seconds}\r\n"), String::new())
    }
}

/// A request that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StubRequest {
    /// Whether it went to the second port.
    pub is_cdn: bool,
    /// Path and query.
    pub path: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    hub: String,
    cdn: String,
    repositories: Vec<StubRepository>,
    /// Paths of datasets and Spaces: `datasets/ORG/NAME`.
    others: Vec<String>,
    /// Part of a path, remaining times, fault.
    faults: Vec<(String, usize, StubFault)>,
    requests: Vec<StubRequest>,
}

/// The stand-in. Ends when dropped.
#[derive(Debug)]
pub struct StubHub {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    ports: Vec<(SocketAddr, JoinHandle<()>)>,
}

impl StubHub {
    /// The token of an account that may read gated repositories.
    pub const GRANTED: &'static str = "hf_granted";
    /// The token of an account that may not.
    pub const OTHER: &'static str = "hf_other";

    /// Serves these repositories.
    pub fn new(repositories: impl IntoIterator<Item = StubRepository>) -> Self {
        let repositories = repositories.into_iter().collect();
        let shared = Arc::new(Mutex::new(Shared { repositories, ..Shared::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let mut ports = Vec::new();
        for is_cdn in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            {
                let mut shared = shared.lock().unwrap();
                let name = if is_cdn { &mut shared.cdn } else { &mut shared.hub };
                *name = format!("http://{address}");
            }
            let (shared, stop) = (shared.clone(), stop.clone());
            let thread = std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (Ok(stream), shared) = (stream, shared.clone()) else { continue };
                    // A client that hangs up early is a case of some tests.
                    std::thread::spawn(move || serve(stream, is_cdn, &shared));
                }
            });
            ports.push((address, thread));
        }
        Self { shared, stop, ports }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        self.lock().hub.clone()
    }

    /// Lets a dataset or a Space (`datasets/ORG/NAME`, `spaces/ORG/NAME`) exist.
    pub fn other(&self, path: &str) {
        self.lock().others.push(path.to_owned());
    }

    /// Puts a fault in the way of the next requests whose path contains `part`.
    pub fn fault(&self, part: &str, times: usize, fault: StubFault) {
        self.lock().faults.push((part.to_owned(), times, fault));
    }

    /// Changes a repository.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut StubRepository)) {
        let mut shared = self.lock();
        change(shared.repositories.iter_mut().find(|repository| repository.name == name).unwrap());
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<StubRequest> {
        std::mem::take(&mut self.lock().requests)
    }
}

impl Drop for StubHub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for (address, thread) in self.ports.drain(..) {
            // Wakes the thread, which then sees the flag.
            drop(TcpStream::connect(address));
            let _ended = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, is_cdn: bool, shared: &Mutex<Shared>) {
    let Some(request) = read_request(&stream, is_cdn) else { return };
    let mut shared = shared.lock().unwrap();
    shared.requests.push(request.clone());
    let fault =
        shared.faults.iter_mut().find(|(part, times, _)| *times > 0 && request.path.contains(part));
    let fault = fault.map(|(_, times, fault)| {
        *times -= 1;
        fault.clone()
    });
    let answer = match &fault {
        Some(StubFault::Answer(status, headers, body)) => {
            Answer::new(*status, headers.as_str(), body.as_str())
        }
        _ => shared.answer(&request),
    };
    drop(shared);
    let _hung_up = answer.send(&mut stream, &request, fault.as_ref());
}

fn read_request(stream: &TcpStream, is_cdn: bool) -> Option<StubRequest> {
    let mut lines = BufReader::new(stream.take(1 << 16)).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut request = StubRequest { is_cdn, path, range: None, authorization: None };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    is_file: bool,
}

impl Answer {
    fn new(status: u16, headers: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: headers.into(), body: body.into(), is_file: false }
    }

    fn file(bytes: &[u8]) -> Self {
        let headers = "Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n";
        Self { is_file: true, ..Self::new(200, headers, bytes) }
    }

    fn refused(fault: StubFault) -> Self {
        match fault {
            StubFault::Answer(status, headers, body) => Self::new(status, headers, body),
            fault => panic!("{fault:?}: expected an answer"),
        }
    }

    fn send(
        mut self,
        stream: &mut TcpStream,
        request: &StubRequest,
        fault: Option<&StubFault>,
    ) -> std::io::Result<()> {
        let total = self.body.len();
        let start = request.range.as_deref().and_then(|range| {
            range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        if let (true, Some(start), false) =
            (self.is_file, start, matches!(fault, Some(StubFault::NoRanges)))
        {
            if start >= total {
                self = Self::new(416, format!("Content-Range: bytes */{total}\r\n"), "");
            } else {
                self.status = 206;
                let _ =
                    write!(self.headers, "Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
                self.body.drain(..start);
            }
        }
        match fault {
            Some(StubFault::Damage) => *self.body.last_mut().unwrap() ^= 1,
            Some(StubFault::TooLong) => self.body.extend([0; 10]),
            _ => {}
        }
        let length = self.body.len();
        if let Some(StubFault::Cut(after)) = fault {
            self.body.truncate(*after);
        }
        write!(
            stream,
            "HTTP/1.1 {} Status\r\nContent-Length: {length}\r\nConnection: close\r\n{}\r\n",
            self.status, self.headers
        )?;
        stream.write_all(&self.body)?;
        stream.flush()
    }
}

impl Shared {
    fn answer(&self, request: &StubRequest) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
        if request.is_cdn {
            let mut all = self.repositories.iter().flat_map(|repository| repository.files.values());
            let found = all.find(|bytes| path == format!("cdn/{}", hex(&Sha256::digest(bytes))));
            return found.map_or_else(|| Answer::new(403, "", ""), |bytes| Answer::file(bytes));
        }
        let token = request.authorization.as_deref().and_then(|text| text.strip_prefix("Bearer "));
        if token.is_some_and(|token| token != StubHub::GRANTED && token != StubHub::OTHER) {
            let message = "Invalid credentials in Authorization header";
            return Answer::refused(StubFault::refusal(401, "", message));
        }
        let missing = || {
            // Without a token the hub does not say whether it exists.
            let status = if token.is_some() { 404 } else { 401 };
            Answer::refused(StubFault::refusal(status, "RepoNotFound", "Repository not found"))
        };
        if let Some(rest) = path.strip_prefix("api/models/") {
            let Some((name, revision)) = rest.split_once("/revision/") else { return missing() };
            let Some(repository) = self.repositories.iter().find(|it| it.name == name) else {
                return missing();
            };
            if revision != "main" && revision != repository.commit {
                let message = format!("Invalid rev id: {revision}");
                return Answer::refused(StubFault::refusal(404, "RevisionNotFound", &message));
            }
            let headers = "Content-Type: application/json; charset=utf-8\r\n";
            return Answer::new(200, headers, repository.info().to_string());
        }
        if let Some(rest) = path.strip_prefix("api/resolve-cache/") {
            let found = self.repositories.iter().find_map(|it| {
                it.files.get(rest.strip_prefix(&format!("{}/{}/", it.name, it.commit))?)
            });
            return found.map_or_else(missing, |bytes| Answer::file(bytes));
        }
        if let Some(rest) = path.strip_prefix("api/") {
            let exists = self.others.iter().any(|other| other == rest);
            return if exists { Answer::new(200, "", "{}") } else { missing() };
        }
        let Some((name, rest)) = path.split_once("/resolve/") else { return missing() };
        let Some(repository) = self.repositories.iter().find(|it| it.name == name) else {
            return missing();
        };
        if repository.is_gated && token != Some(StubHub::GRANTED) {
            let status = if token.is_some() { 403 } else { 401 };
            let message = format!("Access to model {name} is restricted");
            return Answer::refused(StubFault::refusal(status, "GatedRepo", &message));
        }
        let file =
            rest.split_once('/').and_then(|(_, file)| Some((file, repository.files.get(file)?)));
        let Some((file, bytes)) = file else {
            return Answer::refused(StubFault::refusal(404, "EntryNotFound", "Entry not found"));
        };
        let hash = repository.hash(file);
        let commit = &repository.commit;
        let (status, location) = if bytes.len() >= LARGE {
            (302, format!("{}/cdn/{hash}?signature=secret", self.cdn))
        } else {
            (307, format!("/api/resolve-cache/{name}/{commit}/{file}"))
        };
        let headers = format!(
            "Location: {location}\r\nX-Repo-Commit: {commit}\r\nX-Linked-Size: {}\r\nX-Linked-Etag: \"{hash}\"\r\n",
            bytes.len()
        );
        Answer::new(status, headers, "")
    }
}

fn git_blob(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
