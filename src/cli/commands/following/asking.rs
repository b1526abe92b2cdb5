//! Decides what a signal or a typed line means while a job is followed. The callers act on the decision.

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

/// Interval of the check whether this client is the terminal's foreground job.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum length of a typed line, in bytes.
const MAX_LINE_BYTES: usize = 256;

/// The action that the user requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserAction {
    /// Do nothing.
    Nothing,
    /// Ask the user what ^C is to do.
    Ask,
    /// Show which tasks still run.
    ShowRunning,
    /// Cancel the job, and show how its tasks end.
    Cancel,
    /// Leave the job, and exit with this status.
    Detach(Status),
}

/// The state of an interruption by the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    No,
    /// The job has several agents, so the user was asked: cancel, leave or wait?
    Asked,
    /// The user cancelled the job, but the master did not receive the request.
    Unheard,
    /// The job was cancelled; its tasks have not ended yet.
    Cancelled,
}

/// The state of the dialogue with the user.
#[derive(Debug)]
pub(super) struct InterruptDialog {
    interrupt: Interrupt,
    /// Whether ^C concerns the job, not only this client.
    owns: bool,
    /// Whether the target is a single agent name; then ^C asks no question.
    plain_name: bool,
    /// Whether a person uses standard input and standard error.
    has_person: bool,
    typed: Option<mpsc::Receiver<String>>,
}

impl InterruptDialog {
    pub(super) fn new(owns: bool, plain_name: bool, has_person: bool) -> Self {
        let has_person = has_person && io::stdin().is_terminal();
        let typed = (has_person && !plain_name).then(read_lines);
        Self { interrupt: Interrupt::No, owns, plain_name, has_person, typed }
    }

    /// Whether the job was cancelled from here.
    pub(super) fn has_cancelled(&self) -> bool {
        matches!(self.interrupt, Interrupt::Unheard | Interrupt::Cancelled)
    }

    /// Whether the question after ^C waits for an answer.
    pub(super) fn is_asked(&self) -> bool {
        self.interrupt == Interrupt::Asked
    }

    /// Whether a person is there who can act.
    pub(super) fn has_person(&self) -> bool {
        self.has_person
    }

    /// Records that the job was cancelled for another reason than a signal.
    pub(super) fn cancelled(&mut self) {
        self.interrupt = Interrupt::Cancelled;
    }

    /// Records that the cancel request did not reach the master, and has to be sent again after a reconnect.
    pub(super) fn mark_unsent(&mut self) {
        self.interrupt = Interrupt::Unheard;
    }

    /// Returns the action to repeat after a reconnect.
    pub(super) fn owed(&mut self) -> UserAction {
        if self.interrupt != Interrupt::Unheard {
            return UserAction::Nothing;
        }
        self.interrupt = Interrupt::Cancelled;
        UserAction::Cancel
    }

    pub(super) fn signalled(&mut self, signal: EndSignal) -> UserAction {
        if !self.owns || signal == EndSignal::Hangup {
            return UserAction::Detach(exit::INTERRUPTED);
        }
        let asks = self.has_person && !self.plain_name && signal == EndSignal::Interrupt;
        match self.interrupt {
            Interrupt::No if asks => {
                self.interrupt = Interrupt::Asked;
                UserAction::Ask
            }
            Interrupt::No | Interrupt::Asked => {
                self.interrupt = Interrupt::Cancelled;
                UserAction::Cancel
            }
            Interrupt::Unheard | Interrupt::Cancelled => UserAction::Detach(exit::INTERRUPTED),
        }
    }

    fn heard(&mut self, line: &str) -> UserAction {
        match (self.interrupt, line.trim()) {
            (Interrupt::Asked, "d") => UserAction::Detach(exit::INTERRUPTED),
            (Interrupt::Asked, "c") => {
                self.interrupt = Interrupt::Cancelled;
                UserAction::Cancel
            }
            (Interrupt::Asked, _) => {
                self.interrupt = Interrupt::No;
                UserAction::Nothing
            }
            (Interrupt::No | Interrupt::Unheard | Interrupt::Cancelled, _) => UserAction::ShowRunning,
        }
    }

    /// Returns the next action that the user types. Without a user, it never returns.
    pub(super) async fn typed(&mut self) -> UserAction {
        let line = match &mut self.typed {
            Some(typed) => typed.recv().await,
            None => std::future::pending().await,
        };
        if let Some(line) = line {
            return self.heard(&line);
        }
        self.typed = None;
        UserAction::Nothing
    }
}

/// Reads lines from the terminal on a thread of its own, which ends with the process. The thread reads
/// standard input only while this client is the terminal's foreground job: it must not stop a client that was
/// started with `&`, nor read lines that are meant for the shell.
fn read_lines() -> mpsc::Receiver<String> {
    let (lines, typed) = mpsc::channel(4);
    std::thread::spawn(move || {
        let stdin = io::stdin();
        let mut line = Vec::new();
        loop {
            if tcgetpgrp(&stdin) != Ok(getpgrp()) {
                std::thread::sleep(POLL_INTERVAL);
                continue;
            }
            let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(POLL_INTERVAL).unwrap_or(PollTimeout::NONE);
            if poll(&mut ready, timeout) != Ok(1) || tcgetpgrp(&stdin) != Ok(getpgrp()) {
                continue;
            }
            let mut bytes = [0; MAX_LINE_BYTES];
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
            line.truncate(MAX_LINE_BYTES);
        }
    });
    typed
}
