//! Arguments of `agent run`, and how output is printed.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use super::{Colour, Format, Size, Span, ToMaster};
use crate::cli::completing;
use crate::domain::{
    groups::mask::Masks,
    plan::{Plan, StopIf},
    share::{InvalidShare, Share},
    target::{
        InvalidTarget,
        selection::{Sample, Selection},
        selector::Selector,
    },
};

const JOB_STATUSES: &str =
    "Options end at the first word of the command. A single word is run as a shell command;
several words are passed on as they are. If the target is a single agent name,
the command's output is printed unchanged; for any other target whole lines are
printed, with the agent's name in front. When the reader of the output goes away,
as in `| head`, a command on one agent is cancelled; commands on several agents
continue.

Exit status: for one agent the command's own, or 128+n for signal n; for several
agents the largest. Except:
  130  interrupted
  125  a task has no known exit status: lost, undeliverable, refused, skipped,
       cancelled, or given up waiting; also if an agent that the target names is
       left out, if the output cannot be written, and if the job waits for
       `job promote` without a terminal
  124  a task timed out
    2  invalid usage";

/// How a job's output is printed.
#[derive(Clone, Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags are what they are")]
pub struct PrintArgs {
    /// Group agents by identical output and print each output once
    #[arg(short = 'b', long)]
    pub group: bool,
    /// Print the output of the largest group, and a diff of every other output against it
    #[arg(long)]
    pub diff: bool,
    /// Ignore these when output is compared: names, times, numbers
    #[arg(long, value_name = "KINDS", default_value = "")]
    pub mask: Masks,
    /// When to use colours
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Colour,
    /// Print lines without the agent's name in front
    #[arg(short = 'N', long)]
    pub no_prefix: bool,
    /// Print only the command's output and errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Print control sequences to a terminal unchanged
    #[arg(long)]
    pub raw: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

impl PrintArgs {
    /// Whether tasks are grouped by their output.
    #[must_use]
    pub fn is_grouped(&self) -> bool {
        self.group || self.diff
    }
}

/// Filters on the agents of a target.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArgs {
    /// Run only on agents whose labels match this selector: role=web,env!=test or 'dc in (ams,fra)'
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<Selector>,
    /// Exclude these agents
    #[arg(short = 'x', long, value_name = "TARGET")]
    pub exclude: Option<String>,
    /// Run on a random sample: a number of agents, or a percentage
    #[arg(long, value_name = "N|P%")]
    pub limit: Option<Share>,
    /// Seed of the sample; the same seed selects the same agents
    #[arg(long, value_name = "S", default_value_t = 0, requires = "limit")]
    pub seed: u64,
}

impl TargetArgs {
    /// Returns the selection: the agents of `target`, with these filters.
    ///
    /// # Errors
    /// If an expression is invalid.
    pub fn selection(&self, target: &str) -> Result<Selection, InvalidTarget> {
        Ok(Selection {
            target: target.parse()?,
            selector: self.selector.clone(),
            exclude: self.exclude.as_deref().map(str::parse).transpose()?,
            sample: self.limit.map(|limit| Sample { limit, seed: self.seed }),
        })
    }
}

/// How a job is spread over its agents.
#[derive(Clone, Debug, Default, Args)]
pub struct PlanArgs {
    /// Maximum number of agents at once [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub fanout: Option<u32>,
    /// Start with this number of agents; if one fails, the job waits (see --stop-if)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub canary: Option<u32>,
    /// Run in batches of this size, one after the other
    #[arg(long, value_name = "N|P%", value_parser = nonzero_share)]
    pub batch: Option<Share>,
    /// Stop the job after more failures than this, and skip the remaining agents
    #[arg(long, value_name = "N|P%")]
    pub max_failures: Option<Share>,
    /// Time to wait between batches
    #[arg(long, value_name = "TIME")]
    pub pause: Option<Span>,
    /// Wait for `job promote` or `job stop` on this condition: 'fail>0', or 'differs' if output differs from the canary's
    #[arg(long, value_name = "CONDITION")]
    pub stop_if: Vec<StopIf>,
}

/// Parses a share that must not be zero.
fn nonzero_share(text: &str) -> Result<Share, String> {
    match text.parse().map_err(|error: InvalidShare| error.to_string())? {
        Share::Count(0) | Share::Percent(0) => Err("a batch needs at least one agent".to_owned()),
        share => Ok(share),
    }
}

impl PlanArgs {
    /// Returns the plan of the job.
    #[must_use]
    pub fn plan(&self, masks: Masks) -> Plan {
        let asked = self.stop_if.iter().fold(StopIf::default(), |all, one| all | *one);
        let default = StopIf { failures: self.canary.is_some(), differs: false };
        Plan {
            fanout: self.fanout,
            canary: self.canary,
            batch: self.batch,
            max_failures: self.max_failures,
            pause_ms: self.pause.and_then(Span::limit_ms),
            stop_if: if self.stop_if.is_empty() { default } else { asked },
            masks,
        }
    }
}

/// `agent run`
#[derive(Debug, Args)]
#[command(after_help = JOB_STATUSES)]
#[expect(clippy::struct_excessive_bools, reason = "flags are what they are")]
pub struct RunArgs {
    /// The master to connect to.
    #[command(flatten)]
    pub to: ToMaster,
    /// Filters on the target agents.
    #[command(flatten)]
    pub recipients: TargetArgs,
    /// How the job is spread over its agents.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Resolve targets by state or link immediately, even if agents have not reconnected since the master started
    #[arg(long)]
    pub now: bool,
    /// Maximum run time of the command on each agent; 0 for no limit
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// Time between TERM and KILL when a command is ended; 0 kills it immediately [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<Span>,
    /// How long to wait for an agent that is offline; 0 for no limit [default: one minute after its last contact]
    #[arg(long, value_name = "TIME")]
    pub start_within: Option<Span>,
    /// How long to wait for a task that has lost contact; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// Print the job's number and return immediately
    #[arg(short, long)]
    pub detach: bool,
    /// Send standard input to the command; needs a single agent name as target
    #[arg(short = 'i', long, conflicts_with_all = ["detach", "tty"])]
    pub stdin: bool,
    /// Run the command in a terminal; needs a single agent name as target
    #[arg(short = 't', long, conflicts_with_all = ["detach", "group", "diff", "output", "outdir"])]
    pub tty: bool,
    /// Maximum output to store for each agent; of more, the beginning and the end are kept [default and maximum: the master's limit]
    #[arg(long, value_name = "SIZE")]
    pub output_cap: Option<Size>,
    /// Write each agent's output to DIRECTORY/NAME.log, and the names of agents that failed to DIRECTORY/failed
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["detach", "group", "diff"])]
    pub outdir: Option<PathBuf>,
    /// Set a variable in the command's environment; without a value, use the local one. Can be repeated
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub environment: Vec<OsString>,
    /// Working directory of the command; the user's home by default
    #[arg(long, value_name = "DIRECTORY")]
    pub cwd: Option<OsString>,
    /// Output options.
    #[command(flatten)]
    pub print: PrintArgs,
    /// Target agents: names, web[01-20], globs, @role:web, @all, @state:active, combined with , ! & ^
    #[arg(value_name = "TARGET", add = completing::target())]
    pub agents: String,
    /// The command to run
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}
