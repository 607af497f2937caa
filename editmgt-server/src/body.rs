//! Bodies of requests, bounded in bytes and time.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::app::App;
use crate::error::ApiError;

/// Longest body of JSON, bytes.
const JSON_BYTES: usize = 256 << 10;

/// What is read and dropped of a body that is refused, so that its client gets to read the answer:
/// a connection that is closed with unread bytes is reset.
const DRAINED_BYTES: usize = 16 << 20;
const DRAINED_TIME: Duration = Duration::from_secs(2);

/// Reads and drops the rest of a body, within bounds.
pub(crate) async fn drain<T: AsRef<[u8]>, E>(mut parts: impl Stream<Item = Result<T, E>> + Unpin) {
    let rest = async {
        let mut left = DRAINED_BYTES;
        while let Some(Ok(part)) = parts.next().await {
            left = left.saturating_sub(part.as_ref().len());
            if left == 0 {
                break;
            }
        }
    };
    // A slow client is refused without more ado.
    let _done = timeout(DRAINED_TIME, rest).await;
}

pub(crate) fn slow() -> ApiError {
    let message = "the request took too long to arrive";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
}

/// Reads a body of at most `most` bytes; `limit` names that limit.
///
/// # Errors
/// Status 413 for a longer one, 408 for one that arrives too slowly, 400 for one that breaks off.
pub(crate) async fn read(
    app: &App,
    body: Body,
    headers: &HeaderMap,
    most: usize,
    limit: &str,
) -> Result<Vec<u8>, ApiError> {
    let too_large = || ApiError::too_large(limit, format!("the body is longer than {most} bytes"));
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > most as u64) {
        drain(body.into_data_stream()).await;
        return Err(too_large());
    }
    let limits = &app.options.limits;
    let start = Instant::now();
    // Slow uploads don't hold up the small bodies.
    let _permit = if most > JSON_BYTES {
        Some(app.uploads.acquire().await.map_err(ApiError::internal)?)
    } else {
        None
    };
    let mut bytes = Vec::new();
    let mut parts = body.into_data_stream();
    loop {
        let part = timeout(limits.pause, parts.next()).await.map_err(|_| slow())?;
        let Some(part) = part else { return Ok(bytes) };
        let part =
            part.map_err(|error| ApiError::bad("body", format!("the body broke off: {error}")))?;
        if bytes.len() + part.len() > most {
            drain(parts).await;
            return Err(too_large());
        }
        if start.elapsed() > limits.request_time {
            return Err(slow());
        }
        bytes.extend_from_slice(&part);
    }
}

/// Reads a JSON object with some of these keys. Keys with the value null are absent.
///
/// # Errors
/// Status 415 for another content type; 400 for a body that is not the object, has an unknown key
/// or lacks one.
pub(crate) async fn json<T: DeserializeOwned>(
    app: &App,
    request: Request,
    keys: &[&str],
    required: &[&str],
) -> Result<T, ApiError> {
    typed(json_object(app, request).await?, keys, required)
}

/// Reads a JSON object.
///
/// # Errors
/// As [`json`].
pub(crate) async fn json_object(
    app: &App,
    request: Request,
) -> Result<Map<String, Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    if !content_type.trim().eq_ignore_ascii_case("application/json") {
        let message = format!("Content-Type: expected application/json, got {content_type:?}");
        drain(body.into_data_stream()).await;
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
    }
    let bytes = read(app, body, &parts.headers, JSON_BYTES, "json_bytes").await?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad("json", format!("the body is not JSON: {error}")))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(ApiError::bad("json", "the body is not a JSON object")),
    }
}

fn typed<T: DeserializeOwned>(
    object: Map<String, Value>,
    keys: &[&str],
    required: &[&str],
) -> Result<T, ApiError> {
    if let Some(key) = object.keys().find(|key| !keys.contains(&key.as_str())) {
        let message = format!("{key:?} is no key of this request; expected {}", keys.join(", "));
        return Err(ApiError::bad("unknown_key", message).param(key.clone()));
    }
    let object = editmgt_store::json::plain(object);
    if let Some(key) = required.iter().find(|key| !object.contains_key(**key)) {
        let message = format!("{key}: expected a value, got none");
        return Err(ApiError::bad("missing", message).param(*key));
    }
    editmgt_store::json::from_object(object).map_err(|problem| {
        let key = keys.iter().find(|key| problem.starts_with(**key));
        let error = ApiError::bad("json", problem.clone());
        key.map_or(error.clone(), |key| error.param(*key))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(default)]
    struct Body {
        photo: String,
        look: bool,
    }

    impl Default for Body {
        fn default() -> Self {
            Self { photo: "none".into(), look: false }
        }
    }

    #[test]
    fn bodies_with_other_keys_or_types_are_refused_by_name() {
        let read = |value: Value| {
            let Value::Object(object) = value else { panic!("{value}") };
            typed::<Body>(object, &["photo", "look"], &["photo"])
        };
        let body = read(json!({"photo": "x", "look": null})).unwrap();
        assert_eq!((&*body.photo, body.look), ("x", false));
        for (value, code, param) in [
            (json!({"photo": "x", "foto": 1}), "unknown_key", "foto"),
            (json!({"look": true}), "missing", "photo"),
            (json!({"photo": null}), "missing", "photo"),
            (json!({"photo": "x", "look": 3}), "json", "look"),
            (json!({"photo": ["x"]}), "json", "photo"),
        ] {
            let error = read(value).unwrap_err();
            assert_eq!((error.body.code, error.body.param.as_deref()), (code, Some(param)));
        }
    }
}
