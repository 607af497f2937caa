//! The endpoint of regions for other limits.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::plan::Grid;
use crate::api::to_json;
use crate::app::{Shared, blocking};
use crate::body;
use crate::error::{ApiError, ErrorAnswer};
use crate::maps::{Area, Region};
use crate::prepare;

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
pub(crate) async fn maps(
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
