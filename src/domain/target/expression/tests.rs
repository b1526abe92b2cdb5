//! Tests the target language with tables. `tests/suite/clustershell.rs` compares it with ClusterShell itself.

use super::*;
use crate::domain::{
    agent::LinkKind,
    name::Label,
    target::selection::{Sample, Selection},
};

struct Registry(Vec<(AgentName, Labels, AgentState, Option<LinkKind>)>);

impl Registry {
    fn new() -> Self {
        let agent = |name: &str, role: &str, state, direct| {
            let label: Label = format!("role={role}").parse().unwrap();
            (name.parse().unwrap(), Labels::from([(label.key, label.value)]), state, direct)
        };
        Self(vec![
            agent("web-1", "web", AgentState::Active, Some(LinkKind::Direct)),
            agent("web-2", "web", AgentState::Active, Some(LinkKind::Tunnel)),
            agent("web-3", "web", AgentState::Offline, None),
            agent("web-10", "web", AgentState::Late, Some(LinkKind::Tunnel)),
            agent("db-1", "db", AgentState::Active, Some(LinkKind::Tunnel)),
            agent("cache01", "cache", AgentState::Active, Some(LinkKind::Tunnel)),
        ])
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let agents = self.0.iter();
        agents
            .map(|(name, labels, state, link)| Candidate { name, labels, state: *state, link: *link })
            .collect()
    }

    fn matched(&self, target: &str) -> Matched {
        target.parse::<Target>().unwrap_or_else(|error| panic!("{error}")).evaluate(&self.candidates())
    }
}

fn names(set: &BTreeSet<AgentName>) -> String {
    set.iter().map(AgentName::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn operands_are_joined_from_left_to_right() {
    let registry = Registry::new();
    for (target, agents) in [
        ("web-1", "web-1"),
        (" web-1 , db-1 ", "db-1 web-1"),
        ("web-*", "web-1 web-2 web-3 web-10"),
        ("web-?", "web-1 web-2 web-3"),
        ("web-[1-3]", "web-1 web-2 web-3"),
        ("web-[1-3/2]", "web-1 web-3"),
        ("web-[1,10]", "web-1 web-10"),
        ("cache[01]", "cache01"),
        ("@all", "cache01 db-1 web-1 web-2 web-3 web-10"),
        ("@*", "cache01 db-1 web-1 web-2 web-3 web-10"),
        ("@role:web", "web-1 web-2 web-3 web-10"),
        ("@role:?b", "db-1"),
        ("@role:*", "cache01 db-1 web-1 web-2 web-3 web-10"),
        ("@role:web!web-3", "web-1 web-2 web-10"),
        ("@all!@state:offline", "cache01 db-1 web-1 web-2 web-10"),
        ("@state:active&@role:web", "web-1 web-2"),
        ("@link:direct", "web-1"),
        ("@link:tunnel!@role:db", "cache01 web-2 web-10"),
        ("web-1,web-2^web-2,db-1", "db-1 web-1"),
        ("db-1,@all&web-*", "web-1 web-2 web-3 web-10"),
        ("@state:pending", ""),
        ("@role:none", ""),
    ] {
        let matched = registry.matched(target);
        assert_eq!(names(&matched.agents), agents, "{target}");
        assert!(matched.unknown.is_empty(), "{target}");
    }
}

#[test]
fn names_that_nobody_has_are_noticed_where_they_matter() {
    let registry = Registry::new();
    for (target, agents, unknown) in [
        ("web-[1-4]", "web-1 web-2 web-3", "web-4"),
        ("@all!wbe-3", "cache01 db-1 web-1 web-2 web-3 web-10", "wbe-3"),
        ("web-[1-100]&@all", "web-1 web-2 web-3 web-10", ""),
        ("@role:web&web-[1-100]", "web-1 web-2 web-3 web-10", ""),
    ] {
        let matched = registry.matched(target);
        assert_eq!(
            (names(&matched.agents).as_str(), names(&matched.unknown).as_str()),
            (agents, unknown),
            "{target}"
        );
    }
}

#[test]
fn only_one_bare_name_is_plain() {
    let plain = |text: &str| text.parse::<Target>().unwrap().plain_name().is_some();
    assert!(plain("web-1"));
    for expression in ["web-1,web-2", "web-*", "web-[1]", "@all", "web-1!web-2"] {
        assert!(!plain(expression), "{expression}");
    }
}

#[test]
fn errors_point_at_the_character() {
    for (target, at) in [
        ("", 0),
        ("a,,b", 2),
        ("a,", 2),
        ("a b", 1),
        ("web[1-5", 3),
        ("web1-5]", 6),
        ("web[5-1]", 4),
        ("web[1-5/0]", 8),
        ("web[01-5]", 7),
        ("web[1-x]", 6),
        ("web[]", 4),
        ("db,web[1-5,]", 11),
        ("@role", 0),
        ("db,@role:", 9),
        ("@state:up", 7),
        ("@link:wire", 6),
        ("-x*", 0),
        ("n[1-9999999999]", 0),
        ("ü,a", 0),
        ("a,ü", 2),
    ] {
        let error = target.parse::<Target>().unwrap_err();
        assert_eq!(error.at, at, "{target}: {error}");
    }
    let shown = "web-1,web[1-5".parse::<Target>().unwrap_err().to_string();
    assert_eq!(shown, "invalid target: this bracket is not closed\nweb-1,web[1-5\n         ^");
}

#[test]
fn what_costs_too_much_is_refused_before_anything_is_spelled_out() {
    let many = |part: &str, count: usize| vec![part; count].join(",");
    let groups: Vec<String> = (0..20).map(|n| format!("@a:x{n}[1-100000]")).collect();
    let steps = "n[1-40000]^".repeat(2) + &"a[1-2]^".repeat(300) + "web-1";
    for target in [
        "n[1-100001]".to_owned(),
        "n[000001-099000/2],n[1-99000/2],m[1-2000]".to_owned(),
        "n[1-999999999999999999/999999999999999999][1-999999]".to_owned(),
        "r[1-1000]n[1-1000]".to_owned(),
        many("a[1-1000]b[1-100]", 2),
        groups.join(","),
        "@a:x[1-100000]".to_owned(),
        "n[1-100000]*".to_owned(),
        many("w*", 1_001),
        many("@all", 1_001),
        "web-1!web-2&".repeat(600) + "web-1",
        steps,
        format!("n{}", "[1]".repeat(40)),
        "x".repeat(MOST_TEXT + 1),
    ] {
        let error = target.parse::<Target>().unwrap_err();
        assert!(error.to_string().len() < 1_000, "{error}");
    }
    // Long lists of names, as scripts generate them, are cheap.
    let listed = (0..10_000).map(|n| format!("host-{n}.example")).collect::<Vec<_>>().join(",");
    assert_eq!(Registry::new().matched(&listed[..100_000]).unknown.len(), UNKNOWN_SHOWN);
    assert!("n[1-100000]".parse::<Target>().is_ok());
}

#[test]
fn states_and_links_are_told_from_what_is_always_known() {
    let asks = |text: &str| text.parse::<Target>().unwrap().asks_for_state();
    assert!(asks("@all!@state:offline") && asks("@link:direct"));
    assert!(!asks("@all,@role:web,web-*"));
}

#[test]
fn samples_are_reproducible_and_grow() {
    let registry = Registry::new();
    let sample = |limit: &str, seed| {
        let sample = Some(Sample { limit: limit.parse().unwrap(), seed });
        let selection = Selection { sample, ..Selection::from("@all".parse::<Target>().unwrap()) };
        selection.evaluate(&registry.candidates()).agents
    };
    assert_eq!(sample("50%", 7), sample("3", 7));
    assert_eq!(sample("3", 7).len(), 3);
    assert!(sample("4", 7).is_superset(&sample("3", 7)));
    assert!((0..20).any(|seed| sample("3", seed) != sample("3", 7)));
    assert_eq!(sample("100", 7).len(), 6);
}

#[test]
fn a_selection_takes_what_all_of_its_parts_allow() {
    let registry = Registry::new();
    let selection = Selection {
        selector: Some("role=web".parse().unwrap()),
        exclude: Some("web-1,@state:late".parse().unwrap()),
        ..Selection::from("@all".parse::<Target>().unwrap())
    };
    assert_eq!(names(&selection.evaluate(&registry.candidates()).agents), "web-2 web-3");
    assert_eq!(selection.to_string(), "@all -l role=web -x web-1,@state:late");
    assert!(selection.plain_name().is_none() && selection.asks_for_state());
}
