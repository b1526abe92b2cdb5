//! An HTTP/2 client on a connection that is already there, on which tonic's generated clients run.
//!
//! The connection's future, its error and its end belong to the caller, unlike with tonic's own channel.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, Uri};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

/// HTTP/2 window of one stream, in bytes: enough for 100 MB/s over 20 ms.
pub const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// HTTP/2 window of a connection, in bytes: large enough that it never matters; grants do that work.
pub const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// A cloneable HTTP/2 client on one connection.
#[derive(Clone, Debug)]
pub struct Channel {
    sender: http2::SendRequest<Body>,
}

/// The connection behind a channel; nothing moves unless it is polled.
pub type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Channel {
    /// Begins HTTP/2 as its client.
    ///
    /// # Errors
    /// When the preface cannot be written.
    pub async fn handshake<S>(io: S) -> hyper::Result<(Self, Connection)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(io))
            .await?;
        Ok((Self { sender }, Box::pin(connection)))
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The authority that requests carry; it names nothing, since a channel has one peer.
    #[must_use]
    pub fn origin() -> Uri {
        Uri::from_static("http://sloth-runner")
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
