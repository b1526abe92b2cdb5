//! Streams of received messages. Each message is converted to its domain type.

use tonic::{Status, Streaming};

use super::{convert::Carried, status::CallError, streaming::Messages};

/// A stream of domain values from received messages.
#[derive(Debug)]
pub(crate) struct Incoming<T: Carried>(Source<T::Message>);

/// The source of the messages.
#[derive(Debug)]
enum Source<M> {
    /// A call of [`streaming`](super::streaming), which does not copy output.
    Own(Box<Messages<M>>),
    /// A call of the generated code.
    Generated(Box<Streaming<M>>),
}

impl<T: Carried> From<Messages<T::Message>> for Incoming<T> {
    fn from(messages: Messages<T::Message>) -> Self {
        Self(Source::Own(Box::new(messages)))
    }
}

impl<T: Carried> From<Streaming<T::Message>> for Incoming<T> {
    fn from(messages: Streaming<T::Message>) -> Self {
        Self(Source::Generated(Box::new(messages)))
    }
}

impl<T: Carried> Incoming<T> {
    /// Returns the next value; `None` at the end. No value is lost when the future is dropped.
    ///
    /// # Errors
    /// The error that ended or broke the stream, or a message that is not valid.
    pub(crate) async fn message(&mut self) -> Result<Option<T>, Status> {
        let message = match &mut self.0 {
            Source::Own(messages) => messages.message().await?,
            Source::Generated(messages) => messages.message().await?,
        };
        Ok(message.map(T::from_message).transpose()?)
    }

    /// Returns the next value like [`Self::message`], for clients. Skips messages of a kind that this version
    /// does not know, because a newer server can send them.
    ///
    /// # Errors
    /// The error that ended or broke the stream. An invalid message is a separate error, because a new stream
    /// would contain the same message.
    pub(super) async fn known_message(&mut self) -> Result<Option<T>, CallError> {
        loop {
            let message = match &mut self.0 {
                Source::Own(messages) => messages.message().await?,
                Source::Generated(messages) => messages.message().await?,
            };
            match message.map(T::from_message).transpose() {
                Err(invalid) if invalid.is_unknown_kind() => {}
                known => return Ok(known?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, Bytes, BytesMut};
    use prost::Message as _;
    use tonic::body::Body;

    use super::*;
    use crate::{domain::control::JobEvent, wire::proto};

    /// Returns the body of a response with these messages.
    fn body(messages: &[proto::FollowJobResponse]) -> Body {
        let mut bytes = BytesMut::new();
        for message in messages {
            bytes.put_u8(0);
            bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
            message.encode(&mut bytes).unwrap();
        }
        Body::new(http_body_util::Full::<Bytes>::new(bytes.freeze()))
    }

    #[tokio::test]
    async fn an_unknown_kind_is_left_out_and_an_invalid_message_is_no_broken_connection() {
        use proto::job_event::Kind;
        let event = |kind| proto::FollowJobResponse { event: Some(proto::JobEvent { kind }) };
        let ended = Kind::Ended(proto::JobEnded::default());
        let invalid = Kind::Task(proto::Task::default());
        let messages = [event(None), event(Some(ended)), event(Some(invalid))];
        let mut events: Incoming<JobEvent> = Messages::new(body(&messages), 1024).into();
        assert!(matches!(events.known_message().await, Ok(Some(JobEvent::Ended { .. }))));
        let error = events.known_message().await.unwrap_err();
        assert!(matches!(&error, CallError::Invalid(_)) && error.is_refusal(), "{error:?}");
    }
}
