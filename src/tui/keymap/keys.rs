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
    /// Whether Alt was pressed too, or Escape shortly before: terminals send the same bytes for both.
    pub alt: bool,
    /// Whether Shift was pressed too. Used for Enter only: for other keys their code says it.
    pub shift: bool,
}

impl Key {
    /// Creates a key without a modifier.
    #[must_use]
    pub fn plain(code: KeyCode) -> Self {
        Self { code, ctrl: false, alt: false, shift: false }
    }

    /// Returns the key of a terminal event; none for a release, or for modifiers that have no meaning here.
    #[must_use]
    pub fn of_event(event: KeyEvent) -> Option<Self> {
        let unknown = KeyModifiers::SUPER | KeyModifiers::HYPER | KeyModifiers::META;
        if event.kind == crossterm::event::KeyEventKind::Release || event.modifiers.intersects(unknown) {
            return None;
        }
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        let code = match event.code {
            // Terminals send the same byte for `^7` and `^_`; `^A` and `^a` are the same key.
            KeyCode::Char('7') if ctrl => KeyCode::Char('_'),
            KeyCode::Char(sign) if ctrl => KeyCode::Char(sign.to_ascii_lowercase()),
            code => code,
        };
        let alt = event.modifiers.contains(KeyModifiers::ALT) && code != KeyCode::Esc;
        let shift = event.modifiers.contains(KeyModifiers::SHIFT) && code == KeyCode::Enter;
        Some(Self { code, ctrl, alt, shift })
    }

    /// Returns the key without Alt.
    #[must_use]
    pub fn without_alt(self) -> Self {
        Self { alt: false, ..self }
    }

    /// Returns the character that the key types, if any.
    #[must_use]
    pub fn typed(self) -> Option<char> {
        match self.code {
            KeyCode::Char(sign) if !self.ctrl && !self.alt => Some(sign),
            _ => None,
        }
    }

    /// Returns the character that the key stands for in a text that was pasted as keys: as `typed`, and for a line
    /// feed, a carriage return and a tab.
    #[must_use]
    pub fn pasted(self) -> Option<char> {
        match self.code {
            KeyCode::Enter => Some('\n'),
            KeyCode::Char('j') if self.ctrl && !self.alt => Some('\n'),
            KeyCode::Tab => Some('\t'),
            _ => self.typed(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alt {
            f.write_str("Alt-")?;
        }
        if self.shift {
            f.write_str("S-")?;
        }
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
            KeyCode::F(number) => write!(f, "F{number}"),
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
    fn modifiers_are_part_of_a_key_where_terminals_report_them() {
        let key = |code, modifiers| Key::of_event(KeyEvent::new(code, modifiers)).map(|key| key.to_string());
        let (none, shift) = (KeyModifiers::NONE, KeyModifiers::SHIFT);
        for (code, modifiers, name) in [
            (KeyCode::Char('f'), KeyModifiers::ALT, Some("Alt-f")),
            (KeyCode::Left, KeyModifiers::ALT, Some("Alt-←")),
            (KeyCode::Char('X'), shift, Some("X")),
            (KeyCode::Enter, none, Some("Enter")),
            (KeyCode::Enter, shift, Some("S-Enter")),
            (KeyCode::Enter, KeyModifiers::CONTROL, Some("^Enter")),
            (KeyCode::Char('7'), KeyModifiers::CONTROL, Some("^_")),
            (KeyCode::Enter, KeyModifiers::SUPER, None),
        ] {
            assert_eq!(key(code, modifiers).as_deref(), name, "{code:?} {modifiers:?}");
        }
    }
}
