//! Runs on the screen: opening one, going to another, and loading what it was into the command line.

use super::{
    super::{
        model::{Focus, Model, may::has_failed, run::RunScreen},
        msg::Cmd,
    },
    act,
};
use crate::domain::{
    command::quoted,
    name::AgentName,
    outcome::Outcome,
    run::Run,
    target::{Target, fold::fold},
};

/// A pane begins so many bytes before the end.
const TAIL: u64 = 128 * 1024;

/// Where a pane begins that shows the end of an output.
pub(super) fn tail_of(end: u64) -> u64 {
    if end > 2 * TAIL { end - TAIL } else { 0 }
}

/// Puts a run on the screen, by its number.
pub(super) fn open_run(model: &mut Model, number: u64, cmds: &mut Vec<Cmd>) {
    if let Some(run) = model.runs.get(&number) {
        show(model, run.clone());
    } else {
        model.wanted_run = Some(number);
        cmds.push(Cmd::FindRun(number));
    }
}

/// Puts a run on the screen, and gives it the keys.
pub(super) fn show(model: &mut Model, run: Run) {
    if model.open.as_ref().is_none_or(|open| open.run.id != run.id) {
        let view = model.open.as_ref().map(|open| open.view).unwrap_or_default();
        model.open = Some(RunScreen { view, ..RunScreen::new(run) });
    }
    act::focus(model, Focus::Run);
}

/// Goes to the previous, or next, run there is.
pub(super) fn other_run(model: &mut Model, next: bool) {
    let open = model.open.as_ref().map(|open| open.run.number);
    let found = match (open, next) {
        (Some(number), true) => model.runs.range(number + 1..).next(),
        (Some(number), false) => model.runs.range(..number).next_back(),
        (None, _) => model.runs.iter().next_back(),
    };
    match found.map(|(_, run)| run.clone()) {
        Some(run) => {
            let focus = model.focus;
            show(model, run);
            if focus == Focus::Fleet {
                model.focus = Focus::Fleet;
            }
        }
        None => {
            model.say(if next { "this is the newest run" } else { "this is the oldest run that is loaded" });
        }
    }
}

/// Loads a run's command and agents into the command line; only those that failed, if that is wanted.
pub(super) fn load(model: &mut Model, failed: bool) {
    let now_ms = model.now.unix_ms;
    let from_history = model.history_cursor().cloned();
    let (command, target, names) = if let Some(run) = from_history {
        if run.command_left_out > 0 {
            return model.complain(format!(
                "its command is too long for the list; open run {} and load it there",
                run.number
            ));
        }
        (run.command.shown(), run.target.clone(), None)
    } else if let Some(open) = &model.open {
        let wanted = open.run.tasks.iter().filter(|task| !failed || has_failed(&task.state));
        let names: Vec<AgentName> = wanted.map(|task| task.agent.clone()).collect();
        (command_text(&open.run), open.run.target.clone(), Some(names))
    } else {
        return;
    };
    let target = target.parse::<Target>().ok();
    let names = match (names, &target) {
        (Some(names), _) => names,
        (None, Some(target)) => model.fleet.evaluate(target).agents.into_iter().collect(),
        (None, None) => Vec::new(),
    };
    let wanted = names.len();
    if !names.iter().any(|name| model.fleet.agent(name).is_some()) {
        // With nothing picked the line would mean the agent that happens to be under the cursor.
        return model.complain("none of its agents is here; nothing was loaded".to_owned());
    }
    model.fleet.pick_only(names, target.filter(|_| !failed), now_ms);
    let picked = model.fleet.picks.agents.len();
    if picked < wanted {
        model.complain(format!("{} of them are no longer here", wanted - picked));
    }
    model.command.replace(&command);
    act::enter_command(model);
}

/// A command as it is typed: one word is shell text, several are quoted.
fn command_text(run: &Run) -> String {
    match run.command.words() {
        [text] => String::from_utf8_lossy(&text.0).into_owned(),
        words => words.iter().map(|word| quoted(&word.0)).collect::<Vec<_>>().join(" "),
    }
}

/// A report of a run: how to repeat it, when it was, and who printed the same.
#[must_use]
pub(super) fn report(open: &RunScreen, zone_s: i32, now_ms: u64) -> String {
    use std::fmt::Write as _;
    let run = &open.run;
    let moment = |ms: u64| super::super::format::iso_time(ms, zone_s);
    let mut text = format!(
        "run {}  {}  by {}\n  sloth-runner agent run {} {}\n  {} to {}\n",
        run.number,
        run.id,
        run.operator,
        quoted(run.target.as_bytes()),
        quoted(command_text(run).as_bytes()),
        moment(run.created_ms),
        run.ended_ms.map_or_else(|| format!("(runs; {})", moment(now_ms)), moment),
    );
    if open.masks.any() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  compared without {}", open.masks);
    }
    for row in open.rows.all() {
        let names = fold(row.tasks.iter().filter_map(|task| open.agent(*task)).map(AgentName::as_str));
        let glyph = row.outcome.as_ref().map_or('▸', Outcome::glyph);
        let _ = writeln!(text, "{glyph} {:>4}  {names}  {}  {}", row.tasks.len(), row.state, row.text);
    }
    text
}
