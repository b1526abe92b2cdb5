//! Tests that a received stream equals the sent stream, for each split into pieces and for each kind of
//! server, and that a stream without a proper end is an error.

use proptest::prelude::*;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    trust::{access::Caller, identity::Identity},
    wire::{
        budget::{Budget, Principal},
        pieces::HANDED_ON,
        proto::{
            AttachRequest, AttachResponse, Held, Output,
            agent_service_client::AgentServiceClient,
            agent_service_server::{AgentService, AgentServiceServer},
            attach_response::Kind,
        },
        serve::{self, Connected},
        status::CallError,
    },
};

type Answer = Result<AttachResponse, Status>;

fn output(lengths: &[usize]) -> AttachResponse {
    let frame = |(at, length): (usize, &usize)| proto::Frame {
        stream: 1,
        offset: at as u64,
        time_ns: 7,
        data: vec![u8::try_from(at).unwrap(); *length].into(),
    };
    let frames = lengths.iter().enumerate().map(frame).collect();
    AttachResponse { kind: Some(Kind::Output(Output { frames })) }
}

/// Returns a channel to a server that answers each Attach with these messages.
async fn answering(answers: Vec<Answer>) -> Channel {
    let routes = ATTACH.route(Routes::default(), move |_| {
        let answers = answers.clone();
        async move { Ok(tonic::Response::new(tokio_stream::iter(answers))) }
    });
    served(routes).await
}

async fn served(routes: Routes) -> Channel {
    served_until_aborted(routes).await.0
}

async fn served_until_aborted(routes: Routes) -> (Channel, tokio::task::JoinHandle<hyper::Result<()>>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let caller = Caller::Peer(Identity::Master("m".parse().unwrap()));
    let connected = Connected {
        caller,
        address: "test".into(),
        uid: None,
        budget: Budget::unlimited(Principal::Master),
        refusals: None,
        over: None,
    };
    let serving = tokio::spawn(serve::serve(theirs, routes, connected, CancellationToken::new()));
    let (channel, connection) = Channel::handshake(ours).await.unwrap();
    tokio::spawn(connection);
    (channel, serving)
}

async fn attach(channel: Channel) -> Result<Messages<AttachResponse>, Status> {
    ATTACH.call(channel, tokio_stream::once(AttachRequest::default())).await
}

async fn all(mut messages: Messages<AttachResponse>) -> (Vec<AttachResponse>, Option<Status>) {
    let mut found = Vec::new();
    loop {
        match messages.message().await {
            Ok(Some(message)) => found.push(message),
            Ok(None) => return (found, None),
            Err(status) => return (found, Some(status)),
        }
    }
}

/// Returns the messages in a body of these chunks, and its status.
async fn received(chunks: Vec<Bytes>, ending: Option<Status>) -> (Vec<AttachResponse>, Option<Status>) {
    let trailers = ending.map(|status| {
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        Ok(Frame::trailers(trailers))
    });
    let frames = chunks.into_iter().map(|chunk| Ok::<_, Status>(Frame::data(chunk))).chain(trailers);
    let body = http_body_util::StreamBody::new(tokio_stream::iter(frames.collect::<Vec<_>>()));
    all(Messages::new(Body::new(body), 1024 * 1024)).await
}

async fn sent(messages: &[AttachResponse]) -> Vec<Bytes> {
    let messages: Vec<_> = messages.iter().cloned().map(Ok::<_, Status>).collect();
    let body = streamed(tonic::Response::new(tokio_stream::iter(messages))).into_body();
    let mut data = http_body_util::BodyDataStream::new(body);
    let mut chunks = Vec::new();
    while let Some(chunk) = data.next().await {
        chunks.push(chunk.unwrap());
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_arrive_however_they_are_cut(
        frames in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![3 => 1..100_usize, 1 => HANDED_ON - 40..HANDED_ON * 3], 0..4),
            0..6,
        ),
        cuts in proptest::collection::vec(1..50_000_usize, 0..40),
    ) {
        let messages: Vec<_> = frames.iter().map(|lengths| output(lengths)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let chunks = runtime.block_on(sent(&messages));
        let encoder = ExactCodec::<AttachResponse, AttachRequest>::default().encoder();
        let body = EncodeBody::new_client(encoder, tokio_stream::iter(messages.clone()).map(Ok), None, None);
        let mut rest = runtime.block_on(body.collect()).unwrap().to_bytes();
        prop_assert_eq!(&chunks.concat(), &rest, "as tonic sends them");
        let mut cut: Vec<Bytes> = cuts.iter().map(|cut| rest.split_to((*cut).min(rest.len()))).collect();
        cut.push(rest);
        let (found, ending) = runtime.block_on(received(cut, Some(Status::ok(""))));
        prop_assert_eq!(found, messages);
        prop_assert!(ending.is_none());
    }
}

#[tokio::test]
async fn long_output_is_handed_on_as_it_is() {
    let message = output(&[3, HANDED_ON, 64 * 1024]);
    let Some(Kind::Output(output)) = &message.kind else { unreachable!() };
    let chunks = sent(std::slice::from_ref(&message)).await;
    let addresses = |chunks: &[Bytes]| chunks.iter().map(|chunk| chunk.as_ptr()).collect::<Vec<_>>();
    let sent = addresses(&chunks);
    for frame in &output.frames[1..] {
        assert!(sent.contains(&frame.data.as_ptr()), "{} bytes were copied", frame.data.len());
    }
    let (found, _) = received(chunks, Some(Status::ok(""))).await;
    let Some(Kind::Output(found)) = &found[0].kind else { unreachable!() };
    assert_eq!(found.frames[2].data.as_ptr(), output.frames[2].data.as_ptr());
}

#[tokio::test]
async fn a_call_brings_every_answer_and_its_end() {
    let answers = [output(&[100]), output(&[64 * 1024; 5]), AttachResponse::default()];
    let failed = Status::data_loss("the log is damaged");
    let all_of = answers.iter().cloned().map(Ok).chain([Err(failed.clone())]).collect();
    let channel = answering(all_of).await;
    let (found, ending) = all(attach(channel.clone()).await.unwrap()).await;
    let ending = ending.unwrap();
    assert_eq!(
        (found.as_slice(), ending.code(), ending.message()),
        (&answers[..], failed.code(), failed.message())
    );
    // A client that tonic generated gets the same answers.
    let mut client = AgentServiceClient::with_origin(channel, Channel::origin());
    let mut stream = client.attach(tokio_stream::once(AttachRequest::default())).await.unwrap().into_inner();
    for answer in &answers {
        assert_eq!(stream.message().await.unwrap().as_ref(), Some(answer));
    }
    assert_eq!(stream.message().await.unwrap_err().message(), failed.message());
}

#[tokio::test]
async fn a_stream_that_ends_ends_once_and_a_refusal_is_one() {
    let mut messages = attach(answering(vec![Ok(output(&[1]))]).await).await.unwrap();
    assert!(messages.message().await.unwrap().is_some());
    assert!(messages.message().await.unwrap().is_none());
    assert!(messages.message().await.unwrap().is_none());
    let refusing = ATTACH.route(Routes::default(), |_| async {
        Err::<tonic::Response<tokio_stream::Iter<std::vec::IntoIter<Answer>>>, _>(Status::not_found(
            "no such task",
        ))
    });
    let refused = attach(served(refusing).await).await.unwrap_err();
    assert_eq!(CallError::from(refused), CallError::NotFound("no such task".to_owned()));
    let unknown = attach(served(Routes::default()).await).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
}

#[tokio::test]
async fn what_breaks_off_is_told_apart_from_what_ends() {
    let held = AttachResponse { kind: Some(Kind::Held(Held { reason: Some("full".to_owned()) })) };
    let whole = sent(&[held.clone(), held.clone()]).await.concat();
    let part = Bytes::copy_from_slice(&whole[..whole.len() - 1]);
    for (chunk, ending, told) in [
        (part.clone(), None, "broke off"),
        (part, Some(Status::ok("")), "within a message"),
        (Bytes::copy_from_slice(&whole), None, "broke off"),
    ] {
        let (found, status) = received(vec![chunk], ending).await;
        assert!(found.iter().all(|message| *message == held) && !found.is_empty());
        let status = status.unwrap();
        assert!(status.message().contains(told), "{status}");
    }
    for (bytes, told) in [
        (&[1, 0, 0, 0, 1, 0][..], "compressed"),
        (&[0, 0, 16, 0, 1][..], "1048577 bytes"),
        (&[0, 0, 0, 0, 1, 255][..], "undecodable"),
    ] {
        let (found, status) = received(vec![Bytes::copy_from_slice(bytes)], Some(Status::ok(""))).await;
        let status = status.unwrap();
        assert!(found.is_empty() && status.message().contains(told), "{status}");
    }
}

#[tokio::test]
async fn a_message_that_is_not_waited_for_is_not_lost() {
    let messages = [output(&[200, 64 * 1024]), output(&[3]), output(&[40_000, 40_000])];
    let (pieces, body) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, Status>>();
    let body = Body::new(http_body_util::StreamBody::new(UnboundedReceiverStream::new(body)));
    let mut received = Messages::<AttachResponse>::new(body, 1024 * 1024);
    let mut found = Vec::new();
    let whole = Bytes::from(sent(&messages).await.concat());
    for at in (0..whole.len()).step_by(7_001) {
        tokio::select! {
            biased;
            early = received.message() => found.push(early.unwrap().unwrap()),
            () = std::future::ready(()) => {}
        }
        pieces.send(Ok(Frame::data(whole.slice(at..whole.len().min(at + 7_001))))).unwrap();
    }
    let mut trailers = HeaderMap::new();
    Status::ok("").add_header(&mut trailers).unwrap();
    pieces.send(Ok(Frame::trailers(trailers))).unwrap();
    let (rest, ended) = all(received).await;
    found.extend(rest);
    assert!(ended.is_none());
    assert_eq!(found, messages);
}

#[tokio::test]
async fn a_connection_that_ends_breaks_what_is_under_way_and_is_told_as_that() {
    let routes = ATTACH.route(Routes::default(), |_| async {
        let first = tokio_stream::once(Ok::<_, Status>(output(&[5])));
        Ok(tonic::Response::new(first.chain(tokio_stream::pending())))
    });
    let (channel, serving) = served_until_aborted(routes).await;
    let mut messages = attach(channel.clone()).await.unwrap();
    assert!(messages.message().await.unwrap().is_some());
    serving.abort();
    let broken = CallError::from(messages.message().await.unwrap_err());
    assert!(broken.is_broken_connection(), "{broken}");
    assert!(messages.message().await.unwrap().is_none());
    let refused = CallError::from(attach(channel).await.unwrap_err());
    assert!(refused.is_broken_connection(), "{refused}");
}

#[tokio::test]
async fn an_answer_of_headers_alone_is_an_end() {
    let answer = |status: u16, code: Option<&str>| {
        let builder = Response::builder().status(status);
        let builder = code.into_iter().fold(builder, |builder, code| builder.header("grpc-status", code));
        ATTACH.answered(builder.body(Body::empty()).unwrap())
    };
    assert!(answer(200, Some("0")).unwrap().message().await.unwrap().is_none());
    assert_eq!(answer(200, Some("5")).unwrap_err().code(), Code::NotFound);
    assert_eq!(answer(503, Some("14")).unwrap_err().code(), Code::Unavailable);
    assert!(answer(502, None).unwrap_err().message().contains("502"));
    let without = answer(200, None).unwrap().message().await.unwrap_err();
    assert_eq!(CallError::from(without), CallError::Disconnected(": the stream broke off".to_owned()));
}

/// A service that tonic generated.
struct Generated;

#[tonic::async_trait]
impl AgentService for Generated {
    type SessionStream = tokio_stream::Empty<Result<proto::SessionResponse, Status>>;
    type AttachStream = tokio_stream::Iter<std::vec::IntoIter<Answer>>;

    async fn session(
        &self,
        _: tonic::Request<Streaming<proto::SessionRequest>>,
    ) -> Result<tonic::Response<Self::SessionStream>, Status> {
        Err(Status::not_found("a session"))
    }

    async fn attach(
        &self,
        _: tonic::Request<Streaming<AttachRequest>>,
    ) -> Result<tonic::Response<Self::AttachStream>, Status> {
        let answers = vec![Ok(output(&[70_000, 3])), Err(Status::data_loss("100 % of it"))];
        Ok(tonic::Response::new(tokio_stream::iter(answers)))
    }

    async fn signal(
        &self,
        _: tonic::Request<proto::SignalRequest>,
    ) -> Result<tonic::Response<proto::SignalResponse>, Status> {
        Ok(tonic::Response::new(proto::SignalResponse { known: true, incarnation: String::new() }))
    }
}

#[tokio::test]
async fn what_tonic_serves_is_understood_and_one_method_of_it_replaced() {
    let generated = Routes::new(AgentServiceServer::new(Generated));
    let (found, ending) = all(attach(served(generated.clone()).await).await.unwrap()).await;
    assert_eq!((found, ending.unwrap().message()), (vec![output(&[70_000, 3])], "100 % of it"));
    let replaced = ATTACH.route(generated, |_| async {
        Ok(tonic::Response::new(tokio_stream::once(Ok::<_, Status>(output(&[1])))))
    });
    let channel = served(replaced).await;
    let (found, ending) = all(attach(channel.clone()).await.unwrap()).await;
    assert_eq!((found, ending.map(|status| status.code())), (vec![output(&[1])], None));
    let mut client = AgentServiceClient::with_origin(channel, Channel::origin());
    assert!(client.signal(proto::SignalRequest::default()).await.unwrap().into_inner().known);
}
