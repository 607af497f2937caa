//! The fields of a request for images: OpenAI's, and the options of the library beside them. Edits
//! send a form, generations a JSON object.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::multipart::{Field, Multipart};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use editmgt::image::ImageFormat;
use editmgt::{EditRequest, GenerateRequest, OptionInfo, PixelSize};
use tokio::time::timeout;

use crate::api::file_name;
use crate::app::App;
use crate::body::{self, drain, slow};
use crate::error::ApiError;
use crate::options::ServerLimits;
use crate::prepare::option_texts;

/// Most fields of a form.
const FIELDS: usize = 64;
/// Longest text of a field, bytes.
const TEXT_BYTES: usize = 64 << 10;
/// Most previews of a stream, as OpenAI has it.
const PARTIAL_IMAGES: u32 = 3;
/// Fields of OpenAI's that change nothing here.
const IGNORED: [&str; 5] = ["user", "quality", "input_fidelity", "moderation", "style"];

/// A form for an edit that was read and checked.
pub(super) struct Form {
    /// The photo's file and its name.
    pub(super) image: Vec<u8>,
    pub(super) name: String,
    pub(super) mask: Option<Vec<u8>>,
    pub(super) asked: Asked,
}

/// What edits and generations have in common.
pub(super) struct Asked {
    pub(super) prompt: String,
    pub(super) n: u32,
    /// Of the results; `None`: the photo's, or the model's.
    pub(super) size: Option<PixelSize>,
    pub(super) answer: Answer,
    pub(super) stream: bool,
    pub(super) partial_images: u32,
    pub(super) model: Option<String>,
    pub(super) options: BTreeMap<String, String>,
}

/// How results are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) as_url: bool,
    pub(super) format: Output,
}

/// The file format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) name: &'static str,
    pub(super) format: ImageFormat,
    /// JPEG quality.
    pub(super) quality: u8,
}

/// The fields as they came.
#[derive(Default)]
struct Fields {
    image: Option<(Vec<u8>, String)>,
    mask: Option<Vec<u8>>,
    texts: BTreeMap<String, String>,
}

impl Form {
    /// Reads the form of a request.
    ///
    /// # Errors
    /// Status 400 for fields that are missing, unknown or out of range, 408 for a form that arrives
    /// too slowly, 413 for one over the limits, 415 for another content type.
    pub(super) async fn read(app: &App, request: Request) -> Result<Self, ApiError> {
        let content_type =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        if !content_type.to_ascii_lowercase().starts_with("multipart/form-data") {
            let message =
                format!("Content-Type: expected multipart/form-data, got {content_type:?}");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
        }
        let _permit = app.uploads.acquire().await.map_err(ApiError::internal)?;
        let form = Multipart::from_request(request, &()).await;
        let form = form.map_err(|error| ApiError::bad("form", error.body_text()))?;
        Fields::read(form, &app.options.limits).await?.checked(&app.options.limits)
    }
}

impl Asked {
    /// Reads the JSON object of a request for images from text.
    ///
    /// # Errors
    /// As [`Form::read`].
    pub(super) async fn read(app: &App, request: Request) -> Result<Self, ApiError> {
        let object = body::json_object(app, request).await?;
        let texts = option_texts(&editmgt_store::json::plain(object))?;
        Self::of_texts(texts, &app.options.limits, &GenerateRequest::options())
    }

    fn of_texts(
        texts: BTreeMap<String, String>,
        limits: &ServerLimits,
        known: &[OptionInfo],
    ) -> Result<Self, ApiError> {
        let mut texts = Texts(texts);
        let prompt = texts.take("prompt").filter(|prompt| !prompt.trim().is_empty());
        let prompt = prompt.ok_or_else(|| missing("prompt"))?;
        let n = number(texts.take("n"), "n", 1, limits.variations.min(10))?.unwrap_or(1);
        let stream = texts.take("stream");
        let stream = flag(stream.as_deref(), "stream")?;
        let partial = number(texts.take("partial_images"), "partial_images", 0, PARTIAL_IMAGES)?;
        if partial.is_some_and(|partial| partial > 0) && !stream {
            let got = "a request without it";
            return Err(ApiError::option("partial_images", "stream to be true", got));
        }
        if stream && n > 1 {
            return Err(ApiError::option("n", "1 for a stream", n));
        }
        let as_url = as_url(texts.take("response_format").as_deref(), stream)?;
        let background = texts.take("background");
        let unknown = background.as_deref().filter(|text| !matches!(*text, "auto" | "opaque"));
        if let Some(other) = unknown {
            let expected = "auto or opaque; a photo keeps its own transparency";
            return Err(ApiError::option("background", expected, format!("{other:?}")));
        }
        let format = output(texts.take("output_format"), texts.take("output_compression"))?;
        let size = size(texts.take("size"))?;
        if let Some(size) = size {
            check_pixels(size, n, limits)?;
        }
        let model = texts.take("model");
        for name in IGNORED {
            texts.0.remove(name);
        }
        let mut options = texts.0;
        // OpenAI's field `size` is the result's.
        if let Some(size) = options.remove("model_size") {
            options.insert("size".to_owned(), size);
        }
        let is_known =
            |name: &str| name != "count" && known.iter().any(|option| option.name == name);
        if let Some(name) = options.keys().find(|name| !is_known(name)) {
            let message = format!("{name:?} is no field of this request: see docs/server.md");
            return Err(ApiError::bad("unknown_key", message).param(name.clone()));
        }
        let (answer, partial_images) = (Answer { as_url, format }, partial.unwrap_or(0));
        Ok(Self { prompt, n, size, answer, stream, partial_images, model, options })
    }
}

/// Fields by name.
struct Texts(BTreeMap<String, String>);

impl Texts {
    /// Takes a field; an empty one is absent.
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|text| !text.is_empty())
    }
}

/// All images of an answer are in memory at once.
fn check_pixels(size: PixelSize, n: u32, limits: &ServerLimits) -> Result<(), ApiError> {
    let most = limits.photo_megapixels;
    let pixels = size.height as u64 * size.width as u64 * u64::from(n);
    if pixels <= most.saturating_mul(1_000_000) {
        return Ok(());
    }
    let expected = format!("at most {most} megapixels for all images of an answer");
    Err(ApiError::option("size", expected, format!("{size} pixels, {n} of them")))
}

fn missing(name: &str) -> ApiError {
    ApiError::bad("missing", format!("{name}: expected a value, got none")).param(name)
}

fn as_url(text: Option<&str>, stream: bool) -> Result<bool, ApiError> {
    match text {
        None | Some("b64_json") => Ok(false),
        Some("url") if !stream => Ok(true),
        Some(other) => {
            let expected = if stream { "b64_json for a stream" } else { "b64_json or url" };
            Err(ApiError::option("response_format", expected, format!("{other:?}")))
        }
    }
}

impl Fields {
    async fn read(mut form: Multipart, limits: &ServerLimits) -> Result<Self, ApiError> {
        let start = Instant::now();
        let mut fields = Self::default();
        for count in 0.. {
            let field = timeout(limits.pause, form.next_field()).await.map_err(|_| slow())?;
            let Some(field) = field.map_err(|error| ApiError::bad("form", error.body_text()))?
            else {
                break;
            };
            if count == FIELDS {
                return Err(ApiError::bad(
                    "form",
                    format!("the form has more than {FIELDS} fields"),
                ));
            }
            fields.add(field, limits, start).await?;
        }
        Ok(fields)
    }

    async fn add(
        &mut self,
        field: Field<'_>,
        limits: &ServerLimits,
        start: Instant,
    ) -> Result<(), ApiError> {
        let name = field.name().unwrap_or_default().to_owned();
        let twice = || {
            ApiError::bad("form", format!("{name}: expected one, got another")).param(name.clone())
        };
        match name.as_str() {
            // Clients that take several images send the field with brackets, for one, too.
            "image" | "image[]" | "image[0]" => {
                if self.image.is_some() {
                    let message =
                        "image: expected one image, got several; this model edits one photo";
                    return Err(ApiError::bad("form", message).param("image"));
                }
                let file = file_name(field.file_name().unwrap_or_default());
                self.image = Some((read_field(field, limits, start, None).await?, file));
            }
            "mask" => {
                if self.mask.is_some() {
                    return Err(twice());
                }
                self.mask = Some(read_field(field, limits, start, None).await?);
            }
            _ => {
                let bytes = read_field(field, limits, start, Some(&name)).await?;
                let text = String::from_utf8(bytes);
                let text =
                    text.map_err(|_| ApiError::option(&name, "text in UTF-8", "other bytes"))?;
                if self.texts.insert(name.clone(), text).is_some() {
                    return Err(twice());
                }
            }
        }
        Ok(())
    }

    fn checked(self, limits: &ServerLimits) -> Result<Form, ApiError> {
        let (image, name) = self.image.ok_or_else(|| missing("image"))?;
        let asked = Asked::of_texts(self.texts, limits, &EditRequest::options())?;
        Ok(Form { image, name, mask: self.mask, asked })
    }
}

/// Reads a field: a file, or the text `name`.
async fn read_field(
    mut field: Field<'_>,
    limits: &ServerLimits,
    start: Instant,
    name: Option<&str>,
) -> Result<Vec<u8>, ApiError> {
    let most = if name.is_some() { TEXT_BYTES } else { limits.photo_bytes };
    let mut bytes = Vec::new();
    loop {
        let part = timeout(limits.pause, field.chunk()).await.map_err(|_| slow())?;
        let part = part.map_err(|error| ApiError::bad("form", error.body_text()))?;
        let Some(part) = part else { return Ok(bytes) };
        if bytes.len() + part.len() > most {
            let limit = name.unwrap_or("photo_bytes");
            drain(field).await;
            return Err(ApiError::too_large(limit, format!("a field is longer than {most} bytes")));
        }
        if start.elapsed() > limits.request_time {
            return Err(slow());
        }
        bytes.extend_from_slice(&part);
    }
}

fn number(
    text: Option<String>,
    name: &str,
    least: u32,
    most: u32,
) -> Result<Option<u32>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let value = text.parse().ok().filter(|value| (least..=most).contains(value));
    let expected = format!("{least} to {most}");
    value.map(Some).ok_or_else(|| ApiError::option(name, expected, format!("{text:?}")))
}

fn flag(text: Option<&str>, name: &str) -> Result<bool, ApiError> {
    match text {
        None => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(text) => Err(ApiError::option(name, "true or false", format!("{text:?}"))),
    }
}

fn output(format: Option<String>, compression: Option<String>) -> Result<Output, ApiError> {
    let (name, format) = match format.as_deref() {
        None | Some("png") => ("png", ImageFormat::Png),
        Some("jpeg") => ("jpeg", ImageFormat::Jpeg),
        Some("webp") => ("webp", ImageFormat::WebP),
        Some(other) => {
            return Err(ApiError::option(
                "output_format",
                "png, jpeg or webp",
                format!("{other:?}"),
            ));
        }
    };
    let compression = number(compression, "output_compression", 0, 100)?;
    // PNG and WebP are written without loss.
    let quality = compression.map_or(95, |quality| quality.max(1)) as u8;
    Ok(Output { name, format, quality })
}

fn size(text: Option<String>) -> Result<Option<PixelSize>, ApiError> {
    let Some(text) = text.filter(|text| text != "auto") else { return Ok(None) };
    let sides = text.split_once('x').and_then(|(width, height)| {
        let side = |text: &str| text.parse().ok().filter(|side| (8..=8192).contains(side));
        Some(PixelSize::new(side(height)?, side(width)?))
    });
    let expected = "auto or WIDTHxHEIGHT, 8 to 8192 each";
    sides.map(Some).ok_or_else(|| ApiError::option("size", expected, format!("{text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(texts: &[(&str, &str)]) -> Result<Form, ApiError> {
        let mut all = vec![("prompt", "make it red")];
        all.extend(texts);
        let texts = all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let image = Some((vec![1], "cat.png".to_owned()));
        Fields { image, mask: None, texts: texts.collect() }.checked(&ServerLimits::default())
    }

    #[test]
    fn fields_have_openais_values_and_defaults() {
        let form = checked(&[("user", "me"), ("quality", "high")]).unwrap().asked;
        assert_eq!((form.n, form.size, form.stream), (1, None, false));
        assert!(!form.answer.as_url);
        assert_eq!((form.answer.format.name, form.answer.format.quality), ("png", 95));
        assert!(checked(&[("size", "8000x8000")]).is_ok());
        let form = checked(&[
            ("n", "3"),
            ("size", "1024x512"),
            ("response_format", "url"),
            ("output_format", "jpeg"),
            ("output_compression", "0"),
            ("seed", "7"),
            ("model_size", "80"),
            ("hold", "auto"),
        ]);
        let form = form.unwrap().asked;
        assert_eq!((form.n, form.size), (3, Some(PixelSize::new(512, 1024))));
        assert!(form.answer.as_url);
        assert_eq!((form.answer.format.name, form.answer.format.quality), ("jpeg", 1));
        let options: Vec<_> = form.options.iter().map(|(name, text)| (&**name, &**text)).collect();
        assert_eq!(options, [("hold", "auto"), ("seed", "7"), ("size", "80")]);
    }

    #[test]
    fn fields_out_of_range_are_refused_by_name() {
        for (fields, code, param) in [
            (&[("n", "0")][..], "option", "n"),
            (&[("n", "11")], "option", "n"),
            (&[("n", "2"), ("stream", "true")], "option", "n"),
            (&[("size", "big")], "option", "size"),
            (&[("size", "1x1")], "option", "size"),
            (&[("size", "8000x8000"), ("n", "2")], "option", "size"),
            (&[("response_format", "png")], "option", "response_format"),
            (&[("output_format", "gif")], "option", "output_format"),
            (&[("output_compression", "101")], "option", "output_compression"),
            (&[("partial_images", "2")], "option", "partial_images"),
            (&[("partial_images", "4"), ("stream", "true")], "option", "partial_images"),
            (&[("stream", "yes")], "option", "stream"),
            (&[("background", "transparent")], "option", "background"),
            (&[("colour", "red")], "unknown_key", "colour"),
            (&[("prompt", " ")], "missing", "prompt"),
        ] {
            let error = checked(fields).err().unwrap_or_else(|| panic!("{fields:?}"));
            assert_eq!(
                (error.body.code, error.body.param.as_deref()),
                (code, Some(param)),
                "{fields:?}"
            );
        }
    }
}
