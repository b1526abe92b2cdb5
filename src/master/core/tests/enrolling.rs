//! Enrollment: by token, by code, and by approval of pending keys.

use super::*;
use crate::domain::{code::Code, seal::Seal};

#[test]
fn a_new_key_under_a_known_name_waits_and_never_replaces_the_old_one() {
    let mut world = World::new();
    world.agent("web-1");
    assert_eq!(
        world.enroll("web-1", "web-1", None),
        EnrollAnswer::Enrolled(None),
        "the known key stays known"
    );
    assert_eq!(world.enroll("web-1", "other", None), EnrollAnswer::Pending { key_changed: true });
    world.connect(1, "web-1", "boot");
    let name: AgentName = "web-1".parse().unwrap();
    let wrong = ("00000000".to_owned(), "ana".to_owned());
    let reply = world.ask(|reply| Input::Approve {
        name: name.clone(),
        mark: KeyMark::Digits(wrong.0),
        shown: Vec::new(),
        by: wrong.1,
        reply,
    });
    assert!(matches!(reply, Err(Denied::Refused(_))));
    let digits = Fingerprint::of(b"other").short();
    let reply = world.ask(|reply| Input::Approve {
        name,
        mark: KeyMark::Digits(digits),
        shown: Vec::new(),
        by: "ana".into(),
        reply,
    });
    assert!(matches!(reply, Ok(Approved { replaced_key: true, .. })));
    assert!(world.out.contains(&Effect::CloseSession(SessionId(1))));
    assert_eq!(world.enroll("web-1", "other", None), EnrollAnswer::Enrolled(None));
}

#[test]
fn tokens_end_after_their_uses_and_at_their_expiry() {
    let mut world = World::new();
    let make = |world: &mut World, hash: &str, uses| {
        let (hash, by) = (hash.to_owned(), "ana".to_owned());
        world.ask(|reply| Input::CreateToken { hash, ttl_ms: 60_000, uses, terms: Box::default(), by, reply })
    };
    make(&mut world, "one", 1).unwrap();
    assert_eq!(world.enroll("a", "a", Some("one")), EnrollAnswer::Enrolled(None));
    assert_eq!(
        world.enroll("a", "a", Some("one")),
        EnrollAnswer::Enrolled(None),
        "idempotent for a known key"
    );
    assert!(matches!(world.enroll("b", "b", Some("one")), EnrollAnswer::Refused { retry: false, .. }));
    make(&mut world, "two", 9).unwrap();
    world.pass(61);
    assert!(matches!(world.enroll("c", "c", Some("two")), EnrollAnswer::Refused { .. }));
    assert!(matches!(world.enroll("c", "c", Some("none")), EnrollAnswer::Refused { .. }));
}

#[test]
fn a_revoked_token_enrolls_no_agent() {
    let mut world = World::new();
    for (hash, uses) in [("AAAAAAAA11", 9), ("BBBBBBBB22", 9), ("CCCCCCCC33", 1)] {
        let (hash, by) = (hash.to_owned(), "ana".to_owned());
        world
            .ask(|reply| Input::CreateToken { hash, ttl_ms: 60_000, uses, terms: Box::default(), by, reply })
            .unwrap();
    }
    assert_eq!(world.enroll("a", "a", Some("AAAAAAAA11")), EnrollAnswer::Enrolled(None));
    assert_eq!(world.enroll("c", "c", Some("CCCCCCCC33")), EnrollAnswer::Enrolled(None));
    let revoke = |world: &mut World, id: &str| {
        let (id, by) = (id.to_owned(), "ana".to_owned());
        world.ask(|reply| Input::RevokeToken { id, by, reply })
    };
    assert_eq!(revoke(&mut world, "AAAAAAAA"), Ok(8));
    assert!(matches!(world.enroll("b", "b", Some("AAAAAAAA11")), EnrollAnswer::Refused { retry: false, .. }));
    for id in ["AAAAAAAA", "BBBB", "", "CCCCCCCC"] {
        assert!(matches!(revoke(&mut world, id), Err(Denied::NotFound(_))), "{id}");
    }
    let left = world.ask(Input::ListTokens);
    assert_eq!(left.iter().map(|token| (token.id(), token.uses_left)).collect::<Vec<_>>(), [("BBBBBBBB", 9)]);
    assert_eq!(left[0].made_by, "ana");
    world.pass(61);
    assert_eq!(world.ask(Input::ListTokens), []);
}

#[test]
fn a_full_pending_list_evicts_keys_of_the_busiest_network() {
    let mut world = World::new();
    let from = |world: &mut World, source: [u8; 4], key: &str| {
        let asked = EnrollAsked { from: Some(source.into()), ..World::asked("a", key) };
        world.ask(|reply| Input::Enroll(asked, reply))
    };
    let pending = EnrollAnswer::Pending { key_changed: false };
    assert_eq!(from(&mut world, [192, 0, 2, 1], "honest"), pending);
    for n in 0..999u16 {
        let source = [10, 0, 0, u8::try_from(n / 10).unwrap()];
        assert_eq!(from(&mut world, source, &format!("flood {n}")), pending);
    }
    // The list is full: keys from the network of the flood are refused, and others replace its oldest key.
    assert!(matches!(
        from(&mut world, [10, 0, 0, 200], "neighbour"),
        EnrollAnswer::Refused { retry: true, .. }
    ));
    for n in 1..=20 {
        assert_eq!(from(&mut world, [198, 51, 100, n], "late"), pending);
        assert_eq!(world.core.waiting.len(), 1_000);
    }
    assert!(world.core.waiting.iter().any(|key| key.fingerprint == Fingerprint::of(b"honest")));
    assert!(world.core.waiting.iter().all(|key| key.fingerprint != Fingerprint::of(b"flood 0")));
    let by = "ana".to_owned();
    let reply = world.ask(|reply| Input::Reject { name: None, digits: String::new(), by, reply });
    assert_eq!((reply, world.core.waiting.len()), (Ok(1_000), 0));
}

#[test]
fn with_enroll_token_no_key_becomes_pending() {
    let mut world = World::new();
    world.core.policy.enroll = Enroll::Token;
    let (hash, by) = ("one".to_owned(), "ana".to_owned());
    world
        .ask(|reply| Input::CreateToken { hash, ttl_ms: 60_000, uses: 1, terms: Box::default(), by, reply })
        .unwrap();
    let reply = world.enroll("a", "a", None);
    assert!(
        matches!(&reply, EnrollAnswer::Refused { reason, .. } if reason.contains("by token only")),
        "{reply:?}"
    );
    assert_eq!(world.enroll("a", "a", Some("one")), EnrollAnswer::Enrolled(None));
    assert_eq!(world.enroll("a", "a", None), EnrollAnswer::Enrolled(None), "a key that is known needs none");
    assert!(world.core.waiting.is_empty());
}

#[test]
fn the_pending_list_is_limited_per_source() {
    let mut world = World::new();
    for n in 0..10 {
        let reply = world.enroll(&format!("a-{n}"), &format!("{n}"), None);
        assert_eq!(reply, EnrollAnswer::Pending { key_changed: false });
    }
    assert!(matches!(world.enroll("a-10", "10", None), EnrollAnswer::Refused { retry: true, .. }));
    world.pass(24 * 60 * 60);
    assert_eq!(world.enroll("a-10", "10", None), EnrollAnswer::Pending { key_changed: false });
}

/// Returns the names of pending keys, and how many seconds ago each last asked.
fn waiting(world: &mut World) -> Vec<(String, u64)> {
    let pending = world.listed().into_iter().filter(|agent| agent.state == AgentState::Pending);
    pending.map(|agent| (agent.name.to_string(), agent.last_seen.unwrap().ago_ms / 1_000)).collect()
}

#[test]
fn an_operator_approves_or_rejects_the_key_that_was_compared_and_no_other() {
    let mut world = World::new();
    let name: AgentName = "web-1".parse().unwrap();
    for (asked, key) in [("web-1", "first"), ("web-1", "second"), ("web-2", "first")] {
        world.enroll(asked, key, None);
    }
    let digits = |key: &str| Fingerprint::of(key.as_bytes()).short();
    let short: String = digits("first").chars().filter(char::is_ascii_hexdigit).take(7).collect();
    let approve = |world: &mut World, digits: String| {
        let (name, by) = (name.clone(), "ana".to_owned());
        world.ask(|reply| Input::Approve {
            name,
            mark: KeyMark::Digits(digits),
            shown: Vec::new(),
            by,
            reply,
        })
    };
    assert!(
        matches!(approve(&mut world, short), Err(Denied::Refused(text)) if text.starts_with("give at least 8"))
    );
    let reject = |world: &mut World, digits: &str| {
        let (name, digits, by) = (Some(name.clone()), digits.to_owned(), "ana".to_owned());
        world.ask(|reply| Input::Reject { name, digits, by, reply })
    };
    assert!(matches!(reject(&mut world, "0000000000"), Err(Denied::NotFound(_))));
    assert_eq!(reject(&mut world, &digits("second")), Ok(1));
    let names = |world: &mut World| waiting(world).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&mut world), ["web-1", "web-2"], "the others wait on");
    let eight: String = digits("first").chars().filter(char::is_ascii_hexdigit).take(8).collect();
    assert!(matches!(approve(&mut world, eight), Ok(Approved { replaced_key: false, .. })));
    assert_eq!(names(&mut world), ["web-2"], "the same key under another name is another wish");
    let (name, by) = (Some("web-2".parse().unwrap()), "ana".to_owned());
    assert_eq!(world.ask(|reply| Input::Reject { name, digits: String::new(), by, reply }), Ok(1));
    assert!(names(&mut world).is_empty());
}

#[test]
fn an_enrolled_key_is_no_longer_pending() {
    let mut world = World::new();
    for name in ["a", "b"] {
        world.enroll(name, name, None);
    }
    let by = "ana".to_owned();
    world
        .ask(|reply| Input::CreateToken {
            hash: "one".into(),
            ttl_ms: 60_000,
            uses: 1,
            terms: Box::default(),
            by,
            reply,
        })
        .unwrap();
    assert_eq!(world.enroll("a", "a", Some("one")), EnrollAnswer::Enrolled(None));
    assert_eq!(waiting(&mut world), [("b".to_owned(), 0)]);
}

#[test]
fn tasks_wait_for_an_agent_that_was_just_enrolled() {
    let mut world = World::new();
    world.agent("a");
    assert_eq!(world.run(1, "a").tasks[0].state, TaskState::Queued);
    world.pass(61);
    assert!(matches!(world.state(task(1, 0)).outcome().unwrap().ending, Ending::Undeliverable(_)));
}

#[test]
fn a_pending_key_expires_a_day_after_its_last_request() {
    let mut world = World::new();
    world.enroll("a", "a", None);
    world.enroll("b", "b", None);
    world.pass(60);
    assert_eq!(world.enroll("b", "b", None), EnrollAnswer::Pending { key_changed: false });
    assert_eq!(waiting(&mut world), [("a".to_owned(), 60), ("b".to_owned(), 0)]);
    let revision = |world: &mut World| world.core.agents.next_revision();
    let before = revision(&mut world);
    world.pass(24 * 60 * 60 - 61);
    assert_eq!(revision(&mut world), before + 1, "nothing has changed for those who watch");
    world.pass(1);
    assert_eq!(waiting(&mut world).len(), 1);
    assert!(revision(&mut world) > before + 2, "they are told");
}

#[test]
fn refused_enrollments_are_counted() {
    let mut world = World::new();
    for _ in 0..3 {
        world.enroll("a", "a", Some("no such token"));
    }
    let status = world.ask(Input::Status);
    assert_eq!(status.refused_unauthenticated, 3);
}

#[test]
fn a_key_with_a_code_is_approved_only_by_that_code() {
    let mut world = World::new();
    let ca = world.core.policy.ca;
    let code = Code::from_random([7; 10]);
    let name: AgentName = "a".parse().unwrap();
    let asked = |key: &str, proof: Seal| EnrollAsked { proof: Some(proof), ..World::asked("a", key) };
    let key = Fingerprint::of(b"agent");
    let honest = asked("agent", code.prove_agent(key, ca));
    world.ask(|reply| Input::Enroll(honest.clone(), reply));
    // An attacker in between forwards the agent's proof with another key, or an agent saw the CA of the
    // attacker.
    let thief = asked("thief", code.prove_agent(key, ca));
    world.ask(|reply| Input::Enroll(thief, reply));
    let deceived =
        asked("deceived", code.prove_agent(Fingerprint::of(b"deceived"), Fingerprint::of(b"false")));
    world.ask(|reply| Input::Enroll(deceived, reply));
    let approve = |world: &mut World, mark: KeyMark| {
        let (name, by) = (name.clone(), "ana".to_owned());
        world.ask(|reply| Input::Approve { name, mark, shown: Vec::new(), by, reply })
    };
    for (mark, why) in [
        (KeyMark::Digits(key.to_string()), "printed a code"),
        (KeyMark::Code(Code::from_random([8; 10])), "an attacker is between the two"),
    ] {
        let reply = approve(&mut world, mark);
        assert!(matches!(&reply, Err(Denied::Refused(text)) if text.contains(why)), "{reply:?}");
    }
    let reply = approve(&mut world, KeyMark::Code(code.clone()));
    assert!(matches!(reply, Ok(Approved { fingerprint, .. }) if fingerprint == key), "{reply:?}");
    let EnrollAnswer::Enrolled(Some(proof)) = world.ask(|reply| Input::Enroll(honest, reply)) else {
        panic!()
    };
    assert!(code.is_master(key, ca, proof));
    assert_eq!(world.listed().iter().filter(|agent| agent.has_code).count(), 2, "the others wait on");
}
