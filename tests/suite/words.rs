//! Replaced words and phrases are not used again, and no doc comment is a single word.
//!
//! Checks the sources, the protocol, the manuals and the other documents. It finds words, not unclear
//! sentences.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Replaced phrases in lower case, each with what to write instead. They are found in identifiers too.
const REPLACED: &[(&str, &str)] = &[
    ("keeper", "supervisor"),
    ("worker", "shim"),
    ("network half", "connector"),
    ("stranger", "unauthenticated peer"),
    ("strangers", "unauthenticated peers"),
    ("taken back", "recovered, or revoked"),
    ("takes back", "recovers, or revokes"),
    ("so many", "a number of, or the number itself"),
    ("whom", "the target, the recipients, or the agents that"),
    ("small print", "what may be lost"),
    ("at leisure", "in a batch"),
    ("parked", "continuation"),
    ("last run", "last job"),
    ("goes on", "continues"),
    ("go on", "continue"),
    ("lasting", "long running"),
    ("whoever", "the caller, the client, or the process that"),
    ("lets in", "enrolls"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("nobody here", "unauthenticated, or not an operator"),
    ("how it stands", "its state"),
    ("as it stands", "as it is"),
    ("so long as", "as long as"),
];

/// Words that are not used in comments, where they stood for a more exact verb or subject.
const NOT_IN_COMMENTS: &[(&str, &str)] = &[
    ("told", "reported, notified or ordered"),
    ("tells", "reports, notifies or orders"),
    ("heard", "received"),
    ("hears", "receives"),
    ("nobody", "no caller, no client or no operator"),
    ("somebody", "a caller, a client or an operator"),
    ("anew", "again, or new"),
    ("once more", "again"),
];

/// Files in which a replaced phrase is allowed, each with the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/agent/layout.rs", "keeper", "the names of files that a supervisor of 0.1.0 made"),
    ("src/agent/supervisor/protocol.rs", "worker", "a field that a supervisor of 0.1.0 sends"),
    ("src/agent/supervisor/protocol.rs", "network half", "a message that a supervisor of 0.1.0 reads"),
    ("src/cli/commands/master.rs", "worker", "tokio's word for its threads"),
    ("src/master/output_log/logs/tests.rs", "worker", "tokio's word for its threads"),
    ("src/sys/giving_way.rs", "worker", "tokio's word for its threads"),
    ("src/domain/job.rs", "taken back", "a field that earlier versions stored"),
    ("src/master/store/database/tests/formats.rs", "taken back", "a field that earlier versions stored"),
    ("src/master/store/database/tests/format-5.sql", "taken back", "a field that version 0.1.0 stored"),
];

/// Identifiers in which `run` is the verb, and not the old noun for a job.
const RUN_THE_VERB: &[&str] = &[
    "RunArgs", // The flags of `agent run`.
    "Run",     // The subcommand, and the question before a command is run.
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory, or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|entry| files(&entry)).collect()
}

fn extension(file: &str) -> &str {
    Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// Returns all texts that a person reads, each with its path from the root.
fn texts() -> Vec<(String, String)> {
    let places = [
        "src",
        "proto",
        "man",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "bootstrap.sh",
        "assets/sloth-runner.toml",
        "benches",
    ];
    let paths = places.iter().flat_map(|place| files(&root().join(place)));
    let named = paths.map(|path| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        (name, fs::read_to_string(&path).unwrap())
    });
    named.filter(|(name, _)| extension(name) != "snap").collect()
}

/// Returns the words of a line in lower case, separated by spaces: `drop_worker(KeepAlive)` has drop, worker,
/// keep and alive.
fn words(line: &str) -> String {
    let mut words = String::from(" ");
    let mut before = ' ';
    for letter in line.chars() {
        if letter.is_uppercase() && before.is_lowercase() {
            words.push(' ');
        }
        if letter.is_alphabetic() {
            words.extend(letter.to_lowercase());
        } else if letter != '\'' && !words.ends_with(' ') {
            words.push(' ');
        }
        before = letter;
    }
    words.push(' ');
    words
}

fn is_excepted(file: &str, phrase: &str) -> bool {
    EXCEPTIONS.iter().any(|(path, word, _)| *path == file && *word == phrase)
}

/// Fails with all places that were found.
fn expect_none(found: Vec<String>) {
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn words_are_found_in_identifiers() {
    assert_eq!(words("let x = drop_worker(KeepAlive::ON);").trim(), "let x drop worker keep alive on");
    assert_eq!(words("/// The job's end").trim(), "the jobs end");
}

#[test]
fn replaced_phrases_are_not_used() {
    let mut found = Vec::new();
    for (file, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            let words = words(line);
            for (phrase, instead) in REPLACED {
                if words.contains(&format!(" {phrase} ")) && !is_excepted(&file, phrase) {
                    found.push(format!("{file}:{}: {phrase:?} is {instead:?}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    expect_none(found);
}

#[test]
fn every_exception_is_needed() {
    let texts = texts();
    for (path, phrase, reason) in EXCEPTIONS {
        let text = texts.iter().find(|(file, _)| file == path);
        let is_there = text
            .is_some_and(|(_, text)| text.lines().any(|line| words(line).contains(&format!(" {phrase} "))));
        assert!(is_there, "{path} no longer says {phrase:?} ({reason})");
    }
}

/// Returns the identifiers of a line, without those in comments.
fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

#[test]
fn no_identifier_calls_a_job_a_run() {
    let mut found = Vec::new();
    for (file, text) in texts() {
        // Data of earlier versions are read by their old names.
        let is_history = ["schema.rs", "salvage.rs", "formats.rs"].iter().any(|name| file.ends_with(name));
        if is_history || !["rs", "proto"].contains(&extension(&file)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let is_old = |word: &str| {
                let words = words(word);
                let mut parts = words.split_whitespace();
                let is_type = word.starts_with(char::is_uppercase);
                // Names of tests are sentences.
                let is_short = word.matches('_').count() < 4;
                let is_noun = parts.any(|part| part == "runs" || (is_type && part == "run"))
                    || ["run_id", "run_number", "last_run"].contains(&word);
                is_short && is_noun && !RUN_THE_VERB.contains(&word)
            };
            // Text between quotes is checked by the other tests, except the keys of JSON.
            let code: String = line.split('"').step_by(2).collect();
            let is_key = line.contains("\"run\":") || line.contains("[\"run\"]:");
            if (is_key && !line.contains("run_number")) || identifiers(&code).any(is_old) {
                found.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    expect_none(found);
}

#[test]
fn comments_use_exact_verbs_and_subjects() {
    let mut found = Vec::new();
    for (file, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            // Names of code in backticks are not prose.
            let prose: String = comment.split('`').step_by(2).collect::<Vec<_>>().join(" ");
            let words = words(&prose);
            for (word, instead) in NOT_IN_COMMENTS {
                if words.contains(&format!(" {word} ")) {
                    found.push(format!("{file}:{}: {word:?} is {instead:?}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    expect_none(found);
}

#[test]
fn no_doc_comment_is_a_single_word() {
    let mut found = Vec::new();
    for (file, text) in texts().into_iter().filter(|(file, _)| extension(file) == "rs") {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let is_doc =
            |at: usize| lines.get(at).is_some_and(|line| line.starts_with("///") || line.starts_with("//!"));
        for (at, line) in lines.iter().enumerate().filter(|(at, _)| is_doc(*at)) {
            let has_more = is_doc(at + 1) || (at > 0 && is_doc(at - 1));
            let said = line.trim_start_matches(['/', '!', ' ']);
            if !has_more && said.split_whitespace().count() == 1 && !said.starts_with('`') {
                found.push(format!("{file}:{}: {line}", at + 1));
            }
        }
    }
    expect_none(found);
}
