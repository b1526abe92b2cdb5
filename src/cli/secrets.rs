//! Finds the secrets on the command line. They are hidden before anything else is done, so that other users
//! of the machine can see them only briefly. Secrets in files, the environment and standard input are never
//! visible.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _};

use crate::{domain::code::Code, sys::arguments::Part, trust::token::PREFIX};

/// Returns the secret parts of a command line: join tokens and login strings in any position, values of
/// variables for a command, and the one-time code of an approval.
///
/// Hides rather too much than too little: this only changes how the words are displayed.
#[must_use]
pub fn find(words: &[OsString]) -> Vec<Part> {
    let is_approval = words.iter().any(|word| word == "approve");
    let mut before: &[u8] = b"";
    let mut found = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let word = word.as_bytes();
        let from = token(word).or_else(|| variable(before, word)).or_else(|| {
            let code = is_approval.then(|| std::str::from_utf8(word).ok()?.parse::<Code>().ok()).flatten();
            code.map(|_| 0)
        });
        found.extend(from.filter(|from| *from < word.len()).map(|from| (index, from..word.len())));
        before = word;
    }
    found
}

/// Returns the index at which the secret of a token begins.
fn token(word: &[u8]) -> Option<usize> {
    let start = format!("{PREFIX}-");
    word.windows(start.len()).position(|part| part == start.as_bytes()).map(|at| at + start.len())
}

/// Returns the index at which the value of a variable begins, for every form of `--env NAME=VALUE`.
fn variable(before: &[u8], word: &[u8]) -> Option<usize> {
    let is_short = |flags: &[u8]| flags.starts_with(b"-") && !flags.starts_with(b"--");
    let name = if before == b"--env" || is_short(before) && before.ends_with(b"e") {
        0
    } else if word.starts_with(b"--env=") {
        b"--env=".len()
    } else if is_short(word) {
        word.iter().position(|byte| *byte == b'e')? + 1
    } else {
        return None;
    };
    word[name..].iter().position(|byte| *byte == b'=').map(|at| name + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let mut shown: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        for (word, part) in find(&words) {
            shown[word][part].fill(b'x');
        }
        String::from_utf8(shown.join(&b" "[..])).unwrap()
    }

    #[test]
    fn every_way_to_write_a_secret_is_found() {
        for (line, then) in [
            (
                "s agent start --token sloth1-abc-def --daemon",
                "s agent start --token sloth1-xxxxxxx --daemon",
            ),
            ("s agent start --token=sloth1-abc", "s agent start --token=sloth1-xxx"),
            ("s login sloth1-a-b@host:1", "s login sloth1-xxxxxxxxxx"),
            ("s run --env A=bc @all env", "s run --env A=xx @all env"),
            ("s run --env=A=b=c @all env", "s run --env=A=xxx @all env"),
            ("s run -e A=b @all env", "s run -e A=x @all env"),
            ("s run -eA=b @all env", "s run -eA=x @all env"),
            ("s run -be A=b -qeC=d @all env", "s run -be A=x -qeC=x @all env"),
            ("s agent approve web 7K2M-QX4P-9D3A-WZ8T", "s agent approve web xxxxxxxxxxxxxxxxxxx"),
        ] {
            assert_eq!(shown(line), then);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "sloth-runner",
            "s agent start --name web --label role=db --token-file t --daemon",
            "s run --env A @all echo a=b",
            "s run --timeout 5s -l role=web @all uptime",
            "s agent list",
            "s agent approve web db",
        ] {
            assert_eq!(shown(line), line);
        }
    }
}
