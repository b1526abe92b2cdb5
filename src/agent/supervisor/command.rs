//! Starts a task's command: user, shell, working directory and environment.

use std::{
    env,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::unistd::{User, getuid};

use super::{
    input::Input,
    protocol::{TaskRecord, line},
    reserve::is_out_of_processes,
};
use crate::{
    domain::{
        command::{Command, KILL_GRACE_MS, TaskSpec},
        ids::{JobId, TaskId},
        input::{StandardInput, Terminal},
        time::UnixMs,
    },
    sys::{
        spawn::{Program, Standard},
        terminal,
    },
};

/// The search path for shells, and `PATH` of commands.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The user as which commands run, and the shell that runs them. Looked up once by the supervisor, since a
/// query of the name service takes longer than a fork.
#[derive(Debug)]
pub(crate) struct Account {
    shell: Option<(&'static str, PathBuf)>,
    name: Option<String>,
    home: PathBuf,
    login_shell: PathBuf,
}

impl Account {
    /// Looks up the user of this process, and the shell that runs its commands: bash, or sh if there is no
    /// bash.
    #[must_use]
    pub(crate) fn look_up() -> Self {
        let user = User::from_uid(getuid()).ok().flatten();
        let shell = ["bash", "sh"].into_iter().find_map(|shell| {
            PATH.split(':')
                .map(|directory| Path::new(directory).join(shell))
                .find(|path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok())
                .map(|path| (shell, path))
        });
        Self {
            shell,
            name: user.as_ref().map(|user| user.name.clone()),
            home: user.as_ref().map_or_else(|| PathBuf::from("/"), |user| user.dir.clone()),
            login_shell: user.map_or_else(|| PathBuf::from("/bin/sh"), |user| user.shell),
        }
    }
}

/// How long to try to start a command while there are no free process ids. The next constant is the pause
/// between two attempts.
const START_RETRY_TIMEOUT: Duration = Duration::from_secs(1);
const START_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A command that was started, and the ends of its pipes.
#[derive(Debug)]
pub(super) struct Started {
    /// Its process id.
    pub(super) pid: i32,
    /// Its standard output, or its terminal.
    pub(super) stdout: File,
    /// Its standard error; `None` for a terminal, which has only one stream.
    pub(super) stderr: Option<File>,
    /// Its standard input.
    pub(super) input: Input,
}

/// Starts a task's command with pipes, or in a terminal.
///
/// If there are no free process ids, calls `no_process` once, and retries for [`START_RETRY_TIMEOUT`].
///
/// # Errors
/// The reason as text, when nothing was started.
pub(super) fn start_command(
    record: &TaskRecord,
    account: &Account,
    no_process: impl FnOnce(),
) -> Result<Started, String> {
    let spec = &record.spec;
    let (shell, program) = program_of(record, account)?;
    let directory = working_directory(spec, &account.home, &record.agent)?;
    // The command inherits the working directory of this process, which changes back to `/` afterwards.
    let in_directory = env::set_current_dir(&directory);
    in_directory.map_err(|error| cannot_run_in(&directory, &record.agent, &error))?;
    let start = || match &spec.input {
        StandardInput::Nothing => with_pipes(&program, false),
        StandardInput::Stream => with_pipes(&program, true),
        StandardInput::Terminal(terminal) => in_terminal(&program, terminal),
    };
    let mut started = start();
    if started.as_ref().is_err_and(is_out_of_processes) {
        no_process();
        let until = Instant::now() + START_RETRY_TIMEOUT;
        while started.as_ref().is_err_and(is_out_of_processes) && Instant::now() < until {
            std::thread::sleep(START_RETRY_INTERVAL);
            started = start();
        }
    }
    let _ = env::set_current_dir("/");
    started.map_err(|error| format!("{shell} could not be started on {}: {error}", record.agent))
}

/// Prepares a dummy task without starting its command. The first access to code and memory costs a process
/// more than the work itself, so this is done before a task arrives.
pub(super) fn rehearse(account: &Account) {
    let Ok(command) = Command::new(vec![b"true".to_vec()]) else { return };
    let spec = TaskSpec {
        job_number: 0,
        operator: "rehearsal".into(),
        target: "rehearsal".into(),
        command,
        environment: Vec::new(),
        working_directory: None,
        timeout_ms: None,
        kill_grace_ms: KILL_GRACE_MS,
        input: StandardInput::Nothing,
        by_admin: false,
        seal: None,
    };
    let record = TaskRecord {
        id: TaskId { job: JobId::from_parts(0, 0), index: 0 },
        spec,
        agent: "rehearsal".to_owned(),
        boot: String::new(),
        started_unix_ms: UnixMs(0),
        started_boottime_ns: 0,
    };
    let read = serde_json::from_slice::<TaskRecord>(&line(&record));
    if let Ok(Ok((_, program))) = read.as_ref().map(|record| program_of(record, account)) {
        drop(program.texts());
    }
    let _ = working_directory(&record.spec, &account.home, &record.agent);
}

/// Returns the name of the shell that runs a task's command, and the program with its arguments and
/// environment.
fn program_of(record: &TaskRecord, account: &Account) -> Result<(&'static str, Program), String> {
    let spec = &record.spec;
    let Some((shell, path)) = &account.shell else {
        return Err(format!("there is neither bash nor sh in {PATH} on {}", record.agent));
    };
    let mut program = Program::new(path);
    program
        .arguments(spec.command.shell_arguments(shell))
        .variable("PATH", PATH)
        .variable("HOME", account.home.as_os_str().as_bytes())
        .variable("SHELL", account.login_shell.as_os_str().as_bytes())
        .variable("LANG", env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into()).as_bytes())
        .variable("SLOTH_JOB_ID", record.id.job.to_string())
        .variable("SLOTH_TASK_ID", record.id.to_string())
        .variable("SLOTH_AGENT", record.agent.as_str());
    if let Some(name) = &account.name {
        program.variable("USER", name.as_str()).variable("LOGNAME", name.as_str());
    }
    if let StandardInput::Terminal(terminal) = &spec.input {
        let kind = if terminal.kind.is_empty() { "xterm-256color" } else { &terminal.kind };
        program.variable("TERM", kind);
    }
    for variable in &spec.environment {
        program.variable(variable.name.0.as_slice(), variable.value.0.as_slice());
    }
    Ok((shell, program))
}

fn with_pipes(program: &Program, is_fed: bool) -> io::Result<Started> {
    let (fed, stdin): (OwnedFd, _) = if is_fed {
        let (fed, end) = io::pipe()?;
        (fed.into(), Some(File::from(OwnedFd::from(end))))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let (stdout, printed) = io::pipe()?;
    let (stderr, complained) = io::pipe()?;
    let pid = program.spawn(Standard::Each([fed.as_fd(), printed.as_fd(), complained.as_fd()]))?;
    let input = match stdin {
        Some(end) => {
            terminal::set_nonblocking(&end)?;
            Input::new(end, false)
        }
        None => Input::default(),
    };
    let [stdout, stderr] = [stdout, stderr].map(|end| File::from(OwnedFd::from(end)));
    Ok(Started { pid, stdout, stderr: Some(stderr), input })
}

fn in_terminal(program: &Program, wanted: &Terminal) -> io::Result<Started> {
    let (shown, given) = terminal::open(wanted.rows, wanted.columns)?;
    let pid = program.spawn(Standard::Terminal(given.as_fd()))?;
    let input = Input::new(shown.try_clone()?, true);
    Ok(Started { pid, stdout: shown, stderr: None, input })
}

fn cannot_run_in(path: &Path, agent: &str, error: &io::Error) -> String {
    format!("cannot run in {} on {agent}: {error} (--cwd)", path.display())
}

fn working_directory(spec: &TaskSpec, home: &Path, agent: &str) -> Result<PathBuf, String> {
    let Some(wanted) = &spec.working_directory else {
        // A user without a home directory can still run commands.
        return Ok(if home.is_dir() { home.to_owned() } else { PathBuf::from("/") });
    };
    // No shell expands this path: a leading `~` is replaced by the home directory here.
    let below_home = match wanted.0.strip_prefix(b"~") {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest.strip_prefix(b"/").unwrap_or(rest),
        _ => &wanted.0,
    };
    let path = home.join(std::ffi::OsStr::from_bytes(below_home));
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(format!("{} on {agent} is not a directory (--cwd)", path.display())),
        Err(error) => Err(cannot_run_in(&path, agent, &error)),
    }
}
