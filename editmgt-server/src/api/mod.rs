//! The page's endpoints: `API.md` is the contract.

mod code;
mod edits;
mod model;
mod photos;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

pub(crate) use edits::all_events;
pub(crate) use model::{known_instruction, view as model_view};
pub(crate) use photos::{decode_mask, decode_photo, file_name};

use crate::app::Shared;
use crate::edit::{EditView, Status};
use crate::error::{ApiError, ErrorAnswer};
use crate::{guard, openai};

/// Routes of the page and of the operators.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/openapi.json", get(description))
        .route("/api/model", get(model::model))
        .route("/api/examples", get(model::examples))
        .route("/api/examples/{id}", get(model::example))
        .route("/api/photos", post(photos::add))
        .route("/api/photos/{id}", get(photos::view).delete(photos::remove))
        .route("/api/photos/{id}/image", get(photos::image))
        .route("/api/photos/{id}/masks", post(photos::add_mask))
        .route("/api/masks/{id}", get(photos::mask))
        .route("/api/plan", post(edits::plan))
        .route("/api/edits", post(edits::start))
        .route("/api/edits/{id}", get(edits::view))
        .route("/api/edits/{id}/events", get(edits::events))
        .route("/api/edits/{id}/cancel", post(edits::cancel))
        .route("/api/edits/{id}/result", get(edits::result))
        .route("/api/edits/{id}/preview", get(edits::preview))
        .route("/api/edits/{id}/map", get(edits::map))
        .route("/api/edits/{id}/mask", get(edits::mask))
        .route("/api/edits/{id}/record", get(edits::record))
        .route("/api/edits/{id}/report", get(edits::report))
        .route("/api/edits/{id}/code", get(edits::code))
        .route("/api/maps", post(edits::maps))
}

/// The description of all endpoints.
#[derive(OpenApi)]
#[openapi(
    info(title = "editmgt", description = "Edit images by instruction"),
    paths(
        health,
        ready,
        metrics,
        model::model,
        model::examples,
        model::example,
        photos::add,
        photos::view,
        photos::remove,
        photos::image,
        photos::add_mask,
        photos::mask,
        edits::plan,
        edits::start,
        edits::view,
        edits::events,
        edits::cancel,
        edits::result,
        edits::preview,
        edits::map,
        edits::mask,
        edits::record,
        edits::report,
        edits::code,
        edits::maps,
        openai::models,
        openai::model,
        openai::edit_image,
        openai::generate_image,
    ),
    components(schemas(EditView, Status, ErrorAnswer))
)]
struct Description;

async fn description(State(app): State<Shared>) -> Result<Response, ApiError> {
    let mut description =
        serde_json::to_value(Description::openapi()).map_err(ApiError::internal)?;
    if app.options.token.is_some() {
        describe_token(&mut description);
    }
    to_json(StatusCode::OK, &description)
}

/// Adds the token, and the answer to requests without it.
fn describe_token(description: &mut Value) {
    description["components"]["securitySchemes"] =
        json!({"token": {"type": "http", "scheme": "bearer"}});
    description["security"] = json!([{"token": []}]);
    let refused = json!({
        "description": "Without the token",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}},
    });
    let paths = description["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if guard::needs_token(path) {
                operation["responses"]["401"] = refused.clone();
            } else {
                operation["security"] = json!([]);
            }
        }
    }
}

/// An answer as JSON.
///
/// # Errors
/// Status 500 for a value that JSON can't express.
pub(crate) fn to_json(status: StatusCode, value: &impl Serialize) -> Result<Response, ApiError> {
    let text = serde_json::to_string(value).map_err(ApiError::internal)?;
    Ok((status, [(CONTENT_TYPE, "application/json")], text).into_response())
}

pub(crate) fn png(bytes: impl Into<axum::body::Body>) -> Response {
    ([(CONTENT_TYPE, "image/png")], bytes.into()).into_response()
}

/// Whether the program runs.
#[utoipa::path(get, path = "/health", operation_id = "health", responses((status = 200, body = Object)))]
async fn health() -> Result<Response, ApiError> {
    to_json(StatusCode::OK, &json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// Whether edits are accepted.
#[utoipa::path(get, path = "/ready", operation_id = "ready", responses(
    (status = 200, body = Object), (status = 503, body = ErrorAnswer)
))]
async fn ready(State(app): State<Shared>) -> Result<Response, ApiError> {
    if app.queue.is_closed() {
        return Err(ApiError::stopping());
    }
    to_json(StatusCode::OK, &json!({"status": "ready", "queue": app.queue.len()}))
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(app): State<Shared>) -> Result<Response, ApiError> {
    let text = app.metrics.encode(app.store.usage(), app.queue.len(), app.models.loaded());
    let text = text.map_err(ApiError::internal)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}
