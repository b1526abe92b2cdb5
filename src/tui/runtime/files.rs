//! Stores the command history and the unfinished line between sessions. Only this user can read them.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::sys::paths::{make_private, write_private};

/// Commands that are kept in the file, before it is written anew.
const KEPT: usize = 2_000;

/// The files of one master.
#[derive(Debug)]
pub(super) struct Files {
    directory: Option<PathBuf>,
}

impl Files {
    /// Files in a directory, or none at all.
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        let directory = directory.filter(|directory| match make_private(directory) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "commands are not remembered");
                false
            }
        });
        Self { directory }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.directory.as_deref().map(|directory: &Path| directory.join(name))
    }

    /// Command history, oldest first, and the line that was left behind, which is forgotten with this.
    pub(super) fn read(&self) -> (Vec<String>, Option<String>) {
        let read = |name: &str| self.path(name).and_then(|path| fs::read_to_string(path).ok());
        let past: Vec<String> = read("history")
            .map(|text| text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
            .unwrap_or_default();
        if past.len() > KEPT {
            let lines: Vec<String> = past[past.len() - KEPT / 2..]
                .iter()
                .filter_map(|command| serde_json::to_string(command).ok())
                .collect();
            if let Some(path) = self.path("history") {
                // A history that cannot be shortened is only longer.
                let _ = write_private(&path, (lines.join("\n") + "\n").as_bytes(), false);
            }
        }
        let draft = read("draft").filter(|draft| !draft.trim().is_empty());
        if let Some(path) = self.path("draft") {
            let _ = fs::remove_file(path);
        }
        (past, draft)
    }

    /// Adds a command. One line a command, as JSON, since commands have lines of their own.
    pub(super) fn remember(&self, command: &str) {
        let Some(path) = self.path("history") else { return };
        let written =
            OpenOptions::new().append(true).create(true).mode(0o600).open(path).and_then(|mut file| {
                let line = serde_json::to_string(command).unwrap_or_default() + "\n";
                file.write_all(line.as_bytes())
            });
        if let Err(error) = written {
            tracing::warn!(%error, "a command is not remembered");
        }
    }

    /// Keeps a line for the next time.
    pub(super) fn keep_draft(&self, text: &str) {
        if let Some(path) = self.path("draft")
            && let Err(error) = write_private(&path, text.as_bytes(), false)
        {
            tracing::warn!(%error, "the line that was not finished is lost");
        }
    }
}
