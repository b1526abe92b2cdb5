//! Serves gRPC on one connection, and checks each call with the access table. Does not depend on the
//! services.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http2,
    service::Service,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, service::Routes};
use tower::ServiceExt as _;

use super::{
    budget::{Budget, Exceeded, Permit},
    channel::{CONNECTION_WINDOW, KeepAlive, STREAM_WINDOW},
    metered::Metered,
    protocol_1,
};
use crate::trust::access::{self, Caller, Denied};

/// Maximum number of simultaneous calls of a master on an agent's connection: one for each task.
const MAX_STREAMS: u32 = 16_384;
/// Maximum number of simultaneous calls on one connection of an operator. More calls are refused, not queued
/// silently.
const MAX_OPERATOR_STREAMS: u32 = 256;
/// Maximum number of simultaneous calls of an unauthenticated peer, which needs one.
const MAX_UNAUTHENTICATED_STREAMS: u32 = 4;
/// The HTTP/2 window of one call of an operator, in bytes: half of the maximum of unacknowledged input
/// ([`WINDOW`](crate::domain::input::WINDOW)).
const OPERATOR_STREAM_WINDOW: u32 = 512 * 1024;
/// The HTTP/2 window of an operator's connection, in bytes. The master keeps unread data in memory, up to
/// this size.
const OPERATOR_WINDOW: u32 = 1024 * 1024;
/// Maximum number of bytes of one call that wait to be sent to an operator.
const OPERATOR_SEND_BUFFER: usize = 96 * 1024;

/// How long the connection of an operator or an unauthenticated peer stays open without a call.
const IDLE: Duration = Duration::from_mins(5);

/// Information about the caller of a connection. It is in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The identity of the caller, as proven by the connection.
    pub caller: Caller,
    /// The caller's address, as text for people.
    pub address: Arc<str>,
    /// The id of the user that connected over a Unix socket; `None` for other connections.
    pub uid: Option<u32>,
    /// The caller's budget.
    pub budget: Arc<Budget>,
    /// The channel for refusals of an operator's calls. If it is full, a refusal is dropped, so that no call
    /// waits for the channel.
    pub refusals: Option<mpsc::Sender<Refusal>>,
    /// The limit that the connection exceeds, if any. Each call on the connection is refused with this error.
    pub over: Option<Exceeded>,
}

/// A call of an operator that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The call's name from the access table, or the limit that was exceeded.
    pub what: String,
    /// The reason, as text for operators.
    pub reason: String,
}

/// The HTTP/2 window of an unauthenticated peer, in bytes: HTTP/2's default.
const UNAUTHENTICATED_WINDOW: u32 = 64 * 1024;

#[derive(Clone)]
struct Guarded {
    connected: Connected,
    routes: Routes,
    /// The number of open calls on the connection.
    open: watch::Sender<usize>,
}

/// An open call. The connection counts it until this value is dropped.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Waits until no call has been open for [`IDLE`].
async fn idle(mut open: watch::Receiver<usize>) {
    loop {
        // Cannot fail: the connection owns a sender, and outlives this future.
        let _ = open.wait_for(|open| *open == 0).await;
        tokio::select! {
            // Restarts the wait, even if a call has begun and ended in the meantime.
            _ = open.changed() => {}
            () = tokio::time::sleep(IDLE) => return,
        }
    }
}

impl Service<Request<Incoming>> for Guarded {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = Open::new(&self.open);
        let places = match self.admit(request.uri().path()) {
            Ok(places) => places,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        request.extensions_mut().insert(self.connected.clone());
        let routes = self.routes.clone();
        Box::pin(async move {
            let (call, write) = places;
            let response = routes.oneshot(request).await?;
            // The response has begun, so the change is recorded.
            drop(write);
            Ok(response.map(|body| Body::new(Counted { body, _call: call, _open: open })))
        })
    }
}

impl Guarded {
    /// Checks that the caller is allowed to make a call. Takes a permit for the call, and a second permit if
    /// the call changes something.
    fn admit(&self, path: &str) -> Result<(Permit, Option<Permit>), Status> {
        let Connected { caller, budget, over, .. } = &self.connected;
        if let Some(met) = over {
            return Err(self.connected.refuse(met));
        }
        // Takes the permit before the check, because a refusal has a cost too.
        let call = budget.call().map_err(|met| self.connected.refuse(&met))?;
        if let Err(denied) = access::check(caller, path) {
            let is_known = matches!(denied, Denied::NotAllowed { .. });
            if let Caller::Operator { name, .. } = caller {
                if budget.may_log() {
                    let method = path.get(..LOGGED_PATH).unwrap_or(path);
                    tracing::warn!(operator = %name, method, "refused a call: {denied}");
                }
                if is_known {
                    self.connected.tell(path.rsplit('/').next().unwrap_or(path), &denied);
                }
            }
            return Err(match denied {
                Denied::NoIdentity | Denied::Unknown(_) => Status::unauthenticated(denied.to_string()),
                Denied::NotAllowed { .. } => Status::permission_denied(denied.to_string()),
                Denied::NoSuchMethod => {
                    protocol_1::refusal(path).unwrap_or_else(|| Status::unimplemented(denied.to_string()))
                }
            });
        }
        let write = access::changes(path).then(|| budget.write()).transpose();
        Ok((call, write.map_err(|met| self.connected.refuse(&met))?))
    }
}

impl Connected {
    /// Returns the caller of a request.
    ///
    /// # Errors
    /// When the request did not arrive over a connection that this module serves.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let connected = request.extensions().get::<Self>();
        connected.cloned().ok_or_else(|| Status::internal("a call without a connection"))
    }

    /// Returns the operator's name. The access table has already refused other callers.
    ///
    /// # Errors
    /// When the caller is not an operator.
    pub fn operator(&self) -> Result<&str, Status> {
        match &self.caller {
            Caller::Operator { name, .. } => Ok(name),
            Caller::Unauthenticated | Caller::Unknown(_) | Caller::Peer(_) => {
                Err(Status::unauthenticated("this call needs an operator"))
            }
        }
    }

    /// Refuses a call because a limit was exceeded: logs it, records it, and returns the status for the
    /// caller.
    #[must_use]
    pub fn refuse(&self, met: &Exceeded) -> Status {
        if self.budget.may_log() {
            tracing::warn!("refused a call: {met}");
        }
        self.tell(met.limit.word(), met);
        Status::resource_exhausted(met.to_string())
    }

    fn tell(&self, what: &str, reason: &dyn std::fmt::Display) {
        if let Some(refusals) = &self.refusals {
            let _ = refusals.try_send(Refusal { what: what.to_owned(), reason: reason.to_string() });
        }
    }
}

/// Maximum number of bytes of a path in the log.
const LOGGED_PATH: usize = 100;

/// The body of a response. It holds the permit of its call until it is dropped.
struct Counted {
    body: Body,
    _call: Permit,
    _open: Open,
}

impl hyper::body::Body for Counted {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves until the peer or `stop` ends the connection. After `stop`, open calls can still finish.
///
/// # Errors
/// The error that ended the connection, unless the peer closed it properly.
pub async fn serve<S>(
    io: S,
    routes: Routes,
    connected: Connected,
    stop: CancellationToken,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Callers with fewer rights get smaller windows.
    let (streams, stream_window, window) = match connected.caller {
        Caller::Unauthenticated | Caller::Unknown(_) => {
            (MAX_UNAUTHENTICATED_STREAMS, UNAUTHENTICATED_WINDOW, UNAUTHENTICATED_WINDOW)
        }
        Caller::Operator { .. } => (MAX_OPERATOR_STREAMS, OPERATOR_STREAM_WINDOW, OPERATOR_WINDOW),
        Caller::Peer(_) => (MAX_STREAMS, STREAM_WINDOW, CONNECTION_WINDOW),
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KeepAlive::PATIENT.after)
        .keep_alive_timeout(KeepAlive::PATIENT.within)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(window)
        .max_concurrent_streams(streams)
        .max_header_list_size(16 * 1024);
    if !matches!(connected.caller, Caller::Peer(_)) {
        builder.max_send_buf_size(OPERATOR_SEND_BUFFER);
    }
    // Peers keep an idle connection for later calls.
    let may_be_idle = matches!(connected.caller, Caller::Peer(_));
    let io = Metered::client(io, Arc::clone(&connected.budget));
    let (open, is_open) = watch::channel(0);
    let connection = builder.serve_connection(TokioIo::new(io), Guarded { connected, routes, open });
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = stop.cancelled() => {}
        () = idle(is_open), if !may_be_idle => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::client::conn::http2;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::{domain::operator::Role, wire::budget::Principal};

    #[tokio::test(start_paused = true)]
    async fn an_operators_connection_ends_when_nothing_was_called_for_long_and_not_before() {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let name = "ana".to_owned();
        let connected = Connected {
            budget: Budget::unlimited(Principal::Operator(name.clone())),
            caller: Caller::Operator { name, role: Role::Viewer, local: false },
            address: "local".into(),
            uid: None,
            refusals: None,
            over: None,
        };
        let ended = tokio::spawn(serve(server, Routes::default(), connected, CancellationToken::new()));
        let (mut calls, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let begun = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(IDLE * 9 / 10).await;
            let request = Request::builder().uri("http://master/no/such").body(Body::empty()).unwrap();
            calls.ready().await.expect("it is there");
            calls.send_request(request).await.expect("it is used");
        }
        let _ = timeout(IDLE * 2, ended).await.expect("it ends").unwrap();
        let took = begun.elapsed();
        assert!(took >= IDLE * 36 / 10 && took < IDLE * 4, "{took:?}");
        assert!(calls.ready().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_open_keeps_the_connection() {
        let (open, is_open) = watch::channel(0);
        let call = Open::new(&open);
        let ends = tokio::spawn(idle(is_open));
        tokio::time::sleep(IDLE * 3).await;
        assert!(!ends.is_finished());
        drop(call);
        timeout(IDLE + Duration::from_secs(1), ends).await.expect("it ends").unwrap();
    }
}
