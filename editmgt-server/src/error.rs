//! Errors as OpenAI's API writes them.

use std::{fmt, io};

use axum::body::to_bytes;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use editmgt::{EditError, Error, Job, PhotoError};
use editmgt_store::StoreError;
use editmgt_text::TokenizerError;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// The answer to a request that fails.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// Boxed: results carry it through every function.
    pub(crate) body: Box<ErrorBody>,
    retry_after: Option<u64>,
}

/// The object `error` of an answer of 400 and above.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What was expected, what came, what to do.
    pub(crate) message: String,
    /// `invalid_request_error`, `authentication_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The option or the key of the body.
    pub(crate) param: Option<String>,
    /// The case.
    pub(crate) code: &'static str,
    #[schema(value_type = Option<Object>)]
    details: Option<Value>,
}

/// The body of an answer of 400 and above.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorAnswer {
    error: ErrorBody,
}

/// Which image an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Photo,
    Mask,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Photo => "photo",
            Self::Mask => "mask",
        }
    }
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let body = ErrorBody { message: message.into(), kind, param: None, code, details: None };
        Self { status, body: Box::new(body), retry_after: None }
    }

    /// Status 400.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Status 400 for an option: `NAME: expected EXPECTED, got GOT`.
    pub(crate) fn option(name: &str, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Self::bad("option", format!("{name}: expected {expected}, got {got}")).param(name)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        let message = format!("there is no such {what}; it may have expired");
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(crate) fn too_large(limit: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).param(limit)
    }

    pub(crate) fn stopping() -> Self {
        let message = "the server shuts down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message)
    }

    pub(crate) fn queue_full(seconds: u64) -> Self {
        let message = format!("the queue is full; try again in {seconds} s");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
        Self { retry_after: Some(seconds), ..error }
    }

    pub(crate) fn storage_full() -> Self {
        let message = "all photos that fit are being edited; try again when an edit has ended";
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "storage_full", message);
        Self { retry_after: Some(10), ..error }
    }

    /// Status 429: the model does not fit beside the one that runs.
    pub(crate) fn model_busy(name: &str) -> Self {
        let message = format!(
            "the model {name:?} does not fit in memory beside the one that is at work; try again later"
        );
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "model_busy", message).param("model");
        Self { retry_after: Some(10), ..error }
    }

    /// Status 500. The reason goes to the log: it may name files of this machine.
    pub(crate) fn internal(reason: impl fmt::Display) -> Self {
        tracing::error!(reason = %reason, "internal error");
        let message = "the server failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Status 507 where the disk is full, otherwise 500. The path goes to the log.
    pub(crate) fn not_written(error: StoreError) -> Self {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match &error {
            StoreError::Io { cause, .. } if full(cause.kind()) => {
                tracing::error!(%error, "the disk is full");
                let message = "the disk of the server is full; delete photos or try again later";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message)
            }
            _ => Self::internal(error),
        }
    }

    #[must_use]
    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.body.param = Some(param.into());
        self
    }

    #[must_use]
    fn details(mut self, details: Value) -> Self {
        self.body.details = Some(details);
        self
    }

    /// The error of a photo or mask that a client sent.
    pub(crate) fn of_photo(error: &PhotoError, role: Role) -> Self {
        let name = role.name();
        match error {
            PhotoError::TooLarge { size, limit, .. } => Self::too_large(
                "photo_megapixels",
                format!("{name}: {size} pixels, the limit is {limit} pixels; make it smaller"),
            ),
            PhotoError::TooMuchMemory { .. } => Self::too_large(
                "photo_megapixels",
                format!(
                    "{name}: decoding it would need more memory than the largest photo; make it smaller"
                ),
            ),
            PhotoError::CanvasTooLarge { .. } => {
                Self::too_large("photo_megapixels", error.to_string())
            }
            PhotoError::FileTooLarge { bytes, limit, .. } => Self::too_large(
                "photo_bytes",
                format!("{name}: {bytes} bytes, the limit is {limit}"),
            ),
            PhotoError::MaskAspect { .. }
            | PhotoError::MaskEmpty { .. }
            | PhotoError::MaskDark { .. } => Self::bad("mask", error.to_string()).param("mask"),
            error => Self::bad(name, error.to_string()).param(name),
        }
    }
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let message = error.to_string();
        match error {
            EditError::Option { option: option @ ("instruction" | "prompt"), .. } => {
                Self::bad("instruction", message).param(option)
            }
            EditError::Option { option, .. } => Self::bad("option", message).param(option),
            EditError::Photo(PhotoError::Value(error)) | EditError::Stage(error) => {
                Self::from(error)
            }
            EditError::Photo(error) => Self::of_photo(&error, Role::Photo),
            EditError::NotTrained { job: Job::Generate, .. } => {
                Self::bad("not_trained", message).param("model")
            }
            EditError::NotTrained { .. } => Self::bad("not_trained", message).param("task"),
            EditError::Stopped(_) => Self::stopping(),
            error => Self::internal(error),
        }
    }
}

impl From<PhotoError> for ApiError {
    fn from(error: PhotoError) -> Self {
        EditError::from(error).into()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::PhraseNotFound { .. } => Self::bad("option", message).param("keyword"),
            Error::Value { what, .. } if what.starts_with("size") => {
                Self::bad("option", message).param("size")
            }
            Error::Value { what, .. } if what.starts_with("resize") => {
                Self::bad("option", message).param("resize")
            }
            Error::Value { what: "photo", .. } => Self::bad("photo", message).param("photo"),
            Error::Stage(cause) => match cause.downcast_ref::<TokenizerError>() {
                Some(TokenizerError::UnknownWords { unknown, words, examples }) => {
                    let details = json!({"unknown": unknown, "words": words, "examples": examples});
                    Self::bad("unknown_words", message).param("instruction").details(details)
                }
                Some(TokenizerError::TooManyWords { .. }) => {
                    Self::bad("instruction", message).param("instruction")
                }
                _ => Self::internal(cause),
            },
            error => Self::internal(error),
        }
    }
}

impl ApiError {
    /// The body as JSON.
    pub(crate) fn to_json(&self) -> String {
        let answer = ErrorAnswer { error: ErrorBody::clone(&self.body) };
        serde_json::to_string(&answer).expect("an error has texts and JSON only")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status, [(CONTENT_TYPE, json)], self.to_json()).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// Longest text of a failure that a layer below answered, bytes.
const REASON_BYTES: usize = 1 << 10;

/// The same answer in the API's shape, where a layer below answered a failure in its own.
pub(crate) async fn in_shape(response: Response) -> Response {
    let status = response.status();
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    let failed = status.is_client_error() || status.is_server_error();
    if !failed || response.headers().get(CONTENT_TYPE).is_some_and(is_json) {
        return response;
    }
    let code = match status {
        StatusCode::METHOD_NOT_ALLOWED => "method",
        StatusCode::NOT_FOUND => "not_found",
        status if status.is_server_error() => "internal",
        _ => "request",
    };
    let message = status.canonical_reason().unwrap_or("the request failed");
    let (parts, body) = response.into_parts();
    // What a layer says of a request says nothing of this machine.
    let reason =
        if status.is_client_error() { to_bytes(body, REASON_BYTES).await.ok() } else { None };
    let reason = reason.as_deref().and_then(|reason| std::str::from_utf8(reason).ok());
    let message = match reason.map(str::trim).filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{message}: {reason}"),
        None => message.to_owned(),
    };
    let mut shaped = ApiError::new(status, code, message).into_response();
    if let Some(allow) = parts.headers.get(ALLOW) {
        shaped.headers_mut().insert(ALLOW, allow.clone());
    }
    shaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_errors_have_their_status_and_code() {
        let unknown = TokenizerError::UnknownWords {
            unknown: vec!["zebra".into()],
            words: vec!["a".into()],
            examples: vec![],
        };
        let missing = Error::PhraseNotFound { phrase: "owl".into(), prompt: "make it".into() };
        let steps = EditError::option("steps", "1 to 4096", "0");
        for (error, status, code, param) in [
            (ApiError::from(Error::stage(unknown)), 400, "unknown_words", Some("instruction")),
            (missing.into(), 400, "option", Some("keyword")),
            (steps.into(), 400, "option", Some("steps")),
            (Error::shape("tokens", 1, 2).into(), 500, "internal", None),
            (ApiError::queue_full(3), 429, "queue_full", None),
        ] {
            assert_eq!((error.status.as_u16(), error.body.code), (status, code));
            assert_eq!(error.body.param.as_deref(), param, "{code}");
        }
    }

    #[test]
    fn internal_errors_name_no_file() {
        let error = ApiError::internal("/home/someone/model.safetensors: damaged");
        assert!(!error.to_json().contains("home"), "{}", error.to_json());
    }
}
