//! A task is not started twice, too late, or after a cancel, and its outcome stays true.

use super::*;
use crate::{
    domain::{offset::OutputOffset, plan::Plan, revision::Revision, time::UnixMs},
    master::core::stored::{KnownTask, StoredJob, StoredTaskState, Write},
};

impl World {
    /// Returns a world whose master was restarted on the stored job after `passed`, with its wall clock moved
    /// by `clock_ms`.
    pub(super) fn restarted_after(&self, passed: Duration, clock_ms: i64) -> Self {
        let live = self.core.jobs.values().next().unwrap();
        let stored =
            StoredJob { job: live.summary(), options: live.options().clone(), tasks: live.stored_tasks() };
        let agents = self.core.agents.values().map(|row| row.stored.clone()).collect();
        let UnixMs(unix_ms) = self.now().unix_ms + passed;
        let now = Now { monotonic: Duration::ZERO, unix_ms: UnixMs(unix_ms.saturating_add_signed(clock_ms)) };
        let remembered =
            Remembered { agents, jobs: vec![stored], epoch: 1, term: 1, ..Remembered::default() };
        let mut world = Self::new();
        world.core = Core::new(Policy::default(), remembered, now);
        world.now = Duration::ZERO;
        world
    }

    /// Returns a world in which a task was sent, and the attempt.
    pub(super) fn with_task(start_within_ms: Option<u64>) -> (Self, u64) {
        let mut world = Self::with_agent("web-1", "boot");
        let options = JobOptions { start_within_ms, ..JobOptions::default() };
        assert!(matches!(world.run_with(1, "web-1", options), JobStart::Live(_)));
        let attempt = world.attaches().pop().unwrap().attempt;
        (world, attempt)
    }

    pub(super) fn cancel(&mut self, reply: u64) {
        let (job, tasks, by) = (JobReference::Number(1), [].into(), "ana".to_owned());
        self.put(Input::Cancel { job, tasks, by, grace_ms: None, reply: caller(reply) });
    }

    pub(super) fn answered(&self, to: u64) -> bool {
        self.out.iter().any(|effect| matches!(effect, Effect::Reply(who, _) if *who == Ticket(to)))
    }
}

pub(super) fn life() -> Incarnation {
    Incarnation::new("dir", "boot")
}

#[test]
fn a_running_task_is_not_started_again_by_a_restarted_master() {
    let (mut world, attempt) = World::with_task(Some(3_600_000));
    let mut again = world.restarted_after(Duration::from_secs(1), 0);
    again.connect(2, "web-1", "boot");
    let order = again.attaches().pop().unwrap();
    assert!(order.start.is_some(), "nobody knows yet whether it runs");
    assert!(order.attempt > attempt, "attempts continue: {} after {attempt}", order.attempt);

    world.put(Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 0 });
    let mut again = world.restarted_after(Duration::from_secs(1), 0);
    again.connect(2, "web-1", "boot");
    let order = again.attaches().pop().unwrap();
    assert_eq!(order.start, None);
    again.put(Input::TaskUnknown { id: task(1, 0), attempt: order.attempt, incarnation: life() });
    let reason = "the agent no longer knows it".to_owned();
    assert_eq!(again.state(task(1, 0)), TaskState::Ended(Ending::Lost(reason.into()).into()));
}

#[test]
fn the_start_of_a_task_is_stored_once() {
    let (mut world, attempt) = World::with_task(None);
    let started = Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 500 };
    let now = world.now();
    let effects = world.core.step(started.clone(), now);
    let is_written = |effect: &Effect| {
        matches!(effect, Effect::Persist(_, writes, durability) if durability.is_retried()
        && writes.contains(&Write::StartTask(task(1, 0), now.unix_ms - Duration::from_millis(500))))
    };
    assert!(effects.iter().any(is_written), "{effects:?}");
    let again = world.core.step(started, now);
    assert!(!again.iter().any(is_written), "once");
}

#[test]
fn a_cancel_is_answered_when_no_task_can_start_any_more() {
    // The agent answers that it does not know the task, and promises never to start it.
    let (mut world, _) = World::with_task(None);
    world.cancel(900);
    assert!(!world.answered(900), "its start may be on its way");
    world.put(Input::SignalAnswered { id: task(1, 0), known: false, incarnation: life() });
    assert!(world.answered(900));
    let cancelled = Ending::Cancelled { proof: None, by: "ana".into(), seal: None };
    assert_eq!(world.state(task(1, 0)), TaskState::Ended(cancelled.into()));

    // The agent answers that it knows the task.
    let (mut world, _) = World::with_task(None);
    world.cancel(900);
    world.put(Input::SignalAnswered { id: task(1, 0), known: true, incarnation: life() });
    assert!(world.answered(900));
    assert_eq!(world.state(task(1, 0)), TaskState::Dispatched, "its own word ends it");

    // The agent does not answer: the permission expires.
    let (mut world, _) = World::with_task(None);
    world.cancel(900);
    world.pass(9);
    assert!(!world.answered(900));
    world.pass(1);
    assert!(world.answered(900));
    assert_eq!(world.state(task(1, 0)), TaskState::Dispatched, "nobody knows, so nobody guesses");

    // The task runs: nothing is left that could start.
    let (mut world, attempt) = World::with_task(None);
    world.put(Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 0 });
    world.cancel(900);
    assert!(world.answered(900));
}

#[test]
fn a_cancelled_task_is_never_given_a_permission_again() {
    let (mut world, attempt) = World::with_task(Some(3_600_000));
    world.cancel(900);
    world.put(Input::AttachLost { id: task(1, 0), session: SessionId(1), attempt, superseded_by: None });
    assert_eq!(world.attaches().pop().unwrap().start, None);
    let mut again = world.restarted_after(Duration::from_secs(1), 0);
    again.connect(2, "web-1", "boot");
    assert_eq!(again.attaches().pop().unwrap().start, None);
}

#[test]
fn an_outcome_that_the_master_decides_is_published_after_it_is_stored() {
    let (mut world, attempt) = World::with_task(None);
    world.disk_full = true;
    let other = Incarnation::new("dir", "boot2");
    world.put(Input::TaskUnknown { id: task(1, 0), attempt, incarnation: other });
    let told = |world: &World| {
        world.out.iter().any(|effect| {
            matches!(effect, Effect::Publish(_, task) if task.state.outcome().is_some())
                || matches!(effect, Effect::JobEnded(..))
        })
    };
    assert!(!told(&world), "a master that dies now may conclude something else");
    let Some(job) = world.ask(|to| Input::FindJob(JobReference::Number(1), to)) else { panic!() };
    assert_eq!((job.tasks[0].state.outcome(), job.ended_ms, job.unfinished), (None, None, 1));
    assert!(job.tasks[0].waiting.contains("disk"), "{:?}", job.tasks[0].waiting);
    world.make_room();
    assert!(told(&world));
    assert!(world.out.iter().any(|effect| matches!(effect, Effect::JobEnded(..))));
    assert!(world.core.jobs.is_empty());
}

#[test]
fn an_agent_that_is_ahead_starts_nothing_and_does_not_affect_others() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    let mut liar = World::newcomer(2, "web-2", "boot");
    liar.seen = (u64::MAX, u64::MAX).into();
    world.ask(|to| Input::SessionOpened(liar, to)).unwrap();
    let status = world.core.status();
    assert!(
        status.refusing_jobs.is_empty() && status.restore_warning.starts_with("web-2 has seen"),
        "{status:?}"
    );
    world.run(1, "web-1");
    assert!(world.attaches().pop().unwrap().start.is_some(), "web-1 is none of its business");
    let job = world.run(2, "web-1,web-2");
    let refused = job.tasks[1].state.outcome().unwrap().to_string();
    assert!(refused.starts_with("refused: web-2 has seen") && refused.contains("--restored"), "{refused}");

    // It stays ahead however far the store has come when it reconnects, until the agent is deleted.
    let mut again = World::newcomer(3, "web-2", "boot");
    again.seen = (0, 0).into();
    world.put(Input::SessionClosed(SessionId(2)));
    world.ask(|to| Input::SessionOpened(again, to)).unwrap();
    assert!(!world.core.status().restore_warning.is_empty());
    let (name, by) = ("web-2".parse().unwrap(), "ana".to_owned());
    world.ask(|reply| Input::Delete { name, by, reply }).unwrap();
    assert!(world.core.status().restore_warning.is_empty());
}

#[test]
fn a_lost_attach_is_retried_until_the_outcome_is_handed_over() {
    let (mut world, attempt) = World::with_task(None);
    let id = task(1, 0);
    world.put(Input::TaskEnded {
        id,
        outcome: Ending::Exited(0).into(),
        end_offset: OutputOffset::START,
        duration_ns: 0,
    });
    world.put(Input::AttachLost { id, session: SessionId(1), attempt, superseded_by: None });
    let order = world.attaches().pop().expect("another Attach");
    assert!(order.start.is_none() && order.attempt > attempt && order.delay > Duration::ZERO);
    world.put(Input::AttachLost {
        id,
        session: SessionId(1),
        attempt: order.attempt,
        superseded_by: Some(9),
    });
    assert!(world.attaches().is_empty(), "another call has it");
    world.put(Input::AttachLost { id, session: SessionId(7), attempt: order.attempt, superseded_by: None });
    assert!(world.attaches().is_empty(), "a session that is over is not asked");
}

#[test]
fn a_task_whose_outcome_is_being_written_is_attached_again() {
    let (mut world, attempt) = World::with_task(None);
    let known = KnownTask {
        id: task(1, 0),
        spec: world.core.jobs.values().next().unwrap().spec_for_test(),
        started_ms: UnixMs(1),
        is_proved: true,
    };
    let _ = attempt;
    world.put(Input::LookedUp(SessionId(1), vec![(known, StoredTaskState::Open)]));
    let order = world.attaches().pop().expect("it is asked again");
    assert!(order.start.is_none() && !order.discard && order.delay > Duration::ZERO);
}

#[test]
fn duplicate_requests_before_a_job_is_stored_get_the_same_answer() {
    let mut world = World::with_agent("web-1", "boot");
    let choice = world.choose("web-1", false);
    let asked = || {
        Box::new(JobAsked {
            id: JobId::from_parts(1, 1),
            operator: "ana".into(),
            choice: choice.clone(),
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            options: JobOptions::default(),
            shown: Vec::new(),
        })
    };
    let now = world.now();
    let effects = world.core.step(Input::StartJob(asked(), caller(900)), now);
    let token = effects.iter().find_map(|effect| match effect {
        Effect::Persist(token, ..) => Some(*token),
        _ => None,
    });
    assert_eq!(world.core.step(Input::StartJob(asked(), caller(901)), now), [], "it is not on the disk yet");
    world.put(Input::PersistFailed(token.unwrap(), "disk full".into()));
    assert!(world.answered(900) && world.answered(901));
    assert!(world.core.jobs.is_empty());
}

#[test]
fn writes_of_a_restored_master_do_not_hide_that_an_agent_is_ahead() {
    let (world, _) = World::with_task(None);
    let mut again = world.restarted_after(Duration::from_secs(1), 0);
    // Other agents have connected before, and the store has reached the revision from before its restoration.
    again.core.revision = 9;
    let mut newcomer = World::newcomer(2, "web-1", "boot");
    newcomer.seen = (1, 9).into();
    again.ask(|to| Input::SessionOpened(newcomer, to)).unwrap();
    assert!(again.core.status().restore_warning.starts_with("web-1 has seen"));

    // A revision that the agent received from this master was not lost.
    let mut again = world.restarted_after(Duration::from_secs(1), 0);
    again.connect(2, "web-1", "boot");
    again.core.revision = 9;
    again.put(Input::SessionClosed(SessionId(2)));
    let mut newcomer = World::newcomer(3, "web-1", "boot");
    newcomer.seen = (1, 9).into();
    again.ask(|to| Input::SessionOpened(newcomer, to)).unwrap();
    assert_eq!(again.core.status().restore_warning, "");
}

#[test]
fn a_queued_task_is_not_started_on_an_agent_that_is_ahead() {
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionClosed(SessionId(1)));
    world.run(1, "web-1");
    let mut newcomer = World::newcomer(2, "web-1", "boot");
    newcomer.seen = (1, 1_000).into();
    world.ask(|to| Input::SessionOpened(newcomer, to)).unwrap();
    let order = world.attaches().pop().unwrap();
    assert_eq!(order.start, None, "what the agent knows of it is asked, and nothing is started");
}

#[test]
fn a_job_and_its_audit_record_are_one_transaction() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let is_job = |write: &Write| matches!(write, Write::PutJob(_));
    let together = world.written.iter().find(|writes| writes.iter().any(is_job)).unwrap();
    let is_audit = |write: &Write| matches!(write, Write::Audit { actor, action: "run", detail, .. } if actor == "ana" && detail.contains("job 1"));
    assert!(together.iter().any(is_audit), "{together:?}");
}

#[test]
fn an_inventory_does_not_affect_tasks_of_others_or_tasks_under_way() {
    let mut world = World::two_agents();
    let plan = Plan { canary: Some(1), ..Plan::default() };
    let options = JobOptions { plan, ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-[1-2]", options), JobStart::Live(_)));
    assert_eq!(world.attaches().len(), 1, "the canary");
    let spec = world.core.jobs.values().next().unwrap().spec_for_test();
    let known =
        |index| KnownTask { id: task(1, index), spec: spec.clone(), started_ms: UnixMs(1), is_proved: true };
    // The task of the second agent is not sent yet, and does not belong to the first agent.
    world.put(Input::InventoryTold(SessionId(1), vec![known(1)]));
    // The task of the first agent is under way.
    world.put(Input::InventoryTold(SessionId(1), vec![known(0)]));
    assert!(world.attaches().is_empty());
    let job = world.core.jobs.values().next().unwrap();
    assert_eq!(job.view().tasks[1].state, TaskState::Queued);
}

#[test]
fn a_cancel_is_answered_when_its_outcome_is_on_the_disk() {
    let (mut world, _) = World::with_task(None);
    world.cancel(900);
    world.disk_full = true;
    world.put(Input::SignalAnswered { id: task(1, 0), known: false, incarnation: life() });
    assert!(!world.answered(900), "a master that dies now knows nothing of the agent's word");
    world.make_room();
    assert!(world.answered(900));
}

#[test]
fn a_reported_task_that_is_known_or_of_another_key_is_not_attached() {
    // The task is sent, and reported again: nothing is new.
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    assert_eq!(world.attaches().len(), 1);
    let spec = world.core.jobs.values().next().unwrap().spec_for_test();
    let known = || KnownTask { id: task(1, 0), spec: spec.clone(), started_ms: UnixMs(1), is_proved: true };
    let before = world.written.len();
    world.put(Input::InventoryTold(SessionId(1), vec![known()]));
    assert_eq!((world.attaches().len(), world.written.len()), (0, before));

    // The incarnation to which it is to be sent is being written.
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionClosed(SessionId(1)));
    world.run(1, "web-1");
    world.disk_full = true;
    world.connect(2, "web-1", "boot");
    let before = world.written.len();
    world.put(Input::InventoryTold(SessionId(2), vec![known()]));
    assert_eq!((world.attaches().len(), world.written.len()), (0, before));

    // Another machine has the name now.
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionClosed(SessionId(1)));
    let options = JobOptions { start_within_ms: Some(3_600_000), ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-1", options), JobStart::Live(_)));
    world.enroll("web-1", "other", None);
    let (name, digits) = ("web-1".parse().unwrap(), Fingerprint::of(b"other").to_string());
    world
        .ask(|reply| Input::Approve {
            name,
            mark: KeyMark::Digits(digits),
            shown: Vec::new(),
            by: "ana".into(),
            reply,
        })
        .unwrap();
    let mut newcomer = World::newcomer(2, "web-1", "boot");
    newcomer.fingerprint = Fingerprint::of(b"other");
    world.ask(|to| Input::SessionOpened(newcomer, to)).unwrap();
    let before = world.written.len();
    world.put(Input::InventoryTold(SessionId(2), vec![known()]));
    assert_eq!((world.attaches().len(), world.written.len()), (0, before));
}

#[test]
fn a_cancel_on_a_deleted_agent_is_answered_after_the_permission_expires() {
    let (mut world, _) = World::with_task(None);
    world.cancel(7);
    let (name, by) = ("web-1".parse().unwrap(), "ana".into());
    world.put(Input::Delete { name, by, reply: caller(8) });
    assert_eq!(world.outcomes(), ["lost"]);
    assert!(!world.answered(7), "it may be starting there at this moment");
    world.pass(9);
    assert!(!world.answered(7));
    world.pass(1);
    assert!(world.answered(7));
}

#[test]
fn an_unproved_later_revision_is_recorded_once_and_has_no_effect() {
    let mut world = World::two_agents();
    world.put(Input::SessionClosed(SessionId(2)));
    for session in 3..9 {
        let unproved = Some((u64::MAX, u64::MAX).into());
        let newcomer = Box::new(Newcomer { unproved, ..*World::newcomer(session, "web-2", "boot") });
        let reply = world.ask(|to| Input::SessionOpened(newcomer, to));
        assert!(matches!(reply, Ok(SessionAccepted { .. })), "{reply:?}");
        world.put(Input::SessionClosed(SessionId(session)));
    }
    let is_record = |write: &&Write| matches!(write, Write::Audit { actor, action: "refused", .. } if actor == "agent web-2");
    assert_eq!(world.written.iter().flatten().filter(is_record).count(), 1);
    assert_eq!(world.core.warning_of_restore(), "");
    assert!(matches!(world.run_with(1, "web-1", JobOptions::default()), JobStart::Live(_)));
    // A revision that is not later than the master's is not recorded: agents of earlier versions have no
    // proofs.
    let newcomer =
        Box::new(Newcomer { unproved: Some(Revision::default()), ..*World::newcomer(20, "web-2", "boot") });
    world.pass(100);
    world.written.clear();
    world.ask(|to| Input::SessionOpened(newcomer, to)).unwrap();
    assert_eq!(world.written.iter().flatten().filter(is_record).count(), 0);
}

#[test]
fn a_task_that_was_not_sent_is_attached_only_if_the_report_has_a_proof() {
    let mut world = World::fleet(2);
    let mut options = JobOptions::default();
    options.plan.fanout = Some(1);
    assert!(matches!(world.run_with(1, "@all", options), JobStart::Live(_)));
    let spec = world.core.jobs.values().next().unwrap().spec_for_test();
    let known = KnownTask { id: task(1, 1), spec, started_ms: UnixMs(1), is_proved: false };
    world.attaches();
    world.put(Input::InventoryTold(SessionId(2), vec![known.clone()]));
    assert!(world.attaches().is_empty());
    world.put(Input::InventoryTold(SessionId(2), vec![KnownTask { is_proved: true, ..known }]));
    assert_eq!(world.attaches().len(), 1);
}

#[test]
fn agents_remember_the_revision_after_a_revocation() {
    let mut world = World::two_agents();
    let remembered = |world: &mut World| {
        let of = |effect: &Effect| matches!(effect, Effect::Remember(..));
        let count = world.out.iter().filter(|effect| of(effect)).count();
        world.out.retain(|effect| !of(effect));
        count
    };
    assert_eq!(remembered(&mut world), 0);
    world.run(1, "web-1");
    assert_eq!(remembered(&mut world), 0, "that nobody's rights have ended");
    let (name, by) = ("web-2".parse().unwrap(), "ana".to_owned());
    world.ask(|reply| Input::Delete { name, by, reply }).unwrap();
    assert_eq!(remembered(&mut world), 1);
}
