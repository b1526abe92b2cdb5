//! Compares the written man pages with the program: commands, flags, keys, settings and calls, no more and no
//! less.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use clap::CommandFactory as _;
use prost::Message as _;
use sloth_runner::{
    cli::args::Cli,
    tui::keymap::{BINDINGS, Context},
    wire::proto,
};

/// Returns a page with its roff escapes replaced by the characters that they stand for.
fn page(name: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name)).unwrap();
    let signs = [
        ("\\(aq", "'"),
        ("\\(ha", "^"),
        ("\\(ti", "~"),
        ("\\-", "-"),
        ("\\fB", ""),
        ("\\fR", ""),
        ("\\&", ""),
        ("\\e", "\\"),
    ];
    signs.iter().fold(text, |text, (escape, sign)| text.replace(escape, sign))
}

/// Returns the part of a page below a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let from = page.find(&format!("\n.SH {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &page[from + 5 + heading.len()..];
    &rest[..rest.find("\n.SH ").unwrap_or(rest.len())]
}

/// Returns the entries of a list: the bold first line, and the text up to the next entry or heading.
fn entries(section: &str) -> Vec<(String, String)> {
    let parts = section.split("\n.TP\n").skip(1);
    let entry = |part: &str| {
        let part = part.split("\n.SS ").next().unwrap();
        let (first, rest) = part.split_once('\n').unwrap_or((part, ""));
        (first.trim_start_matches(".B ").trim_start_matches(".BR ").to_owned(), rest.to_owned())
    };
    parts.map(entry).collect()
}

/// Collects every visible command with its flags.
fn commands(command: &clap::Command, path: &str, found: &mut BTreeSet<(String, Vec<String>)>) {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        let path = format!("{path} {}", inner.get_name()).trim().to_owned();
        let shown = inner.get_arguments().filter(|arg| !arg.is_hide_set());
        let mut flags: Vec<String> = shown
            .filter_map(clap::Arg::get_long)
            .filter(|long| !["help", "version"].contains(long))
            .map(|long| format!("--{long}"))
            .collect();
        flags.sort();
        found.insert((path.clone(), flags));
        commands(inner, &path, found);
    }
}

#[test]
fn every_command_and_every_flag_is_in_the_programs_page() {
    let mut known = BTreeSet::new();
    let mut command = Cli::command();
    command.build();
    commands(&command, "", &mut known);
    let text = page("sloth-runner.1");
    let written: BTreeSet<(String, Vec<String>)> = entries(section(&text, "COMMANDS"))
        .into_iter()
        .map(|(name, rest)| {
            let flags = rest.lines().find_map(|line| line.strip_prefix("Flags: ")).unwrap_or_default();
            let mut flags: Vec<String> = flags
                .trim_end_matches('.')
                .split(", ")
                .filter(|flag| !flag.is_empty())
                .map(str::to_owned)
                .collect();
            flags.sort();
            (name, flags)
        })
        .collect();
    let missing: Vec<_> = known.difference(&written).collect();
    let stale: Vec<_> = written.difference(&known).collect();
    assert!(missing.is_empty() && stale.is_empty(), "missing: {missing:#?}\nstale: {stale:#?}");
}

#[test]
fn every_key_is_in_the_control_centers_page() {
    let name = |key: &&str| match *key {
        "↓" => "Down".to_owned(),
        "↑" => "Up".to_owned(),
        "←" => "Left".to_owned(),
        "→" => "Right".to_owned(),
        key => key.to_owned(),
    };
    let mut known: Vec<(String, String)> = Vec::new();
    for context in Context::ALL {
        for binding in BINDINGS.iter().filter(|binding| binding.context == context) {
            let keys = binding.keys.iter().map(name).collect::<Vec<_>>().join(" ");
            known.push((keys, binding.action.name().to_lowercase()));
        }
    }
    let text = page("sloth-runner-tui.1");
    let mut written: Vec<(String, String)> = entries(section(&text, "KEYS"))
        .into_iter()
        .map(|(keys, rest)| {
            (keys, rest.lines().next().unwrap_or_default().trim_end_matches('.').to_lowercase())
        })
        .collect();
    known.sort();
    written.sort();
    let missing: Vec<_> = known.iter().filter(|entry| !written.contains(entry)).collect();
    let stale: Vec<_> = written.iter().filter(|entry| !known.contains(entry)).collect();
    assert!(written == known, "missing: {missing:?}\nstale: {stale:?}");
}

#[test]
fn every_setting_is_in_its_page() {
    let output = Command::new(env!("CARGO_BIN_EXE_sloth-runner"))
        .args(["config", "show", "-o", "json"])
        .env("SLOTH_RUNNER_CONFIG", "")
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let known: BTreeSet<String> = shown["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["section"].as_str().unwrap(), one["key"].as_str().unwrap()))
        .collect();
    let text = page("sloth-runner.toml.5");
    let mut written = BTreeSet::new();
    for part in section(&text, "SETTINGS").split("\n.SS [").skip(1) {
        let (name, rest) = part.split_once("]\n").unwrap();
        written.extend(entries(&format!("\n{rest}")).into_iter().map(|(key, _)| format!("{name} {key}")));
    }
    assert_eq!(written, known);
}

#[test]
fn every_call_is_in_the_protocols_page() {
    let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let known: BTreeSet<&str> =
        services.flat_map(|service| &service.method).map(prost_types::MethodDescriptorProto::name).collect();
    let text = page("sloth-runner-protocol.7");
    let all = entries(section(&text, "CALLS"));
    let written: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(written, known);
}

#[test]
fn man_generates_a_page_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let status =
        Command::new(env!("CARGO_BIN_EXE_sloth-runner")).arg("man").arg(directory.path()).status().unwrap();
    assert!(status.success());
    let text = fs::read_to_string(directory.path().join("sloth-runner-agent-run.1")).unwrap();
    assert!(text.contains("sloth\\-runner\\-agent\\-run") && text.contains("\\-\\-canary"), "{text}");
    assert!(!directory.path().join("sloth-runner-tui.1").exists(), "that one is written");
}
