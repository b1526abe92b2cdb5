//! `agent run`, and how jobs are printed.

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

const JOB_STATUSES: &str = "Flags stop at the command's first word: everything behind that is the command's.
One word is a shell command, several words arrive as the same words. One plain
name prints the command's bytes; any other target prints whole lines with
agents' names. When the reader of the output goes, as in `| head`, a command on
one agent is cancelled, and commands on several go on.

Exit status: for one agent the command's own, 128+n for signal n. For several
the largest; but
  130  interrupted
  125  a task has no true status: lost, undeliverable, refused, skipped,
       cancelled by somebody, or given up waiting; also when an agent that was
       named is left out, when the output could not be written, and when the job
       waits at a gate and no person is there to promote it
  124  a task timed out
    2  the command line makes no sense";

/// How a job's output is printed.
#[derive(Clone, Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags are what they are")]
pub struct PrintArgs {
    /// Show who printed the same, live, and each output once
    #[arg(short = 'b', long)]
    pub group: bool,
    /// Show the largest group's output, and how each other one differs from it
    #[arg(long)]
    pub diff: bool,
    /// What may differ without meaning anything, where output is compared: names, times, numbers
    #[arg(long, value_name = "KINDS", default_value = "")]
    pub mask: Masks,
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Colour,
    /// Print no names before lines
    #[arg(short = 'N', long)]
    pub no_prefix: bool,
    /// Print nothing but the command's output, and why a status is missing
    #[arg(short, long)]
    pub quiet: bool,
    /// Print output on a terminal as it is, control sequences too
    #[arg(long)]
    pub raw: bool,
    /// How to print the job
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

impl PrintArgs {
    /// Whether tasks are shown by what they printed.
    #[must_use]
    pub fn is_grouped(&self) -> bool {
        self.group || self.diff
    }
}

/// Whom a command is for.
#[derive(Clone, Debug, Default, Args)]
pub struct WhomArgs {
    /// Only agents whose labels pass this, as in kubectl: role=web,env!=test or 'dc in (ams,fra)'
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<Selector>,
    /// None of these agents
    #[arg(short = 'x', long, value_name = "TARGET")]
    pub exclude: Option<String>,
    /// Only a sample of them: so many, or so many per cent
    #[arg(long, value_name = "N|P%")]
    pub limit: Option<Share>,
    /// Which sample; the same seed gives the same agents
    #[arg(long, value_name = "S", default_value_t = 0, requires = "limit")]
    pub seed: u64,
}

impl WhomArgs {
    /// The selection, of the agents that `target` means.
    ///
    /// # Errors
    /// Where an expression makes no sense.
    pub fn selection(&self, target: &str) -> Result<Selection, InvalidTarget> {
        Ok(Selection {
            target: target.parse()?,
            selector: self.selector.clone(),
            exclude: self.exclude.as_deref().map(str::parse).transpose()?,
            sample: self.limit.map(|limit| Sample { limit, seed: self.seed }),
        })
    }
}

/// How a job goes over its agents.
#[derive(Clone, Debug, Default, Args)]
pub struct PlanArgs {
    /// Most agents at once [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub fanout: Option<u32>,
    /// Begin with so many agents; a failure there makes the job wait, unless --stop-if says otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub canary: Option<u32>,
    /// So many agents at a time, each batch after the one before it has ended
    #[arg(long, value_name = "N|P%", value_parser = some_share)]
    pub batch: Option<Share>,
    /// More failures than this end the job; what was not started is skipped
    #[arg(long, value_name = "N|P%")]
    pub max_failures: Option<Share>,
    /// Wait so long between two batches
    #[arg(long, value_name = "TIME")]
    pub pause: Option<Span>,
    /// Wait for `job promote` or `job stop` when this is so: 'fail>0', or 'differs' from what the canary printed
    #[arg(long, value_name = "CONDITION")]
    pub stop_if: Vec<StopIf>,
}

/// A share that is not nothing.
fn some_share(text: &str) -> Result<Share, String> {
    match text.parse().map_err(|error: InvalidShare| error.to_string())? {
        Share::Count(0) | Share::Percent(0) => Err("a batch of none would never end the job".to_owned()),
        share => Ok(share),
    }
}

impl PlanArgs {
    /// The plan.
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
    /// Which master.
    #[command(flatten)]
    pub to: ToMaster,
    /// Which of them.
    #[command(flatten)]
    pub whom: WhomArgs,
    /// How it goes over them.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Take targets by state or link even just after a master's start, when agents are not back yet
    #[arg(long)]
    pub now: bool,
    /// How long each task may run; 0 for no limit
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// How long a command that is killed may clean up: the time between TERM and KILL, 0 for none [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<Span>,
    /// How long to wait for an agent that is offline; 0 for no limit [default: until it was silent for a minute]
    #[arg(long, value_name = "TIME")]
    pub start_within: Option<Span>,
    /// How long to wait for a task that has lost contact; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub give_up: Span,
    /// Print the job's number and do not wait
    #[arg(short, long)]
    pub detach: bool,
    /// Give the command what comes on standard input; on one plain name
    #[arg(short = 'i', long, conflicts_with_all = ["detach", "tty"])]
    pub stdin: bool,
    /// Run it in a terminal: keys go there, what it draws comes back; on one plain name
    #[arg(short = 't', long, conflicts_with_all = ["detach", "group", "diff", "output", "outdir"])]
    pub tty: bool,
    /// Keep at most so much of each task's output: its beginning and its end [default and most: the master's limit]
    #[arg(long, value_name = "SIZE")]
    pub output_cap: Option<Size>,
    /// Write what each task prints into DIRECTORY/NAME.log, and the names of those that did not exit 0 into failed
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["detach", "group", "diff"])]
    pub outdir: Option<PathBuf>,
    /// Add a variable to the command's environment; without a value it is the one set here. May be given several times
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub environment: Vec<OsString>,
    /// Directory to run in; the user's home by default
    #[arg(long, value_name = "DIRECTORY")]
    pub cwd: Option<OsString>,
    /// How output is printed.
    #[command(flatten)]
    pub print: PrintArgs,
    /// Whom: names, web[01-20], globs, @role:web, @all, @state:active, joined by , ! & ^
    #[arg(value_name = "TARGET", add = completing::target())]
    pub agents: String,
    /// What to run there
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}
