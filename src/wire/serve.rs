//! Serving gRPC on one connection, behind the access table. Knows not what is served.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::Service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, service::Routes};
use tower::ServiceExt as _;

use super::channel::{CONNECTION_WINDOW, KeepAlive, STREAM_WINDOW};
use crate::trust::access::{self, Caller, Denied};

/// Calls at once on one connection; more are refused, not queued silently.
const MAX_STREAMS: u32 = 16_384;
/// Calls at once of a stranger, who needs one.
const MAX_STRANGER_STREAMS: u32 = 4;

/// What every call on a connection knows about its caller; lies in the request's extensions.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Who it is.
    pub caller: Caller,
    /// Its address, for people.
    pub address: Arc<str>,
    /// The user behind a Unix socket.
    pub uid: Option<u32>,
    /// Who hears of calls that are not an operator's to make; as long as there is room, since nobody waits for it.
    pub refusals: Option<mpsc::Sender<Refusal>>,
}

/// A call that an operator may not make.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The method's path, one of the access table.
    pub method: String,
    /// Why not.
    pub reason: String,
}

/// Bytes that a stranger may have under way: HTTP/2's own default.
const STRANGERS_WINDOW: u32 = 64 * 1024;

#[derive(Clone)]
struct Guarded {
    connected: Connected,
    routes: Routes,
}

impl Service<Request<Incoming>> for Guarded {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Err(denied) = access::check(&self.connected.caller, request.uri().path()) {
            let method = request.uri().path();
            if let Caller::Operator { name, .. } = &self.connected.caller {
                tracing::warn!(operator = %name, method, "refused a call: {denied}");
                if let (Denied::NotAllowed { .. }, Some(refusals)) = (&denied, &self.connected.refusals) {
                    let _ =
                        refusals.try_send(Refusal { method: method.to_owned(), reason: denied.to_string() });
                }
            }
            let status = match denied {
                Denied::NoIdentity | Denied::Unknown(_) => Status::unauthenticated(denied.to_string()),
                Denied::NotAllowed { .. } => Status::permission_denied(denied.to_string()),
                Denied::NoSuchMethod => Status::unimplemented(denied.to_string()),
            };
            return Box::pin(async move { Ok(status.into_http()) });
        }
        request.extensions_mut().insert(self.connected.clone());
        let routes = self.routes.clone();
        Box::pin(async move { routes.oneshot(request).await })
    }
}

/// Serves until the peer or `stop` ends the connection. After `stop` calls that are under way may end by themselves.
///
/// # Errors
/// What ended the connection, unless its peer closed it in order.
pub async fn serve<S>(
    io: S,
    routes: Routes,
    connected: Connected,
    stop: CancellationToken,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Who may say little is given room for little.
    let (streams, stream_window, window) = match connected.caller {
        Caller::Stranger | Caller::Unknown(_) => (MAX_STRANGER_STREAMS, STRANGERS_WINDOW, STRANGERS_WINDOW),
        Caller::Peer(_) | Caller::Operator { .. } => (MAX_STREAMS, STREAM_WINDOW, CONNECTION_WINDOW),
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KeepAlive::PATIENT.after)
        .keep_alive_timeout(KeepAlive::PATIENT.within)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(window)
        .max_concurrent_streams(streams)
        .max_header_list_size(16 * 1024)
        .serve_connection(TokioIo::new(io), Guarded { connected, routes });
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
