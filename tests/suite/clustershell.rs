//! Compares target expressions with ClusterShell's answers, so that they mean what its users expect. Skipped
//! with a message if Debian's `clustershell` is not installed.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use sloth_runner::domain::{
    agent::AgentState,
    name::{AgentName, Label, Labels},
    target::{Candidate, Target, fold::fold},
};

/// Number of expressions that are compared.
const EXPRESSIONS: usize = 600;

/// Prints the nodes of each line of standard input, or `!` for one that it refuses.
const ASK: &str = "
import sys
from ClusterShell.NodeSet import NodeSet, NodeSetException, RESOLVER_NOGROUP
for line in sys.stdin:
    try:
        print(' '.join(NodeSet(line.rstrip('\\n'))))
    except NodeSetException as error:
        print('!', error)
";

fn registry() -> Vec<(AgentName, Labels)> {
    let agent = |name: String, role: &str| {
        let label: Label = format!("role={role}").parse().unwrap();
        (name.parse().unwrap(), Labels::from([(label.key, label.value)]))
    };
    let web = (1..=12).map(|n| agent(format!("web-{n}"), "web"));
    let padded = (1..=12).map(|n| agent(format!("n{n:02}"), "node"));
    let grid = (1..=3).flat_map(|r| (1..=3).map(move |n| agent(format!("r{r}n{n}"), "grid")));
    web.chain(padded).chain(grid).chain([agent("db".into(), "db")]).collect()
}

/// Expressions over names of the registry and unknown names.
fn expression() -> impl Strategy<Value = String> {
    let bound = |low: u32, high: u32| (low..=high, 0u32..6, 1u32..4);
    let range = |padded: bool| {
        bound(1, 12).prop_map(move |(first, more, step)| {
            let last = first + more;
            let number = |n: u32| if padded { format!("{n:02}") } else { n.to_string() };
            match (more, step) {
                (0, _) => number(first),
                (_, 1) => format!("{}-{}", number(first), number(last)),
                _ => format!("{}-{}/{step}", number(first), number(last)),
            }
        })
    };
    let ranges = move |padded| proptest::collection::vec(range(padded), 1..4).prop_map(|all| all.join(","));
    let operand = prop_oneof![
        Just("db".to_owned()),
        (1u32..15).prop_map(|n| format!("web-{n}")),
        ranges(false).prop_map(|ranges| format!("web-[{ranges}]")),
        ranges(true).prop_map(|ranges| format!("n[{ranges}]")),
        (ranges(false), ranges(false)).prop_map(|(r, n)| format!("r[{r}]n[{n}]")),
        ranges(false).prop_map(|ranges| format!("r[{ranges}]n2")),
        ranges(false).prop_map(|ranges| format!("r2n[{ranges}]")),
        Just("web-*".to_owned()),
        Just("n0?".to_owned()),
        Just("r[1-2]n*".to_owned()),
        Just("@role:web".to_owned()),
        Just("@role:grid".to_owned()),
        Just("@role:db".to_owned()),
        Just("@*".to_owned()),
    ];
    let operator = prop_oneof![Just(","), Just("!"), Just("&"), Just("^")];
    (operand.clone(), proptest::collection::vec((operator, operand), 0..5))
        .prop_map(|(first, rest)| rest.into_iter().fold(first, |text, (sign, next)| text + sign + &next))
}

/// Expressions that ClusterShell refuses, and that must be refused here too.
const REFUSED: [&str; 12] =
    ["a,,b", ",a", "a,", "a!", "!a", "n[5-1]", "n[01-3]", "n[1-3", "n1-3]", "n[]", "n[1-2/0]", "n[a-b]"];

fn ask_clustershell(lines: &[String]) -> Option<Vec<String>> {
    let script = fs::read_to_string("/usr/bin/nodeset").ok()?;
    let interpreter = script.lines().next()?.strip_prefix("#!")?.trim().to_owned();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let of = |role: &str| {
        let has = |labels: &Labels| labels.values().any(|value| value.as_str() == role);
        let names: Vec<_> = registry().into_iter().filter(|(_, labels)| has(labels)).collect();
        names.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(",")
    };
    let roles = ["web", "node", "grid", "db"];
    let groups: Vec<String> = roles.iter().map(|role| format!("  {role}: '{}'", of(role))).collect();
    fs::create_dir(path.join("groups.d")).unwrap();
    fs::write(path.join("groups.d/role.yaml"), format!("role:\n{}\n", groups.join("\n"))).unwrap();
    fs::write(
        path.join("groups.conf"),
        "[Main]\ndefault: role\nconfdir: $CFGDIR/groups.conf.d\nautodir: $CFGDIR/groups.d\n",
    )
    .unwrap();
    let mut python = Command::new(interpreter)
        .args(["-c", ASK])
        .env("CLUSTERSHELL_CFGDIR", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = python.stdin.take().unwrap();
    let input = lines.join("\n") + "\n";
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "ClusterShell ended with {}", output.status);
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn expressions_mean_what_they_mean_in_clustershell() {
    let mut runner = TestRunner::deterministic();
    let generated = (0..EXPRESSIONS).map(|_| expression().new_tree(&mut runner).unwrap().current());
    let mut lines: Vec<String> = generated.collect();
    let registry = registry();
    let candidates: Vec<Candidate<'_>> = registry
        .iter()
        .map(|(name, labels)| Candidate { name, labels, state: AgentState::Active, link: None })
        .collect();
    // The matched and the unknown names together are the set that an expression spells out. Unknown excluded
    // names are reported as well.
    let ours = |text: &str| {
        let target: Target = text.parse().ok()?;
        let matched = target.evaluate_with(&candidates, usize::MAX);
        Some((matched.agents, matched.unknown))
    };
    let folded: Vec<String> = lines
        .iter()
        .filter_map(|line| Some(fold(ours(line)?.0.iter().map(AgentName::as_str))))
        .filter(|folded| !folded.is_empty())
        .collect();
    let generated = lines.len();
    lines.extend(REFUSED.map(str::to_owned));
    lines.extend(folded);
    let Some(answers) = ask_clustershell(&lines) else {
        println!("skipped: ClusterShell is not installed (apt-get install clustershell)");
        return;
    };
    assert_eq!(answers.len(), lines.len());
    for (line, answer) in lines.iter().zip(&answers) {
        if answer.starts_with('!') {
            assert!(REFUSED.contains(&line.as_str()), "ClusterShell refuses {line}: {answer}");
            assert!(ours(line).is_none(), "{line} is refused by ClusterShell: {answer}");
            continue;
        }
        let theirs: BTreeSet<AgentName> =
            answer.split_whitespace().map(|name| name.parse().unwrap()).collect();
        let (agents, unknown) = ours(line).unwrap_or_else(|| panic!("{line} is refused"));
        let known: BTreeSet<AgentName> =
            theirs.iter().filter(|name| registry.iter().any(|(known, _)| known == *name)).cloned().collect();
        assert_eq!(agents, known, "{line}");
        assert!(theirs.difference(&known).all(|name| unknown.contains(name)), "{line}: {unknown:?}");
    }
    println!(
        "{generated} expressions, {} refusals and {} folded sets: all equal",
        REFUSED.len(),
        lines.len() - generated - REFUSED.len()
    );
}
