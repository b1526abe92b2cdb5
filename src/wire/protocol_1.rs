//! The remaining part of protocol 1, which version 0.1.0 uses: it reports to a peer of that version which
//! program must be upgraded.
//!
//! Handles only the first message of each side. Must not depend on sessions.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Response, Status, service::Routes};

use super::{PROTOCOL, SOFTWARE_VERSION, channel::Channel, streaming::Method};

#[expect(clippy::pedantic, clippy::allow_attributes, unreachable_pub, reason = "generated code")]
mod proto {
    tonic::include_proto!("sloth.v1");
}

use proto::{session_request, session_response};

/// The prefix of the path of each call of protocol 1.
const PACKAGE: &str = "/sloth.v1.";
/// Maximum size of a message, in bytes: enough for the labels and the address in an agent's first message.
const LONGEST_MESSAGE: usize = 64 * 1024;
/// How long the peer can take to read the refusal.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// The delay before a refused agent tries again, in milliseconds. It is long, because only an upgrade helps.
const RETRY_AFTER_MS: u32 = 60_000;

const SESSION: Method<proto::SessionRequest, proto::SessionResponse> =
    Method::new("/sloth.v1.AgentService/Session", LONGEST_MESSAGE);

/// Returns the status that refuses a call of protocol 1; `None` for any other call.
#[must_use]
pub(crate) fn refusal(path: &str) -> Option<Status> {
    path.starts_with(PACKAGE).then(|| {
        Status::failed_precondition(format!(
            "sloth-runner {SOFTWARE_VERSION} no longer speaks protocol 1: upgrade the sloth-runner that makes this call"
        ))
    })
}

/// Returns the message with which a master refuses an agent with a different protocol.
#[must_use]
pub(crate) fn other_protocol(agent: &str, version: &str, major: u32) -> String {
    let which = if major < PROTOCOL.major { "agent" } else { "master" };
    format!(
        "{agent} runs sloth-runner {version} and speaks protocol {major}; its master runs {SOFTWARE_VERSION} and speaks protocol {}: upgrade the {which}",
        PROTOCOL.major
    )
}

/// Refuses an agent that speaks protocol 1, on its connection to the master. Returns the reason that was sent
/// to the agent.
///
/// # Errors
/// When the agent does not speak protocol 1, or the connection breaks.
pub(crate) async fn refuse(channel: Channel, agent: &str) -> Result<String, Status> {
    let (requests, outgoing) = mpsc::channel(1);
    let mut answers = SESSION.call(channel, ReceiverStream::new(outgoing)).await?;
    let first =
        timeout(READ_WITHIN, answers.message()).await.map_err(|_| Status::deadline_exceeded("no hello"))?;
    let Some(session_response::Kind::Hello(hello)) = first?.and_then(|answer| answer.kind) else {
        return Err(Status::invalid_argument("the first message is no hello"));
    };
    let message = other_protocol(agent, &hello.software_version, hello.protocol.unwrap_or_default().major);
    let refused = proto::SessionRefused {
        reason: proto::RefusalReason::Protocol.into(),
        message: message.clone(),
        retry_after_ms: RETRY_AFTER_MS,
    };
    let kind = Some(session_request::Kind::Refused(refused));
    if requests.send(proto::SessionRequest { kind }).await.is_ok() {
        // If this side ended the stream now, the end could overtake the message.
        let _ = timeout(READ_WITHIN, async { while let Ok(Some(_)) = answers.message().await {} }).await;
    }
    Ok(message)
}

/// Adds an agent's handler for a master that speaks protocol 1. The agent sends a hello, and the master
/// refuses it. `refused` converts the message and the retry delay of the refusal to the value that is sent to
/// `owner`.
pub(crate) fn route<T: Send + 'static>(
    routes: Routes,
    tracker: TaskTracker,
    owner: mpsc::Sender<T>,
    refused: impl Fn(String, Duration) -> T + Copy + Send + Sync + 'static,
) -> Routes {
    SESSION.route(routes, move |request| {
        let (tracker, owner) = (tracker.clone(), owner.clone());
        async move {
            let mut requests = request.into_inner();
            let (answers, stream) = mpsc::channel(1);
            let hello = proto::Hello {
                protocol: Some(proto::ProtocolVersion { major: PROTOCOL.major, minor: PROTOCOL.minor }),
                software_version: SOFTWARE_VERSION.to_owned(),
            };
            let kind = Some(session_response::Kind::Hello(hello));
            let _ = answers.send(Ok(proto::SessionResponse { kind })).await;
            // The task ends when the connection ends.
            tracker.spawn(async move {
                let first = requests.message().await.ok().flatten().and_then(|request| request.kind);
                if let Some(session_request::Kind::Refused(reason)) = first {
                    let retry_after = Duration::from_millis(reason.retry_after_ms.into());
                    let _ = owner.send(refused(reason.message, retry_after)).await;
                }
                drop(answers);
            });
            Ok(Response::new(ReceiverStream::new(stream)))
        }
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tonic::Code;

    use super::*;
    use crate::{
        trust::{access::Caller, identity::Identity},
        wire::{
            budget::{Budget, Principal},
            serve::{self, Connected},
        },
    };

    /// The first message of an agent of version 0.1.0 with the label `role=web`, a port for direct links, and
    /// revision 4711 as the latest that it has seen.
    const HELLO_OF_0_1_0: &str = "0a630a0208011205302e312e302235303132333435363738396162636465662f36653962316335322d\
        386133652d346636662d396430612d3161326233633464356536662a0b0a04726f6c6512037765623204108387033801400148e7245205\
        746f6b656e";

    fn hello_of_0_1_0() -> proto::SessionResponse {
        let digits: Vec<char> = HELLO_OF_0_1_0.chars().collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        proto::SessionResponse::decode(&bytes[..]).unwrap()
    }

    async fn served(routes: Routes) -> Channel {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let connected = Connected {
            caller: Caller::Peer(Identity::Master("m".parse().unwrap())),
            address: "test".into(),
            uid: None,
            budget: Budget::unlimited(Principal::Master),
            refusals: None,
            over: None,
        };
        tokio::spawn(serve::serve(theirs, routes, connected, tokio_util::sync::CancellationToken::new()));
        let (channel, connection) = Channel::handshake(ours).await.unwrap();
        tokio::spawn(connection);
        channel
    }

    #[tokio::test]
    async fn an_agent_of_0_1_0_is_told_to_be_upgraded() {
        let (told, mut heard) = mpsc::channel(1);
        let old = SESSION.route(Routes::default(), move |request| {
            let told = told.clone();
            async move {
                let (answers, stream) = mpsc::channel(1);
                answers.send(Ok(hello_of_0_1_0())).await.unwrap();
                tokio::spawn(async move {
                    let first = request.into_inner().message().await.unwrap().unwrap();
                    told.send(first).await.unwrap();
                    drop(answers);
                });
                Ok(Response::new(ReceiverStream::new(stream)))
            }
        });
        let message = refuse(served(old).await, "web-1").await.unwrap();
        let expected = format!(
            "web-1 runs sloth-runner 0.1.0 and speaks protocol 1; its master runs {SOFTWARE_VERSION} and speaks protocol 2: upgrade the agent"
        );
        assert_eq!(message, expected);
        let Some(session_request::Kind::Refused(refused)) = heard.recv().await.unwrap().kind else {
            panic!("it is not refused")
        };
        assert_eq!((refused.reason(), refused.message), (proto::RefusalReason::Protocol, message));
    }

    #[tokio::test]
    async fn a_master_of_0_1_0_refuses_the_agent_in_words_that_reach_it() {
        let (owner, mut told) = mpsc::channel(1);
        let routes = route(Routes::default(), TaskTracker::new(), owner, |message, later| (message, later));
        let channel = served(routes).await;
        let (requests, outgoing) = mpsc::channel(1);
        let mut answers = SESSION.call(channel.clone(), ReceiverStream::new(outgoing)).await.unwrap();
        let Some(session_response::Kind::Hello(hello)) = answers.message().await.unwrap().unwrap().kind
        else {
            panic!("no hello")
        };
        assert_eq!(hello.protocol.unwrap().major, 2);
        let refused = proto::SessionRefused {
            message: "upgrade the older one".into(),
            retry_after_ms: 10_000,
            ..proto::SessionRefused::default()
        };
        let kind = Some(session_request::Kind::Refused(refused));
        requests.send(proto::SessionRequest { kind }).await.unwrap();
        assert_eq!(told.recv().await.unwrap(), ("upgrade the older one".to_owned(), Duration::from_secs(10)));
        // Other calls of protocol 1 are refused.
        let list: Method<proto::Hello, proto::Hello> =
            Method::new("/sloth.v1.ControlService/ListAgents", LONGEST_MESSAGE);
        let refused = list.call(channel, tokio_stream::empty()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("upgrade the sloth-runner that makes this call"), "{refused:?}");
    }
}
