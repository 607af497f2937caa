//! The endpoints of OpenAI's API: clients made for it edit and generate images here.

mod edits;
mod form;
mod generations;

use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use editmgt::PixelSize;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};

use crate::api::to_json;
use crate::app::Shared;
use crate::edit::Event;
use crate::error::{ApiError, ErrorAnswer};

pub(crate) use edits::*;
pub(crate) use generations::*;

/// Routes under `/v1`.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/images/edits", post(edit_image))
        .route("/v1/images/generations", post(generate_image))
}

fn model_object(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "editmgt"})
}

/// The models.
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", responses((status = 200, body = Object)))]
pub(crate) async fn models(State(app): State<Shared>) -> Result<Response, ApiError> {
    let models: Vec<_> = app.models.names().map(model_object).collect();
    to_json(StatusCode::OK, &json!({"object": "list", "data": models}))
}

/// A model.
#[utoipa::path(get, path = "/v1/models/{id}", operation_id = "retrieve_model", params(("id" = String, Path)), responses(
    (status = 200, body = Object), (status = 404, body = ErrorAnswer)
))]
pub(crate) async fn model(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    app.models.find(Some(&id))?;
    to_json(StatusCode::OK, &model_object(&id))
}

/// How the client reaches this server.
fn address_of(headers: &HeaderMap) -> String {
    // The guard has checked the name.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Tokens of images: the text has no count that models share.
fn usage(input: usize, output: usize) -> Value {
    json!({
        "input_tokens": input,
        "output_tokens": output,
        "total_tokens": input + output,
        "input_tokens_details": {"image_tokens": input, "text_tokens": 0},
    })
}

/// What is streamed: an edit or a generation.
#[derive(Debug, Clone, Copy)]
struct StreamNames {
    partial: &'static str,
    completed: &'static str,
}

/// A preview as an event.
fn partial(names: StreamNames, event: &Event, size: PixelSize, index: u32) -> NamedEvent {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let image = data["image"].as_str().and_then(|url| url.split_once("base64,"));
    let answer = json!({
        "type": names.partial,
        "b64_json": image.map_or("", |(_, base64)| base64),
        "created_at": now(),
        "output_format": "png",
        "background": "auto",
        "quality": "auto",
        "size": size.to_string(),
        "partial_image_index": index,
    });
    (names.partial, answer)
}

/// The last event: the result, or the error.
fn completed(
    names: StreamNames,
    answer: Result<Value, ApiError>,
    format: &str,
    size: PixelSize,
) -> NamedEvent {
    match answer {
        Ok(mut answer) => {
            answer["type"] = names.completed.into();
            answer["created_at"] = now().into();
            answer["output_format"] = format.into();
            answer["background"] = "auto".into();
            answer["quality"] = "auto".into();
            answer["size"] = size.to_string().into();
            (names.completed, answer)
        }
        Err(error) => {
            let mut answer: Value = serde_json::from_str(&error.to_json()).unwrap_or_default();
            answer["type"] = "error".into();
            ("error", answer)
        }
    }
}

/// The name of an event and its data.
type NamedEvent = (&'static str, Value);

fn server_sent(events: impl Stream<Item = NamedEvent> + Send + 'static) -> Response {
    let events = events.map(|(name, data)| {
        Ok::<_, Infallible>(sse::Event::default().event(name).data(data.to_string()))
    });
    Sse::new(events).keep_alive(KeepAlive::new()).into_response()
}
