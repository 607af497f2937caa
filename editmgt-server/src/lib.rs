//! A page and an HTTP API to edit images by instruction: `editmgt serve`.
//!
//! ```text
//! page, clients ─► guard (Host, Origin, token) ─► /api (API.md), /v1 (as OpenAI's), /mcp ─► bounded queue
//!                                                                                      │
//!        events, results ◄─ store (bounded in number, bytes and age) ◄─ one worker thread with the model
//! ```
//!
//! [`Server::start`] runs it on threads of its own; `docs/server.md` describes it.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod api;
mod app;
mod body;
mod connections;
mod disk;
mod edit;
mod engine;
mod error;
mod generation;
mod guard;
mod maps;
mod mcp;
mod metrics;
mod models;
mod openai;
mod options;
mod page;
mod prepare;
mod server;
mod speed;
mod store;
mod sync;

pub use mcp::{AgentError, RootError, serve_stdio};
pub use models::ServedModel;
pub use options::{ServerError, ServerLimits, ServerOptions};
pub use server::Server;
