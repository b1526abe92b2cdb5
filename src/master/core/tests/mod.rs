//! The rules of the core, step by step, without a disk or a network.

mod accepting;
mod agents;
mod at_most_once;
mod ending;
mod enrolling;
mod gates;
mod operators;
mod orders;
mod recording;
mod restarting;
mod returning;
mod selecting;
mod starting;
mod watching;

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    domain::{
        agent::{AgentState, AgentView, Facts, LinkPreference},
        code::KeyMark,
        command::Command,
        control::{Approved, Cancelled, Drained, Promoted, StoppedJob},
        fingerprint::Fingerprint,
        ids::{Incarnation, JobId, JobReference, TaskId},
        job::{Job, JobOptions, TaskState},
        name::AgentName,
        offset::OutputOffset,
        outcome::{Ending, Outcome},
        proposal::Proposal,
        revision::Revision,
        target::Target,
        time::UnixMs,
    },
    master::core::{
        messages::{
            AcceptedProposals, Answer, AttachOrder, Choice, Denied, Effect, EnrollAnswer, EnrollAsked,
            HeldBy, Input, InvitedOperator, JobAsked, JobDenied, JobStart, LabelledAgents, NewToken,
            Newcomer, Now, OperatorIdentity, Reply, ReplyTo, SessionAccepted, SessionDenied, SessionId,
            SessionRefusal, Ticket, WriteId,
        },
        stored::{StoredAgent, StoredJob, Write},
    },
};

/// A core, its clock, and a disk that completes writes at once.
struct World {
    core: Core,
    now: Duration,
    next: u64,
    /// All effects except writes.
    out: Vec<Effect>,
    /// Whether the disk is full: writes fail, or are kept until there is space.
    disk_full: bool,
    kept: Vec<WriteId>,
    /// Whether writes conflict with rows that are stored already.
    in_store: bool,
    /// The writes of each transaction.
    written: Vec<Vec<Write>>,
}

impl World {
    fn new() -> Self {
        let now = Now { monotonic: Duration::ZERO, unix_ms: UnixMs(1_000_000) };
        let core = Core::new(Policy::default(), Remembered { epoch: 1, ..Remembered::default() }, now);
        Self {
            core,
            now: Duration::from_secs(100),
            next: 0,
            out: Vec::new(),
            disk_full: false,
            kept: Vec::new(),
            written: Vec::new(),
            in_store: false,
        }
    }

    fn now(&self) -> Now {
        let ms = u64::try_from(self.now.as_millis()).unwrap();
        Now { monotonic: self.now, unix_ms: UnixMs(1_000_000 + ms) }
    }

    fn put(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.core.step(input, self.now()) {
                if let Effect::Persist(_, writes, _) = &effect {
                    self.written.push(writes.clone());
                }
                match effect {
                    Effect::Persist(token, _, durability) if self.disk_full && durability.is_retried() => {
                        self.kept.push(token);
                        inputs.push(Input::PersistDelayed(token, "disk full".into()));
                    }
                    Effect::Persist(token, ..) if self.disk_full => {
                        inputs.push(Input::PersistFailed(token, "disk full".into()));
                    }
                    Effect::Persist(token, ..) if self.in_store => inputs.push(Input::PersistConflict(token)),
                    Effect::Persist(token, ..) => {
                        let revision = self.core.revision + 1;
                        inputs.push(Input::Persisted(token, revision));
                    }
                    other => self.out.push(other),
                }
            }
        }
    }

    /// A world with one agent, which is connected in session 1.
    fn with_agent(name: &str, life: &str) -> Self {
        let mut world = Self::new();
        world.agent(name);
        world.connect(1, name, life);
        world
    }

    /// Makes the disk accept writes again; those that were kept succeed first.
    fn make_room(&mut self) {
        self.disk_full = false;
        for token in std::mem::take(&mut self.kept) {
            let revision = self.core.revision + 1;
            self.put(Input::Persisted(token, revision));
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.put(Input::Tick);
    }

    fn ask<A: Answer>(&mut self, input: impl FnOnce(ReplyTo<A>) -> Input) -> A {
        self.next += 1;
        let to = Ticket(self.next);
        self.put(input(ReplyTo::new(to)));
        self.answer_to(to).expect("an answer")
    }

    /// The answer that a caller has got, if it has; it is taken.
    fn answer_to<A: Answer>(&mut self, to: Ticket) -> Option<A> {
        let at = self.out.iter().position(|effect| matches!(effect, Effect::Reply(who, _) if *who == to))?;
        match self.out.remove(at) {
            Effect::Reply(_, reply) => A::try_from(*reply).ok(),
            _ => unreachable!(),
        }
    }

    /// A request to enroll from an unauthenticated peer.
    fn asked(name: &str, key: &str) -> EnrollAsked {
        EnrollAsked {
            name: name.parse().unwrap(),
            fingerprint: Fingerprint::of(key.as_bytes()),
            from: Some([10, 0, 0, 1].into()),
            trusted_locally: false,
            token: None,
            version: "1".into(),
            proof: None,
            proposal: Proposal::default(),
        }
    }

    fn enroll(&mut self, name: &str, key: &str, token: Option<&str>) -> EnrollAnswer {
        let asked = EnrollAsked { token: token.map(str::to_owned), ..Self::asked(name, key) };
        self.ask(|to| Input::Enroll(asked, to))
    }

    fn agent(&mut self, name: &str) {
        let digits = Fingerprint::of(name.as_bytes()).to_string();
        self.enroll(name, name, None);
        let name = name.parse().unwrap();
        let by = "ana".to_owned();
        let reply = self.ask(|reply| Input::Approve {
            name,
            mark: KeyMark::Digits(digits),
            shown: Vec::new(),
            by,
            reply,
        });
        assert!(matches!(reply, Ok(Approved { .. })));
    }

    fn newcomer(session: u64, name: &str, life: &str) -> Box<Newcomer> {
        Box::new(Newcomer {
            session: SessionId(session),
            name: name.parse().unwrap(),
            fingerprint: Fingerprint::of(name.as_bytes()),
            incarnation: Incarnation::new("dir", life),
            labels: crate::domain::name::Labels::new(),
            version: "1".into(),
            address: format!("10.0.0.{session}:1"),
            link: LinkPreference::Auto,
            direct_address: None,
            seen: Revision::default(),
            unproved: None,
            trust: String::new().into(),
        })
    }

    fn connect(&mut self, session: u64, name: &str, life: &str) {
        let reply = self.ask(|to| Input::SessionOpened(Self::newcomer(session, name, life), to));
        assert!(matches!(reply, Ok(SessionAccepted { .. })), "{reply:?}");
    }

    /// All agents, and the pending keys.
    fn listed(&mut self) -> Vec<AgentView> {
        let names = self.core.agents.keys().cloned().collect();
        let mut listed = self.ask(|reply| Input::ShowAgents(names, reply));
        let waiting = self.ask(Input::ShowWaiting);
        listed.extend(waiting);
        listed
    }

    /// Returns the agents of a target now.
    fn choose(&self, target: &str, at_once: bool) -> Choice {
        self.core.snapshot(self.now()).choose(&Arc::new(target.parse::<Target>().unwrap().into()), at_once)
    }

    fn run_with(&mut self, number: u128, target: &str, options: JobOptions) -> JobStart {
        let asked = JobAsked {
            id: JobId::from_parts(1, number),
            operator: "ana".into(),
            choice: self.choose(target, options.now),
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            options,
            shown: Vec::new(),
        };
        self.ask(|to| Input::StartJob(Box::new(asked), to))
    }

    fn run(&mut self, number: u128, target: &str) -> Job {
        match self.run_with(number, target, JobOptions::default()) {
            JobStart::Live(job) => *job,
            other => panic!("{other:?}"),
        }
    }

    fn attaches(&mut self) -> Vec<AttachOrder> {
        let mut orders = Vec::new();
        self.out.retain(|effect| match effect {
            Effect::Attach(order) => {
                orders.push((**order).clone());
                false
            }
            _ => true,
        });
        // Writes are answered in any order.
        orders.sort_by_key(|order| order.id);
        orders
    }

    /// The last published state of a task.
    fn state(&self, id: TaskId) -> TaskState {
        let published = self.out.iter().rev().find_map(|effect| match effect {
            Effect::Publish(job, task) if *job == id.job && task.index == id.index => Some(task),
            _ => None,
        });
        published.expect("a published task").state.clone()
    }

    fn agent_state(&mut self, name: &str) -> Option<AgentState> {
        self.listed().into_iter().find(|agent| agent.name.as_str() == name).map(|agent| agent.state)
    }
}

/// A caller with a number of the test's own.
fn caller<A>(number: u64) -> ReplyTo<A> {
    ReplyTo::new(Ticket(number))
}

fn task(number: u128, index: u32) -> TaskId {
    TaskId { job: JobId::from_parts(1, number), index }
}

#[test]
fn a_job_runs_from_its_request_to_its_outcome() {
    let mut world = World::with_agent("web-1", "boot");
    let job = world.run(1, "web-1");
    assert_eq!((job.number, job.plain_name), (1, true));
    let order = world.attaches().pop().unwrap();
    assert!(order.start.is_some());
    let id = task(1, 0);
    world.put(Input::TaskStarted { id, attempt: order.attempt, elapsed_ms: 0 });
    assert_eq!(world.state(id), TaskState::Running);
    let outcome = Outcome::from(Ending::Exited(3));
    world.put(Input::TaskEnded { id, outcome: outcome.clone(), end_offset: OutputOffset(9), duration_ns: 1 });
    assert_eq!(world.state(id), TaskState::Ended(outcome));
    for expected in [Effect::OutcomeStored(id), Effect::JobStored(id.job)] {
        assert!(world.out.contains(&expected), "{expected:?}");
    }
    assert!(world.core.jobs.is_empty(), "nothing of an ended job stays in memory");
}

#[test]
fn a_task_starts_only_on_the_recorded_incarnation_and_before_its_deadline() {
    let mut world = World::with_agent("web-1", "boot1");
    world.run(1, "web-1");
    assert!(world.attaches().pop().unwrap().start.is_some());
    // The connection breaks before the master knows whether the task started.
    world.put(Input::SessionClosed(SessionId(1)));
    world.connect(2, "web-1", "boot2");
    let again = world.attaches().pop().unwrap();
    assert_eq!(again.start, None, "another life must not start it");
    let incarnation = Incarnation::new("dir", "boot2");
    world.put(Input::TaskUnknown { id: task(1, 0), attempt: again.attempt, incarnation });
    let reason = "the machine was rebooted".to_owned();
    assert_eq!(world.state(task(1, 0)), TaskState::Ended(Ending::Lost(reason.into()).into()));

    world.run(2, "web-1");
    let _ = world.attaches();
    world.put(Input::SessionClosed(SessionId(2)));
    world.pass(61);
    assert_eq!(world.state(task(2, 0)), TaskState::Dispatched, "nobody knows, so nobody guesses");
    world.connect(3, "web-1", "boot2");
    let late = world.attaches().pop().unwrap();
    assert_eq!(late.start, None, "the start deadline has passed");
    let incarnation = Incarnation::new("dir", "boot2");
    world.put(Input::TaskUnknown { id: task(2, 0), attempt: late.attempt, incarnation });
    let state = world.state(task(2, 0));
    assert!(matches!(state.outcome().unwrap().ending, Ending::Undeliverable(_)), "{state:?}");
}

#[test]
fn a_cancel_is_sent_when_the_agent_reconnects() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let attempt = world.attaches().pop().unwrap().attempt;
    world.put(Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 0 });
    world.put(Input::SessionClosed(SessionId(1)));
    let (job, tasks, by) = (JobReference::Number(1), [].into(), "ana".to_owned());
    let reply = world.ask(|reply| Input::Cancel { job, tasks, by, grace_ms: None, reply });
    assert_eq!(reply, Ok(Cancelled { ordered: 0, stored: 1, number: 1, grace_ms: 5_000 }));
    world.connect(2, "web-1", "boot");
    let attempt = world.attaches().pop().unwrap().attempt;
    world.put(Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 0 });
    let signalled = |effect: &Effect| matches!(effect, Effect::Signal { session: SessionId(2), .. });
    assert!(world.out.iter().any(signalled));
}

#[test]
fn a_lost_attach_is_retried_with_a_higher_attempt() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let first = world.attaches().pop().unwrap();
    world.put(Input::AttachLost {
        id: task(1, 0),
        session: SessionId(1),
        attempt: first.attempt,
        superseded_by: Some(41),
    });
    let second = world.attaches().pop().unwrap();
    assert_eq!(second.attempt, 42);
    assert!(second.delay > Duration::ZERO);
    world.put(Input::AttachLost {
        id: task(1, 0),
        session: SessionId(1),
        attempt: first.attempt,
        superseded_by: None,
    });
    assert!(world.attaches().is_empty(), "an old Attach's end is no news");
}

#[test]
fn attach_retries_back_off_up_to_a_maximum_delay() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let mut delays = Vec::new();
    for _ in 0..20 {
        let AttachOrder { id, attempt, delay, .. } = world.attaches().pop().unwrap();
        delays.push(delay);
        world.put(Input::AttachLost { id, session: SessionId(1), attempt, superseded_by: None });
    }
    let ms: Vec<u128> = delays.iter().map(Duration::as_millis).collect();
    assert_eq!(ms[..5], [0, 100, 200, 400, 800]);
    assert!(ms.iter().all(|delay| *delay <= 5_000), "{ms:?}");
}

#[test]
fn a_cancel_reports_how_many_tasks_were_notified_and_how_many_will_be() {
    let mut world = World::with_agent("web-1", "boot");
    for name in ["web-2", "web-3", "web-4"] {
        world.agent(name);
    }
    world.connect(2, "web-2", "boot");
    world.connect(4, "web-4", "boot");
    let options =
        JobOptions { start_within_ms: Some(60_000), kill_grace_ms: Some(700), ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-[1-4]", options), JobStart::Live(_)));
    world.put(Input::SessionClosed(SessionId(2)));
    world.attaches();
    // One agent is connected, one has disconnected, and one never connected: its task ends at once.
    let cancel = |tasks: Vec<u32>| {
        let (job, by) = (JobReference::Last, "ana".to_owned());
        Input::Cancel { job, tasks: tasks.into_iter().collect(), by, grace_ms: None, reply: caller(900) }
    };
    world.put(cancel(vec![0, 1, 2]));
    let signals: Vec<_> = world.out.iter().filter(|effect| matches!(effect, Effect::Signal { .. })).collect();
    let to = |session| Effect::Signal {
        session: SessionId(session),
        id: task(1, 0),
        by: "ana".into(),
        grace_ms: 700,
    };
    assert_eq!(signals, [&to(1)]);
    assert_eq!(world.state(task(1, 2)).word(), "cancelled");
    world.pass(10);
    let answer = Effect::Reply(
        Ticket(900),
        Box::new(Reply::Cancel(Ok(Cancelled { ordered: 2, stored: 1, number: 1, grace_ms: 700 }))),
    );
    assert!(world.out.contains(&answer), "{:?}", world.out);
    assert_eq!(world.state(task(1, 3)), TaskState::Dispatched, "nobody asked for that one");
    assert!(matches!(
        world.ask(|reply| Input::Cancel {
            job: JobReference::Number(2),
            tasks: [].into(),
            by: "ana".into(),
            grace_ms: None,
            reply
        }),
        Err(JobDenied::NotLive)
    ));
}

#[test]
fn the_reason_a_task_waits_is_published_once_and_until_it_ends() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let order = world.attaches().pop().unwrap();
    let mut told = |by: HeldBy, text: &str, shown: &str| {
        world.out.clear();
        world.put(Input::TaskWaits(order.id, by, text.into()));
        world.out.iter().any(|effect| matches!(effect, Effect::Publish(_, task) if task.waiting == shown))
    };
    assert!(told(HeldBy::Agent, "its disk is full", "its disk is full"));
    assert!(!told(HeldBy::Agent, "its disk is full", "its disk is full"), "that was told");
    // The agent may wait because the master waits, but not the reverse.
    assert!(told(HeldBy::Master, "the master's disk is full", "the master's disk is full"));
    assert!(!told(HeldBy::Agent, "", ""), "the master still waits");
    assert!(!told(HeldBy::Nobody, "over the cap", "over the cap"), "the master still waits");
    assert!(!told(HeldBy::Agent, "it is full again", "it is full again"), "the master still waits");
    assert!(told(HeldBy::Master, "", "it is full again"));
    assert!(told(HeldBy::Agent, "", "over the cap"));
    assert!(told(HeldBy::Nobody, "", ""));
    world.end(&order, 0);
    let mut told = |text: &str| {
        world.out.clear();
        world.put(Input::TaskWaits(order.id, HeldBy::Master, text.into()));
        world.out.iter().any(|effect| matches!(effect, Effect::Publish(..)))
    };
    assert!(!told("too late"));
}

#[test]
fn messages_of_an_earlier_attempt_are_ignored() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let order = world.attaches().pop().unwrap();
    let (id, stale) = (order.id, order.attempt - 1);
    let life = Incarnation::new("dir", "boot");
    world.put(Input::TaskStarted { id, attempt: stale, elapsed_ms: 0 });
    world.put(Input::TaskUnknown { id, attempt: stale, incarnation: life });
    assert_eq!(world.state(id), TaskState::Dispatched);
    world.put(Input::AttachLost { id, session: SessionId(1), attempt: stale, superseded_by: None });
    assert!(world.attaches().is_empty());
}

#[test]
fn an_outcome_implies_the_start_time_and_later_outcomes_are_recorded_beside_it() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    world.connect(2, "web-2", "boot");
    world.run(1, "web-[1-2]");
    world.attaches();
    let end = |code: u8| Input::TaskEnded {
        id: task(1, 0),
        outcome: Ending::Exited(code).into(),
        end_offset: OutputOffset::START,
        duration_ns: 2_000_000_000,
    };
    world.put(end(3));
    let ended = world.now().unix_ms;
    let Some(job) = world.ask(|reply| Input::FindJob(JobReference::Last, reply)) else { panic!() };
    assert_eq!(job.tasks[0].started_ms, Some(ended - Duration::from_secs(2)), "two seconds before");
    assert_eq!((job.succeeded, job.unfinished), (0, 1));
    let later = |world: &World| {
        world.written.iter().flatten().filter(|write| matches!(write, Write::PutLater(..))).count()
    };
    world.put(end(3));
    assert_eq!(later(&world), 0, "that is known");
    world.put(end(4));
    assert_eq!(later(&world), 1);
    assert_eq!(world.state(task(1, 0)), TaskState::Ended(Ending::Exited(3).into()), "it is final");
}
