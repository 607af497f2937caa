//! Edits that answer with the image: they stop when the client goes away.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use editmgt::image::imageops::FilterType;
use editmgt::{EditRecord, EditResult, MaskReading, Photo, PixelSize, SaveOptions};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::form::{Asked, Form, Output};
use super::{StreamNames, address_of, completed, now, partial, server_sent, usage};
use crate::api::{all_events, decode_mask, decode_photo, to_json};
use crate::app::{Shared, blocking};
use crate::edit::{Edit, NewEdit};
use crate::engine::Job;
use crate::error::{ApiError, ErrorAnswer, Role};
use crate::prepare::{self, Prepared};
use crate::sync::new_id;

const NAMES: StreamNames =
    StreamNames { partial: "image_edit.partial_image", completed: "image_edit.completed" };

/// Largest relative difference between the proportions of photo and result.
const ASPECT_TOLERANCE: f64 = 0.01;

/// For the description: OpenAI's fields. Options of the library may stand beside them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read as a form")]
struct EditFields {
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    prompt: String,
    #[schema(value_type = Option<String>, format = Binary)]
    mask: Option<Vec<u8>>,
    model: Option<String>,
    #[schema(minimum = 1, maximum = 8)]
    n: Option<u32>,
    size: Option<String>,
    response_format: Option<String>,
    output_format: Option<String>,
    #[schema(minimum = 0, maximum = 100)]
    output_compression: Option<u32>,
    stream: Option<bool>,
    #[schema(minimum = 0, maximum = 3)]
    partial_images: Option<u32>,
}

/// Edits an image and answers with the result.
#[utoipa::path(post, path = "/v1/images/edits", operation_id = "edit_image",
    request_body(content = inline(EditFields), content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Object), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
        (status = 408, body = ErrorAnswer), (status = 413, body = ErrorAnswer), (status = 415, body = ErrorAnswer),
        (status = 429, body = ErrorAnswer), (status = 500, body = ErrorAnswer), (status = 503, body = ErrorAnswer),
    ))]
pub(crate) async fn edit_image(
    State(app): State<Shared>,
    request: Request,
) -> Result<Response, ApiError> {
    let address = address_of(request.headers());
    let form = Form::read(&app, request).await?;
    let Asked { stream, partial_images, size, answer, .. } = form.asked;
    let format = answer.format;
    let running = Running::start(&app, form).await?;
    if stream {
        return Ok(streamed(running, format, size, partial_images));
    }
    let mut data = Vec::with_capacity(running.edits.len());
    for edit in &running.edits {
        let result = ended(edit).await?;
        let mut item = details(&result, edit);
        if answer.as_url {
            item["url"] =
                format!("{address}/api/edits/{}/result?format={}", edit.id, format.name).into();
        } else {
            item["b64_json"] = encoded(Arc::clone(&result), format, size).await?.into();
        }
        data.push(item);
    }
    let mut body = json!({
        "created": now(),
        "data": data,
        "output_format": format.name,
        "usage": tokens(&running.edits),
    });
    if let Some(edit) = running.edits.first() {
        body["size"] = size.unwrap_or(edit.size()).to_string().into();
    }
    if answer.as_url {
        running.keep();
    }
    to_json(StatusCode::OK, &body)
}

/// Edits of a request. Dropped, it stops them and forgets the photo.
struct Running {
    app: Shared,
    photo: String,
    edits: Vec<Arc<Edit>>,
    is_kept: bool,
}

impl Running {
    async fn start(app: &Shared, form: Form) -> Result<Self, ApiError> {
        let Form { image, name, mask, asked } = form;
        let model = app.models.find(asked.model.as_deref())?;
        let limits = app.options.limits.clone();
        let decode = move || {
            let photo = decode_photo(&image, &limits, Role::Photo)?;
            let read = |mask: Vec<u8>| decode_mask(&mask, &photo, MaskReading::Alpha, &limits);
            let mask = mask.map(read).transpose()?;
            Ok((photo, mask))
        };
        let (photo, mask) = app.decode(decode).await?;
        let photo = app.store.add_photo(name, app.models.openable(Arc::new(photo)))?;
        // From here on the photo is forgotten with every failure.
        let mut running = Self {
            app: Arc::clone(app),
            photo: photo.id.clone(),
            edits: Vec::new(),
            is_kept: false,
        };
        let mask = mask.map(|mask| app.store.add_mask(&photo, Arc::new(mask))).transpose()?;
        let shared = Arc::clone(app);
        let new = blocking(move || {
            let limits = &shared.options.limits;
            let Asked { prompt, options, n, size, .. } = asked;
            let request = prepare::request(&prompt, &options, mask.as_deref(), limits)?;
            let first = request.variation;
            let used = shared.model(model)?;
            let prepared = prepare::prepare(&used.editor, photo.photo().size(), request, limits)?;
            let Prepared { request, settings, plan } = prepared;
            if let Some(size) = size {
                check_size(size, plan.photo())?;
            }
            let mut edits = Vec::with_capacity(n as usize);
            for i in 0..n {
                let variation = first.checked_add(i).ok_or_else(|| {
                    ApiError::option("variation", "below 2^32", u64::from(first) + u64::from(i))
                })?;
                let mut settings = settings.clone();
                settings.variation = variation;
                edits.push(NewEdit {
                    id: new_id()?,
                    photo: Arc::clone(&photo),
                    model,
                    model_name: shared.models.name(model).to_owned(),
                    base: None,
                    parent: None,
                    mask: mask.clone(),
                    look: false,
                    request: request.clone().variation(variation),
                    options: options.clone(),
                    settings,
                    plan,
                    resume: None,
                    previews: asked.partial_images > 0,
                });
            }
            Ok(edits)
        });
        running.edits = app.start(new.await?)?;
        Ok(running)
    }

    /// Keeps the results for requests to come.
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_kept {
            // It may have expired.
            let _gone = self.app.forget_photo(&self.photo);
            for edit in &self.edits {
                self.app.queue.cancel(&Job::Edit(Arc::clone(edit)));
            }
        }
    }
}

/// The result's size has the photo's proportions.
fn check_size(size: PixelSize, photo: PixelSize) -> Result<(), ApiError> {
    let (wanted, own) =
        (size.width as f64 / size.height as f64, photo.width as f64 / photo.height as f64);
    if (wanted / own - 1.0).abs() <= ASPECT_TOLERANCE {
        return Ok(());
    }
    let expected = format!("auto or a size with the proportions of the image, which has {photo}");
    Err(ApiError::option("size", expected, size))
}

/// Waits for the end of an edit.
async fn ended(edit: &Edit) -> Result<Arc<EditResult>, ApiError> {
    let (now, receiver) = edit.subscribe();
    let mut events = std::pin::pin!(all_events(now, receiver));
    while let Some(event) = events.next().await {
        if event.last {
            break;
        }
    }
    outcome(edit)
}

/// What an edit that has ended gives.
fn outcome(edit: &Edit) -> Result<Arc<EditResult>, ApiError> {
    match (edit.result(), edit.error()) {
        (Some(result), _) => Ok(result),
        (None, Some(error)) => Err(error),
        // Only a server that shuts down stops it, as long as the client is there.
        (None, None) => Err(ApiError::stopping()),
    }
}

/// The result as base64 of a file.
async fn encoded(
    result: Arc<EditResult>,
    output: Output,
    size: Option<PixelSize>,
) -> Result<String, ApiError> {
    blocking(move || {
        let Output { format, quality, .. } = output;
        let record = EditRecord::from(&result.report).png_text();
        let save = SaveOptions::default().with_jpeg_quality(quality).with_text(record);
        let bytes = match size.filter(|size| *size != result.image.size()) {
            None => result.image.encode_with(format, &save)?,
            Some(PixelSize { height, width }) => {
                let image = result.image.clone().into_dynamic();
                let image = image.resize_exact(width as u32, height as u32, FilterType::CatmullRom);
                Photo::try_from(image)?.encode_with(format, &save)?
            }
        };
        Ok(STANDARD.encode(bytes))
    })
    .await
}

/// What OpenAI's answers don't have.
fn details(result: &EditResult, edit: &Edit) -> Value {
    let report = &result.report;
    json!({"editmgt": {
        "seed": report.settings.seed,
        "variation": edit.settings.variation,
        "tokens_held": report.tokens_held,
        "pixels_kept": report.pixels_kept,
    }})
}

fn tokens(edits: &[Arc<Edit>]) -> Value {
    let tokens = |edit: &Arc<Edit>| edit.result().map_or(0, |result| result.report.grid.len());
    usage(edits.first().map_or(0, tokens), edits.iter().map(tokens).sum())
}

/// Previews and the result as events.
fn streamed(running: Running, output: Output, size: Option<PixelSize>, previews: u32) -> Response {
    let Some(edit) = running.edits.first().cloned() else {
        return ApiError::internal("a stream without an edit").into_response();
    };
    let (now, receiver) = edit.subscribe();
    let events = all_events(now, receiver);
    // The edits are part of the stream: they stop when it is dropped.
    let state = (Box::pin(events), running, edit, 0_u32);
    server_sent(stream::unfold(Some(state), move |state| async move {
        let (mut events, running, edit, mut sent) = state?;
        while let Some(event) = events.next().await {
            if event.name == "preview" && sent < previews {
                let answer = partial(NAMES, &event, edit.size(), sent);
                sent += 1;
                return Some((answer, Some((events, running, edit, sent))));
            }
            if event.last {
                let answer = last(&edit, &running, output, size).await;
                let size = size.unwrap_or(edit.size());
                return Some((completed(NAMES, answer, output.name, size), None));
            }
        }
        None
    }))
}

async fn last(
    edit: &Arc<Edit>,
    running: &Running,
    output: Output,
    size: Option<PixelSize>,
) -> Result<Value, ApiError> {
    let result = outcome(edit)?;
    let mut answer = details(&result, edit);
    answer["b64_json"] = encoded(result, output, size).await?.into();
    answer["usage"] = tokens(&running.edits);
    Ok(answer)
}
