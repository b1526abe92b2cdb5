//! `agent run`.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    sync::Arc,
};

use super::{
    following::{self, Begun, FollowOptions, OutDirectory, Purpose, StdinUse, find_again},
    on_one_thread,
};
use crate::{
    cli::{
        args::{
            Span,
            agent::ShellArgs,
            run::{PrintArgs, RunArgs},
        },
        exit::{self, Failure, Status},
        masters::resolve,
        output::{note, say, stdout_is_terminal},
    },
    domain::{
        command::{Bytes, Command, Variable, bounded},
        control::{JobEvent, StartJob},
        ids::JobId,
        input::{StandardInput, Terminal},
        job::{JobOptions, Overflow},
        offset::OutputOffset,
        target::{Target, selection::Selection},
    },
    sys::{arguments::given, clock::unix_ms, random, terminal},
    wire::{
        client::{ControlClient, JobEvents},
        status::CallError,
    },
};

fn options(args: &RunArgs) -> Result<JobOptions, Failure> {
    let variable = |text: &OsString| {
        let bytes = text.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=');
        let value = match at {
            Some(at) => bytes[at + 1..].to_vec(),
            None => env::var_os(text).map(OsString::into_vec).ok_or_else(|| {
                format!("{} is not set here: set it, or write --env NAME=VALUE", text.display())
            })?,
        };
        Variable::new(bytes[..at.unwrap_or(bytes.len())].to_vec(), value)
    };
    let environment: Result<_, String> = args.environment.iter().map(variable).collect();
    Ok(JobOptions {
        environment: environment.and_then(bounded).map_err(Failure::usage)?,
        forgotten: Vec::new(),
        working_directory: args.cwd.as_ref().map(|cwd| Bytes(cwd.as_bytes().to_vec())),
        timeout_ms: args.timeout.and_then(Span::limit_ms),
        start_within_ms: args.start_within.map(Span::ms_or_unlimited),
        kill_grace_ms: args.grace.map(Span::ms_u32),
        now: args.now,
        overflow: if args.detach || args.print.is_grouped() { Overflow::Gap } else { Overflow::Block },
        recovered: false,
        output_cap: args.output_cap.map(|size| size.0),
        plan: args.plan.plan(args.print.mask),
        input: match feeds(args) {
            StdinUse::Nothing => StandardInput::Nothing,
            StdinUse::Stream => StandardInput::Stream,
            StdinUse::Terminal => StandardInput::Terminal(own_terminal()?),
        },
        by_admin: false,
    })
}

fn feeds(args: &RunArgs) -> StdinUse {
    match (args.tty, args.stdin) {
        (true, _) => StdinUse::Terminal,
        (false, true) => StdinUse::Stream,
        (false, false) => StdinUse::Nothing,
    }
}

/// Returns the kind and size of this client's own terminal.
fn own_terminal() -> Result<Terminal, Failure> {
    if !io::stdin().is_terminal() || !stdout_is_terminal() {
        return Err(Failure::usage(
            "a remote terminal needs a terminal here; `agent run -i` gives a command standard input without one",
        ));
    }
    let (rows, columns) = terminal::size()?;
    Ok(Terminal { kind: std::env::var("TERM").unwrap_or_default().into(), rows, columns })
}

/// The command of `agent shell`: the user's own shell as a login shell, if it is executable; otherwise `sh`.
const LOGIN_SHELL: &str = r#"[ -x "$SHELL" ] && exec "$SHELL" -l; exec sh -l"#;

pub(super) fn shell(args: &ShellArgs) -> Result<Status, Failure> {
    let options = JobOptions {
        start_within_ms: args.start_within.map(Span::ms_or_unlimited),
        overflow: Overflow::Block,
        input: StandardInput::Terminal(own_terminal()?),
        ..JobOptions::default()
    };
    let command = Command::new(vec![LOGIN_SHELL.as_bytes().to_vec()]).map_err(Failure::usage)?;
    let target: Target = args.name.as_str().parse().map_err(Failure::usage)?;
    let following = FollowOptions {
        address: resolve(&args.to)?,
        print: PrintArgs::default(),
        give_up: args.give_up.limit(),
        from_offset: OutputOffset::START,
        agents: Vec::new(),
        follow: true,
        purpose: Purpose::Started,
        outdir: None,
        timestamps: false,
        only: None,
        feeds: StdinUse::Terminal,
    };
    start(following, false, Selection::from(target), command, options)
}

/// Starts a job, and follows it unless `detach`.
fn start(
    following: FollowOptions,
    detach: bool,
    selection: Selection,
    command: Command,
    options: JobOptions,
) -> Result<Status, Failure> {
    begin(following, detach, async |client, id, follow| {
        let (selection, command, options) = (selection.clone(), command.clone(), options.clone());
        client.start_job(StartJob { id, selection, command, options, shown: Vec::new(), follow }).await
    })
}

/// Rejects a command that begins with a dash, unless `--` precedes it. It was meant as an option, but would
/// be sent to every agent.
fn reject_flag_as_command(command: &[OsString]) -> Result<(), Failure> {
    let Some(first) = command.first().filter(|first| first.as_bytes().starts_with(b"-")) else {
        return Ok(());
    };
    let is_meant = given().windows(2).any(|pair| pair[0] == "--" && pair[1] == *first);
    if is_meant {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} is not an option of `sloth-runner run`; put -- before a command that begins with -: run TARGET -- {0}",
        first.display()
    )))
}

pub(super) fn run(args: RunArgs) -> Result<Status, Failure> {
    // Checked here too, so that a typing error is reported without a master.
    let selection = args.recipients.selection(&args.agents).map_err(Failure::usage)?;
    let options = options(&args)?;
    let feeds = feeds(&args);
    if feeds != StdinUse::Nothing && selection.plain_name().is_none() {
        return Err(Failure::usage(format!(
            "{selection} is not a single agent name: -i and -t are for one agent"
        )));
    }
    reject_flag_as_command(&args.command)?;
    let words = args.command.into_iter().map(std::ffi::OsString::into_vec).collect();
    let command = Command::new(words).map_err(Failure::usage)?;
    let following = FollowOptions {
        address: resolve(&args.to)?,
        print: args.print,
        give_up: args.give_up.limit(),
        from_offset: OutputOffset::START,
        agents: Vec::new(),
        follow: true,
        purpose: Purpose::Started,
        outdir: args.outdir.as_deref().map(OutDirectory::open).transpose()?.map(Arc::new),
        timestamps: false,
        only: None,
        feeds,
    };
    start(following, args.detach, selection, command, options)
}

/// Starts a job with a call, and follows it unless `detach`.
pub(super) fn begin(
    following: FollowOptions,
    detach: bool,
    call: impl AsyncFn(&ControlClient, JobId, bool) -> Result<JobEvents, CallError>,
) -> Result<Status, Failure> {
    let id = JobId::from_parts(unix_ms(), u128::from_le_bytes(random::bytes()));
    let no_status = |failure: Failure| match failure.status {
        exit::FAILED => failure.with(exit::NO_STATUS),
        _ => failure,
    };
    on_one_thread(async {
        let client = ControlClient::connect(&following.address).await?;
        let follows = !detach && !following.print.is_grouped();
        let ask = async |client: &ControlClient| Begun::of(call(client, id, follows).await?).await;
        let (client, begun) = match ask(&client).await {
            Err(error) if error.is_broken_connection() => {
                let say = |_: &str| {
                    note("~ the connection broke before the master answered; asking again for the same job");
                };
                match Box::pin(find_again(&following, say, ask)).await {
                    Ok(found) => found,
                    Err(status) => {
                        note(&format!(
                            "it is not known whether the job has started: sloth-runner job show {id}"
                        ));
                        return Ok(status);
                    }
                }
            }
            answer => (client, answer?),
        };
        if !detach {
            // Boxed, because the future is large.
            return Box::pin(following::follow(following, client, begun)).await;
        }
        match begun.first {
            Some(JobEvent::Job(job)) => {
                let said = say(&format!("{}\n", job.number));
                said.map_err(|error| following::without_status(error.into(), &job))?;
                for line in following::left_out(&job) {
                    note(&line);
                }
                note(&format!("job {0} ({id}) continues: sloth-runner job attach {0}", job.number));
                Ok(if job.missed().next().is_some() { exit::NO_STATUS } else { exit::OK })
            }
            Some(JobEvent::Refused(reason)) => Err(Failure::new(reason)),
            _ => Err(Failure::new("the master's answer does not begin with a job")),
        }
    })
    .map_err(no_status)
}
