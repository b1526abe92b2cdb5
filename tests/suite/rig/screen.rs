//! A client in a pseudoterminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::Child,
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
};

use super::{TestCluster, until};

/// A client in a pseudoterminal, and its output.
pub(crate) struct Screen {
    pub terminal: File,
    shown: Arc<Mutex<Vec<u8>>>,
    pub client: Child,
}

impl Screen {
    pub(crate) fn open(rig: &TestCluster, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        fcntl(&pair.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        let given: OwnedFd = pair.slave;
        let mut command = rig.program();
        command.args(arguments).env("TERM", "xterm-256color");
        command.stdin(given.try_clone().unwrap()).stdout(given.try_clone().unwrap()).stderr(given);
        let client = command.spawn().unwrap();
        drop(command);
        let terminal = File::from(pair.master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reading, writing) = (terminal.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = reading.read(&mut chunk) {
                writing.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Self { terminal, shown, client }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    pub(crate) fn wait(&self, text: &str) {
        until(&format!("{text:?} on the screen"), || self.text().contains(text));
    }

    pub(crate) fn wait_for_prompt(&self) {
        until("a prompt", || self.text().trim_end().ends_with(['$', '#', '%']));
    }

    pub(crate) fn keys(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        sloth_runner::sys::terminal::resize(self.terminal.as_fd(), rows, columns).unwrap();
        // A terminal notifies its foreground processes. This one has no session, so the test does it.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.client.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).unwrap();
    }
}
