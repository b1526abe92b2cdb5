//! The core's laws, step by step, without a disk or a network.

mod at_most_once;
mod ending;
mod enrolling;
mod gates;
mod operators;
mod recording;
mod returning;
mod selecting;
mod watching;

use std::time::Duration;

use super::*;
use crate::{
    domain::{
        agent::{AgentState, LinkPreference},
        command::Command,
        ids::RunReference,
        input::StandardInput,
        outcome::{Ending, Outcome},
        run::{Run, RunOptions, TaskState},
        target::Target,
    },
    master::core::{
        messages::{AttachOrder, EnrollAsked, RunAsked, SessionRefusal},
        stored::Write,
    },
    trust::fingerprint::Fingerprint,
};

/// A core, its clock, and the disk that answers at once.
struct World {
    core: Core,
    now: Duration,
    next: u64,
    /// Everything that came out, but writes.
    out: Vec<Effect>,
    /// Writes fail, or are kept until there is room.
    disk_full: bool,
    kept: Vec<WriteToken>,
    /// What is written is there already.
    in_store: bool,
    /// What was written together.
    written: Vec<Vec<Write>>,
}

impl World {
    fn new() -> Self {
        let now = Now { monotonic: Duration::ZERO, unix_ms: 1_000_000 };
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
        Now { monotonic: self.now, unix_ms: 1_000_000 + ms }
    }

    fn put(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.core.step(input, self.now()) {
                if let Effect::Persist(_, writes, _) = &effect {
                    self.written.push(writes.clone());
                }
                match effect {
                    Effect::Persist(token, _, keeping) if self.disk_full && keeping.is_kept() => {
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

    /// A world with one agent that is connected, in session 1.
    fn with_agent(name: &str, life: &str) -> Self {
        let mut world = Self::new();
        world.agent(name);
        world.connect(1, name, life);
        world
    }

    /// The disk takes writes again, those that were kept first.
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

    fn ask(&mut self, input: impl FnOnce(ReplyTo) -> Input) -> Reply {
        self.next += 1;
        let to = self.next;
        self.put(input(to));
        let at = self.out.iter().position(|effect| matches!(effect, Effect::Reply(who, _) if *who == to));
        match self.out.remove(at.expect("an answer")) {
            Effect::Reply(_, reply) => *reply,
            _ => unreachable!(),
        }
    }

    fn enroll(&mut self, name: &str, key: &str, token: Option<&str>) -> Reply {
        let asked = EnrollAsked {
            name: name.parse().unwrap(),
            fingerprint: Fingerprint::of(key.as_bytes()),
            source: Some([10, 0, 0, 1].into()),
            trusted_locally: false,
            token: token.map(str::to_owned),
            version: "1".into(),
        };
        self.ask(|to| Input::Enroll(asked, to))
    }

    fn agent(&mut self, name: &str) {
        let digits = Fingerprint::of(name.as_bytes()).to_string();
        self.enroll(name, name, None);
        let name = name.parse().unwrap();
        let by = "ana".to_owned();
        let reply = self.ask(|reply| Input::Approve { name, digits, by, reply });
        assert!(matches!(reply, Reply::Approved { .. }));
    }

    fn newcomer(session: SessionId, name: &str, life: &str) -> Box<Newcomer> {
        Box::new(Newcomer {
            session,
            name: name.parse().unwrap(),
            fingerprint: Fingerprint::of(name.as_bytes()),
            incarnation: Incarnation::new("dir", life),
            labels: crate::domain::name::Labels::new(),
            version: "1".into(),
            address: format!("10.0.0.{session}:1"),
            link: LinkPreference::Auto,
            direct_address: None,
            seen: (0, 0),
            trust: String::new(),
        })
    }

    fn connect(&mut self, session: SessionId, name: &str, life: &str) {
        let reply = self.ask(|to| Input::SessionOpened(Self::newcomer(session, name, life), to));
        assert!(matches!(reply, Reply::Welcome(..)), "{reply:?}");
    }

    fn run_with(&mut self, number: u128, target: &str, options: RunOptions) -> Reply {
        let asked = RunAsked {
            id: RunId::from_parts(1, number),
            operator: "ana".into(),
            selection: target.parse::<Target>().unwrap().into(),
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            options,
            shown: Vec::new(),
        };
        self.ask(|to| Input::StartRun(Box::new(asked), to))
    }

    fn run(&mut self, number: u128, target: &str) -> Run {
        match self.run_with(number, target, RunOptions::default()) {
            Reply::Live(run) => *run,
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
            Effect::Publish(run, task) if *run == id.run && task.index == id.index => Some(task),
            _ => None,
        });
        published.expect("a published task").state.clone()
    }

    fn agent_state(&mut self, name: &str) -> Option<AgentState> {
        let Reply::Agents(agents) = self.ask(|to| Input::ListAgents(None, to)) else { panic!() };
        agents.into_iter().find(|agent| agent.name.as_str() == name).map(|agent| agent.state)
    }
}

fn task(number: u128, index: u32) -> TaskId {
    TaskId { run: RunId::from_parts(1, number), index }
}

#[test]
fn a_run_goes_from_wish_to_outcome() {
    let mut world = World::with_agent("web-1", "boot");
    let run = world.run(1, "web-1");
    assert_eq!((run.number, run.plain_name), (1, true));
    let order = world.attaches().pop().unwrap();
    assert!(order.start.is_some());
    let id = task(1, 0);
    world.put(Input::TaskStarted { id, attempt: order.attempt, elapsed_ms: 0 });
    assert_eq!(world.state(id), TaskState::Running);
    let outcome = Outcome::from(Ending::Exited(3));
    world.put(Input::TaskEnded { id, outcome: outcome.clone(), end_offset: 9, duration_ns: 1 });
    assert_eq!(world.state(id), TaskState::Ended(outcome));
    for expected in [Effect::OutcomeStored(id), Effect::RunStored(id.run)] {
        assert!(world.out.contains(&expected), "{expected:?}");
    }
    assert!(world.core.runs.is_empty(), "nothing of an ended run stays in memory");
}

#[test]
fn the_same_wish_twice_is_one_run() {
    let mut world = World::with_agent("web-1", "boot");
    let first = world.run(7, "web-1");
    let again = world.run(7, "web-1");
    assert_eq!(first.number, again.number);
    assert_eq!(world.attaches().len(), 1);
}

#[test]
fn the_same_wish_after_its_run_has_ended_starts_nothing() {
    let mut world = World::with_agent("web-1", "boot");
    world.in_store = true;
    assert_eq!(world.run_with(7, "web-1", RunOptions::default()), Reply::NotLive);
    assert!(world.attaches().is_empty());
    world.in_store = false;
    world.run(8, "web-1");
}

#[test]
fn only_the_recorded_life_may_start_a_task_and_only_in_time() {
    let mut world = World::with_agent("web-1", "boot1");
    world.run(1, "web-1");
    assert!(world.attaches().pop().unwrap().start.is_some());
    // The connection breaks before anybody knows whether it started.
    world.put(Input::SessionClosed(1));
    world.connect(2, "web-1", "boot2");
    let again = world.attaches().pop().unwrap();
    assert_eq!(again.start, None, "another life must not start it");
    let incarnation = Incarnation::new("dir", "boot2");
    world.put(Input::TaskUnknown { id: task(1, 0), attempt: again.attempt, incarnation });
    let reason = "the machine was rebooted".to_owned();
    assert_eq!(world.state(task(1, 0)), TaskState::Ended(Ending::Lost(reason).into()));

    world.run(2, "web-1");
    let _ = world.attaches();
    world.put(Input::SessionClosed(2));
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
fn an_offline_agent_is_waited_for_and_then_not() {
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionClosed(1));
    world.pass(30);
    let run = world.run(1, "web-1");
    assert_eq!(run.tasks[0].state, TaskState::Queued);
    world.pass(31);
    assert!(matches!(world.state(task(1, 0)).outcome().unwrap().ending, Ending::Undeliverable(_)));
    let run = world.run(2, "web-1");
    let outcome = run.tasks[0].state.outcome().expect("at once");
    assert!(matches!(outcome.ending, Ending::Undeliverable(_)));

    let options = RunOptions { start_within_ms: Some(3_600_000), ..RunOptions::default() };
    world.run_with(3, "web-1", options);
    world.pass(3_000);
    world.connect(2, "web-1", "boot2");
    let order = world.attaches().pop().expect("it is sent when it comes back");
    assert!(order.start.is_some());
    assert_eq!(order.incarnation, Incarnation::new("dir", "boot2"));
}

#[test]
fn a_cancel_reaches_a_task_whenever_its_agent_returns() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let attempt = world.attaches().pop().unwrap().attempt;
    world.put(Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 0 });
    world.put(Input::SessionClosed(1));
    let (run, tasks, by) = (RunReference::Number(1), Vec::new(), "ana".to_owned());
    let reply = world.ask(|reply| Input::Cancel { run, tasks, by, reply });
    assert_eq!(reply, Reply::Cancelled { told: 0, stored: 1, number: 1 });
    world.connect(2, "web-1", "boot");
    let attempt = world.attaches().pop().unwrap().attempt;
    world.put(Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 0 });
    let signalled = |effect: &Effect| matches!(effect, Effect::Signal { session: 2, .. });
    assert!(world.out.iter().any(signalled));
}

#[test]
fn a_lost_attach_is_tried_again_and_a_higher_one_is_outdone() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let first = world.attaches().pop().unwrap();
    world.put(Input::AttachLost {
        id: task(1, 0),
        session: 1,
        attempt: first.attempt,
        superseded_by: Some(41),
    });
    let second = world.attaches().pop().unwrap();
    assert_eq!(second.attempt, 42);
    assert!(second.delay > Duration::ZERO);
    world.put(Input::AttachLost { id: task(1, 0), session: 1, attempt: first.attempt, superseded_by: None });
    assert!(world.attaches().is_empty(), "an old Attach's end is no news");
}

#[test]
fn an_attach_that_is_lost_again_and_again_is_tried_ever_later_but_not_for_ever() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let mut delays = Vec::new();
    for _ in 0..20 {
        let AttachOrder { id, attempt, delay, .. } = world.attaches().pop().unwrap();
        delays.push(delay);
        world.put(Input::AttachLost { id, session: 1, attempt, superseded_by: None });
    }
    let ms: Vec<u128> = delays.iter().map(Duration::as_millis).collect();
    assert_eq!(ms[..5], [0, 100, 200, 400, 800]);
    assert!(ms.iter().all(|delay| *delay <= 5_000), "{ms:?}");
}

#[test]
fn a_command_that_is_fed_runs_on_one_agent_that_was_named() {
    let mut world = World::two_agents();
    let options = || RunOptions { input: StandardInput::Stream, ..RunOptions::default() };
    for (number, target) in [(1, "web-[1-2]"), (2, "@all!web-2")] {
        let reply = world.run_with(number, target, options());
        assert!(
            matches!(&reply, Reply::Refused(text) if text.contains("more than one plain name")),
            "{reply:?}"
        );
    }
    assert!(matches!(world.run_with(3, "web-1", options()), Reply::Live(_)));
}

#[test]
fn a_run_has_only_so_many_tasks() {
    let mut world = World::with_agent("a", "boot");
    let stored = world.core.agents.values().next().unwrap().stored.clone();
    for number in 1..=crate::domain::run::MOST_TASKS {
        let name = format!("b-{number}").parse().unwrap();
        world.core.agents.insert(AgentRow::new(StoredAgent { name, ..stored.clone() }));
    }
    let reply = world.run_with(1, "@all", RunOptions::default());
    assert!(matches!(&reply, Reply::Refused(text) if text.contains("100001 agents")), "{reply:?}");
}

#[test]
fn agents_become_late_and_then_offline() {
    let mut world = World::new();
    world.agent("web-1");
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Offline));
    world.connect(1, "web-1", "boot");
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Active));
    world.pass(13);
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Late));
    world.put(Input::Heard(1));
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Active));
    world.pass(30);
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Offline));
    assert!(world.out.contains(&Effect::CloseSession(1)));
}

#[test]
fn a_clone_is_refused_while_the_first_answers_and_replaces_it_when_it_is_silent() {
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionOpened(World::newcomer(2, "web-1", "boot"), 901));
    assert!(world.out.contains(&Effect::Ping(1)));
    world.put(Input::Heard(1));
    let refused = |effect: &Effect| {
        matches!(effect, Effect::Reply(901, reply)
            if matches!(&**reply, Reply::SessionRefused(SessionRefusal::Duplicate, text)
                if text.contains("10.0.0.1") && text.contains("10.0.0.2")))
    };
    assert!(world.out.iter().any(refused), "both addresses are named");

    world.put(Input::SessionOpened(World::newcomer(3, "web-1", "boot"), 902));
    world.pass(1);
    assert!(!world.out.contains(&Effect::CloseSession(1)), "it has two seconds to answer");
    world.pass(1);
    assert!(world.out.contains(&Effect::CloseSession(1)));
    let welcome = |effect: &Effect| matches!(effect, Effect::Reply(902, reply) if matches!(**reply, Reply::Welcome(..)));
    assert!(world.out.iter().any(welcome));
}

#[test]
fn a_restored_master_only_resumes() {
    let mut world = World::new();
    world.agent("web-1");
    let mut newcomer = World::newcomer(1, "web-1", "boot");
    newcomer.seen = (1, 1_000_000);
    world.ask(|to| Input::SessionOpened(newcomer, to));
    let reply = world.run_with(1, "web-1", RunOptions::default());
    assert!(matches!(reply, Reply::Refused(reason) if reason.contains("--restored")));
}

#[test]
fn deleting_an_agent_loses_what_runs_there_and_says_so() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let attempt = world.attaches().pop().unwrap().attempt;
    world.put(Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 0 });
    let (name, by) = ("web-1".parse().unwrap(), "ana".to_owned());
    let reply = world.ask(|reply| Input::Delete { name, by, reply });
    assert_eq!(reply, Reply::Count(1));
    assert!(matches!(world.state(task(1, 0)).outcome().unwrap().ending, Ending::Lost(_)));
    let reply = world.ask(|to| Input::SessionOpened(World::newcomer(2, "web-1", "boot"), to));
    assert!(matches!(reply, Reply::SessionRefused(SessionRefusal::UnknownKey, _)));
}

#[test]
fn an_operator_who_cancels_is_told_how_many_were_told_and_how_many_will_be() {
    let mut world = World::with_agent("web-1", "boot");
    for name in ["web-2", "web-3", "web-4"] {
        world.agent(name);
    }
    world.connect(2, "web-2", "boot");
    world.connect(4, "web-4", "boot");
    let options =
        RunOptions { start_within_ms: Some(60_000), kill_grace_ms: Some(700), ..RunOptions::default() };
    assert!(matches!(world.run_with(1, "web-[1-4]", options), Reply::Live(_)));
    world.put(Input::SessionClosed(2));
    world.attaches();
    // One is there, one has left, and one never came: that one ends at once.
    let cancel = |tasks: Vec<u32>| {
        let (run, by) = (RunReference::Last, "ana".to_owned());
        Input::Cancel { run, tasks, by, reply: 900 }
    };
    world.put(cancel(vec![0, 1, 2]));
    let signals: Vec<_> = world.out.iter().filter(|effect| matches!(effect, Effect::Signal { .. })).collect();
    let to = |session| Effect::Signal { session, id: task(1, 0), by: "ana".into(), grace_ms: 700 };
    assert_eq!(signals, [&to(1)]);
    assert_eq!(world.state(task(1, 2)).word(), "cancelled");
    world.pass(10);
    let answer = Effect::Reply(900, Box::new(Reply::Cancelled { told: 2, stored: 1, number: 1 }));
    assert!(world.out.contains(&answer), "{:?}", world.out);
    assert_eq!(world.state(task(1, 3)), TaskState::Dispatched, "nobody asked for that one");
    assert!(matches!(
        world.ask(|reply| Input::Cancel {
            run: RunReference::Number(2),
            tasks: vec![],
            by: "ana".into(),
            reply
        }),
        Reply::NotFound(_)
    ));
}

#[test]
fn what_a_task_waits_for_is_told_once_and_until_it_ends() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let order = world.attaches().pop().unwrap();
    let told = |world: &mut World, text: &str| {
        world.out.clear();
        world.put(Input::TaskWaits(order.id, text.into()));
        world.out.iter().any(|effect| matches!(effect, Effect::Publish(_, task) if task.waiting == text))
    };
    assert!(told(&mut world, "the disk is full"));
    assert!(!told(&mut world, "the disk is full"), "that was told");
    assert!(told(&mut world, ""));
    world.end(&order, 0);
    assert!(!told(&mut world, "too late"));
}

#[test]
fn an_agent_that_is_stopped_says_how_many_tasks_run_there() {
    let mut world = World::with_agent("web-1", "boot");
    let stop = |world: &mut World| {
        let (name, by) = ("web-1".parse().unwrap(), "ana".to_owned());
        world.ask(|reply| Input::Stop { name, grace_ms: 1, by, reply })
    };
    assert_eq!(stop(&mut world), Reply::Count(0));
    (1..=3).for_each(|number| drop(world.run(number, "web-1")));
    assert_eq!(stop(&mut world), Reply::Count(3));
}

#[test]
fn a_task_whose_agent_is_not_there_says_since_when_or_that_it_never_was() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    world.put(Input::SessionClosed(1));
    world.pass(50);
    let options = || RunOptions { start_within_ms: Some(0), ..RunOptions::default() };
    for (number, name, text) in [
        (1, "web-1", "offline for 50.0 s (last seen at 10.0.0.1:1)"),
        (2, "web-2", "it was let in, but never connected"),
    ] {
        let Reply::Live(run) = world.run_with(number, name, options()) else { panic!() };
        let outcome = run.tasks[0].state.outcome().unwrap().to_string();
        assert!(outcome.contains(text), "{outcome}");
    }
}

#[test]
fn a_word_of_an_earlier_attempt_changes_nothing() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let order = world.attaches().pop().unwrap();
    let (id, stale) = (order.id, order.attempt - 1);
    let life = Incarnation::new("dir", "boot");
    world.put(Input::TaskStarted { id, attempt: stale, elapsed_ms: 0 });
    world.put(Input::TaskUnknown { id, attempt: stale, incarnation: life });
    assert_eq!(world.state(id), TaskState::Dispatched);
    world.put(Input::AttachLost { id, session: 1, attempt: stale, superseded_by: None });
    assert!(world.attaches().is_empty());
}

#[test]
fn a_task_that_ended_at_once_tells_when_it_started_and_each_later_word_stands_beside_its_outcome() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    world.connect(2, "web-2", "boot");
    world.run(1, "web-[1-2]");
    world.attaches();
    let end = |code: u8| Input::TaskEnded {
        id: task(1, 0),
        outcome: Ending::Exited(code).into(),
        end_offset: 0,
        duration_ns: 2_000_000_000,
    };
    world.put(end(3));
    let ended = world.now().unix_ms;
    let Reply::Live(run) = world.ask(|reply| Input::FindRun(RunReference::Last, reply)) else { panic!() };
    assert_eq!(run.tasks[0].started_ms, Some(ended - 2_000), "two seconds before");
    assert_eq!((run.succeeded, run.unfinished), (0, 1));
    let later = |world: &World| {
        world.written.iter().flatten().filter(|write| matches!(write, Write::PutLater(..))).count()
    };
    world.put(end(3));
    assert_eq!(later(&world), 0, "that is known");
    world.put(end(4));
    assert_eq!(later(&world), 1);
    assert_eq!(world.state(task(1, 0)), TaskState::Ended(Ending::Exited(3).into()), "it is final");
}

#[test]
fn an_agent_is_written_down_when_something_of_it_is_new() {
    // How often it is written when it comes back with a change.
    let count = |change: &dyn Fn(&mut Newcomer)| {
        let mut world = World::with_agent("web-1", "boot");
        world.put(Input::SessionClosed(1));
        let mut newcomer = World::newcomer(1, "web-1", "boot");
        newcomer.session = 2;
        change(&mut newcomer);
        let from = world.written.len();
        world.ask(|to| Input::SessionOpened(newcomer, to));
        world.written[from..].iter().flatten().filter(|write| matches!(write, Write::PutAgent(_))).count()
    };
    assert_eq!(count(&|_| {}), 0, "nothing is new");
    assert_eq!(count(&|newcomer| newcomer.version = "2".into()), 1);
    assert_eq!(count(&|newcomer| newcomer.address = "10.9.9.9:1".into()), 1);
    assert_eq!(count(&|newcomer| newcomer.trust = "token".into()), 1);
    assert_eq!(count(&|newcomer| newcomer.seen = (1, 900)), 1, "it is ahead of the store");
    let label = |text: &str| text.to_owned().try_into().unwrap();
    assert_eq!(count(&|newcomer| drop(newcomer.labels.insert(label("role"), label("db")))), 1);
}

#[test]
fn an_agent_is_shown_with_a_hint_of_what_is_wrong() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    let hint = |world: &mut World, name: &str| {
        let Reply::Agents(agents) = world.ask(|to| Input::ListAgents(None, to)) else { panic!() };
        agents.into_iter().find(|agent| agent.name.as_str() == name).unwrap().hint
    };
    assert_eq!(hint(&mut world, "web-1"), "");
    assert_eq!(hint(&mut world, "web-2"), "let in, but never connected yet");
    let selection = || Box::new("web-1".parse::<Target>().unwrap().into());
    let (reason, by) = (Some("disk swap".to_owned()), "ana".to_owned());
    world.ask(|reply| Input::Drain { selection: selection(), now: true, reason, by, reply });
    assert_eq!(hint(&mut world, "web-1"), "draining, by ana: disk swap");
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Draining));
    world.put(Input::SessionClosed(1));
    let gone = "not connected; is it running, and does it reach this master?; draining, by ana: disk swap";
    assert_eq!(hint(&mut world, "web-1"), gone);

    // A master that has just started has not heard of anybody yet.
    let agents = world.core.agents.values().map(|row| row.stored.clone()).collect();
    let now = Now { monotonic: Duration::ZERO, unix_ms: 2_000_000 };
    world.core = Core::new(Policy::default(), Remembered { agents, epoch: 1, ..Remembered::default() }, now);
    world.now = Duration::from_secs(59);
    assert!(hint(&mut world, "web-1").starts_with("not back yet since the master's start"));
    assert_eq!(hint(&mut world, "web-2"), "let in, but never connected yet");
    world.now = Duration::from_mins(1);
    assert!(hint(&mut world, "web-1").starts_with("not connected"));
}

#[test]
fn a_second_connection_that_leaves_before_it_is_answered_is_the_only_one_that_is_told() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    world.connect(2, "web-2", "boot");
    for (session, name, reply) in [(11, "web-1", 901), (12, "web-2", 902)] {
        world.put(Input::SessionOpened(World::newcomer(session, name, "boot"), reply));
    }
    world.put(Input::SessionClosed(11));
    let answered = |world: &World, to| {
        world.out.iter().any(|effect| matches!(effect, Effect::Reply(who, _) if *who == to))
    };
    assert!(answered(&world, 901) && !answered(&world, 902));
}
