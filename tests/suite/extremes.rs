//! Sends every message of the protocol with extreme values to a live master and a live agent. Neither
//! crashes, and others are still served.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::dice::Dice;
use crate::peers::{Proxy, RogueAgent, create_operator, methods, stolen};
use crate::rig::{self, TestCluster, until};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use sloth_runner::{
    domain::ids::JobId,
    trust::{
        tls::{self, ALPN_H2, Credentials},
        verify::Trust,
    },
    wire::{
        PROTOCOL,
        channel::{Channel, KeepAlive},
        connect::dial,
        proto::{self, attach_request, attach_response, session_response},
    },
};
use tonic::{Code, body::Body};
use tower::ServiceExt as _;

/// Number of messages to each method of a master; `SLOTH_EXTREMES` overrides it.
fn messages() -> u64 {
    std::env::var("SLOTH_EXTREMES").ok().and_then(|count| count.parse().ok()).unwrap_or(100)
}

fn add(types: &mut BTreeMap<String, DescriptorProto>, prefix: &str, message: &DescriptorProto) {
    let name = format!("{prefix}.{}", message.name());
    message.nested_type.iter().for_each(|nested| add(types, &name, nested));
    types.insert(name, message.clone());
}

/// Generates messages of the compiled proto files.
struct MessageGenerator {
    types: BTreeMap<String, DescriptorProto>,
    inputs: BTreeMap<String, String>,
    dice: Dice,
}

impl MessageGenerator {
    fn new(seed: u64) -> Self {
        let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let (mut types, mut inputs) = (BTreeMap::new(), BTreeMap::new());
        for file in &set.file {
            let package = format!(".{}", file.package());
            file.message_type.iter().for_each(|message| add(&mut types, &package, message));
            for service in &file.service {
                for method in &service.method {
                    let path = format!("{package}.{}/{}", service.name(), method.name());
                    inputs.insert(path.replacen('.', "/", 1), method.input_type().to_owned());
                }
            }
        }
        Self { types, inputs, dice: Dice(seed) }
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.dice.roll(of.len() as u64)).unwrap()].clone()
    }

    /// Returns an encoded message of this type, never larger than a connection accepts.
    fn message(&mut self, name: &str, depth: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        for field in self.types[name].field.clone() {
            let times = match field.label() {
                Label::Repeated if depth > 2 => self.pick(&[0, 1]),
                Label::Repeated => self.pick(&[0, 1, 2, 300]),
                _ => u32::from(self.dice.roll(4) > 0),
            };
            for _ in 0..times {
                if out.len() < 512 * 1024 {
                    self.field(&field, depth, &mut out);
                }
            }
        }
        out.to_vec()
    }

    /// Returns one encoded field, at any depth. Appended to a message, it replaces that field, and the rest
    /// is unchanged.
    fn one(&mut self, name: &str, depth: u32) -> Vec<u8> {
        let fields = self.types[name].field.clone();
        let mut out = BytesMut::new();
        if fields.is_empty() {
            return Vec::new();
        }
        let field = self.pick(&fields);
        if field.r#type() == Type::Message && depth < 5 && self.dice.roll(4) > 0 {
            let inner = self.one(field.type_name(), depth + 1);
            encode_key(field.number().unsigned_abs(), WireType::LengthDelimited, &mut out);
            encode_varint(inner.len() as u64, &mut out);
            out.put_slice(&inner);
        } else {
            self.field(&field, depth, &mut out);
        }
        out.to_vec()
    }

    /// Returns a message of this type in which all fields are extreme, or only one.
    fn extreme(&mut self, name: &str) -> Vec<u8> {
        let base = valid_message(name, self.dice.roll(u64::MAX));
        if base.is_empty() || self.dice.roll(3) == 0 {
            return self.message(name, 0);
        }
        [base, self.one(name, 0)].concat()
    }

    fn field(&mut self, field: &FieldDescriptorProto, depth: u32, out: &mut BytesMut) {
        let number = field.number().unsigned_abs();
        let bytes = match field.r#type() {
            Type::String => self.text().into_bytes(),
            Type::Bytes => {
                let length = self.pick(&[0, 1, 15, 16, 17, 32, 33, 70_000]);
                vec![self.pick(&[0, 1, 0x7f, 0xff]); length]
            }
            Type::Message if depth > 5 => Vec::new(),
            Type::Message => self.message(field.type_name(), depth + 1),
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                encode_key(number, WireType::SixtyFourBit, out);
                let value = self.pick(&[0, u64::MAX, 0x7ff0_0000_0000_0000, 0xfff8_0000_0000_0001, 1]);
                return out.put_u64_le(value);
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                encode_key(number, WireType::ThirtyTwoBit, out);
                let value = self.pick(&[0, u32::MAX, 0x7f80_0000, 1]);
                return out.put_u32_le(value);
            }
            _ => {
                encode_key(number, WireType::Varint, out);
                let many = u64::from(u32::MAX);
                let value = self.pick(&[0, 1, 2, 3, 255, 65_536, many - 1, many, u64::MAX / 2, u64::MAX]);
                return encode_varint(value, out);
            }
        };
        encode_key(number, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(&bytes);
    }

    fn text(&mut self) -> String {
        let text = [
            "",
            "a",
            "\0",
            "\u{1b}[2J\u{1b}]0;x\u{7}",
            "\u{202e}\u{2066}",
            "../../etc/passwd",
            "-1",
            "nobody[0-4294967295]",
            "((((((((",
            "*!*&*^*,,",
            "@role:*",
            "label=x,y!=z",
            "18446744073709551616",
            "127.0.0.1",
            "[::]:99999",
            "\u{fffd}é",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "viewer",
            "admin",
            "root",
            "dir/boot",
        ];
        match self.dice.roll(12) {
            0 => "x".repeat(70_000),
            1 => "\u{10ffff}".repeat(300),
            _ => self.pick(&text).to_owned(),
        }
    }
}

/// Returns a valid message of this type; empty if no harmless one is known.
fn valid_message(name: &str, number: u64) -> Vec<u8> {
    let job_id: Bytes = JobId::from_parts(number % 1_000_000, number.into()).to_bytes().to_vec().into();
    let command = Some(proto::Command { words: vec!["true".into()] });
    let last =
        Some(proto::JobReference { kind: Some(proto::job_reference::Kind::Last(proto::LastOfAll {})) });
    let selection = Some(proto::Selection { target: "@all".into(), ..proto::Selection::default() });
    let spec = Some(proto::TaskSpec {
        job_id: job_id.clone(),
        job_number: 1,
        operator: "ana".into(),
        target: "@all".into(),
        command: command.clone(),
        ..proto::TaskSpec::default()
    });
    let incarnation = "dir/boot".to_owned();
    let hello = proto::Hello {
        protocol: Some(PROTOCOL.into()),
        incarnation: incarnation.clone(),
        ..proto::Hello::default()
    };
    let outcome =
        proto::Outcome { kind: Some(proto::outcome::Kind::Exited(proto::Exited { code: 0 })), background: 0 };
    let said = |kind| proto::SessionResponse { kind: Some(kind) }.encode_to_vec();
    let answered = |kind| proto::AttachResponse { kind: Some(kind) }.encode_to_vec();
    match (name.rsplit('.').next().unwrap(), number % 3) {
        ("StartJobRequest", _) => {
            proto::StartJobRequest { job_id, selection, command, ..Default::default() }.encode_to_vec()
        }
        ("FollowJobRequest", _) => {
            proto::FollowJobRequest { job: last, ..Default::default() }.encode_to_vec()
        }
        ("WatchJobRequest", _) => proto::WatchJobRequest { job: last, ..Default::default() }.encode_to_vec(),
        ("RerunJobRequest", _) => {
            proto::RerunJobRequest { job: last, job_id, ..Default::default() }.encode_to_vec()
        }
        ("ListAgentsRequest", _) => {
            let which = selection.map(proto::list_agents_request::Which::Selection);
            proto::ListAgentsRequest { which }.encode_to_vec()
        }
        ("ListJobsRequest", _) => {
            proto::ListJobsRequest { limit: Some(3), ..Default::default() }.encode_to_vec()
        }
        ("CreateTokenRequest", _) => {
            proto::CreateTokenRequest { ttl_ms: 1, uses: 1, terms: None }.encode_to_vec()
        }
        ("InviteOperatorRequest", _) => proto::InviteOperatorRequest {
            name: format!("o{}", number % 100),
            role: proto::Role::Viewer.into(),
            ttl_ms: 1,
            ..Default::default()
        }
        .encode_to_vec(),
        ("SessionResponse", 0) => said(session_response::Kind::Hello(hello)),
        ("SessionResponse", 1) => said(session_response::Kind::Inventory(proto::Inventory {
            tasks: vec![proto::HeldTask { spec, started_ms: 1 }],
        })),
        ("SessionResponse", _) => said(session_response::Kind::Facts(proto::Facts::default())),
        ("AttachResponse", 0) => answered(attach_response::Kind::Ended(proto::TaskEnded {
            outcome: Some(outcome),
            end_offset: 1,
            duration_ns: 1,
        })),
        ("AttachResponse", 1) => answered(attach_response::Kind::Output(proto::Output {
            frames: vec![proto::Frame { stream: 1, offset: 0, time_ns: 1, data: "x".into() }],
        })),
        ("AttachResponse", _) => {
            answered(attach_response::Kind::Started(proto::TaskStarted { elapsed_ns: 1 }))
        }
        ("AttachRequest", _) => proto::AttachRequest {
            kind: Some(attach_request::Kind::Open(proto::Open {
                job_id,
                attempt: 1,
                start: Some(proto::StartPermission { spec, within_ms: 1_000 }),
                incarnation,
                ..Default::default()
            })),
        }
        .encode_to_vec(),
        ("SignalRequest", _) => {
            proto::SignalRequest { job_id, by: "ana".into(), grace_ms: 1, ..Default::default() }
                .encode_to_vec()
        }
        _ => Vec::new(),
    }
}

/// Connects to a master, or to an agent as its master.
async fn connect(port: u16, own: Option<Credentials>, ca: &Trust) -> Channel {
    let config = tls::client(own, ca.clone(), ALPN_H2).unwrap();
    let dialled = dial("127.0.0.1", port, Arc::new(config), tls::server_name("x")).await.unwrap();
    let (channel, connection) =
        Channel::handshake_kept_alive(dialled.stream, KeepAlive::PATIENT).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// Sends a message, and returns the status if it was refused before anything was done.
async fn send(channel: Channel, method: &str, message: &[u8]) -> Option<Code> {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(message);
    let request = Request::post(format!("http://sloth-runner{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(http_body_util::Full::new(body.freeze())))
        .unwrap();
    let answer = tokio::time::timeout(rig::TIMEOUT, channel.oneshot(request)).await.expect("an answer");
    let response = answer.ok()?;
    response.headers().get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// Checks that honest operators and agents are still served.
fn expect_others_served(rig: &TestCluster) {
    let printed = rig.run(&["run", "honest", "echo works"]);
    assert_eq!((printed.status, printed.out.as_str()), (0, "works\n"), "{printed:?}");
}

/// Flags with limits that no test reaches.
const NO_LIMITS: [&str; 6] =
    ["--max-call-rate", "1000000", "--max-frame-rate", "1000000", "--max-pending-changes", "100000"];

#[test]
fn extreme_messages_of_clients_do_not_stop_the_master() {
    let mut rig = TestCluster::with_master(&NO_LIMITS);
    rig.start_agent("honest", &[]);
    rig.wait_state("honest", "active");
    let pid = rig.master_pid();
    let own = create_operator(&rig, "eve", "admin");
    let ca = Trust::Pinned(own.chain[1].clone());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut maker = MessageGenerator::new(7);
    let (mut sent, mut refused) = (0, 0);
    for method in methods() {
        let Some(input) = maker.inputs.get(&method).cloned() else { panic!("{method} has no input") };
        let calls = runtime.block_on(async {
            let present = || Some(Credentials { chain: own.chain.clone(), key: own.key.clone_key() });
            let mut refused = 0;
            let mut channel = connect(rig.port(), present(), &ca).await;
            for number in 0..messages() {
                // Streaming answers stay open until the connection ends.
                if number.is_multiple_of(50) {
                    channel = connect(rig.port(), present(), &ca).await;
                }
                let message = maker.extreme(&input);
                refused += u64::from(!matches!(
                    send(channel.clone(), &method, &message).await,
                    None | Some(Code::Ok)
                ));
            }
            refused
        });
        sent += messages();
        refused += calls;
        expect_others_served(&rig);
    }
    println!("{sent} messages to {} methods, {refused} refused at once", methods().len());
    assert_eq!(rig.master_pid(), pid, "the same process");
    assert!(refused > sent / 4, "{refused} of {sent}");
}

#[test]
fn extreme_messages_of_an_agent_do_not_stop_the_master() {
    let mut rig = TestCluster::with_master(&NO_LIMITS);
    rig.start_agent("honest", &[]);
    rig.wait_state("honest", "active");
    let identity = stolen(&mut rig, "stolen");
    let pid = rig.master_pid();
    let (seed, said, sessions) =
        (AtomicU64::new(1), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seed = Arc::new(seed);
    let says = {
        let (seed, said, sessions) = (Arc::clone(&seed), Arc::clone(&said), Arc::clone(&sessions));
        move || {
            let mut maker = MessageGenerator::new(seed.fetch_add(1, Ordering::SeqCst));
            let turn = sessions.fetch_add(1, Ordering::SeqCst);
            let honest = proto::Hello {
                protocol: Some(PROTOCOL.into()),
                incarnation: "dir/boot".into(),
                ..proto::Hello::default()
            };
            // Every second session begins with a valid Hello, so that the rest is processed.
            let first = turn.is_multiple_of(2).then_some(session_response::Kind::Hello(honest));
            let kinds = (0..100).filter_map(|_| {
                let message = maker.extreme(".sloth.v2.SessionResponse");
                proto::SessionResponse::decode(&message[..]).ok()?.kind
            });
            let kinds: Vec<_> = first.into_iter().chain(kinds).collect();
            said.fetch_add(kinds.len() as u64, Ordering::SeqCst);
            kinds
        }
    };
    let answers = {
        let said = Arc::clone(&said);
        move |_: proto::Open| {
            let mut maker = MessageGenerator::new(seed.fetch_add(1, Ordering::SeqCst));
            let kinds: Vec<attach_response::Kind> = (0..20)
                .filter_map(|_| {
                    let message = maker.extreme(".sloth.v2.AttachResponse");
                    proto::AttachResponse::decode(&message[..]).ok()?.kind
                })
                .collect();
            said.fetch_add(kinds.len() as u64, Ordering::SeqCst);
            kinds
        }
    };
    let rogue = RogueAgent { says: Arc::new(says), answers: Arc::new(answers), heard: Arc::default() };
    let loose = rogue.dial_repeatedly(&rig, identity);
    let enough = 10 * messages();
    until("enough was said", || {
        let _ = rig.run(&["run", "--detach", "stolen", "true"]);
        expect_others_served(&rig);
        said.load(Ordering::SeqCst) >= enough
    });
    println!("{} messages in {} sessions", said.load(Ordering::SeqCst), sessions.load(Ordering::SeqCst));
    assert_eq!(rig.run(&["agent", "delete", "stolen"]).status, 0);
    expect_others_served(&rig);
    assert_eq!(rig.master_pid(), pid, "the same process");
    drop(loose);
}

#[test]
fn extreme_messages_of_a_master_do_not_stop_an_agent() {
    let mut rig = TestCluster::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut junction = runtime.block_on(Proxy::new(&rig));
    let token = rig.token();
    let mut agent = rig.program();
    agent.args(["agent", "start", "--name", "honest", "--master", &format!("127.0.0.1:{}", junction.port)]);
    agent.arg("--data-dir").arg(rig.agent_dir("honest")).env("SLOTH_RUNNER_TOKEN", token);
    agent.stdout(std::process::Stdio::null()).stderr(rig.log("agent-honest.log"));
    let agent = agent.spawn().unwrap();
    rig.adopt("honest", agent);
    rig.wait_state("honest", "active");
    let mut maker = MessageGenerator::new(9);
    let (mut sent, mut refused) = (0, 0);
    for method in methods().iter().filter(|method| method.contains("AgentService")) {
        let input = maker.inputs[method].clone();
        junction.keep(true);
        runtime.block_on(async {
            let mut channel = junction.next().await;
            for _ in 0..5 * messages() {
                if channel.is_closed() {
                    channel = junction.next().await;
                }
                let mut message = maker.extreme(&input);
                // The agent would obey an order to stop.
                while is_stop(method, &message) {
                    message = maker.extreme(&input);
                }
                let code =
                    tokio::time::timeout(Duration::from_secs(5), send(channel.clone(), method, &message))
                        .await;
                refused += u64::from(!matches!(code, Ok(None | Some(Code::Ok))));
                sent += 1;
            }
        });
        junction.keep(false);
        until("the agent is back", || rig.agent("honest").is_some_and(|agent| agent["state"] == "active"));
        expect_others_served(&rig);
    }
    println!("{sent} messages to an agent, {refused} refused at once");
}

fn is_stop(method: &str, message: &[u8]) -> bool {
    use proto::session_request::Kind;
    method.ends_with("/Session")
        && proto::SessionRequest::decode(message)
            .is_ok_and(|request| matches!(request.kind, Some(Kind::Stop(_) | Kind::Refused(_))))
}
