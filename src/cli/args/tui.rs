//! Arguments of `tui`, and the options of its command line.

use std::path::PathBuf;

use clap::{Args, Parser};

use super::{Size, Span, ToMaster, run::PlanArgs};
use crate::domain::{
    groups::mask::Masks,
    job::{JobOptions, Overflow},
};

/// `tui`
#[derive(Clone, Debug, Default, Args)]
pub struct TuiArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Read only: start, cancel and change nothing
    #[arg(long)]
    pub read_only: bool,
    /// Use the mouse; hold Shift to select text in the terminal
    #[arg(long)]
    pub mouse: bool,
    /// Use only ASCII characters
    #[arg(long)]
    pub ascii: bool,
    /// Directory for the command history, unfinished lines and the log; the user's own directories by default
    #[arg(long, value_name = "DIRECTORY", env = "SLOTH_RUNNER_TUI_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Open this job: its number, or `last`
    #[arg(value_name = "JOB", value_parser = job_number)]
    pub job: Option<u64>,
}

fn job_number(text: &str) -> Result<u64, String> {
    match text {
        // Job numbers begin at 1, so 0 can stand for the last job.
        "last" => Ok(0),
        number => number
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| "write a job's number, or last".to_owned()),
    }
}

/// Options in the control center's command line, named as in `agent run`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct LineOptions {
    #[command(flatten)]
    plan: PlanArgs,
    /// Resolve targets by state or link immediately after a master's start
    #[arg(long)]
    now: bool,
    /// Maximum run time of the command on each agent; 0 for no limit
    #[arg(long)]
    timeout: Option<Span>,
    /// Time between TERM and KILL when a command is ended
    #[arg(long)]
    grace: Option<Span>,
    /// How long to wait for an agent that is offline; 0 for no limit
    #[arg(long)]
    start_within: Option<Span>,
    /// Maximum output to store for each agent
    #[arg(long)]
    output_cap: Option<Size>,
    /// Ignore these when output is compared
    #[arg(long, default_value = "")]
    mask: Masks,
}

/// Parses options as typed: `--batch 10 --timeout 30s`.
///
/// # Errors
/// Returns what is wrong with them, in one line.
pub(crate) fn read_options(line: &str) -> Result<JobOptions, String> {
    let words = shlex::split(line).ok_or_else(|| "a quote is not closed".to_owned())?;
    let options = LineOptions::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("error: ").unwrap_or(first).to_owned()
    })?;
    Ok(JobOptions {
        timeout_ms: options.timeout.and_then(Span::limit_ms),
        kill_grace_ms: options.grace.map(Span::ms_u32),
        start_within_ms: options.start_within.map(Span::ms_or_unlimited),
        now: options.now,
        overflow: Overflow::Gap,
        output_cap: options.output_cap.map(|size| size.0),
        plan: options.plan.plan(options.mask),
        ..JobOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_words_of_the_command_line() {
        let options = read_options("--batch 10 --timeout 30s --stop-if 'fail>0'").unwrap();
        assert_eq!(options.timeout_ms, Some(30_000));
        assert!(options.plan.batch.is_some() && options.plan.stop_if.failures);
        assert_eq!(read_options("").unwrap().timeout_ms, None);
        let options = read_options("--timeout 0 --grace 1min --start-within 0").unwrap();
        assert_eq!((options.timeout_ms, options.kill_grace_ms), (None, Some(60_000)));
        assert!(options.start_within_ms > Some(u64::from(u32::MAX)));
        assert!(read_options("--batch").is_err());
        assert!(read_options("--what").unwrap_err().contains("--what"));
    }
}
