//! The page's files, part of the program.

use std::sync::LazyLock;

use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// A file of `page/`.
struct File {
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(File { name: $name, bytes: include_bytes!(concat!("../page/", $name)) }),+]
    };
}

const INDEX: &str = "index.html";

const FILES: &[File] = files![
    "answer.js",
    "api.js",
    "app.js",
    "brush.js",
    "dom.js",
    "history.js",
    "icon.svg",
    "index.html",
    "models.js",
    "options.js",
    "overlay.js",
    "photo.js",
    "plan.js",
    "request.js",
    "result.js",
    "run.js",
    "save.js",
    "state.js",
    "style.css",
    "task.js",
    "view.js",
    "where.js",
];

/// One tag for all files: they change together.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for file in FILES {
        hash.update(file.bytes);
    }
    let hash = hash.finalize();
    format!(
        "\"{:016x}\"",
        hash.iter().take(8).fold(0_u64, |tag, &byte| (tag << 8) | u64::from(byte))
    )
});

fn find(path: &str) -> Option<&'static File> {
    let name = if path == "/" { INDEX } else { path.strip_prefix('/')? };
    FILES.iter().find(|file| file.name == name)
}

/// Whether a path is a file of the page.
pub(crate) fn is_page(path: &str) -> bool {
    find(path).is_some()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Answers with a file of the page; every other path does not exist.
pub(crate) async fn answer(request: Request) -> Result<Response, ApiError> {
    let Some(file) = find(request.uri().path()) else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such path"));
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok((StatusCode::METHOD_NOT_ALLOWED, [("allow", "GET, HEAD")]).into_response());
    }
    let mut headers = HeaderMap::new();
    let tag = HeaderValue::from_str(&TAG).map_err(ApiError::internal)?;
    let is_known = request.headers().get_all(IF_NONE_MATCH).iter().any(|known| known == tag);
    headers.insert(ETAG, tag);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(file.name)));
    Ok((headers, file.bytes).into_response())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let names: BTreeSet<_> = names.map(|name| name.into_string().unwrap()).collect();
        let served: BTreeSet<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(names, served);
        for file in FILES {
            assert_ne!(content_type(file.name), "application/octet-stream", "{}", file.name);
        }
        assert!(
            is_page("/") && is_page("/app.js") && !is_page("/../Cargo.toml") && !is_page("app.js")
        );
    }
}
