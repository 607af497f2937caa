//! Who may ask: Host, Origin and token, and the headers that every answer has.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::app::Shared;
use crate::body;
use crate::error::{ApiError, in_shape};
use crate::options::ServerOptions;
use crate::page;

const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Checks of each request.
pub(crate) struct Guard {
    /// Of the token: the comparison takes the same time for every token of every length.
    token: Option<[u8; 32]>,
    host_names: Vec<String>,
}

impl Guard {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        let token = options.token.as_ref().map(|token| Sha256::digest(token.as_bytes()).into());
        let host_names = options.host_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { token, host_names }
    }

    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let host = self.host(request)?;
        let headers = request.headers();
        let path = request.uri().path();
        origin(headers, host, page::is_page(path))?;
        if needs_token(path) { self.token(headers) } else { Ok(()) }
    }

    /// The `Host` of a request. A page of another site can reach this server by a name that it
    /// points here (DNS rebinding), but then `Host` is that name.
    fn host<'a>(&self, request: &'a Request) -> Result<&'a str, ApiError> {
        let wrong = |got: &str| {
            let message = format!(
                "Host: expected localhost, an address or a name that the server was started with \
                 (--host-name), got {got:?}"
            );
            ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host", message)
        };
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).ok_or_else(|| wrong(""))?;
        let of_target = request.uri().authority().is_none_or(|target| target.as_str() == host);
        if hosts.next().is_some() || !of_target || !self.is_own(host) {
            return Err(wrong(host));
        }
        Ok(host)
    }

    fn is_own(&self, host: &str) -> bool {
        let Some(name) = name_of(host) else { return false };
        let name = name.to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.host_names.contains(&name)
    }

    fn token(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(expected) = &self.token else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        let given: [u8; 32] = Sha256::digest(given).into();
        if bool::from(given.ct_eq(expected)) {
            return Ok(());
        }
        let message = "expected the server's token in the header Authorization: Bearer TOKEN";
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "token", message))
    }
}

/// Whether requests to a path carry the token, where the server has one.
pub(crate) fn needs_token(path: &str) -> bool {
    path != "/health" && path != "/ready" && !page::is_page(path)
}

/// The name or address in a `Host`, without the port.
fn name_of(host: &str) -> Option<&str> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        return is_port(port.strip_prefix(':').unwrap_or(port)).then_some(address);
    }
    match host.split_once(':') {
        Some((name, port)) => is_port(port).then_some(name),
        None => Some(host),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Pages of other sites may not ask, not even without reading the answer.
fn origin(headers: &HeaderMap, host: &str, is_page: bool) -> Result<(), ApiError> {
    let refuse = |got: &str| {
        let message = format!("Origin: expected this server's own pages, got {got:?}");
        Err(ApiError::new(StatusCode::FORBIDDEN, "origin", message))
    };
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
            return refuse(origin);
        }
    }
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    match site {
        // A link to the page is no attack.
        Some(site @ ("cross-site" | "same-site")) if !is_page => refuse(site),
        _ => Ok(()),
    }
}

/// Checks a request, and gives its answer the headers of all answers.
pub(crate) async fn guarded(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let response = match app.guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            body::drain(request.into_body().into_data_stream()).await;
            error.into_response()
        }
    };
    let mut response = in_shape(response).await;
    app.metrics.request(response.status().as_u16());
    let headers = response.headers_mut();
    let fixed = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn guard(token: Option<&str>) -> Guard {
        Guard::new(&ServerOptions {
            token: token.map(str::to_owned),
            host_names: vec!["Images.Example".into()],
            ..ServerOptions::default()
        })
    }

    fn refused(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> Option<&'static str> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        guard.check(&request).err().map(|error| error.body.code)
    }

    #[test]
    fn only_own_names_and_addresses_are_hosts() {
        let guard = guard(None);
        for host in [
            "localhost",
            "LOCALHOST:8420",
            "127.0.0.1:1",
            "[::1]:8420",
            "10.0.0.7",
            "images.example:443",
        ] {
            assert_eq!(refused(&guard, "/api/model", &[("host", host)]), None, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost:80@evil",
            "[::1",
            "127.0.0.1.evil",
        ] {
            assert_eq!(refused(&guard, "/api/model", &[("host", host)]), Some("host"), "{host}");
        }
        assert_eq!(refused(&guard, "/health", &[]), Some("host"));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(refused(&guard, "/health", &two), Some("host"));
        let target = "http://evil.example/health";
        assert_eq!(refused(&guard, target, &[("host", "localhost")]), Some("host"));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let guard = guard(None);
        let origin = |origin| {
            refused(&guard, "/api/edits", &[("host", "localhost:8420"), ("origin", origin)])
        };
        assert_eq!(origin("http://localhost:8420"), None);
        assert_eq!(origin("https://localhost:8420"), None);
        for other in [
            "http://localhost:3000",
            "http://evil.example",
            "null",
            "http://127.0.0.1:8420",
            "localhost:8420",
        ] {
            assert_eq!(origin(other), Some("origin"), "{other}");
        }
        let site =
            |path, site| refused(&guard, path, &[("host", "localhost"), ("sec-fetch-site", site)]);
        assert_eq!(site("/api/model", "cross-site"), Some("origin"));
        assert_eq!(site("/api/model", "same-origin"), None);
        assert_eq!(site("/", "cross-site"), None);
    }

    #[test]
    fn token_is_needed_but_for_page_and_health() {
        let guard = guard(Some("0123456789abcdef"));
        let with =
            |path, value| refused(&guard, path, &[("host", "localhost"), ("authorization", value)]);
        assert_eq!(with("/api/model", "Bearer 0123456789abcdef"), None);
        for wrong in [
            "",
            "Bearer ",
            "Bearer 0123456789abcdeg",
            "0123456789abcdef",
            "Bearer 0123456789abcdef0",
        ] {
            assert_eq!(with("/api/model", wrong), Some("token"), "{wrong}");
            assert_eq!(with("/metrics", wrong), Some("token"), "{wrong}");
            assert_eq!(with("/v1/models", wrong), Some("token"), "{wrong}");
        }
        for path in ["/", "/health", "/ready", "/app.js"] {
            assert_eq!(with(path, ""), None, "{path}");
        }
    }
}
