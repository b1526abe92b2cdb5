//! An HTTP/2 client on an existing connection.
//!
//! The connection's future, its error and its end belong to the caller, unlike with tonic's own channel.

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
/// HTTP/2 window of a connection, in bytes: large enough that it never matters; grants do that work.
pub const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// Most bytes of a frame that is sent to a client. Each is a write on a socket and a wake-up at its other end, so what
/// HTTP/2 begins with, 16 KiB, costs a flood a seventh of its time. Larger ones gain little, and a frame is what a key waits
/// for on a slow line, once for each task that floods it.
const FRAME: u32 = 64 * 1024;

/// When a connection on which nothing comes is asked for a sign of life, and how long that may take. A firewall forgets an
/// idle connection without a word, and so does a machine that lost its power.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// How long nothing comes before the peer is asked.
    pub after: Duration,
    /// How long its answer may take, before the connection ends.
    pub within: Duration,
}

impl KeepAlive {
    /// Of a connection that nobody would miss otherwise: ended after 13 s of silence.
    pub const QUICK: Self = Self { after: Duration::from_secs(5), within: Duration::from_secs(8) };
    /// Of a connection whose ends talk to each other by themselves, and of one whose other end may be a slow client: ended
    /// after 25 s of silence.
    pub const PATIENT: Self = Self { after: Duration::from_secs(10), within: Duration::from_secs(15) };
}

/// A cloneable HTTP/2 client on one connection.
#[derive(Clone, Debug)]
pub struct Channel {
    sender: http2::SendRequest<Body>,
}

/// The connection behind a channel; nothing moves unless it is polled.
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
    /// The authority that requests carry; it names nothing, since a channel has one peer.
    pub const ORIGIN: &str = "http://sloth-runner";

    /// Begins HTTP/2 as its client, without keep-alive: for a peer in the same process.
    ///
    /// # Errors
    /// When the preface cannot be written.
    pub async fn handshake<S>(io: S) -> hyper::Result<(Self, Connection)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::begin(io, builder()).await
    }

    /// Begins HTTP/2 as its client, with keep-alive: a peer may fall silent, on a network and on this machine.
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

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// [`Self::ORIGIN`], as the generated clients take it.
    #[must_use]
    pub fn origin() -> Uri {
        Uri::from_static(Self::ORIGIN)
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    /// Always ready: a connection that has ended is the call's error. The generated clients would make a refusal of it here.
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
