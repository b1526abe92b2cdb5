//! Connects to the master, reconnects, and turns its updates into messages.

use std::time::Duration;

use tokio::sync::mpsc;

use super::super::{model::MasterStatus, msg::Msg};
use crate::{
    domain::control::{FleetCursor, JobsChange, WatchAgents, WatchJobs},
    wire::{
        client::{ControlClient, MasterAddress},
        status::CallError,
    },
};

/// The delays before reconnecting, one for each failed attempt. The last one repeats.
const RECONNECT_DELAYS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// The interval at which the master is asked for its status.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait for the status before the master counts as disconnected.
const STATUS_TIMEOUT: Duration = Duration::from_secs(8);

/// An update for the runtime, from the connection or from a call.
#[derive(Debug)]
pub enum News {
    /// The connection is up, with the latest status of the master.
    Up(ControlClient, Box<MasterStatus>),
    /// The connection is down.
    Down {
        /// The reason, as text for operators.
        reason: String,
        /// The delay before the next attempt, in milliseconds.
        retry_ms: u64,
    },
    /// A message for the model.
    Told(Msg),
}

/// The receiver of updates has gone.
struct Gone;

/// The reason why a connection ended.
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

/// Keeps a connection to the master until the receiver of updates has gone.
pub(super) async fn keep(address: MasterAddress, news: Sender) {
    let mut seen = None;
    let mut tries = 0usize;
    loop {
        let reason = match ControlClient::connect(&address).await {
            Ok(client) => match serve(client, &news, &mut seen, &mut tries).await {
                End::Gone => return,
                End::Broken(reason) => reason,
            },
            Err(error) => error.to_string(),
        };
        let pause = RECONNECT_DELAYS[tries.min(RECONNECT_DELAYS.len() - 1)];
        tries += 1;
        let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if news.send(News::Down { reason, retry_ms }).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn status(client: &ControlClient) -> Result<MasterStatus, CallError> {
    let Ok(answer) = tokio::time::timeout(STATUS_TIMEOUT, client.status()).await else {
        return Err(CallError::Disconnected(": it does not answer".to_owned()));
    };
    let status = answer?;
    Ok(MasterStatus {
        hostname: status.hostname,
        version: status.version,
        refusing_jobs: status.refusing_jobs.unwrap_or_default(),
        enroll_any: status.enroll_any,
        operator: status.operator,
    })
}

async fn serve(
    client: ControlClient,
    news: &Sender,
    seen: &mut Option<FleetCursor>,
    tries: &mut usize,
) -> End {
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

/// The way to the screen.
pub(super) type Sender = mpsc::Sender<News>;

/// Sends a message to the screen. If the screen is gone, the message is not needed.
pub(super) async fn tell(news: &Sender, msg: Msg) {
    let _ = send(news, msg).await;
}

/// Sends a message to the screen.
///
/// # Errors
/// When the screen is gone.
async fn send(news: &Sender, msg: Msg) -> Result<(), Gone> {
    news.send(News::Told(msg)).await.map_err(|_| Gone)
}

async fn watch_agents(
    client: &ControlClient,
    news: &Sender,
    seen: &mut Option<FleetCursor>,
) -> Result<std::convert::Infallible, End> {
    let mut changes = client.watch_agents(WatchAgents { since: *seen }).await?;
    while let Some(change) = changes.next().await? {
        if change.begins {
            send(news, Msg::FleetBegins).await?;
        }
        *seen = change.complete.or(*seen);
        let msg = Msg::Agents {
            agents: change.agents,
            gone: change.deleted,
            waiting: change.waiting,
            is_complete: change.complete.is_some(),
        };
        send(news, msg).await?;
    }
    Err(End::Broken("it ended the stream".to_owned()))
}

async fn watch_jobs(client: &ControlClient, news: &Sender) -> Result<std::convert::Infallible, End> {
    let mut changes = client.watch_jobs(WatchJobs::default()).await?;
    while let Some(JobsChange { begins, is_complete, jobs, deleted }) = changes.next().await? {
        send(news, Msg::Jobs { begins, jobs, deleted, is_complete }).await?;
    }
    Err(End::Broken("it ended the stream".to_owned()))
}
