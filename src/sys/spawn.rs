//! Starts a command in a new session, with default signals. It inherits only its standard streams.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use nix::{
    fcntl::OFlag,
    libc,
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn},
    sys::{
        signal::{SigSet, Signal},
        stat::Mode,
    },
};

/// A program with its arguments and its environment.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<Vec<u8>>,
    environment: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The standard input, output and error of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standard<'a> {
    /// These descriptors, in this order.
    Each([BorrowedFd<'a>; 3]),
    /// A terminal for all three. It becomes the controlling terminal of the program's session.
    Terminal(BorrowedFd<'a>),
}

/// Returns the signals that this process ignores, which a program would inherit (handlers are not inherited);
/// all signals if the ignored ones are unknown.
fn ignored_signals() -> SigSet {
    static IGNORED: OnceLock<SigSet> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let Some(mask) = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else {
            return SigSet::all();
        };
        let known: Vec<Signal> = Signal::iterator().collect();
        let is_ignored = |signal: &&Signal| mask & (1 << (**signal as i32 - 1)) != 0;
        let ignored: SigSet = known.iter().filter(is_ignored).copied().collect();
        // nix does not have the real-time signals.
        if mask.count_ones() as usize == ignored.iter().count() { ignored } else { SigSet::all() }
    })
}

impl Program {
    /// Creates a program without arguments and environment.
    #[must_use]
    pub(crate) fn new(path: &Path) -> Self {
        let name = path.as_os_str().as_encoded_bytes().to_vec();
        Self { path: path.to_owned(), arguments: vec![name], environment: BTreeMap::new() }
    }

    /// Adds arguments.
    pub(crate) fn arguments(&mut self, more: impl IntoIterator<Item = Vec<u8>>) -> &mut Self {
        self.arguments.extend(more);
        self
    }

    /// Sets an environment variable, and replaces an earlier one of the same name.
    pub(crate) fn variable(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Returns the arguments and the environment in the form of the system call.
    ///
    /// # Errors
    /// When one of them contains a zero byte.
    pub(crate) fn texts(&self) -> io::Result<(Vec<CString>, Vec<CString>)> {
        let arguments: Result<_, _> = self.arguments.iter().cloned().map(CString::new).collect();
        let variables = self.environment.iter().map(|(name, value)| [name, &b"="[..], value].concat());
        let environment: Result<_, _> = variables.map(CString::new).collect();
        Ok((arguments?, environment?))
    }

    /// Starts the program in this process's working directory, and returns its process id.
    ///
    /// No signal is blocked or ignored in the program. Otherwise it would inherit ignored signals, such as
    /// SIGINT from a program that a script starts with `&`. This process's memory is not copied, since a copy
    /// would take longer than many commands run.
    ///
    /// # Errors
    /// When the kernel does not start it, or when an argument or a variable contains a zero byte.
    pub(crate) fn spawn(&self, standard: Standard<'_>) -> io::Result<i32> {
        let (arguments, environment) = self.texts()?;
        let mut attributes = PosixSpawnAttr::init()?;
        let flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
        // Available in glibc since 2.26 and in musl; nix has no constant for it.
        let new_session = PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into());
        attributes.set_flags(flags | new_session)?;
        attributes.set_sigdefault(&ignored_signals())?;
        attributes.set_sigmask(&SigSet::empty())?;

        let mut actions = PosixSpawnFileActions::init()?;
        match standard {
            Standard::Each(each) => {
                // This process has its standard streams open, so these descriptors are above 2 and no dup2
                // overwrites one.
                for (descriptor, place) in each.iter().zip(0..) {
                    actions.add_dup2(descriptor.as_raw_fd(), place)?;
                }
            }
            Standard::Terminal(terminal) => {
                // The first terminal that a session leader opens becomes its controlling terminal.
                let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
                actions.add_open(0, path.as_str(), OFlag::O_RDWR, Mode::empty())?;
                actions.add_dup2(0, 1)?;
                actions.add_dup2(0, 2)?;
            }
        }
        let pid = posix_spawn(&self.path, &actions, &attributes, &arguments, &environment)?;
        Ok(pid.as_raw())
    }
}
