//! Checks the imports of every source file against the layers of the architecture.
//!
//! Imports go down only: `domain`, `sys` → `wire`, `trust` → `master`, `agent`, `tui` → `cli`. Pure files use
//! no clock, no I/O, no tokio and nothing of `sys`. Only `wire` names generated types. No files import each other in a
//! circle. A `mod.rs` only declares its modules and names what they offer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each module, and the modules that it may import besides itself.
const TIERS: [(&str, &[&str]); 8] = [
    ("domain", &[]),
    ("sys", &[]),
    ("wire", &["domain", "sys", "trust"]),
    ("trust", &["domain", "sys"]),
    ("agent", &["domain", "sys", "wire", "trust"]),
    ("master", &["domain", "sys", "wire", "trust"]),
    ("tui", &["domain", "sys", "wire", "trust"]),
    ("cli", &["domain", "sys", "wire", "trust", "agent", "master", "tui"]),
];

/// Names that pure files must not contain.
const IMPURE: [&str; 8] = [
    "std::time::Instant",
    "SystemTime",
    "std::fs",
    "std::net::Tcp",
    "tokio",
    "nix::",
    "std::process",
    "std::env",
];

/// Paths of pure files. `tui/runtime` and `tui/terminal.rs` are not pure.
const PURE: [&str; 11] = [
    "domain/",
    "master/core/",
    "agent/core/",
    "tui/model/",
    "tui/update/",
    "tui/view/",
    "tui/output/",
    "tui/msg.rs",
    "tui/keymap/",
    "tui/theme.rs",
    "tui/settings.rs",
];

/// Code that writes to a terminal directly.
const TERMINAL_WRITES: [&str; 9] =
    ["println!", "print!", "eprintln!", "eprint!", "dbg!", "stdout()", "stderr()", "/dev/tty", "/dev/stdout"];

/// The files that may write to standard output and error: in this order, for messages, output of commands,
/// the live region, the control center's frames, a daemon's report to the process that started it, and the
/// log.
const OUTPUT_FILES: [&str; 6] =
    ["cli/output.rs", "cli/stdio.rs", "cli/region.rs", "tui/terminal.rs", "sys/daemon.rs", "sys/logging.rs"];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns the code of a file without comments and tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let is_inline =
        |(at, _): &(usize, &str)| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let tests = text.match_indices("#[cfg(test)]\nmod ").find(is_inline);
    let text = &text[..tests.map_or(text.len(), |(at, _)| at)];
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = sources(&root);
    assert!(sources.len() > 50, "the sources were found");
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    sources.iter().map(|path| (name(path), code(path))).collect()
}

/// Returns the modules of the crate that a text imports as `crate::NAME`, nested lists included.
fn imported(code: &str) -> Vec<&'static str> {
    let names = TIERS.map(|(name, _)| name);
    let after_crate: Vec<&str> = code.split("crate::").skip(1).collect();
    let mut found = Vec::new();
    for text in after_crate {
        if let Some(list) = text.strip_prefix('{') {
            // The modules of a list are at its first level.
            let mut depth = 0;
            for piece in list.split_inclusive(['{', '}', ',']) {
                if depth == 0 {
                    found.extend(names.iter().find(|name| piece.trim_start().starts_with(**name)));
                }
                match piece.chars().last() {
                    Some('{') => depth += 1,
                    Some('}') if depth == 0 => break,
                    Some('}') => depth -= 1,
                    _ => {}
                }
            }
        } else {
            found.extend(names.iter().find(|name| text.starts_with(**name)));
        }
    }
    found
}

#[test]
fn imports_only_go_down() {
    for (file, code) in all() {
        let Some((tier, allowed)) = TIERS.iter().find(|(tier, _)| file.starts_with(&format!("{tier}/")))
        else {
            continue;
        };
        for import in imported(&code) {
            assert!(import == *tier || allowed.contains(&import), "{file} imports {import}");
        }
    }
}

#[test]
fn mod_files_are_tables_of_contents() {
    for (file, code) in all() {
        if !file.ends_with("/mod.rs") || file.contains("tests/") {
            continue;
        }
        // What is left without declarations, imports and their attributes.
        let mut is_open = false;
        for line in code.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let item = line.strip_prefix("pub").map_or(line, |rest| {
                rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest)
            });
            let first = item.split_whitespace().next().unwrap_or_default();
            assert!(
                is_open || ["mod", "use"].contains(&first) || line.starts_with("#["),
                "{file} has code: {line}"
            );
            is_open = !line.ends_with(';') && !line.ends_with(")]");
        }
    }
}

#[test]
fn pure_files_use_no_clock_no_io_and_no_tokio() {
    for (file, code) in all() {
        let is_pure = PURE.iter().any(|start| file.starts_with(start));
        if is_pure {
            for word in IMPURE {
                assert!(!code.contains(word), "{file} names {word}");
            }
            assert!(!imported(&code).contains(&"sys"), "{file} uses the system");
        }
    }
}

/// Modules and crates of generated code, as they appear in paths.
const GENERATED: [&str; 3] = ["proto", "prost", "include_proto"];

/// Reports whether a text contains a word as a whole.
fn names(code: &str, word: &str) -> bool {
    let is_part = |sign: char| sign.is_alphanumeric() || sign == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.chars().next_back().is_some_and(is_part) && !after.chars().next().is_some_and(is_part)
    })
}

#[test]
fn generated_types_stay_in_wire() {
    let outside = all().into_iter().filter(|(file, _)| !file.starts_with("wire/"));
    let naming: Vec<String> = outside
        .filter(|(_, code)| GENERATED.iter().any(|word| names(code, word)))
        .map(|(file, _)| file)
        .collect();
    assert!(naming.is_empty(), "these files name generated types: {}", naming.join(", "));
}

#[test]
fn a_generated_type_is_found_however_it_is_named() {
    for code in ["use crate::wire::proto;", "wire::{self, proto::{self, Job}}", "x(&proto::Job::default())"] {
        assert!(names(code, "proto"), "{code}");
    }
    assert!(!names("use crate::wire::protocol_1;", "proto"));
}

#[test]
fn the_supervisor_uses_neither_tokio_nor_wire() {
    for (file, code) in all().into_iter().filter(|(file, _)| file.starts_with("agent/supervisor/")) {
        assert!(!code.contains("tokio") && !imported(&code).contains(&"wire"), "{file}");
    }
}

#[test]
fn unsafe_code_is_in_two_files() {
    for (file, code) in all() {
        let may = ["sys/process.rs", "wire/pieces.rs"].contains(&file.as_str());
        assert!(may || !code.contains("unsafe "), "{file} has unsafe code");
    }
}

#[test]
fn imports_are_read_as_they_are_written() {
    let code = "use crate::{\n domain::x,\n trust::{a, agent},\n};\nuse crate::sys::y; crate::wire::z()";
    assert_eq!(imported(code), ["domain", "trust", "sys", "wire"]);
}

#[test]
fn only_the_output_files_write_to_a_terminal() {
    for (name, code) in all() {
        // Test modules may print.
        let is_test = name.contains("tests") || name.ends_with("crashes.rs");
        if is_test || OUTPUT_FILES.contains(&name.as_str()) {
            continue;
        }
        // Names of other functions that end like one of these.
        let code = code.replace("Stdio::out()", "").replace("stdout_is_terminal()", "");
        let code = code.replace("stderr_is_terminal()", "");
        for road in TERMINAL_WRITES {
            let is_road = |at: usize| {
                let before = code[..at].chars().next_back();
                !before.is_some_and(|sign| sign.is_alphanumeric() || "_.".contains(sign))
            };
            let found = code.match_indices(road).find(|(at, _)| is_road(*at));
            assert!(found.is_none(), "{name} has its own road to a terminal: {road}");
        }
    }
}

#[test]
fn all_messages_are_sanitized() {
    let door = code(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/output.rs"));
    for write in ["write_all(", "writeln!("] {
        for (at, _) in door.match_indices(write) {
            let call = &door[at..at + 80.min(door.len() - at)];
            assert!(call.contains("harmless") || call.contains("bytes.as_bytes()"), "{call}");
        }
    }
}

/// The module of a file, as its path from the crate.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// All paths of a use tree: `a::{b, c::d}` has `a::b` and `a::c::d`.
fn paths_of(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, sign) in inner.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[begin..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(paths_of).map(|part| format!("{}{part}", before.trim())).collect()
}

/// The modules that a module uses, of those that there are.
fn used(module: &[String], code: &str, known: &BTreeMap<Vec<String>, String>) -> BTreeSet<Vec<String>> {
    let uses = code
        .split("use ")
        .skip(1)
        .filter_map(|rest| rest.split_once(';'))
        .flat_map(|(tree, _)| paths_of(tree));
    let inline = ["crate::", "super::"].into_iter().flat_map(|begin| {
        code.match_indices(begin).map(|(at, _)| {
            let end = code[at..].find(|sign: char| !sign.is_alphanumeric() && !"_:".contains(sign));
            code[at..at + end.unwrap_or(code.len() - at)].to_owned()
        })
    });
    let resolved = uses.chain(inline).filter_map(|path| {
        let mut at: Vec<String> = module.to_vec();
        let mut segments = path.split("::").map(str::trim).peekable();
        match segments.peek().copied() {
            Some("crate") => at.clear(),
            Some("self") => {}
            Some("super") => {
                while segments.next_if_eq(&"super").is_some() {
                    at.pop();
                }
            }
            Some(child) if known.contains_key(&[module, &[child.to_owned()]].concat()) => {}
            _ => return None,
        }
        segments.next_if(|segment| ["crate", "self"].contains(segment));
        for segment in segments {
            at.push(segment.to_owned());
            if !known.contains_key(&at) {
                at.pop();
                break;
            }
        }
        known.contains_key(&at).then_some(at)
    });
    // A module and its parent are read together.
    resolved.filter(|used| !used.starts_with(module) && !module.starts_with(used)).collect()
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("/tests.rs");
    let sources = all().into_iter().filter(|(path, _)| !is_test(path) && path != "main.rs");
    let known: BTreeMap<Vec<String>, String> = sources.map(|(path, code)| (module_of(&path), code)).collect();
    let mut uses: BTreeMap<&[String], BTreeSet<Vec<String>>> =
        known.iter().map(|(module, code)| (&module[..], used(module, code, &known))).collect();
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 1_000, "imports are found");
    // What uses nothing that is left is in no circle.
    loop {
        let left: BTreeSet<Vec<String>> = uses.keys().map(|module| module.to_vec()).collect();
        for used in uses.values_mut() {
            used.retain(|module| left.contains(module));
        }
        let before = uses.len();
        uses.retain(|_, used| !used.is_empty());
        if uses.len() == before {
            break;
        }
    }
    // Nor is what nothing uses that is left.
    loop {
        let targets: BTreeSet<Vec<String>> = uses.values().flatten().cloned().collect();
        let before = uses.len();
        uses.retain(|module, _| targets.contains(*module));
        if uses.len() == before {
            break;
        }
    }
    let circles: Vec<String> = uses
        .iter()
        .map(|(module, used)| {
            let names: Vec<String> = used.iter().map(|module| module.join("::")).collect();
            format!("{} uses {}", module.join("::"), names.join(", "))
        })
        .collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let known =
        [("a/b", "use super::c::X;"), ("a/c", "fn f() { crate::a::b::g() }"), ("a", "mod b;\nmod c;")];
    let known: BTreeMap<Vec<String>, String> =
        known.into_iter().map(|(path, code)| (module_of(path), code.to_owned())).collect();
    for (from, to) in [("a/b", "a/c"), ("a/c", "a/b")] {
        assert!(used(&module_of(from), &known[&module_of(from)], &known).contains(&module_of(to)), "{from}");
    }
    assert_eq!(paths_of("x::{a, b::{c, d}}"), ["x::a", "x::b::c", "x::b::d"]);
}
