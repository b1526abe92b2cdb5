//! All actions, and their names in the help and the palette.

/// An action of a key or of the palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each says in `name` what it does")]
pub enum Action {
    NextPane,
    PreviousPane,
    GoFleet,
    GoJob,
    GoCommand,
    Shell,
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
    PreviousJob,
    NextJob,
    Follow,
    Wrap,
    Times,
    Masks,
    Streams,
    CancelRow,
    CancelJob,
    LoadAgain,
    LoadFailed,
    Difference,
    Save,
    Pager,
    CopyRow,
    CopyReport,
    Promote,
    StopJob,
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
    DrainAgents,
    ResumeAgents,
    StopAgents,
    DeleteAgents,
    ShowLog,
    Unfold,
    Messages,
    Acknowledge,
    Theme,
}

impl Action {
    /// Returns the name of the action in the help and the palette.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NextPane => "next pane",
            Self::PreviousPane => "previous pane",
            Self::GoFleet => "go to the fleet",
            Self::GoJob => "go to the job",
            Self::GoCommand => "go to the command line",
            Self::Shell => "open a shell on this agent",
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
            Self::Pick => "pick or unpick",
            Self::PickRange => "pick a range: here, then there",
            Self::PickShown => "pick all that the filter shows",
            Self::Unpick => "unpick all; again: restore",
            Self::Invert => "invert the picks of the shown rows",
            Self::PickTarget => "pick by target expression",
            Self::Filter => "filter",
            Self::Search => "search",
            Self::SearchNext => "next match",
            Self::SearchPrevious => "previous match",
            Self::Close => "close one layer",
            Self::Quit => "close one layer; the last one quits",
            Self::Open => "open what the cursor is on",
            Self::NextView => "next view: groups, grid, stream",
            Self::NextAttention => "next row that needs attention",
            Self::PreviousAttention => "previous row that needs attention",
            Self::Zoom => "zoom the pane",
            Self::Sort => "sort by the next column",
            Self::PreviousJob => "previous job",
            Self::NextJob => "next job",
            Self::Follow => "follow the end",
            Self::Wrap => "wrap long lines",
            Self::Times => "show times",
            Self::Masks => "compare without names, times, numbers",
            Self::Streams => "show stdout, stderr, or both",
            Self::CancelRow => "cancel the row's tasks",
            Self::CancelJob => "cancel the whole job",
            Self::LoadAgain => "load the job's command and target",
            Self::LoadFailed => "load the command for the failed agents",
            Self::Difference => "show the difference to the largest group",
            Self::Save => "save the output byte for byte",
            Self::Pager => "open the output in the pager",
            Self::CopyRow => "copy",
            Self::CopyReport => "copy a report of the job",
            Self::Promote => "promote: let the job continue",
            Self::StopJob => "stop: start nothing more of the job",
            Self::History => "history of jobs",
            Self::Palette => "find an action by name",
            Self::Help => "help",
            Self::Redraw => "redraw the screen",
            Self::Suspend => "suspend",
            Self::Interrupt => "show how to quit and cancel",
            Self::Approve => "approve the key, or accept the proposal",
            Self::Reject => "reject the pending key",
            Self::Execute => "run",
            Self::NewLine => "new line",
            Self::Complete => "complete agents, labels and past commands",
            Self::Past => "search the command history",
            Self::Options => "options: --batch 10 --timeout 30s",
            Self::Editor => "edit the command in $EDITOR",
            Self::Prefix => "then ^E: edit in $EDITOR",
            Self::ClearOrLeave => "clear the line; leave an empty one",
            Self::Leave => "leave the line",
            Self::DeleteOrLeave => "delete; leave an empty line",
            Self::Older => "line up, older command at the first",
            Self::Newer => "line down, newer command at the last",
            Self::Undo => "undo",
            Self::ScrollUp => "scroll the job up",
            Self::ScrollDown => "scroll the job down",
            Self::Accept => "accept",
            Self::Abandon => "cancel",
            Self::ChoiceDown => "next choice",
            Self::ChoiceUp => "previous choice",
            Self::AddAgent => "add an agent: create its join line",
            Self::Label => "label the picked agents",
            Self::DrainAgents => "drain the picked agents: they take no new tasks",
            Self::ResumeAgents => "resume the picked agents: they take tasks again",
            Self::StopAgents => "stop the picked agents on their machines",
            Self::DeleteAgents => "delete the picked agents",
            Self::ShowLog => "show where this program's log is",
            Self::Unfold => "fold or unfold: groups or agents",
            Self::Messages => "list of messages",
            Self::Theme => "next theme: terminal, dark, light, high-contrast",
            Self::Acknowledge => "acknowledge: the last failure needs no more attention",
        }
    }

    /// Reports whether the action is performed only if its key comes alone. These are all actions but those that only move, scroll,
    /// or change how something is shown: a text that is pasted or typed in the wrong place consists of many keys.
    #[must_use]
    pub fn needs_care(self) -> bool {
        !matches!(
            self,
            Self::Down
                | Self::Up
                | Self::First
                | Self::Last
                | Self::HalfDown
                | Self::HalfUp
                | Self::PageDown
                | Self::PageUp
                | Self::Left
                | Self::Right
                | Self::ScrollUp
                | Self::ScrollDown
                | Self::GoFleet
                | Self::GoJob
                | Self::NextAttention
                | Self::PreviousAttention
                | Self::NextJob
                | Self::PreviousJob
                | Self::SearchNext
                | Self::SearchPrevious
                | Self::NextView
                | Self::Open
                | Self::Close
                | Self::Zoom
                | Self::Sort
                | Self::Follow
                | Self::Wrap
                | Self::Times
                | Self::Streams
                | Self::Unfold
                | Self::Difference
                | Self::Help
                | Self::History
                | Self::Messages
                | Self::Redraw
                | Self::Interrupt
                | Self::NewLine
                | Self::Complete
                | Self::ClearOrLeave
                | Self::DeleteOrLeave
                | Self::Leave
                | Self::Abandon
                | Self::Older
                | Self::Newer
                | Self::Undo
                | Self::ChoiceDown
                | Self::ChoiceUp
                | Self::Prefix
        )
    }

    /// Reports whether automatic repetition of the key repeats the action.
    #[must_use]
    pub fn is_repeatable(self) -> bool {
        self == Self::Pick
    }

    /// Returns the actions of the palette.
    pub fn palette() -> impl Iterator<Item = Self> {
        [
            Self::GoFleet,
            Self::GoJob,
            Self::GoCommand,
            Self::Shell,
            Self::History,
            Self::Filter,
            Self::PickTarget,
            Self::PickShown,
            Self::Unpick,
            Self::Invert,
            Self::Sort,
            Self::NextView,
            Self::NextAttention,
            Self::Acknowledge,
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
            Self::CancelJob,
            Self::LoadAgain,
            Self::LoadFailed,
            Self::Promote,
            Self::StopJob,
            Self::Save,
            Self::Pager,
            Self::CopyRow,
            Self::CopyReport,
            Self::Approve,
            Self::Reject,
            Self::AddAgent,
            Self::Label,
            Self::DrainAgents,
            Self::ResumeAgents,
            Self::StopAgents,
            Self::DeleteAgents,
            Self::Messages,
            Self::Theme,
            Self::ShowLog,
            Self::Redraw,
            Self::Suspend,
            Self::Help,
            Self::Quit,
        ]
        .into_iter()
    }
}
