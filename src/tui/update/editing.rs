//! Editing of the command line: the keys of a shell, completion and pasting.

use super::{
    super::{
        keymap::Key,
        model::{Focus, Model, Overlay, burst::Field},
    },
    focusing, prompts, text_area,
};
use crate::domain::text::{is_harmful, strip_control};

/// Handles a key in the command line that has no binding.
pub(super) fn command_key(model: &mut Model, key: Key) {
    if key.typed().is_some() {
        model.command.stop_browsing();
    }
    text_area::edit(&mut model.command.text, key);
}

/// Inserts a character of a pasted text into a field. A prompt has one line and no control characters.
pub(super) fn insert(model: &mut Model, field: Field, sign: char) {
    match (field, sign) {
        (Field::Command, '\n') => model.command.text.insert_newline(),
        (Field::Command, sign) => {
            model.command.stop_browsing();
            model.command.text.insert_char(sign);
        }
        (Field::Prompt(_), sign) => {
            if let Some(Overlay::Prompt(prompt)) = model.overlays.last_mut() {
                prompt.text.insert_char(if is_harmful(sign) { ' ' } else { sign });
            }
            prompts::changed(model);
        }
    }
}

/// Inserts pasted text into the open prompt, or else into the command line, where it waits for Enter.
pub(super) fn paste(model: &mut Model, text: &str) {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    match model.overlays.last_mut() {
        Some(Overlay::Question(_)) => {}
        Some(Overlay::Prompt(prompt)) => {
            prompt.text.insert_str(strip_control(&text));
            prompts::changed(model);
        }
        _ if model.settings.read_only => model.complain("this is --read-only: there is no command line"),
        _ => {
            if model.focus != Focus::Command {
                focusing::enter_command(model);
            }
            model.command.stop_browsing();
            // A newline at the end of the pasted text would only add an empty line.
            model.command.text.insert_str(text.strip_suffix('\n').unwrap_or(&text));
        }
    }
}

/// Completes the word at the cursor: `@KEY:VALUE` for labels, otherwise names of agents. If nothing matches,
/// completes the whole line from the command history.
pub(super) fn complete(model: &mut Model) {
    let (row, column) = {
        let cursor = model.command.text.cursor();
        (cursor.0, cursor.1)
    };
    let line = model.command.text.lines().get(row).cloned().unwrap_or_default();
    let before: String = line.chars().take(column).collect();
    let word = before.rsplit([' ', ',', '!', '&', '^', '\'', '"']).next().unwrap_or_default().to_owned();
    let mut found: Vec<String> = if word.is_empty() {
        Vec::new()
    } else if let Some(group) = word.strip_prefix('@') {
        let labels = model.fleet.agents().flat_map(|agent| agent.labels.iter());
        labels
            .map(|(key, value)| format!("{}:{}", key.as_str(), value.as_str()))
            .filter(|label| label.starts_with(group))
            .map(|label| format!("@{label}"))
            .collect()
    } else {
        let names = model.fleet.agents().map(|agent| agent.name.to_string());
        names.filter(|name| name.starts_with(&word)).collect()
    };
    let mut typed = word;
    if found.is_empty() && !before.trim().is_empty() {
        typed.clone_from(&before);
        found =
            model.command.history.iter().rev().filter(|past| past.starts_with(&before)).cloned().collect();
    }
    found.sort();
    found.dedup();
    match found.as_slice() {
        [] => model.complain("no completion found"),
        all => {
            let common = common_beginning(all);
            if let Some(rest) = common.strip_prefix(typed.as_str()).filter(|rest| !rest.is_empty()) {
                model.command.text.insert_str(rest);
            }
            if all.len() > 1 {
                const SHOWN: usize = 8;
                let more = if all.len() > SHOWN {
                    format!(" and {} more", all.len() - SHOWN)
                } else {
                    String::new()
                };
                let some = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("  ");
                model.say(format!("{some}{more}"));
            }
        }
    }
}

fn common_beginning(all: &[String]) -> String {
    let first = all.first().map(String::as_str).unwrap_or_default();
    let shared = |other: &String| {
        first
            .char_indices()
            .zip(other.chars())
            .take_while(|((_, a), b)| a == b)
            .map(|((at, a), _)| at + a.len_utf8())
            .last()
    };
    let end = all.iter().map(|other| shared(other).unwrap_or(0)).min().unwrap_or(0);
    first[..end].to_owned()
}
