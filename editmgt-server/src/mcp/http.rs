//! `/mcp`: streamable HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use axum::routing::any;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use super::Agent;
use super::files::Roots;
use crate::app::{App, Shared};
use crate::body;
use crate::error::ApiError;

/// Most sessions at once.
const SESSIONS: usize = 128;
/// How long a session outlives the longest edit.
const IDLE: Duration = Duration::from_secs(300);
/// Bytes of a message beside its images.
const MESSAGE: usize = 256 << 10;
const SESSION: &str = "mcp-session-id";

/// The route, and what ends its sessions when the server stops.
///
/// No path of this machine can be named here: images travel in the messages.
pub(crate) fn routes(app: &Shared) -> (Router<Shared>, impl FnOnce() + Send + 'static + use<>) {
    let agent = Agent::new(Arc::clone(app), Roots::default());
    let mut sessions = LocalSessionManager::default();
    let limits = &app.options.limits;
    sessions.session_config.keep_alive = Some(limits.edit_time + IDLE);
    let sessions = Arc::new(sessions);
    // The guard has checked Host and Origin, and bodies are bounded where they are read.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(longest(app));
    let farewell = config.cancellation_token.clone();
    let service =
        StreamableHttpService::new(move || Ok(agent.clone()), Arc::clone(&sessions), config);
    let handler = move |State(app): State<Shared>, request: Request| {
        let (service, sessions) = (service.clone(), Arc::clone(&sessions));
        async move {
            let is_end = request.method() == Method::DELETE;
            match checked(&app, &sessions, request).await {
                Ok(request) => {
                    let mut response = service.handle(request).await.map(Body::new);
                    // The official Python client takes another status for a failure.
                    if is_end && response.status() == StatusCode::ACCEPTED {
                        *response.status_mut() = StatusCode::NO_CONTENT;
                    }
                    response
                }
                Err(error) => error.into_response(),
            }
        }
    };
    (Router::new().route("/mcp", any(handler)), move || farewell.cancel())
}

/// Longest message: a photo and a mask as base64, and the rest.
fn longest(app: &App) -> usize {
    let image = app.options.limits.photo_bytes / 3 * 4;
    image.saturating_mul(2).saturating_add(MESSAGE)
}

/// The request with its whole body, which arrived within the limits.
async fn checked(
    app: &App,
    sessions: &LocalSessionManager,
    request: Request,
) -> Result<Request, ApiError> {
    if request.method() != Method::POST {
        return Ok(request);
    }
    if !request.headers().contains_key(SESSION) && sessions.sessions.read().await.len() >= SESSIONS
    {
        let message = format!("{SESSIONS} sessions are open; end one, or try again later");
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "sessions_full", message));
    }
    let (parts, body) = request.into_parts();
    let bytes = body::read(app, body, &parts.headers, longest(app), "message_bytes").await?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}
