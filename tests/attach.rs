//! A model of the Attach protocol over both sides' pure cores: messages are dropped with their streams, late, or of
//! several streams at once; either side restarts at any step. No byte is lost, none comes twice, the outcome is true,
//! and the command is started exactly once.

#![expect(clippy::unwrap_used, reason = "what fails in a test's helpers fails the test")]

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use sloth_runner::{
    agent::core::{Asked, Core as Agent, Decision, Knowledge, Revision},
    domain::{
        agent::LinkPreference,
        command::{Command, TaskSpec},
        ids::{Incarnation, RunId, TaskId},
        name::Labels,
        outcome::{Ending, Outcome},
        run::{RunOptions, TaskState},
        target::Target,
    },
    master::core::{
        Core as Master, Policy, Remembered,
        messages::{AttachOrder, Effect, Input, Newcomer, Now, Reply, RunAsked, SessionId, WriteToken},
        stored::{InStore, KnownTask, StoredAgent, StoredRun, Write},
    },
    trust::fingerprint::Fingerprint,
};

/// How far the agent may send ahead of the disk.
const WINDOW: u64 = 4;
/// What the command prints, and how it ends.
const LENGTH: u64 = 9;
const STATUS: u8 = 7;

fn byte(offset: u64) -> u8 {
    u8::try_from(offset * 31 % 251).unwrap()
}

fn task() -> TaskId {
    TaskId { run: RunId::from_parts(1, 1), index: 0 }
}

enum ToAgent {
    Open(Box<AttachOrder>, u64, u64),
    Grant(u64),
    Acknowledge(u64),
    OutcomeStored,
}

enum ToMaster {
    Started,
    Output(u64, Vec<u8>),
    Ended,
    Unknown,
    Superseded(u64),
}

/// One Attach: what travels on it, and what each side knows of it.
#[expect(clippy::struct_excessive_bools, reason = "facts that change apart from one another")]
struct Stream {
    attempt: u64,
    to_agent: VecDeque<ToAgent>,
    to_master: VecDeque<ToMaster>,
    /// The agent's side: what was sent, and how far it may go; `None` while it is not streaming.
    sending: Option<(u64, u64)>,
    said_end: bool,
    /// The master has what comes before this by way of this stream, or had it when the stream began.
    received: u64,
    /// The master's side waits until the outcome is stored.
    handing_over: bool,
    outcome_stored: bool,
    agent_alive: bool,
    master_alive: bool,
}

#[derive(Clone, Default)]
struct Disk {
    agents: Vec<StoredAgent>,
    run: Option<StoredRun>,
    revision: u64,
}

struct World {
    now_ms: u64,
    started_ms: u64,
    master: Master,
    disk: Disk,
    /// Writes that are under way.
    writes: VecDeque<(WriteToken, Vec<Write>)>,
    log: Vec<u8>,
    synced: usize,
    agent: Agent,
    /// The command: how much it printed and whether it ended.
    command: Option<(u64, bool)>,
    /// The spool begins here.
    spool_from: u64,
    finished: bool,
    starts: u32,
    session: SessionId,
    streams: Vec<Stream>,
    replies: HashMap<u64, Reply>,
}

impl World {
    fn life() -> Incarnation {
        Incarnation::new("dir", "boot")
    }

    fn new() -> Self {
        let agent = StoredAgent {
            name: "a".parse().unwrap(),
            fingerprint: Fingerprint::of(b"a"),
            enrolled_ms: 1,
            last_seen_ms: 1,
            labels: Labels::new(),
            set_labels: Labels::new(),
            version: String::new(),
            address: String::new(),
            trust: String::new(),
            drain: None,
        };
        let disk = Disk { agents: vec![agent], ..Disk::default() };
        let mut world = Self {
            now_ms: 1_000_000,
            started_ms: 1_000_000,
            master: Master::new(
                Policy::default(),
                Remembered::default(),
                Now { monotonic: Duration::ZERO, unix_ms: 0 },
            ),
            disk,
            writes: VecDeque::new(),
            log: Vec::new(),
            synced: 0,
            agent: Agent::new(Self::life(), Revision::default()),
            command: None,
            spool_from: 0,
            finished: false,
            starts: 0,
            session: 0,
            streams: Vec::new(),
            replies: HashMap::new(),
        };
        world.start_master();
        let asked = RunAsked {
            id: task().run,
            operator: "ana".into(),
            selection: "a".parse::<Target>().unwrap().into(),
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            options: RunOptions { start_within_ms: Some(3_600_000), ..RunOptions::default() },
            shown: Vec::new(),
        };
        world.step(Input::StartRun(Box::new(asked), 99));
        world.persist_all();
        assert!(matches!(world.replies.get(&99), Some(Reply::Live(_))));
        world
    }

    fn step(&mut self, input: Input) {
        let monotonic = Duration::from_millis(self.now_ms - self.started_ms);
        let now = Now { monotonic, unix_ms: self.now_ms };
        let mut looked_up = None;
        for effect in self.master.step(input, now) {
            match effect {
                Effect::Persist(token, writes, _) => self.writes.push_back((token, writes)),
                Effect::Reply(to, reply) => drop(self.replies.insert(to, *reply)),
                Effect::Attach(order) if order.session == self.session => self.attach(*order),
                Effect::LookUp(session, _, known) => {
                    let found = known.into_iter().map(|known| (known, InStore::Ended)).collect();
                    looked_up = Some(Input::LookedUp(session, found));
                }
                Effect::OutcomeStored(_) => {
                    if let Some(stream) = self.streams.last_mut() {
                        stream.outcome_stored = true;
                    }
                }
                _ => {}
            }
        }
        self.hand_over();
        if let Some(answer) = looked_up {
            self.step(answer);
        }
    }

    fn attach(&mut self, order: AttachOrder) {
        let from = self.log.len() as u64;
        self.streams.push(Stream {
            attempt: order.attempt,
            to_agent: VecDeque::from([ToAgent::Open(Box::new(order), from, from + WINDOW)]),
            to_master: VecDeque::new(),
            sending: None,
            said_end: false,
            received: from,
            handing_over: false,
            outcome_stored: false,
            agent_alive: true,
            master_alive: true,
        });
    }

    fn start_master(&mut self) {
        self.started_ms = self.now_ms;
        let remembered = Remembered {
            agents: self.disk.agents.clone(),
            runs: self.disk.run.clone().filter(|stored| stored.run.ended_ms.is_none()).into_iter().collect(),
            last_number: self.disk.run.as_ref().map_or(0, |stored| stored.run.number),
            epoch: 1,
            revision: self.disk.revision,
            ..Remembered::default()
        };
        self.master = Master::new(
            Policy::default(),
            remembered,
            Now { monotonic: Duration::ZERO, unix_ms: self.now_ms },
        );
        self.connect();
    }

    fn connect(&mut self) {
        self.session += 1;
        let seen = self.agent.seen();
        let newcomer = Newcomer {
            session: self.session,
            name: "a".parse().unwrap(),
            fingerprint: Fingerprint::of(b"a"),
            incarnation: Self::life(),
            labels: Labels::new(),
            version: String::new(),
            address: String::new(),
            link: LinkPreference::Auto,
            direct_address: None,
            seen: (seen.epoch, seen.revision),
            trust: String::new(),
        };
        self.step(Input::SessionOpened(Box::new(newcomer), 1));
        if self.command.is_some() && !self.finished {
            // The master asks what the agent still has.
            let spec = TaskSpec {
                run_number: 1,
                operator: "ana".into(),
                target: "a".into(),
                command: Command::new(vec![b"true".to_vec()]).unwrap(),
                environment: Vec::new(),
                working_directory: None,
                timeout_ms: None,
                kill_grace_ms: 1,
                input: sloth_runner::domain::input::StandardInput::Nothing,
            };
            let known = KnownTask { id: task(), spec, started_ms: 1 };
            self.step(Input::InventoryTold(self.session, vec![known]));
        }
    }

    fn crash_master(&mut self) {
        // What was not synced is gone, and so is what was not written.
        self.log.truncate(self.synced);
        self.writes.clear();
        for stream in &mut self.streams {
            stream.master_alive = false;
        }
        self.start_master();
    }

    fn restart_agent(&mut self) {
        let seen = self.agent.seen();
        self.agent = Agent::new(Self::life(), seen);
        for stream in &mut self.streams {
            stream.agent_alive = false;
        }
        let old = self.session;
        self.step(Input::SessionClosed(old));
        self.connect();
    }

    fn persist_one(&mut self) {
        let Some((token, writes)) = self.writes.pop_front() else { return };
        for write in writes {
            match write {
                Write::PutRun(stored) => self.disk.run = Some(*stored),
                Write::PutTask(_, stored) => self.disk.run.as_mut().unwrap().tasks[0] = stored,
                Write::EndRun(_, ms) => self.disk.run.as_mut().unwrap().run.ended_ms = Some(ms),
                _ => {}
            }
        }
        self.disk.revision += 1;
        let revision = self.disk.revision;
        self.step(Input::Persisted(token, revision));
    }

    fn persist_all(&mut self) {
        while !self.writes.is_empty() {
            self.persist_one();
        }
    }

    fn sync(&mut self) {
        self.synced = self.log.len();
        for stream in self.streams.iter_mut().filter(|stream| stream.master_alive) {
            let safe = stream.received.min(self.synced as u64);
            stream.to_agent.push_back(ToAgent::Acknowledge(safe));
            stream.to_agent.push_back(ToAgent::Grant(safe + WINDOW));
        }
        self.hand_over();
    }

    /// The agent hears that the outcome is safe once it and all output are.
    fn hand_over(&mut self) {
        let all_synced = self.synced == self.log.len();
        for stream in self.streams.iter_mut().filter(|stream| stream.master_alive) {
            if stream.handing_over && stream.outcome_stored && all_synced {
                stream.handing_over = false;
                stream.to_agent.push_back(ToAgent::OutcomeStored);
            }
        }
    }

    /// The agent takes the next message of a stream.
    fn agent_hears(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if !stream.agent_alive {
            return;
        }
        match stream.to_agent.pop_front() {
            Some(ToAgent::Open(order, from, grant)) => {
                let (epoch, revision) = order.revision;
                self.agent.see(Revision { epoch, revision });
                let may_start = order.spec.is_some();
                let asked =
                    Asked { id: task(), attempt: order.attempt, may_start, incarnation: order.incarnation };
                let knowledge = match (self.finished, self.command) {
                    (true, _) => Knowledge::Finished,
                    (false, Some(_)) => Knowledge::Spooled,
                    (false, None) => Knowledge::Nothing,
                };
                let decision = self.agent.open(&asked, knowledge);
                let answer = match decision {
                    Decision::Start => {
                        self.starts += 1;
                        self.command = Some((0, false));
                        ToMaster::Started
                    }
                    Decision::Resume => ToMaster::Started,
                    Decision::Recall => ToMaster::Ended,
                    Decision::Unknown(_) | Decision::Refuse(_) => {
                        self.finished = true;
                        ToMaster::Unknown
                    }
                    Decision::Superseded(by) => ToMaster::Superseded(by),
                };
                let streams = matches!(answer, ToMaster::Started);
                self.streams[at].to_master.push_back(answer);
                if streams {
                    // A later call takes an earlier one's place.
                    for (other, stream) in self.streams.iter_mut().enumerate() {
                        stream.agent_alive &= other == at || stream.sending.is_none();
                    }
                    self.streams[at].sending = Some((from, grant));
                }
            }
            Some(ToAgent::Grant(to)) => {
                if let Some((_, grant)) = &mut stream.sending {
                    *grant = to.max(*grant);
                }
            }
            Some(ToAgent::Acknowledge(offset)) => self.spool_from = self.spool_from.max(offset),
            Some(ToAgent::OutcomeStored) => {
                self.finished = true;
                self.agent.forget(task());
            }
            None => {}
        }
    }

    /// The agent sends what it may on a stream, at most two bytes at a time.
    fn agent_sends(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        let (Some((sent, grant)), Some((printed, ended))) = (stream.sending, self.command) else { return };
        if !stream.agent_alive || self.finished || stream.said_end {
            return;
        }
        let until = printed.min(grant).min(sent + 2);
        if sent < until {
            assert!(sent >= self.spool_from, "bytes from {sent} were acknowledged, and are asked for again");
            stream.to_master.push_back(ToMaster::Output(sent, (sent..until).map(byte).collect()));
            stream.sending = Some((until, grant));
        } else if ended && sent >= printed {
            stream.said_end = true;
            stream.to_master.push_back(ToMaster::Ended);
        }
    }

    /// The master takes the next message of a stream.
    fn master_hears(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if !stream.master_alive {
            return;
        }
        let (id, attempt) = (task(), stream.attempt);
        match stream.to_master.pop_front() {
            Some(ToMaster::Started) => self.step(Input::TaskStarted { id, attempt, elapsed_ms: 0 }),
            Some(ToMaster::Output(offset, bytes)) => {
                let end = self.log.len() as u64;
                assert!(offset <= end, "bytes {end} to {offset} are missing");
                let known = usize::try_from(end - offset).unwrap().min(bytes.len());
                self.log.extend_from_slice(&bytes[known..]);
                stream.received = stream.received.max(offset + bytes.len() as u64);
            }
            Some(ToMaster::Ended) => {
                stream.handing_over = true;
                let outcome = Outcome::from(Ending::Exited(STATUS));
                self.step(Input::TaskEnded { id, outcome, end_offset: LENGTH, duration_ns: 1 });
            }
            Some(ToMaster::Unknown) => {
                stream.master_alive = false;
                self.step(Input::TaskUnknown { id, attempt, incarnation: Self::life() });
            }
            Some(ToMaster::Superseded(by)) => {
                stream.master_alive = false;
                self.step(Input::AttachLost { id, attempt, superseded_by: Some(by) });
            }
            None => {}
        }
    }

    /// A stream breaks; each side may notice at another time.
    fn cut(&mut self, at: usize) {
        self.streams[at].agent_alive = false;
        let stream = &mut self.streams[at];
        if std::mem::take(&mut stream.master_alive) {
            let attempt = stream.attempt;
            self.step(Input::AttachLost { id: task(), attempt, superseded_by: None });
        }
    }

    fn act(&mut self, action: u8, pick: usize) {
        let at = if self.streams.is_empty() { None } else { Some(pick % self.streams.len()) };
        let newest = self.streams.len().checked_sub(1);
        match (action, at, newest) {
            (0..=39, _, Some(at)) | (120..=139, Some(at), _) => self.agent_hears(at),
            (40..=79, _, Some(at)) => self.agent_sends(at),
            (80..=119, _, Some(at)) | (140..=159, Some(at), _) => self.master_hears(at),
            (160..=189, ..) => {
                if let Some((printed, ended)) = &mut self.command {
                    *printed = (*printed + 3).min(LENGTH);
                    *ended |= *printed == LENGTH && pick.is_multiple_of(2);
                }
            }
            (190..=209, ..) => self.sync(),
            (210..=234, ..) => self.persist_one(),
            (235..=241, Some(at), _) => self.cut(at),
            (242..=245, ..) => self.crash_master(),
            (246..=249, ..) => self.restart_agent(),
            _ => {
                self.now_ms += 500;
                self.step(Input::Heard(self.session));
                self.step(Input::Tick);
            }
        }
    }

    /// Everything arrives from now on; true when the agent was told that the outcome is safe.
    fn settle(&mut self) -> bool {
        for _ in 0..2_000 {
            if let Some((printed, ended)) = &mut self.command {
                (*printed, *ended) = (LENGTH, true);
            }
            self.persist_all();
            self.sync();
            let newest = self.streams.len();
            for at in newest.saturating_sub(1)..newest {
                self.agent_hears(at);
                self.agent_sends(at);
                self.master_hears(at);
            }
            self.now_ms += 500;
            self.step(Input::Heard(self.session));
            self.step(Input::Tick);
            let is_live = self.disk.run.as_ref().is_some_and(|stored| stored.run.ended_ms.is_none());
            if self.finished && !is_live && self.writes.is_empty() {
                return true;
            }
            let is_broken = |stream: &Stream| !stream.agent_alive || !stream.master_alive;
            if self.streams.last().is_none_or(is_broken) {
                self.restart_agent();
            }
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_doubled_or_started_twice(
        actions in proptest::collection::vec((any::<u8>(), 0usize..8), 0..400),
    ) {
        let mut world = World::new();
        for (action, pick) in actions {
            world.act(action, pick);
        }
        prop_assert!(world.settle(), "it comes to an end");
        prop_assert!(world.starts <= 1, "started {} times", world.starts);
        let stored = world.disk.run.as_ref().unwrap();
        prop_assert_eq!(&stored.tasks[0].task.state, &TaskState::Ended(Ending::Exited(STATUS).into()));
        let expected: Vec<u8> = (0..LENGTH).map(byte).collect();
        prop_assert_eq!(&world.log, &expected);
    }
}
