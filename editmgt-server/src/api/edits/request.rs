//! What is edited, and how: the body of a request for a plan or an edit.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::not_done;
use crate::app::App;
use crate::edit::Edit;
use crate::error::ApiError;
use crate::prepare;
use crate::store::{StoredMask, StoredPhoto};

/// What is edited, and how.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EditBody {
    #[schema(required = true, pattern = "^[A-Za-z0-9_-]{22}$")]
    pub(super) photo: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    pub(super) base: Option<String>,
    /// Needed unless an edit is resumed.
    pub(super) instruction: String,
    #[schema(value_type = Object)]
    pub(super) options: Map<String, Value>,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    pub(super) mask: Option<String>,
    pub(super) look: bool,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    pub(super) parent: Option<String>,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    pub(super) resume: Option<String>,
    pub(super) model: Option<String>,
}

pub(super) const KEYS: [&str; 9] =
    ["photo", "base", "instruction", "options", "mask", "model", "look", "parent", "resume"];
/// Of these a plan is made.
pub(super) const PLAN_KEYS: usize = 6;

/// What a body names.
pub(super) struct Named {
    pub(super) photo: Arc<StoredPhoto>,
    pub(super) base: Option<Arc<Edit>>,
    pub(super) mask: Option<Arc<StoredMask>>,
    pub(super) options: BTreeMap<String, String>,
    pub(super) model: usize,
}

impl Named {
    pub(super) fn find(app: &App, body: &EditBody) -> Result<Self, ApiError> {
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
pub(super) fn edit_of(app: &App, id: &str, photo: &StoredPhoto) -> Result<Arc<Edit>, ApiError> {
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
