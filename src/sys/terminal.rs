//! Terminals: raw mode for the terminal of this process, and new terminals for commands.

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

/// Raw mode of this process's terminal, in which every key is passed on unchanged. Ends when this is dropped.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Enters raw mode on standard input.
    ///
    /// # Errors
    /// When standard input is not a terminal.
    pub fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mode = Self { before };
        mode.again()?;
        Ok(mode)
    }

    /// Enters raw mode again, after another program used the terminal.
    ///
    /// # Errors
    /// When the terminal was closed.
    pub fn again(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        // `Drain` keeps input that was typed ahead.
        Ok(tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?)
    }

    /// Leaves raw mode until [`Self::again`] is called.
    pub fn pause(&self) {
        // A failure is ignored: the terminal was closed.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.pause();
    }
}

/// Returns the rows and columns of the terminal on standard input.
///
/// # Errors
/// When standard input is not a terminal.
pub fn size() -> io::Result<(u16, u16)> {
    let size = tcgetwinsize(io::stdin())?;
    Ok((size.ws_row, size.ws_col))
}

/// Opens a new terminal. Returns the controlling side, which is nonblocking, and the side for a command.
///
/// # Errors
/// When the kernel has no more terminals.
pub fn open(rows: u16, columns: u16) -> io::Result<(File, OwnedFd)> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None)?;
    // The command inherits neither descriptor: it receives its side as its standard streams.
    for side in [&pair.master, &pair.slave] {
        fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    set_nonblocking(pair.master.as_fd())?;
    Ok((File::from(pair.master), pair.slave))
}

/// Sets the size of a terminal. The kernel notifies the processes in its foreground with SIGWINCH.
///
/// # Errors
/// When the terminal was closed.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let mut size = tcgetwinsize(terminal)?;
    (size.ws_row, size.ws_col) = (rows, columns);
    Ok(tcsetwinsize(terminal, size)?)
}

/// Makes reads and writes on a descriptor nonblocking.
///
/// # Errors
/// When the flags of the descriptor cannot be changed.
pub fn set_nonblocking(descriptor: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(&descriptor, FcntlArg::F_GETFL)?);
    fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
