//! A job ends with its last task, and not before.

use super::*;
use crate::domain::plan::Plan;
use crate::master::core::messages::{EndedJob, RepeatableJob};

fn is_over(world: &World) -> bool {
    world.out.iter().any(|effect| matches!(effect, Effect::JobEnded(..)))
}

/// Returns how often the end of a job was written.
fn ends_written(world: &World) -> usize {
    world.written.iter().flatten().filter(|write| matches!(write, Write::EndJob(..))).count()
}

#[test]
fn a_job_is_over_with_its_last_task_and_not_before() {
    let mut world = World::fleet(2);
    world.run(1, "@all");
    let orders = world.attaches();
    world.end(&orders[0], 0);
    assert_eq!((is_over(&world), ends_written(&world)), (false, 0));
    world.end(&orders[1], 0);
    assert_eq!((is_over(&world), ends_written(&world)), (true, 1));
    assert!(world.core.jobs.is_empty());
}

#[test]
fn a_job_without_reachable_agents_ends_at_once() {
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionClosed(SessionId(1)));
    let options = JobOptions { start_within_ms: Some(0), ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-1", options), JobStart::Live(_)));
    assert_eq!((is_over(&world), ends_written(&world)), (true, 1));
    assert!(world.core.jobs.is_empty());
}

#[test]
fn a_job_with_all_outcomes_stored_ends_after_a_restart() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let order = world.attaches().pop().unwrap();
    // The disk has the outcome, and the master dies before it checks whether the job has ended.
    world.disk_full = true;
    world.end(&order, 0);
    let mut world = world.restarted();
    assert!(!world.core.jobs.is_empty());
    world.pass(1);
    assert_eq!((is_over(&world), ends_written(&world)), (true, 1));
    assert!(world.core.jobs.is_empty());
}

#[test]
fn a_partly_ended_job_continues_after_a_restart() {
    let mut world = World::fleet(3);
    let first = world.planned(Plan { fanout: Some(2), ..Plan::default() });
    world.end(&first[0], 0);
    world.attaches();
    let mut world = world.restarted();
    let job = world.core.jobs.values().next().unwrap().view();
    let silent: Vec<bool> = job.tasks.iter().map(|task| task.no_contact_since_ms.is_some()).collect();
    assert_eq!(silent, [false, true, true], "those that are under way");
    (1..=3).for_each(|number| world.connect(number, &format!("web-{number}"), "boot"));
    world.pass(1);
    for order in world.attaches() {
        assert!(!is_over(&world));
        world.end(&order, 0);
    }
    assert!(is_over(&world) && world.core.jobs.is_empty());
}

#[test]
fn an_ended_job_is_listed_as_ended_before_it_is_stored() {
    let mut world = World::fleet(2);
    world.run(1, "web-[1-2]");
    let orders = world.attaches();
    world.disk_full = true;
    let listed = |world: &mut World, agent: &str, outcome: &str| {
        let (agent, outcome) = (agent.parse().ok(), outcome.to_owned());
        let jobs = world.ask(|reply| Input::ListEnded { agent, outcome, reply });
        let seen = |ended: EndedJob| (ended.job.number, ended.job.succeeded, ended.fits);
        jobs.into_iter().map(seen).collect::<Vec<_>>()
    };
    assert_eq!(listed(&mut world, "", ""), [], "it runs");
    for (order, status) in orders.iter().zip([0, 3]) {
        world.end(order, status);
    }
    for (agent, outcome, fits) in [
        ("", "", true),
        ("web-2", "failed", true),
        ("web-2", "exited", true),
        ("web-3", "", false),
        ("", "ok", false),
        ("", "running", false),
        ("", "lost", false),
    ] {
        assert_eq!(listed(&mut world, agent, outcome), [(1, 1, fits)], "{agent} {outcome}");
    }
    let found = world.ask(|reply| Input::FindJobToRepeat(JobReference::Last, reply));
    let RepeatableJob { job, options } = *found.unwrap();
    assert!(job.tasks.iter().all(|task| task.state.outcome().is_some()) && options.environment.is_empty());
}

#[test]
fn a_task_whose_agent_is_deleted_before_its_job_is_on_the_disk_ends_and_so_does_the_job() {
    for names in ["web-1", "web-[1-2]"] {
        let mut world = World::two_agents();
        let asked = JobAsked {
            id: JobId::from_parts(1, 1),
            operator: "ana".into(),
            choice: world.choose(names, false),
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            options: JobOptions::default(),
            shown: Vec::new(),
        };
        let now = world.now();
        let name = "web-1".parse().unwrap();
        let mut effects = world.core.step(Input::StartJob(Box::new(asked), caller(900)), now);
        let delete = Input::Delete { name, by: "ana".into(), reply: caller(901) };
        effects.extend(world.core.step(delete, now));
        for (at, effect) in effects.iter().enumerate() {
            if let Effect::Persist(write, ..) = effect {
                world.put(Input::Persisted(*write, at as u64 + 100));
            }
        }
        for order in world.attaches() {
            world.end(&order, 0);
        }
        assert_eq!(world.state(task(1, 0)).word(), "undeliverable", "{names}");
        let is_over = |effect: &Effect| matches!(effect, Effect::JobEnded(..));
        assert!(world.out.iter().any(is_over) && world.core.jobs.is_empty(), "{names}");
    }
}
