//! Buffers a command's standard input until the command reads it. Does not depend on sockets.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
};

use crate::domain::input::{CHUNK, WINDOW};

/// Maximum number of buffered bytes: the window, and the chunk that filled it.
const MAX_BUFFERED_BYTES: u64 = WINDOW + CHUNK as u64;
/// The character that ends the input of a terminal in its default settings: `^D`.
const END_OF_TERMINAL: u8 = 4;

/// A command's standard input. The default value is for a command without input.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The write end of the pipe, or the terminal; `None` if nothing can be written any more.
    end: Option<File>,
    is_terminal: bool,
    waiting: VecDeque<u8>,
    /// The number of bytes that were received.
    received: u64,
    /// Whether all input was received.
    is_complete: bool,
}

/// How much of its input a command has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InputProgress {
    /// The number of bytes that were written to it.
    pub(super) offset: u64,
    /// Whether the command needs no more input: it has everything, or does not read any more.
    pub(super) is_over: bool,
}

impl Input {
    /// Returns an input that is written to `end`, which must be non-blocking.
    pub(super) fn new(end: File, is_terminal: bool) -> Self {
        Self { end: Some(end), is_terminal, ..Self::default() }
    }

    /// Adds bytes at an offset, and skips those that were received before. Returns false if they exceed the
    /// window, which violates the protocol.
    pub(super) fn take(&mut self, offset: u64, data: &[u8], is_last: bool) -> bool {
        let known = self.received.saturating_sub(offset);
        let Some(new) = usize::try_from(known).ok().and_then(|known| data.get(known..)) else {
            return true;
        };
        if offset > self.received || self.is_complete {
            // The missing bytes are sent again, and these after them.
            return true;
        }
        if self.waiting.len() as u64 + new.len() as u64 > MAX_BUFFERED_BYTES {
            return false;
        }
        self.received += new.len() as u64;
        if self.end.is_some() {
            self.waiting.extend(new);
        }
        if is_last {
            self.is_complete = true;
            if self.is_terminal {
                self.waiting.push_back(END_OF_TERMINAL);
            }
        }
        self.close_if_done();
        true
    }

    /// Returns the file to be polled for writing; `None` if there is nothing to write.
    pub(super) fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().filter(|_| !self.waiting.is_empty()).map(|end| end.as_fd())
    }

    /// Writes as much as possible without blocking.
    pub(super) fn write(&mut self) {
        while let Some(end) = &mut self.end {
            let (first, _) = self.waiting.as_slices();
            if first.is_empty() {
                break;
            }
            match end.write(first) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The command does not read any more.
                Err(_) => {
                    self.end = None;
                    self.waiting.clear();
                }
            }
        }
        self.close_if_done();
    }

    fn close_if_done(&mut self) {
        if self.is_complete && self.waiting.is_empty() && !self.is_terminal {
            self.end = None;
        }
    }

    /// Returns how much of the input the command has read.
    pub(super) fn taken(&self) -> InputProgress {
        let waiting = (self.waiting.len() as u64).min(self.received);
        InputProgress {
            offset: self.received - waiting,
            is_over: self.end.is_none() || self.is_complete && waiting == 0,
        }
    }

    /// Sets the size of the terminal. Does nothing if the input is not a terminal.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        if let (Some(end), true) = (&self.end, self.is_terminal) {
            // Fails if the terminal is gone, which does not matter.
            let _ = crate::sys::terminal::resize(end.as_fd(), rows, columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn pipe() -> (File, Input) {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        (File::from(read), Input::new(File::from(write), false))
    }

    #[test]
    fn a_command_that_reads_no_more_ends_its_input() {
        let (read, mut input) = pipe();
        assert!(input.take(0, b"one", false));
        drop(read);
        input.write();
        assert_eq!(input.taken(), InputProgress { offset: 3, is_over: true });
        assert!(input.take(3, b"two", true) && input.writable().is_none());
    }

    #[test]
    fn more_than_the_window_violates_the_protocol() {
        let (_read, mut input) = pipe();
        assert!(input.take(0, &vec![0; usize::try_from(MAX_BUFFERED_BYTES).unwrap()], false));
        assert!(!input.take(MAX_BUFFERED_BYTES, b"x", false));
    }

    proptest! {
        #[test]
        fn however_often_it_is_sent_it_arrives_once(
            text in proptest::collection::vec(any::<u8>(), 0..4_000),
            sent in proptest::collection::vec((0usize..4_000, 1usize..600), 0..60),
        ) {
            let (mut read, mut input) = pipe();
            let mut out = Vec::new();
            let ends = sent.into_iter().map(|(from, count)| (from.min(text.len()), count));
            for (from, count) in ends.chain([(0, text.len())]) {
                let until = (from + count).min(text.len());
                prop_assert!(input.take(from as u64, &text[from..until], false));
                input.write();
                let mut chunk = [0; 8_192];
                if let Ok(count) = read.read(&mut chunk) {
                    out.extend_from_slice(&chunk[..count]);
                }
            }
            input.take(text.len() as u64, b"", true);
            prop_assert_eq!(input.taken(), InputProgress { offset: text.len() as u64, is_over: true });
            read.read_to_end(&mut out).unwrap();
            prop_assert_eq!(out, text);
        }
    }
}
