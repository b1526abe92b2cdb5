//! Keys, the contexts in which they are bound, and their lookup.

use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{action::Action, bindings::BINDINGS};

/// A pressed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The code of the key.
    pub code: KeyCode,
    /// Whether Control was pressed too.
    pub ctrl: bool,
}

impl Key {
    /// Creates a key without Control.
    #[must_use]
    pub fn plain(code: KeyCode) -> Self {
        Self { code, ctrl: false }
    }

    /// Returns the keys of a terminal event; none for a release. Alt with a key becomes Escape and then that
    /// key: terminals cannot distinguish the two, and tmux delays Escape long enough to confuse them.
    #[must_use]
    pub fn of_event(event: KeyEvent) -> Vec<Self> {
        if event.kind == crossterm::event::KeyEventKind::Release {
            return Vec::new();
        }
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        let code = match event.code {
            // Terminals send the same byte for `^7` and `^_`; `^A` and `^a` are the same key.
            KeyCode::Char('7') if ctrl => KeyCode::Char('_'),
            KeyCode::Char(sign) if ctrl => KeyCode::Char(sign.to_ascii_lowercase()),
            code => code,
        };
        let key = Self { code, ctrl };
        if event.modifiers.contains(KeyModifiers::ALT) && event.code != KeyCode::Esc {
            vec![Self::plain(KeyCode::Esc), key]
        } else {
            vec![key]
        }
    }

    /// Returns the character that the key types, if any.
    #[must_use]
    pub fn typed(self) -> Option<char> {
        match self.code {
            KeyCode::Char(sign) if !self.ctrl => Some(sign),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("^")?;
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("space"),
            KeyCode::Char(sign) if self.ctrl => write!(f, "{}", sign.to_ascii_uppercase()),
            KeyCode::Char(sign) => write!(f, "{sign}"),
            KeyCode::Enter => f.write_str("Enter"),
            KeyCode::Esc => f.write_str("Esc"),
            KeyCode::Tab => f.write_str("Tab"),
            KeyCode::BackTab => f.write_str("S-Tab"),
            KeyCode::Up => f.write_str("↑"),
            KeyCode::Down => f.write_str("↓"),
            KeyCode::Left => f.write_str("←"),
            KeyCode::Right => f.write_str("→"),
            KeyCode::PageUp => f.write_str("PgUp"),
            KeyCode::PageDown => f.write_str("PgDn"),
            KeyCode::Backspace => f.write_str("Backspace"),
            KeyCode::Delete => f.write_str("Del"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// The part of the screen in which a binding is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// Everywhere outside text input.
    Everywhere,
    /// In the fleet table.
    Fleet,
    /// In a job, in any view.
    Job,
    /// In an output in full view.
    Output,
    /// In an agent's details.
    Details,
    /// In the history of jobs.
    History,
    /// In a text that is only read: help, notices.
    Reading,
    /// In the command line.
    Command,
    /// In a prompt.
    Prompt,
}

impl Context {
    /// All contexts, in the order in which the help shows them.
    pub const ALL: [Self; 9] = [
        Self::Fleet,
        Self::Job,
        Self::Output,
        Self::Details,
        Self::History,
        Self::Reading,
        Self::Command,
        Self::Prompt,
        Self::Everywhere,
    ];

    /// Returns the contexts in which a key is looked up, most specific first.
    #[must_use]
    pub fn chain(self) -> &'static [Self] {
        match self {
            Self::Everywhere => &[Self::Everywhere],
            Self::Fleet => &[Self::Fleet, Self::Everywhere],
            Self::Job => &[Self::Job, Self::Everywhere],
            Self::Output => &[Self::Output, Self::Job, Self::Everywhere],
            Self::Details => &[Self::Details, Self::Everywhere],
            Self::History => &[Self::History, Self::Everywhere],
            Self::Reading => &[Self::Reading, Self::Everywhere],
            Self::Command => &[Self::Command],
            Self::Prompt => &[Self::Prompt],
        }
    }

    /// Returns the title of the context in the help.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Everywhere => "everywhere outside text",
            Self::Fleet => "in the fleet",
            Self::Job => "in a job",
            Self::Output => "in an output",
            Self::Details => "in an agent's details",
            Self::History => "in the history",
            Self::Reading => "in a text",
            Self::Command => "in the command line",
            Self::Prompt => "in a prompt",
        }
    }
}

/// The binding of one or more keys in a context.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The context in which the key works.
    pub context: Context,
    /// The keys, as [`Key`] displays them. Each of them performs the action.
    pub keys: &'static [&'static str],
    /// The action that the keys perform.
    pub action: Action,
    /// The text in the footer; empty for none.
    pub hint: &'static str,
}

/// Returns the binding of a key in a context.
#[must_use]
pub fn find(context: Context, key: Key) -> Option<&'static Binding> {
    let name = key.to_string();
    let of = |context: &Context| {
        BINDINGS.iter().find(|binding| binding.context == *context && binding.keys[0] == name).or_else(|| {
            BINDINGS
                .iter()
                .find(|binding| binding.context == *context && binding.keys.contains(&name.as_str()))
        })
    };
    context.chain().iter().find_map(of)
}

/// Returns the keys of an action in a context, as they are displayed.
#[must_use]
pub fn keys_of(context: Context, action: Action) -> Option<&'static [&'static str]> {
    let of = |context: &Context| {
        BINDINGS.iter().find(|binding| binding.context == *context && binding.action == action)
    };
    context.chain().iter().find_map(of).map(|binding| binding.keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_place() {
        for context in Context::ALL {
            let mut seen: Vec<(&str, Action)> = Vec::new();
            for binding in BINDINGS.iter().filter(|binding| binding.context == context) {
                for key in binding.keys {
                    let other = seen.iter().find(|(known, _)| known == key);
                    assert!(other.is_none(), "{context:?} {key}: {:?} and {other:?}", binding.action);
                    seen.push((key, binding.action));
                }
            }
        }
    }

    #[test]
    fn nothing_is_bound_to_tmuxs_prefix() {
        assert!(BINDINGS.iter().all(|binding| !binding.keys.contains(&"^B")));
    }

    #[test]
    fn in_the_fleet_no_letter_starts_stops_loads_saves_or_leaves_anything_but_i_and_q() {
        let harmless = |action: Action| {
            use Action as A;
            !matches!(
                action,
                A::CancelRow
                    | A::CancelJob
                    | A::LoadAgain
                    | A::LoadFailed
                    | A::Promote
                    | A::StopJob
                    | A::Save
                    | A::Pager
                    | A::Approve
                    | A::Reject
                    | A::Execute
                    | A::Shell
                    | A::DrainAgents
                    | A::ResumeAgents
                    | A::StopAgents
                    | A::DeleteAgents
                    | A::Suspend
            )
        };
        for letter in ('a'..='z').chain('A'..='Z') {
            let found = find(Context::Fleet, Key::plain(KeyCode::Char(letter)));
            let action = found.map(|binding| binding.action);
            assert!(
                action.is_none_or(|action| harmless(action)
                    && (letter == 'q' || action != Action::Quit)
                    && (letter == 'i' || action != Action::GoCommand)),
                "{letter} does {action:?}"
            );
        }
    }

    #[test]
    fn alt_with_a_key_is_escape_and_the_key() {
        let event = KeyEvent::new(KeyCode::Char('f'), KeyModifiers::ALT);
        let keys = Key::of_event(event);
        assert_eq!(keys, [Key::plain(KeyCode::Esc), Key::plain(KeyCode::Char('f'))]);
    }
}
