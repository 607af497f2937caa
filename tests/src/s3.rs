//! A server that speaks enough of the protocols of S3 and of Google Cloud Storage (its XML API) for
//! tests: objects in memory, conditional puts, lists in pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use futures_util::stream;
use percent_encoding::percent_decode_str;
use tokio::runtime::Runtime;

/// The credentials that it accepts.
pub const KEY_ID: &str = "AKIATESTKEY";
/// Their secret, which never travels.
pub const SECRET: &str = "a-secret-of-a-test/42";
/// The bearer token that it accepts in the place of a signature.
pub const BEARER: &str = "ya29.a-token-of-a-test";
/// The objects of a page of a list.
const PAGE: usize = 2;
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// A server on a free port, for as long as it is not dropped.
pub struct S3 {
    address: std::net::SocketAddr,
    kept: Arc<Mutex<Kept>>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Kept {
    /// By bucket and key: `bucket/a/b.png`.
    objects: BTreeMap<String, Vec<u8>>,
    requests: Vec<String>,
    /// Requests to come that fail with status 503.
    failures: usize,
    /// Answers to come whose connection breaks in the middle.
    breaks: usize,
}

impl S3 {
    /// Starts an empty one.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&kept));
        let router = router.layer(axum::extract::DefaultBodyLimit::max(64 << 20));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, kept, _runtime: runtime }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// The variables of a client.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "eu-test-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The variables of a client of Google Cloud Storage.
    pub fn google_variables(&self) -> Vec<(String, String)> {
        let variables =
            [("GOOGLE_BASE_URL", self.url()), ("GOOGLE_BEARER_TOKEN", BEARER.to_owned())];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Its address: `/BUCKET/KEY` is also an address for clients of HTTP without credentials.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an object: `bucket/key`.
    pub fn insert(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.kept().objects.insert(key.to_owned(), bytes.into());
    }

    /// An object.
    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.kept().objects.get(key).cloned()
    }

    /// Removes an object.
    pub fn remove(&self, key: &str) {
        self.kept().objects.remove(key);
    }

    /// All keys in order.
    pub fn keys(&self) -> Vec<String> {
        self.kept().objects.keys().cloned().collect()
    }

    /// Method and path of all requests so far; forgets them.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.kept().requests)
    }

    /// Answers the next requests with 503.
    pub fn fail(&self, requests: usize) {
        self.kept().failures = requests;
    }

    /// Breaks the next downloads off in the middle.
    pub fn break_off(&self, downloads: usize) {
        self.kept().breaks = downloads;
    }
}

fn xml(status: u16, body: String) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "application/xml");
    response.body(body.into()).unwrap()
}

fn error(status: u16, code: &str, message: &str) -> Response<Body> {
    xml(status, format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

async fn answer(
    State(kept): State<Arc<Mutex<Kept>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut kept = kept.lock().unwrap();
    // Clients differ in what they escape.
    let path = percent_decode_str(uri.path().trim_start_matches('/')).decode_utf8().unwrap();
    let path = path.into_owned();
    kept.requests.push(format!("{method} {path}"));
    if kept.failures > 0 {
        kept.failures -= 1;
        return error(503, "SlowDown", "Please reduce your request rate.");
    }
    let signature = headers.get("authorization").map(|value| value.to_str().unwrap());
    let is_open = path.starts_with("open/") && method != Method::PUT;
    let is_known = |text: &str| {
        text.contains(&format!("Credential={KEY_ID}/")) || text == format!("Bearer {BEARER}")
    };
    if !is_open && !signature.is_some_and(is_known) {
        let message = format!("The signature of {} is wrong", signature.unwrap_or("no key"));
        return error(403, "SignatureDoesNotMatch", &message);
    }
    let query = uri.query().unwrap_or_default();
    match method {
        Method::GET if query.contains("list-type=2") => list(&kept, &path, query),
        Method::GET | Method::HEAD => get(&mut kept, &path, &method, &headers),
        Method::PUT => {
            let generation = headers.get("x-goog-if-generation-match");
            let is_new = headers.contains_key("if-none-match")
                || generation.is_some_and(|generation| generation == "0");
            if is_new && kept.objects.contains_key(&path) {
                return error(412, "PreconditionFailed", "It exists");
            }
            let etag = format!("\"{:x}\"", body.len());
            kept.objects.insert(path, body.to_vec());
            Response::builder().header("etag", etag).body(Body::empty()).unwrap()
        }
        _ => error(405, "MethodNotAllowed", "no"),
    }
}

fn get(kept: &mut Kept, path: &str, method: &Method, headers: &HeaderMap) -> Response<Body> {
    let Some(object) = kept.objects.get(path) else { return error(404, "NoSuchKey", "no") };
    let range = headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes="));
    let from = range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0_usize);
    let part = object[from.min(object.len())..].to_vec();
    let mut response = Response::builder()
        .header("etag", format!("\"{:x}\"", object.len()))
        .header("last-modified", DATE)
        .header("content-length", part.len());
    if range.is_some() {
        let all = object.len();
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header("content-range", format!("bytes {from}-{}/{all}", all - 1));
    }
    let body = if *method == Method::HEAD {
        Body::empty()
    } else if kept.breaks > 0 {
        kept.breaks -= 1;
        let half = Bytes::copy_from_slice(&part[..part.len() / 2]);
        Body::from_stream(stream::iter([Ok(half), Err(std::io::Error::other("broken"))]))
    } else {
        part.into()
    };
    response.body(body).unwrap()
}

/// A value of a query.
fn value(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(other, _)| *other == name)?;
    Some(percent_decode_str(value).decode_utf8().unwrap().into_owned())
}

fn list(kept: &Kept, bucket: &str, query: &str) -> Response<Body> {
    let bucket = bucket.trim_end_matches('/');
    let prefix = value(query, "prefix").unwrap_or_default();
    let after = value(query, "continuation-token").unwrap_or_default();
    let keys = kept.objects.iter().filter_map(|(key, object)| {
        let key = key.strip_prefix(bucket)?.strip_prefix('/')?;
        (key.starts_with(&prefix) && key > &*after).then_some((key, object.len()))
    });
    let mut keys: Vec<_> = keys.collect();
    let is_truncated = keys.len() > PAGE;
    keys.truncate(PAGE);
    let contents: String = keys
        .iter()
        .map(|(key, size)| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>\"{size:x}\"</ETag><Size>{size}</Size></Contents>"
            )
        })
        .collect();
    let next = keys.last().filter(|_| is_truncated).map_or_else(String::new, |(key, _)| {
        format!("<NextContinuationToken>{key}</NextContinuationToken>")
    });
    xml(
        200,
        format!(
            "<ListBucketResult><Name>{bucket}</Name><IsTruncated>{is_truncated}</IsTruncated>{next}{contents}\
             </ListBucketResult>"
        ),
    )
}
