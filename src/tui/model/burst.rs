//! Keys that arrive together. People press keys one at a time; pasted text and text that was typed ahead arrive in
//! bursts. Knows when keys arrived, and nothing of what they do.

use std::time::Duration;

use crate::tui::{
    keymap::{Action, Context, Key},
    model::PromptKind,
};

/// Keys with smaller gaps between them belong to the same burst. Automatic repetition is faster than this, people
/// who press different keys are slower.
pub(crate) const MAX_GAP: Duration = Duration::from_millis(50);
/// The number of different keys in sequence from which on a burst is taken as text.
const TEXT_STROKES: usize = 3;
/// The maximum number of keys that are remembered of a burst. It is text long before.
const MAX_KEYS: usize = 256;
/// How long letters are ignored after one that has no binding.
const LOCK_TIME: Duration = Duration::from_secs(1);

/// A field that takes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The command line.
    Command,
    /// The prompt of this kind.
    Prompt(PromptKind),
}

/// What a key does if no other key follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It performs an action.
    Act(Action),
    /// It answers the open question with yes.
    Agree,
    /// It came too soon after other keys to run or to accept a text.
    TooSoon,
}

/// A key that acts only if no other key follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The key.
    pub key: Key,
    /// The context in which it was pressed.
    pub context: Context,
    /// What it does.
    pub effect: Effect,
    /// When it acts, on the monotonic clock.
    pub due: Duration,
}

/// The current burst of keys.
#[derive(Debug, Default)]
pub struct Burst {
    /// When the last key arrived, on the monotonic clock.
    last: Option<Duration>,
    /// The time between the last key and the one before.
    gap: Option<Duration>,
    /// The keys, as far as they are remembered.
    keys: Vec<Key>,
    /// The number of keys that could be text; a repeated key counts once.
    strokes: usize,
    /// How many of them are letters, digits, signs or spaces.
    typed_strokes: usize,
    /// The field that had the focus when the burst began.
    pub field: Option<Field>,
    /// The last key, if it waits until it is clear that no other one follows.
    pub held: Option<Held>,
    /// A key that did nothing because others came with it.
    pub dropped: Option<Key>,
    /// Whether the burst was inserted as text into the command line.
    pub is_inserted: bool,
    /// Until when letters are ignored, on the monotonic clock.
    locked_until: Option<Duration>,
}

impl Burst {
    /// Records the arrival of a key while a field has the focus.
    pub fn arrive(&mut self, key: Key, now: Duration, field: Option<Field>) {
        self.gap = self.last.map(|last| now.saturating_sub(last));
        self.last = Some(now);
        if self.gap.is_none_or(|gap| gap >= MAX_GAP) {
            self.begin(field);
        }
        if key.pasted().is_some() && self.keys.last() != Some(&key) {
            self.strokes += 1;
            self.typed_strokes += usize::from(key.typed().is_some());
        }
        if self.keys.len() < MAX_KEYS {
            self.keys.push(key);
        }
    }

    /// Records a paste that the terminal has marked. Keys that follow at once belong to it.
    pub fn arrive_paste(&mut self, now: Duration, field: Option<Field>) {
        self.gap = self.last.map(|last| now.saturating_sub(last));
        self.last = Some(now);
        self.begin(field);
        (self.strokes, self.typed_strokes, self.is_inserted) = (TEXT_STROKES, TEXT_STROKES, true);
    }

    fn begin(&mut self, field: Option<Field>) {
        self.keys.clear();
        (self.strokes, self.typed_strokes, self.is_inserted) = (0, 0, false);
        self.field = field;
        self.dropped = None;
    }

    /// Reports whether the keys of the burst are text that was pasted or typed ahead.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.strokes >= TEXT_STROKES && self.typed_strokes >= 2
    }

    /// Reports whether the last key is the first one of its burst, or repeats the first one.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.keys.iter().all(|key| self.keys.first() == Some(key))
    }

    /// Reports whether the last key repeats the one before in the same burst.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        matches!(self.keys.as_slice(), [.., before, last] if before == last)
    }

    /// Reports whether no key arrived within a time before the last one.
    #[must_use]
    pub fn was_quiet_for(&self, time: Duration) -> bool {
        self.gap.is_none_or(|gap| gap >= time)
    }

    /// Returns the text of the burst's keys.
    #[must_use]
    pub fn text(&self) -> String {
        self.keys.iter().filter_map(|key| key.pasted()).collect()
    }

    /// Ignores letters from now on, for a time that each ignored letter extends.
    pub fn lock(&mut self, now: Duration) {
        self.locked_until = Some(now + LOCK_TIME);
    }

    /// Accepts letters again.
    pub fn unlock(&mut self) {
        self.locked_until = None;
    }

    /// Reports whether letters are ignored.
    #[must_use]
    pub fn is_locked(&self, now: Duration) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// Returns when the model has to be updated although no key arrives, on the monotonic clock.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let dropped = self.dropped.and(self.last).map(|last| last + MAX_GAP);
        self.held.map(|held| held.due).into_iter().chain(dropped).min()
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyCode;

    use super::*;

    /// Sends keys with a gap before each, and reports whether they are text.
    fn is_text(keys: &[KeyCode], gap_ms: u64) -> bool {
        let mut burst = Burst::default();
        let mut now = Duration::from_secs(9);
        for code in keys {
            burst.arrive(Key::plain(*code), now, None);
            now += Duration::from_millis(gap_ms);
        }
        burst.is_text()
    }

    fn letters(text: &str) -> Vec<KeyCode> {
        text.chars().map(|sign| if sign == '\n' { KeyCode::Enter } else { KeyCode::Char(sign) }).collect()
    }

    #[test]
    fn text_arrives_faster_than_people_type() {
        for (keys, gap_ms, expected) in [
            (letters("reboot"), 0, true),
            (letters("reboot"), 49, true),
            (letters("reboot"), 50, false),
            (letters("id\n"), 10, true),
            (letters("jjjjjjjjjjj"), 30, false),
            (letters("jjjjjjk"), 30, false),
            (letters("xx\n"), 10, false),
            (vec![KeyCode::Down, KeyCode::Up, KeyCode::Left, KeyCode::Enter, KeyCode::Esc], 0, false),
        ] {
            assert_eq!(is_text(&keys, gap_ms), expected, "{keys:?} {gap_ms}");
        }
    }

    #[test]
    fn letters_are_locked_for_a_time() {
        let mut burst = Burst::default();
        let at = Duration::from_secs(9);
        assert!(!burst.is_locked(at));
        burst.lock(at);
        assert!(burst.is_locked(at + LOCK_TIME / 2));
        assert!(!burst.is_locked(at + LOCK_TIME));
        burst.unlock();
        assert!(!burst.is_locked(at));
    }
}
