//! The one keymap, as data: dispatch, hints, help, palette and man page are all drawn from it, so no key can lie.

use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key as it was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which.
    pub code: KeyCode,
    /// With Control.
    pub ctrl: bool,
}

impl Key {
    /// A key without Control.
    #[must_use]
    pub fn plain(code: KeyCode) -> Self {
        Self { code, ctrl: false }
    }

    /// The keys that a terminal's event stands for. Alt with a key is Escape and then that key: terminals cannot tell
    /// them apart, and tmux holds Escape back long enough to mix them up.
    #[must_use]
    pub fn of_event(event: KeyEvent) -> Vec<Self> {
        if event.kind == crossterm::event::KeyEventKind::Release {
            return Vec::new();
        }
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        let code = match event.code {
            // What terminals send for Control and these.
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

    /// The character that it types, if it does.
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

/// Where a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// Wherever no text is typed.
    Everywhere,
    /// In the fleet table.
    Fleet,
    /// In a run, however it is looked at.
    Run,
    /// In the output that is read in full.
    Output,
    /// In an agent's details.
    Details,
    /// In the history of runs.
    History,
    /// In text that is only read: help, notices.
    Reading,
    /// In the command line.
    Command,
    /// In a line of text that is asked for.
    Prompt,
}

impl Context {
    /// All, in the order in which help shows them.
    pub const ALL: [Self; 9] = [
        Self::Fleet,
        Self::Run,
        Self::Output,
        Self::Details,
        Self::History,
        Self::Reading,
        Self::Command,
        Self::Prompt,
        Self::Everywhere,
    ];

    /// The contexts in which a key is looked for, nearest first.
    #[must_use]
    pub fn chain(self) -> &'static [Self] {
        match self {
            Self::Everywhere => &[Self::Everywhere],
            Self::Fleet => &[Self::Fleet, Self::Everywhere],
            Self::Run => &[Self::Run, Self::Everywhere],
            Self::Output => &[Self::Output, Self::Run, Self::Everywhere],
            Self::Details => &[Self::Details, Self::Everywhere],
            Self::History => &[Self::History, Self::Everywhere],
            Self::Reading => &[Self::Reading, Self::Everywhere],
            Self::Command => &[Self::Command],
            Self::Prompt => &[Self::Prompt],
        }
    }

    /// The words for it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Everywhere => "everywhere outside text",
            Self::Fleet => "in the fleet",
            Self::Run => "in a run",
            Self::Output => "in an output",
            Self::Details => "in an agent's details",
            Self::History => "in the history",
            Self::Reading => "in a text",
            Self::Command => "in the command line",
            Self::Prompt => "in a line that is asked for",
        }
    }
}

/// Something that a key does, or the palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each says in `name` what it does")]
pub enum Action {
    NextPane,
    PreviousPane,
    GoFleet,
    GoRun,
    GoCommand,
    Down,
    Up,
    First,
    Last,
    HalfDown,
    HalfUp,
    PageDown,
    PageUp,
    Left,
    Right,
    Pick,
    PickRange,
    PickShown,
    Unpick,
    Invert,
    PickTarget,
    Filter,
    Search,
    SearchNext,
    SearchPrevious,
    Close,
    Quit,
    Open,
    NextView,
    NextAttention,
    PreviousAttention,
    Zoom,
    Sort,
    PreviousRun,
    NextRun,
    Follow,
    Wrap,
    Times,
    Masks,
    Streams,
    CancelRow,
    CancelRun,
    LoadAgain,
    LoadFailed,
    Difference,
    Save,
    Pager,
    CopyRow,
    CopyReport,
    Promote,
    StopRun,
    History,
    Palette,
    Help,
    Redraw,
    Suspend,
    Interrupt,
    Approve,
    Reject,
    Execute,
    NewLine,
    Complete,
    Past,
    Options,
    Editor,
    Prefix,
    ClearOrLeave,
    Leave,
    DeleteOrLeave,
    Older,
    Newer,
    Undo,
    ScrollUp,
    ScrollDown,
    Accept,
    Abandon,
    ChoiceDown,
    ChoiceUp,
    AddAgent,
    Label,
    StopAgents,
    DeleteAgents,
    ShowLog,
    Unfold,
}

/// A key, or several, in one context.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Where.
    pub context: Context,
    /// Keys as [`Key`] shows them; any of them does.
    pub keys: &'static [&'static str],
    /// What they do.
    pub action: Action,
    /// The footer's words; empty for none.
    pub hint: &'static str,
}

const fn bind(
    context: Context,
    keys: &'static [&'static str],
    action: Action,
    hint: &'static str,
) -> Binding {
    Binding { context, keys, action, hint }
}

/// All bindings; in each context in the order in which hints are shown.
pub const BINDINGS: &[Binding] = {
    use Action as A;
    use Context as C;
    &[
        bind(C::Fleet, &["i"], A::GoCommand, "command"),
        bind(C::Fleet, &["Enter"], A::Open, "details"),
        bind(C::Fleet, &["space"], A::Pick, "pick"),
        bind(C::Fleet, &["a"], A::PickShown, "pick all shown"),
        bind(C::Fleet, &["/"], A::Filter, "filter"),
        bind(C::Fleet, &["@"], A::PickTarget, "target"),
        bind(C::Fleet, &["u"], A::Unpick, "unpick"),
        bind(C::Fleet, &["V"], A::PickRange, ""),
        bind(C::Fleet, &["*"], A::Invert, ""),
        bind(C::Fleet, &["o"], A::Sort, "sort"),
        bind(C::Fleet, &["e"], A::NextAttention, ""),
        bind(C::Fleet, &["E"], A::PreviousAttention, ""),
        bind(C::Fleet, &["y"], A::CopyRow, ""),
        bind(C::Fleet, &["n"], A::SearchNext, ""),
        bind(C::Fleet, &["N"], A::SearchPrevious, ""),
        bind(C::Run, &["P"], A::Promote, "promote"),
        bind(C::Run, &["S"], A::StopRun, "stop"),
        bind(C::Run, &["i"], A::GoCommand, "command"),
        bind(C::Run, &["Enter"], A::Open, "open"),
        bind(C::Run, &["e"], A::NextAttention, "next that needs you"),
        bind(C::Run, &["E"], A::PreviousAttention, ""),
        bind(C::Run, &["space"], A::Pick, "pick"),
        bind(C::Run, &["x"], A::CancelRow, "cancel"),
        bind(C::Run, &["X"], A::CancelRun, "cancel run"),
        bind(C::Run, &["R"], A::LoadFailed, "load failed"),
        bind(C::Run, &["d"], A::Difference, "diff"),
        bind(C::Run, &["v"], A::NextView, "view"),
        bind(C::Run, &["r"], A::LoadAgain, "load"),
        bind(C::Run, &["m"], A::Masks, ""),
        bind(C::Run, &["w"], A::Wrap, ""),
        bind(C::Run, &["t"], A::Times, ""),
        bind(C::Run, &["f"], A::Follow, ""),
        bind(C::Run, &["s"], A::Save, ""),
        bind(C::Run, &["p"], A::Pager, ""),
        bind(C::Run, &["y"], A::CopyRow, ""),
        bind(C::Run, &["Y"], A::CopyReport, ""),
        bind(C::Run, &["u"], A::Unpick, ""),
        bind(C::Run, &["/"], A::Search, ""),
        bind(C::Run, &["n"], A::SearchNext, ""),
        bind(C::Run, &["N"], A::SearchPrevious, ""),
        bind(C::Output, &["f"], A::Follow, "follow"),
        bind(C::Output, &["/"], A::Search, "search"),
        bind(C::Output, &["n"], A::SearchNext, "next"),
        bind(C::Output, &["w"], A::Wrap, "wrap"),
        bind(C::Output, &["t"], A::Times, "times"),
        bind(C::Output, &["s"], A::Save, "save"),
        bind(C::Output, &["p"], A::Pager, "pager"),
        bind(C::Output, &["y"], A::CopyRow, "copy"),
        bind(C::Details, &["A"], A::Approve, "approve"),
        bind(C::Details, &["D"], A::Reject, "reject"),
        bind(C::Details, &["i"], A::GoCommand, "command"),
        bind(C::Details, &["y"], A::CopyRow, "copy"),
        bind(C::History, &["Enter"], A::Open, "open"),
        bind(C::History, &["r"], A::LoadAgain, "load"),
        bind(C::History, &["/"], A::Filter, "filter"),
        bind(C::Reading, &["y"], A::CopyRow, "copy"),
        bind(C::Everywhere, &["Esc"], A::Close, "close"),
        bind(C::Everywhere, &["q"], A::Quit, "quit"),
        bind(C::Everywhere, &["["], A::PreviousRun, ""),
        bind(C::Everywhere, &["]"], A::NextRun, "other run"),
        bind(C::Everywhere, &["Tab"], A::NextPane, "pane"),
        bind(C::Everywhere, &["S-Tab"], A::PreviousPane, ""),
        bind(C::Everywhere, &["1"], A::GoFleet, ""),
        bind(C::Everywhere, &["2"], A::GoRun, ""),
        bind(C::Everywhere, &["3"], A::GoCommand, ""),
        bind(C::Everywhere, &["j", "↓"], A::Down, ""),
        bind(C::Everywhere, &["k", "↑"], A::Up, ""),
        bind(C::Everywhere, &["g", "Home"], A::First, ""),
        bind(C::Everywhere, &["G", "End"], A::Last, ""),
        bind(C::Everywhere, &["^D"], A::HalfDown, ""),
        bind(C::Everywhere, &["^U"], A::HalfUp, ""),
        bind(C::Everywhere, &["PgDn"], A::PageDown, ""),
        bind(C::Everywhere, &["PgUp"], A::PageUp, ""),
        bind(C::Everywhere, &["h", "←"], A::Left, ""),
        bind(C::Everywhere, &["l", "→"], A::Right, ""),
        bind(C::Everywhere, &["z"], A::Zoom, "zoom"),
        bind(C::Everywhere, &["H"], A::History, "history"),
        bind(C::Everywhere, &[":"], A::Palette, "palette"),
        bind(C::Everywhere, &["?"], A::Help, "help"),
        bind(C::Everywhere, &["^L"], A::Redraw, ""),
        bind(C::Everywhere, &["^Z"], A::Suspend, ""),
        bind(C::Everywhere, &["^C"], A::Interrupt, ""),
        bind(C::Command, &["Enter"], A::Execute, "run"),
        bind(C::Command, &["^J"], A::NewLine, "newline"),
        bind(C::Command, &["Tab"], A::Complete, "complete"),
        bind(C::Command, &["^R"], A::Past, "history"),
        bind(C::Command, &["^O"], A::Options, "options"),
        bind(C::Command, &["Esc"], A::Leave, "leave"),
        bind(C::Command, &["PgUp"], A::ScrollUp, ""),
        bind(C::Command, &["PgDn"], A::ScrollDown, ""),
        bind(C::Command, &["^X"], A::Prefix, ""),
        bind(C::Command, &["^C"], A::ClearOrLeave, ""),
        bind(C::Command, &["^D"], A::DeleteOrLeave, ""),
        bind(C::Command, &["^_"], A::Undo, ""),
        bind(C::Command, &["↑"], A::Older, ""),
        bind(C::Command, &["↓"], A::Newer, ""),
        bind(C::Command, &["S-Tab"], A::PreviousPane, ""),
        bind(C::Command, &["^L"], A::Redraw, ""),
        bind(C::Command, &["^Z"], A::Suspend, ""),
        bind(C::Prompt, &["Enter"], A::Accept, "take it"),
        bind(C::Prompt, &["Esc", "^C"], A::Abandon, "leave"),
        bind(C::Prompt, &["↓", "Tab"], A::ChoiceDown, ""),
        bind(C::Prompt, &["↑", "S-Tab"], A::ChoiceUp, ""),
        bind(C::Prompt, &["^_"], A::Undo, ""),
        bind(C::Prompt, &["^L"], A::Redraw, ""),
    ]
};

/// The binding of a key where one is.
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

/// The keys of an action where one is, as they are shown.
#[must_use]
pub fn keys_of(context: Context, action: Action) -> Option<&'static [&'static str]> {
    let of = |context: &Context| {
        BINDINGS.iter().find(|binding| binding.context == *context && binding.action == action)
    };
    context.chain().iter().find_map(of).map(|binding| binding.keys)
}

impl Action {
    /// What it does, in the words of help and palette.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NextPane => "next pane",
            Self::PreviousPane => "previous pane",
            Self::GoFleet => "go to the fleet",
            Self::GoRun => "go to the run",
            Self::GoCommand => "go to the command line",
            Self::Down => "down",
            Self::Up => "up",
            Self::First => "to the beginning",
            Self::Last => "to the end",
            Self::HalfDown => "half a page down",
            Self::HalfUp => "half a page up",
            Self::PageDown => "a page down",
            Self::PageUp => "a page up",
            Self::Left => "left",
            Self::Right => "right",
            Self::Pick => "pick, or not",
            Self::PickRange => "pick a range: here, then there",
            Self::PickShown => "pick all that the filter shows",
            Self::Unpick => "unpick all; again: restore",
            Self::Invert => "invert what is shown",
            Self::PickTarget => "pick by target expression",
            Self::Filter => "filter",
            Self::Search => "search",
            Self::SearchNext => "next match",
            Self::SearchPrevious => "previous match",
            Self::Close => "close one layer",
            Self::Quit => "close one layer; the last one quits",
            Self::Open => "open what the cursor is on",
            Self::NextView => "next view: groups, grid, stream",
            Self::NextAttention => "next that needs attention",
            Self::PreviousAttention => "previous that needs attention",
            Self::Zoom => "zoom the pane",
            Self::Sort => "sort by the next column",
            Self::PreviousRun => "previous run",
            Self::NextRun => "next run",
            Self::Follow => "follow the end",
            Self::Wrap => "wrap long lines",
            Self::Times => "show times",
            Self::Masks => "compare without names, times, numbers",
            Self::Streams => "show stdout, stderr, or both",
            Self::CancelRow => "cancel the row's tasks",
            Self::CancelRun => "cancel the whole run",
            Self::LoadAgain => "load the run's command and target",
            Self::LoadFailed => "load the command for those that failed",
            Self::Difference => "show the difference to the largest group",
            Self::Save => "save the output byte for byte",
            Self::Pager => "open the output in the pager",
            Self::CopyRow => "copy",
            Self::CopyReport => "copy a report of the run",
            Self::Promote => "promote: let the run go on",
            Self::StopRun => "stop: start nothing more of the run",
            Self::History => "history of runs",
            Self::Palette => "everything by name",
            Self::Help => "help",
            Self::Redraw => "draw anew",
            Self::Suspend => "suspend",
            Self::Interrupt => "say how to quit and to cancel",
            Self::Approve => "approve the waiting key",
            Self::Reject => "reject the waiting key",
            Self::Execute => "run",
            Self::NewLine => "new line",
            Self::Complete => "complete agents, labels and past commands",
            Self::Past => "search the commands of before",
            Self::Options => "options: --batch 10 --timeout 30s",
            Self::Editor => "edit the command in $EDITOR",
            Self::Prefix => "^E behind it: edit in $EDITOR",
            Self::ClearOrLeave => "clear the line; leave an empty one",
            Self::Leave => "leave the line",
            Self::DeleteOrLeave => "delete; leave an empty line",
            Self::Older => "line up, older command at the first",
            Self::Newer => "line down, newer command at the last",
            Self::Undo => "undo",
            Self::ScrollUp => "scroll the run up",
            Self::ScrollDown => "scroll the run down",
            Self::Accept => "take it",
            Self::Abandon => "leave it",
            Self::ChoiceDown => "next choice",
            Self::ChoiceUp => "previous choice",
            Self::AddAgent => "add an agent: make its join line",
            Self::Label => "label the picked agents",
            Self::StopAgents => "stop the picked agents on their machines",
            Self::DeleteAgents => "delete the picked agents",
            Self::ShowLog => "say where this program's log is",
            Self::Unfold => "unfold, or fold, the rows",
        }
    }

    /// What the palette offers.
    pub fn palette() -> impl Iterator<Item = Self> {
        [
            Self::GoFleet,
            Self::GoRun,
            Self::GoCommand,
            Self::History,
            Self::Filter,
            Self::PickTarget,
            Self::PickShown,
            Self::Unpick,
            Self::Invert,
            Self::Sort,
            Self::NextView,
            Self::NextAttention,
            Self::Zoom,
            Self::Difference,
            Self::Masks,
            Self::Unfold,
            Self::Follow,
            Self::Wrap,
            Self::Times,
            Self::Streams,
            Self::Search,
            Self::CancelRow,
            Self::CancelRun,
            Self::LoadAgain,
            Self::LoadFailed,
            Self::Promote,
            Self::StopRun,
            Self::Save,
            Self::Pager,
            Self::CopyRow,
            Self::CopyReport,
            Self::Approve,
            Self::Reject,
            Self::AddAgent,
            Self::Label,
            Self::StopAgents,
            Self::DeleteAgents,
            Self::ShowLog,
            Self::Redraw,
            Self::Suspend,
            Self::Help,
            Self::Quit,
        ]
        .into_iter()
    }
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
                    | A::CancelRun
                    | A::LoadAgain
                    | A::LoadFailed
                    | A::Promote
                    | A::StopRun
                    | A::Save
                    | A::Pager
                    | A::Approve
                    | A::Reject
                    | A::Execute
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
