//! What a signal or a key means while a job is followed. Decides; the callers act.

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{getpgrp, tcgetpgrp},
};
use tokio::sync::mpsc;

use crate::{
    cli::exit::{self, Status},
    sys::shutdown::EndSignal,
};

/// How often it is looked whether this client is the terminal's foreground job.
const LOOK: Duration = Duration::from_millis(200);
/// Longest line that a person types.
const LONGEST: usize = 256;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing new.
    Nothing,
    /// To be asked what ^C should mean.
    Ask,
    /// To see who still runs.
    ShowRunning,
    /// To cancel the job and see the proof.
    Cancel,
    /// To leave it.
    Detach(Status),
}

/// How far an interruption went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    No,
    /// Several agents: cancel, leave or wait?
    Asked,
    /// Cancelled, but the master did not hear it.
    Unheard,
    /// Cancelled; waiting for the proof.
    Cancelled,
}

/// The state of that conversation.
#[derive(Debug)]
pub(super) struct Asking {
    interrupt: Interrupt,
    /// ^C concerns the job, not only this client.
    owns: bool,
    /// One agent: nothing is asked.
    plain_name: bool,
    /// A person sits at standard input and standard error.
    has_person: bool,
    typed: Option<mpsc::Receiver<String>>,
}

impl Asking {
    pub(super) fn new(owns: bool, plain_name: bool, has_person: bool) -> Self {
        let has_person = has_person && io::stdin().is_terminal();
        let typed = (has_person && !plain_name).then(read_lines);
        Self { interrupt: Interrupt::No, owns, plain_name, has_person, typed }
    }

    /// Whether the job was cancelled from here.
    pub(super) fn has_cancelled(&self) -> bool {
        matches!(self.interrupt, Interrupt::Unheard | Interrupt::Cancelled)
    }

    /// Whether a person waits for the answer to ^C.
    pub(super) fn is_asked(&self) -> bool {
        self.interrupt == Interrupt::Asked
    }

    /// Whether a person can be expected to do something.
    pub(super) fn has_person(&self) -> bool {
        self.has_person
    }

    /// Notes that the job is cancelled for another reason than a signal.
    pub(super) fn cancelled(&mut self) {
        self.interrupt = Interrupt::Cancelled;
    }

    /// Notes that the master has to be told again to cancel the job, once it is back.
    pub(super) fn unheard(&mut self) {
        self.interrupt = Interrupt::Unheard;
    }

    /// What it has to be told, now that it is back.
    pub(super) fn owed(&mut self) -> Wish {
        if self.interrupt != Interrupt::Unheard {
            return Wish::Nothing;
        }
        self.interrupt = Interrupt::Cancelled;
        Wish::Cancel
    }

    pub(super) fn signalled(&mut self, signal: EndSignal) -> Wish {
        if !self.owns || signal == EndSignal::Hangup {
            return Wish::Detach(exit::INTERRUPTED);
        }
        let asks = self.has_person && !self.plain_name && signal == EndSignal::Interrupt;
        match self.interrupt {
            Interrupt::No if asks => {
                self.interrupt = Interrupt::Asked;
                Wish::Ask
            }
            Interrupt::No | Interrupt::Asked => {
                self.interrupt = Interrupt::Cancelled;
                Wish::Cancel
            }
            Interrupt::Unheard | Interrupt::Cancelled => Wish::Detach(exit::INTERRUPTED),
        }
    }

    fn heard(&mut self, line: &str) -> Wish {
        match (self.interrupt, line.trim()) {
            (Interrupt::Asked, "d") => Wish::Detach(exit::INTERRUPTED),
            (Interrupt::Asked, "c") => {
                self.interrupt = Interrupt::Cancelled;
                Wish::Cancel
            }
            (Interrupt::Asked, _) => {
                self.interrupt = Interrupt::No;
                Wish::Nothing
            }
            (Interrupt::No | Interrupt::Unheard | Interrupt::Cancelled, _) => Wish::ShowRunning,
        }
    }

    /// The next wish that is typed; never, where nobody types.
    pub(super) async fn typed(&mut self) -> Wish {
        let line = match &mut self.typed {
            Some(typed) => typed.recv().await,
            None => std::future::pending().await,
        };
        if let Some(line) = line {
            return self.heard(&line);
        }
        self.typed = None;
        Wish::Nothing
    }
}

/// Lines from a terminal, read on a thread of their own that ends with the process. Standard input is only touched
/// while this client is the terminal's foreground job: `&` must not stop it, and the shell's own lines are not for it.
fn read_lines() -> mpsc::Receiver<String> {
    let (lines, typed) = mpsc::channel(4);
    std::thread::spawn(move || {
        let stdin = io::stdin();
        let mut line = Vec::new();
        loop {
            if tcgetpgrp(&stdin) != Ok(getpgrp()) {
                std::thread::sleep(LOOK);
                continue;
            }
            let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::NONE);
            if poll(&mut ready, timeout) != Ok(1) || tcgetpgrp(&stdin) != Ok(getpgrp()) {
                continue;
            }
            let mut bytes = [0; LONGEST];
            match nix::unistd::read(&stdin, &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(count) => line.extend_from_slice(&bytes[..count]),
            }
            while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                let rest = line.split_off(end + 1);
                let whole = std::mem::replace(&mut line, rest);
                if lines.blocking_send(String::from_utf8_lossy(&whole).into_owned()).is_err() {
                    return;
                }
            }
            line.truncate(LONGEST);
        }
    });
    typed
}
