//! Plans, edits, their events and what they leave.

mod maps;
mod plan;
mod request;
mod results;
mod start;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast::{Receiver, error::RecvError};

pub(super) use maps::*;
pub(super) use plan::*;
pub(super) use results::*;
pub(super) use start::*;

use super::to_json;
use crate::app::Shared;
use crate::edit::{EditView, Event};
use crate::engine::Job;
use crate::error::{ApiError, ErrorAnswer};

fn not_done() -> ApiError {
    ApiError::conflict("not_done", "this edit has no result (yet)")
}

/// An edit as it stands.
#[utoipa::path(get, path = "/api/edits/{id}", operation_id = "get_edit", params(("id" = String, Path)), responses(
    (status = 200, body = EditView), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn view(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    to_json(StatusCode::OK, &app.store.edit(&id)?.view())
}

/// The events of an edit.
#[utoipa::path(get, path = "/api/edits/{id}/events", operation_id = "get_edit_events", params(("id" = String, Path)), responses(
    (status = 200, body = Object, content_type = "text/event-stream"), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn events(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    /// Between two comments that keep the connection open.
    const PAUSE: Duration = Duration::from_secs(15);
    let edit = app.store.edit(&id)?;
    let (now, receiver) = edit.subscribe();
    drop(edit);
    let events = all_events(now, receiver)
        .map(|event| Ok::<_, Infallible>(sse::Event::default().event(event.name).data(event.data)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(PAUSE)).into_response())
}

/// The events so far, then those to come until the last.
pub(crate) fn all_events(now: Vec<Event>, receiver: Receiver<Event>) -> impl Stream<Item = Event> {
    let receiver = (!now.iter().any(|event| event.last)).then_some(receiver);
    let rest = stream::unfold(receiver, |receiver| async {
        let mut receiver = receiver?;
        loop {
            match receiver.recv().await {
                Ok(event) => {
                    let rest = (!event.last).then_some(receiver);
                    return Some((event, rest));
                }
                // The last event is among those that are still there.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    stream::iter(now).chain(rest)
}

/// Stops an edit after the step that runs.
#[utoipa::path(post, path = "/api/edits/{id}/cancel", operation_id = "cancel_edit", params(("id" = String, Path)), responses(
    (status = 202, body = EditView), (status = 404, body = ErrorAnswer)
))]
pub(super) async fn cancel(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let edit = app.store.edit(&id)?;
    app.queue.cancel(&Job::Edit(Arc::clone(&edit)));
    to_json(StatusCode::ACCEPTED, &edit.view())
}
