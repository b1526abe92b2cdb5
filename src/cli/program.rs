//! Runs the program: parses its arguments and reports how it ended.

use std::{ffi::OsString, process::ExitCode};

use clap::{Args as _, CommandFactory as _, FromArgMatches as _};

use super::{
    args::{Cli, Command, run::RunArgs},
    commands,
    config::Settings,
    exit::{self, Failure},
    hints, output,
};
use crate::sys::process::{keep_freed_memory, show_name};

/// Runs a command line to its end and returns the process's status.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    show_name();
    keep_freed_memory();
    // If a shell requests completions, this call prints them and ends the process.
    clap_complete::CompleteEnv::with_factory(Cli::command)
        .var(commands::neighbours::COMPLETION_VARIABLE)
        .complete();
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(failure) => return end(Err(failure)),
    };
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse_run(&settings, &arguments).map_or_else(|| parse(&settings, &arguments), Ok) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to standard output; everything else is a usage error.
            if error.use_stderr() {
                match is_job(&arguments).then(|| hints::for_foreign_flag(&error)).flatten() {
                    Some(hint) => output::complain(&hint),
                    None => drop(error.print()),
                }
                return exit::USAGE.into();
            }
            return end(output::say_help(&error.render()).map(|()| exit::OK).map_err(Failure::from));
        }
    };
    end(commands::perform(cli))
}

/// Reports a failure, and returns the exit status.
fn end(result: Result<exit::Status, Failure>) -> ExitCode {
    match result {
        Ok(status) => status.into(),
        Err(Failure { message, status }) => {
            if !message.is_empty() {
                output::complain(&message);
            }
            status.into()
        }
    }
}

fn parse(settings: &Settings, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&settings.apply(Cli::command()).try_get_matches_from(arguments)?)
}

/// Returns the index of the word `run` or `exec`, if the command line runs a job.
fn run_word_index(arguments: &[OsString]) -> Option<usize> {
    let word = |at: usize| arguments.get(at)?.to_str();
    match (word(1)?, word(2)) {
        ("run" | "exec", _) => Some(1),
        ("agent", Some("run" | "exec")) => Some(2),
        _ => None,
    }
}

fn is_job(arguments: &[OsString]) -> bool {
    run_word_index(arguments).is_some()
}

/// Parses `agent run …` with its own flags only: building the tree of all commands takes a tenth of the time
/// of a short command. Returns `None` if the whole tree is needed: for other commands, for settings from
/// files, and for mistakes, because their messages refer to the tree.
fn parse_run(settings: &Settings, arguments: &[OsString]) -> Option<Cli> {
    let at = run_word_index(arguments)?;
    if !settings.is_empty() {
        return None;
    }
    let command = RunArgs::augment_args(clap::Command::new("run"));
    let matches = command.try_get_matches_from(&arguments[at..]).ok()?;
    Some(Cli { command: Command::Run(Box::new(RunArgs::from_arg_matches(&matches).ok()?)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_job_is_read_alike_by_its_own_flags_and_with_the_whole_tree() {
        let settings = Settings::default();
        for line in [
            "sloth-runner run a true",
            "sloth-runner exec a true",
            "sloth-runner agent run -b --timeout 5s @all ls -l --color",
            "sloth-runner agent exec -x b --fanout 3 a,b -- echo -n",
        ] {
            let line = words(line);
            let own = parse_run(&settings, &line).expect("a job");
            let whole = parse(&settings, &line).expect("a job");
            let (Command::Run(whole) | Command::Agent(crate::cli::args::agent::AgentCommand::Run(whole))) =
                whole.command
            else {
                panic!("{line:?} is no job");
            };
            assert_eq!(format!("{:?}", own.command), format!("{:?}", Command::Run(whole)));
        }
    }

    #[test]
    fn what_is_no_plain_job_is_left_to_the_whole_tree() {
        let settings = Settings::default();
        for line in [
            "sloth-runner",
            "sloth-runner agent",
            "sloth-runner agent list",
            "sloth-runner run --help",
            "sloth-runner run --version",
            "sloth-runner run --no-such-flag a true",
            "sloth-runner run",
        ] {
            assert!(parse_run(&settings, &words(line)).is_none(), "{line}");
        }
    }
}
