//! The endpoints of OpenAI's API: clients made for it edit images here.

mod form;
mod images;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::api::to_json;
use crate::app::{App, Shared};
use crate::error::{ApiError, ErrorAnswer};

pub(crate) use images::*;

/// Routes under `/v1`.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/images/edits", post(edit_image))
        .route("/v1/images/generations", post(generate_image))
}

fn model_object(app: &App) -> Value {
    json!({"id": app.options.model_name, "object": "model", "created": 0, "owned_by": "editmgt"})
}

/// The models.
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", responses((status = 200, body = Object)))]
pub(crate) async fn models(State(app): State<Shared>) -> Result<Response, ApiError> {
    to_json(StatusCode::OK, &json!({"object": "list", "data": [model_object(&app)]}))
}

/// A model.
#[utoipa::path(get, path = "/v1/models/{id}", operation_id = "retrieve_model", params(("id" = String, Path)), responses(
    (status = 200, body = Object), (status = 404, body = ErrorAnswer)
))]
pub(crate) async fn model(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    check_model(&app, &id)?;
    to_json(StatusCode::OK, &model_object(&app))
}

/// # Errors
/// Status 404 for another name than this server's model's.
fn check_model(app: &App, name: &str) -> Result<(), ApiError> {
    if name == app.options.model_name {
        return Ok(());
    }
    let message = format!("model: expected {:?}, got {name:?}", app.options.model_name);
    Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).param("model"))
}

/// Images without a photo: not what this version's models do.
#[utoipa::path(post, path = "/v1/images/generations", operation_id = "generate_image", responses((status = 404, body = ErrorAnswer)))]
pub(crate) async fn generate_image() -> ApiError {
    let message = "this server's models edit images: expected a request to /v1/images/edits";
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}
