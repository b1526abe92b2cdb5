//! Processes: forks, new sessions, and the descendants of a process. Contains all unsafe code except for a
//! trait in
//! `wire/pieces.rs`.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    process::Command,
};

use super::{clock::boottime_ns, descriptors};
use nix::{
    sys::{
        mman::{MmapAdvise, madvise},
        resource::{Resource, setrlimit},
        signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, sigprocmask},
    },
    unistd::{ForkResult, Pid, getpid, setsid},
};

/// Returns a command that starts this very program, even if its file was replaced or deleted. Process lists
/// show it as
/// `sloth-runner`.
#[must_use]
pub(crate) fn own_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(env!("CARGO_PKG_NAME"));
    command
}

/// Sets the name under which process lists show this process to the program's name.
pub(crate) fn show_name() {
    let _ = nix::sys::prctl::set_name(c"sloth-runner");
}

/// Excludes this process's memory, which holds keys, from core dumps and from access by other processes of
/// its user. Programs that it starts are not affected.
pub(crate) fn keep_memory_private() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Closes every descriptor except the standard three: a daemon's parent may have left others open, and
/// commands would inherit them. Must be called before the process opens descriptors of its own.
pub(crate) fn close_inherited() {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The descriptor of `/proc/self/fd` itself is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// The side of a fork on which the process is.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The parent, with the id of the child.
    Parent(Pid),
    /// The child.
    Child,
}

/// Forks this process.
///
/// # Errors
/// When the kernel cannot create another process.
///
/// # Panics
/// When the process has more than one thread: the other threads' locks would stay locked in the child for ever.
#[expect(unsafe_code, reason = "fork has no safe form; the check above it makes it sound")]
pub(crate) fn fork() -> io::Result<Forked> {
    // The link count of the directory is the number of threads plus two, for `.` and `..`.
    let threads = fs::metadata("/proc/self/task")?.nlink() - 2;
    assert_eq!(threads, 1, "only a process with one thread may fork");
    // SAFETY: with a single thread no lock can be held by a thread that does not exist in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// Makes `command` start in a new session, with the limit of open files that this process was started with,
/// and with no signal blocked or ignored. Otherwise it would inherit ignored signals, such as SIGINT from a
/// program that a script starts with `&`.
#[expect(unsafe_code, reason = "a hook between fork and exec has no safe form")]
pub(crate) fn in_new_session(command: &mut Command) -> &mut Command {
    let limit = descriptors::limit_of_programs();
    let hook = move || {
        setsid()?;
        if let Some((limit, most)) = limit {
            setrlimit(Resource::RLIMIT_NOFILE, limit, most)?;
        }
        for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP))
        {
            // SAFETY: this sets the default action and installs no handler, so no handler can run in an
            // unsafe context.
            unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        Ok(())
    };
    // SAFETY: the hook only makes system calls; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(hook) }
}

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessEntry {
    /// Its id.
    pub pid: i32,
    /// Its state letter; `Z` for a zombie, which has ended and was not reaped.
    pub state: char,
    /// The id of its process group.
    pub group: i32,
    /// When it started, in clock ticks since boot. Together with the id this identifies a process uniquely.
    pub started: u64,
}

impl ProcessEntry {
    /// Returns the state in words.
    #[must_use]
    pub(crate) fn state_word(&self) -> &'static str {
        match self.state {
            'R' => "running",
            'S' => "sleeping",
            'D' => "disk wait",
            'T' => "stopped",
            't' => "traced",
            'Z' => "ended, not reaped",
            'I' => "idle",
            _ => "unknown",
        }
    }
}

/// Parses `/proc/PID/stat`. Returns the id of the parent, and the entry. The name in the text may contain any
/// character, even `)`.
fn parse_stat(pid: i32, stat: &str) -> Option<(i32, ProcessEntry)> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let state = fields.first()?.chars().next()?;
    let parent = fields.get(1)?.parse().ok()?;
    let group = fields.get(2)?.parse().ok()?;
    // Field 22 of proc_pid_stat(5); the first after the name is field 3.
    let started = fields.get(19)?.parse().ok()?;
    Some((parent, ProcessEntry { pid, state, group, started }))
}

/// Returns all descendants of this process, each parent before its children, without zombies.
#[must_use]
pub(crate) fn descendants() -> Vec<ProcessEntry> {
    let mut children: HashMap<i32, Vec<ProcessEntry>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        if let Some((parent, process)) = parse_stat(pid, &String::from_utf8_lossy(&stat)) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![getpid().as_raw()];
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.pid);
            if process.state != 'Z' {
                found.push(process);
            }
        }
    }
    found
}

impl ProcessEntry {
    /// Sends signals to the process, in this order. If the process has ended, nothing happens, even if a new
    /// process has its id.
    pub(crate) fn signal(&self, signals: &[Signal]) {
        use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
        let pid = rustix::process::Pid::from_raw(self.pid);
        let process = match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(process)) => Some(process),
            // Linux has process descriptors since 5.3.
            Some(Err(rustix::io::Errno::NOSYS)) => None,
            Some(Err(_)) | None => return,
        };
        // From here on the descriptor stands for one process. Its start time shows whether it is the expected
        // one.
        let stat = fs::read(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let now = parse_stat(self.pid, &String::from_utf8_lossy(&stat));
        if now.is_none_or(|(_, now)| now.started != self.started) {
            return;
        }
        for signal in signals {
            match &process {
                Some(process) => {
                    let signal = rustix::process::Signal::from_named_raw(*signal as i32);
                    let _ = signal.map(|signal| pidfd_send_signal(process, signal));
                }
                None => drop(kill(Pid::from_raw(self.pid), *signal)),
            }
        }
    }
}

/// Sends signals, in this order, to a process group that was just seen among the descendants of this process.
/// The kernel signals all members at once, so no member can start a process that misses the signal. A group
/// that has ended since is no error. Its id could belong to a new group only if all other ids were used in
/// that moment.
pub(crate) fn signal_group(group: i32, signals: &[Signal]) {
    for signal in signals {
        let _ = nix::sys::signal::killpg(Pid::from_raw(group), *signal);
    }
}

/// Returns the id of the process group of this process.
#[must_use]
pub(crate) fn own_group() -> i32 {
    nix::unistd::getpgrp().as_raw()
}

/// Returns the current time as the kernel reports starts of processes: in clock ticks since boot.
#[must_use]
pub(crate) fn started_now() -> u64 {
    let ticks = rustix::param::clock_ticks_per_second();
    u64::try_from(u128::from(boottime_ns()) * u128::from(ticks) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Sends a signal to a process. The caller must know that the id still belongs to it. A process that has
/// ended is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildEnd {
    /// It exited with this status.
    Exited(u8),
    /// This signal terminated it.
    Signaled(i32),
}

/// Reaps every child that has ended, without blocking. Returns the id of each, and how it ended.
#[must_use]
pub(crate) fn reap() -> Vec<(i32, ChildEnd)> {
    let mut ended = Vec::new();
    // Not `waitpid` of nix: it does not support real-time signals, and loses a child that such a signal
    // terminated.
    while let Ok(Some((pid, status))) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
        let pid = pid.as_raw_nonzero().get();
        if let Some(code) = status.exit_status() {
            ended.push((pid, ChildEnd::Exited(u8::try_from(code & 0xff).unwrap_or(255))));
        } else if let Some(signal) = status.terminating_signal() {
            ended.push((pid, ChildEnd::Signaled(signal)));
        }
    }
    ended
}

/// Returns the direct children of this process, which must have one thread, even those that `/proc` hides.
/// Empty if they are unknown.
#[must_use]
pub(crate) fn children() -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/self/task/{}/children", getpid())).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Reports whether this process has children, including zombies. A subreaper without children has no
/// descendants.
#[must_use]
pub(crate) fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT | WaitIdOptions::EXITED;
    !matches!(waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
}

/// Returns the kernel's id of this boot.
///
/// # Errors
/// When `/proc` is not available.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Returns an id that distinguishes this machine, or container, from others while it runs.
///
/// # Errors
/// When `/proc` is not available.
pub(crate) fn machine_id() -> io::Result<String> {
    // A container has the boot id of its host and its own machine-id. Clones of one image have the same
    // machine-id and different boot ids.
    let of_image = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    Ok(format!("{} {}", boot_id()?, of_image.trim()))
}

/// Lets this process keep a few megabytes of freed memory. Otherwise the buffers for a flood of output would
/// be requested from the kernel and returned to it for each piece. [`give_back_memory`] returns the memory.
#[expect(unsafe_code, reason = "the allocator's settings have no safe form")]
pub(crate) fn keep_freed_memory() {
    /// More than the amount of data that passes through a process at one time.
    #[cfg(target_env = "gnu")]
    const KEPT: i32 = 8 * 1024 * 1024;
    #[cfg(target_env = "gnu")]
    for setting in [nix::libc::M_TRIM_THRESHOLD, nix::libc::M_MMAP_THRESHOLD] {
        // SAFETY: it takes two numbers, and its result reports whether it accepts them.
        unsafe { nix::libc::mallopt(setting, KEPT) };
    }
}

/// Returns memory that this process does not need while it is idle: freed memory, and pages of the program,
/// most of which are needed only at the start. Pages that are used again are loaded from the file.
#[expect(unsafe_code, reason = "advice about memory has no safe form")]
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it affects only memory that the allocator holds.
    unsafe {
        nix::libc::malloc_trim(0);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in unwritten_mappings(&maps) {
        let Some(start) = std::ptr::NonNull::new(start as *mut _) else { continue };
        // SAFETY: these pages were never written, so the file still has their contents. The system does not
        // permit writes to the file of a running program.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Returns the start and the length of each mapping in `/proc/PID/maps` that is code, or constants before the
/// code of their file. Constants after the code were written when the program was loaded, although they are
/// read-only now.
fn unwritten_mappings(maps: &str) -> Vec<(usize, usize)> {
    let mut written: Option<&str> = None;
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(rights), Some(path)) = (words.next(), words.next(), words.nth(3)) else {
            continue;
        };
        let is_code = rights == "r-xp";
        if !path.starts_with('/') || written == Some(path) || !(is_code || rights == "r--p") {
            continue;
        }
        if is_code {
            written = Some(path);
        }
        let number = |text| usize::from_str_radix(text, 16).ok();
        let ends = range.split_once('-').and_then(|(start, end)| number(start).zip(number(end)));
        found.extend(ends.map(|(start, end)| (start, end - start)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_what_lies_before_it_is_unwritten() {
        let maps = "\
5603cf000-5603cf300 r--p 00000000 fe:00 30 /usr/bin/sloth runner
5603cf300-5603cff00 r-xp 00300000 fe:00 30 /usr/bin/sloth runner
5603cff00-5603d0000 r--p 00f00000 fe:00 30 /usr/bin/sloth runner
5603d0000-5603d0100 rw-p 01000000 fe:00 30 /usr/bin/sloth runner
7ff350000-7ff351000 rw-p 00000000 00:00 0
7ff352000-7ff353000 r-xp 00001000 fe:00 31 /lib/libc.so.6
7ff354000-7ff355000 r--p 00003000 fe:00 31 /lib/libc.so.6
7fff00000-7fff01000 r-xp 00000000 00:00 0  [vdso]
";
        let expected = [(0x5_603c_f000, 0x300), (0x5_603c_f300, 0xc00), (0x7_ff35_2000, 0x1000)];
        assert_eq!(unwritten_mappings(maps), expected);
        give_back_memory();
    }

    #[test]
    fn stat_lines_are_read_behind_any_name() {
        let rest = "S 17 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 0 0";
        let stat = format!("42 (a) b (c) {rest}");
        let (parent, process) = parse_stat(42, &stat).unwrap();
        assert_eq!(parent, 17);
        assert_eq!(process, ProcessEntry { pid: 42, state: 'S', group: 1, started: 4711 });
        assert!(parse_stat(42, "42 (a").is_none());
    }
}
