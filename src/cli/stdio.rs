//! Standard output and standard error of a program that does more than print: a slow reader delays the
//! output, and nothing else. Independent of the contents.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{MsgFlags, send},
        stat::{SFlag, fstat},
    },
};

use crate::domain::frame::Stream;

/// Maximum time that a write waits for its reader, before the rest goes to the backlog. With a shorter wait,
/// output that a slow reader takes a moment later would be copied.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);

/// Maximum time that a thread waits for a reader before it checks whether the wait is still needed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How a write avoids blocking on a slow reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// It may block: for a file, it waits only for the disk.
    Blocking,
    /// The file description belongs to this program and does not block. The description of the shell is not
    /// changed, because other programs share it.
    Nonblocking,
    /// Each call sets a flag that it must not block.
    Socket,
}

fn is_of_kind(file: &impl AsFd, kind: SFlag) -> bool {
    let kind_of = |mode| SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits());
    fstat(file).is_ok_and(|stat| kind_of(stat.st_mode) == kind)
}

/// Whether a file is a pipe.
pub(super) fn is_pipe(file: &impl AsFd) -> bool {
    is_of_kind(file, SFlag::S_IFIFO)
}

/// Whether standard output and error go to the same place.
pub(super) fn stdout_is_stderr() -> bool {
    let place = |file: BorrowedFd<'_>| fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    place(io::stdout().as_fd()) == place(io::stderr().as_fd())
}

/// Adds the name of the stream to a write error. The kind of the error stays.
fn named(stream: Stream, error: &io::Error) -> io::Error {
    let name = match stream {
        Stream::Stdout => "output",
        Stream::Stderr => "error",
    };
    io::Error::new(error.kind(), StreamWriteError(format!("cannot write to standard {name}: {error}")))
}

/// A write error of a standard stream.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StreamWriteError(String);

/// Whether an error comes from a standard stream, not from a file.
pub(super) fn is_stream_error(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(source) if source.is::<StreamWriteError>())
}

/// Writes everything to standard output or error, and waits for the reader without a limit, even if another
/// program has made the stream nonblocking.
///
/// # Errors
/// If the reader is gone, or the write fails; the message names the stream.
pub(super) fn write_fully(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let file = match stream {
        Stream::Stdout => stdout.as_fd(),
        Stream::Stderr => stderr.as_fd(),
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        match nix::unistd::write(file, rest) {
            Ok(0) => return Err(named(stream, &io::ErrorKind::WriteZero.into())),
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait_until_writable(file, POLL_INTERVAL),
            Err(error) => return Err(named(stream, &error.into())),
        }
    }
    Ok(())
}

/// Standard output or error.
#[derive(Debug)]
pub(super) struct Stdio {
    /// The stream, for messages.
    stream: Stream,
    file: File,
    waiting: Waiting,
    /// Output that the reader has not taken, and the index of the first such byte.
    backlog: (Vec<u8>, usize),
}

impl Stdio {
    /// Takes over standard output.
    ///
    /// # Errors
    /// If the limit of file descriptors is reached.
    pub(super) fn out() -> io::Result<Self> {
        Self::new(Stream::Stdout, &io::stdout())
    }

    /// Takes over standard error.
    ///
    /// # Errors
    /// If the limit of file descriptors is reached.
    pub(super) fn err() -> io::Result<Self> {
        Self::new(Stream::Stderr, &io::stderr())
    }

    /// Takes over a file, as one of these streams.
    ///
    /// # Errors
    /// If the limit of file descriptors is reached.
    pub(super) fn new(stream: Stream, file: &impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        let (file, waiting) = match Self::reopened(file) {
            Some(file) => (file, Waiting::Nonblocking),
            None => (File::from(file.try_clone_to_owned()?), Self::waiting_of(file)),
        };
        Ok(Self { stream, file, waiting, backlog: (Vec::new(), 0) })
    }

    /// Opens the same pipe or terminal again. If that is not permitted, returns `None`, and the file is used
    /// as it is.
    fn reopened(file: BorrowedFd<'_>) -> Option<File> {
        if !is_pipe(&file) && !nix::unistd::isatty(file).unwrap_or(false) {
            return None;
        }
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        OpenOptions::new().write(true).custom_flags(flags.bits()).open(path).ok()
    }

    fn waiting_of(file: BorrowedFd<'_>) -> Waiting {
        if is_of_kind(&file, SFlag::S_IFSOCK) { Waiting::Socket } else { Waiting::Blocking }
    }

    /// Returns the underlying file.
    #[must_use]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes bytes, and stores what the reader does not take.
    ///
    /// # Errors
    /// If the reader is gone, or the write fails.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.has_backlog() {
            self.backlog.0.extend_from_slice(bytes);
        } else {
            let rest = self.write_now(bytes, WRITE_TIMEOUT)?;
            self.backlog = (bytes[rest..].to_vec(), 0);
        }
        Ok(())
    }

    /// Whether the reader has not taken everything yet. Then [`Self::drain`] should be called before more is
    /// written.
    #[must_use]
    pub(super) fn has_backlog(&self) -> bool {
        self.backlog.1 < self.backlog.0.len()
    }

    /// Waits until the reader has taken everything. May be dropped and called again.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        while self.has_backlog() {
            let written = self.write_now(&self.backlog.0[self.backlog.1..], Duration::ZERO)?;
            self.backlog.1 += written;
            if self.has_backlog() {
                let file = self.file.try_clone()?;
                // On a thread that may block. Its wait has a limit, so that it ends soon after this future is
                // dropped.
                let waited =
                    tokio::task::spawn_blocking(move || wait_until_writable(file.as_fd(), POLL_INTERVAL));
                waited.await.map_err(io::Error::other)?;
            }
        }
        self.backlog = (Vec::new(), 0);
        Ok(())
    }

    /// Writes as much as the reader takes within a time limit, and returns the number of bytes.
    fn write_now(&self, bytes: &[u8], patience: Duration) -> io::Result<usize> {
        let mut written = 0;
        let mut until = None;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let result = match self.waiting {
                Waiting::Blocking | Waiting::Nonblocking => (&self.file).write(rest),
                Waiting::Socket => {
                    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                    send(self.file.as_raw_fd(), rest, flags).map_err(io::Error::from)
                }
            };
            match result {
                Ok(0) => return Err(named(self.stream, &io::ErrorKind::WriteZero.into())),
                Ok(count) => (written, until) = (written + count, None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let until = *until.get_or_insert_with(|| Instant::now() + patience);
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    wait_until_writable(self.file.as_fd(), left);
                }
                Err(error) => return Err(named(self.stream, &error)),
            }
        }
        Ok(written)
    }
}

/// Waits until the reader takes more or is gone, or until a time limit. The next write shows which it was.
fn wait_until_writable(file: BorrowedFd<'_>, longest: Duration) {
    let mut ready = [PollFd::new(file, PollFlags::POLLOUT)];
    let _ = poll(&mut ready, PollTimeout::try_from(longest).unwrap_or(PollTimeout::ZERO));
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    async fn keeps_all(mut reader: impl io::Read + Send + 'static, writer: OwnedFd) {
        let mut stdio = Stdio::new(Stream::Stdout, &writer).unwrap();
        drop(writer);
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
        for piece in data.chunks(1_000_000) {
            stdio.write(piece).unwrap();
        }
        assert!(stdio.has_backlog(), "nobody has read anything");
        let reading = std::thread::spawn(move || {
            let mut found = Vec::new();
            reader.read_to_end(&mut found).map(|_| found)
        });
        stdio.drain().await.unwrap();
        drop(stdio);
        assert_eq!(reading.join().unwrap().unwrap(), data);
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_keeps_nobody_waiting_and_loses_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        keeps_all(reader, writer.into()).await;
    }

    #[tokio::test]
    async fn so_does_a_socket() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        keeps_all(reader, writer.into()).await;
    }

    #[tokio::test]
    async fn a_file_takes_everything_at_once_and_a_reader_that_is_gone_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        Stdio::new(Stream::Stdout, &file).unwrap().write(&vec![b'x'; 1_000_000]).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        assert_eq!(io::copy(&mut file, &mut io::sink()).unwrap(), 1_000_000);
        let (reader, writer) = io::pipe().unwrap();
        let mut stdio = Stdio::new(Stream::Stdout, &writer).unwrap();
        drop(reader);
        assert_eq!(stdio.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
