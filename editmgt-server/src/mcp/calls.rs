//! The tools at work.

use std::pin::pin;
use std::sync::Arc;

use axum::http::StatusCode;
use editmgt::image::ImageFormat;
use editmgt::image::imageops::FilterType;
use editmgt::{
    EditRecord, EditResult, GenerateRecord, MaskReading, Photo, PhotoError, Record, SaveOptions,
};
use futures_util::StreamExt;
use rmcp::model::{
    CallToolResult, ContentBlock, JsonObject, ProgressNotificationParam, ProgressToken, Tool,
};
use rmcp::service::{Peer, RequestContext, RoleServer};
use serde_json::{Value, json};

use super::files::Output;
use super::tools::{Arguments, decoded, encoded};
use super::{Agent, tools};
use crate::api::{all_events, decode_mask, decode_photo, model_view};
use crate::app::{Shared, blocking};
use crate::edit::{Edit, Event, NewEdit, Status};
use crate::engine::Job;
use crate::error::{ApiError, Role};
use crate::generation::Generation;
use crate::prepare::{self, Prepared};
use crate::sync::new_id;

/// Longest side of an image in an answer whose file was written: agents need to see it, not to keep
/// it.
const SHOWN_SIDE: usize = 1024;
/// The model of all tools: the first of the server.
const MODEL: usize = 0;

type Called = Result<CallToolResult, ApiError>;

/// Tells a client how far a call is.
struct Reporter {
    peer: Peer<RoleServer>,
    /// None: the client does not want to know.
    token: Option<ProgressToken>,
    last: Option<f64>,
}

impl Reporter {
    fn new(context: &RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        Self { peer: context.peer.clone(), token, last: None }
    }

    /// Progress must increase: what does not is left out.
    async fn report(&mut self, progress: f64, total: Option<f64>, message: String) {
        let Some(token) = &self.token else { return };
        if self.last.is_some_and(|last| progress <= last) {
            return;
        }
        self.last = Some(progress);
        let mut param =
            ProgressNotificationParam::new(token.clone(), progress).with_message(message);
        param.total = total;
        // A client that is gone reads nothing.
        let _gone = self.peer.notify_progress(param).await;
    }

    async fn step(&mut self, completed: u64, total: u64) {
        let message = format!("step {completed} of {total}");
        self.report(completed as f64, Some(total as f64), message).await;
    }

    async fn event(&mut self, event: &Event) {
        let data = || serde_json::from_str::<Value>(&event.data).unwrap_or_default();
        match event.name {
            "queued" => {
                let before = data()["position"].as_u64().unwrap_or_default();
                self.report(0.0, None, format!("waiting, {before} edits before this one")).await;
            }
            "step" => {
                let data = data();
                let number = |key: &str| data[key].as_u64().unwrap_or_default();
                self.step(number("completed"), number("total")).await;
            }
            _ => {}
        }
    }
}

fn cancelled() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "cancelled", "the call was cancelled by the client")
}

/// An edit. Dropped, it stops, and its photo is forgotten.
struct Running<'a> {
    app: &'a Shared,
    photo: String,
    edit: Option<Arc<Edit>>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // It may have expired.
        let _gone = self.app.forget_photo(&self.photo);
        if let Some(edit) = &self.edit {
            self.app.queue.cancel(&Job::Edit(Arc::clone(edit)));
        }
    }
}

/// A generation. Dropped, it stops.
struct Generating<'a> {
    app: &'a Shared,
    generation: Arc<Generation>,
}

impl Drop for Generating<'_> {
    fn drop(&mut self) {
        self.app.queue.cancel(&Job::Generate(Arc::clone(&self.generation)));
    }
}

/// An image of a call's arguments.
enum Source {
    /// A path in an allowed folder.
    Path(String),
    /// Base64.
    Data(String),
}

impl Agent {
    fn source(&self, text: String) -> Source {
        if self.roots.is_empty() { Source::Data(text) } else { Source::Path(text) }
    }

    fn bytes(&self, source: &Source, argument: &str) -> Result<Vec<u8>, ApiError> {
        let limit = self.app.options.limits.photo_bytes;
        match source {
            Source::Data(text) => decoded(text, argument, limit),
            Source::Path(path) => self.roots.read(path, limit).map_err(|error| error.of(argument)),
        }
    }

    /// Calls a tool; its failure is a result that says what to do.
    pub(super) async fn call(
        &self,
        tool: &Tool,
        arguments: Option<JsonObject>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let arguments = Arguments::new(arguments, tool);
        let ct = context.ct.clone();
        let called = async {
            match &*tool.name {
                tools::EDIT => self.edit(arguments?, Reporter::new(&context)).await,
                tools::GENERATE => self.generate(arguments?, Reporter::new(&context)).await,
                tools::SHOW => self.show(arguments?).await,
                _ => self.describe(arguments?).await,
            }
        };
        let called = tokio::select! {
            called = called => called,
            () = ct.cancelled() => Err(cancelled()),
        };
        called.unwrap_or_else(|error| failed(&error))
    }

    async fn edit(&self, mut arguments: Arguments, mut reporter: Reporter) -> Called {
        let instruction = arguments.required("instruction")?;
        let photo = self.source(arguments.required("photo")?);
        let mask = arguments.text("mask")?.map(|mask| self.source(mask));
        let output = arguments.text("output")?;
        let options = arguments.options()?;

        let agent = self.clone();
        let read = move || {
            let limits = &agent.app.options.limits;
            // Before the edit runs for minutes.
            let output = match (&photo, output) {
                (_, Some(output)) => {
                    Some(agent.roots.output(&output).map_err(|error| error.of("output"))?)
                }
                (Source::Path(path), None) => {
                    Some(agent.roots.beside(path).map_err(|error| error.of("photo"))?)
                }
                (Source::Data(_), None) => None,
            };
            let bytes = agent.bytes(&photo, "photo")?;
            let photo = decode_photo(&bytes, limits, Role::Photo)?;
            let mask = match mask {
                Some(mask) => {
                    let bytes = agent.bytes(&mask, "mask")?;
                    Some(decode_mask(&bytes, &photo, MaskReading::Auto, limits)?)
                }
                None => None,
            };
            Ok((photo, mask, output))
        };
        let app = &self.app;
        let (photo, mask, output) = app.decode(read).await?;
        let photo =
            app.store.add_photo("photo.png".to_owned(), app.models.openable(Arc::new(photo)))?;
        // From here on the photo is forgotten with every failure.
        let mut running = Running { app, photo: photo.id.clone(), edit: None };
        let mask = mask.map(|mask| app.store.add_mask(&photo, Arc::new(mask))).transpose()?;
        let shared = Arc::clone(app);
        let new = blocking(move || {
            let limits = &shared.options.limits;
            let request = prepare::request(&instruction, &options, mask.as_deref(), limits)?;
            let size = photo.photo().size();
            let used = shared.model(MODEL)?;
            let Prepared { request, settings, plan } =
                prepare::prepare(&used.editor, size, request, limits)?;
            Ok(NewEdit {
                id: new_id()?,
                photo,
                model: MODEL,
                model_name: shared.models.name(MODEL).to_owned(),
                base: None,
                parent: None,
                mask,
                look: false,
                request,
                options,
                settings,
                plan,
                resume: None,
                previews: false,
            })
        });
        let edits = app.start(vec![new.await?])?;
        let edit = edits.into_iter().next();
        let edit = edit.ok_or_else(|| ApiError::internal("no edit was started"))?;
        running.edit = Some(Arc::clone(&edit));
        let (now, receiver) = edit.subscribe();
        let mut events = pin!(all_events(now, receiver));
        while let Some(event) = events.next().await {
            reporter.event(&event).await;
            if event.last {
                break;
            }
        }
        let result = match (edit.result(), edit.error()) {
            (Some(result), _) => result,
            (None, Some(error)) => return Err(error),
            (None, None) => return Err(ApiError::stopping()),
        };
        debug_assert!(edit.status() == Status::Done, "an edit with a result is done");
        blocking(move || edited(&result, output.as_ref())).await
    }

    async fn generate(&self, mut arguments: Arguments, mut reporter: Reporter) -> Called {
        let prompt = arguments.required("prompt")?;
        let count = arguments.count(self.app.options.limits.variations)?;
        let output = arguments.text("output")?;
        let mut options = arguments.options()?;
        if let Some((name, text)) = options.iter().find(|(name, _)| tools::is_no_option(name)) {
            let expected = "an option of this tool (see describe_models)";
            return Err(ApiError::option(name, expected, text));
        }
        options.insert("count".to_owned(), count.to_string());
        let (shared, roots) = (Arc::clone(&self.app), Arc::clone(&self.roots));
        let new = blocking(move || {
            let used = shared.model(MODEL)?;
            let limits = &shared.options.limits;
            let (request, settings) = prepare::generation(&used.editor, &prompt, &options, limits)?;
            let first = settings.variation;
            let generation = Generation::new(new_id()?, MODEL, request, settings, false);
            let output = match output {
                Some(output) => Some(roots.output(&output).map_err(|error| error.of("output"))?),
                None => roots.new_file("image"),
            };
            let Some(output) = output else { return Ok((generation, None)) };
            let numbered = |i| {
                let number = first.saturating_add(i);
                let output = if count > 1 { output.numbered(number) } else { Ok(output.clone()) };
                output.map_err(|error| error.of("output"))
            };
            let outputs = (0..count).map(numbered).collect::<Result<Vec<_>, _>>()?;
            Ok((generation, Some(outputs)))
        });
        let (generation, outputs) = new.await?;
        let generating = Generating { app: &self.app, generation: Arc::new(generation) };
        let generation = &generating.generation;
        let mut events = pin!(all_events(Vec::new(), generation.subscribe()));
        self.app.queue.push(vec![Job::Generate(Arc::clone(generation))])?;
        while let Some(event) = events.next().await {
            reporter.event(&event).await;
            if event.last {
                break;
            }
        }
        let result = generation.outcome()?;
        blocking(move || {
            let mut content = Vec::new();
            for (i, image) in result.images.iter().enumerate() {
                let record = GenerateRecord::new(&result.report, image).png_text();
                let save = SaveOptions::default().with_text(record);
                let output = outputs.as_ref().and_then(|outputs| outputs.get(i));
                let seed = result.report.settings.seed;
                let what = format!("seed {seed}, variation {}", image.variation);
                content.extend(written(&image.image, &save, output, &what)?);
            }
            Ok(CallToolResult::success(content))
        })
        .await
    }

    async fn show(&self, mut arguments: Arguments) -> Called {
        let image = self.source(arguments.required("image")?);
        let agent = self.clone();
        let record = move || {
            let bytes = agent.bytes(&image, "image")?;
            record_of(&bytes)
        };
        let record = self.app.decode(record).await?;
        let value = serde_json::to_value(&record).map_err(ApiError::internal)?;
        let text = serde_json::to_string_pretty(&value).map_err(ApiError::internal)?;
        let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
        result.structured_content = Some(value);
        Ok(result)
    }

    async fn describe(&self, _no_arguments: Arguments) -> Called {
        let agent = self.clone();
        let description = blocking(move || {
            let view = model_view(&agent.app, MODEL)?;
            let mut view = serde_json::to_value(view).map_err(ApiError::internal)?;
            view["folders"] = agent.roots.names().into();
            Ok(json!({"models": [view]}))
        });
        let value = description.await?;
        let text = serde_json::to_string_pretty(&value).map_err(ApiError::internal)?;
        let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
        result.structured_content = Some(value);
        Ok(result)
    }
}

/// The answer of a call that failed.
fn failed(error: &ApiError) -> CallToolResult {
    let body: Value = serde_json::from_str(&error.to_json()).unwrap_or_default();
    let mut result = CallToolResult::error(vec![ContentBlock::text(error.body.message.clone())]);
    result.structured_content = Some(body);
    result
}

/// The record of a PNG.
fn record_of(bytes: &[u8]) -> Result<Record, ApiError> {
    use std::io::Write;

    // The library reads records of files.
    let mut file = tempfile::NamedTempFile::new().map_err(ApiError::internal)?;
    file.write_all(bytes).and_then(|()| file.flush()).map_err(ApiError::internal)?;
    Record::open(file.path()).map_err(|error| {
        let message = match error {
            PhotoError::NoText { .. } => {
                "image: expected a whole PNG: other formats have no records".to_owned()
            }
            PhotoError::NoRecord { .. } => {
                "image: this PNG has no record: another program wrote or changed it".to_owned()
            }
            PhotoError::Record { version, .. } => {
                format!("image: its record is of editmgt {version}, which this program can't read")
            }
            error => return ApiError::internal(error),
        };
        ApiError::bad("record", message).param("image")
    })
}

/// The answer of an edit.
fn edited(result: &EditResult, output: Option<&Output>) -> Called {
    let report = &result.report;
    let save = SaveOptions::default().with_text(EditRecord::from(report).png_text());
    let what = format!(
        "seed {}, {:.1}% of the pixels are the photo's own",
        report.settings.seed,
        100.0 * report.pixels_kept
    );
    let mut content = written(&result.image, &save, output, &what)?;
    for cut in report.prompts_cut() {
        content.push(ContentBlock::text(format!("Note: {cut}")));
    }
    Ok(CallToolResult::success(content))
}

/// Writes an image; the text and the image of an answer.
fn written(
    image: &Photo,
    save: &SaveOptions,
    output: Option<&Output>,
    what: &str,
) -> Result<Vec<ContentBlock>, ApiError> {
    let Some(output) = output else {
        let png = image.encode_with(ImageFormat::Png, save)?;
        let shown = ContentBlock::image(encoded(&png), "image/png");
        return Ok(vec![ContentBlock::text(format!("Made it: {what}")), shown]);
    };
    let bytes = image.encode_with(output.format(), save)?;
    let path = output.write(&bytes).map_err(|error| error.of("output"))?;
    let size = image.size();
    let long = size.height.max(size.width);
    let (shown, kind, note) = if long <= SHOWN_SIDE {
        (image.encode(ImageFormat::Png)?, "image/png", String::new())
    } else {
        let side = |side: usize| (side * SHOWN_SIDE / long).max(1) as u32;
        let small = image.clone().into_dynamic();
        let small = small.resize_exact(side(size.width), side(size.height), FilterType::Triangle);
        let small = Photo::try_from(small)?.encode(ImageFormat::Jpeg)?;
        (small, "image/jpeg", format!("; shown here with {SHOWN_SIDE} pixels at most"))
    };
    let text = format!("Wrote {} ({size} pixels{note}): {what}", path.display());
    Ok(vec![ContentBlock::text(text), ContentBlock::image(encoded(&shown), kind)])
}
