//! Orders after which no task may start, and when they are answered.

use super::{at_most_once::life, *};
use crate::{
    domain::{command::Variable, plan::Plan, time::UnixMs},
    master::core::stored::KnownTask,
};

/// Returns a master that was restarted one second after a job for an offline agent began, and that received
/// this order.
fn restarted_with_order(order: Input) -> World {
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionClosed(SessionId(1)));
    world.run(1, "web-1");
    let mut again = world.restarted_after(Duration::from_secs(1), 0);
    again.put(order);
    again
}

#[test]
fn a_restarted_master_answers_orders_after_earlier_permissions_expire() {
    let job = JobReference::Number(1);
    let cancel = Input::Cancel { job, tasks: [].into(), by: "ana".into(), grace_ms: None, reply: caller(7) };
    let stop = Input::StopJob { job, by: "ana".into(), reply: caller(7) };
    for (order, word) in [(cancel, "cancelled"), (stop, "skipped")] {
        let mut again = restarted_with_order(order);
        assert!(!again.answered(7), "the store may be a backup, from before the task was sent");
        again.pass(9);
        assert!(!again.answered(7) && !again.core.jobs.is_empty());
        again.pass(1);
        assert!(again.answered(7));
        assert!(again.core.jobs.is_empty(), "{word}, though its agent has never come back");
        assert_eq!(again.outcomes(), [word]);
    }
}

#[test]
fn a_task_of_a_deleted_agent_ends_after_earlier_permissions_expire() {
    let (name, by) = ("web-1".parse().unwrap(), "ana".into());
    let mut again = restarted_with_order(Input::Delete { name, by, reply: caller(7) });
    assert!(!again.answered(7), "an earlier master's permission may be on its way");
    // A master that dies before that time does not leave the task open for ever.
    let mut third = again.restarted_after(Duration::from_secs(1), 0);
    for master in [&mut again, &mut third] {
        assert!(!master.core.jobs.is_empty());
        master.pass(9);
        assert!(!master.core.jobs.is_empty());
        master.pass(1);
        assert!(master.core.jobs.is_empty());
        assert_eq!(master.outcomes(), ["undeliverable"]);
    }
    assert!(again.answered(7));
}

/// The orders that prevent starts, each with the outcome of a task that its agent never had.
fn orders() -> [(Input, &'static str); 3] {
    let job = JobReference::Number(1);
    let choice = Box::new(World::new().choose("web-1", true));
    let reason = Some("disk swap".into());
    [
        (
            Input::Cancel { job, tasks: [].into(), by: "ana".into(), grace_ms: None, reply: caller(7) },
            "cancelled",
        ),
        (Input::StopJob { job, by: "ana".into(), reply: caller(7) }, "skipped"),
        (Input::Drain { choice, reason, by: "ana".into(), reply: caller(7) }, "refused"),
    ]
}

#[test]
fn an_order_is_answered_when_the_sent_task_cannot_start_and_is_never_permitted_again() {
    for (order, word) in orders() {
        let (mut world, _) = World::with_task(Some(3_600_000));
        world.put(Input::SessionClosed(SessionId(1)));
        world.put(order);
        assert!(!world.answered(7), "{word}: its start is on its way");
        world.pass(9);
        assert!(!world.answered(7), "{word}");
        world.pass(1);
        assert!(world.answered(7), "{word}: the permission has expired");
        world.connect(2, "web-1", "boot");
        let again = world.attaches().pop().unwrap();
        assert_eq!(again.start, None, "{word}");
        world.put(Input::TaskUnknown { id: task(1, 0), attempt: again.attempt, incarnation: life() });
        assert_eq!(world.outcomes(), [word]);
    }
}

#[test]
fn an_attach_that_was_not_opened_yet_gives_no_permission_after_an_order() {
    for (order, word) in orders() {
        let (mut world, _) = World::with_task(None);
        world.put(order);
        let withdraws = |effect: &Effect| match effect {
            Effect::WithdrawStart(id) | Effect::Signal { id, .. } => *id == task(1, 0),
            _ => false,
        };
        assert!(world.out.iter().any(withdraws), "{word}");
    }
}

#[test]
fn a_task_that_an_agent_proves_is_running_whatever_the_restored_store_says() {
    // The backup is from before the second batch, which the lost master has started.
    let mut world = World::two_agents();
    let plan = Plan { canary: Some(1), ..Plan::default() };
    assert!(matches!(
        world.run_with(1, "web-[1-2]", JobOptions { plan, ..JobOptions::default() }),
        JobStart::Live(_)
    ));
    for order in orders().map(|(order, _)| order) {
        let mut again = world.restarted_after(Duration::from_secs(1), 0);
        again.connect(2, "web-2", "boot");
        again.attaches();
        again.put(order);
        let spec = again.core.jobs.values().next().unwrap().spec_for_test();
        let known = KnownTask { id: task(1, 1), spec, started_ms: UnixMs(1), is_proved: true };
        again.put(Input::InventoryTold(SessionId(2), vec![known]));
        let attach = again.attaches().pop().expect("it is asked how it continues");
        assert_eq!((attach.id, &attach.start), (task(1, 1), &None));
        again.put(Input::TaskStarted { id: task(1, 1), attempt: attach.attempt, elapsed_ms: 0 });
        again.pass(20);
        let job = again.core.jobs.values().next().expect("it continues");
        assert_eq!(job.view().tasks[1].state, TaskState::Running);
    }
}

#[test]
fn the_grace_of_a_cancel_is_stored_for_agents_that_reconnect_later() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let order = world.attaches().pop().unwrap();
    world.put(Input::SessionClosed(SessionId(1)));
    let (job, by) = (JobReference::Last, "ana".to_owned());
    world.put(Input::Cancel { job, tasks: [].into(), grace_ms: Some(60_000), by, reply: caller(7) });
    let is_kept = |write: &Write| match write {
        Write::PutOptions(_, options) => options.kill_grace_ms == Some(60_000),
        _ => false,
    };
    assert!(world.written.iter().flatten().any(is_kept), "the next master tells it too");
    world.connect(2, "web-1", "boot");
    let again = world.attaches().pop().unwrap();
    world.put(Input::TaskStarted { id: order.id, attempt: again.attempt, elapsed_ms: 0 });
    let told = |effect: &Effect| matches!(effect, Effect::Signal { grace_ms: 60_000, .. });
    assert!(world.out.iter().any(told), "{:?}", world.out);
}

#[test]
fn storing_the_grace_of_a_cancel_does_not_restore_deleted_values() {
    let mut world = World::fleet(2);
    let secret = Variable::new(b"PW".to_vec(), b"secret".to_vec()).unwrap();
    let options = JobOptions {
        environment: vec![secret],
        plan: Plan { fanout: Some(1), ..Plan::default() },
        ..JobOptions::default()
    };
    assert!(matches!(world.run_with(1, "web-[1-2]", options), JobStart::Live(_)));
    let order = world.attaches().pop().unwrap();
    world.put(Input::TaskStarted { id: order.id, attempt: order.attempt, elapsed_ms: 0 });
    world.pass(20);
    // This ends the last task that would need the values, so they are deleted.
    let (job, by) = (JobReference::Last, "ana".to_owned());
    world.put(Input::Cancel { job, tasks: [].into(), grace_ms: Some(60_000), by, reply: caller(7) });
    let mut options = world.written.iter().flatten().filter_map(|write| match write {
        Write::PutOptions(_, options) => Some(options),
        _ => None,
    });
    let last = options.next_back().unwrap();
    assert!(last.environment.is_empty() && last.forgotten.len() == 1, "{last:?}");
    assert_eq!(last.kill_grace_ms, Some(60_000));
}
