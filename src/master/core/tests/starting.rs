//! Which jobs start, and for which agents they wait.

use super::*;
use crate::domain::{command::Variable, input::StandardInput, offset::OutputOffset};

#[test]
fn a_repeated_request_starts_one_job() {
    let mut world = World::with_agent("web-1", "boot");
    let first = world.run(7, "web-1");
    let again = world.run(7, "web-1");
    assert_eq!(first.number, again.number);
    assert_eq!(world.attaches().len(), 1);
}

#[test]
fn a_request_that_is_repeated_after_the_job_ended_starts_nothing() {
    let mut world = World::with_agent("web-1", "boot");
    world.in_store = true;
    assert_eq!(world.run_with(7, "web-1", JobOptions::default()), JobStart::Ended);
    assert!(world.attaches().is_empty());
    world.in_store = false;
    world.run(8, "web-1");
}

#[test]
fn a_task_waits_for_an_offline_agent_until_its_deadline() {
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionClosed(SessionId(1)));
    world.pass(30);
    let job = world.run(1, "web-1");
    assert_eq!(job.tasks[0].state, TaskState::Queued);
    world.pass(31);
    assert!(matches!(world.state(task(1, 0)).outcome().unwrap().ending, Ending::Undeliverable(_)));
    let job = world.run(2, "web-1");
    let outcome = job.tasks[0].state.outcome().expect("at once");
    assert!(matches!(outcome.ending, Ending::Undeliverable(_)));

    let options = JobOptions { start_within_ms: Some(3_600_000), ..JobOptions::default() };
    world.run_with(3, "web-1", options);
    world.pass(3_000);
    world.connect(2, "web-1", "boot2");
    let order = world.attaches().pop().expect("it is sent when it comes back");
    assert!(order.start.is_some());
    assert_eq!(order.incarnation, Incarnation::new("dir", "boot2"));
}

#[test]
fn a_job_with_standard_input_needs_one_plain_name() {
    let mut world = World::two_agents();
    let options = || JobOptions { input: StandardInput::Stream, ..JobOptions::default() };
    for (number, target) in [(1, "web-[1-2]"), (2, "@all!web-2")] {
        let reply = world.run_with(number, target, options());
        assert!(
            matches!(&reply, JobStart::Denied(Denied::Refused(text)) if text.contains("more than one plain name")),
            "{reply:?}"
        );
    }
    assert!(matches!(world.run_with(3, "web-1", options()), JobStart::Live(_)));
}

#[test]
fn the_number_of_tasks_of_a_job_is_limited() {
    let mut world = World::with_agent("a", "boot");
    let stored = world.core.agents.values().next().unwrap().stored.clone();
    for number in 1..=crate::domain::job::MOST_TASKS {
        let name = format!("b-{number}").parse().unwrap();
        world.core.agents.insert(AgentRow::new(StoredAgent { name, ..stored.clone() }));
    }
    let reply = world.run_with(1, "@all", JobOptions::default());
    assert!(
        matches!(&reply, JobStart::Denied(Denied::Refused(text)) if text.contains("100001 agents")),
        "{reply:?}"
    );
}

#[test]
fn an_agent_that_is_ahead_of_a_restored_store_gets_no_new_jobs() {
    let mut world = World::new();
    world.agent("web-1");
    let mut newcomer = World::newcomer(1, "web-1", "boot");
    newcomer.seen = (1, 1_000_000).into();
    world.ask(|to| Input::SessionOpened(newcomer, to)).unwrap();
    let reply = world.run_with(1, "web-1", JobOptions::default());
    assert!(matches!(reply, JobStart::Denied(Denied::Refused(reason)) if reason.contains("--restored")));
}

#[test]
fn an_undeliverable_outcome_says_since_when_the_agent_is_offline() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    world.put(Input::SessionClosed(SessionId(1)));
    world.pass(50);
    let options = || JobOptions { start_within_ms: Some(0), ..JobOptions::default() };
    for (number, name, text) in [
        (1, "web-1", "offline for 50.0 s (last seen at 10.0.0.1:1)"),
        (2, "web-2", "it is enrolled, but never connected"),
    ] {
        let JobStart::Live(job) = world.run_with(number, name, options()) else { panic!() };
        let outcome = job.tasks[0].state.outcome().unwrap().to_string();
        assert!(outcome.contains(text), "{outcome}");
    }
}

#[test]
fn an_id_that_another_request_used_is_refused() {
    let mut world = World::with_agent("web-1", "boot");
    let choice = world.choose("web-1", false);
    let asked = |operator: &str, command: &str| JobAsked {
        id: JobId::from_parts(1, 1),
        operator: operator.into(),
        choice: choice.clone(),
        command: Command::new(vec![command.into()]).unwrap(),
        options: JobOptions::default(),
        shown: Vec::new(),
    };
    let mut ask = |operator: &str, command: &str| {
        let asked = Box::new(asked(operator, command));
        world.ask(|to| Input::StartJob(asked, to))
    };
    assert!(matches!(ask("ana", "true"), JobStart::Live(_)));
    assert!(matches!(ask("ana", "true"), JobStart::Live(job) if job.number == 1));
    for (operator, command) in [("bob", "true"), ("ana", "false")] {
        let reply = ask(operator, command);
        assert!(
            matches!(&reply, JobStart::Denied(Denied::Refused(text)) if text.contains("another job")),
            "{reply:?}"
        );
    }
}

#[test]
fn values_of_variables_are_deleted_when_no_task_needs_them() {
    let mut world = World::two_agents();
    world.agent("web-3");
    world.connect(3, "web-3", "boot");
    let variable = Variable::new(b"A".to_vec(), b"secret".to_vec()).unwrap();
    let options = JobOptions { environment: vec![variable.clone()], ..JobOptions::default() };
    assert!(matches!(world.run_with(1, "web-[1-3]", options), JobStart::Live(_)));
    let orders = world.attaches();
    assert!(
        orders.len() == 3
            && orders.iter().all(|order| {
                order.start.as_ref().is_some_and(|(spec, _)| spec.environment == [variable.clone()])
            })
    );
    let written = |world: &World| {
        let options = |write: &Write| match write {
            Write::PutOptions(_, options) => Some((**options).clone()),
            _ => None,
        };
        world.written.iter().flatten().filter_map(options).collect::<Vec<_>>()
    };
    let ended = |id| Input::TaskEnded {
        id,
        outcome: Ending::Exited(0).into(),
        end_offset: OutputOffset::START,
        duration_ns: 0,
    };
    let [first, second, third] = &orders[..] else { panic!("three tasks") };
    world.end(first, 0);
    world.put(ended(second.id));
    assert_eq!(written(&world), [], "one has not started");
    world.put(Input::TaskStarted { id: third.id, attempt: third.attempt, elapsed_ms: 0 });
    let [options] = &written(&world)[..] else { panic!("written once") };
    assert_eq!((&options.environment[..], &options.forgotten[..]), (&[][..], &[variable.name][..]));
    world.put(ended(third.id));
    assert_eq!(written(&world).len(), 1);
}
