//! `service install|remove|print`: systemd units for agents and the master.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use clap::{ArgAction, ArgMatches, Args as _, CommandFactory as _, parser::ValueSource};
use nix::unistd::User;

use super::agent_start::{STANDARD_INPUT, agent_directories, agent_name, agent_role, read_token};
use crate::{
    agent::{layout::Layout, supervisor::client},
    cli::{
        args::{
            Cli,
            agent::AgentStartArgs,
            master::MasterStartArgs,
            service::{AgentServiceArgs, InstallRole, MasterServiceArgs, RemoveArgs, ServiceVerb, UnitArgs},
        },
        exit::{self, Failure, Status},
        output::{note, say},
        units::{self, Unit},
    },
    domain::name::AgentName,
    sys::{
        arguments,
        paths::{read_optional, service_data, write_private},
        systemd,
    },
};

/// The directory for units of the machine's administrator.
const UNIT_DIRECTORY: &str = "/etc/systemd/system";
/// The directory for the tokens of services.
const TOKEN_DIRECTORY: &str = "/etc/sloth-runner";
/// Maximum time to wait until a service reports its state.
const STATE_TIMEOUT: Duration = Duration::from_secs(15);
/// Grace period of running commands when an agent's service is removed, in milliseconds.
const REMOVE_GRACE_MS: u32 = 10_000;

pub(super) fn perform(verb: &ServiceVerb) -> Result<Status, Failure> {
    match verb {
        ServiceVerb::Print(role) => {
            let service = Service::asked(role)?;
            say(&service.text)?;
            Ok(exit::OK)
        }
        ServiceVerb::Install(role) => {
            let service = Service::asked(role)?;
            service.install()
        }
        ServiceVerb::Remove(args) => remove(args),
    }
}

/// A service to install or print.
struct Service {
    /// The unit's name, for example `sloth-runner-agent.service`.
    unit: String,
    text: String,
    user: Option<User>,
    /// The path and the content of the token file.
    token: Option<(PathBuf, String)>,
    starts: bool,
}

/// Returns the arguments of a start command that were given on this command line, or in the environment,
/// without those that matter only during installation.
fn given_words(start: &clap::Command, matches: &ArgMatches) -> Vec<String> {
    let unwanted = ["token", "daemon", "daemonized"];
    let mut words = Vec::new();
    for arg in start.get_arguments().filter(|arg| !unwanted.contains(&arg.get_id().as_str())) {
        let id = arg.get_id().as_str();
        let is_given =
            matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        let (true, Some(long)) = (is_given, arg.get_long()) else { continue };
        let flag = format!("--{long}");
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            words.push(flag);
            continue;
        }
        let is_path = ["data_dir", "token_file"].contains(&id);
        for value in matches.get_raw(id).into_iter().flatten() {
            if id == "token_file" && value == STANDARD_INPUT {
                continue;
            }
            let value = if is_path {
                std::path::absolute(value).map_or_else(|_| value.to_owned(), PathBuf::into_os_string)
            } else {
                value.to_owned()
            };
            words.extend([flag.clone(), value.to_string_lossy().into_owned()]);
        }
    }
    words
}

/// Returns the matches of this command line after `service VERB ROLE`.
fn own_matches() -> Result<ArgMatches, Failure> {
    let mut matches = Cli::command().try_get_matches_from(arguments::given()).map_err(Failure::usage)?;
    while let Some((_, inner)) = matches.remove_subcommand() {
        matches = inner;
    }
    Ok(matches)
}

fn program(unit: &UnitArgs) -> Result<String, Failure> {
    let path = match &unit.program {
        Some(path) => std::path::absolute(path)?,
        None => env::current_exe()?,
    };
    let is_program = fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0);
    if !is_program {
        return Err(Failure::new(format!(
            "{} is not an executable file; name one with --program",
            path.display()
        )));
    }
    path.into_os_string().into_string().map_err(|_| Failure::usage("the program's path is not text"))
}

fn user(unit: &UnitArgs) -> Result<Option<User>, Failure> {
    let Some(name) = unit.user.as_deref().filter(|name| *name != "root") else { return Ok(None) };
    let found = User::from_name(name).map_err(|error| Failure::new(error.desc()))?;
    found.map(Some).ok_or_else(|| Failure::usage(format!("no user {name} on this machine (--user)")))
}

impl Service {
    fn asked(role: &InstallRole) -> Result<Self, Failure> {
        match role {
            InstallRole::Agent(args) => Self::agent(args),
            InstallRole::Master(args) => Self::master(args),
        }
    }

    fn agent(args: &AgentServiceArgs) -> Result<Self, Failure> {
        let name = agent_name(args.start.name.as_deref())?;
        let user = user(&args.unit)?;
        let start = AgentStartArgs::augment_args(clap::Command::new("start"));
        let mut command = vec![program(&args.unit)?, "agent".to_owned(), "start".to_owned()];
        let given = given_words(&start, &own_matches()?);
        if args.start.name.is_none() && !args.unit.packaged {
            // The host name may change; the agent's name must not.
            command.extend(["--name".to_owned(), name.to_string()]);
        }
        command.extend(given);
        let token = match (&args.start.token, &args.start.token_file) {
            (None, Some(file)) if file == Path::new(STANDARD_INPUT) => Some(read_token(file)?),
            (token, _) => token.clone(),
        };
        let token = token.map(|token| {
            (Path::new(TOKEN_DIRECTORY).join(format!("agent-{name}.token")), format!("{token}\n"))
        });
        if let Some((path, _)) = &token {
            command.extend(["--token-file".to_owned(), path.display().to_string()]);
        }
        let unit = if args.instance {
            format!("sloth-runner-agent@{name}.service")
        } else {
            "sloth-runner-agent.service".to_owned()
        };
        let text = units::agent(
            &Unit {
                description: if args.unit.packaged {
                    "Sloth Runner Agent".to_owned()
                } else {
                    format!("Sloth Runner Agent - {name}")
                },
                command: &command,
                user: user.as_ref().map_or("", |user| user.name.as_str()),
                identifier: "sloth-runner-agent",
            },
            args.confined,
        );
        Ok(Self { unit, text, user, token, starts: !args.unit.no_start })
    }

    fn master(args: &MasterServiceArgs) -> Result<Self, Failure> {
        let user = user(&args.unit)?;
        let start = MasterStartArgs::augment_args(clap::Command::new("start"));
        let mut command = vec![program(&args.unit)?, "master".to_owned(), "start".to_owned()];
        command.extend(given_words(&start, &own_matches()?));
        if user.is_some() && args.start.data_dir.is_none() {
            // The unit hides home directories.
            command.extend(["--data-dir".to_owned(), units::USER_MASTER_DATA_DIR.to_owned()]);
        }
        let text = units::master(&Unit {
            description: "Sloth Runner Master".to_owned(),
            command: &command,
            user: user.as_ref().map_or("", |user| user.name.as_str()),
            identifier: "sloth-runner-master",
        });
        let unit = "sloth-runner-master.service".to_owned();
        Ok(Self { unit, text, user, token: None, starts: !args.unit.no_start })
    }

    fn install(&self) -> Result<Status, Failure> {
        needs_systemd()?;
        let path = Path::new(UNIT_DIRECTORY).join(&self.unit);
        let failed = |path: &Path, error: &io::Error| {
            Failure::new(format!("cannot write {}: {error}; are you root?", path.display()))
        };
        let before = read_optional(&path).map_err(|error| failed(&path, &error))?;
        let written = self.write(&path).map_err(|(path, error)| failed(&path, &error));
        let made = written.and_then(|()| self.begin(before.as_deref() != Some(self.text.as_bytes())));
        if let Err(failure) = made {
            // A service that did not exist before is removed; an existing unit is restored.
            match before {
                Some(text) => drop(write_unit(&path, &text)),
                None => drop(self.undo(&path)),
            }
            let _ = systemd::order(&["daemon-reload"]);
            return Err(failure);
        }
        if !self.starts {
            say(&format!("wrote {}; `systemctl enable --now {}` starts it\n", path.display(), self.unit))?;
            return Ok(exit::OK);
        }
        let standing = self.standing();
        say(&format!("{} is enabled and runs: {standing}\n", self.unit))?;
        Ok(exit::OK)
    }

    fn write(&self, path: &Path) -> Result<(), (PathBuf, io::Error)> {
        if let Some((file, token)) = &self.token {
            let wrong = |error| (file.clone(), error);
            fs::create_dir_all(TOKEN_DIRECTORY).map_err(wrong)?;
            write_private(file, token.as_bytes(), true).map_err(wrong)?;
            if let Some(user) = &self.user {
                chown(file, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(wrong)?;
            }
        }
        write_unit(path, self.text.as_bytes()).map_err(|error| (path.to_owned(), error))
    }

    fn begin(&self, has_changed: bool) -> Result<(), Failure> {
        systemd::order(&["daemon-reload"])?;
        if !self.starts {
            return Ok(());
        }
        systemd::order(&["enable", &self.unit])?;
        let is_active = systemd::property(&self.unit, "ActiveState")? == "active";
        let verb = if is_active && has_changed { "restart" } else { "start" };
        systemd::order(&["reset-failed", &self.unit]).ok();
        systemd::order(&[verb, &self.unit]).map_err(|_| {
            let said = last_error(&self.unit);
            Failure::new(format!("{} does not start: {said}", self.unit))
        })
    }

    /// Returns the state that the service reports, once it is settled.
    fn standing(&self) -> String {
        let deadline = Instant::now() + STATE_TIMEOUT;
        loop {
            let text = systemd::property(&self.unit, "StatusText").unwrap_or_default();
            let is_settled =
                ["active", "pending", "refused", "serves"].iter().any(|word| text.starts_with(word));
            if is_settled || Instant::now() > deadline {
                if let Some(approve) = approval_in_log(&self.unit).filter(|_| text.starts_with("pending")) {
                    return format!("pending; on the master: {approve}");
                }
                return if text.is_empty() { "it has not reported its state".to_owned() } else { text };
            }
            thread::sleep(systemd::LOOK);
        }
    }

    fn undo(&self, path: &Path) -> io::Result<()> {
        let _ = systemd::order(&["disable", "--now", &self.unit]);
        if let Some((token, _)) = &self.token {
            remove_if_there(token)?;
        }
        remove_if_there(path)
    }
}

fn needs_systemd() -> Result<(), Failure> {
    if systemd::is_here() {
        return Ok(());
    }
    Err(Failure::new(
        "there is no systemd here; `agent start --daemon` and `master start --daemon` run without one",
    ))
}

fn write_unit(path: &Path, text: &[u8]) -> io::Result<()> {
    write_private(path, text, true)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the newest lines of a unit's log.
fn journal(unit: &str) -> String {
    let words: [OsString; 7] = ["-u", unit, "-n", "20", "-o", "cat", "--no-pager"].map(Into::into);
    let said = std::process::Command::new("journalctl").args(words).output();
    said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Returns the command that approves a waiting agent, with its code, which is only in the log.
fn approval_in_log(unit: &str) -> Option<String> {
    let said = journal(unit);
    let (_, approve) = said.lines().rev().find_map(|line| line.split_once("waits for an operator: "))?;
    Some(approve.split_whitespace().take(5).collect::<Vec<_>>().join(" "))
}

/// Returns the last error that a service logged before it failed to start.
fn last_error(unit: &str) -> String {
    let said = journal(unit);
    let own = said.lines().rev().find_map(|line| line.strip_prefix("sloth-runner: "));
    own.map_or_else(|| format!("`journalctl -u {unit}` shows why"), str::to_owned)
}

fn remove(args: &RemoveArgs) -> Result<Status, Failure> {
    needs_systemd()?;
    let unit = match (&args.instance, args.role.as_str()) {
        (Some(name), "agent") => {
            let name: AgentName = name.parse().map_err(Failure::usage)?;
            format!("sloth-runner-agent@{name}.service")
        }
        (Some(_), _) => return Err(Failure::usage("only agents have instances")),
        (None, role) => format!("sloth-runner-{role}.service"),
    };
    let path = Path::new(UNIT_DIRECTORY).join(&unit);
    let text = read_optional(&path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let Some(text) = text.map(|text| String::from_utf8_lossy(&text).into_owned()) else {
        return Err(Failure::new(format!("there is no {}; nothing was removed", path.display())));
    };
    if args.role == "agent" {
        // The agent first: its supervisor and its commands outlive the service.
        let (name, data) = agent_of(&text)?;
        systemd::order(&["stop", &unit]).ok();
        end_supervisor(&data);
        remove_if_there(&Path::new(TOKEN_DIRECTORY).join(format!("agent-{name}.token")))?;
    }
    systemd::order(&["disable", "--now", &unit]).ok();
    remove_if_there(&path)?;
    systemd::order(&["daemon-reload"])?;
    systemd::order(&["reset-failed", &unit]).ok();
    say(&format!("{unit} is removed; its data is kept\n"))?;
    Ok(exit::OK)
}

/// Returns the name and the data directory of the agent that a unit starts.
fn agent_of(unit: &str) -> Result<(AgentName, PathBuf), Failure> {
    let words = units::command_of(unit);
    let flags = words.iter().skip_while(|word| *word != "start");
    let matches = AgentStartArgs::augment_args(clap::Command::new("start")).try_get_matches_from(flags);
    // Values from the environment of this process do not belong to the unit.
    let given = |id: &str| -> Option<String> {
        let matches = matches.as_ref().ok()?;
        let is_given = matches.value_source(id) == Some(ValueSource::CommandLine);
        let raw = matches.get_raw(id).filter(|_| is_given)?.next()?;
        Some(raw.to_string_lossy().into_owned())
    };
    let name = agent_name(given("name").as_deref())?;
    let user = units::user_of(unit).filter(|user| user != "root");
    let home = user.and_then(|user| User::from_name(&user).ok().flatten()).map(|user| user.dir);
    let data = match (given("data_dir"), home) {
        (Some(data), _) => PathBuf::from(data),
        (None, Some(home)) => service_data(&home, &agent_role(&name)),
        (None, None) => agent_directories(None, &name)?.data,
    };
    Ok((name, data))
}

/// Ends the supervisor and the commands of an agent whose service was stopped.
fn end_supervisor(data: &Path) {
    let stopping = |running: u32| {
        if running > 0 {
            note(&format!("{running} commands still run there; they may end within 10 s"));
        }
    };
    // If no supervisor runs, nothing is left to do.
    let _ = client::stop(&Layout::new(data), REMOVE_GRACE_MS, stopping);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_of_a_unit_is_the_one_that_it_starts() {
        let unit = |user: &str, flags: &[&str]| {
            let words = [&["/usr/bin/sloth-runner", "agent", "start", "--name", "web-1"], flags].concat();
            let command: Vec<String> = words.iter().map(ToString::to_string).collect();
            let unit = Unit { description: String::new(), command: &command, user, identifier: "" };
            units::agent(&unit, false)
        };
        let name: AgentName = "web-1".parse().unwrap();
        let of = |text: &str| agent_of(text).unwrap();
        let flags = ["--master", "m:50053", "--data-dir", "/srv/two words/100%"];
        assert_eq!(of(&unit("", &flags)), (name.clone(), "/srv/two words/100%".into()));
        let me = User::from_uid(nix::unistd::getuid()).unwrap().unwrap();
        if me.name != "root" {
            let own = me.dir.join(".local/share/sloth-runner/agent/web-1");
            assert_eq!(of(&unit(&me.name, &flags[..2])), (name.clone(), own));
        }
        let daemon = User::from_name("daemon").unwrap().unwrap();
        let theirs = daemon.dir.join(".local/share/sloth-runner/agent/web-1");
        assert_eq!(of(&unit("daemon", &flags[..2])), (name, theirs));
    }
}
