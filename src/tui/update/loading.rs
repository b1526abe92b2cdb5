//! Opens jobs on the screen, switches between them, and loads their commands into the command line.

use chrono::FixedOffset;

use super::{
    super::{
        model::{Focus, Loadable, Model, job::JobScreen, may::has_failed},
        msg::Cmd,
    },
    focusing,
};
use crate::domain::{
    command::quoted,
    job::Job,
    name::AgentName,
    offset::OutputOffset,
    outcome::Outcome,
    sign::Sign,
    target::{Target, fold::fold},
    time::{UnixMs, iso_time},
};

/// The number of bytes before the end of the output at which a pane begins.
const TAIL_BYTES: u64 = 128 * 1024;

/// Returns the offset at which a pane begins that shows the end of an output.
pub(super) fn tail_offset(end: OutputOffset) -> OutputOffset {
    if end > OutputOffset(2 * TAIL_BYTES) { end - TAIL_BYTES } else { OutputOffset::START }
}

/// Opens a job by its number. Looks it up first if it is not known.
pub(super) fn open_job(model: &mut Model, number: u64, cmds: &mut Vec<Cmd>) {
    if let Some(job) = model.jobs.get(&number) {
        show(model, job.clone());
    } else {
        model.wanted_job = Some(number);
        cmds.push(Cmd::FindJob(number));
    }
}

/// Opens a job, and moves the focus to it.
pub(super) fn show(model: &mut Model, job: Job) {
    if model.open.as_ref().is_none_or(|open| open.job.id != job.id) {
        let view = model.open.as_ref().map(|open| open.view).unwrap_or_default();
        model.open = Some(JobScreen { view, ..JobScreen::new(job) });
    }
    focusing::focus(model, Focus::Job);
}

/// Opens the previous or next job.
pub(super) fn other_job(model: &mut Model, next: bool) {
    let open = model.open.as_ref().map(|open| open.job.number);
    let found = match (open, next) {
        (Some(number), true) => model.jobs.range(number + 1..).next(),
        (Some(number), false) => model.jobs.range(..number).next_back(),
        (None, _) => model.jobs.iter().next_back(),
    };
    match found.map(|(_, job)| job.clone()) {
        Some(job) => {
            let focus = model.focus;
            show(model, job);
            if focus == Focus::Fleet {
                model.focus = Focus::Fleet;
            }
        }
        None => {
            model.say(if next { "this is the newest job" } else { "this is the oldest job that is loaded" });
        }
    }
}

/// Returns the command and the agents of the job under the cursor or of the open one; with `failed`, only the agents
/// whose tasks failed. Says why if there is nothing to load.
pub(super) fn find(model: &mut Model, failed: bool) -> Option<Loadable> {
    let from_history = model.history_cursor().cloned();
    let (command, target, names) = if let Some(job) = from_history {
        if job.command_left_out > 0 {
            model.complain(format!(
                "its command is too long for the list; open job {} and load it there",
                job.number
            ));
            return None;
        }
        (job.command.shown(), job.target.clone(), None)
    } else {
        let open = model.open.as_ref()?;
        let wanted = open.job.tasks.iter().filter(|task| !failed || has_failed(&task.state));
        let names: Vec<AgentName> = wanted.map(|task| task.agent.clone()).collect();
        (command_text(&open.job), open.job.target.clone(), Some(names))
    };
    let target = target.parse::<Target>().ok();
    let names = match (names, &target) {
        (Some(names), _) => names,
        (None, Some(target)) => model.fleet.evaluate(target).agents.into_iter().collect(),
        (None, None) => Vec::new(),
    };
    if !names.iter().any(|name| model.fleet.agent(name).is_some()) {
        // Without picks, the command would run on whichever agent is under the cursor.
        model.complain("none of its agents is in the fleet; nothing was loaded".to_owned());
        return None;
    }
    Some(Loadable { command, target: target.filter(|_| !failed), names })
}

/// Loads a command into the command line, and picks its agents.
pub(super) fn load(model: &mut Model, found: Loadable) {
    let wanted = found.names.len();
    model.fleet.pick_only(found.names, found.target, model.now.unix_ms);
    let picked = model.fleet.picks.agents.len();
    if picked < wanted {
        model.complain(format!("{} of its agents are no longer in the fleet", wanted - picked));
    }
    model.command.replace(&found.command);
    focusing::enter_command(model);
}

/// Returns a command as it is typed: a single word is shell text, several words are quoted.
fn command_text(job: &Job) -> String {
    match job.command.words() {
        [text] => String::from_utf8_lossy(&text.0).into_owned(),
        words => words.iter().map(|word| quoted(&word.0)).collect::<Vec<_>>().join(" "),
    }
}

/// Returns a report of a job: how to repeat it, when it ran, and which agents printed the same.
#[must_use]
pub(super) fn report(open: &JobScreen, zone: FixedOffset, now_ms: UnixMs) -> String {
    use std::fmt::Write as _;
    let job = &open.job;
    let moment = |at: UnixMs| iso_time(at, &zone);
    let mut text = format!(
        "job {}  {}  by {}\n  sloth-runner agent job {} {}\n  {} to {}\n",
        job.number,
        job.id,
        job.operator,
        quoted(job.target.as_bytes()),
        quoted(command_text(job).as_bytes()),
        moment(job.created_ms),
        job.ended_ms.map_or_else(|| format!("(runs; {})", moment(now_ms)), moment),
    );
    if open.masks.any() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  compared without {}", open.masks);
    }
    for row in open.rows.all() {
        let names = fold(row.tasks.iter().filter_map(|task| open.agent(*task)).map(AgentName::as_str));
        let sign = row.outcome.as_ref().map_or(Sign::RUNNING, Outcome::sign);
        let _ = writeln!(text, "{sign} {:>4}  {names}  {}  {}", row.tasks.len(), row.state, row.text);
    }
    text
}
