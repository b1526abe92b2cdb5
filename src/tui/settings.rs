//! The settings of the control center, and the capabilities of the terminal. Data only: reads no file and no
//! environment.

use std::time::Duration;

use regex::Regex;

use super::palette::Palette;
use crate::domain::job::JobOptions;

/// The number of colours that the screen uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorDepth {
    /// No colours: `NO_COLOR`.
    None,
    /// The sixteen colours that every terminal has.
    #[default]
    Sixteen,
    /// A palette of 256 colours.
    Indexed,
    /// All 24-bit colours.
    True,
}

/// Parses options that are written as on the command line: `--batch 10 --timeout 30s`.
pub type ReadOptions = fn(&str) -> Result<JobOptions, String>;

/// The control center's settings.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "settings are what they are")]
pub struct Settings {
    /// An action on more agents than this requires a confirmation.
    pub confirm_over: usize,
    /// Commands that always require a confirmation. They prevent mistakes, and are no protection against
    /// intent.
    pub destructive: Vec<Regex>,
    /// Whether only ASCII glyphs are used.
    pub ascii: bool,
    /// Whether the terminal takes UTF-8. If not, characters beyond ASCII are never sent to it.
    pub is_utf8: bool,
    /// The number of colours of the terminal.
    pub depth: ColorDepth,
    /// The colours of the screen.
    pub palette: Palette,
    /// Whether clicks and the wheel of the mouse are used.
    pub mouse: bool,
    /// Whether the control center is read-only: it starts, ends and changes nothing.
    pub read_only: bool,
    /// Whether the operator has named the master. The screen shows this name instead of the host name.
    pub is_named: bool,
    /// The `--master` argument with which another client of this program reaches the same master.
    pub master_argument: String,
    /// How long no key may arrive before an Enter that runs or accepts a text. An Enter that comes sooner was pasted or
    /// typed ahead.
    pub quiet_before: Duration,
    /// How long no key may arrive after it.
    pub quiet_after: Duration,
    /// Whether the bell rings at the end of a long job that the operator started here.
    pub bell: bool,
    /// Parses the options line.
    pub read_options: ReadOptions,
    /// Where the log of this program goes while the screen is shown.
    pub log: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            confirm_over: 10,
            destructive: Vec::new(),
            ascii: false,
            is_utf8: true,
            depth: ColorDepth::default(),
            palette: Palette::default(),
            mouse: false,
            read_only: false,
            is_named: false,
            master_argument: "local".to_owned(),
            quiet_before: Duration::from_millis(100),
            quiet_after: Duration::from_millis(50),
            bell: true,
            read_options: |_| Ok(JobOptions::default()),
            log: String::new(),
        }
    }
}
