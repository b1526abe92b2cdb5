//! Starting a task's command: whose it is, in which shell, where, and with what environment.

use std::{
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::unistd::{User, getuid};

use super::protocol::TaskRecord;
use crate::{domain::command::TaskSpec, sys::process::in_new_session};

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

/// Starts a task's command with its pipes.
///
/// # Errors
/// In words, when nothing was started.
pub(super) fn start_command(record: &TaskRecord, account: &Account) -> Result<Child, String> {
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
        .env("SLOTH_AGENT", &record.agent)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(name) = &account.name {
        command.env("USER", name).env("LOGNAME", name);
    }
    for variable in &spec.environment {
        command.env(
            std::ffi::OsStr::from_bytes(&variable.name.0),
            std::ffi::OsStr::from_bytes(&variable.value.0),
        );
    }
    in_new_session(&mut command)
        .spawn()
        .map_err(|error| format!("{shell} could not be started on {}: {error}", record.agent))
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
