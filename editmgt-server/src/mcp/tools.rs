//! The tools and their arguments.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use editmgt::{EditRequest, GenerateRequest, OptionInfo};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Map, Value, json};

use super::files::Roots;
use crate::app::App;
use crate::error::ApiError;
use crate::prepare;

pub(super) const EDIT: &str = "edit_image";
pub(super) const GENERATE: &str = "generate_image";
pub(super) const DESCRIBE: &str = "describe_models";
pub(super) const SHOW: &str = "show_record";

/// The task has a value that a server does not run, and the count is an argument of its own.
const NOT_OPTIONS: [&str; 2] = ["task", "count"];

/// All tools. Without folders, images travel as base64.
pub(super) fn tools(app: &App, roots: &Roots) -> Vec<Tool> {
    let with_files = !roots.is_empty();
    let variations = app.options.limits.variations;
    let where_files = if with_files {
        format!(
            "Images are files in: {}. Existing files are never overwritten.",
            roots.names().join(", ")
        )
    } else {
        "Images are base64 in the arguments and in the results.".to_owned()
    };
    let edit = Tool::new(
        EDIT,
        format!(
            "Changes a photo by an instruction and keeps the rest of it. {where_files} Call {DESCRIBE} first: some \
             models know only certain words."
        ),
        schema(
            [
                ("photo", image_property("The photo to edit", with_files)),
                ("instruction", text_property("What to change, such as \"make the red car blue\"")),
                (
                    "mask",
                    image_property(
                        "An image of the photo's proportions, white where the photo may change",
                        with_files,
                    ),
                ),
                ("options", options_property(EditRequest::options())),
            ],
            with_files.then(|| output_property("by default PHOTO-edited.png beside the photo")),
            &["photo", "instruction"],
        ),
    );
    let generate = Tool::new(
        GENERATE,
        format!(
            "Makes images from a description, with models that are trained for it (see {DESCRIBE}). {where_files}"
        ),
        schema(
            [
                ("prompt", text_property("What the images show")),
                ("count", json!({
                    "type": "integer", "minimum": 1, "maximum": variations,
                    "description": "How many variations; 1 by default",
                })),
                ("options", options_property(GenerateRequest::options())),
            ],
            with_files.then(|| {
                output_property("by default image.png in the first folder, with a number where that exists; several of a name get -0, -1, … before the extension")
            }),
            &["prompt"],
        ),
    );
    let describe = Tool::new(
        DESCRIBE,
        "Describes the model: what it is trained for, the words it knows, its options with their defaults, limits.",
        schema([], None, &[]),
    );
    let show = Tool::new(
        SHOW,
        "Reads how a PNG was made by this program: instruction, options, seed, model.",
        schema([("image", image_property("A PNG", with_files))], None, &["image"]),
    );
    let hints = |title: &str, reads_only: bool| {
        ToolAnnotations::from_raw(
            Some(title.to_owned()),
            Some(reads_only),
            Some(false),
            None,
            Some(false),
        )
    };
    let annotated = |mut tool: Tool, title: &str, reads_only: bool| {
        tool.annotations = Some(hints(title, reads_only));
        tool
    };
    vec![
        annotated(edit, "Edit an image", !with_files),
        annotated(generate, "Generate images", !with_files),
        annotated(describe, "Describe the model", true),
        annotated(show, "Show how an image was made", true),
    ]
}

fn schema<const N: usize>(
    properties: [(&str, Value); N],
    output: Option<Value>,
    required: &[&str],
) -> JsonObject {
    let output = output.map(|output| ("output", output));
    let properties: Map<String, Value> = properties
        .into_iter()
        .chain(output)
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    let Value::Object(schema) = schema else { unreachable!("it was written as an object") };
    schema
}

fn text_property(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn image_property(description: &str, with_files: bool) -> Value {
    let how = if with_files {
        "a path in an allowed folder"
    } else {
        "its file as base64, or a data: URL"
    };
    text_property(&format!("{description}: {how}"))
}

fn output_property(default: &str) -> Value {
    text_property(&format!(
        "A new file (.png, .jpg, .webp or .tiff) in an existing allowed folder; {default}"
    ))
}

fn options_property(options: Vec<OptionInfo>) -> Value {
    let property = |option: OptionInfo| {
        let default = match (&option.default, option.of_model) {
            (Some(default), false) => format!("; {default} by default"),
            (_, true) => "; the model's default".to_owned(),
            (None, false) => String::new(),
        };
        let description = format!("{} Expected: {}{default}", option.doc, option.expected);
        // Not a list of types: some clients drop such a schema.
        let schema = json!({
            "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}],
            "description": description,
        });
        (option.name.to_owned(), schema)
    };
    let options = options.into_iter().filter(|option| !NOT_OPTIONS.contains(&option.name));
    let properties: Map<String, Value> = options.map(property).collect();
    json!({
        "type": "object", "properties": properties, "additionalProperties": false,
        "description": "Options; what is absent is the model's default",
    })
}

/// Whether an option of the library's table is not an option of these tools.
pub(super) fn is_no_option(name: &str) -> bool {
    NOT_OPTIONS.contains(&name)
}

/// The arguments of a call. Those that are null are absent.
pub(super) struct Arguments(JsonObject);

impl Arguments {
    /// # Errors
    /// Status 400 for an argument that the tool does not have.
    pub(super) fn new(given: Option<JsonObject>, tool: &Tool) -> Result<Self, ApiError> {
        let mut given = given.unwrap_or_default();
        given.retain(|_, value| !value.is_null());
        let known = tool.input_schema.get("properties").and_then(Value::as_object);
        let is_known = |name: &String| known.is_some_and(|known| known.contains_key(name));
        if let Some(other) = given.keys().find(|name| !is_known(name)) {
            let names = known.map(|known| known.keys().map(String::as_str).collect::<Vec<_>>());
            let names = names.unwrap_or_default().join(", ");
            let names = if names.is_empty() { "none".to_owned() } else { names };
            let message = format!("{other:?} is no argument of {}; expected {names}", tool.name);
            return Err(ApiError::bad("unknown_key", message).param(other.clone()));
        }
        Ok(Self(given))
    }

    /// # Errors
    /// Status 400 for another type.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
            Some(other) => Err(ApiError::option(name, "some text", other)),
        }
    }

    /// # Errors
    /// Status 400 for another type, or none.
    pub(super) fn required(&mut self, name: &str) -> Result<String, ApiError> {
        let missing = || ApiError::bad("missing", format!("{name}: expected a value, got none"));
        self.text(name)?.ok_or_else(|| missing().param(name))
    }

    /// # Errors
    /// Status 400 for a number out of range.
    pub(super) fn count(&mut self, most: u32) -> Result<u32, ApiError> {
        let Some(value) = self.0.remove("count") else { return Ok(1) };
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count
            .filter(|count| (1..=most).contains(count))
            .ok_or_else(|| ApiError::option("count", format!("1 to {most}"), value))
    }

    /// The options as texts.
    ///
    /// # Errors
    /// Status 400 for something else than an object of texts, numbers and booleans.
    pub(super) fn options(&mut self) -> Result<BTreeMap<String, String>, ApiError> {
        let options = match self.0.remove("options") {
            None => Map::new(),
            Some(Value::Object(mut options)) => {
                options.retain(|_, value| !value.is_null());
                options
            }
            Some(other) => return Err(ApiError::option("options", "an object", other)),
        };
        prepare::option_texts(&options)
    }
}

/// The bytes of an image in an argument: base64, or a data URL of it.
///
/// # Errors
/// Status 400 for what is not base64, 413 for more than `limit` bytes.
pub(super) fn decoded(text: &str, argument: &str, limit: usize) -> Result<Vec<u8>, ApiError> {
    let data = match text.strip_prefix("data:") {
        None => text,
        Some(url) => {
            let base64 = url.split_once(";base64,").map(|(_, data)| data);
            base64.ok_or_else(|| {
                ApiError::option(argument, "a data: URL with ;base64,", "another one")
                    .param(argument)
            })?
        }
    };
    let data = data.trim_end_matches('=');
    if data.len() / 4 * 3 > limit {
        let message = format!("{argument}: more than {limit} bytes; make the image smaller");
        return Err(ApiError::too_large("photo_bytes", message));
    }
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    engine.decode(data).map_err(|error| {
        let expected = "an image file as base64 (this server reads no files)";
        ApiError::option(argument, expected, error).param(argument)
    })
}

/// Base64 of an image.
pub(super) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_base64_with_or_without_padding_or_a_data_url() {
        for text in ["AAECAw==", "AAECAw", "data:image/png;base64,AAECAw=="] {
            assert_eq!(decoded(text, "photo", 100).unwrap(), [0, 1, 2, 3]);
        }
        for text in ["/etc/passwd.png", "photo.png", "data:image/png,x", "data:,"] {
            let error = decoded(text, "photo", 100).unwrap_err();
            assert_eq!(error.body.param.as_deref(), Some("photo"), "{text}");
        }
        let error = decoded(&"A".repeat(400), "photo", 100).unwrap_err();
        assert_eq!(error.body.code, "too_large");
    }
}
