//! Behaviour while the disk accepts no writes: what is refused, what is retried, and what is answered.

use super::*;
use crate::domain::{command::Variable, offset::OutputOffset};

#[test]
fn a_job_that_cannot_be_recorded_is_not_started() {
    let mut world = World::with_agent("web-1", "boot");
    let begun = world.run(9, "web-1").number;
    world.attaches();
    world.disk_full = true;
    let reply = world.run_with(1, "web-1", JobOptions::default());
    assert!(matches!(reply, JobStart::Denied(Denied::Refused(reason)) if reason.contains("disk full")));
    assert!(world.attaches().is_empty());
    let last = world.ask(|reply| Input::FindJob(JobReference::Last, reply));
    assert!(matches!(last, Some(job) if job.number == begun), "the last one that has begun is the last one");
    world.disk_full = false;
    let reply = world.run_with(2, "web-1", JobOptions::default());
    assert!(matches!(reply, JobStart::Denied(Denied::Refused(_))), "the trouble is not known to be over");
    world.pass(1);
    world.run(3, "web-1");
}

#[test]
fn an_outcome_that_cannot_be_written_is_written_later() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let id = task(1, 0);
    world.disk_full = true;
    world.put(Input::TaskEnded {
        id,
        outcome: Ending::Exited(0).into(),
        end_offset: OutputOffset::START,
        duration_ns: 0,
    });
    assert!(!world.out.contains(&Effect::OutcomeStored(id)), "the agent must keep it");
    world.make_room();
    assert!(world.out.contains(&Effect::OutcomeStored(id)));
}

#[test]
fn a_task_is_sent_only_after_the_incarnation_is_stored() {
    let mut world = World::with_agent("web-1", "boot1");
    world.put(Input::SessionClosed(SessionId(1)));
    let options = JobOptions { start_within_ms: Some(600_000), ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-1", options), JobStart::Live(_)));
    world.disk_full = true;
    world.connect(2, "web-1", "boot2");
    world.put(Input::SessionClosed(SessionId(2)));
    world.connect(3, "web-1", "boot2");
    assert!(world.attaches().is_empty(), "nothing is on the disk yet");
    world.make_room();
    assert_eq!(world.attaches().len(), 1);
}

#[test]
fn a_task_is_not_sent_while_another_life_of_its_agent_is_being_recorded() {
    let mut world = World::with_agent("web-1", "boot1");
    world.put(Input::SessionClosed(SessionId(1)));
    let options = JobOptions { start_within_ms: Some(600_000), ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-1", options), JobStart::Live(_)));
    world.disk_full = true;
    world.connect(2, "web-1", "boot2");
    world.put(Input::SessionClosed(SessionId(2)));
    world.connect(3, "web-1", "boot3");
    world.disk_full = false;
    let kept = std::mem::take(&mut world.kept);
    assert_eq!(kept.len(), 2, "each life is recorded");
    world.put(Input::Persisted(kept[0], 1_000));
    assert!(world.attaches().is_empty(), "the disk has the life that is gone");
    world.put(Input::Persisted(kept[1], 1_001));
    let order = world.attaches().pop().expect("it is sent");
    assert_eq!(order.incarnation, Incarnation::new("dir", "boot3"));
    assert!(order.start.is_some());
}

#[test]
fn values_of_variables_leave_the_store_when_every_task_is_refused_at_once() {
    let mut world = World::with_agent("web-1", "boot");
    let choice = Box::new(world.choose("web-1", false));
    let reason = Some("disk swap".to_owned());
    world.ask(|reply| Input::Drain { choice, reason, by: "ana".into(), reply }).unwrap();
    let variable = Variable::new(b"TOKEN".to_vec(), b"secret".to_vec()).unwrap();
    let options = JobOptions { environment: vec![variable.clone()], ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-1", options), JobStart::Live(_)));
    let put = world.written.iter().flatten().find_map(|write| match write {
        Write::PutOptions(_, options) => Some(options),
        _ => None,
    });
    let options = put.expect("the values are removed");
    assert_eq!((&options.environment[..], &options.forgotten[..]), (&[][..], &[variable.name][..]));
}

#[test]
fn an_order_that_cannot_be_recorded_is_answered_as_done_but_not_recorded() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    world.disk_full = true;
    world.cancel(77);
    assert!(world.out.iter().any(|effect| matches!(effect, Effect::Signal { .. })));
    assert!(!world.answered(77), "it may be starting at this moment");
    world.put(Input::SignalAnswered {
        id: task(1, 0),
        known: true,
        incarnation: Incarnation::new("dir", "boot"),
    });
    let is_said = |effect: &Effect| matches!(effect, Effect::Reply(Ticket(77), reply) if matches!(&**reply, Reply::Cancel(Err(JobDenied::Refused(text))) if text.starts_with("it is done, but")));
    assert!(world.out.iter().any(is_said), "{:?}", world.out);
    // The same when the agent promises not to start it: the outcome is not on the disk either.
    let mut other = World::with_agent("web-1", "boot");
    other.run(1, "web-1");
    other.disk_full = true;
    other.cancel(77);
    let incarnation = Incarnation::new("dir", "boot");
    other.put(Input::SignalAnswered { id: task(1, 0), known: false, incarnation });
    assert!(other.out.iter().any(is_said), "{:?}", other.out);

    let reply = world.ask(|reply| Input::CreateToken {
        hash: "hash".into(),
        ttl_ms: 1,
        uses: 1,
        terms: Box::default(),
        by: "ana".into(),
        reply,
    });
    assert!(matches!(&reply, Err(Denied::Refused(text)) if text.contains("disk full")), "{reply:?}");
    assert!(world.core.tokens.is_empty(), "nothing new begins");
}
