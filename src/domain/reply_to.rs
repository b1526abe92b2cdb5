//! The callers that wait for answers of a core, by number. Both cores use them: neither may know channels.
//!
//! Knows no question and no answer.

use std::marker::PhantomData;

/// The number of a caller that waits for an answer; each question has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Returns the number of the next caller.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A caller that waits for an answer of type `A`.
pub struct ReplyTo<A> {
    ticket: Ticket,
    answer: PhantomData<fn() -> A>,
}

impl<A> ReplyTo<A> {
    /// The caller with a ticket. Its question decides the type of the answer.
    #[must_use]
    pub fn new(ticket: Ticket) -> Self {
        Self { ticket, answer: PhantomData }
    }

    /// Returns the caller's number.
    #[must_use]
    pub fn ticket(self) -> Ticket {
        self.ticket
    }
}

impl<A> Clone for ReplyTo<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for ReplyTo<A> {}

impl<A> std::fmt::Debug for ReplyTo<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ticket.fmt(f)
    }
}
