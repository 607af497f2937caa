//! The protocol over standard input and output.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use editmgt::Editor;
use rmcp::ServiceExt;
use rmcp::service::QuitReason;
use rmcp::transport::stdio;
use tokio::runtime;

use super::Agent;
use super::files::{RootError, Roots};
use crate::app::App;
use crate::engine::Worker;
use crate::models::ServedModel;
use crate::options::ServerOptions;

/// How long the threads may take to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a wish to stop is looked for.
const PAUSE: Duration = Duration::from_millis(50);
const BLOCKING_THREADS: usize = 8;

/// Why an agent's server ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A folder that can't be allowed.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A thread can't be started.
    #[error("cannot start the server's threads: {cause}")]
    Threads {
        /// The system's reason.
        cause: std::io::Error,
    },
    /// The client does not speak the protocol.
    #[error("expected a client of the Model Context Protocol on standard input: {cause}")]
    Protocol {
        /// What came instead.
        cause: String,
    },
}

/// Serves the tools `edit_image`, `generate_image`, `describe_models` and `show_record` to the
/// program at the other end of standard input and output, until that closes or `is_stopped`.
/// Nothing else may write to standard output.
///
/// Images are read and written in the folders `roots` only, and nothing is overwritten; without
/// folders they travel in the messages. Of `options`, the limits and the model's name count.
///
/// # Errors
/// [`AgentError`].
pub fn serve_stdio(
    editor: Editor,
    options: ServerOptions,
    roots: &[PathBuf],
    is_stopped: impl Fn() -> bool,
) -> Result<(), AgentError> {
    let roots = Roots::open(roots)?;
    let threads = |cause| AgentError::Threads { cause };
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("editmgt-mcp")
        .enable_all()
        .build()
        .map_err(threads)?;
    let model = ServedModel::loaded(options.model_name.clone(), editor);
    let app = Arc::new(App::new(vec![model], options, None));
    let worker = Worker::of(&app);
    let thread = std::thread::Builder::new().name("editmgt-worker".into());
    let worker = thread.spawn(move || worker.run()).map_err(threads)?;
    let agent = Agent::new(Arc::clone(&app), roots);
    let served = runtime.block_on(async {
        let serve = async {
            let service = agent.serve(stdio()).await;
            let service =
                service.map_err(|error| AgentError::Protocol { cause: error.to_string() })?;
            match service.waiting().await {
                Ok(QuitReason::JoinError(error)) | Err(error) => {
                    Err(AgentError::Protocol { cause: error.to_string() })
                }
                Ok(_) => Ok(()),
            }
        };
        let stop = async {
            while !is_stopped() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            served = serve => served,
            () = stop => Ok(()),
        }
    });
    app.queue.close();
    if worker.join().is_err() {
        tracing::error!("the worker's thread panicked");
    }
    // A read of standard input that is under way does not end by itself.
    runtime.shutdown_timeout(FAREWELL);
    served
}
