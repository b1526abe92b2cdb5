//! Terminals: this process's own in raw mode, and new ones for commands. Does not know what is shown.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    pty::{Winsize, openpty},
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// This process's terminal passes every key on as it is, until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Begins it on standard input.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mode = Self { before };
        mode.again()?;
        Ok(mode)
    }

    /// Enters it again, after another program used the terminal.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn again(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        // What was typed ahead is kept.
        Ok(tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?)
    }

    /// Gives the terminal back for a while.
    pub fn pause(&self) {
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.pause();
    }
}

/// Rows and columns of the terminal on standard input.
///
/// # Errors
/// When it is no terminal.
pub fn size() -> io::Result<(u16, u16)> {
    let size = tcgetwinsize(io::stdin())?;
    Ok((size.ws_row, size.ws_col))
}

/// A new terminal: the side that shows it, which does not block, and the side that a command gets.
///
/// # Errors
/// When the kernel has none.
pub fn open(rows: u16, columns: u16) -> io::Result<(File, OwnedFd)> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None)?;
    // Neither side is the command's by accident: what it gets, it gets as its standard three.
    for side in [&pair.master, &pair.slave] {
        fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    set_nonblocking(pair.master.as_fd())?;
    Ok((File::from(pair.master), pair.slave))
}

/// Tells a terminal its size; whatever runs in it gets a signal.
///
/// # Errors
/// When it is gone.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let mut size = tcgetwinsize(terminal)?;
    (size.ws_row, size.ws_col) = (rows, columns);
    Ok(tcsetwinsize(terminal, size)?)
}

/// Lets reads and writes return at once.
///
/// # Errors
/// When the descriptor takes no flags.
pub fn set_nonblocking(descriptor: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(&descriptor, FcntlArg::F_GETFL)?);
    fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
