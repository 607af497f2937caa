//! Plans, edits, their events and what they leave.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use editmgt::image::ImageFormat;
use editmgt::{EditRecord, Photo, SaveOptions, content_words};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::ToSchema;

use super::photos::{mask_png, queried};
use super::{code, png, to_json};
use crate::app::{App, Shared, blocking};
use crate::body;
use crate::edit::{Edit, EditView, Event, NewEdit, Outcome, ReportOf, Status};
use crate::engine::{Job, passes};
use crate::error::{ApiError, ErrorAnswer};
use crate::maps::{Area, Region};
use crate::prepare::{self, Prepared};
use crate::store::{StoredMask, StoredPhoto};
use crate::sync::new_id;

/// What is edited, and how.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EditBody {
    #[schema(required = true, pattern = "^[A-Za-z0-9_-]{22}$")]
    photo: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    base: Option<String>,
    /// Needed unless an edit is resumed.
    instruction: String,
    #[schema(value_type = Object)]
    options: Map<String, Value>,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    mask: Option<String>,
    look: bool,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    parent: Option<String>,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    resume: Option<String>,
    model: Option<String>,
}

/// For the description: what a plan is made of, the first keys of [`EditBody`].
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read as an EditBody")]
pub(super) struct PlanBody {
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    photo: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    base: Option<String>,
    /// May be empty.
    #[schema(required = false)]
    instruction: String,
    #[schema(value_type = Object, required = false)]
    options: Map<String, Value>,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    mask: Option<String>,
    model: Option<String>,
}

const KEYS: [&str; 9] =
    ["photo", "base", "instruction", "options", "mask", "model", "look", "parent", "resume"];
/// Of these a plan is made.
const PLAN_KEYS: usize = 6;

/// What a body names.
struct Named {
    photo: Arc<StoredPhoto>,
    base: Option<Arc<Edit>>,
    mask: Option<Arc<StoredMask>>,
    options: BTreeMap<String, String>,
    model: usize,
}

impl Named {
    fn find(app: &App, body: &EditBody) -> Result<Self, ApiError> {
        let photo = app.store.photo(&body.photo).map_err(|error| error.param("photo"))?;
        let base = match &body.base {
            Some(id) => Some(done_of(app, id, &photo).map_err(|error| error.param("base"))?),
            None => None,
        };
        if let Some(base) = base.as_ref().filter(|base| base.size() != photo.photo().size()) {
            // Masks and regions are of the photo.
            let message = format!(
                "base: expected a result of the photo's size, {}, got {}: upload it as a photo",
                photo.photo().size(),
                base.size()
            );
            return Err(ApiError::bad("base", message).param("base"));
        }
        let mask = body.mask.as_ref().map(|id| app.store.mask(id, Some(&photo))).transpose();
        let mask = mask.map_err(|error| error.param("mask"))?;
        let model = app.models.find(body.model.as_deref())?;
        Ok(Self { photo, base, mask, options: prepare::option_texts(&body.options)?, model })
    }
}

/// An edit of this photo.
fn edit_of(app: &App, id: &str, photo: &StoredPhoto) -> Result<Arc<Edit>, ApiError> {
    let edit = app.store.edit(id)?;
    if edit.photo.id == photo.id {
        Ok(edit)
    } else {
        Err(ApiError::not_found("edit of this photo"))
    }
}

fn done_of(app: &App, id: &str, photo: &StoredPhoto) -> Result<Arc<Edit>, ApiError> {
    let edit = edit_of(app, id, photo)?;
    if edit.outcome().is_some() { Ok(edit) } else { Err(not_done()) }
}

fn not_done() -> ApiError {
    ApiError::conflict("not_done", "this edit has no result (yet)")
}

/// What an edit will do.
#[derive(Serialize, ToSchema)]
#[schema(as = Plan)]
pub(super) struct PlanView {
    width: usize,
    height: usize,
    grid: Grid,
    steps: usize,
    /// Of the transformer; a guided step is two.
    passes: usize,
    /// An estimate.
    seconds: Option<f64>,
    /// Edits that run or wait.
    position: usize,
    words: Vec<String>,
}

/// A token grid.
#[derive(Serialize, ToSchema)]
pub(super) struct Grid {
    height: usize,
    width: usize,
}

/// What an edit would do, without running the model.
#[utoipa::path(post, path = "/api/plan", operation_id = "plan_edit", request_body = PlanBody, responses(
    (status = 200, body = PlanView), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer), (status = 415, body = ErrorAnswer),
))]
pub(super) async fn plan(
    State(app): State<Shared>,
    request: Request,
) -> Result<Response, ApiError> {
    let body: EditBody = body::json(&app, request, &KEYS[..PLAN_KEYS], &["photo"]).await?;
    let named = Named::find(&app, &body)?;
    let view = blocking(move || {
        let limits = &app.options.limits;
        let size = named.photo.photo().size();
        let used = app.model(named.model)?;
        let editor = &used.editor;
        let instruction = body.instruction.trim();
        // The page plans before there is an instruction.
        let placeholder = if instruction.is_empty() { "photo" } else { instruction };
        let request = prepare::request(placeholder, &named.options, named.mask.as_deref(), limits)?;
        let (settings, plan) = if instruction.is_empty() {
            prepare::plan(editor, size, &request, limits)?
        } else {
            let Prepared { settings, plan, .. } = prepare::prepare(editor, size, request, limits)?;
            (settings, plan)
        };
        let (model, grid) = (plan.model(), prepare::grid(editor, &plan));
        let passes = passes(&settings);
        Ok(PlanView {
            width: model.width,
            height: model.height,
            grid: Grid { height: grid.height, width: grid.width },
            steps: settings.steps,
            passes,
            seconds: app.queue.seconds(used.model, passes, model.height * model.width),
            position: app.queue.len(),
            words: content_words(instruction).into_iter().map(str::to_owned).collect(),
        })
    });
    to_json(StatusCode::OK, &view.await?)
}

/// Starts an edit.
#[utoipa::path(post, path = "/api/edits", operation_id = "start_edit", request_body = EditBody, responses(
    (status = 202, body = EditView), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer), (status = 415, body = ErrorAnswer), (status = 429, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer),
))]
pub(super) async fn start(
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

/// An edit as it stands.
#[utoipa::path(get, path = "/api/edits/{id}", operation_id = "get_edit", params(("id" = String, Path)), responses(
    (status = 200, body = EditView), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn view(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    to_json(StatusCode::OK, &app.store.edit(&id)?.view())
}

/// The events of an edit.
#[utoipa::path(get, path = "/api/edits/{id}/events", operation_id = "get_edit_events", params(("id" = String, Path)), responses(
    (status = 200, body = Object, content_type = "text/event-stream"), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn events(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    /// Between two comments that keep the connection open.
    const PAUSE: Duration = Duration::from_secs(15);
    let edit = app.store.edit(&id)?;
    let (now, receiver) = edit.subscribe();
    drop(edit);
    let events = all_events(now, receiver)
        .map(|event| Ok::<_, Infallible>(sse::Event::default().event(event.name).data(event.data)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(PAUSE)).into_response())
}

/// The events so far, then those to come until the last.
pub(crate) fn all_events(now: Vec<Event>, receiver: Receiver<Event>) -> impl Stream<Item = Event> {
    let receiver = (!now.iter().any(|event| event.last)).then_some(receiver);
    let rest = stream::unfold(receiver, |receiver| async {
        let mut receiver = receiver?;
        loop {
            match receiver.recv().await {
                Ok(event) => {
                    let rest = (!event.last).then_some(receiver);
                    return Some((event, rest));
                }
                // The last event is among those that are still there.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    stream::iter(now).chain(rest)
}

/// Stops an edit after the step that runs.
#[utoipa::path(post, path = "/api/edits/{id}/cancel", operation_id = "cancel_edit", params(("id" = String, Path)), responses(
    (status = 202, body = EditView), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn cancel(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let edit = app.store.edit(&id)?;
    app.queue.cancel(&Job::Edit(Arc::clone(&edit)));
    to_json(StatusCode::ACCEPTED, &edit.view())
}

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
pub(super) async fn result(
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
pub(super) async fn preview(
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
pub(super) async fn map(
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
pub(super) async fn mask(
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
pub(super) async fn record(
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
pub(super) async fn report(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    to_json(StatusCode::OK, &ReportOf(outcome_of(&app, &id)?.1))
}

/// The same edit on the command line and as a program.
#[utoipa::path(get, path = "/api/edits/{id}/code", operation_id = "get_edit_code", params(("id" = String, Path)), responses(
    (status = 200, body = code::Code), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn code(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let edit = app.store.edit(&id)?;
    to_json(StatusCode::OK, &code::of(&edit, &app.models))
}

/// Other limits on kept maps.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MapsBody {
    #[schema(required = true, pattern = "^[A-Za-z0-9_-]{22}$")]
    edit: String,
    #[schema(value_type = Object)]
    options: Map<String, Value>,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    mask: Option<String>,
}

/// The region that other limits hold.
#[derive(Serialize, ToSchema)]
#[schema(as = Maps)]
pub(super) struct MapsView {
    edit: String,
    grid: Grid,
    area: Area,
    #[serde(flatten)]
    region: Region,
}

/// The options that a region is made of.
const MAP_OPTIONS: [&str; 5] = ["hold", "hold_margin", "keyword", "keyword_maps", "map_filter"];

/// The region for other limits, without running the model.
#[utoipa::path(post, path = "/api/maps", operation_id = "compute_maps", request_body = MapsBody, responses(
    (status = 200, body = MapsView), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer), (status = 415, body = ErrorAnswer),
))]
pub(super) async fn maps(
    State(app): State<Shared>,
    request: Request,
) -> Result<Response, ApiError> {
    let body: MapsBody = body::json(&app, request, &["edit", "options", "mask"], &["edit"]).await?;
    let edit = app.store.edit(&body.edit).map_err(|error| error.param("edit"))?;
    let mask = body.mask.as_ref().map(|id| app.store.mask(id, Some(&edit.photo))).transpose();
    let mask = mask.map_err(|error| error.param("mask"))?;
    let given = prepare::option_texts(&body.options)?;
    if let Some(name) = given.keys().find(|name| !MAP_OPTIONS.contains(&name.as_str())) {
        return Err(ApiError::option("option", MAP_OPTIONS.join(", "), format!("{name:?}")));
    }
    let view = blocking(move || {
        let used = app.model(edit.model)?;
        let editor = &used.editor;
        let mut options = edit.options.clone();
        options.extend(given);
        let limits = &app.options.limits;
        let instruction = &edit.request.instruction;
        let mut request = prepare::request(instruction, &options, mask.as_deref(), limits)?;
        request.score_map = true;
        let settings = editor.settings(&request)?;
        let kept = edit.maps().ok_or_else(|| {
            ApiError::conflict("no_maps", "no maps of this edit are kept: a look makes them")
        })?;
        let grid = prepare::grid(editor, &edit.plan);
        let mask = request.mask.as_ref().map(|mask| mask.on_grid(&edit.plan, grid)).transpose()?;
        let region = kept.region(&settings, mask.as_ref(), grid, &*editor.model().text)?;
        Ok(MapsView {
            edit: edit.id.clone(),
            grid: Grid { height: grid.height, width: grid.width },
            area: Area::of(&edit.plan),
            region,
        })
    });
    to_json(StatusCode::OK, &view.await?)
}
