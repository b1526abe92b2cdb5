//! Batches, the fan-out, gates, and the operators' decisions.

use super::*;
use crate::domain::{
    offset::OutputOffset,
    plan::{GateState, Plan, StopIf},
    time::UnixMs,
};

impl World {
    /// Agents `web-1` to `web-N`, all connected.
    pub(super) fn fleet(agents: u64) -> Self {
        let mut world = Self::new();
        for number in 1..=agents {
            world.agent(&format!("web-{number}"));
            world.connect(number, &format!("web-{number}"), "boot");
        }
        world
    }

    /// Returns the world of a restarted master, with the stored state of its only job.
    pub(super) fn restarted(&self) -> Self {
        let live = self.core.jobs.values().next().unwrap();
        // The store returns only jobs that have not ended.
        let job = Job { ended_ms: None, ..live.view() };
        let stored = StoredJob { job, options: live.options().clone(), tasks: live.stored_tasks() };
        let agents = self.core.agents.values().map(|row| row.stored.clone()).collect();
        let now = Now { monotonic: Duration::ZERO, unix_ms: UnixMs(9_000_000) };
        let remembered =
            Remembered { agents, jobs: vec![stored], last_number: 1, epoch: 1, ..Remembered::default() };
        let mut world = Self::new();
        world.core = Core::new(Policy::default(), remembered, now);
        world
    }

    pub(super) fn planned(&mut self, plan: Plan) -> Vec<AttachOrder> {
        let reply = self.run_with(1, "@all", JobOptions { plan, ..JobOptions::default() });
        assert!(matches!(reply, JobStart::Live(_)), "{reply:?}");
        self.attaches()
    }

    pub(super) fn end(&mut self, order: &AttachOrder, status: u8) -> Vec<AttachOrder> {
        self.put(Input::TaskStarted { id: order.id, attempt: order.attempt, elapsed_ms: 0 });
        let outcome = Ending::Exited(status).into();
        self.put(Input::TaskEnded { id: order.id, outcome, end_offset: OutputOffset::START, duration_ns: 1 });
        self.attaches()
    }

    fn gate(&self) -> GateState {
        let published = self.out.iter().rev().find_map(|effect| match effect {
            Effect::PublishGate(_, gate) => Some(gate.state.clone()),
            _ => None,
        });
        published.unwrap_or_default()
    }

    fn promote(&mut self) -> Result<Promoted, JobDenied> {
        self.ask(|reply| Input::Promote { job: JobReference::Number(1), by: "ana".into(), reply })
    }

    pub(super) fn outcomes(&self) -> Vec<&'static str> {
        let mut words: Vec<(u32, &'static str)> = Vec::new();
        for effect in &self.out {
            if let Effect::Publish(_, task) = effect {
                words.retain(|(index, _)| *index != task.index);
                words.push((task.index, task.state.word()));
            }
        }
        words.sort_unstable();
        words.into_iter().map(|(_, word)| word).collect()
    }
}

/// A canary, and then one task at a time, each compared with the accepted ones.
fn one_by_one_compared() -> Plan {
    Plan {
        canary: Some(1),
        batch: Some("1".parse().unwrap()),
        stop_if: StopIf { failures: false, differs: true },
        ..Plan::default()
    }
}

fn indices(orders: &[AttachOrder]) -> Vec<u32> {
    orders.iter().map(|order| order.id.index).collect()
}

#[test]
fn at_most_fanout_tasks_are_under_way() {
    let mut world = World::fleet(5);
    let first = world.planned(Plan { fanout: Some(2), ..Plan::default() });
    assert_eq!(indices(&first), [0, 1]);
    let next = world.end(&first[0], 0);
    assert_eq!(indices(&next), [2]);
    assert_eq!(indices(&world.end(&first[1], 1)), [3]);
    assert_eq!(indices(&world.end(&next[0], 0)), [4]);
}

#[test]
fn an_offline_agent_does_not_use_the_fan_out_and_takes_part_when_it_returns() {
    let mut world = World::fleet(3);
    world.put(Input::SessionClosed(SessionId(1)));
    let first = world.planned(Plan { fanout: Some(1), ..Plan::default() });
    assert_eq!(indices(&first), [1]);
    world.connect(11, "web-1", "boot");
    assert!(world.attaches().is_empty(), "it has to wait for its turn now");
    let next = world.end(&first[0], 0);
    assert_eq!(indices(&next), [2]);
    assert_eq!(indices(&world.end(&next[0], 0)), [0]);
}

#[test]
fn an_agent_that_disconnects_before_its_turn_frees_its_place() {
    let mut world = World::fleet(2);
    let first = world.planned(Plan { fanout: Some(1), ..Plan::default() });
    assert_eq!(indices(&first), [0]);
    world.put(Input::SessionClosed(SessionId(2)));
    world.end(&first[0], 0);
    assert!(world.attaches().is_empty());
    world.connect(12, "web-2", "boot");
    assert_eq!(indices(&world.attaches()), [1]);
}

#[test]
fn the_start_deadline_counts_from_a_tasks_turn() {
    let mut world = World::fleet(2);
    let first = world.planned(Plan { fanout: Some(1), ..Plan::default() });
    for _ in 0..20 {
        world.pass(10);
        world.put(Input::Heard(SessionId(1)));
        world.put(Input::Heard(SessionId(2)));
    }
    let next = world.end(&first[0], 0);
    assert!(next[0].start.is_some(), "it may start, 200 s after the job was stored");
}

#[test]
fn batches_follow_one_another_after_a_pause() {
    let mut world = World::fleet(4);
    let plan = Plan { batch: Some("2".parse().unwrap()), pause_ms: Some(30_000), ..Plan::default() };
    let first = world.planned(plan);
    assert_eq!(indices(&first), [0, 1]);
    assert!(world.end(&first[0], 0).is_empty());
    assert!(world.end(&first[1], 0).is_empty(), "it pauses");
    for session in 3..=4 {
        world.put(Input::Heard(SessionId(session)));
    }
    world.pass(20);
    assert!(world.attaches().is_empty());
    for session in 3..=4 {
        world.put(Input::Heard(SessionId(session)));
    }
    world.pass(11);
    assert_eq!(indices(&world.attaches()), [2, 3]);
}

#[test]
fn a_failing_canary_holds_the_job_until_it_is_promoted_or_stopped() {
    for promoted in [true, false] {
        let mut world = World::fleet(3);
        let stop_if = StopIf { failures: true, differs: false };
        let first = world.planned(Plan { canary: Some(1), stop_if, ..Plan::default() });
        assert_eq!(indices(&first), [0]);
        assert!(world.end(&first[0], 7).is_empty());
        let GateState::Held(reason) = world.gate() else { panic!("{:?}", world.gate()) };
        assert_eq!(reason, "1 failed (web-1 exited 7)");
        world.pass(1000);
        assert!(world.attaches().is_empty(), "it waits however long");
        if promoted {
            // The agents were silent all that time, and reconnect.
            for session in 2..=3 {
                world.connect(session + 20, &format!("web-{session}"), "boot");
            }
            assert!(world.attaches().is_empty());
            assert!(matches!(world.promote(), Ok(Promoted { number: 1, batch: 2 })));
            let next = world.attaches();
            assert_eq!(indices(&next), [1, 2]);
            assert!(matches!(world.promote(), Err(JobDenied::Refused(_))), "nothing waits any more");
            assert!(world.end(&next[0], 1).is_empty());
            world.end(&next[1], 0);
            assert_eq!(world.outcomes(), ["exited", "exited", "exited"]);
        } else {
            let job = JobReference::Number(1);
            let stopped = world.ask(|reply| Input::StopJob { job, by: "ana".into(), reply });
            assert!(matches!(stopped, Ok(StoppedJob { skipped: 2, .. })));
            assert_eq!(world.outcomes(), ["exited", "skipped", "skipped"]);
        }
        assert!(world.core.jobs.is_empty());
    }
}

#[test]
fn a_successful_canary_opens_the_next_batch() {
    let mut world = World::fleet(3);
    let stop_if = StopIf { failures: true, differs: false };
    let first = world.planned(Plan { canary: Some(1), stop_if, ..Plan::default() });
    assert_eq!(indices(&world.end(&first[0], 0)), [1, 2]);
}

#[test]
fn a_task_that_is_cancelled_before_its_turn_uses_no_fan_out() {
    let mut world = World::fleet(3);
    let first = world.planned(Plan { fanout: Some(1), ..Plan::default() });
    assert_eq!(indices(&first), [0]);
    let job = JobReference::Number(1);
    world.put(Input::Cancel { job, tasks: [1].into(), by: "ana".into(), grace_ms: None, reply: caller(900) });
    let next = world.end(&first[0], 0);
    assert_eq!(indices(&next), [2]);
    world.end(&next[0], 0);
    assert_eq!(world.outcomes(), ["exited", "cancelled", "exited"]);
    assert!(world.core.jobs.is_empty());
}

#[test]
fn stopping_a_job_reports_how_many_tasks_are_skipped() {
    let mut world = World::fleet(4);
    let first = world.planned(Plan { fanout: Some(1), ..Plan::default() });
    world.end(&first[0], 0);
    let job = JobReference::Number(1);
    world.put(Input::StopJob { job, by: "ana".into(), reply: caller(900) });
    world.pass(10);
    let answer = Effect::Reply(Ticket(900), Box::new(Reply::Stop(Ok(StoppedJob { number: 1, skipped: 2 }))));
    assert!(world.out.contains(&answer), "one has ended, and one is under way: {:?}", world.out);
}

#[test]
fn start_within_applies_to_offline_agents_of_later_batches() {
    for (within_ms, word) in [(3_600_000, "queued"), (0, "undeliverable")] {
        let mut world = World::fleet(2);
        let plan = Plan { canary: Some(1), ..Plan::default() };
        let options = JobOptions { plan, start_within_ms: Some(within_ms), ..JobOptions::default() };
        assert!(matches!(world.run_with(1, "@all", options), JobStart::Live(_)));
        let first = world.attaches();
        world.put(Input::SessionClosed(SessionId(2)));
        world.end(&first[0], 0);
        assert_eq!(world.outcomes(), ["exited", word]);
    }
}

#[test]
fn canaries_are_connected_agents_if_there_are_enough() {
    for (canary, closed, expected) in [
        (1, vec![1], vec![1]),
        (2, vec![1, 3], vec![1, 3]),
        (1, vec![1, 2, 3], vec![3]),
        (2, vec![], vec![0, 1]),
    ] {
        let mut world = World::fleet(4);
        for session in &closed {
            world.put(Input::SessionClosed(SessionId(*session)));
        }
        let first = world.planned(Plan { canary: Some(canary), ..Plan::default() });
        assert_eq!(indices(&first), expected, "{canary} without {closed:?}");
    }
    let mut world = World::fleet(2);
    for session in [1, 2] {
        world.put(Input::SessionClosed(SessionId(session)));
    }
    let first = world.planned(Plan { canary: Some(1), ..Plan::default() });
    assert!(first.is_empty(), "without a connected agent the first one is waited for");
}

#[test]
fn more_failures_than_max_failures_stop_a_job() {
    let mut world = World::fleet(6);
    let plan = Plan { fanout: Some(2), max_failures: Some("1".parse().unwrap()), ..Plan::default() };
    let first = world.planned(plan);
    let next = world.end(&first[0], 1);
    assert_eq!(indices(&next), [2], "one failure is allowed");
    assert!(world.end(&first[1], 1).is_empty());
    assert_eq!(world.outcomes()[3..], ["skipped", "skipped", "skipped"]);
    world.end(&next[0], 0);
    assert_eq!(world.outcomes(), ["exited", "exited", "exited", "skipped", "skipped", "skipped"]);
    assert!(world.core.jobs.is_empty());
}

#[test]
fn output_that_differs_from_the_canarys_holds_a_job() {
    let mut world = World::fleet(4);
    let first = world.planned(one_by_one_compared());
    let second = world.end(&first[0], 0);
    assert_eq!(indices(&second), [1], "the canary is what others are compared with");
    assert!(world.end(&second[0], 0).is_empty(), "compared first");
    world.put(Input::Compared { id: second[0].id, agrees: true });
    let third = world.attaches();
    assert_eq!(indices(&third), [2]);
    world.end(&third[0], 0);
    world.put(Input::Compared { id: third[0].id, agrees: false });
    let GateState::Held(reason) = world.gate() else { panic!() };
    assert_eq!(reason, "web-3 did not print and end as web-1 did");
    world.promote().unwrap();
    let last = world.attaches();
    assert_eq!(indices(&last), [3]);
    world.end(&last[0], 0);
    let compared = world.out.iter().filter(|effect| matches!(effect, Effect::Compare { .. })).count();
    assert_eq!(compared, 2, "the last one has nothing left to hold back");
}

#[test]
fn promoted_output_is_accepted_from_later_tasks() {
    let mut world = World::fleet(5);
    let first = world.planned(one_by_one_compared());
    let second = world.end(&first[0], 0);
    world.end(&second[0], 0);
    world.put(Input::Compared { id: second[0].id, agrees: false });
    assert!(matches!(world.gate(), GateState::Held(_)));
    world.promote().unwrap();
    let third = world.attaches();
    world.end(&third[0], 0);
    let accepted = world.out.iter().rev().find_map(|effect| match effect {
        Effect::Compare { id, accepted, .. } if *id == third[0].id => Some(accepted),
        _ => None,
    });
    let accepted: Vec<u32> = accepted.expect("it is compared").iter().map(|(index, _)| *index).collect();
    assert_eq!(accepted, [0, 1]);
}

#[test]
fn a_job_without_an_ended_canary_is_held_once() {
    let mut world = World::fleet(3);
    for session in 1..=3 {
        world.put(Input::SessionClosed(SessionId(session)));
    }
    let plan =
        Plan { canary: Some(1), stop_if: StopIf { failures: false, differs: true }, ..Plan::default() };
    let options = JobOptions { plan, start_within_ms: Some(0), ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "@all", options), JobStart::Live(_)));
    let GateState::Held(reason) = world.gate() else { panic!("{:?}", world.gate()) };
    assert!(reason.starts_with("no canary came to an end"), "{reason}");
    for number in 2..=3 {
        world.connect(number + 10, &format!("web-{number}"), "boot");
    }
    assert!(matches!(world.promote(), Ok(Promoted { .. })));
    assert_eq!(indices(&world.attaches()), [1, 2]);
}

#[test]
fn an_interrupted_comparison_is_repeated_after_a_restart() {
    let mut world = World::fleet(3);
    let first = world.planned(one_by_one_compared());
    let second = world.end(&first[0], 0);
    // The master dies during the comparison.
    world.end(&second[0], 0);
    let mut world = world.restarted();
    world.connect(3, "web-3", "boot");
    world.pass(1);
    assert!(world.attaches().is_empty());
    let compared = world.out.iter().filter_map(|effect| match effect {
        Effect::Compare { id, .. } => Some(id.index),
        _ => None,
    });
    assert_eq!(compared.collect::<Vec<_>>(), [1]);
    world.put(Input::Compared { id: second[0].id, agrees: true });
    assert_eq!(indices(&world.attaches()), [2]);
}

#[test]
fn a_restarted_master_continues_no_job_before_it_has_checked_it() {
    let mut world = World::fleet(2);
    world.planned(Plan { fanout: Some(1), ..Plan::default() });
    let mut world = world.restarted();
    world.put(Input::Cancel {
        job: JobReference::Number(1),
        tasks: [0].into(),
        by: "ana".into(),
        grace_ms: None,
        reply: caller(900),
    });
    world.connect(2, "web-2", "boot");
    assert!(world.attaches().is_empty());
}

#[test]
fn a_held_gate_is_published_once() {
    let mut world = World::fleet(4);
    let stop_if = StopIf { failures: true, differs: false };
    let first = world.planned(Plan { canary: Some(3), stop_if, ..Plan::default() });
    for order in &first {
        assert!(world.end(order, 1).is_empty());
    }
    let told = world.out.iter().filter(|effect| matches!(effect, Effect::PublishGate(..))).count();
    assert_eq!(told, 1, "{:?}", world.gate());
}

#[test]
fn a_job_that_was_held_is_held_after_a_restart() {
    let mut world = World::fleet(2);
    let stop_if = StopIf { failures: true, differs: false };
    let plan = Plan { canary: Some(1), stop_if, ..Plan::default() };
    let first = world.planned(plan);
    world.end(&first[0], 1);
    let mut world = world.restarted();
    world.connect(2, "web-2", "boot");
    world.pass(1);
    assert!(world.attaches().is_empty());
    assert!(matches!(world.promote(), Ok(Promoted { .. })));
    assert_eq!(indices(&world.attaches()), [1]);
}

#[test]
fn a_job_continues_with_its_next_batch_after_a_restart_between_two() {
    let mut world = World::fleet(2);
    let plan = Plan { canary: Some(1), pause_ms: Some(5_000), ..Plan::default() };
    let first = world.planned(plan);
    assert!(world.end(&first[0], 0).is_empty(), "it pauses");
    let mut world = world.restarted();
    world.connect(2, "web-2", "boot");
    world.pass(1);
    assert!(world.attaches().is_empty(), "it pauses anew");
    world.pass(5);
    assert_eq!(indices(&world.attaches()), [1]);
}

#[test]
fn a_job_that_was_being_stopped_is_stopped_after_a_restart() {
    let mut world = World::fleet(3);
    let first = world.planned(Plan { canary: Some(1), ..Plan::default() });
    assert_eq!(indices(&first), [0]);
    let id = task(1, 0).job;
    let live = world.core.jobs.get_mut(&id).unwrap();
    live.stop_for_test("too much");
    let mut world = world.restarted();
    world.pass(1);
    assert_eq!(world.outcomes(), ["skipped", "skipped"]);
}

#[test]
fn cancelling_a_whole_job_does_not_count_as_failures() {
    let mut world = World::fleet(4);
    let plan = Plan { fanout: Some(1), max_failures: Some("0".parse().unwrap()), ..Plan::default() };
    assert_eq!(indices(&world.planned(plan)), [0]);
    let job = JobReference::Number(1);
    world.put(Input::Cancel { job, tasks: [].into(), by: "ana".into(), grace_ms: None, reply: caller(900) });
    assert_eq!(world.outcomes()[1..], ["cancelled", "cancelled", "cancelled"]);
    assert_eq!(world.gate(), GateState::Open);
}

#[test]
fn a_promotion_starts_tasks_after_it_is_recorded() {
    let mut world = World::fleet(2);
    let stop_if = StopIf { failures: true, differs: false };
    let first = world.planned(Plan { canary: Some(1), stop_if, ..Plan::default() });
    world.end(&first[0], 1);
    world.disk_full = true;
    assert!(matches!(world.promote(), Err(JobDenied::Refused(text)) if text.starts_with("it is done, but")));
    assert!(world.attaches().is_empty(), "what cannot be audited is not started");
    world.make_room();
    assert_eq!(indices(&world.attaches()), [1]);
}

#[test]
fn a_task_on_an_agent_drained_before_its_turn_is_refused_and_frees_its_place() {
    let mut world = World::fleet(3);
    let first = world.planned(Plan { fanout: Some(1), ..Plan::default() });
    let drain = |world: &mut World, reason: Option<&str>| {
        let choice = Box::new(world.choose("web-2", true));
        let (reason, by) = (reason.map(str::to_owned), "ana".to_owned());
        world.ask(|reply| Input::Drain { choice, reason, by, reply })
    };
    assert!(matches!(drain(&mut world, Some("disk swap")), Ok(Drained { .. })));
    let next = world.end(&first[0], 0);
    assert_eq!(indices(&next), [2], "the one after it");
    assert_eq!(world.outcomes()[..2], ["exited", "refused"]);
    world.end(&next[0], 0);
    assert!(world.core.jobs.is_empty());

    let named = world.run(2, "web-2");
    let outcome = named.tasks[0].state.outcome().unwrap().to_string();
    assert!(outcome.starts_with("refused: draining, by ana: disk swap"), "{outcome}");
    let JobStart::Live(job) = world.run_with(3, "@all", JobOptions::default()) else { panic!() };
    assert_eq!((job.tasks.len(), job.left_out[0].agent.as_str()), (2, "web-2"));
    drain(&mut world, None).unwrap();
    assert_eq!(world.run(4, "web-2").tasks[0].state.outcome(), None);
}

#[test]
fn a_task_about_to_be_sent_is_skipped_by_a_stop_and_queued_again_when_its_agent_disconnects() {
    for is_stopped in [true, false] {
        let mut world = World::fleet(1);
        world.put(Input::SessionClosed(SessionId(1)));
        world.run(1, "web-1");
        // The incarnation to which it is to be sent is not on the disk yet.
        let now = world.now();
        let newcomer = World::newcomer(2, "web-1", "boot");
        let effects = world.core.step(Input::SessionOpened(newcomer, caller(900)), now);
        let is_record = |effect: &Effect| matches!(effect, Effect::Persist(_, writes, _) if matches!(writes[..], [Write::PutTask(..)]));
        assert!(effects.iter().any(is_record), "{effects:?}");
        if is_stopped {
            let job = JobReference::Number(1);
            let stopped = world.ask(|reply| Input::StopJob { job, by: "ana".into(), reply });
            assert!(matches!(stopped, Ok(StoppedJob { skipped: 1, .. })), "it was not sent: {stopped:?}");
            assert_eq!(world.outcomes(), ["skipped"]);
            assert!(world.core.jobs.is_empty());
        }
        world.put(Input::SessionClosed(SessionId(2)));
        if !is_stopped {
            let job = world.core.jobs.values().next().unwrap();
            assert_eq!(job.view().tasks[0].waiting, "offline; waited for up to 1 min 0 s");
        }
    }
}

#[test]
fn a_task_whose_agent_disconnects_before_it_was_sent_loses_its_turn() {
    let mut world = World::fleet(3);
    let first = world.planned(Plan { fanout: Some(1), ..Plan::default() });
    assert_eq!(indices(&first), [0]);
    world.put(Input::SessionClosed(SessionId(2)));
    // Before the turn of web-2, its incarnation changes, and the disk does not accept that write.
    world.connect(4, "web-2", "boot2");
    world.disk_full = true;
    world.put(Input::TaskEnded {
        id: first[0].id,
        outcome: Ending::Exited(0).into(),
        end_offset: OutputOffset::START,
        duration_ns: 1,
    });
    let second = world.attaches();
    world.put(Input::SessionClosed(SessionId(4)));
    let third = world.attaches();
    world.connect(5, "web-2", "boot2");
    world.make_room();
    let sent = [second, third, world.attaches()].concat();
    assert_eq!(indices(&sent), [2], "one at a time, and one that was there: {sent:?}");
    // A task that was sent is under way, and is not reported as skipped.
    let (job, by) = (JobReference::Number(1), "ana".to_owned());
    world.put(Input::StopJob { job, by, reply: caller(77) });
    world.end(&sent[0], 0);
    let words = world.outcomes();
    assert_eq!(words[usize::try_from(sent[0].id.index).unwrap()], "exited", "{words:?}");
    assert_eq!(words.iter().filter(|word| **word == "skipped").count(), 1, "{words:?}");
}
