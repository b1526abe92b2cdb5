//! The command line: its text, options and history. Knows neither the selection nor the meaning of keys.

use tui_textarea::{CursorMove, TextArea};

use crate::domain::{fingerprint::Fingerprint, job::JobOptions, name::AgentName};

/// Most commands of the history.
pub const HISTORY: usize = 1_000;

/// The agents that a command is for, as they were shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// The target in words that the master understands.
    pub target: String,
    /// Names and keys.
    pub agents: Vec<(AgentName, Fingerprint)>,
    /// It is the agent under the cursor, since no agent is selected.
    pub is_cursor: bool,
    /// When the oldest of them was picked, in milliseconds since the Unix epoch.
    pub picked_ms: u64,
}

/// The command line.
#[derive(Debug)]
pub struct CommandLine {
    /// The text.
    pub text: TextArea<'static>,
    /// Options as they were typed.
    pub options: String,
    /// The same, understood.
    pub parsed: JobOptions,
    /// The agent under the cursor when the line was entered without picks.
    pub frozen: Option<Recipients>,
    /// Command history, oldest first.
    pub history: Vec<String>,
    /// The place in the history, and the text before going there.
    browsing: Option<(usize, String)>,
    /// Texts that were replaced as a whole; undone after the text's own changes.
    replaced: Vec<String>,
    /// `^X` was typed, and waits for its second key.
    pub has_prefix: bool,
}

/// A text area without a style of its own.
#[must_use]
pub fn text_area(text: &str) -> TextArea<'static> {
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
    /// The text as it is.
    #[must_use]
    pub fn value(&self) -> String {
        self.text.lines().join("\n")
    }

    /// Whether there is nothing but blanks.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.text.lines().iter().all(|line| line.trim().is_empty())
    }

    /// Rows that the text takes.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.text.lines().len()
    }

    /// Puts another text in place of this one, which `^_` brings back.
    pub fn replace(&mut self, text: &str) {
        let old = self.value();
        if !old.trim().is_empty() && old != text {
            self.replaced.push(old);
        }
        self.text = text_area(text);
        self.browsing = None;
    }

    /// Undoes the last change; a replaced text when there is no smaller one.
    pub fn undo(&mut self) {
        if !self.text.undo()
            && let Some(old) = self.replaced.pop()
        {
            self.text = text_area(&old);
        }
    }

    /// Empties the line. What stood there is kept for `^_`.
    pub fn clear(&mut self) {
        self.replace("");
    }

    /// Notes a command that was run. A leading space keeps it out of the history. Returns what is to be kept.
    pub fn remember(&mut self, command: &str) -> Option<String> {
        self.browsing = None;
        if command.starts_with(' ') || self.history.last().is_some_and(|last| last == command) {
            return None;
        }
        self.history.retain(|known| known != command);
        self.history.push(command.to_owned());
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
        Some(command.to_owned())
    }

    /// Goes to an older, or newer, command.
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

    /// Forgets the place in the history, since the text was changed. What stood there before is kept for `^_`.
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
        assert_eq!(line.value(), "draft", "a command of before that is changed does not cost it");
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
