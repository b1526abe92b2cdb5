//! Checks of code that parses untrusted bytes: for `cargo fuzz`, and on a stable compiler for
//! `tests/suite/fuzzed.rs`.
//!
//! Each body takes any bytes and panics when a property is violated. Besides the absence of panics: what was
//! parsed once is written and parsed as the same, and what may reach a terminal contains only text and
//! colours.

#![allow(dead_code, reason = "each target has one of them")]

use std::{
    fmt::{Debug, Display},
    path::{Path, PathBuf},
    str::FromStr,
};

use bytes::Bytes;
use prost::Message;
use sloth_runner::{
    agent::{
        core::FinalRecord,
        finished::FinishedTasks,
        spool::{self, Read, SpoolReader, SpoolWriter},
        supervisor::protocol::{Lines, StartTask, SupervisorRequest, TaskReply, TaskRequest, line},
    },
    cli::{output, sanitize::Sanitizer, secrets},
    domain::{
        agent::{AgentView, Drain, Facts},
        attach::{AttachRequest, AttachResponse, SignalTask, Signalled},
        bounded::Line,
        code::Code,
        command::Command,
        control::{
            ApproveAgent, Approved, CancelJob, Cancelled, CreateToken, CreatedToken, DeleteAgent, DeleteJob,
            DrainAgents, Drained, FleetChange, FollowJob, InputProgress, InputRequest, InviteOperator,
            Invited, JobDigest, JobEvent, JobsChange, LabelAgents, Labelled, ListAgents, ListJobs,
            MasterStatus, Promoted, RejectAgents, RerunJob, ShownKey, StartJob, StopAgent, StoppedJob,
            TokenView, WatchAgents, WatchJob,
        },
        digest::GroupDigest,
        fingerprint::Fingerprint,
        frame::{Frame, Stream, take_frame},
        ids::{Incarnation, JobId, JobReference, TaskId},
        job::{Job, JobOptions, Task},
        name::{AgentName, Label, LabelChange},
        network::{HostPort, Hosts, Network},
        offset::OutputOffset,
        operator::OperatorView,
        outcome::{KillProof, Outcome},
        plan::{Gate, Plan},
        proposal::Proposal,
        session::{Enroll, EnrollAnswer, FromAgent, HeldTask, LogIn, LogInAnswer, ToAgent},
        target::{Target, names::Names, selection::Selection, selector::Selector},
        terms::Terms,
        text::is_harmful,
    },
    master::output_log::{LogPosition, OutputLogs},
    sys::{disk::Disk, file::numbered},
    trust::token::Token,
    tui::output::maker::LineParser,
    wire::{convert::Carried, login::LoginString, proto},
};

/// The body of a fuzz target, with its name and its seeds.
pub(crate) struct Body {
    /// The target's name.
    pub name: &'static str,
    /// Checks the properties for any bytes.
    pub check: fn(&[u8]),
    /// Inputs that reach deep into the code.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// The bodies of all targets.
pub(crate) const BODIES: [Body; 7] = [
    Body { name: "messages", check: messages, seeds: message_seeds },
    Body { name: "targets", check: targets, seeds: target_seeds },
    Body { name: "words", check: words, seeds: word_seeds },
    Body { name: "frames", check: frames, seeds: frame_seeds },
    Body { name: "files", check: files, seeds: file_seeds },
    Body { name: "supervisor", check: supervisor, seeds: supervisor_seeds },
    Body { name: "terminal", check: terminal, seeds: terminal_seeds },
];

/// Checks that the content of a message is the same after it was encoded and decoded again.
fn round_trips<D>(bytes: &[u8])
where
    D: Carried + Clone + PartialEq + Debug,
{
    let Ok(message) = D::Message::decode(bytes) else { return };
    let Ok(once) = D::from_message(message) else { return };
    let twice = D::from_message(once.clone().into_message());
    assert_eq!(twice.expect("what was taken in can be given out"), once);
}

/// Checks that a message that is only received is decoded without a panic.
fn decodes<D: Carried>(bytes: &[u8]) {
    let _ = D::Message::decode(bytes).map(D::from_message);
}

/// One check for each message with content of the domain.
const CARRIED: [fn(&[u8]); 63] = [
    round_trips::<Command>,
    round_trips::<Outcome>,
    round_trips::<Plan>,
    round_trips::<Selection>,
    round_trips::<JobOptions>,
    round_trips::<JobReference>,
    round_trips::<Facts>,
    round_trips::<Gate>,
    round_trips::<KillProof>,
    round_trips::<Drain>,
    round_trips::<Frame>,
    round_trips::<Job>,
    round_trips::<Task>,
    round_trips::<AgentView>,
    round_trips::<HeldTask>,
    round_trips::<Terms>,
    round_trips::<ShownKey>,
    round_trips::<ApproveAgent>,
    round_trips::<Approved>,
    round_trips::<AttachRequest>,
    round_trips::<AttachResponse>,
    round_trips::<CancelJob>,
    round_trips::<Cancelled>,
    round_trips::<CreateToken>,
    round_trips::<CreatedToken>,
    round_trips::<DeleteAgent>,
    round_trips::<DeleteJob>,
    round_trips::<DrainAgents>,
    round_trips::<Drained>,
    round_trips::<Enroll>,
    round_trips::<EnrollAnswer>,
    round_trips::<FleetChange>,
    round_trips::<FollowJob>,
    round_trips::<GroupDigest>,
    round_trips::<InputProgress>,
    round_trips::<InputRequest>,
    round_trips::<InviteOperator>,
    round_trips::<Invited>,
    round_trips::<JobDigest>,
    round_trips::<JobEvent>,
    round_trips::<JobsChange>,
    round_trips::<LabelAgents>,
    round_trips::<Labelled>,
    round_trips::<ListAgents>,
    round_trips::<ListJobs>,
    round_trips::<LogIn>,
    round_trips::<LogInAnswer>,
    round_trips::<MasterStatus>,
    round_trips::<OperatorView>,
    round_trips::<Promoted>,
    round_trips::<Proposal>,
    round_trips::<RejectAgents>,
    round_trips::<RerunJob>,
    round_trips::<SignalTask>,
    round_trips::<Signalled>,
    round_trips::<StartJob>,
    round_trips::<StopAgent>,
    round_trips::<StoppedJob>,
    round_trips::<ToAgent>,
    round_trips::<TokenView>,
    round_trips::<WatchAgents>,
    round_trips::<WatchJob>,
    // Invalid tasks of an inventory are counted, and not encoded again.
    decodes::<FromAgent>,
];

/// Conversions of the wire; the first byte selects one.
pub(crate) fn messages(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    CARRIED[usize::from(*which) % CARRIED.len()](bytes);
}

fn message_seeds() -> Vec<Vec<u8>> {
    let words = vec![Bytes::from_static(b"echo $A"), Bytes::from_static(b"b")];
    let command = proto::Command { words };
    let spec = proto::TaskSpec {
        job_id: vec![1; 16].into(),
        job_number: 7,
        task_index: 1,
        operator: "ana".into(),
        target: "web[1-3]".into(),
        command: Some(command.clone()),
        environment: vec![proto::EnvironmentVariable { name: "A".into(), value: "b".into() }],
        working_directory: Some("/tmp".into()),
        timeout_ms: Some(9),
        kill_grace_ms: 5_000,
        seal: Some(vec![2; 32].into()),
        ..proto::TaskSpec::default()
    };
    let proof = proto::KillProof::default();
    let cancelled = proto::Cancelled { proof: Some(proof), by: "ana".into(), seal: Some(vec![3; 32].into()) };
    let outcome = proto::Outcome { kind: Some(proto::outcome::Kind::Cancelled(cancelled)), background: 1 };
    let selection =
        proto::Selection { target: "@all".into(), selector: Some("a=b".into()), ..Default::default() };
    let frame = proto::Frame { stream: 1, offset: 3, time_ns: 4, data: "text".into() };
    let labels = vec![proto::Label { key: "role".into(), value: "db".into() }];
    let terms = proto::TokenTerms {
        labels: labels.clone(),
        names: Some("db-*".into()),
        from: vec!["10.0.0.0/8".into()],
        direct: vec!["gateway".into(), "2001:db8::/32".into()],
    };
    let fingerprint = Fingerprint::of(b"key").as_bytes().to_vec().into();
    let direct = Some(proto::HostPort { host: "::1".into(), port: 50_051 });
    let shown = proto::ShownKey { fingerprint, proposal: Some(proto::Proposal { labels, direct }) };
    let with = |which: u8, bytes: Vec<u8>| [vec![which], bytes].concat();
    vec![
        with(0, command.encode_to_vec()),
        with(1, outcome.encode_to_vec()),
        with(2, proto::Plan::default().encode_to_vec()),
        with(3, selection.encode_to_vec()),
        with(4, proto::JobOptions { timeout_ms: Some(3), ..Default::default() }.encode_to_vec()),
        with(5, vec![0x10, 7]),
        with(6, proto::Facts::default().encode_to_vec()),
        with(7, proto::Gate::default().encode_to_vec()),
        with(8, vec![8, 1]),
        with(9, proto::Drain::default().encode_to_vec()),
        with(10, frame.encode_to_vec()),
        with(14, spec.encode_to_vec()),
        with(15, terms.encode_to_vec()),
        with(16, shown.encode_to_vec()),
    ]
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Target expressions and label selectors: the displayed form parses to the same meaning.
pub(crate) fn targets(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(target) = text.parse::<Target>() {
        let shown = target.to_string();
        assert!(shown.parse::<Target>().is_ok(), "{text:?} is shown as {shown:?}, which means nothing");
    }
    if let Ok(selector) = text.parse::<Selector>() {
        let shown = selector.to_string();
        assert_eq!(shown.parse::<Selector>().map(|again| again.to_string()).ok(), Some(shown), "{text:?}");
    }
}

fn target_seeds() -> Vec<Vec<u8>> {
    [
        "web[01-20/2,30]!web-3",
        "@role:web&@dc:(a,b)^db*",
        "@all,@state:active",
        "role=web,env!=test,dc in (a,b),!x",
        "[1-4294967295]",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Checks that a value that is displayed and parsed again is the same.
fn displays_and_parses<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>().ok();
        assert_eq!(again, Some(value), "from {text:?}");
    }
}

/// Words that people and machines pass: names, job numbers, tokens, codes, addresses.
pub(crate) fn words(data: &[u8]) {
    let Some(text) = text(data) else { return };
    displays_and_parses::<AgentName>(text);
    displays_and_parses::<LabelChange>(text);
    displays_and_parses::<Names>(text);
    displays_and_parses::<Network>(text);
    displays_and_parses::<Hosts>(text);
    displays_and_parses::<JobId>(text);
    displays_and_parses::<TaskId>(text);
    displays_and_parses::<JobReference>(text);
    displays_and_parses::<Token>(text);
    displays_and_parses::<Code>(text);
    displays_and_parses::<Fingerprint>(text);
    displays_and_parses::<LoginString>(text);
    let _ = text.parse::<Label>();
    let _ = HostPort::parse(text, Some(1));
    let line: Line<100> = text.into();
    assert!(line.len() <= 100 && !line.chars().any(is_harmful), "{line:?}");
    let given: Vec<std::ffi::OsString> = text.split(' ').map(Into::into).collect();
    for (word, part) in secrets::find(&given) {
        assert!(part.start < part.end && part.end <= given[word].len());
    }
}

fn word_seeds() -> Vec<Vec<u8>> {
    let token = format!("sloth1-{}-{}", "ab".repeat(16), "CD".repeat(32));
    [
        "web-1",
        "role=web",
        "role-",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV-7",
        "80000000000000000907916162",
        "last",
        "7K2M-QX4P-9D3A-WZ8T",
        &token,
        &format!("{token}@[::1]:50053"),
        "s run -e A=b --env=C=d sloth1-x",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Frames as they are stored in a log: a whole frame is removed from the front of the buffer, and anything
/// else leaves it unchanged.
pub(crate) fn frames(data: &[u8]) {
    for seed in [None, Some(7)] {
        let mut buffer = Bytes::copy_from_slice(data);
        loop {
            let before = buffer.len();
            match take_frame(&mut buffer, seed) {
                Ok(Some((_, frame))) => assert!(buffer.len() + frame.data.len() < before),
                Ok(None) | Err(_) => break assert_eq!(buffer.len(), before),
            }
        }
    }
    let mut maker = LineParser::new(Stream::Stdout);
    let (first, second) = data.split_at(data.len() / 2);
    maker.feed(first, OutputOffset::START, 0, |_| {});
    maker.feed(second, OutputOffset(first.len() as u64), 1, |_| {});
    let _ = maker.pending();
}

fn frame_seeds() -> Vec<Vec<u8>> {
    use sloth_runner::domain::frame::Header;
    let payload = b"a line\n";
    let header = Header::new(1, Stream::Stderr, OutputOffset(5), 6, payload, 7);
    let frame = [&header.to_bytes()[..], payload].concat();
    vec![frame.clone(), frame.repeat(3), b"\x1b[31mred\rblue\x1b[0m\n".to_vec()]
}

/// The directory of this process for files, in memory where the system has that.
fn scratch_root() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    root.join(format!("sloth-runner-fuzz-{}", std::process::id()))
}

/// A directory below it.
fn scratch(name: &str) -> PathBuf {
    let directory = scratch_root().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Removes the files of [`files`].
pub(crate) fn remove_files() {
    let _ = std::fs::remove_dir_all(scratch_root());
}

/// Files that a crash or a failing disk may have changed: a log of the master, a segment of a spool, and an agent's list of
/// finished tasks. Each is read to its end, and holds no more output than the file has bytes.
pub(crate) fn files(data: &[u8]) {
    let length = data.len() as u64;
    let job = JobId::from_parts(1, 1);
    let logs = OutputLogs::new(scratch("logs"));
    let log = logs.root().join(job.to_string());
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(numbered(&log, 0, "log"), data).unwrap();
    let mut reader = logs.reader(job, LogPosition::START);
    let mut read = 0;
    while let Ok(frames) = reader.read(LogPosition(length))
        && !frames.is_empty()
    {
        read += frames.iter().map(|(_, frame)| frame.data.len() as u64).sum::<u64>();
    }
    assert!(read <= length && reader.position() <= LogPosition(length), "{read} bytes of {length}");

    let (spool, disk) = (scratch("spool"), Disk::default());
    std::fs::write(numbered(&spool, 0, "frames"), data).unwrap();
    let end = spool::intact_end(&disk, &spool).unwrap();
    assert!(end <= OutputOffset(length), "{end} of {length}");
    let mut reader = SpoolReader::new(disk.clone(), spool, OutputOffset::START).checked();
    while let Ok(Read::Frames(frames)) = reader.read(end) {
        assert!(frames.iter().all(|frame| frame.end() <= end));
    }
    assert_eq!(reader.offset(), end, "what is whole is read");

    let list = scratch("finished").join("finished.log");
    std::fs::write(&list, data).unwrap();
    let finished = FinishedTasks::open(&disk, &list, 20_000).unwrap();
    let _ = finished.get(TaskId { job, index: 0 });
}

fn file_seeds() -> Vec<Vec<u8>> {
    let (directory, disk, job) = (scratch("seeds"), Disk::default(), JobId::from_parts(1, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let frame = |offset, text: &'static str| Frame {
        stream: Stream::Stdout,
        offset,
        time_ns: 5,
        data: Bytes::from_static(text.as_bytes()),
    };
    let logs = OutputLogs::new(directory.join("logs"));
    runtime.block_on(async {
        logs.make_root().unwrap();
        let log = logs.open(job).await.unwrap();
        log.append(0, &[frame(OutputOffset::START, "first\n"), frame(OutputOffset(6), "second\n")])
            .await
            .unwrap();
        log.append(1, &[frame(OutputOffset::START, "other\n")]).await.unwrap();
    });
    let spool = directory.join("spool");
    std::fs::create_dir_all(&spool).unwrap();
    let mut writer = SpoolWriter::new(disk.clone(), spool.clone());
    writer.append(Stream::Stdout, 5, b"first\n").unwrap();
    writer.append(Stream::Stderr, 6, b"second\n").unwrap();
    let list = directory.join("finished.log");
    let mut finished = FinishedTasks::open(&disk, &list, 20_000).unwrap();
    let never = FinalRecord::NeverStarted(Incarnation::new("directory", "boot"));
    finished.insert(TaskId { job, index: 0 }, 20_000, never).unwrap();
    let log = numbered(&logs.root().join(job.to_string()), 0, "log");
    let seeds = [log, numbered(&spool, 0, "frames"), list].map(|path| std::fs::read(path).unwrap()).to_vec();
    std::fs::remove_dir_all(directory).unwrap();
    seeds
}

/// Lines of the protocol between the processes of an agent.
pub(crate) fn supervisor(data: &[u8]) {
    fn read<T: serde::de::DeserializeOwned>(data: &[u8]) {
        let mut lines = Lines::default();
        for piece in data.chunks(7) {
            if lines.push(piece).is_err() {
                return;
            }
            while let Ok(Some(_)) = lines.take::<T>() {}
        }
    }
    read::<SupervisorRequest>(data);
    read::<TaskRequest>(data);
    read::<TaskReply>(data);
    read::<StartTask>(data);
}

fn supervisor_seeds() -> Vec<Vec<u8>> {
    vec![
        line(&TaskRequest::Wait { past: OutputOffset(7) }),
        line(&TaskRequest::Acknowledge { offset: OutputOffset::MAX }),
        line(&SupervisorRequest::Stop { grace_ms: 1 }),
        b"{\"kill\":{}}\n\n{".to_vec(),
    ]
}

/// What may reach a terminal contains only text, line ends, tabs and colours.
pub(crate) fn terminal(data: &[u8]) {
    let (first, second) = data.split_at(data.len() / 3);
    let mut sanitizer = Sanitizer::default();
    let mut clean = sanitizer.clean(first);
    clean.extend(sanitizer.clean(second));
    clean.extend(sanitizer.reset());
    let clean = String::from_utf8(clean).expect("whole characters");
    assert_harmless(&clean);
    if let Some(text) = text(data) {
        assert_harmless(&output::harmless(text));
        let json = serde_json::to_string(text).expect("a text");
        let shown = output::sanitize_json(&json);
        assert!(!shown.chars().any(|sign| is_harmful(sign) && sign != '\n'));
        assert_eq!(serde_json::from_str::<String>(&shown).ok().as_deref(), Some(text), "it means the same");
    }
}

fn assert_harmless(text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(|sign| is_harmful(sign) && !matches!(sign, '\n' | '\r' | '\t')) {
        let colour = rest[at..].strip_prefix("\x1b[").and_then(|behind| behind.split_once('m'));
        let behind =
            colour.filter(|(code, _)| code.chars().all(|sign| sign.is_ascii_digit() || ";:".contains(sign)));
        rest = behind.unwrap_or_else(|| panic!("{text:?} is not harmless")).1;
    }
}

fn terminal_seeds() -> Vec<Vec<u8>> {
    [
        "\x1b[1;38:5:3mred\x1b[0m\r\n",
        "\x1b]0;title\x07\x1b[2J\x1b[6n",
        "\u{202e}\u{9b}31mé\u{10ffff}",
        "\x1bP1$r\x1b\\a\x1b[31",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
