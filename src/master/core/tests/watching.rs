//! Updates of watchers: everything once, then only the changes.

use super::*;
use crate::{
    domain::{offset::OutputOffset, plan::Plan},
    master::core::views::{FleetUpdate, JobsUpdate},
};

fn fleet(world: &mut World, seen: u64, numbers_seen: u64) -> FleetUpdate {
    *world.ask(|reply| Input::WatchFleet { seen, numbers_seen, behind: None, reply })
}

fn jobs(world: &mut World, seen: u64) -> JobsUpdate {
    world.ask(|reply| Input::WatchJobs { seen, reply })
}

fn names(news: &FleetUpdate) -> Vec<&str> {
    news.agents.iter().map(|agent| agent.name.as_str()).collect()
}

#[test]
fn a_watcher_receives_a_snapshot_and_then_changes() {
    let mut world = World::new();
    for (session, name) in [(1, "a"), (2, "b")] {
        world.agent(name);
        world.connect(session, name, "life");
    }
    world.pass(1);
    let first = fleet(&mut world, 0, 0);
    assert!(first.is_whole);
    assert_eq!(names(&first), ["a", "b"]);
    world.put(Input::Heard(SessionId(1)));
    world.pass(1);
    let second = fleet(&mut world, first.revision, first.revision);
    assert_eq!((second.is_whole, names(&second)), (false, vec![]), "a heartbeat changes nothing");
    world.put(Input::FactsTold(SessionId(2), Facts::default()));
    assert_eq!(names(&fleet(&mut world, first.revision, u64::MAX)), Vec::<&str>::new());
    assert_eq!(names(&fleet(&mut world, first.revision, first.revision)), ["b"]);
    world.put(Input::SessionClosed(SessionId(1)));
    assert_eq!(names(&fleet(&mut world, first.revision, u64::MAX)), ["a"]);
}

#[test]
fn a_watcher_that_is_up_to_date_receives_nothing() {
    let mut world = World::two_agents();
    world.put(Input::FactsTold(SessionId(2), Facts::default()));
    let seen = fleet(&mut world, 0, 0).revision;
    assert_eq!(world.core.watched_revision(), seen);
    assert_eq!(names(&fleet(&mut world, seen, seen)), Vec::<&str>::new());
    let name = "web-2".parse().unwrap();
    world.ask(|reply| Input::Delete { name, by: "ana".into(), reply }).unwrap();
    let gone = fleet(&mut world, seen, seen);
    assert_eq!(gone.deleted.len(), 1);
    assert!(world.core.watched_revision() > seen);
    assert_eq!(fleet(&mut world, gone.revision, gone.revision).deleted, []);

    world.run(1, "web-1");
    let begun = jobs(&mut world, 0);
    assert_eq!(begun.jobs.len(), 1);
    assert_eq!(jobs(&mut world, begun.revision).jobs, []);
    let order = world.attaches().pop().unwrap();
    world.end(&order, 0);
    let (job, reason, by) = (JobId::from_parts(1, 1), "deleted by ana".to_owned(), "ana".to_owned());
    world.ask(|reply| Input::DeleteJob { job, reason, by, reply }).unwrap();
    let deleted = jobs(&mut world, begun.revision);
    assert_eq!(deleted.deleted, [job]);
    assert_eq!(jobs(&mut world, deleted.revision).deleted, []);
}

#[test]
fn watchers_receive_a_job_when_it_is_stored_and_when_its_gate_changes() {
    let mut world = World::fleet(2);
    let seen = jobs(&mut world, 0).revision;
    let asked = JobAsked {
        id: JobId::from_parts(1, 1),
        operator: "ana".into(),
        choice: world.choose("@all", false),
        command: Command::new(vec![b"true".to_vec()]).unwrap(),
        options: JobOptions {
            plan: Plan { canary: Some(1), pause_ms: Some(5_000), ..Plan::default() },
            ..JobOptions::default()
        },
        shown: Vec::new(),
    };
    let now = world.now();
    let effects = world.core.step(Input::StartJob(Box::new(asked), caller(900)), now);
    assert_eq!(jobs(&mut world, seen).jobs, [], "it may come to nothing");
    let token = effects.iter().find_map(|effect| match effect {
        Effect::Persist(token, ..) => Some(*token),
        _ => None,
    });
    world.put(Input::Persisted(token.unwrap(), 1));
    assert_eq!(jobs(&mut world, seen).jobs.len(), 1);

    let order = world.attaches().pop().unwrap();
    world.end(&order, 0);
    let pausing = jobs(&mut world, 0).revision;
    let now = world.now();
    let later = Now { monotonic: now.monotonic + Duration::from_secs(6), ..now };
    let effects = world.core.step(Input::Tick, later);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::PublishGate(..))), "{effects:?}");
    assert_eq!(jobs(&mut world, pausing).jobs[0].gate.open_batch, 1);
}

#[test]
fn the_last_job_of_an_agent_is_the_newest_that_has_begun() {
    let mut world = World::with_agent("a", "life");
    let last = |world: &mut World| fleet(world, 0, 0).agents[0].last_job.clone().unwrap();
    world.run(1, "a");
    let first = world.attaches().pop().unwrap();
    world.run(2, "a");
    assert_eq!(last(&mut world).number, 2);
    world.end(&first, 0);
    assert_eq!(last(&mut world).number, 2, "the older one ended later");
    world.put(Input::SessionClosed(SessionId(1)));
    let options = JobOptions { start_within_ms: Some(3_600_000), ..JobOptions::default() };
    assert!(matches!(world.run_with(3, "a", options), JobStart::Live(_)));
    assert_eq!((last(&mut world).number, last(&mut world).state), (3, TaskState::Queued));
}

#[test]
fn watchers_see_a_silent_agent_as_late_and_a_deleted_one_as_deleted() {
    let mut world = World::with_agent("a", "life");
    world.pass(1);
    let seen = fleet(&mut world, 0, 0).revision;
    world.pass(13);
    let late = fleet(&mut world, seen, u64::MAX);
    assert_eq!(late.agents[0].state, AgentState::Late);
    let name = "a".parse().unwrap();
    world.ask(|reply| Input::Delete { name, by: "ana".into(), reply }).unwrap();
    let gone = fleet(&mut world, late.revision, u64::MAX);
    assert_eq!(gone.deleted.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn updates_contain_the_counts_of_jobs_and_the_last_jobs_of_agents() {
    let mut world = World::with_agent("a", "life");
    let seen = fleet(&mut world, 0, 0).revision;
    world.run_with(1, "a", JobOptions::default());
    let begun = jobs(&mut world, 0);
    assert_eq!((begun.jobs.len(), begun.jobs[0].unfinished), (1, 1));
    let id = TaskId { job: JobId::from_parts(1, 1), index: 0 };
    let outcome = Ending::Exited(3).into();
    world.put(Input::TaskEnded { id, outcome, end_offset: OutputOffset::START, duration_ns: 1 });
    let ended = jobs(&mut world, begun.revision);
    assert!(ended.is_complete);
    assert_eq!((ended.jobs[0].unfinished, ended.jobs[0].ended_ms.is_some()), (0, true));
    assert!(jobs(&mut world, ended.revision).jobs.is_empty());
    let (job, reason, by) = (id.job, "deleted by ana".to_owned(), "ana".to_owned());
    world.ask(|reply| Input::DeleteJob { job, reason, by, reply }).unwrap();
    let deleted = jobs(&mut world, ended.revision);
    assert_eq!((deleted.jobs.len(), deleted.deleted), (0, vec![id.job]));
    assert!(
        jobs(&mut world, begun.revision).jobs.is_empty(),
        "a watcher that missed the end is notified of the deletion"
    );
    let news = fleet(&mut world, seen, u64::MAX);
    let last = news.agents[0].last_job.clone().unwrap();
    assert_eq!((last.number, last.operator.as_str()), (1, "ana"));
    assert_eq!(last.state, TaskState::Ended(Ending::Exited(3).into()));
}
