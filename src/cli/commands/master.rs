//! `master start|stop|status`.

use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use super::{connect, on_one_thread, reopen_log, start_daemon};
use crate::{
    cli::{
        args::{
            Format,
            master::{Enroll, MasterSalvageArgs, MasterStartArgs, MasterStopArgs, StatusArgs},
        },
        exit::{self, Failure, Status},
        json::{Document, MasterStatusObject},
        output::{print_json_ignoring_closed, say, stderr_is_terminal},
    },
    domain::{network::HostPort, text::strip_control, time::format_duration},
    master::{
        core,
        retention::Retention,
        server::{Config, Server},
        store,
    },
    sys::{
        daemon::{self, Report},
        descriptors::raise_limit,
        lock, logging,
        paths::{directories, make_private},
        process::{close_inherited, keep_memory_private, signal},
        runtime::daemon_runtime,
        shutdown::{EndSignal, EndSignals, Shutdown},
        systemd,
    },
};

/// Maximum time that `master stop` waits for the master to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn start(args: &MasterStartArgs) -> Result<Status, Failure> {
    if args.daemon && !args.daemonized {
        return start_daemon("");
    }
    if args.daemonized {
        close_inherited();
    }
    keep_memory_private();
    let result = serve(args);
    if let (true, Err(failure)) = (args.daemonized, &result) {
        daemon::report(&Report::Failed(failure.message.clone()))?;
    }
    result
}

fn serve(args: &MasterStartArgs) -> Result<Status, Failure> {
    let directories = directories(args.data_dir.as_deref(), "master").map_err(Failure::new)?;
    if args.daemonized {
        daemon::leave_directory()?;
        make_private(&directories.data).map_err(Failure::new)?;
        make_private(&directories.log).map_err(Failure::new)?;
        logging::to_files(&args.log.log_level, args.log.log_format, &directories.log, "master")
            .map_err(Failure::usage)?;
    } else {
        logging::to_stderr(&args.log.log_level, args.log.log_format).map_err(Failure::usage)?;
    }
    let config = Config {
        directories,
        host: args.bind_address.clone(),
        port: args.port,
        enroll: match args.enroll {
            Enroll::Approve => core::Enroll::Approve,
            Enroll::Any => core::Enroll::Any,
            Enroll::Token => core::Enroll::Token,
        },
        output_cap: args.output_cap.0,
        disk_cap: args.disk_cap,
        retention: Retention {
            age: args.retention_age.limit().unwrap_or(Duration::MAX),
            bytes: args.retention_size.0,
        },
        restored: args.restored,
        metrics: args.metrics.as_ref().map(|at| HostPort::new(at.host.as_str(), at.port)),
        limits: args.limits.limits(),
    };
    let server = Server::set_up(config).map_err(Failure::new)?;
    let (address, ca) = (server.address(), server.ca_fingerprint());
    raise_limit();
    // The store and everything that waits for the disk run on threads of their own.
    let threads =
        std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
    let runtime = daemon_runtime(Builder::new_multi_thread().worker_threads(threads))?;
    runtime.block_on(async {
        let shutdown = Shutdown::default();
        let mut signals = EndSignals::new()?;
        let survives_hangup = !stderr_is_terminal();
        tracing::info!(%address, ca_fingerprint = %ca, socket = %server.socket_path().display(), "listening for agents");
        if args.enroll == Enroll::Any {
            tracing::warn!("--enroll any: every agent that reaches {address} is enrolled; use this only in a lab");
        }
        if args.daemonized {
            let text = format!(
                "master listens for agents on {address} (pid {})\nCA fingerprint {ca}",
                std::process::id()
            );
            daemon::report(&Report::Ready(text))?;
        }
        systemd::ready(&format!("serves agents on {address}"));
        let watchdog = systemd::keep_watchdog(Some(server.pulse()));
        let mut watchdog = std::pin::pin!(watchdog);
        let serving = server.run(shutdown.clone());
        let mut serving = std::pin::pin!(serving);
        loop {
            tokio::select! {
                result = &mut serving => return result.map(|()| exit::OK).map_err(Failure::new),
                never = &mut watchdog => match never {},
                signal = signals.next() => {
                    if signal == EndSignal::Hangup && survives_hangup {
                        reopen_log();
                        continue;
                    }
                    systemd::stopping();
                    tracing::info!(?signal, "stopping; running commands continue on their machines");
                    if shutdown.stop.is_cancelled() {
                        shutdown.now.cancel();
                    }
                    shutdown.stop.cancel();
                }
            }
        }
    })
}

pub(super) fn stop(args: &MasterStopArgs) -> Result<Status, Failure> {
    let directories = directories(args.data_dir.as_deref(), "master").map_err(Failure::new)?;
    let pid_file = directories.data.join("master.pid");
    let shown = directories.data.display();
    let Some(pid) = lock::holder(&pid_file)? else {
        return Err(Failure::new(format!("no master runs on {shown}")));
    };
    match systemd::service_of(pid) {
        // If the process ended by a signal alone, systemd would start it again.
        Some(unit) if systemd::is_main_process(&unit, pid) => systemd::order(&["stop", &unit])?,
        _ => signal(pid, nix::sys::signal::Signal::SIGTERM),
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    while lock::holder(&pid_file)?.is_some() {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("the master on {shown} (pid {pid}) has not ended yet")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    say(&format!("master stopped (pid {pid}); running commands continue on their machines\n"))?;
    Ok(exit::OK)
}

/// Replaces a damaged database with its readable parts.
pub(super) fn salvage(args: &MasterSalvageArgs) -> Result<Status, Failure> {
    let directories = directories(args.data_dir.as_deref(), "master").map_err(Failure::new)?;
    let shown = directories.data.display();
    if !directories.data.is_dir() {
        return Err(Failure::new(format!("no master data directory at {shown}")));
    }
    let Some(_lock) = lock::Lock::try_take(&directories.data.join("master.pid"))? else {
        return Err(Failure::new(format!(
            "a master runs on {shown}; stop it first: sloth-runner master stop"
        )));
    };
    let salvaged = store::salvage::salvage(&directories.data).map_err(Failure::new)?;
    let mut is_whole = true;
    for (table, rows, trouble) in &salvaged.tables {
        let rest = trouble.as_ref().map_or_else(String::new, |trouble| format!(", incomplete: {trouble}"));
        is_whole &= trouble.is_none();
        say(&format!("{table:10} {rows} rows{rest}\n"))?;
    }
    say(&format!("the damaged database is kept as {}\n", salvaged.damaged.display()))?;
    if !is_whole {
        say("Running tasks are recovered when their agents connect. Missing agents have to join again.\n")?;
    }
    Ok(exit::OK)
}

pub(super) fn status(args: &StatusArgs) -> Result<Status, Failure> {
    on_one_thread(async {
        let client = connect(&args.to).await?;
        let status = client.status().await?;
        match args.output {
            Format::Json | Format::Ndjson => {
                print_json_ignoring_closed(args.output, &Document::new(MasterStatusObject::new(&status)))?;
            }
            Format::Text => {
                let uptime = format_duration(Duration::from_secs(status.uptime_s));
                say(&format!(
                    "master {} (sloth-runner {}), up {uptime}, pid {}\nlistens on {}\nCA fingerprint {}\n{} agents, {} connected, {} pending; {} active jobs\n",
                    status.cluster,
                    status.version,
                    status.pid,
                    status.address,
                    status.ca_fingerprint,
                    status.agents,
                    status.connected,
                    status.pending,
                    status.active_jobs,
                ))?;
                if status.enroll_any {
                    say("! --enroll any: every agent that reaches the port is enrolled\n")?;
                }
                if status.refused_unauthenticated > 0 {
                    say(&format!(
                        "{} unauthenticated requests were refused\n",
                        status.refused_unauthenticated
                    ))?;
                }
                if let Some(reason) = status.refusing_jobs {
                    say(&format!("! accepts no jobs: {reason}\n"))?;
                }
                if let Some(held) = status.holding_back {
                    say(&format!("! {}\n", strip_control(&held)))?;
                }
                if let Some(ahead) = status.restore_warning {
                    say(&format!("! starts no tasks on some agents: {}\n", strip_control(&ahead)))?;
                }
            }
        }
        Ok(exit::OK)
    })
}
