//! Images from text: they stop when the client goes away.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use editmgt::{GenerateRecord, GenerateResult, PixelSize, SaveOptions};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::form::{Asked, Output};
use super::{StreamNames, address_of, completed, now, partial, server_sent, usage};
use crate::api::{all_events, to_json};
use crate::app::{Shared, blocking};
use crate::engine::Job;
use crate::error::{ApiError, ErrorAnswer};
use crate::generation::Generation;
use crate::prepare;
use crate::sync::new_id;

const NAMES: StreamNames = StreamNames {
    partial: "image_generation.partial_image",
    completed: "image_generation.completed",
};

/// For the description: OpenAI's keys. Options of the library may stand beside them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read as an object")]
struct GenerationFields {
    #[schema(min_length = 1)]
    prompt: String,
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

/// Generates images from text, with a model that was trained for it.
#[utoipa::path(post, path = "/v1/images/generations", operation_id = "generate_image",
    request_body(content = inline(GenerationFields), content_type = "application/json"),
    responses(
        (status = 200, body = Object), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
        (status = 408, body = ErrorAnswer), (status = 413, body = ErrorAnswer), (status = 415, body = ErrorAnswer),
        (status = 429, body = ErrorAnswer), (status = 500, body = ErrorAnswer), (status = 503, body = ErrorAnswer),
    ))]
pub(crate) async fn generate_image(
    State(app): State<Shared>,
    request: Request,
) -> Result<Response, ApiError> {
    let address = address_of(request.headers());
    let asked = Asked::read(&app, request).await?;
    let Asked { stream, partial_images, answer, .. } = asked;
    let running = Running::start(&app, asked).await?;
    let mut events = Box::pin(all_events(Vec::new(), running.generation.subscribe()));
    app.queue.push(vec![Job::Generate(Arc::clone(&running.generation))])?;
    let format = answer.format;
    if stream {
        let state = (events, running, 0_u32);
        return Ok(server_sent(stream::unfold(Some(state), move |state| async move {
            let (mut events, running, mut sent) = state?;
            let size = running.size();
            while let Some(event) = events.next().await {
                if event.name == "preview" && sent < partial_images {
                    let answer = partial(NAMES, &event, size, sent);
                    sent += 1;
                    return Some((answer, Some((events, running, sent))));
                }
                if event.last {
                    let answer = last(&running, format).await;
                    return Some((completed(NAMES, answer, format.name, size), None));
                }
            }
            None
        })));
    }
    while let Some(event) = events.next().await {
        if event.last {
            break;
        }
    }
    let result = running.generation.outcome()?;
    let mut data = Vec::with_capacity(result.images.len());
    for image in 0..result.images.len() {
        let mut item = details(&result, image);
        if answer.as_url {
            // It can be edited, too.
            let photo = Arc::new(result.images[image].image.clone());
            let name = format!("generated-{}.png", result.images[image].variation);
            let photo = app.store.add_photo(name, app.models.openable(photo))?;
            item["url"] = format!("{address}/api/photos/{}/image", photo.id).into();
        } else {
            item["b64_json"] = encoded(Arc::clone(&result), image, format).await?.into();
        }
        data.push(item);
    }
    let body = json!({
        "created": now(),
        "data": data,
        "output_format": if answer.as_url { "png" } else { format.name },
        "size": running.size().to_string(),
        "usage": tokens(&result),
    });
    to_json(StatusCode::OK, &body)
}

/// The generation of a request. Dropped, it stops.
struct Running {
    app: Shared,
    generation: Arc<Generation>,
}

impl Running {
    async fn start(app: &Shared, asked: Asked) -> Result<Self, ApiError> {
        let Asked { prompt, n, size, answer, partial_images, model, mut options, .. } = asked;
        if answer.as_url && answer.format.name != "png" {
            let (expected, got) = ("png for an address", format!("{:?}", answer.format.name));
            return Err(ApiError::option("output_format", expected, got));
        }
        if let Some(PixelSize { height, width }) = size {
            options.insert("height".to_owned(), height.to_string());
            options.insert("width".to_owned(), width.to_string());
        }
        options.insert("count".to_owned(), n.to_string());
        let model = app.models.find(model.as_deref())?;
        let shared = Arc::clone(app);
        let new = blocking(move || {
            let used = shared.model(model)?;
            let limits = &shared.options.limits;
            let prepared = prepare::generation(&used.editor, &prompt, &options, limits);
            let of_size = |error: ApiError| match error.body.param.as_deref() {
                Some("width" | "height") if size.is_some() => error.param("size"),
                _ => error,
            };
            let (request, settings) = prepared.map_err(of_size)?;
            let previews = partial_images > 0;
            Ok(Generation::new(new_id()?, model, request, settings, previews))
        });
        Ok(Self { app: Arc::clone(app), generation: Arc::new(new.await?) })
    }

    fn size(&self) -> PixelSize {
        let settings = &self.generation.settings;
        PixelSize::new(settings.height, settings.width)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.app.queue.cancel(&Job::Generate(Arc::clone(&self.generation)));
    }
}

/// An image as base64 of a file.
async fn encoded(
    result: Arc<GenerateResult>,
    image: usize,
    output: Output,
) -> Result<String, ApiError> {
    blocking(move || {
        let image = &result.images[image];
        let record = GenerateRecord::new(&result.report, image).png_text();
        let save = SaveOptions::default().with_jpeg_quality(output.quality).with_text(record);
        Ok(STANDARD.encode(image.image.encode_with(output.format, &save)?))
    })
    .await
}

/// What OpenAI's answers don't have.
fn details(result: &GenerateResult, image: usize) -> Value {
    let image = &result.images[image];
    json!({"editmgt": {"seed": image.seed, "variation": image.variation}})
}

fn tokens(result: &GenerateResult) -> Value {
    usage(0, result.report.grid.len() * result.images.len())
}

async fn last(running: &Running, output: Output) -> Result<Value, ApiError> {
    let result = running.generation.outcome()?;
    let mut answer = details(&result, 0);
    answer["b64_json"] = encoded(Arc::clone(&result), 0, output).await?.into();
    answer["usage"] = tokens(&result);
    Ok(answer)
}
