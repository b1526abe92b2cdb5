//! An HTTP/2 client on an existing connection.
//!
//! Unlike with tonic's own channel, the caller owns the future of the connection, and learns from it when and
//! with which error the connection ends.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

/// HTTP/2 window of one stream, in bytes: enough for 100 MB/s over 20 ms.
pub const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// HTTP/2 window of a connection, in bytes: large enough never to be the limit. Grants limit the output.
pub const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// Maximum size of a frame that is sent to a client, in bytes. Each frame is a write to a socket and a
/// wake-up of its peer: HTTP/2's default of 16 KiB costs a flood of output a seventh of its time. Larger
/// frames gain little, and on a slow line a key press waits for one frame of each task that prints much.
const FRAME: u32 = 64 * 1024;

/// The timing of HTTP/2 pings on a silent connection. They detect connections that are lost without notice: a
/// firewall drops an idle connection, or a machine loses power.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// How long the connection must be silent before the peer is pinged.
    pub after: Duration,
    /// The timeout of the peer's answer. The connection is closed when it expires.
    pub within: Duration,
}

impl KeepAlive {
    /// For a connection where only a ping detects the loss: it is closed after 13 s of silence.
    pub const QUICK: Self = Self { after: Duration::from_secs(5), within: Duration::from_secs(8) };
    /// For a connection with regular messages in both directions, or with a possibly slow client: it is
    /// closed after 25 s of silence.
    pub const PATIENT: Self = Self { after: Duration::from_secs(10), within: Duration::from_secs(15) };
}

/// A cloneable HTTP/2 client on one connection.
#[derive(Clone, Debug)]
pub struct Channel {
    sender: http2::SendRequest<Body>,
}

/// The connection of a channel. It makes progress only while it is polled.
pub type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME);
    builder
}

impl Channel {
    /// The authority of requests. It has no meaning, since a channel has only one peer.
    pub const ORIGIN: &str = "http://sloth-runner";

    /// Starts HTTP/2 as a client, without keep-alive: for a peer in the same process.
    ///
    /// # Errors
    /// When the preface cannot be written.
    pub async fn handshake<S>(io: S) -> hyper::Result<(Self, Connection)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::begin(io, builder()).await
    }

    /// Starts HTTP/2 as a client, with keep-alive: a peer can become silent, also on this machine.
    ///
    /// # Errors
    /// When the preface cannot be written.
    pub async fn handshake_kept_alive<S>(io: S, alive: KeepAlive) -> hyper::Result<(Self, Connection)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = builder();
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(alive.after)
            .keep_alive_timeout(alive.within)
            .keep_alive_while_idle(true);
        Self::begin(io, builder).await
    }

    async fn begin<S>(io: S, builder: http2::Builder<TokioExecutor>) -> hyper::Result<(Self, Connection)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
        Ok((Self { sender }, Box::pin(connection)))
    }

    /// Reports whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns [`Self::ORIGIN`] in the form that the generated clients take.
    #[must_use]
    pub fn origin() -> Uri {
        Uri::from_static(Self::ORIGIN)
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    /// Always returns ready. If the connection has ended, `call` fails. The generated clients would report an
    /// error of this function as a refusal.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        proto::{SignalRequest, agent_service_client::AgentServiceClient},
        status::CallError,
    };

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_falls_silent_ends_in_time_even_while_it_is_idle() {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let begun = tokio::time::Instant::now();
        let (channel, connection) = Channel::handshake_kept_alive(ours, KeepAlive::QUICK).await.unwrap();
        assert!(connection.await.is_err());
        assert!(channel.is_closed());
        let silent = begun.elapsed();
        assert!(silent >= KeepAlive::QUICK.after && silent <= Duration::from_secs(15), "{silent:?}");
        drop(theirs);
    }

    #[tokio::test]
    async fn a_call_on_a_connection_that_has_ended_says_so() {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (channel, connection) = Channel::handshake(ours).await.unwrap();
        drop(theirs);
        let _ = connection.await;
        assert!(channel.is_closed());
        let mut client = AgentServiceClient::with_origin(channel, Channel::origin());
        let error = CallError::from(client.signal(SignalRequest::default()).await.unwrap_err());
        assert!(error.is_broken_connection(), "{error}");
    }
}
