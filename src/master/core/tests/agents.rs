//! Agents as the master sees them: connections, states, and what is stored about them.

use super::*;
use crate::domain::time::UnixMs;

#[test]
fn agents_become_late_and_then_offline() {
    let mut world = World::new();
    world.agent("web-1");
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Offline));
    world.connect(1, "web-1", "boot");
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Active));
    world.pass(13);
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Late));
    world.put(Input::Heard(SessionId(1)));
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Active));
    world.pass(30);
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Offline));
    assert!(world.out.contains(&Effect::CloseSession(SessionId(1))));
}

#[test]
fn a_second_connection_is_refused_if_the_first_answers_and_replaces_it_otherwise() {
    let mut world = World::with_agent("web-1", "boot");
    world.put(Input::SessionOpened(World::newcomer(2, "web-1", "boot"), caller(901)));
    assert!(world.out.contains(&Effect::Ping(SessionId(1))));
    world.put(Input::Heard(SessionId(1)));
    let refused = |effect: &Effect| {
        matches!(effect, Effect::Reply(Ticket(901), reply)
            if matches!(&**reply, Reply::Session(Err(SessionDenied { kind: SessionRefusal::Duplicate, reason: text }))
                if text.contains("10.0.0.1") && text.contains("10.0.0.2")))
    };
    assert!(world.out.iter().any(refused), "both addresses are named");
    let recorded = |write: &Write| {
        matches!(write, Write::Audit { actor, subject, .. }
            if actor == "agent web-1" && subject == "a second connection with its key")
    };
    assert!(world.written.iter().flatten().any(recorded), "{:?}", world.written);

    world.put(Input::SessionOpened(World::newcomer(3, "web-1", "boot"), caller(902)));
    world.pass(1);
    assert!(!world.out.contains(&Effect::CloseSession(SessionId(1))), "it has two seconds to answer");
    world.pass(1);
    assert!(world.out.contains(&Effect::CloseSession(SessionId(1))));
    let welcome = |effect: &Effect| matches!(effect, Effect::Reply(Ticket(902), reply) if matches!(**reply, Reply::Session(Ok(_))));
    assert!(world.out.iter().any(welcome));
}

#[test]
fn deleting_an_agent_ends_its_tasks_as_lost_and_reports_how_many() {
    let mut world = World::with_agent("web-1", "boot");
    world.run(1, "web-1");
    let attempt = world.attaches().pop().unwrap().attempt;
    world.put(Input::TaskStarted { id: task(1, 0), attempt, elapsed_ms: 0 });
    let (name, by) = ("web-1".parse().unwrap(), "ana".to_owned());
    let reply = world.ask(|reply| Input::Delete { name, by, reply });
    assert_eq!(reply, Ok(1));
    assert!(matches!(world.state(task(1, 0)).outcome().unwrap().ending, Ending::Lost(_)));
    let reply = world.ask(|to| Input::SessionOpened(World::newcomer(2, "web-1", "boot"), to));
    assert!(matches!(reply, Err(SessionDenied { kind: SessionRefusal::UnknownKey, .. })));
}

#[test]
fn stopping_an_agent_reports_how_many_tasks_run_on_it() {
    let mut world = World::with_agent("web-1", "boot");
    let stop = |world: &mut World| {
        let (name, by) = ("web-1".parse().unwrap(), "ana".to_owned());
        world.ask(|reply| Input::Stop { name, grace_ms: 1, by, reply })
    };
    assert_eq!(stop(&mut world), Ok(0));
    (1..=3).for_each(|number| drop(world.run(number, "web-1")));
    assert_eq!(stop(&mut world), Ok(3));
}

#[test]
fn an_agent_is_stored_when_it_reconnects_with_a_change() {
    // How often the agent is written when it reconnects with a change.
    let count = |change: &dyn Fn(&mut Newcomer)| {
        let mut world = World::with_agent("web-1", "boot");
        world.put(Input::SessionClosed(SessionId(1)));
        let mut newcomer = World::newcomer(1, "web-1", "boot");
        newcomer.session = SessionId(2);
        change(&mut newcomer);
        let from = world.written.len();
        world.ask(|to| Input::SessionOpened(newcomer, to)).unwrap();
        world.written[from..].iter().flatten().filter(|write| matches!(write, Write::PutAgent(_))).count()
    };
    assert_eq!(count(&|_| {}), 0, "nothing is new");
    assert_eq!(count(&|newcomer| newcomer.version = "2".into()), 1);
    assert_eq!(count(&|newcomer| newcomer.address = "10.9.9.9:1".into()), 1);
    assert_eq!(count(&|newcomer| newcomer.trust = "token".into()), 1);
    assert_eq!(count(&|newcomer| newcomer.seen = (1, 900).into()), 1, "it is ahead of the store");
    let label = |text: &str| text.to_owned().try_into().unwrap();
    assert_eq!(count(&|newcomer| drop(newcomer.labels.insert(label("role"), label("db")))), 1);
}

#[test]
fn an_agents_hint_says_what_is_wrong() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    let hint = |world: &mut World, name: &str| {
        world.listed().into_iter().find(|agent| agent.name.as_str() == name).unwrap().hint
    };
    assert_eq!(hint(&mut world, "web-1"), "");
    assert_eq!(hint(&mut world, "web-2"), "enrolled, but never connected yet");
    let choice = Box::new(world.choose("web-1", true));
    let (reason, by) = (Some("disk swap".to_owned()), "ana".to_owned());
    world.ask(|reply| Input::Drain { choice: choice.clone(), reason, by, reply }).unwrap();
    assert_eq!(hint(&mut world, "web-1"), "draining, by ana: disk swap");
    assert_eq!(world.agent_state("web-1"), Some(AgentState::Draining));
    world.put(Input::SessionClosed(SessionId(1)));
    let gone = "not connected; is it running, and does it reach this master?; draining, by ana: disk swap";
    assert_eq!(hint(&mut world, "web-1"), gone);

    // A master that has just started has received nothing from any agent yet.
    let agents = world.core.agents.values().map(|row| row.stored.clone()).collect();
    let now = Now { monotonic: Duration::ZERO, unix_ms: UnixMs(2_000_000) };
    world.core = Core::new(Policy::default(), Remembered { agents, epoch: 1, ..Remembered::default() }, now);
    world.now = Duration::from_secs(59);
    assert!(hint(&mut world, "web-1").starts_with("not back yet since the master's start"));
    assert_eq!(hint(&mut world, "web-2"), "enrolled, but never connected yet");
    world.now = Duration::from_mins(1);
    assert!(hint(&mut world, "web-1").starts_with("not connected"));
}

#[test]
fn closing_a_waiting_second_connection_answers_only_that_one() {
    let mut world = World::with_agent("web-1", "boot");
    world.agent("web-2");
    world.connect(2, "web-2", "boot");
    for (session, name, reply) in [(11, "web-1", 901), (12, "web-2", 902)] {
        world.put(Input::SessionOpened(World::newcomer(session, name, "boot"), caller(reply)));
    }
    world.put(Input::SessionClosed(SessionId(11)));
    assert!(world.answered(901) && !world.answered(902));
}
