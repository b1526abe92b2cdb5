//! `agent start`, its supervisor, and `agent stop`.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    path::Path,
    time::Duration,
};

use tokio::{runtime::Builder, sync::watch};

use super::{connect, on_one_thread, reopen_log, start_daemon};
use crate::{
    agent::{
        connector::{Config, Connector, Ended},
        enrollment::Introduction,
        handle::{Agent, ConnectionState, Description},
        layout::Layout,
        link::approval,
        supervisor::{client, server},
        troubles::Troubles,
    },
    cli::{
        args::agent::{AgentStartArgs, AgentStopArgs, SupervisorArgs},
        exit::{self, Failure, Status},
        output::{note, say, stderr_is_terminal},
        units,
    },
    domain::{
        agent::LinkPreference,
        control::StopAgent,
        fingerprint::Fingerprint,
        name::{AgentName, Labels, MAX_LENGTH},
        network::HostPort,
        proposal::acceptance,
        text::{form, plural},
    },
    sys::{
        daemon::{self, Report},
        descriptors::raise_limit,
        logging,
        paths::{Directories, directories, make_private},
        process::{close_inherited, give_back_memory, keep_memory_private},
        runtime::daemon_runtime,
        shutdown::{EndSignal, EndSignals, Shutdown},
        systemd,
    },
    trust::token::Token,
};

/// The default port of a direct link and of a report address.
const DEFAULT_PORT: u16 = 50051;
/// Maximum time that the starter of a daemon waits for the master's decision.
const FIRST_REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay of the first check whether the agent is idle: by then it has touched all memory that it uses when
/// idle. Then the interval of later checks.
const FIRST_TRIM_DELAY: Duration = Duration::from_secs(5);
const TRIM_INTERVAL: Duration = Duration::from_mins(1);
/// Grace period of running commands when a foreground agent is interrupted, in milliseconds.
const INTERRUPT_GRACE_MS: u32 = 10_000;

/// Returns the agent's name: the given name, or else the host name, shortened if it is too long.
pub(super) fn agent_name(given: Option<&str>) -> Result<AgentName, Failure> {
    if let Some(name) = given {
        return name.parse().map_err(|error| Failure::usage(format!("{error} (--name)")));
    }
    let host = nix::unistd::gethostname().map_err(|error| Failure::new(error.desc()))?;
    name_from_host(&host.to_string_lossy())
}

/// Returns the agent's name for a host name, which on Linux may be longer and contain domains.
fn name_from_host(host: &str) -> Result<AgentName, Failure> {
    let text = if host.len() > MAX_LENGTH {
        // Two long names may differ only at their ends, which a hash preserves.
        let hash = Fingerprint::of(host.as_bytes()).to_string();
        let kept: String = host.chars().take(MAX_LENGTH - 9).collect();
        format!("{kept}-{}", &hash[..8])
    } else {
        host.to_owned()
    };
    text.parse().map_err(|error| Failure::usage(format!("the host's name: {error}; give the agent a --name")))
}

/// Returns the path of an agent's directories, relative to those of the machine or a user.
pub(super) fn agent_role(name: &AgentName) -> String {
    format!("agent/{name}")
}

pub(super) fn agent_directories(
    args_dir: Option<&std::path::Path>,
    name: &AgentName,
) -> Result<Directories, Failure> {
    directories(args_dir, &agent_role(name)).map_err(Failure::new)
}

/// Maximum size of a token file that is read, in bytes.
const MAX_TOKEN_FILE_BYTES: u64 = 1_024;
/// The file name that stands for standard input.
pub(super) const STANDARD_INPUT: &str = "-";

pub(super) fn read_token(file: &Path) -> Result<Token, Failure> {
    let mut text = String::new();
    let is_input = file == Path::new(STANDARD_INPUT);
    let read = if is_input {
        if io::stdin().is_terminal() {
            note("The join token, as `master token create` printed it:");
        }
        io::stdin().lock().take(MAX_TOKEN_FILE_BYTES).read_line(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text))
    };
    let shown = if is_input { "standard input".into() } else { file.to_string_lossy() };
    read.map_err(|error| Failure::usage(format!("cannot read the token from {shown}: {error}")))?;
    text.parse().map_err(|error| Failure::usage(format!("{shown}: {error}")))
}

fn introduction(args: &AgentStartArgs) -> Result<Introduction, Failure> {
    let of_master = args.master.ca_fingerprint;
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => Some(read_token(file)?),
        (None, None) => None,
    };
    if let (Some(one), Some(other)) = (of_master, args.ca_fingerprint)
        && one != other
    {
        return Err(Failure::usage("--master and --ca-fingerprint name two CAs; give one of them"));
    }
    Ok(Introduction { token, ca_fingerprint: of_master.or(args.ca_fingerprint) })
}

/// The address to listen on, and the address to report to the master.
type Listening = (Option<(Option<String>, u16)>, Option<HostPort>);

fn listening(args: &AgentStartArgs) -> Result<Listening, Failure> {
    let wanted = args.port.is_some() || args.bind_address.is_some() || args.report_address.is_some();
    if args.link == LinkPreference::Tunnel || !(wanted || args.link == LinkPreference::Direct) {
        return Ok((None, None));
    }
    let port = args.port.unwrap_or(DEFAULT_PORT);
    let bind = match &args.bind_address {
        Some(text) => {
            let HostPort { host, .. } = HostPort::parse(text, Some(port))
                .map_err(|error| Failure::usage(format!("{error} (--bind-address)")))?;
            Some(host)
        }
        None => None,
    };
    let report = match (&args.report_address, &bind) {
        (Some(text), _) => HostPort::parse(text, Some(port))
            .map_err(|error| Failure::usage(format!("{error} (--report-address)")))?,
        // The agent listens on all addresses, so it leaves the choice to the master: the address that the
        // master sees.
        (None, Some(host)) if host == "0.0.0.0" || host == "::" => HostPort::new("", port),
        (None, Some(host)) => HostPort::new(host.as_str(), port),
        (None, None) => HostPort::new("", port),
    };
    Ok((Some((bind, port)), Some(report)))
}

fn config(args: &AgentStartArgs, name: AgentName, directories: &Directories) -> Result<Config, Failure> {
    let (listen, direct) = listening(args)?;
    let labels: Labels = args.label.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
    Ok(Config {
        data: directories.data.clone(),
        master: args.master.address.clone(),
        description: Description { name, labels, link: args.link, direct },
        listen,
        metrics: args.metrics.as_ref().map(|at| HostPort::new(at.host.as_str(), at.port)),
        introduction: introduction(args)?,
        trusts_operators: args.trust_operators,
        is_one_of_many: false,
    })
}

pub(super) fn start(args: &AgentStartArgs) -> Result<Status, Failure> {
    if args.daemonized {
        close_inherited();
    }
    let name = agent_name(args.name.as_deref())?;
    let directories = agent_directories(args.data_dir.as_deref(), &name)?;
    let config = config(args, name, &directories)?;
    if args.daemon && !args.daemonized {
        let token =
            config.introduction.token.filter(|_| args.token_file.as_deref() == Some(STANDARD_INPUT.as_ref()));
        return start_daemon(&token.map(|token| format!("{token}\n")).unwrap_or_default());
    }
    keep_memory_private();
    let result = serve(args, config, &directories);
    if let (true, Err(failure)) = (args.daemonized, &result) {
        daemon::report(&Report::Failed(failure.message.clone()))?;
    }
    result
}

fn serve(args: &AgentStartArgs, config: Config, directories: &Directories) -> Result<Status, Failure> {
    if args.daemonized {
        daemon::leave_directory()?;
        make_private(&directories.data).map_err(Failure::new)?;
        make_private(&directories.log).map_err(Failure::new)?;
        let file = format!("agent-{}", config.description.name);
        logging::to_files(&args.log.log_level, args.log.log_format, &directories.log, &file)
            .map_err(Failure::usage)?;
    } else {
        logging::to_stderr(&args.log.log_level, args.log.log_format).map_err(Failure::usage)?;
    }
    let name = config.description.name.clone();
    let master = args.master.address.to_string();
    let daemonized = args.daemonized;
    let runtime = daemon_runtime(&mut Builder::new_current_thread())?;
    let result = runtime.block_on(async move {
        raise_limit();
        let connector = Connector::set_up(config).map_err(Failure::new)?;
        let shutdown = Shutdown::default();
        let stop_orders = connector.stop_orders();
        let mut signals = EndSignals::new()?;
        let survives_hangup = !stderr_is_terminal();
        let standing = connector.standing();
        let watched = connector.standing();
        warn_about_kill_mode().await;
        systemd::ready("connecting");
        let telling = report_to_service_manager(watched, name.clone(), master.clone());
        let mut telling = std::pin::pin!(telling);
        let watchdog = systemd::keep_watchdog(None);
        let mut watchdog = std::pin::pin!(watchdog);
        let troubles = connector.troubles();
        let trimming = give_back_memory_when_idle(connector.agent());
        let mut trimming = std::pin::pin!(trimming);
        let running = connector.run(shutdown.clone());
        let mut running = std::pin::pin!(running);
        let reporting = first_report(standing, daemonized, &name, &master, troubles);
        let mut reporting = std::pin::pin!(reporting);
        let mut reported = !daemonized;
        loop {
            tokio::select! {
                ended = &mut running => return Ok(finish(ended)),
                () = &mut telling => {}
                never = &mut trimming => match never {},
                never = &mut watchdog => match never {},
                report = &mut reporting, if !reported => {
                    reported = true;
                    let failed = matches!(report, Report::Failed(_));
                    daemon::report(&report)?;
                    if failed {
                        shutdown.stop.cancel();
                        let _ = running.await;
                        return Err(Failure { message: String::new(), status: exit::FAILED });
                    }
                }
                signal = signals.next() => match signal {
                    // For a foreground agent, ^C acts as `agent stop`, and a second ^C kills the commands
                    // immediately.
                    EndSignal::Interrupt => {
                        let _ = stop_orders.try_send(INTERRUPT_GRACE_MS);
                    }
                    EndSignal::Hangup if survives_hangup => reopen_log(),
                    EndSignal::Terminate | EndSignal::Hangup => {
                        systemd::stopping();
                        if shutdown.stop.is_cancelled() {
                            shutdown.now.cancel();
                        }
                        shutdown.stop.cancel();
                    }
                }
            }
        }
    });
    // A shutdown of the runtime would wait for a disk that does not answer.
    std::mem::forget(runtime);
    result
}

/// Returns unused memory to the system at intervals, while no task runs.
async fn give_back_memory_when_idle(agent: Agent) -> Infallible {
    let mut checks = tokio::time::interval(TRIM_INTERVAL);
    checks.reset_after(FIRST_TRIM_DELAY);
    loop {
        checks.tick().await;
        if agent.is_idle().await {
            give_back_memory();
        }
    }
}

fn finish(ended: Ended) -> Status {
    match ended {
        Ended::Stopped => {
            tracing::info!("the agent was stopped");
            exit::AGENT_STOPPED
        }
        Ended::Connector(0) => {
            tracing::info!("the connector ends; nothing runs");
            exit::OK
        }
        Ended::Connector(running) => {
            let commands = form(running, "command continues", "commands continue");
            tracing::info!("{running} {commands}; `sloth-runner agent stop` ends running commands");
            exit::OK
        }
    }
}

/// Logs a warning if the systemd unit kills running commands together with the agent.
async fn warn_about_kill_mode() {
    let Some(unit) = systemd::own_service() else { return };
    let asked = tokio::task::spawn_blocking(move || {
        let mode = systemd::property(&unit, "KillMode").ok()?;
        Some((unit, mode))
    });
    if let Ok(Some((unit, mode))) = asked.await
        && !mode.is_empty()
        && mode != "process"
        && std::env::var_os(units::CONFINED_VARIABLE).is_none()
    {
        tracing::warn!(
            unit,
            "the unit has KillMode={mode}: a restart of this service kills running commands; `sloth-runner service install agent` makes one with KillMode=process"
        );
    }
}

/// Reports the connection state to the service manager, until the agent ends.
async fn report_to_service_manager(
    mut standing: watch::Receiver<ConnectionState>,
    name: AgentName,
    master: String,
) {
    loop {
        let text = match &*standing.borrow_and_update() {
            ConnectionState::Active(_) => format!("active on {master}"),
            ConnectionState::Connecting => format!("connecting to {master}"),
            ConnectionState::Unreachable(reason) => format!("{reason}; keeps trying"),
            ConnectionState::Refused(reason) => format!("refused: {reason}"),
            // Every user of the machine can read the status, so the code is only in the log.
            ConnectionState::Pending { code: Some(_), .. } => {
                format!("pending on {master}; the log has the code for `sloth-runner agent approve {name}`")
            }
            ConnectionState::Pending { fingerprint, code: None, .. } => {
                format!("pending on {master}; there: {}", approval(&name, fingerprint, None))
            }
        };
        systemd::status(&text);
        if standing.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Returns the report to the starter of a daemon: the master's decision, or that the agent keeps trying.
async fn first_report(
    mut standing: watch::Receiver<ConnectionState>,
    wanted: bool,
    name: &AgentName,
    master: &str,
    troubles: Troubles,
) -> Report {
    if !wanted {
        return std::future::pending().await;
    }
    let settled = |standing: &ConnectionState| match standing {
        ConnectionState::Active(_) | ConnectionState::Pending { .. } | ConnectionState::Refused(_) => true,
        ConnectionState::Connecting | ConnectionState::Unreachable(_) => false,
    };
    let word = tokio::time::timeout(FIRST_REPORT_TIMEOUT, standing.wait_for(settled)).await;
    drop(word);
    let pid = std::process::id();
    let report = match &*standing.borrow() {
        ConnectionState::Active(proposed) => {
            let active = format!("{name} is active on {master} (pid {pid})");
            Report::Ready(if proposed.is_empty() {
                active
            } else {
                let accept = acceptance(name);
                format!(
                    "{active}. Proposed, and without effect until it is accepted: {proposed}\nOn the master: {accept}"
                )
            })
        }
        ConnectionState::Pending { fingerprint, key_changed, code } => {
            let why = if *key_changed { "; another key is known under this name" } else { "" };
            let shown = match code {
                Some(code) => format!("Its one-time code, for the operator alone, is\n{code}"),
                None => format!("Its key's fingerprint is\n{fingerprint}"),
            };
            let approve = approval(name, fingerprint, code.as_deref());
            Report::Ready(format!(
                "{name} is pending on {master} (pid {pid}){why}. {shown}\nOn the master: {approve}"
            ))
        }
        ConnectionState::Refused(reason) => Report::Failed(format!("{master} refuses {name}: {reason}")),
        ConnectionState::Connecting => Report::Ready(format!(
            "{name} runs (pid {pid}); {master} has not answered within 10 s, keeps trying"
        )),
        ConnectionState::Unreachable(reason) => {
            Report::Ready(format!("{name} runs (pid {pid}); {reason}; keeps trying"))
        }
    };
    match report {
        // The agent works, but not entirely as requested.
        Report::Ready(text) => {
            let troubles =
                troubles.all().into_iter().map(|trouble| format!("\n! {trouble}; it is tried again"));
            Report::Ready(troubles.fold(text, |text, trouble| text + &trouble))
        }
        failed @ Report::Failed(_) => failed,
    }
}

pub(super) fn supervisor(args: &SupervisorArgs) -> Result<Status, Failure> {
    close_inherited();
    keep_memory_private();
    let layout = if args.of_many { Layout::of_many(&args.data_dir) } else { Layout::new(&args.data_dir) };
    let mut is_ready = false;
    let result = server::run(&layout, || {
        is_ready = true;
        // The process that started the supervisor may have ended; then no one needs the report.
        let _ = daemon::report(&Report::Ready(String::new()));
    });
    match result {
        Ok(()) => Ok(exit::OK),
        Err(error) => {
            if !is_ready {
                let _ = daemon::report(&Report::Failed(error.to_string()));
            }
            Err(Failure::new(error))
        }
    }
}

pub(super) fn stop(args: &AgentStopArgs) -> Result<Status, Failure> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => agent_name(None)?,
    };
    let directories = agent_directories(args.data_dir.as_deref(), &name)?;
    let layout = Layout::new(&directories.data);
    let which = if args.name.is_some() || args.data_dir.is_none() {
        name.to_string()
    } else {
        format!("the agent on {}", directories.data.display())
    };
    let stopped = client::stop(&layout, args.grace.ms_u32(), |running| {
        if running > 0 {
            note(&format!(
                "{which} takes no new tasks; running commands ({running}) may end within {}",
                humantime::format_duration(args.grace.0)
            ));
        }
    });
    match stopped {
        Ok(Some(0)) => {
            say(&format!("{which} stopped\n"))?;
            Ok(exit::OK)
        }
        Ok(Some(left)) => Err(Failure::new(format!(
            "{which} stopped, but {left} of its commands could not be killed and continue; ps shows them"
        ))),
        Ok(None) => Err(Failure::new(format!(
            "{which} was ordered to stop, but its supervisor was killed first; commands may continue: start the agent again, then stop it"
        ))),
        Err(_) if args.name.is_none() || args.data_dir.is_some() => Err(Failure::new(format!(
            "no agent runs on {}; give a name to stop an agent through the master",
            directories.data.display()
        ))),
        // The agent is not on this machine: stop it through the master.
        Err(_) => on_one_thread(async {
            let client = connect(&args.to).await?;
            let request = StopAgent { name: name.clone(), grace_ms: args.grace.ms_u32() };
            let running = client.stop_agent(request).await? as usize;
            say(&format!("{name} was ordered to stop; {running} {} run there\n", plural("task", running)))?;
            Ok(exit::OK)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_whose_name_is_too_long_has_an_agent_all_the_same() {
        assert_eq!(name_from_host("web-1").unwrap().as_str(), "web-1");
        let domain = ".example".repeat(8);
        let [one, two] = ["web-1", "web-2"].map(|host| name_from_host(&format!("{host}{domain}")).unwrap());
        assert_eq!(one.as_str().len(), MAX_LENGTH);
        assert!(one.as_str().starts_with("web-1.example.") && one != two);
        let [one, two] = ["1", "2"].map(|end| name_from_host(&("h".repeat(63) + end)).unwrap());
        assert_ne!(one, two, "they differ at their ends");
        assert_eq!(name_from_host(&"h".repeat(63)).unwrap().as_str(), "h".repeat(63));
        let failure = name_from_host("-").unwrap_err();
        assert!(failure.message.contains("--name"), "{}", failure.message);
    }
}
