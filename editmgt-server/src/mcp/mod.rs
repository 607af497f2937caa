//! Tools for agents, by the Model Context Protocol: `editmgt mcp` and `/mcp`.
//!
//! ```text
//! standard input ─► serve_stdio ─┐                      ┌─► files of the allowed folders
//!                                ├─► Agent ─► queue, worker (as for the HTTP API)
//! POST /mcp ─► guard ─► http ────┘                      └─► images in the messages
//! ```

mod calls;
mod files;
mod http;
mod stdio;
mod tools;

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};

pub use files::RootError;
pub(crate) use http::routes;
pub use stdio::{AgentError, serve_stdio};

use crate::app::Shared;
use files::Roots;

/// The tools of one server, for all its clients.
#[derive(Clone)]
struct Agent {
    app: Shared,
    roots: Arc<Roots>,
    tools: Arc<Vec<Tool>>,
}

impl Agent {
    fn new(app: Shared, roots: Roots) -> Self {
        let tools = Arc::new(tools::tools(&app, &roots));
        Self { app, roots: Arc::new(roots), tools }
    }
}

impl ServerHandler for Agent {
    fn get_info(&self) -> ServerConfig {
        let instructions = format!(
            "Edits images by instruction with a generative transformer; what the edit does not touch stays the photo's \
             own pixels. {} says what the model can do and which words it knows.",
            tools::DESCRIBE
        );
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("editmgt", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(instructions);
        info
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = self.get_tool(&request.name) else {
            let names: Vec<_> = self.tools.iter().map(|tool| tool.name.as_ref()).collect();
            let message =
                format!("expected a tool of {}, got {:?}", names.join(", "), request.name);
            return Err(ErrorData::invalid_params(message, None));
        };
        Ok(self.call(&tool, request.arguments, context).await.into())
    }
}
