//! Sends standard input to the master. After a broken connection it continues at the command's position.
//! Buffers at most one window.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::{
    cli::output::complain,
    domain::{
        control::{InputProgress, InputRequest, Stdin, WindowSize},
        ids::JobReference,
        input::{CHUNK, WINDOW},
    },
    wire::{
        client::{ControlClient, MasterAddress},
        status::CallError,
    },
};

/// Maximum number of pieces that wait to be sent.
const MAX_QUEUED_PIECES: usize = 4;
/// Pause before the next attempt to reach the master.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Input for the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// Bytes of standard input.
    Bytes(Bytes),
    /// The size of the terminal.
    Size(WindowSize),
}

/// Reads standard input on a thread of its own, at the speed of the receiver. At the end of the input, the
/// channel is closed. A read that blocks does not keep the process alive.
pub(super) fn read_standard_input() -> mpsc::Receiver<Fed> {
    let (pieces, input) = mpsc::channel(MAX_QUEUED_PIECES);
    thread::spawn(move || {
        let mut buffer = BytesMut::zeroed(CHUNK);
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let piece = Bytes::copy_from_slice(&buffer[..count]);
                    if pieces.blocking_send(Fed::Bytes(piece)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return complain(&format!("cannot read standard input: {error}; it ends here")),
            }
        }
    });
    input
}

/// Input that was read, but not taken by the command yet.
#[derive(Debug, Default)]
struct PendingInput {
    pieces: VecDeque<(u64, Bytes)>,
    /// Number of bytes read in total.
    read: u64,
    /// Number of bytes that the command has taken.
    taken: u64,
    /// Number of bytes that were sent on this connection, or taken before it.
    sent: u64,
    /// Whether standard input has ended.
    is_complete: bool,
    /// Whether the end was sent on this connection.
    end_sent: bool,
}

impl PendingInput {
    fn has_room(&self) -> bool {
        !self.is_complete && self.read - self.taken < WINDOW
    }

    fn put(&mut self, piece: Bytes) {
        let at = self.read;
        self.read += piece.len() as u64;
        self.pieces.push_back((at, piece));
    }

    fn take(&mut self, offset: u64) {
        self.taken = self.taken.max(offset).min(self.read);
        while self.pieces.front().is_some_and(|(at, piece)| at + piece.len() as u64 <= self.taken) {
            self.pieces.pop_front();
        }
    }

    fn send_from(&mut self, offset: u64) {
        self.take(offset);
        (self.sent, self.end_sent) = (self.taken, false);
    }

    /// Returns the next message, if one may be sent.
    fn next(&mut self) -> Option<Stdin> {
        if self.sent >= self.read {
            if !self.is_complete || self.end_sent {
                return None;
            }
            self.end_sent = true;
            return Some(Stdin { offset: self.read, data: Bytes::new(), is_end: true });
        }
        let place = self.pieces.iter().position(|(at, piece)| at + piece.len() as u64 > self.sent)?;
        let (at, piece) = &self.pieces[place];
        let skip = usize::try_from(self.sent - at).unwrap_or(0);
        let offset = self.sent;
        let data = piece.slice(skip..);
        self.sent += data.len() as u64;
        Some(Stdin { offset, data, is_end: false })
    }
}

/// Why sending on one connection ended.
enum End {
    /// The command takes no more input.
    Over,
    /// The connection broke.
    Broken,
    /// The master refused the input.
    Refused(String),
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Disconnected(_) => Self::Broken,
            error => Self::Refused(error.to_string()),
        }
    }
}

/// Sends input to a job until its command takes no more. The caller drops the future when the job is over.
pub(super) async fn feed(address: MasterAddress, job: JobReference, mut input: mpsc::Receiver<Fed>) {
    let mut kept = PendingInput::default();
    let mut size = None;
    loop {
        if let Ok(client) = ControlClient::connect(&address).await {
            match send_input_on(&client, job, &mut input, &mut kept, &mut size).await {
                End::Over => return,
                End::Refused(reason) => {
                    return complain(&format!("the command gets no more input: {reason}"));
                }
                End::Broken => {}
            }
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn send_input_on(
    client: &ControlClient,
    job: JobReference,
    input: &mut mpsc::Receiver<Fed>,
    kept: &mut PendingInput,
    size: &mut Option<WindowSize>,
) -> End {
    let (requests, outgoing) = mpsc::channel(MAX_QUEUED_PIECES);
    let _ = requests.try_send(InputRequest::Job(job));
    let mut answers = match client.send_input(outgoing).await {
        Ok(answers) => answers,
        Err(error) => return error.into(),
    };
    // Nothing is sent before the master has reported the offset to begin at.
    let mut has_begun = false;
    let mut untold_size = *size;
    loop {
        tokio::select! {
            answer = answers.next() => match answer {
                Ok(Some(InputProgress::SendFrom(offset))) => {
                    kept.send_from(offset);
                    has_begun = true;
                }
                Ok(Some(InputProgress::Taken(taken))) => {
                    kept.take(taken.offset);
                    if taken.is_over {
                        return End::Over;
                    }
                }
                Ok(None) => return End::Broken,
                Err(error) => return error.into(),
            },
            fed = input.recv(), if kept.has_room() => match fed {
                Some(Fed::Bytes(piece)) => kept.put(piece),
                Some(Fed::Size(new)) => {
                    *size = Some(new);
                    untold_size = *size;
                }
                None => kept.is_complete = true,
            },
            permit = requests.reserve(), if has_begun && (untold_size.is_some() || kept.wants_to_send()) => {
                let Ok(permit) = permit else { return End::Broken };
                if let Some(size) = untold_size.take() {
                    permit.send(InputRequest::WindowSize(size));
                } else if let Some(stdin) = kept.next() {
                    permit.send(InputRequest::Stdin(stdin));
                }
            }
        }
    }
}

impl PendingInput {
    fn wants_to_send(&self) -> bool {
        self.sent < self.read || self.is_complete && !self.end_sent
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_breaks_everything_is_sent_in_order_from_where_the_command_is(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..20),
            breaks in proptest::collection::vec((0usize..30, 0u64..400), 0..10),
        ) {
            let whole: Vec<u8> = pieces.concat();
            let mut kept = PendingInput::default();
            for piece in pieces {
                kept.put(piece.into());
            }
            kept.is_complete = true;
            let mut got: Vec<u8> = Vec::new();
            for (sent, back) in breaks {
                for _ in 0..sent {
                    let Some(stdin) = kept.next() else { break };
                    prop_assert_eq!(stdin.offset, got.len() as u64);
                    got.extend_from_slice(&stdin.data);
                }
                // The command has taken a part; the rest was lost with the connection.
                let at = (got.len() as u64).saturating_sub(back).max(kept.taken);
                kept.send_from(at);
                got.truncate(usize::try_from(at).unwrap());
            }
            let mut has_end = false;
            while let Some(stdin) = kept.next() {
                got.extend_from_slice(&stdin.data);
                has_end |= stdin.is_end;
            }
            prop_assert!(has_end);
            prop_assert_eq!(got, whole);
        }
    }
}
