//! `agent simulate`: many agents in one process, for tests and measurements. Everything about them is real: keys,
//! protocol, supervisors and commands; only their connectors share a process.

use std::path::Path;

use tokio::{runtime::Builder, task::JoinSet};

use crate::{
    agent::{
        connector::{Config, Connector, Ended},
        enrollment::Introduction,
        handle::Description,
    },
    cli::{
        args::agent::SimulateArgs,
        exit::{self, Failure, Status},
        output::note,
    },
    domain::{
        agent::LinkPreference,
        name::AgentName,
        target::{fold::fold, spelled_out},
    },
    sys::{
        descriptors::raise_limit,
        logging,
        runtime::daemon_runtime,
        shutdown::{EndSignals, Shutdown},
    },
};

/// Grace period of running commands when the simulation ends, in milliseconds.
const END_GRACE_MS: u32 = 1;

fn config(args: &SimulateArgs, name: AgentName, data: &Path) -> Config {
    let labels = args.label.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
    Config {
        data: data.join(name.as_str()),
        master: args.master.address.clone(),
        description: Description { name, labels, link: LinkPreference::Tunnel, direct: None },
        listen: None,
        metrics: None,
        introduction: Introduction { token: args.token.clone(), ca_fingerprint: args.master.ca_fingerprint },
        trusts_operators: false,
        is_one_of_many: true,
    }
}

pub(super) fn simulate(args: &SimulateArgs) -> Result<Status, Failure> {
    logging::to_stderr(&args.log.log_level, args.log.log_format).map_err(Failure::usage)?;
    let names: Vec<AgentName> =
        spelled_out(&args.name).map_err(Failure::usage)?.into_iter().take(args.count).collect();
    if names.len() < args.count {
        let text = format!("{} spells out {} names, not {}", args.name, names.len(), args.count);
        return Err(Failure::usage(text));
    }
    // Each agent has a connection, a supervisor's socket and a lock.
    raise_limit();
    // One thread, as a single agent has.
    daemon_runtime(&mut Builder::new_current_thread())?.block_on(async {
        let mut signals = EndSignals::new()?;
        let shutdown = Shutdown::default();
        let mut agents = JoinSet::new();
        let mut orders = Vec::new();
        note(&format!("{} agents: {}", names.len(), fold(names.iter().map(AgentName::as_str))));
        for name in names {
            let config = config(args, name, &args.data_dir);
            let connector = tokio::task::spawn_blocking(|| Connector::set_up(config)).await;
            let connector = connector.map_err(Failure::new)?.map_err(Failure::new)?;
            orders.push(connector.stop_orders());
            agents.spawn(connector.run(shutdown.clone()));
        }
        tokio::select! {
            _ = signals.next() => {}
            _ = all(&mut agents) => return Ok(exit::OK),
        }
        for order in orders {
            let _ = order.try_send(END_GRACE_MS);
        }
        tokio::select! {
            stopped = all(&mut agents) => tracing::info!(stopped, "ended"),
            _ = signals.next() => {}
        }
        Ok(exit::OK)
    })
}

/// Waits until all agents have ended. Returns how many were stopped with their supervisors.
async fn all(agents: &mut JoinSet<Ended>) -> usize {
    let mut stopped = 0;
    while let Some(ended) = agents.join_next().await {
        stopped += usize::from(matches!(ended, Ok(Ended::Stopped)));
    }
    stopped
}
