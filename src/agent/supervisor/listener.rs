//! The clients of a task's socket: the reports that they wait for, and the replies. Makes no decisions.

use std::{
    io::Write as _,
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    input::InputProgress,
    protocol::{Lines, TaskReply, line},
};
use crate::domain::{offset::OutputOffset, outcome::TaskEnding};

/// A client of the task's socket.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: UnixStream,
    pub(super) lines: Lines,
    pub(super) waits_past: Option<OutputOffset>,
    pub(super) reads: bool,
    /// The last reported reason for which the command is held back.
    reported_held: String,
    /// Whether it waits for a report of consumed input that differs from `reported_input`.
    pub(super) watches_input: bool,
    pub(super) reported_input: InputProgress,
    /// Raw input that follows the last line: its offset, its length, and whether it is the last.
    pub(super) pending_input: Option<(u64, usize, bool)>,
}

/// The value of `reported_input` before the first report. It differs from every real value.
const NOT_REPORTED: InputProgress = InputProgress { offset: u64::MAX, is_over: false };

impl Client {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            lines: Lines::default(),
            waits_past: None,
            reads: false,
            reported_held: String::new(),
            watches_input: false,
            reported_input: NOT_REPORTED,
            pending_input: None,
        }
    }

    /// Reports whether the client has closed its end of the socket.
    pub(super) fn is_gone(&self) -> bool {
        // A closed end is reported without being requested (poll(2)).
        let mut socket = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        poll(&mut socket, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Marks the client as a reader that waits for the first output.
    pub(super) fn follow(&mut self) {
        self.reads = true;
        self.waits_past = Some(OutputOffset::START);
    }

    /// Sends a reply without blocking. Returns false if that fails: the client is gone, or does not read.
    pub(super) fn answer(&self, reply: &TaskReply) -> bool {
        (&self.socket).write_all(&line(reply)).is_ok()
    }

    /// Answers a client that waits for more output or for the end. Returns false when the client is gone.
    pub(super) fn answer_wait(&mut self, ending: Option<&TaskEnding>, end: OutputOffset) -> bool {
        let reply = match (self.waits_past, ending) {
            (Some(_), Some(ending)) => TaskReply::Ended { ending: ending.clone() },
            (Some(past), None) if end > past => TaskReply::Spooled { end },
            _ => return true,
        };
        self.waits_past = None;
        self.answer(&reply)
    }

    /// Reports the reason for which the command is held back, if it has changed and the client reads. Returns
    /// false when the client is gone.
    pub(super) fn report_held(&mut self, reason: &str) -> bool {
        if !self.reads || self.reported_held == reason {
            return true;
        }
        reason.clone_into(&mut self.reported_held);
        self.answer(&TaskReply::Held { reason: reason.to_owned() })
    }

    /// Reports how much of the input was read: once for each request, so that the socket of a client that
    /// does not read is not filled. Returns false when the client is gone.
    pub(super) fn answer_input(&mut self, taken: InputProgress) -> bool {
        if !self.watches_input || self.reported_input == taken {
            return true;
        }
        self.watches_input = false;
        self.reported_input = taken;
        self.answer(&TaskReply::InputTaken { offset: taken.offset, over: taken.is_over })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::domain::outcome::Ending;

    fn client() -> (Client, UnixStream) {
        let (socket, end) = UnixStream::pair().unwrap();
        end.set_nonblocking(true).unwrap();
        (Client::new(socket), end)
    }

    /// Returns what the client has received since the last call.
    fn told(end: &mut UnixStream) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let count = end.read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn a_client_that_waits_for_output_is_notified_once_of_more_or_of_the_end() {
        let (mut client, mut end) = client();
        assert!(client.answer_wait(None, OutputOffset(7)));
        assert_eq!(told(&mut end), b"", "it did not ask");
        client.waits_past = Some(OutputOffset(5));
        assert!(client.answer_wait(None, OutputOffset(5)));
        assert_eq!(told(&mut end), b"", "it knows that");
        assert!(client.answer_wait(None, OutputOffset(6)));
        assert!(client.answer_wait(None, OutputOffset(7)));
        assert_eq!(told(&mut end), line(&TaskReply::Spooled { end: OutputOffset(6) }));
        client.follow();
        let ending =
            TaskEnding { outcome: Ending::Exited(3).into(), end_offset: OutputOffset::START, duration_ns: 1 };
        assert!(client.answer_wait(Some(&ending), OutputOffset::START));
        assert_eq!(told(&mut end), line(&TaskReply::Ended { ending: ending.clone() }));
        drop(end);
        client.waits_past = Some(OutputOffset::START);
        assert!(!client.answer_wait(Some(&ending), OutputOffset::START), "it is gone");
    }

    #[test]
    fn a_client_that_reads_is_notified_of_what_holds_the_command_back_and_of_its_end() {
        let (mut client, mut end) = client();
        assert!(client.report_held("the disk is full"));
        assert_eq!(told(&mut end), b"", "it does not read");
        client.follow();
        for reason in ["", "the disk is full", "the disk is full", ""] {
            assert!(client.report_held(reason));
        }
        let held = |reason: &str| line(&TaskReply::Held { reason: reason.into() });
        assert_eq!(told(&mut end), [held("the disk is full"), held("")].concat());
    }

    #[test]
    fn a_client_that_watches_the_input_gets_one_answer_to_each_question() {
        let (mut client, mut end) = client();
        let taken = |offset| InputProgress { offset, is_over: false };
        let answer = |offset| line(&TaskReply::InputTaken { offset, over: false });
        assert!(client.answer_input(taken(0)));
        assert_eq!(told(&mut end), b"");
        client.watches_input = true;
        assert!(client.answer_input(taken(0)) && client.answer_input(taken(1)));
        assert_eq!(told(&mut end), answer(0));
        client.watches_input = true;
        assert!(client.answer_input(taken(0)) && client.answer_input(taken(2)));
        assert_eq!(told(&mut end), answer(2), "what it knows is no answer");
    }
}
