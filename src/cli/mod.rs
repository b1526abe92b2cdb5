//! The command line: parses, calls, prints, and says how it went. The top of the house.

pub mod args;
pub mod commands;
mod completing;
mod config;
pub mod exit;
pub mod masters;
pub mod output;
pub mod region;
mod sanitize;
pub mod units;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _};

use self::{args::Cli, config::Settings, exit::Failure};
use crate::sys::process::show_name;

/// Runs a command line to its end and returns the process's status.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    show_name();
    // Asked by a shell for what could be typed, this answers and ends.
    clap_complete::CompleteEnv::with_factory(Cli::command).var(commands::neighbours::VARIABLE).complete();
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(Failure { message, status }) => {
            output::complain(&message);
            return status.into();
        }
    };
    let matches = settings.apply(Cli::command()).try_get_matches_from(arguments);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to standard output; the rest is usage.
            let status = if error.use_stderr() { exit::USAGE } else { exit::OK };
            let _ = error.print();
            return status.into();
        }
    };
    match commands::perform(cli) {
        Ok(status) => status.into(),
        Err(Failure { message, status }) => {
            if !message.is_empty() {
                output::complain(&message);
            }
            status.into()
        }
    }
}
