//! A simulated network and scheduler around the pure cores of master and agent. Messages are delayed for any
//! time, also those of connections that one side has given up. Either side is frozen, killed or restarted at
//! any step, the agent's machine reboots, its memory of tasks is removed, the master's store is restored from
//! a backup, and clocks jump.
//!
//! In every history, the command is started at most once, never after its deadline, and never after an
//! operator was notified of its cancel. An outcome that was reported is true and final, and no byte is lost
//! or doubled.
//!
//! The suite simulates some thousand histories. `SLOTH_SIMULATIONS=1000000 SLOTH_SEED=7 cargo test --release
//! --test suite simulation::` simulates more. Each history depends only on the seed and its number, which a
//! failure reports; `SLOTH_HISTORY=3501` prints that history step by step.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::dice::Dice;
use sloth_runner::{
    agent::core::{
        Cancelled as CancelledTask, Core as Agent, Decision, Effect as AgentEffect, FinalRecord,
        Input as AgentInput, Introduction, Knowledge, OpenedAttach, Reply as AgentReply, StartEnd,
    },
    domain::{
        agent::LinkPreference,
        attach::StartPermission,
        command::{Bytes, Command, TaskSpec, Variable},
        control::Cancelled,
        fingerprint::Fingerprint,
        ids::{Incarnation, JobId, JobReference, TaskId},
        job::{JobOptions, TaskState},
        name::Labels,
        offset::OutputOffset,
        outcome::{Ending, KillProof, Outcome, TaskEnding},
        proposal::Accepted,
        revision::SealedRevision,
        session::{Echo, SentAt},
        target::Target,
        time::UnixMs,
    },
    master::core::{
        Core as Master, Policy, Remembered,
        messages::{
            AttachOrder, Choice, Denied, Effect, Input, JobAsked, JobDenied, JobStart, Newcomer, Now, Reply,
            ReplyTo, SessionId, Ticket, WriteId,
        },
        stored::{KnownTask, StoredAgent, StoredJob, StoredJobNumber, StoredTaskState, Write},
    },
};

/// Number of histories in the suite.
const SIMULATIONS: u64 = 4_000;
/// How many bytes the agent may send ahead of the disk.
const WINDOW: u64 = 4;
/// How many bytes the command prints.
const LENGTH: u64 = 9;
const STATUS: u8 = 7;

/// The caller that deletes the agent.
const DELETING: u64 = 10;

fn byte(offset: u64) -> u8 {
    u8::try_from(offset * 31 % 251).unwrap()
}

/// Returns a selection of the only agent, by its name.
fn choice() -> Choice {
    Choice::plain(&"a".parse::<Target>().unwrap().into()).unwrap()
}

fn task() -> TaskId {
    TaskId { job: JobId::from_parts(1, 1), index: 0 }
}

/// Returns a variable of the command, whose value the store must not keep after the end.
fn secret() -> Variable {
    Variable { name: Bytes(b"PASSWORD".to_vec()), value: Bytes(b"hunter2".to_vec()) }
}

/// Returns a random index below `count`; `None` if that is 0.
fn pick(dice: &mut Dice, count: usize) -> Option<usize> {
    (count > 0).then(|| usize::try_from(dice.roll(count as u64)).unwrap())
}

enum ToAgent {
    /// An Open that the master has not sent yet: it has no link, or its log is not on the disk.
    Unsent {
        order: Box<AttachOrder>,
        from: u64,
    },
    Open {
        order: Box<AttachOrder>,
        from: u64,
        grant: u64,
        start_within: Option<u64>,
        sent: SentAt,
    },
    Grant(u64),
    Acknowledge(u64),
    OutcomeStored,
}

enum ToMaster {
    Started,
    Output(u64, Vec<u8>),
    Gap(u64),
    Ended(Ending, u64),
    Unknown(Incarnation),
    Superseded(u64),
    /// The call failed on the agent.
    Failed,
}

/// An Attach: its messages in transit, and the state of each side.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct Stream {
    session: SessionId,
    attempt: u64,
    to_agent: VecDeque<ToAgent>,
    to_master: VecDeque<ToMaster>,
    /// The agent's side: the offset up to which it has sent, and up to which it may; `None` while it is not
    /// streaming.
    sending: Option<(u64, u64)>,
    /// The offset from which the master has requested output, and up to which the agent may send.
    requested: Option<(u64, u64)>,
    reported_end: bool,
    /// The master has all output before this offset, from this stream or from before it.
    received: u64,
    /// Whether an Open that is not sent yet gives no permission to start.
    is_withdrawn: bool,
    /// Whether the master waits until the outcome is stored.
    handing_over: bool,
    outcome_stored: bool,
    agent_alive: bool,
    master_alive: bool,
}

/// An order to stop the task in transit to the agent, or its answer in transit to the master.
enum Signal {
    Order(SessionId),
    /// The agent's core has received the order.
    Asked(Ticket),
    Answer {
        known: bool,
        incarnation: Incarnation,
    },
}

/// A message of the master in a session.
struct Ping {
    sent: SentAt,
    echo: Option<Echo>,
}

#[derive(Clone, Default)]
struct Disk {
    agents: Vec<StoredAgent>,
    job: Option<StoredJob>,
    revision: u64,
    term: u64,
}

/// The true state of the command.
struct Running {
    printed: u64,
    ending: Option<Ending>,
    /// The boot of the machine in which it runs.
    boot: u64,
}

struct AgentSide {
    core: Agent,
    /// Answers of the core, to orders to stop the task and to other questions.
    replies: HashMap<Ticket, AgentReply>,
    last_ticket: Ticket,
    /// The stream that has the task.
    holder: Option<usize>,
    /// Whether the task is being started: its process runs, and the core does not know it yet.
    is_starting: bool,
    /// The directory that it has opened.
    directory: u64,
    /// When it sent the heartbeat that is in transit to the master; `None` if there is none.
    heartbeat: Option<u64>,
    /// Whether it has begun another incarnation and must reconnect to report it.
    reconnects: bool,
}

impl AgentSide {
    fn new(incarnation: Incarnation, seen: SealedRevision, directory: u64) -> Self {
        Self {
            core: Agent::new(incarnation, (None, seen)),
            replies: HashMap::new(),
            // The tickets below are the numbers of streams.
            last_ticket: Ticket(1 << 32),
            holder: None,
            is_starting: false,
            directory,
            heartbeat: None,
            reconnects: false,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket = self.last_ticket.next();
        self.last_ticket
    }
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct Simulation {
    dice: Dice,
    /// True time, in milliseconds.
    time: u64,
    /// The wall clock of the master minus the true time.
    wall: i64,
    /// The agent's clock minus the true time.
    clock_offset: u64,
    /// When the master was started, by the true time.
    started: u64,
    master: Master,
    /// Names the clock of the master's process.
    process: u64,
    disk: Disk,
    backup: Option<(Disk, Vec<u8>)>,
    /// Pending writes, each with whether it is retried when the disk refuses it.
    writes: VecDeque<(WriteId, Vec<Write>, bool)>,
    /// The newest write that was reported as delayed by the disk.
    delayed: WriteId,
    log: Vec<u8>,
    synced: usize,
    session: SessionId,
    /// When the agent sent the newest heartbeat that the master has received, and when the master received
    /// it.
    heard: Option<(u64, u64)>,
    agent: AgentSide,
    /// The id of the directory on the agent's disk. The next three fields are its contents.
    directory: u64,
    spool: bool,
    spool_from: u64,
    finished: Option<FinalRecord>,
    /// The highest revision of the master's store that the agent has written to its disk.
    saved_seen: SealedRevision,
    boot: u64,
    frozen: bool,
    /// Whether nothing arrives on either side.
    silent: bool,
    command: Option<Running>,
    streams: Vec<Stream>,
    signals: Vec<Signal>,
    pings: VecDeque<Ping>,
    replies: HashMap<Ticket, Reply>,
    /// How often the command was started.
    starts: u32,
    /// The latest moment at which the command may be started, by the true time.
    deadline: u64,
    within: u64,
    /// Whether an operator was notified that no task can start any more, or that the agent is deleted.
    is_stopped: bool,
    /// Whether an operator was notified of that, and that the master cannot record it yet. Valid while that
    /// master runs.
    is_stopped_unrecorded: bool,
    /// Whether an operator has deleted the agent.
    is_deleted: bool,
    /// Whether an operator has ever drained the agent.
    was_drained: bool,
    /// Whether the last order to drain or resume was a drain that was answered.
    is_drained: bool,
    /// The reply number of the last drain.
    drain_reply: u64,
    /// The outcome that was reported.
    reported: Option<Outcome>,
    /// Whether the agent's memory of the task was destroyed.
    was_forgotten: bool,
    was_restored: bool,
    clock_jumped: bool,
    /// Whether every step is printed.
    is_traced: bool,
}

impl Simulation {
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{:>9} {}", self.time, what());
        }
    }

    fn incarnation(directory: u64, boot: u64) -> Incarnation {
        Incarnation::new(&directory.to_string(), &boot.to_string())
    }

    fn life(&self) -> Incarnation {
        Self::incarnation(self.directory, self.boot)
    }

    fn new(seed: u64, is_traced: bool) -> Self {
        let agent = StoredAgent {
            name: "a".parse().unwrap(),
            fingerprint: Fingerprint::of(b"a"),
            enrolled_ms: UnixMs(1),
            last_seen_ms: UnixMs(1),
            labels: Labels::new(),
            set_labels: Labels::new(),
            accepted: Accepted::default(),
            version: String::new().into(),
            address: String::new(),
            trust: String::new().into(),
            drain: None,
            ahead: None,
            proof: None,
        };
        let mut dice = Dice(seed);
        let within = [5_000, 30_000, 3_600_000][pick(&mut dice, 3).unwrap()];
        let incarnation = Self::incarnation(1, 1);
        let mut world = Self {
            dice,
            time: 1_000_000,
            wall: 5_000_000,
            clock_offset: 77_000,
            started: 1_000_000,
            master: Master::new(
                Policy::default(),
                Remembered::default(),
                Now { monotonic: Duration::ZERO, unix_ms: UnixMs(0) },
            ),
            process: 0,
            disk: Disk { agents: vec![agent], ..Disk::default() },
            backup: None,
            writes: VecDeque::new(),
            delayed: WriteId::default(),
            log: Vec::new(),
            synced: 0,
            session: SessionId(0),
            heard: None,
            agent: AgentSide::new(incarnation, SealedRevision::default(), 1),
            directory: 1,
            spool: false,
            spool_from: 0,
            finished: None,
            saved_seen: SealedRevision::default(),
            boot: 1,
            frozen: false,
            silent: false,
            command: None,
            streams: Vec::new(),
            signals: Vec::new(),
            pings: VecDeque::new(),
            replies: HashMap::new(),
            starts: 0,
            deadline: 0,
            within,
            is_stopped: false,
            is_stopped_unrecorded: false,
            is_deleted: false,
            was_drained: false,
            is_drained: false,
            drain_reply: 100,
            reported: None,
            was_forgotten: false,
            was_restored: false,
            clock_jumped: false,
            is_traced,
        };
        world.start_master();
        let asked = JobAsked {
            id: task().job,
            operator: "ana".into(),
            choice: choice(),
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            options: JobOptions {
                start_within_ms: Some(within),
                environment: vec![secret()],
                ..JobOptions::default()
            },
            shown: Vec::new(),
        };
        if world.dice.roll(4) == 0 {
            world.session_ends();
        }
        world.deadline = world.time + within;
        world.step(Input::StartJob(Box::new(asked), ReplyTo::new(Ticket(99))));
        world.persist_all();
        assert!(matches!(world.replies.get(&Ticket(99)), Some(Reply::Start(JobStart::Live(_)))));
        world
    }

    fn now(&self) -> Now {
        let unix_ms = self.time.saturating_add_signed(self.wall);
        Now { monotonic: Duration::from_millis(self.time - self.started), unix_ms: UnixMs(unix_ms) }
    }

    /// The agent's clock.
    fn boottime(&self) -> u64 {
        self.time + self.clock_offset
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        let mut looked_up = None;
        if !matches!(input, Input::Tick | Input::Heard(_)) {
            self.trace(|| format!("master receives {input:?}"));
        }
        for effect in self.master.step(input, now) {
            self.trace(|| format!("    {effect:?}"));
            match effect {
                Effect::Persist(token, writes, durability) => {
                    self.writes.push_back((token, writes, durability.is_retried()));
                }
                Effect::Reply(to, reply) => {
                    match *reply {
                        Reply::Cancel(Ok(Cancelled { ordered, stored, .. })) => {
                            self.is_stopped |= ordered + stored > 0;
                        }
                        Reply::Stop(Ok(_)) => self.is_stopped = true,
                        Reply::Count(Ok(_)) if to == Ticket(DELETING) => self.is_stopped = true,
                        Reply::Drain(Ok(_)) if to == Ticket(self.drain_reply) => self.is_drained = true,
                        Reply::Cancel(Err(JobDenied::Refused(ref text)))
                        | Reply::Stop(Err(JobDenied::Refused(ref text)))
                        | Reply::Count(Err(Denied::Refused(ref text)))
                            if text.starts_with("it is done") =>
                        {
                            self.is_stopped_unrecorded = true;
                        }
                        _ => {}
                    }
                    self.replies.insert(to, *reply);
                }
                Effect::Attach(order) if order.session == self.session => self.attach(*order),
                Effect::Signal { session, .. } => {
                    self.streams.iter_mut().for_each(|stream| stream.is_withdrawn = true);
                    self.signals.push(Signal::Order(session));
                }
                Effect::WithdrawStart(_) => {
                    self.streams.iter_mut().for_each(|stream| stream.is_withdrawn = true);
                }
                Effect::LookUp(session, _, known) => {
                    let stored = self.disk.job.as_ref().map(|stored| &stored.tasks[0]);
                    let found = match stored {
                        Some(stored) if stored.task.state.outcome().is_some() => StoredTaskState::Ended,
                        Some(_) => StoredTaskState::Open,
                        None => StoredTaskState::Nothing { number: StoredJobNumber::Free },
                    };
                    let found = known.into_iter().map(|known| (known, found)).collect();
                    looked_up = Some(Input::LookedUp(session, found));
                }
                Effect::Publish(_, published) => {
                    if let Some(outcome) = published.state.outcome() {
                        let reported = self.reported.clone().unwrap_or_else(|| outcome.clone());
                        assert!(
                            self.may_report(&reported, outcome),
                            "reported {reported}, and then {outcome}"
                        );
                        self.reported = Some(outcome.clone());
                    }
                }
                Effect::JobEnded(..) => assert!(self.reported.is_some(), "the job ended before its task"),
                Effect::OutcomeStored(_) => {
                    for stream in &mut self.streams {
                        stream.outcome_stored |= stream.master_alive;
                    }
                }
                Effect::CloseSession(session) if session == self.session => self.session_ends(),
                _ => {}
            }
        }
        self.hand_over();
        if let Some(answer) = looked_up {
            self.step(answer);
        }
    }

    fn sent(&self) -> SentAt {
        SentAt { clock: self.process, at_ms: self.time + 9_000_000 }
    }

    fn attach(&mut self, order: AttachOrder) {
        let from = self.log.len() as u64;
        let (session, attempt) = (order.session, order.attempt);
        let open = ToAgent::Unsent { order: Box::new(order), from };
        self.streams.push(Stream {
            session,
            attempt,
            to_agent: VecDeque::from([open]),
            to_master: VecDeque::new(),
            sending: None,
            requested: None,
            reported_end: false,
            received: from,
            is_withdrawn: false,
            handing_over: false,
            outcome_stored: false,
            agent_alive: true,
            master_alive: true,
        });
    }

    /// The master sends the first message of an Attach.
    fn send_open(&mut self, at: usize) {
        let Some(ToAgent::Unsent { order, from }) = self.streams[at].to_agent.front() else { return };
        // The message acknowledges all bytes before `from`, so they must be on the disk.
        if !self.streams[at].master_alive || *from > self.synced as u64 {
            return;
        }
        let (order, from) = (order.clone(), *from);
        let left = |until: Duration| {
            let left = until.saturating_sub(self.now().monotonic).min(Duration::from_secs(10));
            u64::try_from(left.as_millis()).ok().filter(|left| *left > 0)
        };
        let start = order.start.as_ref().filter(|_| !self.streams[at].is_withdrawn);
        let start_within = start.and_then(|(_, until)| left(*until));
        let open = ToAgent::Open { order, from, grant: from + WINDOW, start_within, sent: self.sent() };
        self.streams[at].to_agent[0] = open;
    }

    fn start_master(&mut self) {
        self.started = self.time;
        self.process += 1;
        self.disk.term += 1;
        self.heard = None;
        let remembered = Remembered {
            agents: self.disk.agents.clone(),
            jobs: self.disk.job.clone().filter(|stored| stored.job.ended_ms.is_none()).into_iter().collect(),
            last_number: self.disk.job.as_ref().map_or(0, |stored| stored.job.number),
            epoch: 1,
            revision: self.disk.revision,
            term: self.disk.term,
            ..Remembered::default()
        };
        self.master = Master::new(Policy::default(), remembered, self.now());
        self.session = SessionId(0);
        self.connect();
    }

    /// The agent connects, and reports its task.
    fn connect(&mut self) {
        if self.frozen || self.silent {
            return;
        }
        self.session_ends();
        self.session = SessionId(self.time * 100 + self.dice.roll(100));
        let Introduction { incarnation, seen, .. } = self.introduce();
        let newcomer = Newcomer {
            session: self.session,
            name: "a".parse().unwrap(),
            fingerprint: Fingerprint::of(b"a"),
            incarnation,
            labels: Labels::new(),
            version: String::new().into(),
            address: String::new(),
            link: LinkPreference::Auto,
            direct_address: None,
            seen: seen.revision,
            unproved: None,
            trust: String::new().into(),
        };
        let hello = self.boottime();
        self.time += self.dice.roll(3);
        self.heard = Some((hello, self.time));
        self.step(Input::SessionOpened(Box::new(newcomer), ReplyTo::new(Ticket(1))));
        self.ping();
        if self.spool && self.finished.is_none() {
            let spec = TaskSpec {
                job_number: 1,
                operator: "ana".into(),
                target: "a".into(),
                command: Command::new(vec![b"true".to_vec()]).unwrap(),
                environment: Vec::new(),
                working_directory: None,
                timeout_ms: None,
                kill_grace_ms: 1,
                input: sloth_runner::domain::input::StandardInput::Nothing,
                by_admin: true,
                seal: None,
            };
            let known = KnownTask { id: task(), spec, started_ms: UnixMs(1), is_proved: true };
            self.step(Input::InventoryTold(self.session, vec![known]));
        }
    }

    /// The master notices that a session has ended. Its messages may still arrive, since the agent may not
    /// have noticed.
    fn session_ends(&mut self) {
        let session = std::mem::take(&mut self.session);
        if session == SessionId(0) {
            return;
        }
        for stream in self.streams.iter_mut().filter(|stream| stream.session == session) {
            stream.master_alive = false;
        }
        self.signals.retain(|signal| !matches!(signal, Signal::Order(of) if *of == session));
        self.step(Input::SessionClosed(session));
    }

    fn ping(&mut self) {
        let sent = self.sent();
        let echo = self.heard.map(|(at, received)| Echo { at_ms: at, age_ms: self.time - received });
        self.pings.push_back(Ping { sent, echo });
    }

    fn crash_master(&mut self) {
        self.trace(|| "crash_master".to_owned());
        // Output that was not synced is lost, and so are the pending writes.
        self.log.truncate(self.synced);
        self.writes.clear();
        self.signals.clear();
        self.pings.clear();
        for stream in &mut self.streams {
            stream.master_alive = false;
        }
        let unix_before = self.now().unix_ms;
        self.time += self.dice.roll(20_000);
        if self.dice.roll(8) == 0 {
            self.wall += [-86_400_000, 86_400_000, -3_000][pick(&mut self.dice, 3).unwrap()];
            self.clock_jumped = true;
        }
        self.is_stopped_unrecorded = false;
        self.extend_deadline(self.clock_jumped || self.now().unix_ms < unix_before);
        self.start_master();
    }

    /// Extends the deadline if the wall clock was set: a restarted master does not know how much time is
    /// left, and may grant up to the requested time again.
    fn extend_deadline(&mut self, clock_jumped: bool) {
        if clock_jumped {
            self.deadline = self.deadline.max(self.time + self.within);
        }
    }

    fn restart_agent(&mut self) {
        self.trace(|| "restart_agent".to_owned());
        self.agent = AgentSide::new(self.life(), self.saved_seen, self.directory);
        self.frozen = false;
        self.signals.retain(|signal| !matches!(signal, Signal::Asked(_)));
        for stream in &mut self.streams {
            stream.agent_alive = false;
        }
        self.pings.clear();
        self.connect();
    }

    fn reboot_agent(&mut self) {
        self.trace(|| "reboot_agent".to_owned());
        self.boot += 1;
        self.clock_offset += 1_000;
        self.was_forgotten = true;
        if let Some(command) = &mut self.command
            && command.ending.is_none()
        {
            let lost = Ending::Lost("the machine was rebooted while it ran".into());
            command.ending = Some(lost);
        }
        self.restart_agent();
    }

    /// Removes the agent's memory of tasks, and may restart the agent. A running command continues, unknown
    /// to the agent.
    fn wipe_agent(&mut self) {
        if self.was_restored {
            return;
        }
        self.trace(|| "wipe_agent".to_owned());
        self.directory += 1;
        self.spool = false;
        self.finished = None;
        self.was_forgotten = true;
        if self.dice.roll(2) == 0 {
            self.restart_agent();
        }
    }

    fn restore_master(&mut self) {
        self.trace(|| "restore_master".to_owned());
        let Some((disk, log)) = self.backup.clone() else { return };
        // If the store is restored and the agent has forgotten the task, neither side knows of it. So at most
        // one happens.
        if self.was_forgotten {
            return;
        }
        self.log.truncate(self.synced);
        self.writes.clear();
        self.signals.clear();
        self.pings.clear();
        for stream in &mut self.streams {
            stream.master_alive = false;
        }
        (self.disk, self.log) = (disk, log);
        self.synced = self.log.len();
        // Reports of the lost store do not bind the restored one.
        (self.reported, self.is_stopped, self.is_drained, self.was_restored) = (None, false, false, true);
        self.is_stopped_unrecorded = false;
        self.extend_deadline(self.clock_jumped);
        self.start_master();
    }

    fn persist_one(&mut self) {
        let Some((token, writes, _)) = self.writes.pop_front() else { return };
        for write in writes {
            match write {
                Write::PutJob(stored) | Write::Recover(stored) => self.disk.job = Some(*stored),
                Write::PutTask(_, stored) => self.disk.job.as_mut().unwrap().tasks[0] = stored,
                Write::StartTask(_, ms) => {
                    let stored = &mut self.disk.job.as_mut().unwrap().tasks[0];
                    stored.task.started_ms.get_or_insert(ms);
                    if stored.task.state.outcome().is_none() {
                        stored.task.state = TaskState::Running;
                    }
                }
                Write::PutOptions(_, options) => self.disk.job.as_mut().unwrap().options = *options,
                Write::EndJob(_, ms) => self.disk.job.as_mut().unwrap().job.ended_ms = Some(ms),
                Write::PutAgent(agent) => self.disk.agents = vec![agent],
                Write::DeleteAgent(_) => self.disk.agents.clear(),
                Write::PutGate(_, gate) => self.disk.job.as_mut().unwrap().job.gate = gate,
                _ => {}
            }
        }
        self.disk.revision += 1;
        let revision = self.disk.revision;
        self.step(Input::Persisted(token, revision));
        if self.backup.is_none() && self.dice.roll(6) == 0 {
            self.backup = Some((self.disk.clone(), self.log[..self.synced].to_vec()));
        }
    }

    /// The disk refuses all pending writes.
    fn delay_writes(&mut self) {
        let last = self.delayed;
        let delayed = self.writes.iter().filter(|(token, _, is_kept)| *is_kept && *token > last);
        for token in delayed.map(|(token, ..)| *token).collect::<Vec<_>>() {
            self.delayed = token;
            self.step(Input::PersistDelayed(token, "no space".to_owned()));
        }
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

    /// Notifies the agent once the outcome and all output are on the disk.
    fn hand_over(&mut self) {
        let all_synced = self.synced == self.log.len();
        for stream in self.streams.iter_mut().filter(|stream| stream.master_alive) {
            if stream.handing_over && stream.outcome_stored && all_synced {
                stream.handing_over = false;
                stream.to_agent.push_back(ToAgent::OutcomeStored);
            }
        }
    }

    fn knowledge(&self) -> Knowledge {
        match &self.finished {
            Some(record) => Knowledge::Recorded(record.clone()),
            None if self.spool => Knowledge::Spooled,
            None => Knowledge::Nothing,
        }
    }

    /// The agent's core takes a step, and its effects are performed.
    fn agent_step(&mut self, input: AgentInput) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.boottime();
            for effect in self.agent.core.step(input, now) {
                self.agent_performs(effect, &mut inputs);
            }
        }
    }

    fn agent_performs(&mut self, effect: AgentEffect, inputs: &mut VecDeque<AgentInput>) {
        match effect {
            AgentEffect::LookUp(id) => {
                let knowledge = self.knowledge();
                // An agent whose directory was replaced begins another incarnation before it makes a decision.
                if knowledge == Knowledge::Nothing && self.agent.directory != self.directory {
                    self.agent.directory = self.directory;
                    inputs.push_back(AgentInput::MemoryReplaced(self.life()));
                }
                inputs.push_back(AgentInput::LookedUp(id, Ok(knowledge)));
            }
            AgentEffect::Record(id, record) => {
                self.finished.get_or_insert(record);
                inputs.push_back(AgentInput::Recorded(id, Ok(())));
            }
            AgentEffect::Start { spec, .. } => self.start(&spec),
            AgentEffect::Supersede(_, by) => {
                if let Some(at) = self.agent.holder.take() {
                    let stream = &mut self.streams[at];
                    if std::mem::take(&mut stream.agent_alive) {
                        stream.to_master.push_back(ToMaster::Superseded(by));
                    }
                }
            }
            AgentEffect::Opened(_, Ticket(at), decision) => {
                let at = usize::try_from(at).unwrap();
                self.opened(at, decision.unwrap());
            }
            AgentEffect::Reply(ticket, reply) => {
                self.agent.replies.insert(ticket, reply);
            }
            AgentEffect::SaveSeen(_, seen) => self.saved_seen = seen,
            AgentEffect::ReportIncarnation => self.agent.reconnects = true,
            AgentEffect::RemoveDirectories(_) => inputs.push_back(AgentInput::Removed),
            AgentEffect::Release(_) | AgentEffect::CheckMemory | AgentEffect::ReportStopping => {}
        }
    }

    fn introduce(&mut self) -> Introduction {
        let ticket = self.agent.ticket();
        self.agent_step(AgentInput::Introduce(ReplyTo::new(ticket)));
        match self.agent.replies.remove(&ticket) {
            Some(AgentReply::Introduction(introduction)) => introduction,
            other => unreachable!("{other:?}"),
        }
    }

    /// The agent takes the next message of a stream.
    fn deliver_to_agent(&mut self, at: usize) {
        if self.frozen || !self.streams[at].agent_alive {
            return;
        }
        if matches!(self.streams[at].to_agent.front(), Some(ToAgent::Unsent { .. })) {
            return self.send_open(at);
        }
        match self.streams[at].to_agent.pop_front() {
            Some(ToAgent::Open { order, from, grant, start_within, sent }) => {
                self.open(at, *order, from, grant, start_within, sent);
            }
            Some(ToAgent::Grant(to)) => {
                if let Some((_, grant)) = &mut self.streams[at].sending {
                    *grant = to.max(*grant);
                }
            }
            Some(ToAgent::Acknowledge(offset)) if self.streams[at].sending.is_some() => {
                self.spool_from = self.spool_from.max(offset);
            }
            Some(ToAgent::OutcomeStored) => {
                if let Some(command) = &self.command
                    && self.spool
                    && self.finished.is_none()
                    && let Some(ending) = command.ending.clone()
                {
                    let outcome = ending.into();
                    let ending =
                        TaskEnding { outcome, end_offset: OutputOffset(command.printed), duration_ns: 1 };
                    let ticket = self.agent.ticket();
                    self.agent_step(AgentInput::Finish(task(), ending, ReplyTo::new(ticket)));
                }
            }
            Some(ToAgent::Acknowledge(_) | ToAgent::Unsent { .. }) | None => {}
        }
    }

    fn open(
        &mut self,
        at: usize,
        order: AttachOrder,
        from: u64,
        grant: u64,
        start_within: Option<u64>,
        sent: SentAt,
    ) {
        self.streams[at].requested = Some((from, grant));
        let permission = |within| {
            let (spec, _) = order.start.clone()?;
            Some(StartPermission { spec, within: Duration::from_millis(within) })
        };
        let attach = OpenedAttach {
            id: task(),
            attempt: order.attempt,
            incarnation: order.incarnation,
            start: start_within.and_then(permission),
            sent: Some(sent),
            arrived: self.boottime(),
            revision: SealedRevision { revision: order.revision, seal: None },
        };
        self.trace(|| format!("agent, which knows {:?}, receives {attach:?}", self.knowledge()));
        self.agent_step(AgentInput::Open(Box::new(attach), ReplyTo::new(Ticket(at as u64))));
    }

    /// The task is started; the core is notified later.
    fn start(&mut self, spec: &TaskSpec) {
        assert!(self.time <= self.deadline, "started {} ms after its deadline", self.time - self.deadline);
        let is_stopped = self.is_stopped || self.is_stopped_unrecorded || self.is_drained;
        assert!(!is_stopped, "started after an operator was notified that it cannot");
        // A lost outcome does not say that the command never started.
        let reported = self.reported.as_ref().filter(|reported| !matches!(reported.ending, Ending::Lost(_)));
        assert!(reported.is_none(), "started after its outcome was reported: {reported:?}");
        assert_eq!(self.starts, 0, "started again");
        assert_eq!(spec.environment, [secret()], "its variables were deleted before it was started");
        self.starts += 1;
        self.spool = true;
        self.command = Some(Running { printed: 0, ending: None, boot: self.boot });
        self.agent.is_starting = true;
    }

    /// The agent's core learns that the task was started, or only that its process has failed.
    fn start_ends(&mut self) {
        if !self.frozen && std::mem::take(&mut self.agent.is_starting) {
            let is_confirmed = self.dice.roll(4) > 0;
            let failed = || StartEnd::Failed("no process".to_owned());
            let end = if is_confirmed { StartEnd::Started } else { failed() };
            self.agent_step(AgentInput::StartEnded(task(), end));
        }
    }

    /// The core has decided on a stream.
    fn opened(&mut self, at: usize, decision: Decision) {
        self.trace(|| format!("agent decides {decision:?}"));
        let answer = match decision {
            Decision::Started | Decision::Resume => ToMaster::Started,
            Decision::Recall(TaskEnding { outcome, end_offset, .. }) => {
                ToMaster::Ended(outcome.ending, end_offset.0)
            }
            Decision::NeverStarted(incarnation) | Decision::OtherIncarnation { incarnation, .. } => {
                ToMaster::Unknown(incarnation)
            }
            Decision::Expired | Decision::MemoryRemoved => ToMaster::Failed,
            Decision::Superseded(by) => ToMaster::Superseded(by),
            // Nothing of this agent can refuse a task: each process that fails has begun it.
            Decision::Refuse(_) | Decision::Unwritten(_) => unreachable!("{decision:?}"),
        };
        if !matches!(answer, ToMaster::Superseded(_)) {
            self.agent.holder = Some(at);
        }
        let stream = &mut self.streams[at];
        if !stream.agent_alive {
            return;
        }
        if let (ToMaster::Started, Some((from, grant))) = (&answer, stream.requested) {
            stream.sending = Some((from, grant));
            self.spool_from = self.spool_from.max(from);
        }
        stream.to_master.push_back(answer);
    }

    /// The agent sends the next bytes of a stream, at most two and up to the grant, or the end of the task.
    fn agent_sends(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        let (Some((sent, grant)), Some(command)) = (stream.sending, &self.command) else { return };
        if self.frozen || !self.spool || !stream.agent_alive || self.finished.is_some() || stream.reported_end
        {
            return;
        }
        // A restored store has lost output that it had acknowledged: the agent reports a gap.
        if self.was_restored && sent < self.spool_from && sent < grant {
            stream.sending = Some((self.spool_from, grant));
            return stream.to_master.push_back(ToMaster::Gap(self.spool_from));
        }
        let until = command.printed.min(grant).min(sent + 2);
        if sent < until {
            assert!(sent >= self.spool_from, "bytes from {sent} were acknowledged, and are requested again");
            stream.to_master.push_back(ToMaster::Output(sent, (sent..until).map(byte).collect()));
            stream.sending = Some((until, grant));
        } else if let Some(ending) = &command.ending
            && sent >= command.printed
        {
            stream.reported_end = true;
            stream.to_master.push_back(ToMaster::Ended(ending.clone(), command.printed));
        }
    }

    /// The master takes the next message of a stream.
    fn deliver_to_master(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if !stream.master_alive || self.silent {
            return;
        }
        let (id, attempt, session) = (task(), stream.attempt, stream.session);
        match stream.to_master.pop_front() {
            Some(ToMaster::Started) => self.step(Input::TaskStarted { id, attempt, elapsed_ms: 0 }),
            Some(ToMaster::Output(offset, bytes)) => {
                let end = self.log.len() as u64;
                assert!(offset <= end, "bytes {end} to {offset} are missing");
                let known = usize::try_from(end - offset).unwrap().min(bytes.len());
                self.log.extend_from_slice(&bytes[known..]);
                stream.received = stream.received.max(offset + bytes.len() as u64);
            }
            Some(ToMaster::Gap(to)) => {
                let lost = self.log.len() as u64..to;
                self.log.extend(lost.map(byte));
                stream.received = stream.received.max(to);
            }
            Some(ToMaster::Ended(ending, end_offset)) => {
                stream.handing_over = true;
                self.step(Input::TaskEnded {
                    id,
                    outcome: ending.into(),
                    end_offset: OutputOffset(end_offset),
                    duration_ns: 1,
                });
            }
            Some(ToMaster::Unknown(incarnation)) => {
                stream.master_alive = false;
                self.step(Input::TaskUnknown { id, attempt, incarnation });
            }
            Some(ToMaster::Superseded(by)) => {
                stream.master_alive = false;
                self.step(Input::AttachLost { id, session, attempt, superseded_by: Some(by) });
            }
            Some(ToMaster::Failed) => {
                stream.master_alive = false;
                self.step(Input::AttachLost { id, session, attempt, superseded_by: None });
            }
            None => {}
        }
    }

    /// The master notices that a stream is broken. Messages that were sent before may still arrive.
    fn cut(&mut self, at: usize) {
        if self.dice.roll(2) == 0 {
            self.streams[at].agent_alive = false;
            let attempt = self.streams[at].attempt;
            self.agent_step(AgentInput::AttachEnded { id: task(), attempt });
        }
        let stream = &mut self.streams[at];
        if std::mem::take(&mut stream.master_alive) {
            let (attempt, session) = (stream.attempt, stream.session);
            self.step(Input::AttachLost { id: task(), session, attempt, superseded_by: None });
        }
    }

    fn signal_moves(&mut self) {
        let Some(at) = pick(&mut self.dice, self.signals.len()) else { return };
        match &self.signals[at] {
            Signal::Order(_) | Signal::Asked(_) if self.frozen || self.silent => {}
            Signal::Order(_) => {
                let ticket = self.agent.ticket();
                self.signals[at] = Signal::Asked(ticket);
                self.agent_step(AgentInput::Cancel(task(), ReplyTo::new(ticket)));
            }
            Signal::Asked(ticket) => {
                let (known, incarnation) = match self.agent.replies.remove(ticket) {
                    // The core waits until the start has ended.
                    None => return,
                    Some(AgentReply::Cancelled(Ok(CancelledTask::NeverStarted(incarnation)))) => {
                        (false, incarnation)
                    }
                    Some(AgentReply::Cancelled(Ok(CancelledTask::Ended(incarnation)))) => (true, incarnation),
                    Some(AgentReply::Cancelled(Ok(CancelledTask::Spooled(incarnation)))) => {
                        self.kill();
                        (true, incarnation)
                    }
                    // A later order has replaced this one, and the master repeats it.
                    Some(AgentReply::Cancelled(Ok(CancelledTask::Replaced))) => {
                        self.signals[at] = Signal::Order(self.session);
                        return;
                    }
                    Some(other) => unreachable!("{other:?}"),
                };
                self.signals[at] = Signal::Answer { known, incarnation };
            }
            Signal::Answer { known, incarnation } => {
                let (known, incarnation) = (*known, incarnation.clone());
                self.signals.swap_remove(at);
                self.step(Input::SignalAnswered { id: task(), known, incarnation });
            }
        }
    }

    fn kill(&mut self) {
        if let Some(command) = self.command.as_mut().filter(|command| command.boot == self.boot) {
            let proof = Some(KillProof::new(1, Vec::new(), 0));
            let cancelled = Ending::Cancelled { proof, by: "ana".into(), seal: None };
            command.ending.get_or_insert(cancelled);
        }
    }

    /// Moves the messages that carry clocks: a heartbeat to the master, and a ping to the agent.
    fn clocks_move(&mut self) {
        if self.frozen {
            return;
        }
        match self.agent.heartbeat.take() {
            Some(sent) if !self.silent => self.heard = Some((sent, self.time)),
            Some(sent) => self.agent.heartbeat = Some(sent),
            None => self.agent.heartbeat = Some(self.boottime()),
        }
        if let Some(ping) = self.pings.pop_front() {
            self.agent_step(AgentInput::Pinged { revision: None, sent: ping.sent, echo: ping.echo });
        }
        if self.session > SessionId(0) && self.dice.roll(2) == 0 {
            self.ping();
        }
    }

    fn advance(&mut self, milliseconds: u64) {
        self.time += milliseconds;
        if self.session > SessionId(0) && !self.frozen && !self.silent {
            self.step(Input::Heard(self.session));
        }
        self.step(Input::Tick);
        if !self.frozen {
            self.agent_step(AgentInput::Tick);
        }
        if std::mem::take(&mut self.agent.reconnects) {
            self.streams.iter_mut().for_each(|stream| stream.agent_alive = false);
            self.session_ends();
        }
        if self.session == SessionId(0) {
            self.connect();
        }
    }

    fn act(&mut self) {
        let newest = self.streams.len().checked_sub(1);
        let any = pick(&mut self.dice, self.streams.len());
        match (self.dice.roll(284), any, newest) {
            (0..=39, _, Some(at)) | (120..=139, Some(at), _) => self.deliver_to_agent(at),
            (40..=74, _, Some(at)) => self.agent_sends(at),
            (80..=119, _, Some(at)) | (140..=154, Some(at), _) => self.deliver_to_master(at),
            (155..=174, ..) => {
                let ends = self.dice.roll(2) == 0;
                if let Some(command) = self.command.as_mut().filter(|command| command.ending.is_none()) {
                    command.printed = (command.printed + 3).min(LENGTH);
                    if command.printed == LENGTH && ends {
                        command.ending = Some(Ending::Exited(STATUS));
                    }
                }
            }
            (175..=189, ..) => self.sync(),
            (190..=204, ..) => self.persist_one(),
            (205..=212, ..) => self.clocks_move(),
            (213..=220, ..) => self.signal_moves(),
            (221..=226, Some(at), _) => self.cut(at),
            (227..=229, ..) => self.crash_master(),
            (230..=232, ..) => self.restart_agent(),
            (233, ..) => self.reboot_agent(),
            (234, ..) if self.dice.roll(2) == 0 => self.wipe_agent(),
            (235, ..) => self.restore_master(),
            (236..=238, ..) => self.frozen = !self.frozen,
            (239..=241, ..) => self.silent = !self.silent,
            (242..=243, ..) => {
                let (job, tasks, by) = (JobReference::Id(task().job), [].into(), "ana".to_owned());
                self.step(Input::Cancel { job, tasks, by, grace_ms: None, reply: ReplyTo::new(Ticket(7)) });
            }
            (244..=247, ..) => self.session_ends(),
            (270..=271, ..) => {
                let (job, by) = (JobReference::Id(task().job), "ana".to_owned());
                self.step(Input::StopJob { job, by, reply: ReplyTo::new(Ticket(8)) });
            }
            (272, ..) => {
                let (choice, by) = (Box::new(choice()), "ana".to_owned());
                let reason = (self.dice.roll(3) > 0).then(|| "disk swap".to_owned());
                self.was_drained |= reason.is_some();
                self.is_drained = false;
                // The answer to an order to resume says nothing about drains.
                self.drain_reply += if reason.is_some() { 1 } else { 2 };
                let reply = ReplyTo::new(Ticket(self.drain_reply - u64::from(reason.is_none())));
                self.step(Input::Drain { choice, reason, by, reply });
            }
            (273, ..) if self.dice.roll(2) == 0 => {
                self.is_deleted = true;
                let (name, by) = ("a".parse().unwrap(), "ana".to_owned());
                self.step(Input::Delete { name, by, reply: ReplyTo::new(Ticket(DELETING)) });
            }
            (274..=275, ..) => self.delay_writes(),
            (276..=283, ..) => self.start_ends(),
            (248..=252, ..) => {
                let long = [3_000, 12_000, 40_000, 90_000][pick(&mut self.dice, 4).unwrap()];
                self.advance(long);
            }
            _ => {
                let short = self.dice.roll(500);
                self.advance(short);
            }
        }
    }

    /// Delivers everything from now on. Reports whether both sides come to rest.
    fn settle(&mut self) -> bool {
        (self.frozen, self.silent) = (false, false);
        if self.agent.directory != self.directory {
            self.restart_agent();
        }
        for round in 0..3_000 {
            if let Some(command) = self.command.as_mut().filter(|command| command.ending.is_none()) {
                (command.printed, command.ending) = (LENGTH, Some(Ending::Exited(STATUS)));
            }
            self.persist_all();
            self.sync();
            for _ in 0..3 {
                self.clocks_move();
                self.signal_moves();
            }
            self.start_ends();
            for at in 0..self.streams.len() {
                self.deliver_to_agent(at);
                self.agent_sends(at);
                self.deliver_to_master(at);
            }
            self.advance(200);
            let is_live = self.disk.job.as_ref().is_some_and(|stored| stored.job.ended_ms.is_none());
            let is_kept = self.spool && self.finished.is_none() && !self.is_deleted;
            if !is_live && !is_kept && self.writes.is_empty() {
                return true;
            }
            let is_broken = |stream: &Stream| !stream.agent_alive || !stream.master_alive;
            if round % 50 == 49 && self.streams.last().is_none_or(is_broken) {
                self.restart_agent();
            }
        }
        false
    }

    /// Reports whether `now` may follow an outcome that was `reported`. A reported outcome is final, with one
    /// exception: an outcome of the agent is reported before the master has stored it. It becomes lost if
    /// that master dies and the agent loses its memory before it reports again.
    fn may_report(&self, reported: &Outcome, now: &Outcome) -> bool {
        let is_lost = matches!(now.ending, Ending::Lost(_));
        reported == now || (is_lost && reported.is_agents_own() && (self.was_forgotten || self.is_deleted))
    }

    /// Checks that the stored outcome is the reported one, and true.
    fn check(&self) {
        let Some(stored) = &self.disk.job else {
            return assert!(self.was_restored, "only a restored store may lack the job");
        };
        let TaskState::Ended(outcome) = &stored.tasks[0].task.state else { panic!("no outcome") };
        assert_eq!(stored.options.environment, [], "the command's variables are kept after its end");
        if let Some(reported) = &self.reported {
            assert!(self.may_report(reported, outcome), "reported {reported}, and stored {outcome}");
        }
        let whole: Vec<u8> = (0..LENGTH).map(byte).collect();
        match &outcome.ending {
            Ending::Exited(code) => {
                assert_eq!((*code, self.starts), (STATUS, 1));
                // Output that the master had not synced is lost with the agent's memory, and output that is
                // not in the backup with the agent's copy or its key. The log shows that as a gap.
                let has_lost = self.was_forgotten || self.was_restored || self.is_deleted;
                assert!(self.log == whole || has_lost, "every byte, once: {:?}", self.log);
            }
            Ending::Cancelled { proof: Some(_), .. } => assert_eq!(self.starts, 1),
            Ending::Cancelled { proof: None, .. } | Ending::Undeliverable(_) | Ending::Skipped(_) => {
                // A restored store has lost its records. The true outcome comes later then, and is shown
                // beside this one.
                assert!(self.starts == 0 || self.was_restored, "it never started: {outcome}");
            }
            Ending::Lost(_) => {
                assert!(self.was_forgotten || self.is_deleted, "the agent's memory was intact: {outcome}");
            }
            Ending::Refused(_) => {
                let may_have_run = self.was_restored && self.was_drained;
                assert!(self.was_restored || self.was_drained, "{outcome}");
                assert!(self.starts == 0 || may_have_run, "it never started: {outcome}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(self.log, whole[..self.log.len()], "no byte is doubled");
    }
}

#[test]
fn started_at_most_once_in_time_and_every_outcome_true_and_final() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (simulations, seed) = (number("SLOTH_SIMULATIONS", SIMULATIONS), number("SLOTH_SEED", 1));
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let simulate = |number: u64, is_traced: bool| {
        let mut world = Simulation::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number, is_traced);
        for _ in 0..world.dice.roll(300) {
            world.act();
        }
        assert!(world.settle(), "it comes to an end");
        world.check();
    };
    if let Ok(history) = std::env::var("SLOTH_HISTORY") {
        return simulate(history.parse().unwrap(), true);
    }
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in (thread..simulations).step_by(usize::try_from(threads).unwrap()) {
                    let result = std::panic::catch_unwind(|| simulate(number, false));
                    assert!(result.is_ok(), "history {number} of seed {seed}");
                }
            });
        }
    });
    println!(
        "{simulations} histories of seed {seed}: started at most once and in time, every outcome true and final"
    );
}
