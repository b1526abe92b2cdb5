//! The command line: its text, options and history. Independent of the selection and of the keymap.

use tui_textarea::{CursorMove, TextArea};

use crate::domain::{fingerprint::Fingerprint, job::JobOptions, name::AgentName, time::UnixMs};

/// The maximum number of commands in the history.
pub(crate) const MAX_HISTORY: usize = 1_000;

/// The agents on which a command runs, as they were shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// The target, as an expression for the master.
    pub target: String,
    /// The names and key fingerprints of the agents.
    pub agents: Vec<(AgentName, Fingerprint)>,
    /// Whether this is the agent under the cursor, because no agent is picked.
    pub is_cursor: bool,
    /// When the oldest of the agents was picked, in milliseconds since the Unix epoch.
    pub picked_ms: UnixMs,
}

/// The command line.
#[derive(Debug)]
pub struct CommandLine {
    /// The text.
    pub text: TextArea<'static>,
    /// The options as they were typed.
    pub options: String,
    /// The parsed options.
    pub parsed: JobOptions,
    /// The agent under the cursor when the line was entered without picks.
    pub frozen: Option<Recipients>,
    /// Command history, oldest first.
    pub history: Vec<String>,
    /// The position in the history, and the text before browsing started.
    browsing: Option<(usize, String)>,
    /// Texts that were replaced completely. They are undone after the changes within the text.
    replaced: Vec<String>,
    /// Whether `^X` was typed, so that the next key completes the sequence.
    pub has_prefix: bool,
}

/// Creates a text area without a style of its own.
#[must_use]
pub(crate) fn text_area(text: &str) -> TextArea<'static> {
    let mut area = TextArea::new(text.split('\n').map(str::to_owned).collect());
    area.set_cursor_line_style(ratatui::style::Style::default());
    area.move_cursor(CursorMove::Bottom);
    area.move_cursor(CursorMove::End);
    area
}

impl Default for CommandLine {
    fn default() -> Self {
        Self {
            text: text_area(""),
            options: String::new(),
            parsed: JobOptions::default(),
            frozen: None,
            history: Vec::new(),
            browsing: None,
            replaced: Vec::new(),
            has_prefix: false,
        }
    }
}

impl CommandLine {
    /// Returns the current text.
    #[must_use]
    pub fn value(&self) -> String {
        self.text.lines().join("\n")
    }

    /// Whether the text contains only blanks.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.text.lines().iter().all(|line| line.trim().is_empty())
    }

    /// Returns the number of rows of the text.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.text.lines().len()
    }

    /// Replaces the text. `^_` restores the old one.
    pub fn replace(&mut self, text: &str) {
        let old = self.value();
        if !old.trim().is_empty() && old != text {
            self.replaced.push(old);
        }
        self.text = text_area(text);
        self.browsing = None;
    }

    /// Undoes the last change: first the changes within the text, then complete replacements.
    pub fn undo(&mut self) {
        if !self.text.undo()
            && let Some(old) = self.replaced.pop()
        {
            self.text = text_area(&old);
        }
    }

    /// Clears the line. `^_` restores it.
    pub fn clear(&mut self) {
        self.replace("");
    }

    /// Adds a command to the history, unless it begins with a space or repeats the last one. Returns the
    /// command to store.
    pub fn remember(&mut self, command: &str) -> Option<String> {
        self.browsing = None;
        if command.starts_with(' ') || self.history.last().is_some_and(|last| last == command) {
            return None;
        }
        self.history.retain(|known| known != command);
        self.history.push(command.to_owned());
        if self.history.len() > MAX_HISTORY {
            self.history.remove(0);
        }
        Some(command.to_owned())
    }

    /// Moves to an older or newer command.
    pub fn browse(&mut self, older: bool) {
        let (place, draft) = match self.browsing.take() {
            Some(browsing) => browsing,
            None if older => (self.history.len(), self.value()),
            None => return,
        };
        let next = if older { place.checked_sub(1) } else { Some(place + 1) };
        let next = next.unwrap_or(place).min(self.history.len());
        let text = self.history.get(next).cloned().unwrap_or_else(|| draft.clone());
        self.text = text_area(&text);
        if next < self.history.len() {
            self.browsing = Some((next, draft));
        }
    }

    /// Ends browsing because the text was changed. `^_` restores the text from before browsing.
    pub fn stop_browsing(&mut self) {
        if let Some((_, draft)) = self.browsing.take()
            && !draft.trim().is_empty()
        {
            self.replaced.push(draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_goes_back_and_forth_and_keeps_the_draft() {
        let mut line = CommandLine::default();
        assert_eq!(line.remember("one"), Some("one".to_owned()));
        assert_eq!(line.remember(" secret"), None);
        line.remember("two");
        line.remember("one");
        assert_eq!(line.history, ["two", "one"]);
        line.replace("draft");
        line.browse(true);
        assert_eq!(line.value(), "one");
        line.browse(true);
        line.browse(true);
        assert_eq!(line.value(), "two");
        line.browse(false);
        line.browse(false);
        assert_eq!(line.value(), "draft");
        line.browse(true);
        line.stop_browsing();
        line.undo();
        assert_eq!(line.value(), "draft", "editing a command from the history keeps the draft");
    }

    #[test]
    fn a_replaced_line_comes_back() {
        let mut line = CommandLine::default();
        line.replace("careful work");
        line.replace("loaded");
        line.undo();
        assert_eq!(line.value(), "careful work");
    }
}
