//! Starts: their ends, and the questions that wait for them.

use super::*;

#[test]
fn the_end_of_a_start_decides_what_the_attach_does() {
    let refused = Decision::Refuse("the agent cannot start it: no memory".to_owned());
    for (end, decision) in [
        (StartEnd::Started, Decision::Started),
        (StartEnd::Known, Decision::Resume),
        (StartEnd::Expired, Decision::Expired),
        (failed(), refused),
    ] {
        let mut world = World::new();
        let opened = world.open(attach(1, true, "boot"));
        world.end_start(end);
        assert_eq!(world.decisions[&opened], Ok(decision));
    }
}

#[test]
fn a_start_that_failed_is_refused_only_if_the_disk_does_not_know_the_task() {
    for (knowledge, decision) in [
        (Knowledge::Spooled, Decision::Resume),
        (Knowledge::Recorded(FinalRecord::Ending(ending())), Decision::Recall(ending())),
    ] {
        let mut world = World::new();
        let opened = world.open(attach(1, true, "boot"));
        world.disk.insert(id(0), knowledge);
        world.end_start(failed());
        assert_eq!(world.decisions[&opened], Ok(decision));
    }
    // The memory was removed during the start.
    let mut world = World::new();
    let opened = world.open(attach(1, true, "boot"));
    world.step(Input::MemoryReplaced(life("later")));
    world.end_start(failed());
    assert_eq!(world.decisions[&opened], Ok(Decision::MemoryRemoved));
    // A disk that cannot be read says nothing about the task, so the master asks again.
    let mut world = World::new();
    let opened = world.open(attach(1, true, "boot"));
    world.disk_fails = true;
    world.end_start(failed());
    assert_eq!(world.decisions[&opened], Err(DiskError("full".into())));
    world.disk_fails = false;
    assert_eq!(world.decide(attach(2, true, "boot")), None);
    assert_eq!(world.starts, 2);
}

#[test]
fn of_the_orders_to_stop_a_task_that_is_being_started_only_the_newest_waits() {
    let mut world = World::new();
    world.open(attach(1, true, "boot"));
    let orders: Vec<Ticket> = (0..3).map(|_| world.ticket()).collect();
    for order in &orders {
        world.step(Input::Cancel(id(0), ReplyTo::new(*order)));
    }
    let replaced = |reply: &Reply| matches!(reply, Reply::Cancelled(Ok(Cancelled::Replaced)));
    assert!(orders[..2].iter().all(|order| world.replies.get(order).is_some_and(replaced)));
    assert_eq!(world.core.tasks[&id(0)].waiting.len(), 1);
    world.end_start(StartEnd::Started);
    assert_eq!(world.replies.remove(&orders[2]), Some(Ok(Cancelled::Spooled(life("boot"))).into()));
}

#[test]
fn nothing_is_decided_on_a_task_that_is_being_started() {
    let mut world = World::new();
    world.open(attach(1, true, "boot"));
    assert_eq!(world.ask(Input::ListStarting), Some(vec![id(0)]));
    let (cancel, later) = (world.ticket(), attach(2, true, "boot"));
    world.step(Input::Cancel(id(0), ReplyTo::new(cancel)));
    let later = world.open(later);
    assert!(!world.replies.contains_key(&cancel) && !world.decisions.contains_key(&later));
    world.end_start(failed());
    let promised = Cancelled::NeverStarted(life("boot"));
    assert_eq!(world.replies.remove(&cancel), Some(Ok(promised).into()));
    assert_eq!(world.decisions[&later], Ok(Decision::NeverStarted(life("boot"))));
    assert_eq!((world.ask(Input::ListStarting), world.starts), (Some(Vec::new()), 1));
    // A start that has succeeded is killed.
    let mut world = World::new();
    world.open(attach(1, true, "boot"));
    let cancel = world.ticket();
    world.step(Input::Cancel(id(0), ReplyTo::new(cancel)));
    world.end_start(StartEnd::Started);
    assert_eq!(world.replies.remove(&cancel), Some(Ok(Cancelled::Spooled(life("boot"))).into()));
}
