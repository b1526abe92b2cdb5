//! Tests of the core with a model of the agent's disk.

mod histories;
mod starting;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{left_over::MAX_LEFT_OVER, state::WAIT_FOR_CLOCK_MS, *};
use crate::domain::{
    attach::StartPermission,
    command::TaskSpec,
    fingerprint::Fingerprint,
    ids::{Incarnation, JobId, TaskId},
    offset::OutputOffset,
    outcome::{Ending, TaskEnding},
    reply_to::{ReplyTo, Ticket},
    revision::SealedRevision,
    session::{Echo, SentAt},
};

const NOW: Boottime = 100_000;

fn id(index: u32) -> TaskId {
    TaskId { job: JobId::from_parts(1, 2), index }
}

fn life(boot: &str) -> Incarnation {
    Incarnation::new("dir", boot)
}

fn failed() -> StartEnd {
    StartEnd::Failed("no memory".to_owned())
}

fn ending() -> TaskEnding {
    TaskEnding { outcome: Ending::Exited(3).into(), end_offset: OutputOffset(7), duration_ns: 1 }
}

fn revision(epoch: u64, number: u64) -> SealedRevision {
    SealedRevision { revision: (epoch, number).into(), seal: None }
}

/// Returns an Attach with a permission that is valid for a second, in the incarnation that `boot` names.
fn attach(attempt: u64, may_start: bool, boot: &str) -> OpenedAttach {
    let permission = || StartPermission { spec: TaskSpec::example(), within: Duration::from_secs(1) };
    OpenedAttach {
        id: id(0),
        attempt,
        incarnation: life(boot),
        start: may_start.then(permission),
        sent: None,
        arrived: NOW,
        revision: SealedRevision::default(),
    }
}

/// The core, and the disk and the shims of its agent.
struct World {
    core: Core,
    now: Boottime,
    /// What the disk knows of each task. Tasks with `Nothing` are left out.
    disk: HashMap<TaskId, Knowledge>,
    disk_fails: bool,
    tickets: Ticket,
    decisions: HashMap<Ticket, Result<Decision, DiskError>>,
    replies: HashMap<Ticket, Reply>,
    /// The starts that have not ended.
    starting: VecDeque<TaskId>,
    starts: u32,
    /// The tasks whose Attach was notified that a later Attach takes its place, with the attempt of the later
    /// Attach.
    superseded: Vec<(TaskId, u64)>,
    saved: Option<(Option<Fingerprint>, SealedRevision)>,
    removing: Vec<TaskId>,
}

impl World {
    fn new() -> Self {
        Self {
            core: Core::new(life("boot"), (None, SealedRevision::default())),
            now: NOW,
            disk: HashMap::new(),
            disk_fails: false,
            tickets: Ticket::default(),
            decisions: HashMap::new(),
            replies: HashMap::new(),
            starting: VecDeque::new(),
            starts: 0,
            superseded: Vec::new(),
            saved: None,
            removing: Vec::new(),
        }
    }

    fn knowing(knowledge: Knowledge) -> Self {
        let mut world = Self::new();
        world.disk.insert(id(0), knowledge);
        world
    }

    fn error<T>(&self, value: T) -> Result<T, DiskError> {
        if self.disk_fails { Err(DiskError("full".into())) } else { Ok(value) }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.core.step(input, self.now) {
                self.perform(effect, &mut inputs);
            }
        }
    }

    fn perform(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::LookUp(id) => {
                let knowledge = self.disk.get(&id).cloned().unwrap_or(Knowledge::Nothing);
                inputs.push_back(Input::LookedUp(id, self.error(knowledge)));
            }
            Effect::Record(id, record) => {
                let result = self.error(());
                if result.is_ok() && !matches!(self.disk.get(&id), Some(Knowledge::Recorded(_))) {
                    self.disk.insert(id, Knowledge::Recorded(record));
                }
                inputs.push_back(Input::Recorded(id, result));
            }
            Effect::Start { id, start_until, .. } => {
                assert!(self.now <= start_until, "the permission has expired");
                assert!(!self.disk.contains_key(&id), "the disk knows the task: {:?}", self.disk.get(&id));
                assert!(!self.starting.contains(&id), "the task is being started");
                self.starts += 1;
                self.starting.push_back(id);
            }
            Effect::Supersede(id, by) => self.superseded.push((id, by)),
            Effect::Opened(_, ticket, decision) => {
                assert!(self.decisions.insert(ticket, decision).is_none(), "answered twice");
            }
            Effect::Reply(ticket, reply) => {
                assert!(self.replies.insert(ticket, reply).is_none(), "answered twice");
            }
            Effect::SaveSeen(of, seen) => self.saved = Some((of, seen)),
            Effect::RemoveDirectories(finished) => self.removing.extend(finished),
            Effect::Release(_) | Effect::CheckMemory | Effect::ReportIncarnation | Effect::ReportStopping => {
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.next();
        self.tickets
    }

    fn open(&mut self, attach: OpenedAttach) -> Ticket {
        let ticket = self.ticket();
        self.step(Input::Open(Box::new(attach), ReplyTo::new(ticket)));
        ticket
    }

    fn ask<A: TryFrom<Reply>>(&mut self, question: impl FnOnce(ReplyTo<A>) -> Input) -> Option<A> {
        let ticket = self.ticket();
        self.step(question(ReplyTo::new(ticket)));
        self.replies.remove(&ticket).and_then(|reply| A::try_from(reply).ok())
    }

    /// Opens an Attach, and returns the decision if there is one.
    fn decide(&mut self, attach: OpenedAttach) -> Option<Decision> {
        let ticket = self.open(attach);
        self.decisions.get(&ticket).cloned().map(Result::unwrap)
    }

    /// The oldest start has ended.
    fn end_start(&mut self, end: StartEnd) {
        let id = self.starting.pop_front().unwrap();
        if end == StartEnd::Started {
            self.disk.insert(id, Knowledge::Spooled);
        }
        self.step(Input::StartEnded(id, end));
    }
}

#[test]
fn a_task_is_started_once_and_only_with_a_valid_permission() {
    use Knowledge as K;
    let promised = || K::Recorded(FinalRecord::NeverStarted(life("older")));
    let other = Decision::OtherIncarnation { incarnation: life("boot"), reason: "the machine was rebooted" };
    let table = [
        (attach(1, true, "boot"), K::Nothing, None),
        (attach(1, true, "boot"), K::Spooled, Some(Decision::Resume)),
        (
            attach(1, true, "boot"),
            K::Recorded(FinalRecord::Ending(ending())),
            Some(Decision::Recall(ending())),
        ),
        (attach(1, true, "boot"), promised(), Some(Decision::NeverStarted(life("older")))),
        (attach(1, false, "boot"), K::Nothing, Some(Decision::NeverStarted(life("boot")))),
        (attach(1, true, "older"), K::Nothing, Some(other.clone())),
        (attach(1, false, "older"), K::Nothing, Some(other)),
        (attach(1, false, "older"), K::Spooled, Some(Decision::Resume)),
    ];
    for (attach, knowledge, decision) in table {
        let mut world = World::new();
        if knowledge != K::Nothing {
            world.disk.insert(id(0), knowledge.clone());
        }
        let text = format!("{attach:?} {knowledge:?}");
        assert_eq!(world.decide(attach), decision, "{text}");
        assert_eq!(world.starts, u32::from(decision.is_none()), "{text}");
    }
}

#[test]
fn an_expired_permission_starts_nothing_and_promises_nothing() {
    let mut world = World::new();
    world.now = NOW + 1_001;
    assert_eq!(world.decide(attach(1, true, "boot")), Some(Decision::Expired));
    assert!(world.disk.is_empty());
    let again = OpenedAttach { arrived: NOW + 500, ..attach(2, true, "boot") };
    assert_eq!(world.decide(again), None);
    assert_eq!(world.starts, 1);
    // The maximum applies even if the master grants a longer permission.
    let mut world = World::new();
    world.now = NOW + 60_000;
    let mut long = attach(1, true, "boot");
    long.start.as_mut().unwrap().within = Duration::from_hours(1);
    assert_eq!(world.decide(long), Some(Decision::Expired));
}

#[test]
fn the_higher_attempt_wins_and_a_late_lower_one_starts_nothing() {
    let mut world = World::knowing(Knowledge::Spooled);
    assert_eq!(world.decide(attach(2, false, "boot")), Some(Decision::Resume));
    for late in [1, 2] {
        assert_eq!(world.decide(attach(late, true, "boot")), Some(Decision::Superseded(2)));
    }
    assert_eq!(world.superseded, []);
    assert_eq!(world.decide(attach(3, false, "boot")), Some(Decision::Resume));
    assert_eq!(world.superseded, [(id(0), 3)]);
    // The end of an earlier Attach does not end the later one.
    world.step(Input::AttachEnded { id: id(0), attempt: 2 });
    world.decide(attach(4, false, "boot"));
    assert_eq!(world.superseded, [(id(0), 3), (id(0), 4)]);
    world.step(Input::AttachEnded { id: id(0), attempt: 4 });
    world.decide(attach(5, false, "boot"));
    assert_eq!(world.superseded.len(), 2, "an Attach that has ended is not notified");
}

#[test]
fn a_stopping_agent_resumes_but_starts_nothing() {
    let mut world = World::new();
    assert_eq!(world.ask(Input::Introduce).map(|introduction| introduction.is_stopping), Some(false));
    world.step(Input::Stop);
    assert_eq!(world.ask(Input::Introduce).map(|introduction| introduction.is_stopping), Some(true));
    assert!(matches!(world.decide(attach(1, true, "boot")), Some(Decision::Refuse(_))));
    world.disk.insert(id(0), Knowledge::Spooled);
    assert_eq!(world.decide(attach(2, true, "boot")), Some(Decision::Resume));
}

#[test]
fn on_the_masters_machine_only_administrators_start_tasks() {
    let by = |by_admin: bool, attempt| {
        let mut attach = attach(attempt, true, "boot");
        attach.start.as_mut().unwrap().spec.by_admin = by_admin;
        attach
    };
    let welcomed = |admins_only| Input::Welcomed {
        admins_only,
        revision: SealedRevision::default(),
        sent: SentAt { clock: 7, at_ms: 1 },
        echo: None,
    };
    for (admins_only, by_admin, may_start) in
        [(true, true, true), (true, false, false), (false, false, true), (false, true, true)]
    {
        let mut world = World::new();
        world.step(welcomed(true));
        world.step(welcomed(admins_only));
        let decision = world.decide(by(by_admin, 1));
        assert_eq!(world.starts == 1, may_start, "{admins_only} {by_admin}");
        assert_eq!(matches!(decision, Some(Decision::Refuse(_))), !may_start);
    }
    let mut world = World::knowing(Knowledge::Spooled);
    world.step(welcomed(true));
    assert_eq!(world.decide(by(false, 1)), Some(Decision::Resume), "it was started before");
}

#[test]
fn the_highest_revision_of_each_master_is_kept_and_written_after_the_answer() {
    let seen = |world: &mut World| world.ask(Input::Introduce).unwrap().seen;
    let mut world = World::new();
    let (first, second) = (Fingerprint::of(b"first"), Fingerprint::of(b"second"));
    world.step(Input::BelongTo(first));
    world.decide(OpenedAttach { revision: revision(0, 9), ..attach(1, false, "boot") });
    assert_eq!(world.saved, Some((Some(first), revision(0, 9))));
    world.decide(OpenedAttach { revision: revision(0, 3), ..attach(2, false, "boot") });
    assert_eq!(seen(&mut world), revision(0, 9));
    let ping = |revision| Input::Pinged {
        revision: Some(revision),
        sent: SentAt { clock: 7, at_ms: 1 },
        echo: None,
    };
    world.step(ping(revision(1, 1)));
    assert_eq!(seen(&mut world), revision(1, 1), "a new epoch is higher");
    let proved = SealedRevision { seal: Some([7; 32].into()), ..revision(1, 1) };
    world.step(ping(proved));
    world.step(ping(revision(1, 1)));
    assert_eq!(seen(&mut world), proved, "a proof that comes later is kept");
    assert_eq!(world.saved, Some((Some(first), proved)));
    world.step(Input::BelongTo(first));
    assert_eq!(seen(&mut world), proved);
    world.step(Input::BelongTo(second));
    assert_eq!(seen(&mut world), SealedRevision::default(), "it says nothing about another master");
}

#[test]
fn a_permission_waits_until_its_age_is_known_and_not_for_ever() {
    let sent = SentAt { clock: 7, at_ms: 1_000_000 };
    let mut world = World::new();
    let undated = OpenedAttach { sent: Some(sent), ..attach(1, true, "boot") };
    let opened = world.open(undated.clone());
    assert!(!world.decisions.contains_key(&opened));
    assert_eq!(world.core.due(), Some(NOW + WAIT_FOR_CLOCK_MS));
    world.now = NOW + WAIT_FOR_CLOCK_MS;
    world.step(Input::Tick);
    assert_eq!(world.decisions[&opened], Ok(Decision::Expired));
    assert_eq!((world.core.due(), world.starts), (None, 0));
    // The session brings the clock while the permission waits.
    let opened = world.open(OpenedAttach { attempt: 2, arrived: world.now, ..undated.clone() });
    let echo = Some(Echo { at_ms: world.now, age_ms: 0 });
    world.step(Input::Pinged { revision: None, sent, echo });
    assert_eq!((world.starts, world.starting.len()), (1, 1));
    world.end_start(StartEnd::Started);
    assert_eq!(world.decisions[&opened], Ok(Decision::Started));
    // A permission for another incarnation needs no clock.
    let mut world = World::new();
    let other = OpenedAttach { incarnation: life("older"), ..undated };
    assert!(matches!(world.decide(other), Some(Decision::OtherIncarnation { .. })));
}

#[test]
fn a_cancelled_task_is_never_started_and_one_that_has_ended_is_known() {
    for (knowledge, cancelled) in [
        (Knowledge::Spooled, Cancelled::Spooled(life("boot"))),
        (Knowledge::Recorded(FinalRecord::Ending(ending())), Cancelled::Ended(life("boot"))),
        (
            Knowledge::Recorded(FinalRecord::NeverStarted(life("older"))),
            Cancelled::NeverStarted(life("older")),
        ),
    ] {
        let mut world = World::knowing(knowledge);
        assert_eq!(world.ask(|reply| Input::Cancel(id(0), reply)), Some(Ok(cancelled)));
    }
    let mut world = World::new();
    let promised = Cancelled::NeverStarted(life("boot"));
    assert_eq!(world.ask(|reply| Input::Cancel(id(0), reply)), Some(Ok(promised)));
    assert_eq!(world.decide(attach(1, true, "boot")), Some(Decision::NeverStarted(life("boot"))));
    assert_eq!(world.starts, 0);
}

#[test]
fn a_promise_that_the_disk_refuses_is_made_again_by_the_attach_that_has_the_task() {
    let mut world = World::new();
    let full = || DiskError("full".into());
    world.disk_fails = true;
    let failed = world.open(attach(1, false, "boot"));
    assert_eq!(world.decisions[&failed], Err(full()), "the disk cannot be read");
    world.disk_fails = false;
    // The look-up succeeds, and the write fails.
    let ticket = world.ticket();
    let effects = world.core.step(Input::Open(Box::new(attach(2, false, "boot")), ReplyTo::new(ticket)), NOW);
    assert_eq!(effects, [Effect::LookUp(id(0))]);
    world.disk_fails = true;
    world.step(Input::LookedUp(id(0), Ok(Knowledge::Nothing)));
    assert_eq!(world.decisions[&ticket], Ok(Decision::Unwritten(full())));
    let promise = |attempt| move |reply| Input::Promise { id: id(0), attempt, reply };
    assert_eq!(world.ask(promise(2)), Some(Err(full())));
    world.disk_fails = false;
    assert_eq!(world.ask(promise(1)), Some(Ok(None)), "a later Attach has the task");
    world.disk.insert(id(0), Knowledge::Spooled);
    assert_eq!(world.ask(promise(2)), Some(Ok(None)), "the task was started");
    world.disk.clear();
    assert_eq!(world.ask(promise(2)), Some(Ok(Some(life("boot")))));
    assert_eq!(world.ask(promise(2)), Some(Ok(Some(life("boot")))), "it is written");
}

#[test]
fn memory_that_is_replaced_begins_another_incarnation_and_old_permissions_start_nothing() {
    let mut world = World::new();
    let ticket = world.ticket();
    let open = Input::Open(Box::new(attach(1, true, "boot")), ReplyTo::new(ticket));
    assert_eq!(world.core.step(open, NOW), [Effect::LookUp(id(0))]);
    let replaced = world.core.step(Input::MemoryReplaced(life("later")), NOW);
    assert_eq!(replaced, [Effect::ReportIncarnation]);
    world.step(Input::LookedUp(id(0), Ok(Knowledge::Nothing)));
    assert!(matches!(world.decisions[&ticket], Ok(Decision::OtherIncarnation { .. })));
    assert_eq!(world.starts, 0);
    assert_eq!(world.ask(Input::Introduce).unwrap().incarnation, life("later"));
}

#[test]
fn directories_of_finished_tasks_are_removed_when_idle_or_when_there_are_many() {
    let mut world = World::new();
    let finish = |world: &mut World, index| {
        assert_eq!(world.ask(|reply| Input::Finish(id(index), ending(), reply)), Some(Ok(())));
    };
    finish(&mut world, 0);
    world.now += 999;
    finish(&mut world, 1);
    assert_eq!(world.core.due(), Some(world.now + 1_000));
    world.now += 999;
    world.step(Input::Tick);
    assert_eq!(world.removing, [], "commands come first");
    world.now += 1;
    world.step(Input::Tick);
    assert_eq!(std::mem::take(&mut world.removing), [id(0), id(1)]);
    // One removal at a time.
    let most = u32::try_from(MAX_LEFT_OVER).unwrap();
    for index in 0..most {
        finish(&mut world, index);
    }
    assert_eq!((world.removing.len(), world.core.due()), (0, None));
    world.step(Input::Removed);
    assert_eq!(std::mem::take(&mut world.removing).len(), MAX_LEFT_OVER);
    // At the end of the connector all are removed, and it waits for that.
    world.step(Input::Removed);
    finish(&mut world, 0);
    let ticket = world.ticket();
    world.step(Input::RemoveLeftOver(ReplyTo::new(ticket)));
    assert_eq!(world.removing, [id(0)]);
    assert!(!world.replies.contains_key(&ticket));
    world.step(Input::Removed);
    assert_eq!(world.replies.remove(&ticket), Some(().into()));
    assert_eq!(world.ask(Input::RemoveLeftOver), Some(()), "there is nothing left");
}

#[test]
fn an_end_that_the_disk_refuses_is_not_finished() {
    let mut world = World::knowing(Knowledge::Spooled);
    world.disk_fails = true;
    let failed = world.ask(|reply| Input::Finish(id(0), ending(), reply));
    assert_eq!(failed, Some(Err(DiskError("full".into()))));
    world.disk_fails = false;
    assert_eq!((world.core.due(), world.decide(attach(1, false, "boot"))), (None, Some(Decision::Resume)));
}

#[test]
fn nothing_is_kept_of_tasks_that_the_disk_knows() {
    let mut world = World::new();
    assert!(world.decide(attach(1, false, "boot")).is_some());
    world.step(Input::AttachEnded { id: id(0), attempt: 1 });
    assert!(world.ask(|reply| Input::Cancel(id(1), reply)).is_some());
    assert!(world.ask(|reply| Input::Finish(id(2), ending(), reply)).is_some());
    assert!(world.core.tasks.is_empty(), "{:?}", world.core.tasks);
}
