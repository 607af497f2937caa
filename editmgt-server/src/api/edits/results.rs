//! The endpoints of what edits leave.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use editmgt::image::ImageFormat;
use editmgt::{EditRecord, Photo, SaveOptions};
use utoipa::ToSchema;

use super::not_done;
use crate::api::photos::{mask_png, queried};
use crate::api::{code, png, to_json};
use crate::app::{App, Shared, blocking};
use crate::edit::{Edit, Outcome, ReportOf};
use crate::error::{ApiError, ErrorAnswer};

fn outcome_of(app: &App, id: &str) -> Result<(Arc<Edit>, Outcome), ApiError> {
    let edit = app.store.edit(id)?;
    let outcome = edit.outcome().ok_or_else(not_done)?;
    Ok((edit, outcome))
}

/// For the description: the names in [`FORMATS`].
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read as a text")]
enum ResultFormat {
    Png,
    Jpeg,
    WebP,
    Tiff,
}

/// The formats of results: name, type, format.
const FORMATS: [(&str, &str, ImageFormat); 4] = [
    ("png", "image/png", ImageFormat::Png),
    ("jpeg", "image/jpeg", ImageFormat::Jpeg),
    ("webp", "image/webp", ImageFormat::WebP),
    ("tiff", "image/tiff", ImageFormat::Tiff),
];

/// The edited photo.
#[utoipa::path(get, path = "/api/edits/{id}/result", operation_id = "get_edit_result",
    params(("id" = String, Path), ("format" = inline(Option<ResultFormat>), Query, description = "png by default")),
    responses(
        (status = 200, content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/tiff"),
        )),
        (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer), (status = 409, body = ErrorAnswer),
    ))]
pub(crate) async fn result(
    State(app): State<Shared>,
    Path(id): Path<String>,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> Result<Response, ApiError> {
    let format = queried(query, "format")?.unwrap_or_else(|| "png".to_owned());
    let known = FORMATS.iter().find(|(name, ..)| *name == format);
    let &(_, kind, format) = known.ok_or_else(|| {
        let names = FORMATS.map(|(name, ..)| name).join(", ");
        ApiError::option("format", names, format!("{format:?}"))
    })?;
    let (_, outcome) = outcome_of(&app, &id)?;
    let encode = move || {
        let (of_file, image, record);
        match &outcome {
            Outcome::Live(result) => {
                image = &result.image;
                record = EditRecord::from(&result.report).png_text();
            }
            Outcome::Archived(archive) => {
                let png = archive.result()?;
                if format == ImageFormat::Png {
                    return Ok(png);
                }
                of_file = Photo::from_bytes(&png).map_err(ApiError::internal)?;
                image = &of_file;
                record = archive.record.png_text();
            }
        }
        Ok(image.encode_with(format, &SaveOptions::default().with_text(record))?)
    };
    Ok(([(CONTENT_TYPE, kind)], blocking(encode).await?).into_response())
}

/// The latest preview.
#[utoipa::path(get, path = "/api/edits/{id}/preview", operation_id = "get_edit_preview", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "image/png"), (status = 404, body = ErrorAnswer)
))]
pub(crate) async fn preview(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let preview = app.store.edit(&id)?.preview();
    Ok(png(preview.ok_or_else(|| ApiError::not_found("preview (yet)"))?))
}

/// Score map and held region over the photo.
#[utoipa::path(get, path = "/api/edits/{id}/map", operation_id = "get_edit_map", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "image/png"), (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer),
))]
pub(crate) async fn map(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (edit, outcome) = outcome_of(&app, &id)?;
    let render = move || match &outcome {
        Outcome::Live(result) => {
            let source = edit.source(&app.models)?;
            let overlay = result.overlay(source.photo())?;
            Ok(overlay.encode(ImageFormat::Png)?)
        }
        Outcome::Archived(archive) => archive.map(),
    };
    Ok(png(blocking(render).await?))
}

/// The mask of an edit.
#[utoipa::path(get, path = "/api/edits/{id}/mask", operation_id = "get_edit_mask", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "image/png"), (status = 404, body = ErrorAnswer)
))]
pub(crate) async fn mask(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let mask = app
        .store
        .edit(&id)?
        .mask
        .clone()
        .ok_or_else(|| ApiError::not_found("mask of this edit"))?;
    Ok(png(blocking(move || mask_png(&mask.mask)).await?))
}

/// The record of an edit: what repeats it.
#[utoipa::path(get, path = "/api/edits/{id}/record", operation_id = "get_edit_record", params(("id" = String, Path)), responses(
    (status = 200, body = Object), (status = 404, body = ErrorAnswer), (status = 409, body = ErrorAnswer)
))]
pub(crate) async fn record(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    match outcome_of(&app, &id)?.1 {
        Outcome::Live(result) => to_json(StatusCode::OK, &EditRecord::from(&result.report)),
        Outcome::Archived(archive) => to_json(StatusCode::OK, &archive.record),
    }
}

/// The report of an edit.
#[utoipa::path(get, path = "/api/edits/{id}/report", operation_id = "get_edit_report", params(("id" = String, Path)), responses(
    (status = 200, body = Object), (status = 404, body = ErrorAnswer), (status = 409, body = ErrorAnswer)
))]
pub(crate) async fn report(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    to_json(StatusCode::OK, &ReportOf(outcome_of(&app, &id)?.1))
}

/// The same edit on the command line and as a program.
#[utoipa::path(get, path = "/api/edits/{id}/code", operation_id = "get_edit_code", params(("id" = String, Path)), responses(
    (status = 200, body = code::Code), (status = 404, body = ErrorAnswer)
))]
pub(crate) async fn code(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let edit = app.store.edit(&id)?;
    to_json(StatusCode::OK, &code::of(&edit, &app.models))
}
