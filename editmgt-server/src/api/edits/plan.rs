//! The endpoint of plans.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use editmgt::content_words;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::request::{EditBody, KEYS, Named, PLAN_KEYS};
use crate::api::to_json;
use crate::app::{Shared, blocking};
use crate::body;
use crate::engine::passes;
use crate::error::{ApiError, ErrorAnswer};
use crate::prepare::{self, Prepared};

/// For the description: what a plan is made of, the first keys of [`EditBody`].
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read as an EditBody")]
pub(super) struct PlanBody {
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    photo: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    base: Option<String>,
    /// May be empty.
    #[schema(required = false)]
    instruction: String,
    #[schema(value_type = Object, required = false)]
    options: Map<String, Value>,
    #[schema(pattern = "^[A-Za-z0-9_-]{22}$")]
    mask: Option<String>,
    model: Option<String>,
}

/// What an edit will do.
#[derive(Serialize, ToSchema)]
#[schema(as = Plan)]
pub(super) struct PlanView {
    width: usize,
    height: usize,
    grid: Grid,
    steps: usize,
    /// Of the transformer; a guided step is two.
    passes: usize,
    /// An estimate.
    seconds: Option<f64>,
    /// Edits that run or wait.
    position: usize,
    words: Vec<String>,
}

/// A token grid.
#[derive(Serialize, ToSchema)]
pub(super) struct Grid {
    pub(super) height: usize,
    pub(super) width: usize,
}

/// What an edit would do, without running the model.
#[utoipa::path(post, path = "/api/plan", operation_id = "plan_edit", request_body = PlanBody, responses(
    (status = 200, body = PlanView), (status = 400, body = ErrorAnswer), (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer), (status = 415, body = ErrorAnswer),
))]
pub(crate) async fn plan(
    State(app): State<Shared>,
    request: Request,
) -> Result<Response, ApiError> {
    let body: EditBody = body::json(&app, request, &KEYS[..PLAN_KEYS], &["photo"]).await?;
    let named = Named::find(&app, &body)?;
    let view = blocking(move || {
        let limits = &app.options.limits;
        let size = named.photo.photo().size();
        let used = app.model(named.model)?;
        let editor = &used.editor;
        let instruction = body.instruction.trim();
        // The page plans before there is an instruction.
        let placeholder = if instruction.is_empty() { "photo" } else { instruction };
        let request = prepare::request(placeholder, &named.options, named.mask.as_deref(), limits)?;
        let (settings, plan) = if instruction.is_empty() {
            prepare::plan(editor, size, &request, limits)?
        } else {
            let Prepared { settings, plan, .. } = prepare::prepare(editor, size, request, limits)?;
            (settings, plan)
        };
        let (model, grid) = (plan.model(), prepare::grid(editor, &plan));
        let passes = passes(&settings);
        Ok(PlanView {
            width: model.width,
            height: model.height,
            grid: Grid { height: grid.height, width: grid.width },
            steps: settings.steps,
            passes,
            seconds: app.queue.seconds(used.model, passes, model.height * model.width),
            position: app.queue.len(),
            words: content_words(instruction).into_iter().map(str::to_owned).collect(),
        })
    });
    to_json(StatusCode::OK, &view.await?)
}
