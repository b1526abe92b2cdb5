//! Streams of messages, as they are received: each is converted into what it carries.

use tonic::{Status, Streaming};

use super::{convert::Carried, status::CallError, streaming::Messages};

/// A stream of what messages carry.
#[derive(Debug)]
pub struct Incoming<T: Carried>(Source<T::Message>);

/// Where the messages come from.
#[derive(Debug)]
enum Source<M> {
    /// A call of our own, which does not copy output.
    Own(Box<Messages<M>>),
    /// A generated service.
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
    /// Returns the next value; `None` at the end. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// What ended or broke the stream, or a message that is not valid.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        let message = match &mut self.0 {
            Source::Own(messages) => messages.message().await?,
            Source::Generated(messages) => messages.message().await?,
        };
        Ok(message.map(T::from_message).transpose()?)
    }

    /// The same for a client, without messages of a kind that this version does not know: a newer server may send them.
    ///
    /// # Errors
    /// What ended or broke the stream. A message that is not valid is told apart: the same would come on another stream.
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

    /// Messages as they come in the body of an answer.
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
