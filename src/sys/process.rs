//! Processes: forks, new sessions, and the tree below a process. Contains all unsafe code but for a trait in `wire/pieces.rs`.

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

/// A new process of this very program, whatever has become of its file; it shows as `sloth-runner` in lists.
#[must_use]
pub fn own_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(env!("CARGO_PKG_NAME"));
    command
}

/// Makes this process show under the program's name, however it was started.
pub fn show_name() {
    let _ = nix::sys::prctl::set_name(c"sloth-runner");
}

/// Keeps this process's memory, which holds keys, out of core dumps and from other processes of its user. Programs that it
/// starts are not bound by that.
pub fn keep_memory_private() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Closes every descriptor but the standard three: a daemon's parent may have left others open, and commands would
/// inherit them. Must come before the process opens any of its own.
pub fn close_inherited() {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The directory's own is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The old process; the new one has this id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks this process.
///
/// # Errors
/// When the kernel has no room for another process.
///
/// # Panics
/// When the process has more than one thread: the other threads' locks would stay locked in the child for ever.
#[expect(unsafe_code, reason = "fork has no safe form; the check above it makes it sound")]
pub fn fork() -> io::Result<Forked> {
    // The directory's link count is that of its entries, `.` and `..`.
    let threads = fs::metadata("/proc/self/task")?.nlink() - 2;
    assert_eq!(threads, 1, "only a process with one thread may fork");
    // SAFETY: with a single thread no lock can be held by a thread that does not exist in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// Makes `command` start in a session of its own, with the limit of open files that this process was started with and with
/// no signal blocked or ignored, whatever its parent does: a program
/// that a script starts with `&` ignores SIGINT, and would hand that on.
#[expect(unsafe_code, reason = "a hook between fork and exec has no safe form")]
pub fn in_new_session(command: &mut Command) -> &mut Command {
    let limit = descriptors::limit_of_programs();
    let hook = move || {
        setsid()?;
        if let Some((limit, most)) = limit {
            setrlimit(Resource::RLIMIT_NOFILE, limit, most)?;
        }
        for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP))
        {
            // SAFETY: no handler is installed, so there is none that could run in the wrong place.
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
pub struct ProcessEntry {
    /// Its id.
    pub pid: i32,
    /// Its state letter, `Z` for one that has ended and was not waited for.
    pub state: char,
    /// The id of its process group.
    pub group: i32,
    /// When it started, in clock ticks since boot: with the id it names a process for good.
    pub started: u64,
}

impl ProcessEntry {
    /// The state in words.
    #[must_use]
    pub fn state_word(&self) -> &'static str {
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

/// One line of `/proc/PID/stat`: the entry and its parent. The name in it may hold anything, `)` too.
fn parse_stat(pid: i32, stat: &str) -> Option<(i32, ProcessEntry)> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let state = fields.first()?.chars().next()?;
    let parent = fields.get(1)?.parse().ok()?;
    let group = fields.get(2)?.parse().ok()?;
    // Field 22 of proc_pid_stat(5); the first after the name is field 3.
    let started = fields.get(19)?.parse().ok()?;
    Some((parent, ProcessEntry { pid, state, group, started }))
}

/// Every process below this one, children first. Ended ones that nobody waited for are not in it.
#[must_use]
pub fn descendants() -> Vec<ProcessEntry> {
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
    /// Sends it signals, in this order. A process that has ended meanwhile is no error, and another one that has got its id
    /// gets none of them.
    pub fn signal(&self, signals: &[Signal]) {
        use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
        let pid = rustix::process::Pid::from_raw(self.pid);
        let process = match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(process)) => Some(process),
            // Linux has had them since 5.3.
            Some(Err(rustix::io::Errno::NOSYS)) => None,
            Some(Err(_)) | None => return,
        };
        // Held by the descriptor, the id is nobody else's from here on.
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

/// Sends signals to a process group that was just seen below this process, in this order. The kernel tells all of its members
/// at once: none of them can start a process meanwhile that is not told. A group whose last member has ended since is no error,
/// unless its id was given to another one in that moment, which takes all other ids to be used up first.
pub fn signal_group(group: i32, signals: &[Signal]) {
    for signal in signals {
        let _ = nix::sys::signal::killpg(Pid::from_raw(group), *signal);
    }
}

/// The id of this process's own group.
#[must_use]
pub fn own_group() -> i32 {
    nix::unistd::getpgrp().as_raw()
}

/// Returns the current time as the kernel reports starts of processes: in clock ticks since boot.
#[must_use]
pub fn started_now() -> u64 {
    let ticks = rustix::param::clock_ticks_per_second();
    u64::try_from(u128::from(boottime_ns()) * u128::from(ticks) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Sends a signal to a process whose id is known to be its own still; one that has ended is no error.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Signaled(i32),
}

/// Waits for every child that has ended, without blocking, and tells how each did.
#[must_use]
pub fn reap() -> Vec<(i32, ChildEnd)> {
    let mut ended = Vec::new();
    // Not nix' own: it knows no real-time signals, and forgets a child that one of them has ended.
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

/// The direct children of this process, which has one thread, whatever `/proc` hides of them. What is unknown is empty.
#[must_use]
pub fn children() -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/self/task/{}/children", getpid())).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether this process has children, ended ones that nobody waited for included. A subreaper without any has nothing
/// below it.
#[must_use]
pub fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT | WaitIdOptions::EXITED;
    !matches!(waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
}

/// The kernel's id of this boot.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What tells this machine, or container, from others while it runs.
///
/// # Errors
/// When `/proc` is not there.
pub fn machine_id() -> io::Result<String> {
    // A container has its host's boot, and its own file; clones of one image have one file, and boots of their own.
    let of_image = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    Ok(format!("{} {}", boot_id()?, of_image.trim()))
}

/// Lets this process keep a few megabytes that it freed: what a flood is read into would be asked of the kernel and given
/// back to it for every piece. [`give_back_memory`] gives it back.
#[expect(unsafe_code, reason = "the allocator's settings have no safe form")]
pub fn keep_freed_memory() {
    /// More than what is on its way through a process at once.
    #[cfg(target_env = "gnu")]
    const KEPT: i32 = 8 * 1024 * 1024;
    #[cfg(target_env = "gnu")]
    for setting in [nix::libc::M_TRIM_THRESHOLD, nix::libc::M_MMAP_THRESHOLD] {
        // SAFETY: it takes two numbers, and says by its result whether they mean something to it.
        unsafe { nix::libc::mallopt(setting, KEPT) };
    }
}

/// Gives back what this process does not need while it is idle: freed memory, and the pages of its program, of which
/// starting alone touches most. Those that are used come back by themselves.
#[expect(unsafe_code, reason = "advice about memory has no safe form")]
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only touches memory that the allocator holds.
    unsafe {
        nix::libc::malloc_trim(0);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in unwritten_mappings(&maps) {
        let Some(start) = std::ptr::NonNull::new(start as *mut _) else { continue };
        // SAFETY: these pages were never written, so that what is read again from the file is what was there. The
        // system lets nobody write to the file of a running program.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Starts and lengths of what in `/proc/PID/maps` is code, or constants that lie before their file's code. What lies
/// behind it was written when the program was loaded, though nothing may write it any more.
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
