//! Queues answers for a caller. Their bytes count against the caller's budget until they are sent, so that a
//! slow reader delays only itself.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use super::{
    budget::{Budget, Permit},
    convert::Carried,
};

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<Queue<T>>>;

/// The sending end of the queue of one call's answers.
#[derive(Debug)]
pub(crate) struct Outbox<T: Carried> {
    queue: mpsc::Sender<Queued<T::Message>>,
    budget: Arc<Budget>,
}

/// The receiving end of the queue.
#[derive(Debug)]
pub(crate) struct Queue<T: Carried>(mpsc::Receiver<Queued<T::Message>>);

#[derive(Debug)]
struct Queued<M> {
    answer: Result<M, Status>,
    /// The answer's share of the budget, released when the connection takes the answer from the queue.
    _room: Option<Permit>,
}

/// The error for a caller that has disconnected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone;

impl<T: Carried> Outbox<T> {
    /// Creates a queue for at most `answers` answers, and the stream that takes them from the queue.
    pub(crate) fn new(budget: Arc<Budget>, answers: usize) -> (Self, Answers<T>) {
        let (queue, stream) = mpsc::channel(answers);
        (Self { queue, budget }, Box::pin(Queue(stream)))
    }

    /// Returns a stream of one answer.
    pub(crate) fn only(answer: T) -> Answers<T> {
        let (queue, stream) = mpsc::channel(1);
        let _ = queue.try_send(Queued { answer: Ok(answer.into_message()), _room: None });
        Box::pin(Queue(stream))
    }

    /// Queues an answer, and waits until the budget has room for it.
    ///
    /// # Errors
    /// When the caller has disconnected.
    pub(crate) async fn send(&self, answer: Result<T, Status>) -> Result<(), Gone> {
        self.send_within(&mut Permit::default(), answer).await
    }

    /// Queues an answer like [`Self::send`], with room from `held` if that is large enough. Otherwise
    /// releases `held` and waits for room in the budget.
    ///
    /// # Errors
    /// When the caller has disconnected.
    pub(crate) async fn send_within(&self, held: &mut Permit, answer: Result<T, Status>) -> Result<(), Gone> {
        let answer = answer.map(Carried::into_message);
        let bytes = answer.as_ref().map_or(0, prost::Message::encoded_len);
        let room = if let Some(room) = held.split(bytes) {
            room
        } else {
            // Releases the room first. Streams that hold room while they wait for more could deadlock.
            *held = Permit::default();
            self.hold(bytes).await?
        };
        self.queue.send(Queued { answer, _room: Some(room) }).await.map_err(|_| Gone)
    }

    /// Reserves room in the budget for memory that the stream itself uses.
    ///
    /// # Errors
    /// When the caller has disconnected.
    pub(crate) async fn hold(&self, bytes: usize) -> Result<Permit, Gone> {
        tokio::select! {
            room = self.budget.buffer(bytes) => Ok(room),
            () = self.queue.closed() => Err(Gone),
        }
    }

    /// Reports whether the caller has stopped receiving answers.
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Waits until the caller stops receiving answers.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl<T: Carried> Stream for Queue<T> {
    type Item = Result<T::Message, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_recv(cx).map(|queued| queued.map(|queued| queued.answer))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::{
        domain::control::JobEvent,
        wire::budget::{Budgets, Limits, Principal},
    };

    /// Returns an answer of slightly more than `bytes` bytes.
    fn answer(bytes: usize) -> JobEvent {
        JobEvent::Refused("x".repeat(bytes))
    }

    #[tokio::test(start_paused = true)]
    async fn unread_answers_of_all_streams_of_a_caller_have_one_budget() {
        let budgets = Budgets::new(Limits { buffered_bytes: 1_000, ..Limits::OPERATOR });
        let of = |name: &str| budgets.of(Principal::Operator(name.to_owned()));
        let (one, mut stream) = Outbox::new(of("ada"), 8);
        let (two, unread) = Outbox::new(of("ada"), 8);
        one.send(Ok(answer(600))).await.unwrap();
        let wait = Duration::from_mins(1);
        assert!(tokio::time::timeout(wait, two.send(Ok(answer(600)))).await.is_err(), "there is no room");
        let (others, _stream) = Outbox::new(of("bob"), 8);
        others.send(Ok(answer(600))).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        two.send(Ok(answer(600))).await.unwrap();
        drop(unread);
        assert!(two.send(Ok(answer(1))).await.is_err(), "nobody takes it");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_go_into_room_that_is_held_and_give_it_back_where_it_is_too_small() {
        let budgets = Budgets::new(Limits { buffered_bytes: 1_000, ..Limits::OPERATOR });
        let budget = budgets.of(Principal::Operator("ada".to_owned()));
        let (outbox, mut stream) = Outbox::new(Arc::clone(&budget), 8);
        let mut held = outbox.hold(1_000).await.unwrap();
        for _ in 0..2 {
            outbox.send_within(&mut held, Ok(answer(300))).await.unwrap();
        }
        drop(stream.next().await);
        // It fits only after the held room is released.
        outbox.send_within(&mut held, Ok(answer(600))).await.unwrap();
        drop(held);
        let wait = Duration::from_mins(1);
        assert!(tokio::time::timeout(wait, budget.buffer(200)).await.is_err(), "900 and more are taken");
        while let Ok(Some(_)) = tokio::time::timeout(wait, stream.next()).await {}
        let _all = tokio::time::timeout(wait, budget.buffer(1_000)).await.expect("all is given back");
    }
}
