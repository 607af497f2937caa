//! The model, its options as controls, and the examples.

use std::collections::HashMap;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use editmgt::{EditRequest, Editor, OptionInfo};
use editmgt_text::TokenizerError;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::photos::queried;
use super::{png, to_json};
use crate::app::{App, Shared, blocking};
use crate::error::{ApiError, ErrorAnswer};

/// How the page shows an option.
struct Control {
    name: &'static str,
    label: &'static str,
    group: &'static str,
    kind: &'static str,
    /// Least and largest value, and the step.
    range: (Option<f64>, Option<f64>, Option<f64>),
    choices: &'static [&'static str],
}

const ANY: (Option<f64>, Option<f64>, Option<f64>) = (None, None, None);

const fn control(
    name: &'static str,
    label: &'static str,
    group: &'static str,
    kind: &'static str,
) -> Control {
    Control { name, label, group, kind, range: ANY, choices: &[] }
}

const fn within(control: Control, min: f64, max: f64, step: f64) -> Control {
    Control { range: (Some(min), Some(max), Some(step)), ..control }
}

const fn of(control: Control, choices: &'static [&'static str]) -> Control {
    Control { choices, ..control }
}

const CONTROLS: [Control; 28] = [
    within(control("steps", "Steps", "sampling", "integer"), 1.0, 4096.0, 1.0),
    control("steps_plan", "Plan of the steps", "sampling", "text"),
    control("guidance_reuse", "Reuse guidance in partial steps", "sampling", "boolean"),
    of(control("cache_dtype", "Precision of kept keys", "sampling", "choice"), &["model", "bf16"]),
    // Numbers above 2^53 are no numbers in JavaScript.
    control("seed", "Seed", "sampling", "text"),
    within(control("variation", "Variation", "sampling", "integer"), 0.0, 4_294_967_295.0, 1.0),
    within(control("guidance_scale", "Guidance", "sampling", "number"), 0.0, 100.0, 0.1),
    control("guidance_interval", "Guided part of the run", "sampling", "pair"),
    within(
        control("reference_strength", "Strength of the photo", "sampling", "number"),
        0.0,
        100.0,
        0.05,
    ),
    control("temperature", "Temperature", "sampling", "pair"),
    of(
        control("masking_schedule", "Tokens fixed over the steps", "sampling", "choice"),
        &["cosine", "linear"],
    ),
    control("negative_prompt", "Negative prompt", "sampling", "text"),
    control("hold", "Hold", "where", "hold"),
    within(control("hold_margin", "Margin", "where", "integer"), 0.0, 64.0, 1.0),
    control("keyword", "Keyword", "where", "keyword"),
    of(control("keyword_maps", "Maps of several words", "where", "choice"), &["max", "mean"]),
    of(
        control("map_filter", "Smoothing of the map", "where", "choice"),
        &["off", "adaptive", "gaussian", "bilateral", "morphology"],
    ),
    control("blocks", "Blocks", "where", "list"),
    control("task", "Task", "where", "task"),
    control("score_map", "Always compute the map", "where", "boolean"),
    of(control("holding", "Holding", "where", "choice"), &["strict", "parity"]),
    within(control("size", "Size for the model", "image", "integer"), 1.0, 16384.0, 1.0),
    of(
        control("resize", "Fit to the model", "image", "choice"),
        &["fit", "pad", "crop", "native", "mask"],
    ),
    control("tile", "Tiles", "image", "text"),
    of(
        control("composite", "Pixels from the edit", "image", "choice"),
        &["visible", "held", "all"],
    ),
    of(control("blend", "Mixing", "image", "choice"), &["srgb", "linear"]),
    within(control("feather", "Feather", "image", "integer"), 0.0, 4096.0, 1.0),
    control("anyway", "Whether the model was trained for it or not", "more", "boolean"),
];

const GROUPS: [(&str, &str); 4] =
    [("sampling", "Sampling"), ("where", "Where"), ("image", "Image"), ("more", "More")];

/// An option, as the page shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Option)]
pub(crate) struct OptionView {
    name: &'static str,
    label: String,
    group: &'static str,
    doc: String,
    expected: &'static str,
    default: Option<String>,
    from: &'static str,
    kind: &'static str,
    min: Option<f64>,
    max: Option<f64>,
    step: Option<f64>,
    choices: Option<Vec<&'static str>>,
}

/// The model and what the server accepts.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelView {
    version: &'static str,
    name: String,
    /// Names of all models of this server; the first is used where none is named.
    models: Vec<String>,
    /// `edit`, `generate`, `inpaint`.
    trained_for: Vec<&'static str>,
    device: String,
    #[schema(value_type = Object)]
    known: Value,
    #[schema(value_type = Vec<Object>)]
    groups: Vec<Value>,
    options: Vec<OptionView>,
    #[schema(value_type = Object)]
    limits: Value,
}

/// The options in force by default, as `EditRequest::set` reads them.
fn defaults(editor: &Editor) -> HashMap<&'static str, String> {
    // A default that needs a mask has no value without one.
    let settings = editor.settings(&EditRequest::new("photo"));
    settings.map(|settings| settings.texts().into_iter().collect()).unwrap_or_default()
}

/// The options with their controls; one without a control is a text field in the last group.
fn options(editor: &Editor) -> Vec<OptionView> {
    let mut defaults = defaults(editor);
    let of_model = serde_json::to_value(&editor.model().defaults).unwrap_or_default();
    let view = |option: OptionInfo| {
        let control = CONTROLS.iter().find(|control| control.name == option.name);
        let (min, max, step) = control.map_or(ANY, |control| control.range);
        let from = if !option.of_model {
            "library"
        } else if of_model.get(option.name).is_some() || option.default.is_none() {
            "model"
        } else {
            "official"
        };
        let default = defaults.remove(option.name);
        OptionView {
            name: option.name,
            label: control
                .map_or_else(|| option.name.replace('_', " "), |control| control.label.to_owned()),
            group: control.map_or("more", |control| control.group),
            doc: option.doc,
            expected: option.expected,
            default: default.or(option.default),
            from,
            kind: control.map_or("text", |control| control.kind),
            min,
            max,
            step,
            choices: control
                .filter(|control| !control.choices.is_empty())
                .map(|control| control.choices.to_vec()),
        }
    };
    EditRequest::options().into_iter().map(view).collect()
}

/// The vocabulary of a model with a closed one: its encoder says so where it meets another word.
fn known(editor: &Editor) -> Value {
    /// Not a word of any vocabulary.
    const UNKNOWN: &str = "\u{e000}";
    let Err(editmgt::Error::Stage(error)) = editor.model().text.prompt_rows(UNKNOWN) else {
        return Value::Null;
    };
    match error.downcast_ref() {
        Some(TokenizerError::UnknownWords { words, examples, .. }) => {
            json!({"words": words, "examples": examples})
        }
        _ => Value::Null,
    }
}

/// An instruction that a model knows the words of.
pub(crate) fn known_instruction(editor: &Editor) -> String {
    known(editor)["examples"][0].as_str().unwrap_or("make it brighter").to_owned()
}

/// The model and what the server accepts.
pub(crate) fn view(app: &App, model: usize) -> Result<ModelView, ApiError> {
    let used = app.model(model)?;
    let editor = &used.editor;
    let options = options(editor);
    let used = |group: &str| options.iter().any(|option| option.group == group);
    let groups = GROUPS.iter().filter(|(id, _)| used(id));
    let limits = &app.options.limits;
    Ok(ModelView {
        version: env!("CARGO_PKG_VERSION"),
        name: app.models.name(model).to_owned(),
        models: app.models.names().map(str::to_owned).collect(),
        trained_for: editor.model().trained_for().iter().map(|job| job.name()).collect(),
        device: device_name(&format!("{:?}", editor.model().device)),
        known: known(editor),
        groups: groups.map(|(id, label)| json!({"id": id, "label": label})).collect(),
        limits: json!({
            "photo_bytes": limits.photo_bytes,
            "photo_megapixels": limits.photo_megapixels,
            "photo_ratio": limits.photo_ratio,
            "instruction_characters": limits.instruction_characters,
            "queue": limits.queue,
            "variations": limits.variations,
            "keep_seconds": app.options.keep.as_secs(),
        }),
        options,
    })
}

/// The device in words: `flex (CPU)` for `Device<Flex(Cpu)>`.
fn device_name(debug: &str) -> String {
    let inner = debug.strip_prefix("Device<").and_then(|inner| inner.strip_suffix('>'));
    let inner = inner.unwrap_or(debug);
    match inner.split_once('(') {
        Some((backend, rest)) => {
            let rest = rest.strip_suffix(')').unwrap_or(rest);
            let rest = if rest == "Cpu" { "CPU" } else { rest };
            format!("{} ({rest})", backend.to_lowercase())
        }
        None => inner.to_owned(),
    }
}

/// The model, its options and the limits.
#[utoipa::path(get, path = "/api/model", operation_id = "get_model",
    params(("model" = Option<String>, Query, description = "The model's name; by default the first")),
    responses(
        (status = 200, body = ModelView), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
        (status = 429, body = ErrorAnswer),
    ))]
pub(super) async fn model(
    State(app): State<Shared>,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> Result<Response, ApiError> {
    let name = queried(query, "model")?;
    let view = blocking(move || view(&app, app.models.find(name.as_deref())?)).await?;
    to_json(StatusCode::OK, &view)
}

/// A scene of the embedded model's world.
struct Scene {
    id: &'static str,
    instruction: &'static str,
    png: &'static [u8],
}

macro_rules! scenes {
    ($($id:literal, $instruction:literal;)+) => {
        &[$(Scene {
            id: $id,
            instruction: $instruction,
            png: include_bytes!(concat!("../../scenes/", $id, ".png")),
        }),+]
    };
}

impl Scene {
    /// Width and height, pixels: the first numbers of a PNG's first chunk.
    fn size(&self) -> (u32, u32) {
        let number =
            |at: usize| self.png[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        (number(16), number(20))
    }
}

const SCENES: &[Scene] = scenes! {
    "scene", "make the red car blue";
    "remove", "get rid of the right thing";
    "replace", "replace the cat with a red house";
    "colour", "color the medium cat red";
    "background", "change the background to a beach";
    "motion", "slide the green mushroom to the top left corner";
    "style", "make the picture a poster";
    "add", "draw a medium green cat on the right";
};

/// The examples of the first model: the embedded one has scenes of its world.
fn scenes_of(app: &App) -> &'static [Scene] {
    if app.models.argument(0).is_none() { SCENES } else { &[] }
}

/// Examples to edit.
#[utoipa::path(get, path = "/api/examples", operation_id = "list_examples", responses((status = 200, body = Vec<Object>)))]
pub(super) async fn examples(State(app): State<Shared>) -> Result<Response, ApiError> {
    let view = |scene: &Scene| {
        let (width, height) = scene.size();
        json!({"id": scene.id, "instruction": scene.instruction, "width": width, "height": height})
    };
    to_json(StatusCode::OK, &scenes_of(&app).iter().map(view).collect::<Vec<_>>())
}

/// An example as PNG.
#[utoipa::path(get, path = "/api/examples/{id}", operation_id = "get_example", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "image/png"), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn example(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let scene = scenes_of(&app).iter().find(|scene| scene.id == id);
    Ok(png(scene.ok_or_else(|| ApiError::not_found("example"))?.png))
}

#[cfg(test)]
mod tests {
    use editmgt::Photo;

    use super::*;

    #[test]
    fn every_option_has_a_control_and_a_default_that_can_be_set() {
        let editor = Editor::embedded().build().unwrap();
        let options = options(&editor);
        let mut request = EditRequest::new("make the red car blue");
        for option in &options {
            assert!(CONTROLS.iter().any(|control| control.name == option.name), "{}", option.name);
            let default = option.default.as_ref().unwrap_or_else(|| panic!("{}", option.name));
            request.set(option.name, default).unwrap();
            assert_eq!(option.kind == "choice", option.choices.is_some(), "{}", option.name);
            for choice in option.choices.iter().flatten() {
                EditRequest::default().set(option.name, choice).unwrap();
            }
        }
        let plain = EditRequest::new("make the red car blue");
        assert_eq!(editor.settings(&request).unwrap(), editor.settings(&plain).unwrap());
        let of = |name| options.iter().find(|option| option.name == name).unwrap();
        assert_eq!((of("steps").default.as_deref(), of("steps").from), (Some("4"), "model"));
        assert_eq!(
            (of("reference_strength").default.as_deref(), of("seed").from),
            (Some("1"), "library")
        );
        assert_eq!(
            (of("composite").from, of("temperature").default.as_deref()),
            ("official", Some("0,0"))
        );
        assert_eq!(CONTROLS.len(), options.len());
    }

    #[test]
    fn devices_have_readable_names() {
        let name =
            device_name(&format!("{:?}", Editor::embedded().build().unwrap().model().device));
        assert!(!name.contains('<') && name.contains("CPU"), "{name}");
        for (debug, name) in [
            ("Device<Flex(Cpu)>", "flex (CPU)"),
            ("Device<Cuda(Index(0))>", "cuda (Index(0))"),
            ("Cpu", "Cpu"),
        ] {
            assert_eq!(device_name(debug), name);
        }
    }

    #[test]
    fn embedded_model_knows_its_words_and_the_examples_use_them() {
        let editor = Editor::embedded().build().unwrap();
        let known = known(&editor);
        assert!(
            known["words"].as_array().is_some_and(|words| words.contains(&"red".into())),
            "{known}"
        );
        for scene in SCENES {
            editor.model().text.prompt_rows(scene.instruction).unwrap();
            let size = Photo::from_bytes(scene.png).unwrap().size();
            assert_eq!((size.width as u32, size.height as u32), scene.size(), "{}", scene.id);
        }
    }
}
