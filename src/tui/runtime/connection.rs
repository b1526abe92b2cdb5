//! Connects to the master, and reconnects. Its updates become messages.

use std::time::Duration;

use tokio::sync::mpsc;

use super::super::{model::MasterStatus, msg::Msg};
use crate::{
    domain::{agent::AgentView, job::Job, name::AgentName},
    wire::{
        client::{ControlClient, MasterAddress},
        proto,
        status::CallError,
    },
};

/// Pauses before the first tries; the last one holds for all others.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// How often the master is asked how it is.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// A master that does not answer a question about itself for so long is not there.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// What comes to the runtime from beside it.
#[derive(Debug)]
pub enum News {
    /// The master is there.
    Up(ControlClient, Box<MasterStatus>),
    /// The master is gone.
    Down {
        /// The reason, as text for operators.
        reason: String,
        /// When it is tried again, in milliseconds.
        retry_ms: u64,
    },
    /// Something for the model.
    Told(Msg),
}

/// Nobody listens any more.
struct Gone;

/// Why a connection ended.
enum End {
    Broken(String),
    Gone,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<tonic::Status> for End {
    fn from(status: tonic::Status) -> Self {
        CallError::from(status).into()
    }
}

/// What was seen of the registry, to continue from there.
#[derive(Default)]
struct Seen {
    revision: u64,
    instance: u64,
}

/// Keeps a connection until nobody listens any more.
pub(super) async fn keep(address: MasterAddress, news: mpsc::Sender<News>) {
    let mut seen = Seen::default();
    let mut tries = 0usize;
    loop {
        let reason = match ControlClient::connect(&address).await {
            Ok(client) => match serve(client, &news, &mut seen, &mut tries).await {
                End::Gone => return,
                End::Broken(reason) => reason,
            },
            Err(error) => error.to_string(),
        };
        let pause = PAUSES[tries.min(PAUSES.len() - 1)];
        tries += 1;
        let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if news.send(News::Down { reason, retry_ms }).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn status(client: &ControlClient) -> Result<MasterStatus, CallError> {
    let mut calls = client.calls();
    let asked = tokio::time::timeout(ANSWER_WITHIN, calls.get_status(proto::GetStatusRequest {}));
    let Ok(answer) = asked.await else {
        return Err(tonic::Status::unavailable("it does not answer").into());
    };
    let status = answer?.into_inner();
    Ok(MasterStatus {
        hostname: status.hostname,
        version: status.software_version,
        refusing_jobs: status.refusing_jobs,
        enroll_any: status.enroll_any,
        operator: status.operator,
    })
}

async fn serve(client: ControlClient, news: &mpsc::Sender<News>, seen: &mut Seen, tries: &mut usize) -> End {
    let first = match status(&client).await {
        Ok(first) => first,
        Err(error) => return error.into(),
    };
    *tries = 0;
    if news.send(News::Up(client.clone(), Box::new(first))).await.is_err() {
        return End::Gone;
    }
    let asks = async {
        loop {
            tokio::time::sleep(STATUS_INTERVAL).await;
            let status = match status(&client).await {
                Ok(status) => status,
                Err(error) => return End::from(error),
            };
            if news.send(News::Up(client.clone(), Box::new(status))).await.is_err() {
                return End::Gone;
            }
        }
    };
    tokio::select! {
        end = asks => end,
        Err(end) = watch_agents(&client, news, seen) => end,
        Err(end) = watch_jobs(&client, news) => end,
    }
}

async fn tell(news: &mpsc::Sender<News>, msg: Msg) -> Result<(), Gone> {
    news.send(News::Told(msg)).await.map_err(|_| Gone)
}

fn entries(agents: Vec<proto::Agent>) -> Vec<AgentView> {
    // What this version does not understand of a newer master is not shown.
    agents.into_iter().filter_map(|agent| AgentView::try_from(agent).ok()).collect()
}

async fn watch_agents(
    client: &ControlClient,
    news: &mpsc::Sender<News>,
    seen: &mut Seen,
) -> Result<std::convert::Infallible, End> {
    let request = proto::WatchAgentsRequest { seen: seen.revision, instance: seen.instance };
    let mut answers = client.calls().watch_agents(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.begins {
            tell(news, Msg::FleetBegins).await?;
        }
        if answer.complete {
            *seen = Seen { revision: answer.revision, instance: answer.instance };
        }
        let msg = Msg::Agents {
            agents: entries(answer.agents),
            gone: answer.gone.into_iter().filter_map(|name| AgentName::try_from(name).ok()).collect(),
            waiting: answer.waiting.map(|waiting| entries(waiting.keys)),
            is_complete: answer.complete,
        };
        tell(news, msg).await?;
    }
    Err(End::Broken("it ends".to_owned()))
}

async fn watch_jobs(
    client: &ControlClient,
    news: &mpsc::Sender<News>,
) -> Result<std::convert::Infallible, End> {
    let mut answers = client.calls().watch_jobs(proto::WatchJobsRequest { newest: 0 }).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let jobs = answer.jobs.into_iter().filter_map(|job| Job::try_from(job).ok()).collect();
        let deleted = answer.deleted.iter().filter_map(|id| id.parse().ok()).collect();
        let (begins, is_complete) = (answer.begins, answer.complete);
        tell(news, Msg::Jobs { begins, jobs, deleted, is_complete }).await?;
    }
    Err(End::Broken("it ends".to_owned()))
}
