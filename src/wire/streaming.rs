//! Calls that stream the output of commands. Their bytes are passed on without a copy; tonic would copy them.
//!
//! The wire format is the same as tonic's, without compression. So other gRPC clients can call these servers,
//! and these clients can call other gRPC servers. Does not depend on the contents of the messages.

use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use prost::Message;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Code, Status, Streaming,
    body::Body,
    codec::{Codec as _, EncodeBody},
    service::Routes,
};
use tower::Service as _;

use super::{channel::Channel, codec::ExactCodec, pieces::Pieces, proto};

/// The content type of gRPC messages.
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// The size of the prefix of each message: a compression flag, and its length.
const PREFIX: usize = 5;
/// The number of encoded bytes from which a stream sends them before it encodes more messages.
const COALESCED_BYTES: usize = 32 * 1024;

/// A gRPC method with a stream of responses, which this module calls or serves.
#[derive(Debug)]
pub(crate) struct Method<Q, A> {
    path: &'static str,
    /// The maximum size of a response, in bytes.
    longest: usize,
    messages: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Method<Q, A> {
    pub(super) const fn new(path: &'static str, longest: usize) -> Self {
        Self { path, longest, messages: PhantomData }
    }
}

/// The maximum size of a message from an agent, in bytes: gRPC's default.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;
/// The maximum size of a message from a master, in bytes: enough for a job with all of its tasks.
pub(crate) const LONGEST_OF_MASTER: usize = 16 * 1024 * 1024;

/// `AgentService.Attach`.
pub(crate) const ATTACH: Method<proto::AttachRequest, proto::AttachResponse> =
    Method::new("/sloth.v2.AgentService/Attach", LONGEST_ANSWER);
/// `ControlService.StartJob`.
pub(crate) const START_JOB: Method<proto::StartJobRequest, proto::FollowJobResponse> =
    Method::new("/sloth.v2.ControlService/StartJob", LONGEST_OF_MASTER);
/// `ControlService.RerunJob`.
pub(crate) const RERUN_JOB: Method<proto::RerunJobRequest, proto::FollowJobResponse> =
    Method::new("/sloth.v2.ControlService/RerunJob", LONGEST_OF_MASTER);
/// `ControlService.FollowJob`.
pub(crate) const FOLLOW_JOB: Method<proto::FollowJobRequest, proto::FollowJobResponse> =
    Method::new("/sloth.v2.ControlService/FollowJob", LONGEST_OF_MASTER);

/// A stream of received messages.
#[derive(Debug)]
pub(crate) struct Messages<T> {
    body: Body,
    received: Pieces,
    /// The length of the next message, in bytes; `None` until its prefix is read.
    length: Option<usize>,
    /// The maximum size of a message, in bytes.
    longest: usize,
    has_ended: bool,
    message: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Messages<T> {
    pub(super) fn new(body: Body, longest: usize) -> Self {
        let received = Pieces::default();
        Self { body, received, length: None, longest, has_ended: false, message: PhantomData }
    }

    /// Returns the next message; `None` at the end. No message is lost when the future is dropped.
    ///
    /// # Errors
    /// The status with which the other side ended the stream, or the error that broke it.
    pub(crate) async fn message(&mut self) -> Result<Option<T>, Status> {
        if self.has_ended {
            return Ok(None);
        }
        let received = self.receive().await;
        self.has_ended = !matches!(received, Ok(Some(_)));
        received
    }

    async fn receive(&mut self) -> Result<Option<T>, Status> {
        loop {
            if let Some(message) = self.next_received()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await.transpose()? else {
                // A server ends a stream with trailers. They are missing when the connection breaks.
                return Err(Status::unavailable("the stream broke off"));
            };
            match frame.into_data() {
                Ok(data) => self.received.put(data),
                Err(frame) => return self.ended(frame.trailers_ref()),
            }
        }
    }

    fn next_received(&mut self) -> Result<Option<T>, Status> {
        if self.length.is_none() && self.received.remaining() >= PREFIX {
            if self.received.get_u8() != 0 {
                return Err(Status::internal("a compressed message, which was not requested"));
            }
            let length = usize::try_from(self.received.get_u32()).unwrap_or(usize::MAX);
            if length > self.longest {
                let text = format!("a message of {length} bytes; the maximum is {}", self.longest);
                return Err(Status::out_of_range(text));
            }
            self.length = Some(length);
        }
        let Some(length) = self.length.filter(|length| self.received.remaining() >= *length) else {
            return Ok(None);
        };
        self.length = None;
        let message = T::decode((&mut self.received).take(length));
        message.map(Some).map_err(|error| Status::internal(format!("an undecodable message: {error}")))
    }

    fn ended(&self, trailers: Option<&HeaderMap>) -> Result<Option<T>, Status> {
        match trailers.and_then(Status::from_header_map) {
            None => Err(Status::internal("the stream ended without a status")),
            Some(status) if status.code() != Code::Ok => Err(status),
            Some(_) if self.length.is_none() && !self.received.has_remaining() => Ok(None),
            Some(_) => Err(Status::internal("the stream ended within a message")),
        }
    }
}

impl<Q, A> Method<Q, A>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    /// Calls the method.
    ///
    /// # Errors
    /// When the connection breaks, or the server refuses the call.
    pub(crate) async fn call(
        &self,
        mut channel: Channel,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Messages<A>, Status> {
        let encoder = ExactCodec::<Q, A>::default().encoder();
        let body = EncodeBody::new_client(encoder, requests.map(Ok), None, None);
        let request = Request::post(format!("{}{}", Channel::ORIGIN, self.path))
            .version(Version::HTTP_2)
            .header(header::TE, "trailers")
            .header(header::CONTENT_TYPE, GRPC)
            .body(Body::new(body))
            .map_err(|error| Status::internal(error.to_string()))?;
        let response = channel.call(request).await.map_err(|error| Status::from_error(error.into()))?;
        self.answered(response.map(Body::new))
    }

    fn answered(&self, response: Response<Body>) -> Result<Messages<A>, Status> {
        let status = Status::from_header_map(response.headers());
        if status.is_none() && response.status() != StatusCode::OK {
            return Err(Status::unknown(format!("the HTTP status was {}", response.status())));
        }
        let mut messages = Messages::new(response.into_body(), self.longest);
        match status {
            // No message follows.
            Some(status) if status.code() == Code::Ok => messages.has_ended = true,
            Some(status) => return Err(status),
            None => {}
        }
        Ok(messages)
    }

    /// Adds a handler for this method to the routes. It replaces the handler of the generated service.
    pub(crate) fn route<S, F>(
        &self,
        routes: Routes,
        answer: impl Fn(tonic::Request<Streaming<Q>>) -> F + Clone + Send + Sync + 'static,
    ) -> Routes
    where
        S: Stream<Item = Result<A, Status>> + Unpin + Send + 'static,
        F: Future<Output = Result<tonic::Response<S>, Status>> + Send + 'static,
    {
        let service = tower::service_fn(move |request: Request<_>| {
            let decoder = ExactCodec::<A, Q>::default().decoder();
            let request = request.map(|body| Streaming::new_request(decoder, body, None, None));
            let answer = answer(tonic::Request::from_http(request));
            async move { Ok::<_, Infallible>(answer.await.map_or_else(Status::into_http, streamed)) }
        });
        routes.into_axum_router().route_service(self.path, service).into()
    }
}

/// Returns the single request of a call that streams only its responses.
///
/// # Errors
/// When there is no request, or it cannot be decoded.
pub(crate) async fn only<Q>(request: tonic::Request<Streaming<Q>>) -> Result<tonic::Request<Q>, Status> {
    let (metadata, extensions, mut requests) = request.into_parts();
    let request = requests.message().await?.ok_or_else(|| Status::internal("a call without a request"))?;
    Ok(tonic::Request::from_parts(metadata, extensions, request))
}

fn streamed<A, S>(response: tonic::Response<S>) -> Response<Body>
where
    A: Message + 'static,
    S: Stream<Item = Result<A, Status>> + Unpin + Send + 'static,
{
    let (metadata, messages, extensions) = response.into_parts();
    let body = Encoded { messages, pieces: Pieces::default(), stage: Stage::Streaming };
    let mut response = Response::new(Body::new(body));
    *response.headers_mut() = metadata.into_headers();
    *response.extensions_mut() = extensions;
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// The progress of a stream that is sent.
#[derive(Debug)]
enum Stage {
    Streaming,
    /// The messages have ended. The status must still be sent.
    Ending(Status),
    Ended,
}

/// A stream of messages, encoded as an HTTP body.
#[derive(Debug)]
struct Encoded<S> {
    messages: S,
    pieces: Pieces,
    stage: Stage,
}

impl<S> Encoded<S> {
    fn append(&mut self, message: &impl Message) -> Result<(), Status> {
        let length = message.encoded_len();
        let too_long = |_| Status::resource_exhausted(format!("a message of {length} bytes"));
        let prefix = u32::try_from(length).map_err(too_long)?;
        self.pieces.put_u8(0);
        self.pieces.put_u32(prefix);
        message.encode(&mut self.pieces).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<A, S> hyper::body::Body for Encoded<S>
where
    A: Message,
    S: Stream<Item = Result<A, Status>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let body = &mut *self;
        while matches!(body.stage, Stage::Streaming) && body.pieces.remaining() < COALESCED_BYTES {
            let ending = match Pin::new(&mut body.messages).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => body.append(&message).err(),
                Poll::Ready(Some(Err(status))) => Some(status),
                Poll::Ready(None) => Some(Status::ok("")),
                Poll::Pending => break,
            };
            if let Some(status) = ending {
                body.stage = Stage::Ending(status);
            }
        }
        if let Some(piece) = body.pieces.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match std::mem::replace(&mut body.stage, Stage::Ended) {
            Stage::Streaming => {
                body.stage = Stage::Streaming;
                Poll::Pending
            }
            Stage::Ending(status) => {
                let mut trailers = HeaderMap::new();
                Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
            }
            Stage::Ended => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests;
