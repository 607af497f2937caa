//! From what a client asks for to a request that the library accepts, with this server's limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use editmgt::{
    EditError, EditRequest, EditSettings, Editor, GenerateRequest, GenerateSettings, GridSize,
    KeywordPolicy, PixelSize, Resize, ResizePlan, Task,
};
use serde_json::Value;

use crate::error::ApiError;
use crate::options::ServerLimits;
use crate::store::StoredMask;

/// Most phrases of a keyword.
const PHRASES: usize = 64;

/// Options as texts, from the values of a JSON object.
///
/// # Errors
/// Status 400 for a value that is neither text, number nor boolean.
pub(crate) fn option_texts(
    options: &serde_json::Map<String, Value>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let text = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            other => return Err(ApiError::option(name, "a text, a number or a boolean", other)),
        };
        Ok((name.clone(), text))
    };
    options.iter().map(text).collect()
}

/// A request with these options.
///
/// # Errors
/// Status 400 for an unknown option or a text that is no value of it, and for texts that are too
/// long.
pub(crate) fn request(
    instruction: &str,
    options: &BTreeMap<String, String>,
    mask: Option<&StoredMask>,
    limits: &ServerLimits,
) -> Result<EditRequest, ApiError> {
    let most = limits.instruction_characters;
    let too_long =
        |name: &str, got| format!("{name}: expected at most {most} characters, got {got}");
    let length = instruction.chars().count();
    if length > most {
        return Err(
            ApiError::bad("instruction", too_long("instruction", length)).param("instruction")
        );
    }
    let mut request = EditRequest::new(instruction);
    for (name, text) in options {
        let length = text.chars().count();
        if length > most {
            return Err(ApiError::bad("option", too_long(name, length)).param(name.clone()));
        }
        request.set(name, text)?;
    }
    if let Some(KeywordPolicy::Phrases(phrases)) = &request.keyword
        && phrases.len() > PHRASES
    {
        return Err(ApiError::option(
            "keyword",
            format!("at most {PHRASES} phrases"),
            phrases.len(),
        ));
    }
    request.mask = mask.map(|mask| Arc::clone(&mask.mask));
    Ok(request)
}

/// A request that was checked.
pub(crate) struct Prepared {
    pub(crate) request: EditRequest,
    pub(crate) settings: EditSettings,
    pub(crate) plan: ResizePlan,
}

/// Checks all that can be checked before an edit runs.
///
/// # Errors
/// Status 400: an option out of range or over a limit, words that the model does not know, a mask
/// that does not fit.
pub(crate) fn prepare(
    editor: &Editor,
    photo: PixelSize,
    request: EditRequest,
    limits: &ServerLimits,
) -> Result<Prepared, ApiError> {
    let (settings, plan) = plan(editor, photo, &request, limits)?;
    let encoder = &*editor.model().text;
    encoder.truncation(&settings.instruction)?;
    encoder.prompt_rows(&settings.instruction)?;
    if settings.guidance_scale > 1.0 {
        encoder.prompt_rows(&settings.negative_prompt)?;
    }
    settings.keyword.rows(encoder, &settings.instruction)?;
    Ok(Prepared { request, settings, plan })
}

/// The options in force and the geometry, without a look at the words.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn plan(
    editor: &Editor,
    photo: PixelSize,
    request: &EditRequest,
    limits: &ServerLimits,
) -> Result<(EditSettings, ResizePlan), ApiError> {
    let settings = editor.settings(request)?;
    check_trained_for(editor, &settings)?;
    let photo = match settings.task {
        Task::Outpaint(margins) => margins.canvas(photo)?,
        Task::Edit | Task::Inpaint => photo,
    };
    let pixels = photo.height as u64 * photo.width as u64;
    if pixels > limits.photo_megapixels.saturating_mul(1_000_000) {
        let message = format!(
            "task: {photo} pixels with the margins, the limit is {} megapixels",
            limits.photo_megapixels
        );
        return Err(ApiError::too_large("photo_megapixels", message));
    }
    check_steps(settings.steps, limits)?;
    let most_blocks = editor.model().transformer.spec().blocks();
    if settings.blocks.len() > most_blocks {
        let expected = format!("at most {most_blocks} blocks");
        return Err(ApiError::option("blocks", expected, settings.blocks.len()));
    }
    let twice =
        (1..settings.blocks.len()).find(|&i| settings.blocks[..i].contains(&settings.blocks[i]));
    if let Some(twice) = twice {
        return Err(ApiError::option("blocks", "each block once", settings.blocks[twice]));
    }
    let multiple = editor.model().pixels_per_cell();
    let mask = match &request.mask {
        Some(mask) if settings.resize == Resize::Mask => Some(mask.bounds(photo)?),
        _ => None,
    };
    let plan = settings.resize.plan(photo, mask, settings.size, multiple)?;
    let model = plan.model();
    // The fit to the photo's proportions can make it a tenth larger.
    if model.height * model.width > limits.size * limits.size * 5 / 4 {
        let expected = format!(
            "an image for the model as large as a square of {} pixels at most",
            limits.size
        );
        return Err(ApiError::option("size", expected, model));
    }
    if let Some(mask) = &request.mask {
        mask.on_grid(&plan, grid(editor, &plan))?;
    }
    Ok((settings, plan))
}

/// Refuses a task that the model was not trained for.
fn check_trained_for(editor: &Editor, settings: &EditSettings) -> Result<(), ApiError> {
    let (model, job) = (editor.model(), settings.task.job());
    if settings.anyway || model.trained_for().contains(&job) {
        return Ok(());
    }
    let trained_for = model.trained_for().to_vec();
    Err(EditError::NotTrained { job, kind: model.kind, trained_for }.into())
}

fn check_steps(steps: usize, limits: &ServerLimits) -> Result<(), ApiError> {
    if steps <= limits.steps {
        return Ok(());
    }
    let expected = format!("at most {} on this server", limits.steps);
    Err(ApiError::option("steps", expected, steps))
}

/// A request for images with these options, and the options in force.
///
/// # Errors
/// Status 400: an option that is unknown, out of range or over a limit, words that the model does
/// not know, a model that was not trained to generate.
pub(crate) fn generation(
    editor: &Editor,
    prompt: &str,
    options: &BTreeMap<String, String>,
    limits: &ServerLimits,
) -> Result<(GenerateRequest, GenerateSettings), ApiError> {
    let most = limits.instruction_characters;
    let mut request = GenerateRequest::new(prompt);
    for (name, text) in std::iter::once(("prompt", prompt))
        .chain(options.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    {
        let length = text.chars().count();
        if length > most {
            let message = format!("{name}: expected at most {most} characters, got {length}");
            return Err(ApiError::bad("option", message).param(name));
        }
        if name != "prompt" {
            request.set(name, text)?;
        }
    }
    let settings = editor.generate_settings(&request)?;
    check_steps(settings.steps, limits)?;
    let (height, width) = (settings.height, settings.width);
    if height.saturating_mul(width) > limits.size * limits.size {
        let expected = format!("as many pixels as a square of {} has at most", limits.size);
        return Err(ApiError::option("size", expected, format!("{width}x{height}")));
    }
    let encoder = &*editor.model().text;
    encoder.prompt_rows(&settings.prompt)?;
    if settings.guidance_scale > 1.0 {
        encoder.prompt_rows(&settings.negative_prompt)?;
    }
    Ok((request, settings))
}

/// The token grid of a plan.
pub(crate) fn grid(editor: &Editor, plan: &ResizePlan) -> GridSize {
    plan.grid(editor.model().codec.spec().downsample_factor)
}
