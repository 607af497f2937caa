//! The server: threads, connections, shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use editmgt::Editor;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::{App, Shared};
use crate::connections::{Connections, Impatient, Open, Routes};
use crate::disk::Disk;
use crate::engine::Worker;
use crate::error::ApiError;
use crate::models::ServedModel;
use crate::options::{ServerError, ServerLimits, ServerOptions};
use crate::{api, guard, mcp, openai, page};

/// Threads that answer requests; edits have one of their own.
const THREADS: usize = 2;
/// Threads that decode and encode images.
const BLOCKING_THREADS: usize = 4;
/// Longest head of a request, bytes.
const HEAD_BYTES: usize = 32 << 10;
/// How long answers may take to be sent when the server shuts down.
const FAREWELL: Duration = Duration::from_secs(5);
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that runs. Dropped, it stops.
///
/// ```
/// use editmgt_server::{Server, ServerOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let editor = editmgt::Editor::embedded().build()?;
/// let mut options = ServerOptions::default();
/// options.address = "127.0.0.1:0".parse()?;
/// let server = Server::start(editor, options)?;
/// println!("http://{}/", server.address());
/// server.stop();
/// # Ok(())
/// # }
/// ```
pub struct Server {
    address: SocketAddr,
    app: Shared,
    stop: watch::Sender<bool>,
    /// Both are there until the server is stopped.
    runtime: Option<Runtime>,
    worker: Option<JoinHandle<()>>,
    accepting: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Listens and answers, on threads of its own, with one model.
    ///
    /// # Errors
    /// [`ServerError`]: an address that needs a token, that is taken or not one of this machine.
    pub fn start(editor: Editor, options: ServerOptions) -> Result<Self, ServerError> {
        let model = ServedModel::loaded(options.model_name.clone(), editor);
        Self::start_models(vec![model.argument(options.model_argument.clone())], options)
    }

    /// Listens and answers, with several models, by name. The first is loaded now, and answers
    /// requests that name none; the others are loaded when they are needed.
    ///
    /// # Errors
    /// Those of [`start`](Self::start); [`ServerError::Models`], [`ServerError::ModelTooLarge`];
    /// [`ServerError::Load`] where the first can't be loaded.
    pub fn start_models(
        models: Vec<ServedModel>,
        options: ServerOptions,
    ) -> Result<Self, ServerError> {
        options.check()?;
        options.check_models(&models)?;
        let threads = |cause| ServerError::Threads { cause };
        let listen = options.address;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("editmgt-http")
            .enable_all()
            .build()
            .map_err(threads)?;
        let bound = runtime.block_on(async {
            let listener = TcpListener::bind(listen).await?;
            let address = listener.local_addr()?;
            Ok::<_, io::Error>((listener, address))
        });
        let (listener, address) =
            bound.map_err(|cause| ServerError::Listen { address: listen, cause })?;
        let disk = options.data.as_deref().map(Disk::open).transpose()?;
        let app = Arc::new(App::new(models, options, disk));
        app.models.load_first().map_err(Box::new)?;
        app.measure(0);
        app.store.restore(&app.models, app.options.keep);
        let thread = std::thread::Builder::new().name("editmgt-worker".into());
        let worker = Worker::of(&app);
        let worker = thread.spawn(move || worker.run()).map_err(threads)?;
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(expire(Arc::clone(&app)));
        let accepting = runtime.spawn(accept(listener, Arc::clone(&app), stopped));
        Ok(Self {
            address,
            app,
            stop,
            runtime: Some(runtime),
            worker: Some(worker),
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more edits, stops the one that runs after its step, sends the answers that are
    /// under way, and ends.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let (Some(runtime), Some(worker)) = (self.runtime.take(), self.worker.take()) else {
            return;
        };
        self.app.queue.close();
        if worker.join().is_err() {
            tracing::error!("the worker's thread panicked");
        }
        self.stop.send_replace(true);
        if let Some(accepting) = self.accepting.take() {
            // It ends by itself: its own wait is bounded.
            let _ended = runtime.block_on(accepting);
        }
        runtime.shutdown_timeout(FAREWELL);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// All routes, guarded, and what ends the streams that don't end by themselves.
fn router(app: Shared) -> (Router, impl FnOnce()) {
    let (agents, farewell) = mcp::routes(&app);
    let router = Router::new()
        .merge(agents)
        .merge(api::routes())
        .merge(openai::routes())
        .fallback(page::answer)
        // Bodies are bounded where they are read, by limits of their own.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guarded))
        .with_state(app);
    (router, farewell)
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let mut response = ApiError::internal(format!("a handler panicked: {message}")).into_response();
    let json = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Removes what was not used for too long.
async fn expire(app: Shared) {
    let keep = app.options.keep;
    let pause = (keep / 10).clamp(Duration::from_millis(100), Duration::from_secs(60));
    loop {
        sleep(pause).await;
        app.store.expire(keep);
    }
}

/// Accepts connections until `stopped` changes, then waits for the answers that are under way.
async fn accept(listener: TcpListener, app: Shared, mut stopped: watch::Receiver<bool>) {
    let (router, farewell) = router(Arc::clone(&app));
    let graceful = GracefulShutdown::new();
    let limits = &app.options.limits;
    let connections = Connections::new(limits.connections);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            _ = stopped.changed() => break,
        };
        let admitted = tokio::select! {
            admitted = connections.admit() => admitted,
            _ = stopped.changed() => break,
        };
        let connection = serve(stream, router.clone(), admitted.open(), limits);
        let watched = graceful.watch(connection);
        let open = app.metrics.connection();
        tokio::spawn(async move {
            let _open = open;
            tokio::select! {
                ended = watched => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                },
                () = admitted.closed() => tracing::debug!("an idle connection made room"),
            }
        });
    }
    drop(listener);
    farewell();
    if timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::warn!("some answers were not sent in time");
    }
}

type Connection = http1::Connection<TokioIo<Impatient>, Routes>;

fn serve(stream: TcpStream, router: Router, open: &Arc<Open>, limits: &ServerLimits) -> Connection {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small answers may be delayed");
    }
    let stream = Impatient::new(stream, limits.answer_pause);
    let routes = Routes { router: TowerToHyperService::new(router), open: Arc::clone(open) };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.pause)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), routes)
}
