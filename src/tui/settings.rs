//! What a person may set, and what the terminal can do. Holds it; reads no file and no environment.

use regex::Regex;

use crate::domain::job::JobOptions;

/// How many colours may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// None: `NO_COLOR`.
    None,
    /// The sixteen that every terminal has.
    #[default]
    Sixteen,
    /// A palette of 256 colours.
    Indexed,
    /// All of them.
    True,
}

/// Reads options in the words of the command line: `--batch 10 --timeout 30s`.
pub type ReadOptions = fn(&str) -> Result<JobOptions, String>;

/// The control center's settings.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "settings are what they are")]
pub struct Settings {
    /// More agents than this are asked about before anything happens to them.
    pub confirm_over: usize,
    /// Commands that are asked about at any count. They help; they do not protect.
    pub destructive: Vec<Regex>,
    /// Glyphs of ASCII only.
    pub ascii: bool,
    /// The number of colours of the terminal.
    pub depth: Depth,
    /// Clicks and the wheel.
    pub mouse: bool,
    /// Nothing may be started, ended or changed.
    pub read_only: bool,
    /// A person gave the master its name, which is shown in place of its host's.
    pub is_named: bool,
    /// How another client of this program is told of the same master: its `--master`.
    pub master_argument: String,
    /// The bell rings when a job of one's own ends that took long.
    pub bell: bool,
    /// Reads the options line.
    pub read_options: ReadOptions,
    /// Where this program's log goes while it owns the terminal.
    pub log: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            confirm_over: 10,
            destructive: Vec::new(),
            ascii: false,
            depth: Depth::default(),
            mouse: false,
            read_only: false,
            is_named: false,
            master_argument: "local".to_owned(),
            bell: true,
            read_options: |_| Ok(JobOptions::default()),
            log: String::new(),
        }
    }
}
