//! Connections: bounded in number, and closed when they idle while others wait, or stop taking
//! their answer.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};

use crate::sync::lock;

/// A connection is not closed for another one before it has had this long to send a request.
const GRACE: Duration = Duration::from_millis(250);

/// The open connections.
pub(crate) struct Connections {
    most: usize,
    open: Mutex<Vec<Arc<Open>>>,
    /// One has ended or begun to idle.
    changed: Notify,
}

/// An open connection.
pub(crate) struct Open {
    connections: Arc<Connections>,
    state: Mutex<State>,
    close: Notify,
}

struct State {
    /// Requests whose answers are not sent; more than one only while an answer ends.
    requests: usize,
    idle_since: Instant,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default(), changed: Notify::new() })
    }

    /// Waits for room for one more connection. Where there is none, the one that has idled the
    /// longest is closed.
    pub(crate) async fn admit(self: &Arc<Self>) -> Admitted {
        loop {
            match self.try_admit() {
                Ok(admitted) => return admitted,
                Err(pause) => {
                    let _whichever_is_first = timeout(pause, self.changed.notified()).await;
                }
            }
        }
    }

    /// The connection, or how long to wait.
    fn try_admit(self: &Arc<Self>) -> Result<Admitted, Duration> {
        let now = Instant::now();
        let mut open = lock(&self.open);
        if open.len() >= self.most {
            let idle = open.iter().enumerate().filter_map(|(i, open)| {
                let state = lock(&open.state);
                (state.requests == 0).then_some((i, state.idle_since))
            });
            let Some((i, since)) = idle.min_by_key(|(_, since)| *since) else { return Err(GRACE) };
            let idle = now.saturating_duration_since(since);
            if idle < GRACE {
                return Err(GRACE - idle);
            }
            open.swap_remove(i).close.notify_one();
        }
        let state = Mutex::new(State { requests: 0, idle_since: now });
        let new = Open { connections: Arc::clone(self), state, close: Notify::new() };
        let new = Arc::new(new);
        open.push(Arc::clone(&new));
        Ok(Admitted(new))
    }
}

/// The place of a connection, until it is dropped.
pub(crate) struct Admitted(Arc<Open>);

impl Admitted {
    pub(crate) fn open(&self) -> &Arc<Open> {
        &self.0
    }

    /// Waits until the connection must be closed.
    pub(crate) async fn closed(&self) {
        self.0.close.notified().await;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let connections = &self.0.connections;
        lock(&connections.open).retain(|open| !Arc::ptr_eq(open, &self.0));
        connections.changed.notify_one();
    }
}

/// A request whose answer is not sent yet.
struct Busy(Arc<Open>);

impl Busy {
    fn new(open: &Arc<Open>) -> Self {
        lock(&open.state).requests += 1;
        Self(Arc::clone(open))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.requests -= 1;
        state.idle_since = Instant::now();
        drop(state);
        self.0.connections.changed.notify_one();
    }
}

/// The routes for one connection, which is busy from a request to the end of its answer.
pub(crate) struct Routes {
    pub(crate) router: TowerToHyperService<Router>,
    pub(crate) open: Arc<Open>,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response, E>> + Send>>;

impl Service<hyper::Request<Incoming>> for Routes {
    type Response = Response;
    type Error = <TowerToHyperService<Router> as Service<hyper::Request<Incoming>>>::Error;
    type Future = Answer<Self::Error>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let busy = Busy::new(&self.open);
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(BusyBody { body, _busy: busy })))
        })
    }
}

/// The body of an answer: its connection is busy until it is sent.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that fails when its client takes nothing of an answer for `pause`.
pub(crate) struct Impatient {
    stream: TcpStream,
    pause: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    pub(crate) fn new(stream: TcpStream, pause: Duration) -> Self {
        Self { stream, pause, stalled: None }
    }

    /// Starts, ends or checks the time that the client has taken nothing.
    fn wait<T>(
        &mut self,
        poll: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.pause)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wait(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.wait(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_idle_connection_makes_room_and_a_busy_one_never() {
        let connections = Connections::new(2);
        let first = connections.try_admit().ok().unwrap();
        let second = connections.try_admit().ok().unwrap();
        let busy = Busy::new(first.open());
        assert!(connections.try_admit().is_err(), "the second has its time to send a request");
        std::thread::sleep(GRACE);
        let third = connections.try_admit().ok().unwrap();
        assert_eq!(Arc::strong_count(&second.0), 1, "the first has idled longer, but is busy");
        let _also_busy = Busy::new(third.open());
        drop(second);
        assert_eq!(lock(&connections.open).len(), 2, "the place of the second was taken over");
        assert_eq!(connections.try_admit().err(), Some(GRACE), "all are busy");
        drop(busy);
        assert!(connections.try_admit().is_err(), "the first has only begun to idle");
        drop(first);
        assert!(connections.try_admit().is_ok());
    }
}
