//! Streams of messages, as they are received: each is converted into what it carries.

use tonic::{Status, Streaming};

use super::{convert::Carried, streaming::Messages};

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

    /// The same, without messages of a kind that this version does not know: a newer server may send them.
    ///
    /// # Errors
    /// As [`Self::message`].
    pub(super) async fn known_message(&mut self) -> Result<Option<T>, Status> {
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
