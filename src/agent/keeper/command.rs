//! Starting a task's command: whose it is, in which shell, where, and with what environment.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::unistd::{User, getuid};

use super::{input::Input, protocol::TaskRecord};
use crate::{
    domain::{
        command::TaskSpec,
        input::{StandardInput, Terminal},
    },
    sys::{
        process::{in_new_session, in_new_terminal},
        terminal,
    },
};

/// Where shells and programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What commands of this machine's user are started with. Looked up once by the keeper: asking the name service takes
/// longer than forking.
#[derive(Clone, Debug)]
pub struct Account {
    shell: Option<(&'static str, PathBuf)>,
    name: Option<String>,
    home: PathBuf,
    login_shell: PathBuf,
}

impl Account {
    /// This process's user, and the shell that runs its commands: bash, else sh.
    #[must_use]
    pub fn look_up() -> Self {
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

/// A command that was started, and the ends of its pipes.
#[derive(Debug)]
pub(super) struct Started {
    /// Its process id.
    pub(super) pid: i32,
    /// Its standard output, or its terminal.
    pub(super) stdout: File,
    /// Its standard error; a terminal has none of its own.
    pub(super) stderr: Option<File>,
    /// What it reads.
    pub(super) input: Input,
}

/// Starts a task's command with its pipes, or in its terminal.
///
/// # Errors
/// In words, when nothing was started.
pub(super) fn start_command(record: &TaskRecord, account: &Account) -> Result<Started, String> {
    let spec = &record.spec;
    let Some((shell, path)) = &account.shell else {
        return Err(format!("there is neither bash nor sh in {PATH} on {}", record.agent));
    };
    let directory = working_directory(spec, &account.home, &record.agent)?;
    let mut command = Command::new(path);
    command
        .args(spec.command.shell_arguments(shell).iter().map(|bytes| std::ffi::OsStr::from_bytes(bytes)))
        .current_dir(directory)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", &account.home)
        .env("SHELL", &account.login_shell)
        .env("LANG", std::env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into()))
        .env("SLOTH_RUN_ID", record.id.run.to_string())
        .env("SLOTH_TASK_ID", record.id.to_string())
        .env("SLOTH_AGENT", &record.agent);
    if let Some(name) = &account.name {
        command.env("USER", name).env("LOGNAME", name);
    }
    for variable in &spec.environment {
        command.env(
            std::ffi::OsStr::from_bytes(&variable.name.0),
            std::ffi::OsStr::from_bytes(&variable.value.0),
        );
    }
    let started = match &spec.input {
        StandardInput::Nothing => with_pipes(&mut command, false),
        StandardInput::Stream => with_pipes(&mut command, true),
        StandardInput::Terminal(terminal) => in_terminal(&mut command, terminal),
    };
    started.map_err(|error| format!("{shell} could not be started on {}: {error}", record.agent))
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

fn with_pipes(command: &mut Command, is_fed: bool) -> io::Result<Started> {
    let stdin = if is_fed { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = in_new_session(command).spawn()?;
    let gone = || io::Error::other("a pipe is missing");
    let stdout = child.stdout.take().map(OwnedFd::from).ok_or_else(gone)?;
    let stderr = child.stderr.take().map(OwnedFd::from).ok_or_else(gone)?;
    let input = match child.stdin.take() {
        Some(stdin) => {
            let end = File::from(OwnedFd::from(stdin));
            terminal::set_nonblocking(&end)?;
            Input::new(end, false)
        }
        None => Input::default(),
    };
    Ok(Started { pid: pid_of(&child), stdout: stdout.into(), stderr: Some(stderr.into()), input })
}

fn in_terminal(command: &mut Command, wanted: &Terminal) -> io::Result<Started> {
    let (shown, given) = terminal::open(wanted.rows, wanted.columns)?;
    let kind = if wanted.kind.is_empty() { "xterm-256color" } else { &wanted.kind };
    command.env("TERM", kind);
    command.stdin(given.try_clone()?).stdout(given.try_clone()?).stderr(given);
    let child = in_new_terminal(command).spawn()?;
    let input = Input::new(shown.try_clone()?, true);
    Ok(Started { pid: pid_of(&child), stdout: shown, stderr: None, input })
}

fn working_directory(spec: &TaskSpec, home: &Path, agent: &str) -> Result<PathBuf, String> {
    let Some(wanted) = &spec.working_directory else {
        // A user without a home directory can still run commands.
        return Ok(if home.is_dir() { home.to_owned() } else { PathBuf::from("/") });
    };
    let path = home.join(std::ffi::OsStr::from_bytes(&wanted.0));
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(format!("{} on {agent} is not a directory (--cwd)", path.display())),
        Err(error) => Err(format!("cannot run in {} on {agent}: {error} (--cwd)", path.display())),
    }
}
