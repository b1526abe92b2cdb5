//! What agents propose, and when it takes effect.

use super::*;
use crate::domain::{
    name::{Label, Labels},
    proposal::{Accepted, DirectAddress},
    terms::Terms,
};

fn labels(words: &[&str]) -> Labels {
    let label = |word: &&str| word.parse::<Label>().map(|label| (label.key, label.value)).unwrap();
    words.iter().map(label).collect()
}

fn direct(host: &str) -> Option<DirectAddress> {
    DirectAddress::new(host, 50051, "10.0.0.1".parse().ok())
}

fn proposal(words: &[&str], host: &str) -> Proposal {
    Proposal::new(labels(words), direct(host))
}

impl World {
    fn enroll_with(&mut self, name: &str, token: Option<&str>, proposal: Proposal) -> EnrollAnswer {
        let token = token.map(str::to_owned);
        let asked = EnrollAsked { token, proposal, ..Self::asked(name, name) };
        self.ask(|to| Input::Enroll(asked, to))
    }

    /// Connects an agent that reports these labels and this host. Returns what is not accepted.
    fn connect_with(&mut self, session: u64, name: &str, words: &[&str], host: &str) -> Proposal {
        let mut newcomer = Self::newcomer(session, name, "boot");
        (newcomer.labels, newcomer.direct_address) = (labels(words), direct(host));
        match self.ask(|to| Input::SessionOpened(newcomer, to)) {
            Ok(SessionAccepted { proposed, .. }) => proposed,
            other => panic!("{other:?}"),
        }
    }

    fn approve(&mut self, name: &str, shown: Vec<(Fingerprint, Proposal)>) -> Result<Approved, Denied> {
        let mark = KeyMark::Digits(Fingerprint::of(name.as_bytes()).to_string());
        let (name, by) = (name.parse().unwrap(), "ana".to_owned());
        self.ask(|reply| Input::Approve { name, mark, shown, by, reply })
    }

    fn accept(&mut self, target: &str) -> Vec<(String, String)> {
        self.accept_shown(target, &[]).0
    }

    /// Returns what was accepted, and the agents whose proposal has changed, of which nothing was accepted.
    fn accept_shown(
        &mut self,
        target: &str,
        shown: &[(&str, Proposal)],
    ) -> (Vec<(String, String)>, Vec<String>) {
        let (choice, by) = (Box::new(self.choose(target, true)), "ana".to_owned());
        let shown = shown.iter().map(|(name, proposal)| (name.parse().unwrap(), proposal.clone())).collect();
        match self.ask(|reply| Input::Accept { choice, shown, by, reply }) {
            Ok(AcceptedProposals { accepted, changed }) => {
                let words =
                    |(name, proposal): (AgentName, Proposal)| (name.to_string(), proposal.to_string());
                let changed = changed.iter().map(ToString::to_string).collect();
                (accepted.into_iter().map(words).collect(), changed)
            }
            other => panic!("{other:?}"),
        }
    }

    fn change_labels(&mut self, changes: &[&str]) -> Vec<AgentName> {
        let (choice, by) = (Box::new(self.choose("web-1", true)), "ana".to_owned());
        let changes = changes.iter().map(|change| change.parse().unwrap()).collect();
        match self.ask(|reply| Input::Label { choice, changes, by, reply }) {
            Ok(LabelledAgents { still_reported, .. }) => still_reported,
            other => panic!("{other:?}"),
        }
    }

    fn make_token(&mut self, hash: &str, terms: Terms) {
        let (hash, by) = (hash.to_owned(), "ana".to_owned());
        let terms = Box::new(terms);
        let reply = self.ask(|reply| Input::CreateToken { hash, ttl_ms: 60_000, uses: 9, terms, by, reply });
        assert!(matches!(reply, Ok(NewToken { .. })), "{reply:?}");
    }

    fn matching(&mut self, target: &str) -> Result<Vec<String>, String> {
        match self.choose(target, true).agents {
            Ok(names) => Ok(names.iter().map(ToString::to_string).collect()),
            Err(Denied::NotFound(text) | Denied::Refused(text)) => Err(text),
        }
    }
}

#[test]
fn labels_and_addresses_are_proposals_until_they_are_accepted() {
    let mut world = World::new();
    world.agent("web-1");
    let said = world.connect_with(1, "web-1", &["role=web", "rack=3"], "192.168.1.17");
    assert_eq!(said.to_string(), "rack=3 role=web, direct address 192.168.1.17:50051");
    assert_eq!(
        world.matching("@role:web"),
        Err("no agent matches @role:web: web-1 proposes role=web, which does not count before it is accepted: \
             `sloth-runner agent label --accept web-1`"
            .to_owned())
    );
    assert!(world.matching("@role:db").unwrap_err().ends_with("shows all 1"), "nobody proposes that");
    let all = [("web-1".to_owned(), said.to_string())];
    assert_eq!(world.accept("@all"), all);
    assert!(world.out.contains(&Effect::DialDirect(SessionId(1))));
    assert_eq!(world.matching("@role:web&@rack:3"), Ok(vec!["web-1".to_owned()]));
    assert_eq!(world.accept("@all"), [("web-1".to_owned(), String::new())], "nothing is proposed any more");

    world.put(Input::SessionClosed(SessionId(1)));
    let said = world.connect_with(2, "web-1", &["role=db", "rack=3"], "192.168.1.18");
    assert_eq!(
        said.to_string(),
        "role=db, direct address 192.168.1.18:50051",
        "another word is another matter"
    );
    assert_eq!(world.matching("@rack:3"), Ok(vec!["web-1".to_owned()]));
    assert!(world.matching("@role:web").is_err() && world.matching("@role:db").is_err());

    // An operator removes the label.
    assert!(world.change_labels(&["rack-"]).is_empty());
    assert!(world.matching("@rack:3").is_err());
    // A label that an operator sets is in effect, and its key is no longer proposed.
    world.change_labels(&["role=web"]);
    assert_eq!(world.matching("@role:web"), Ok(vec!["web-1".to_owned()]));
    assert_eq!(world.listed()[0].proposed.labels, labels(&["rack=3"]));
}

#[test]
fn the_observed_address_needs_no_acceptance() {
    let mut world = World::new();
    world.agent("web-1");
    assert!(world.connect_with(1, "web-1", &[], "10.0.0.1").is_empty());
    world.put(Input::SessionClosed(SessionId(1)));
    assert!(world.connect_with(2, "web-1", &[], "").is_empty());
    world.put(Input::SessionClosed(SessionId(2)));
    let said = world.connect_with(3, "web-1", &[], "127.0.0.1");
    assert_eq!(said.to_string(), "direct address 127.0.0.1:50051");
}

#[test]
fn an_approval_accepts_what_was_shown_and_nothing_else() {
    let mut world = World::new();
    let honest = proposal(&["role=web"], "gateway");
    world.enroll_with("web-1", None, honest.clone());
    let key = Fingerprint::of(b"web-1");
    let shown = |proposal: &Proposal| vec![(key, proposal.clone())];
    assert_eq!(world.listed()[0].proposed, honest);
    // The proposal changes just before an operator decides.
    let other = proposal(&["role=db"], "gateway");
    world.enroll_with("web-1", None, other.clone());
    let Err(Denied::Refused(text)) = world.approve("web-1", shown(&honest)) else { panic!() };
    assert!(text.contains("other labels, or another address, than you were shown"), "{text}");
    let another = vec![(Fingerprint::of(b"x"), other.clone())];
    let Err(Denied::Refused(text)) = world.approve("web-1", another) else { panic!() };
    assert!(text.contains("another key of web-1"), "{text}");
    let reply = world.approve("web-1", shown(&other));
    assert!(matches!(&reply, Ok(Approved { accepted, .. }) if *accepted == other), "{reply:?}");
    assert_eq!(world.matching("@role:db"), Ok(vec!["web-1".to_owned()]), "before it is connected, too");
    assert!(world.connect_with(1, "web-1", &["role=db"], "gateway").is_empty());

    world.enroll_with("web-2", None, proposal(&["role=db"], ""));
    world.approve("web-2", Vec::new()).unwrap();
    assert_eq!(world.connect_with(2, "web-2", &["role=db"], ""), proposal(&["role=db"], ""));
    assert_eq!(world.matching("@role:db"), Ok(vec!["web-1".to_owned()]));
}

#[test]
fn a_token_sets_labels_and_limits_names_sources_and_addresses() {
    let mut world = World::new();
    let terms = Terms {
        labels: labels(&["role=db"]),
        names: Some("db-*".parse().unwrap()),
        from: vec!["10.0.0.0/8".parse().unwrap()],
        direct: vec!["192.168.1.0/24".parse().unwrap()],
    };
    world.make_token("one", terms);
    let reply = world.enroll_with("web-1", Some("one"), Proposal::default());
    assert!(
        matches!(&reply, EnrollAnswer::Refused { reason, .. } if reason.contains("for db-*")),
        "{reply:?}"
    );
    let from = Some([172, 16, 0, 1].into());
    let asked = EnrollAsked { token: Some("one".into()), from, ..World::asked("db-1", "db-1") };
    let reply = world.ask(|to| Input::Enroll(asked, to));
    let is_told = |reason: &str| reason.contains("10.0.0.0/8, and this one comes from 172.16.0.1");
    assert!(matches!(&reply, EnrollAnswer::Refused { reason, .. } if is_told(reason)), "{reply:?}");
    let wanted = proposal(&["role=web", "rack=3"], "192.168.1.17");
    assert_eq!(world.enroll_with("db-1", Some("one"), wanted), EnrollAnswer::Enrolled(None));
    assert_eq!(world.matching("@role:db"), Ok(vec!["db-1".to_owned()]));
    let said = world.connect_with(1, "db-1", &["role=web", "rack=3"], "192.168.1.17");
    assert_eq!(
        said,
        proposal(&["rack=3"], ""),
        "the token's role stands over its own, and its address is accepted"
    );
    world.put(Input::SessionClosed(SessionId(1)));
    assert!(world.connect_with(3, "db-1", &[], "192.168.1.99").is_empty(), "its network is what counts");
    world.enroll_with("db-2", Some("one"), proposal(&[], "192.168.2.17"));
    assert_eq!(world.connect_with(2, "db-2", &[], "192.168.2.17"), proposal(&[], "192.168.2.17"));
    let left = world.ask(Input::ListTokens);
    assert_eq!(left[0].uses_left, 7, "who is refused uses nothing up");
}

#[test]
fn proposals_of_an_agent_that_enrolled_through_the_local_socket_are_accepted() {
    let mut world = World::new();
    let asked = EnrollAsked {
        from: None,
        trusted_locally: true,
        proposal: proposal(&["role=web"], "192.168.1.17"),
        ..World::asked("web-1", "web-1")
    };
    assert_eq!(world.ask(|to| Input::Enroll(asked, to)), EnrollAnswer::Enrolled(None));
    assert!(world.connect_with(1, "web-1", &["role=db"], "192.168.1.18").is_empty(), "later, too");
    assert_eq!(world.matching("@role:db"), Ok(vec!["web-1".to_owned()]));
    assert_eq!(world.change_labels(&["role-"]).len(), 1, "it still counts");
}

#[test]
fn a_new_key_inherits_no_accepted_proposals() {
    let mut world = World::new();
    world.agent("web-1");
    world.connect_with(1, "web-1", &["role=web"], "gateway");
    world.accept("web-1");
    let asked = EnrollAsked { proposal: proposal(&["role=web"], "gateway"), ..World::asked("web-1", "new") };
    world.ask(|to| Input::Enroll(asked, to));
    let mark = KeyMark::Digits(Fingerprint::of(b"new").to_string());
    let (name, by) = ("web-1".parse().unwrap(), "ana".to_owned());
    world.ask(|reply| Input::Approve { name, mark, shown: Vec::new(), by, reply }).unwrap();
    assert!(world.matching("@role:web").is_err());
    let stored = world.core.agents.get(&"web-1".parse().unwrap()).map(|row| row.stored.accepted.clone());
    assert_eq!(stored, Some(Accepted::default()));
}

#[test]
fn only_the_proposal_that_was_shown_is_accepted() {
    let mut world = World::new();
    for (session, name) in [(1, "web-1"), (2, "web-2")] {
        world.agent(name);
        world.connect_with(session, name, &["role=web"], "");
    }
    let shown = proposal(&["role=web"], "");
    world.put(Input::SessionClosed(SessionId(2)));
    world.connect_with(3, "web-2", &["role=db"], "");
    let told = world.accept_shown("web-*", &[("web-1", shown.clone()), ("web-2", shown)]);
    assert_eq!(told, (vec![("web-1".to_owned(), "role=web".to_owned())], vec!["web-2".to_owned()]));
    assert!(world.matching("@role:db").is_err());
}

#[test]
fn a_proposal_that_was_withdrawn_must_be_accepted_again() {
    let mut world = World::new();
    world.agent("web-1");
    world.connect_with(1, "web-1", &["role=web"], "gateway");
    world.accept("web-1");
    world.put(Input::SessionClosed(SessionId(1)));
    assert!(world.connect_with(2, "web-1", &[], "").is_empty());
    world.put(Input::SessionClosed(SessionId(2)));
    let said = world.connect_with(3, "web-1", &["role=web"], "gateway");
    assert_eq!(said, proposal(&["role=web"], "gateway"));
    let kept =
        |writes: &Write| matches!(writes, Write::PutAgent(agent) if agent.accepted == Accepted::default());
    assert!(world.written.iter().flatten().any(kept), "that is remembered over a restart, too");
}

#[test]
fn an_operators_label_is_removed_before_the_agents_own() {
    let mut world = World::new();
    world.agent("web-1");
    world.connect_with(1, "web-1", &["role=web"], "");
    world.accept("web-1");
    world.change_labels(&["role=db"]);
    world.change_labels(&["role-"]);
    assert_eq!(world.matching("@role:web"), Ok(vec!["web-1".to_owned()]), "its own is seen again");
    world.change_labels(&["role-"]);
    assert!(world.matching("@role:web").is_err());
}

#[test]
fn watchers_receive_new_pending_keys_at_once_and_changed_proposals_at_intervals() {
    let mut world = World::new();
    let news = |world: &mut World, seen: u64| {
        let ask = |reply| Input::WatchFleet { seen, numbers_seen: u64::MAX, behind: None, reply };
        let news = world.ask(ask);
        (news.revision, news.waiting.map(|keys| keys[0].proposed.to_string()))
    };
    world.pass(60);
    world.enroll_with("web-1", None, proposal(&["role=web"], ""));
    let (seen, waiting) = news(&mut world, 0);
    assert_eq!(waiting.as_deref(), Some("role=web"));
    assert_eq!(news(&mut world, seen), (seen, None), "nothing is new");
    for value in ["db", "cache", "lb"] {
        world.enroll_with("web-1", None, proposal(&[&format!("role={value}")], ""));
        assert_eq!(
            news(&mut world, seen),
            (seen, None),
            "a key that changes its proposal often does not wake watchers often"
        );
    }
    world.pass(5);
    let (later, waiting) = news(&mut world, seen);
    assert!(later > seen);
    assert_eq!(waiting.as_deref(), Some("role=lb"));
}
