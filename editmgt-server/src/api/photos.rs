//! Photos and masks.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use editmgt::image::{DynamicImage, ImageFormat};
use editmgt::{Mask, MaskReading, Photo, PhotoLimits, SaveOptions};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{png, to_json};
use crate::app::{App, Shared, blocking};
use crate::body;
use crate::edit::{EditView, sentences};
use crate::error::{ApiError, ErrorAnswer, Role};
use crate::options::ServerLimits;
use crate::store::StoredPhoto;

/// Longest name of a photo, characters.
const NAME: usize = 100;

/// A photo, as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Photo)]
pub(super) struct PhotoView {
    id: String,
    name: String,
    width: usize,
    height: usize,
    notes: Vec<String>,
    /// Its edits in the order of their starts.
    edits: Vec<EditView>,
}

fn view_of(app: &App, photo: &StoredPhoto) -> PhotoView {
    let size = photo.photo().size();
    PhotoView {
        id: photo.id.clone(),
        name: photo.name.clone(),
        width: size.width,
        height: size.height,
        notes: sentences(photo.photo().notes()),
        edits: app.store.edits_of(photo).iter().map(|edit| edit.view()).collect(),
    }
}

fn photo_limits(limits: &ServerLimits) -> PhotoLimits {
    PhotoLimits::default()
        .with_max_pixels(limits.photo_megapixels.saturating_mul(1_000_000))
        .with_max_bytes(limits.photo_bytes as u64)
}

/// Refuses images that are longer and narrower than the limit.
///
/// # Errors
/// Status 413.
fn check_ratio(photo: &Photo, limits: &ServerLimits, role: Role) -> Result<(), ApiError> {
    let size = photo.size();
    let (long, short) = (size.height.max(size.width), size.height.min(size.width));
    if long as u64 > limits.photo_ratio.saturating_mul(short as u64) {
        let (role, most) = (role.name(), limits.photo_ratio);
        let message = format!("{role}: {size} pixels, the limit is sides in a ratio of {most}:1");
        return Err(ApiError::too_large("photo_ratio", message));
    }
    Ok(())
}

/// Decodes a photo.
///
/// # Errors
/// Status 400 for what is no image, 413 for one over the limits.
pub(crate) fn decode_photo(
    bytes: &[u8],
    limits: &ServerLimits,
    role: Role,
) -> Result<Photo, ApiError> {
    let photo = Photo::from_bytes_within(bytes, &photo_limits(limits));
    let photo = photo.map_err(|error| ApiError::of_photo(&error, role))?;
    check_ratio(&photo, limits, role)?;
    Ok(photo)
}

/// Decodes a mask of a photo.
///
/// # Errors
/// Those of [`decode_photo`]; status 400 for a mask of other proportions or without white.
pub(crate) fn decode_mask(
    bytes: &[u8],
    photo: &Photo,
    reading: MaskReading,
    limits: &ServerLimits,
) -> Result<Mask, ApiError> {
    let image = decode_photo(bytes, limits, Role::Mask)?;
    let mask = Mask::from_photo(&image, reading)
        .map_err(|error| ApiError::of_photo(&error, Role::Mask))?;
    mask.check_aspect(photo.size()).map_err(|error| ApiError::of_photo(&error, Role::Mask))?;
    Ok(mask)
}

/// The last part of a file's name, without control characters; `photo.png` where nothing is left.
pub(crate) fn file_name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control()).take(NAME).collect();
    let name = name.trim().trim_start_matches('.').to_owned();
    if name.is_empty() { "photo.png".to_owned() } else { name }
}

/// Keeps a photo.
#[utoipa::path(post, path = "/api/photos", operation_id = "add_photo",
    params(("name" = Option<String>, Query, description = "The file's name")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, body = PhotoView), (status = 400, body = ErrorAnswer), (status = 408, body = ErrorAnswer),
        (status = 413, body = ErrorAnswer), (status = 429, body = ErrorAnswer),
        (status = 507, body = ErrorAnswer),
    ))]
pub(super) async fn add(
    State(app): State<Shared>,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let query = queried(query, "name")?;
    let (parts, body) = request.into_parts();
    let limits = app.options.limits.clone();
    let bytes = body::read(&app, body, &parts.headers, limits.photo_bytes, "photo_bytes").await?;
    let name = file_name(query.as_deref().unwrap_or_default());
    let shared = Arc::clone(&app);
    let keep = move || {
        let photo = decode_photo(&bytes, &limits, Role::Photo)?;
        let open = shared.models.openable(Arc::new(photo));
        shared.store.add_saved_photo(name, open, &bytes)
    };
    let photo = app.decode(keep).await?;
    to_json(StatusCode::CREATED, &view_of(&app, &photo))
}

/// The value of the only key that a query may have.
///
/// # Errors
/// Status 400 for another key.
pub(super) fn queried(
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
    key: &str,
) -> Result<Option<String>, ApiError> {
    let Query(mut query) = query.map_err(|error| ApiError::bad("query", error.body_text()))?;
    let value = query.remove(key);
    match query.keys().next() {
        Some(other) => {
            let message = format!("{other:?} is no key of this query; expected {key}");
            Err(ApiError::bad("unknown_key", message).param(other.clone()))
        }
        None => Ok(value),
    }
}

/// A photo and its edits.
#[utoipa::path(get, path = "/api/photos/{id}", operation_id = "get_photo", params(("id" = String, Path)), responses(
    (status = 200, body = PhotoView), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn view(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let photo = app.store.photo(&id)?;
    to_json(StatusCode::OK, &view_of(&app, &photo))
}

/// Stops the edits of a photo and forgets it.
#[utoipa::path(delete, path = "/api/photos/{id}", operation_id = "remove_photo", params(("id" = String, Path)), responses(
    (status = 204), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn remove(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    app.forget_photo(&id)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A photo as PNG.
#[utoipa::path(get, path = "/api/photos/{id}/image", operation_id = "get_photo_image", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "image/png"), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn image(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let photo = app.store.photo(&id)?;
    let encode =
        move || Ok(photo.photo().encode_with(ImageFormat::Png, &SaveOptions::default())?);
    Ok(png(blocking(encode).await?))
}

/// Keeps a mask of a photo.
#[utoipa::path(post, path = "/api/photos/{id}/masks", operation_id = "add_mask", params(("id" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, body = Object), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
        (status = 408, body = ErrorAnswer), (status = 413, body = ErrorAnswer), (status = 429, body = ErrorAnswer),
        (status = 507, body = ErrorAnswer),
    ))]
pub(super) async fn add_mask(
    State(app): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let photo = app.store.photo(&id)?;
    let (parts, body) = request.into_parts();
    let limits = app.options.limits.clone();
    let bytes = body::read(&app, body, &parts.headers, limits.photo_bytes, "photo_bytes").await?;
    let shared = Arc::clone(&app);
    let decode = move || {
        let mask = decode_mask(&bytes, photo.photo(), MaskReading::Auto, &limits)?;
        let levels = mask.levels(mask.size())?;
        let sum: u64 = levels.iter().map(|&level| u64::from(level)).sum();
        let mask = shared.store.add_mask(&photo, Arc::new(mask))?;
        if let Some(disk) = shared.store.disk_of(&photo) {
            mask_png(&mask.mask)
                .and_then(|png| disk.save_mask(&photo.id, &mask.id, &png))
                .inspect_err(|_| shared.store.forget_mask(&mask.id))?;
        }
        Ok((mask, sum as f64 / (255.0 * levels.len().max(1) as f64)))
    };
    let (mask, white) = app.decode(decode).await?;
    let size = mask.mask.size();
    let notes = sentences(mask.mask.notes());
    let answer = json!({
        "id": mask.id, "width": size.width, "height": size.height, "white": white, "notes": notes,
    });
    to_json(StatusCode::CREATED, &answer)
}

/// A mask's levels as PNG; white may change.
#[utoipa::path(get, path = "/api/masks/{id}", operation_id = "get_mask", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "image/png"), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn mask(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let mask = app.store.mask(&id, None)?;
    Ok(png(blocking(move || mask_png(&mask.mask)).await?))
}

/// The levels of a mask in its own size.
///
/// # Errors
/// Status 500 if it can't be encoded.
pub(super) fn mask_png(mask: &Mask) -> Result<Vec<u8>, ApiError> {
    let levels = DynamicImage::ImageLuma8(mask.levels(mask.size())?);
    let mut png = std::io::Cursor::new(Vec::new());
    levels.write_to(&mut png, ImageFormat::Png).map_err(ApiError::internal)?;
    Ok(png.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        for (given, name) in [
            ("cat.jpg", "cat.jpg"),
            ("../../etc/passwd", "passwd"),
            ("C:\\photos\\cat.jpg", "cat.jpg"),
            ("a\nb\0.png", "ab.png"),
            ("..", "photo.png"),
            ("", "photo.png"),
            ("x/", "photo.png"),
        ] {
            assert_eq!(file_name(given), name, "{given:?}");
        }
        assert_eq!(file_name(&"é".repeat(500)).chars().count(), NAME);
    }
}
