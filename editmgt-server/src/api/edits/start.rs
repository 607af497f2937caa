//! The endpoint that starts and resumes edits.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::Response;

use super::request::{EditBody, KEYS, Named, edit_of};
use crate::api::to_json;
use crate::app::{App, Shared, blocking};
use crate::body;
use crate::edit::{EditView, NewEdit, Status};
use crate::error::{ApiError, ErrorAnswer};
use crate::prepare::{self, Prepared};
use crate::sync::new_id;

/// Starts an edit.
#[utoipa::path(post, path = "/api/edits", operation_id = "start_edit", request_body = EditBody, responses(
    (status = 202, body = EditView), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer), (status = 415, body = ErrorAnswer), (status = 429, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer),
))]
pub(crate) async fn start(
    State(app): State<Shared>,
    request: Request,
) -> Result<Response, ApiError> {
    let body: EditBody = body::json(&app, request, &KEYS, &["photo"]).await?;
    let shared = Arc::clone(&app);
    let new = blocking(move || match &body.resume {
        Some(id) => resumed(&shared, &body, id),
        None => new_edit(&shared, body),
    });
    let edit = app
        .start(vec![new.await?])?
        .pop()
        .ok_or_else(|| ApiError::internal("no edit was started"))?;
    let mut response = to_json(StatusCode::ACCEPTED, &edit.view())?;
    let location = format!("/api/edits/{}", edit.id).parse().map_err(ApiError::internal)?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn new_edit(app: &App, body: EditBody) -> Result<NewEdit, ApiError> {
    let Named { photo, base, mask, options, model } = Named::find(app, &body)?;
    if body.instruction.trim().is_empty() {
        let message = "instruction: expected some words, got nothing";
        return Err(ApiError::bad("instruction", message).param("instruction"));
    }
    if let Some(parent) = &body.parent {
        edit_of(app, parent, &photo).map_err(|error| error.param("parent"))?;
    }
    let limits = &app.options.limits;
    let mut request = prepare::request(&body.instruction, &options, mask.as_deref(), limits)?;
    request.score_map |= body.look;
    let size = photo.photo().size();
    let used = app.model(model)?;
    let Prepared { request, settings, plan } =
        prepare::prepare(&used.editor, size, request, limits)?;
    let parent = body.parent.or_else(|| body.base.clone());
    Ok(NewEdit {
        id: new_id()?,
        photo,
        model,
        model_name: app.models.name(model).to_owned(),
        base,
        parent,
        mask,
        look: body.look,
        request,
        options,
        settings,
        plan,
        resume: None,
        previews: !body.look,
    })
}

/// The rest of a stopped edit.
fn resumed(app: &App, body: &EditBody, id: &str) -> Result<NewEdit, ApiError> {
    let photo = app.store.photo(&body.photo).map_err(|error| error.param("photo"))?;
    let other = body.base.is_some() || body.mask.is_some() || body.parent.is_some();
    let other = other || body.look || body.model.is_some();
    if other || !body.instruction.is_empty() || !body.options.is_empty() {
        let message = "resume: expected only photo beside it; the rest is that of the stopped edit";
        return Err(ApiError::bad("json", message).param("resume"));
    }
    let edit = edit_of(app, id, &photo).map_err(|error| error.param("resume"))?;
    if edit.status() != Status::Stopped {
        let message =
            format!("resume: expected a stopped edit, got one that is {}", edit.status().name());
        return Err(ApiError::conflict("not_stopped", message).param("resume"));
    }
    Ok(NewEdit {
        id: new_id()?,
        photo,
        model: edit.model,
        model_name: edit.model_name.clone(),
        base: edit.base.clone(),
        parent: edit.parent.clone(),
        mask: edit.mask.clone(),
        look: edit.look,
        request: edit.request.clone(),
        options: edit.options.clone(),
        settings: edit.settings.clone(),
        plan: edit.plan,
        resume: edit.stopped(),
        previews: edit.previews,
    })
}
