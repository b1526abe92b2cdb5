//! Targets of jobs, labels, and what agents report when they return.

use super::*;

#[test]
fn a_job_runs_only_on_the_agents_that_were_shown() {
    let mut world = World::new();
    world.agent("web-1");
    world.agent("web-2");
    let choice = world.choose("web-*", false);
    let asked = |shown: &[(&str, &str)]| JobAsked {
        id: JobId::from_parts(1, 5),
        operator: "ana".into(),
        choice: choice.clone(),
        command: Command::new(vec![b"true".to_vec()]).unwrap(),
        options: JobOptions::default(),
        shown: shown
            .iter()
            .map(|(name, key)| (name.parse().unwrap(), Fingerprint::of(key.as_bytes())))
            .collect(),
    };
    let reply = world.ask(|to| Input::StartJob(Box::new(asked(&[("web-1", "old"), ("web-9", "x")])), to));
    let JobStart::TargetChanged { gone, more } = reply else { panic!("{reply:?}") };
    assert_eq!((gone.len(), more), (2, vec!["web-2".parse().unwrap()]));
    let reply = world.ask(|to| Input::StartJob(Box::new(asked(&[("web-2", "web-2")])), to));
    let JobStart::Live(job) = reply else { panic!("{reply:?}") };
    assert_eq!(job.tasks.len(), 1, "new matches are not included");
}

#[test]
fn operators_labels_take_precedence_and_stay_with_the_name() {
    let mut world = World::with_agent("web-1", "boot");
    let change = |world: &mut World, changes: &[&str]| {
        let choice = Box::new(world.choose("web-1", false));
        let changes = changes.iter().map(|text| text.parse().unwrap()).collect();
        world.ask(|reply| Input::Label { choice, changes, by: "ana".into(), reply })
    };
    assert!(matches!(change(&mut world, &["role=web", "dc=ams"]), Ok(LabelledAgents { .. })));
    assert_eq!(world.run(1, "@role:web&@dc:ams").task_count, 1);
    assert!(
        matches!(change(&mut world, &["dc-"]), Ok(LabelledAgents { still_reported, .. }) if still_reported.is_empty())
    );
    let JobStart::Denied(Denied::NotFound(text)) = world.run_with(2, "@dc:ams", JobOptions::default()) else {
        panic!()
    };
    assert!(text.contains("labels are role=web"), "{text}");
    let JobStart::Denied(Denied::NotFound(text)) = world.run_with(2, "@role:wbe", JobOptions::default())
    else {
        panic!()
    };
    assert!(text.contains("did you mean the label role=web?"), "{text}");
    // The machine was reinstalled: another key, the same name.
    world.enroll("web-1", "new key", None);
    let (name, digits) = ("web-1".parse().unwrap(), Fingerprint::of(b"new key").to_string());
    world
        .ask(|reply| Input::Approve {
            name,
            mark: KeyMark::Digits(digits),
            shown: Vec::new(),
            by: "ana".into(),
            reply,
        })
        .unwrap();
    assert_eq!(world.run(3, "@role:web").task_count, 1);
}

#[test]
fn errors_for_unknown_targets_suggest_known_ones() {
    let mut world = World::two_agents();
    world.enroll("new-1", "new", None);
    let mut said = |target: &str| match world.run_with(1, target, JobOptions::default()) {
        JobStart::Denied(Denied::NotFound(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(said("new-1").starts_with("new-1 is pending: its key waits for"));
    assert!(said("web-3").contains("did you mean"), "{}", said("web-3"));
    assert!(said("new-1,old-2").starts_with("no such agents: new-1,old-2;"), "{}", said("new-1,old-2"));
    assert_eq!(said("@role:db"), "no agent matches @role:db; `sloth-runner agent list` shows all 2");
    for (count, more) in [(8, false), (9, true)] {
        let changes = (1..=count).map(|n| format!("key{n}=v").parse().unwrap()).collect();
        let choice = Box::new(world.choose("web-1", false));
        world.ask(|reply| Input::Label { choice, changes, by: "ana".into(), reply }).unwrap();
        let reply = world.run_with(1, "@place:elsewhere", JobOptions::default());
        let JobStart::Denied(Denied::NotFound(text)) = reply else { panic!("{reply:?}") };
        assert_eq!((text.contains("key8=v"), text.ends_with(", …")), (true, more), "{text}");
        let reply = world.run_with(1, "x-*", JobOptions::default());
        assert!(
            matches!(&reply, JobStart::Denied(Denied::NotFound(text)) if text.contains("shows all 2")),
            "{reply:?}"
        );
    }
}

#[test]
fn draining_reports_how_many_tasks_continue() {
    let mut world = World::two_agents();
    for (number, target) in [(1, "web-1"), (2, "web-[1-2]")] {
        world.run(number, target);
    }
    for order in world.attaches() {
        world.put(Input::TaskStarted { id: order.id, attempt: order.attempt, elapsed_ms: 0 });
    }
    let choice = Box::new(world.choose("@all", true));
    let (reason, by) = (Some("disk swap".to_owned()), "ana".to_owned());
    let reply = world.ask(|reply| Input::Drain { choice, reason, by, reply });
    assert!(matches!(reply, Ok(Drained { running: 3, .. })), "{reply:?}");
}

#[test]
fn agents_that_were_deleted_since_the_selection_are_left_out() {
    let mut world = World::two_agents();
    let choice = world.choose("web-*", false);
    let drain = |world: &mut World, choice: &Choice| {
        let (choice, by) = (Box::new(choice.clone()), "ana".to_owned());
        world.ask(|reply| Input::Drain { choice, reason: Some(String::new()), by, reply })
    };
    let (name, by) = ("web-1".parse().unwrap(), "ana".to_owned());
    world.ask(|reply| Input::Delete { name, by, reply }).unwrap();
    let reply = drain(&mut world, &choice);
    assert!(matches!(&reply, Ok(Drained { agents, .. }) if agents.len() == 1), "{reply:?}");
    let (name, by) = ("web-2".parse().unwrap(), "ana".to_owned());
    world.ask(|reply| Input::Delete { name, by, reply }).unwrap();
    let reply = drain(&mut world, &choice);
    assert!(
        matches!(&reply, Err(Denied::NotFound(text)) if text.contains("web-* is still there")),
        "{reply:?}"
    );
}

#[test]
fn an_error_names_a_dozen_agents_and_counts_the_others() {
    let mut world = World::new();
    for n in 1..=20 {
        world.agent(&format!("web-{}", 2 * n));
    }
    let all = Box::new(world.choose("@all", true));
    let (reason, by) = (Some("move".to_owned()), "ana".to_owned());
    world.ask(|reply| Input::Drain { choice: all, reason, by, reply }).unwrap();
    let JobStart::Denied(Denied::Refused(text)) = world.run_with(1, "@all", JobOptions::default()) else {
        panic!()
    };
    assert!(text.contains("web-[2,4,6,8,10,12,14,16,18,20,22,24] and 8 more"), "{text}");
    let JobStart::Denied(Denied::NotFound(text)) =
        world.run_with(2, "new-[1-90000],@all", JobOptions::default())
    else {
        panic!()
    };
    assert!(text.starts_with("no such agents: new-[1-12];"), "{text}");
}

#[test]
fn targets_by_state_wait_a_minute_after_a_start() {
    let mut world = World::with_agent("web-1", "boot");
    world.now = Duration::from_secs(20);
    let refused = world.run_with(1, "@state:active", JobOptions::default());
    assert!(matches!(refused, JobStart::Denied(Denied::Refused(text)) if text.contains("--now")));
    let at_once = JobOptions { now: true, ..JobOptions::default() };
    assert!(matches!(world.run_with(2, "@state:active", at_once), JobStart::Live(_)));
    world.now = Duration::from_secs(61);
    assert_eq!(world.run(3, "@state:active").task_count, 1);
}

#[test]
fn a_target_with_unknown_names_starts_nothing() {
    let mut world = World::new();
    world.agent("web-1");
    world.agent("web-2");
    for target in ["web-[1-4]", "@all!wbe-1", "web-3"] {
        let reply = world.run_with(1, target, JobOptions::default());
        assert!(
            matches!(&reply, JobStart::Denied(Denied::NotFound(text)) if text.contains("no such agent")),
            "{target}: {reply:?}"
        );
    }
    assert_eq!(world.run(1, "web-[1-4]&@all").task_count, 2);
}

#[test]
fn tasks_of_a_returning_agent_are_recovered_or_recalled() {
    use crate::{
        domain::{command::TaskSpec, offset::OutputOffset, time::UnixMs},
        master::core::stored::{KnownTask, StoredJobNumber, StoredTaskState},
    };
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let spec = TaskSpec {
        job_number: 7,
        operator: "ana".into(),
        target: "@all".into(),
        command: Command::new(vec![b"true".to_vec()]).unwrap(),
        environment: Vec::new(),
        working_directory: None,
        timeout_ms: None,
        kill_grace_ms: 1,
        input: crate::domain::input::StandardInput::Nothing,
        by_admin: false,
        seal: None,
    };
    let known = |job, index| KnownTask {
        id: task(job, index),
        spec: spec.clone(),
        started_ms: UnixMs(5),
        is_proved: true,
    };
    world.attaches();
    // A live task is not looked up in the store; others are.
    world.put(Input::InventoryTold(SessionId(1), vec![known(1, 0), known(2, 3), known(3, 0)]));
    let asked = world.out.iter().find_map(|effect| match effect {
        Effect::LookUp(SessionId(1), _, asked) => {
            Some(asked.iter().map(|known| known.id).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(asked, Some(vec![task(2, 3), task(3, 0)]));
    let nothing = StoredTaskState::Nothing { number: StoredJobNumber::Free };
    world.put(Input::LookedUp(
        SessionId(1),
        vec![(known(2, 3), nothing), (known(3, 0), StoredTaskState::Ended)],
    ));
    let orders = world.attaches();
    assert_eq!(orders.iter().map(|order| order.id).collect::<Vec<_>>(), [task(2, 3), task(3, 0)]);
    assert!(orders.iter().all(|order| order.start.is_none()), "nothing of it is started again");
    let Some(job) = world.ask(|reply| Input::FindJob(JobReference::Number(7), reply)) else { panic!() };
    assert_eq!((job.tasks.len(), job.tasks[0].index, job.target.as_str()), (1, 3, "@all"));
    for order in &orders {
        let outcome = Outcome::from(Ending::Exited(3));
        world.put(Input::TaskEnded {
            id: order.id,
            outcome,
            end_offset: OutputOffset::START,
            duration_ns: 1,
        });
        assert!(world.out.contains(&Effect::OutcomeStored(order.id)), "the agent may forget {}", order.id);
    }
    assert!(world.core.jobs.len() == 1, "only the first job is live");
}

#[test]
fn the_order_of_shown_agents_does_not_matter() {
    let mut world = World::new();
    let names = ["web-1", "web-2", "web-9", "web-10", "web-11", "db-3"];
    for (session, name) in (1..).zip(names) {
        world.agent(name);
        world.connect(session, name, "life");
    }
    let shown = names.map(|name| (name.parse().unwrap(), Fingerprint::of(name.as_bytes())));
    let asked = JobAsked {
        id: JobId::from_parts(1, 9),
        operator: "ana".into(),
        choice: world.choose("@all", false),
        command: Command::new(vec![b"true".to_vec()]).unwrap(),
        options: JobOptions::default(),
        shown: shown.to_vec(),
    };
    match world.ask(|to| Input::StartJob(Box::new(asked), to)) {
        JobStart::Live(job) => assert_eq!(job.tasks.len(), names.len()),
        other => panic!("{other:?}"),
    }
}
