//! Operators, from the invitation to the revocation.

use super::*;
use crate::{
    domain::operator::Role,
    master::core::messages::{ConnectionIdentity, Invitation},
};

fn key(text: &str) -> Fingerprint {
    Fingerprint::of(text.as_bytes())
}

impl World {
    fn invite(&mut self, name: &str, role: Option<Role>, unix_user: &str) -> Result<InvitedOperator, Denied> {
        let login = unix_user.is_empty().then(|| (format!("secret of {name}"), 60_000));
        let invitation =
            Box::new(Invitation { name: name.parse().unwrap(), role, unix_user: unix_user.into(), login });
        self.ask(|reply| Input::Invite { invitation, by: "root".into(), reply })
    }

    fn log_in(&mut self, hash: &str, with: &str) -> Result<OperatorIdentity, Denied> {
        let (hash, key) = (hash.to_owned(), key(with));
        self.ask(|reply| Input::LogIn { hash, key, reply })
    }

    fn is(&mut self, who: ConnectionIdentity) -> Option<(String, Role)> {
        self.ask(|reply| Input::Identify(who, reply)).map(|principal| (principal.name, principal.role))
    }

    fn role_by_key(&mut self, name: &str, with: &str) -> Option<Role> {
        self.is(ConnectionIdentity::Key(name.parse().unwrap(), key(with))).map(|(_, role)| role)
    }
}

fn refused<A>(answer: &Result<A, Denied>, text: &str) -> bool {
    matches!(answer, Err(Denied::Refused(reason) | Denied::NotFound(reason)) if reason.contains(text))
}

#[test]
fn a_login_is_valid_once_until_it_expires_and_for_one_key() {
    let mut world = World::new();
    let invited = world.invite("ana", Some(Role::Operator), "");
    let expires_ms = invited.unwrap().login_expires_ms;
    assert_eq!(expires_ms, Some(world.now().unix_ms + Duration::from_mins(1)));
    assert_eq!(world.role_by_key("ana", "laptop"), None, "nobody has logged in yet");
    assert!(refused(&world.log_in("another secret", "laptop"), "not known here"));
    let logged_in = world.log_in("secret of ana", "laptop");
    assert!(
        matches!(&logged_in, Ok(OperatorIdentity { name, role: Role::Operator }) if name.as_str() == "ana")
    );
    assert_eq!(world.role_by_key("ana", "laptop"), Some(Role::Operator));
    assert_eq!(world.role_by_key("ana", "another key"), None);
    assert_eq!(world.role_by_key("eve", "laptop"), None, "a key is good under its operator's name");
    assert!(matches!(world.log_in("secret of ana", "laptop"), Ok(OperatorIdentity { .. })), "a lost answer");
    assert!(refused(&world.log_in("secret of ana", "desktop"), "was used already"));

    world.invite("bob", Some(Role::Viewer), "").unwrap();
    world.now += Duration::from_mins(1);
    assert!(refused(&world.log_in("secret of bob", "laptop"), "has expired"));
    let status = world.ask(Input::Status);
    assert_eq!(status.refused_unauthenticated, 3);
}

#[test]
fn an_operator_is_added_once_and_can_log_in_on_20_machines() {
    let mut world = World::new();
    assert!(refused(&world.invite("ana", None, ""), "no such operator: ana"));
    world.invite("ana", Some(Role::Viewer), "").unwrap();
    assert!(refused(&world.invite("ana", Some(Role::Admin), ""), "is an operator already (viewer)"));
    assert!(refused(&world.invite("anna", None, ""), "did you mean ana?"));
    for machine in 0..20 {
        assert!(matches!(
            world.log_in("secret of ana", &format!("key {machine}")),
            Ok(OperatorIdentity { .. })
        ));
        assert!(world.invite("ana", None, "").is_ok());
    }
    assert!(refused(&world.log_in("secret of ana", "one too many"), "has logged in on 20 machines"));
    assert_eq!(world.role_by_key("ana", "key 0"), Some(Role::Viewer), "another login takes nothing away");
}

#[test]
fn a_unix_user_is_at_most_one_operator_and_needs_no_login() {
    let mut world = World::new();
    assert!(matches!(
        world.invite("ana", Some(Role::Operator), "ana"),
        Ok(InvitedOperator { login_expires_ms: None })
    ));
    assert_eq!(
        world.is(ConnectionIdentity::UnixUser("ana".into())),
        Some(("ana".to_owned(), Role::Operator))
    );
    assert_eq!(world.is(ConnectionIdentity::UnixUser("bob".into())), None);
    assert!(refused(&world.invite("ana", None, ""), "needs no login"));
    assert!(refused(&world.invite("anna", Some(Role::Viewer), "ana"), "is the operator ana already"));
    let audit = world.written.iter().flatten().any(|write| {
        matches!(write, Write::Audit { actor, action: "invite operator", detail, .. }
            if actor == "root" && detail == "operator, user ana")
    });
    assert!(audit, "{:?}", world.written);
}

#[test]
fn a_revoked_operator_loses_access_at_once_and_can_be_added_again() {
    let mut world = World::new();
    world.invite("ana", Some(Role::Admin), "").unwrap();
    world.log_in("secret of ana", "laptop").unwrap();
    world.invite("bob", Some(Role::Viewer), "bob").unwrap();
    let revoke = |world: &mut World, name: &str| {
        let name = name.parse().unwrap();
        world.ask(|reply| Input::Revoke { name, by: "root".into(), reply })
    };
    world.out.clear();
    assert_eq!(revoke(&mut world, "ana"), Ok(1));
    assert!(world.out.contains(&Effect::OperatorsChanged), "open connections ask who they are");
    let stored = world.written.iter().flatten().rev().find_map(|write| match write {
        Write::PutOperator(operator) => Some(operator),
        _ => None,
    });
    let stored = stored.unwrap();
    assert!(stored.is_revoked && stored.keys.is_empty() && stored.login.is_none(), "{stored:?}");
    revoke(&mut world, "bob").unwrap();
    assert_eq!(
        (world.role_by_key("ana", "laptop"), world.is(ConnectionIdentity::UnixUser("bob".into()))),
        (None, None)
    );
    assert!(refused(&world.log_in("secret of ana", "laptop"), "not known here"));
    assert!(refused(&revoke(&mut world, "ana"), "was revoked"));
    assert!(refused(&world.invite("ana", None, ""), "was revoked"));
    assert!(world.invite("ana", Some(Role::Viewer), "").is_ok());
    assert_eq!(world.role_by_key("ana", "laptop"), None, "an old key is no key");
    assert!(world.invite("bert", Some(Role::Operator), "bob").is_ok());
    assert_eq!(
        world.is(ConnectionIdentity::UnixUser("bob".into())),
        Some(("bert".to_owned(), Role::Operator))
    );
}
