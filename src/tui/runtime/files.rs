//! Stores the command history and the unfinished line between sessions. Only the current user can read the
//! files.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::sys::paths::{make_private, write_private};

/// The number of commands in the file above which it is shortened.
const MAX_STORED_COMMANDS: usize = 2_000;

/// The stored files of one master.
#[derive(Debug)]
pub(super) struct Files {
    directory: Option<PathBuf>,
}

impl Files {
    /// Uses the files in a directory; `None` stores nothing.
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        let directory = directory.filter(|directory| match make_private(directory) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the command history is not stored");
                false
            }
        });
        Self { directory }
    }

    /// Returns the contents of a file. Logs why it cannot be read, unless it does not exist.
    fn known(&self, read: io::Result<Vec<u8>>) -> Option<Vec<u8>> {
        match read {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let directory = self.directory.as_deref().unwrap_or(Path::new(""));
                    tracing::warn!(%error, directory = %directory.display(), "cannot read the history");
                }
                None
            }
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.directory.as_deref().map(|directory: &Path| directory.join(name))
    }

    /// Returns the command history, oldest first, and the unfinished line, whose file is removed.
    pub(super) fn read(&self) -> (Vec<String>, Option<String>) {
        // One damaged byte costs only the line that it is in.
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let read = |name: &str| self.path(name).and_then(|path| self.known(fs::read(path))).map(text);
        let past: Vec<String> = read("history")
            .map(|text| text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
            .unwrap_or_default();
        if past.len() > MAX_STORED_COMMANDS {
            let lines: Vec<String> = past[past.len() - MAX_STORED_COMMANDS / 2..]
                .iter()
                .filter_map(|command| serde_json::to_string(command).ok())
                .collect();
            if let Some(path) = self.path("history") {
                // If this fails, the history only stays longer.
                let _ = write_private(&path, (lines.join("\n") + "\n").as_bytes(), false);
            }
        }
        let draft = read("draft").filter(|draft| !draft.trim().is_empty());
        if let Some(path) = self.path("draft") {
            let _ = fs::remove_file(path);
        }
        (past, draft)
    }

    /// Appends a command. Each is one line of JSON, since a command can contain newlines.
    pub(super) fn remember(&self, command: &str) {
        let Some(path) = self.path("history") else { return };
        let written =
            OpenOptions::new().append(true).create(true).mode(0o600).open(path).and_then(|mut file| {
                let line = serde_json::to_string(command).unwrap_or_default() + "\n";
                file.write_all(line.as_bytes())
            });
        if let Err(error) = written {
            tracing::warn!(%error, "cannot store a command");
        }
    }

    /// Stores an unfinished line for the next session.
    pub(super) fn keep_draft(&self, text: &str) {
        if let Some(path) = self.path("draft")
            && let Err(error) = write_private(&path, text.as_bytes(), false)
        {
            tracing::warn!(%error, "cannot store the unfinished line");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_damaged_byte_costs_only_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(Some(directory.path().to_owned()));
        for command in ["one", "two\nlines", "three"] {
            files.remember(command);
        }
        let path = directory.path().join("history");
        let mut bytes = fs::read(&path).unwrap();
        bytes[1] = 0xff;
        fs::write(&path, &bytes).unwrap();
        let (past, _) = files.read();
        assert_eq!(past, ["\u{fffd}ne", "two\nlines", "three"]);
        bytes[0] = b'x';
        fs::write(&path, bytes).unwrap();
        assert_eq!(files.read().0, ["two\nlines", "three"]);
    }
}
