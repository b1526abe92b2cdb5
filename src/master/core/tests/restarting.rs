//! How a restarted master continues the jobs in its store, and their deadlines.

use super::*;
use crate::domain::plan::{Plan, StopIf};

#[test]
fn a_clock_that_was_set_back_extends_no_deadline() {
    let day = -86_400_000;
    let (world, _) = World::with_task(Some(20_000));
    let mut again = world.restarted_after(Duration::from_secs(1), day);
    again.now = Duration::from_secs(19);
    again.connect(2, "web-1", "boot");
    assert!(again.attaches().pop().unwrap().start.is_some());
    let mut again = world.restarted_after(Duration::from_secs(1), day);
    again.now = Duration::from_secs(21);
    again.connect(2, "web-1", "boot");
    assert_eq!(again.attaches().pop().unwrap().start, None);
}

#[test]
fn a_task_that_an_earlier_master_may_have_sent_is_skipped_after_its_permission_expires() {
    let mut world = World::two_agents();
    let plan = Plan { fanout: Some(1), ..Plan::default() };
    let options = JobOptions { plan, ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-[1-2]", options), JobStart::Live(_)));
    let mut again = world.restarted_after(Duration::from_secs(1), 0);
    again.pass(1);
    let (job, by) = (JobReference::Number(1), "ana".to_owned());
    again.put(Input::StopJob { job, by, reply: caller(900) });
    let second = |world: &World| world.core.jobs.values().next().map(|job| job.view().tasks[1].state.word());
    again.pass(8);
    assert_eq!((second(&again), again.answered(900)), (Some("queued"), false));
    again.pass(1);
    assert_eq!((second(&again), again.answered(900)), (Some("skipped"), false), "the first may be starting");
    again.pass(1);
    assert!(again.answered(900));
}

#[test]
fn a_restart_does_not_expire_tasks_that_wait_for_their_turn() {
    // Returns the state of the second of two tasks, 30 s after a restart, with `--start-within 20s`.
    let second = |first_has_ended: bool, plan: Plan, code: u8| {
        let mut world = World::two_agents();
        let options = JobOptions { plan, start_within_ms: Some(20_000), ..JobOptions::default() };
        assert!(matches!(world.run_with(1, "web-[1-2]", options), JobStart::Live(_)));
        let first = world.attaches();
        assert_eq!(first.len(), 1);
        world.put(Input::SessionClosed(SessionId(2)));
        if first_has_ended {
            world.end(&first[0], code);
        } else {
            world.put(Input::TaskStarted { id: task(1, 0), attempt: first[0].attempt, elapsed_ms: 0 });
        }
        let mut again = world.restarted_after(Duration::from_secs(1), 0);
        again.pass(1);
        again.pass(29);
        let job = again.core.jobs.values().next();
        job.map_or("over", |job| job.view().tasks[1].state.word())
    };
    let one = || Plan { fanout: Some(1), ..Plan::default() };
    assert_eq!(second(false, one(), 0), "queued", "it is not its agent's fault");
    assert_eq!(second(true, one(), 0), "over", "its agent did not come");
    let stop_if = StopIf { failures: true, differs: false };
    assert_eq!(second(true, Plan { stop_if, ..one() }, 1), "queued", "an operator is waited for");
}

#[test]
fn a_requested_deadline_includes_the_time_without_a_master() {
    let offline = |start_within_ms| {
        let mut world = World::with_agent("web-1", "boot");
        world.put(Input::SessionClosed(SessionId(1)));
        let options = JobOptions { start_within_ms, ..JobOptions::default() };
        assert!(matches!(world.run_with(1, "web-1", options), JobStart::Live(_)));
        world
    };
    let is_started = |world: &World, passed: u64| {
        let mut again = world.restarted_after(Duration::from_secs(passed), 0);
        again.pass(1);
        again.connect(2, "web-1", "boot");
        again.attaches().iter().any(|order| order.start.is_some())
    };
    assert!(is_started(&offline(Some(5_000)), 3));
    assert!(!is_started(&offline(Some(5_000)), 5), "a minute to come back is not what was asked for");
    assert!(is_started(&offline(None), 80), "agents get time to come back to a master");
    assert!(!is_started(&offline(None), 12 * 3_600), "but no more than a minute");
}

#[test]
fn a_withheld_task_of_a_later_batch_does_not_keep_the_open_batch_from_ending() {
    let mut world = World::fleet(2);
    let first = world.planned(Plan { batch: Some("1".parse().unwrap()), ..Plan::default() });
    assert_eq!(first.len(), 1);
    let mut world = world.restarted();
    // Within the time in which an earlier master's permissions may arrive.
    world.now = Duration::from_secs(1);
    world.put(Input::Tick);
    world.put(Input::Delete { name: "web-2".parse().unwrap(), by: "ana".into(), reply: caller(900) });
    world.connect(1, "web-1", "boot");
    let order = world.attaches().pop().unwrap();
    world.end(&order, 0);
    let is_next = |effect: &Effect| matches!(effect, Effect::PublishGate(_, gate) if gate.open_batch == 1);
    assert!(world.out.iter().any(is_next), "{:?}", world.out);
    world.pass(10);
    assert!(world.core.jobs.is_empty(), "the withheld task has ended, and the job with it");
}
