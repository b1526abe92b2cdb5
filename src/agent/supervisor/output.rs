//! Reads a command's output from a pipe or a terminal.
//!
//! A command that floods gets time to fill its pipe. Otherwise its output would be read in the small pieces
//! that it writes, and each piece becomes a frame that has to be stored, sent and stored again. Does not
//! depend on the spool.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::io::Errno;

use crate::domain::frame::Stream;

/// A command floods when the last read returned at least this many bytes, less than [`FLOOD_WITHIN`] ago.
const FLOOD_BYTES: usize = 16 * 1024;
/// See [`FLOOD_BYTES`].
const FLOOD_WITHIN: Duration = Duration::from_millis(1);
/// The capacity of the pipe of such a command, so that it can write while its output is stored. Fits into a processor's
/// cache.
const FLOOD_PIPE_BYTES: usize = 256 * 1024;
/// The pipe of such a command is read at once when it holds this many bytes, and after [`FILL_TIME`] when it holds fewer.
const MIN_FLOOD_READ: u64 = 48 * 1024;
/// A fast command writes about [`MIN_FLOOD_READ`] bytes in this time. It is too short to be seen on a screen.
const FILL_TIME: Duration = Duration::from_micros(80);

/// A pipe or a terminal that a command prints to.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stream: Stream,
    pipe: File,
    /// The number of bytes that were in the pipe when the command ended, and are still unread. The command
    /// itself may have printed them; all later bytes are from its background processes.
    owed: u64,
    /// The time and the size of the last read.
    last: Option<(Instant, usize)>,
    /// Whether the capacity of the pipe could be raised: the system limits the total capacity of a user's
    /// pipes. `None` before the first attempt.
    is_wide: Option<bool>,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// There was nothing to read.
    Nothing,
    /// The buffer contains the bytes.
    Bytes,
    /// Every process has closed its end.
    End,
}

impl Output {
    pub(super) fn new(stream: Stream, pipe: File) -> Self {
        Self { stream, pipe, owed: 0, last: None, is_wide: None }
    }

    /// Returns the number of bytes that can be read now.
    fn waiting(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.pipe).unwrap_or(0)
    }

    /// Notes that the command has ended: everything that it printed itself is in the pipe now.
    pub(super) fn note_command_end(&mut self) {
        self.owed = self.waiting();
    }

    /// Reports whether the pipe still contains bytes that the command itself may have printed.
    pub(super) fn is_owed(&self) -> bool {
        self.owed > 0
    }

    /// Reads once, and replaces the contents of the buffer.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> Piece {
        self.wait_for_more();
        buffer.clear();
        match rustix::io::read(&self.pipe, rustix::buffer::spare_capacity(buffer)) {
            // A terminal is non-blocking, and may be reported as readable too early.
            Err(Errno::AGAIN | Errno::INTR) => Piece::Nothing,
            // A terminal returns EIO when no process has it open.
            Ok(0) | Err(_) => Piece::End,
            Ok(count) => {
                self.owed = self.owed.saturating_sub(count as u64);
                self.last = Some((Instant::now(), count));
                Piece::Bytes
            }
        }
    }

    /// Waits until a command that floods has written more, so that the next read returns a large piece.
    fn wait_for_more(&mut self) {
        if !self.last.is_some_and(|(at, count)| count >= FLOOD_BYTES && at.elapsed() < FLOOD_WITHIN) {
            return;
        }
        let pipe = &self.pipe;
        let is_wide = self
            .is_wide
            .get_or_insert_with(|| rustix::pipe::fcntl_setpipe_size(pipe, FLOOD_PIPE_BYTES).is_ok());
        // If the pipe is small, the command would be blocked meanwhile.
        if *is_wide && self.waiting() < MIN_FLOOD_READ {
            std::thread::sleep(FILL_TIME);
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn pipe() -> (std::io::PipeWriter, Output) {
        let (read, write) = std::io::pipe().unwrap();
        (write, Output::new(Stream::Stdout, std::os::fd::OwnedFd::from(read).into()))
    }

    fn holds(output: &Output) -> usize {
        rustix::pipe::fcntl_getpipe_size(&output.pipe).unwrap()
    }

    #[test]
    fn a_flood_gets_a_wide_pipe_and_comes_whole() {
        let (mut write, mut output) = pipe();
        let narrow = holds(&output);
        let printed: Vec<u8> = (0..8 * 1024 * 1024).map(|index: u32| (index % 251) as u8).collect();
        let expected = printed.clone();
        let printing =
            std::thread::spawn(move || printed.chunks(4096).try_for_each(|chunk| write.write_all(chunk)));
        let (mut read, mut buffer) = (Vec::new(), Vec::with_capacity(FLOOD_PIPE_BYTES));
        while output.read(&mut buffer) != Piece::End {
            read.extend_from_slice(&buffer);
        }
        printing.join().unwrap().unwrap();
        assert!(read == expected);
        // Even on a busy machine, at least one read of the 8 MiB is large.
        assert_eq!(holds(&output), FLOOD_PIPE_BYTES);
        assert!(narrow < FLOOD_PIPE_BYTES);
    }

    #[test]
    fn little_is_read_as_it_comes() {
        let (mut write, mut output) = pipe();
        let (narrow, mut buffer) = (holds(&output), Vec::with_capacity(FLOOD_PIPE_BYTES));
        for _ in 0..100 {
            write.write_all(b"a line\n").unwrap();
            assert_eq!((output.read(&mut buffer), buffer.as_slice()), (Piece::Bytes, &b"a line\n"[..]));
        }
        assert_eq!(holds(&output), narrow);
        drop(write);
        assert_eq!(output.read(&mut buffer), Piece::End);
    }

    #[test]
    fn what_is_in_the_pipe_when_the_command_ends_is_owed_until_it_is_read() {
        let (mut write, mut output) = pipe();
        write.write_all(&[7; 3000]).unwrap();
        output.note_command_end();
        write.write_all(&[8; 1000]).unwrap();
        let mut buffer = Vec::with_capacity(2000);
        assert!(output.is_owed());
        assert_eq!(output.read(&mut buffer), Piece::Bytes);
        assert!(output.is_owed(), "1000 bytes of the command's own are left");
        assert_eq!(output.read(&mut buffer), Piece::Bytes);
        assert!(!output.is_owed());
    }
}
