//! How output is shown. All panes share it, so that a key has the same meaning everywhere.

use super::line::Source;

/// The output streams that are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Both streams; stderr is marked.
    #[default]
    Both,
    /// Standard output only.
    Stdout,
    /// Standard error only.
    Stderr,
}

impl Streams {
    /// Returns the next setting, in the sequence in which the palette selects them.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Both => Self::Stdout,
            Self::Stdout => Self::Stderr,
            Self::Stderr => Self::Both,
        }
    }

    /// Reports whether lines of a source are shown.
    #[must_use]
    pub fn shows(self, source: Source) -> bool {
        match (self, source) {
            (Self::Both, _) | (_, Source::Gap) => true,
            (Self::Stdout, source) => source == Source::Stdout,
            (Self::Stderr, source) => source == Source::Stderr,
        }
    }

    /// Returns the words for the setting.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Both => "stdout and stderr",
            Self::Stdout => "stdout only",
            Self::Stderr => "stderr only",
        }
    }
}

/// The display options of output. All panes share them, so that a key has the same meaning everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisplayOptions {
    /// Whether long lines are wrapped.
    pub wraps: bool,
    /// Whether lines begin with their time.
    pub has_times: bool,
    /// The streams that are shown.
    pub streams: Streams,
}
