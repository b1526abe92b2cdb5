//! Actions that a single key asks for, and that ask before they do anything: a letter may have been typed in the wrong place.

use super::{
    super::model::{Asked, Confirmation, Model, Overlay, fleet::RowKey},
    loading, questions, starting,
};
use crate::{
    domain::{
        name::AgentName,
        plan::GateState,
        text::{clipped, form, plural},
    },
    tui::model::job::JobScreen,
};

/// The maximum width of a command in a question.
const MAX_COMMAND_WIDTH: usize = 40;

/// Names an agent, or counts several.
fn on(names: &[AgentName]) -> String {
    match names {
        [name] => name.to_string(),
        names => format!("{} agents", names.len()),
    }
}

/// Asks before all rows that the filter shows are picked, or before their picks are inverted.
pub(super) fn pick_shown(model: &mut Model, inverts: bool) {
    let rows: Vec<RowKey> = model.fleet.shown().iter().filter(|row| row.waiting.is_none()).cloned().collect();
    let picks: Vec<(RowKey, bool)> =
        rows.into_iter().map(|row| (row.clone(), !inverts || !model.fleet.is_picked(&row))).collect();
    let count = picks.iter().filter(|(_, is_picked)| *is_picked).count();
    let (agents, are) = (plural("agent", count), form(count, "is", "are"));
    let text = if inverts {
        format!("Invert the picks? {count} {agents} of the shown ones {are} picked then.")
    } else {
        format!("Pick all that is shown? {count} {agents} {are} picked then.")
    };
    questions::ask(model, text, Confirmation::Yes, Asked::Pick(picks));
}

/// Asks before tasks of the open job are cancelled.
pub(super) fn cancel(model: &mut Model, whole: bool) {
    let Some(open) = &model.open else { return };
    let tasks =
        if whole { open.job.tasks.iter().map(|task| task.index).collect() } else { open.current_tasks() };
    let is_open = |task: &u32| open.job.task(*task).is_some_and(|task| task.state.outcome().is_none());
    let tasks: Vec<u32> = tasks.into_iter().filter(is_open).collect();
    let names: Vec<AgentName> = tasks.iter().filter_map(|task| open.agent(*task).cloned()).collect();
    let (id, number, count) = (open.job.id, open.job.number, tasks.len());
    let indices = if whole { Vec::new() } else { tasks };
    if !model.is_up() {
        return model.complain(format!("{}. Nothing was sent", starting::no_answer(model)));
    }
    let text = if whole {
        format!("Cancel job {number}? It still has {count} open {}.", plural("task", count))
    } else if let [name] = names.as_slice() {
        format!("Cancel the task of job {number} on {name}?")
    } else {
        format!("Cancel {count} tasks of job {number}?")
    };
    let expects = questions::by_count(model, count);
    questions::ask(model, text, expects, Asked::Cancel(id, indices));
}

/// Returns the number of tasks that wait at the gate of a job.
fn waiting(open: &JobScreen) -> usize {
    open.job.tasks.iter().filter(|task| task.state.outcome().is_none()).count()
}

/// Asks before the open job is promoted, or before it is stopped.
pub(super) fn leave_gate(model: &mut Model, promotes: bool) {
    let Some(open) = model.open.as_ref().filter(|open| matches!(open.job.gate.state, GateState::Held(_)))
    else {
        return;
    };
    let (id, number, count) = (open.job.id, open.job.number, waiting(open));
    let agents = plural("agent", count);
    if promotes {
        let text = format!("Promote job {number}? It continues on up to {count} more {agents}.");
        let expects = questions::by_count(model, count);
        questions::ask(model, text, expects, Asked::Promote(id));
    } else {
        let text = format!("Stop job {number}? It does not start on the {count} other {agents}.");
        questions::ask(model, text, Confirmation::Yes, Asked::Stop(id));
    }
}

/// Asks before a shell on the agent under the cursor is opened.
pub(super) fn shell(model: &mut Model) {
    if let Some(agent) = model.shell_agent() {
        let text = format!("Open a shell on {agent}?");
        questions::ask(model, text, Confirmation::Yes, Asked::Shell(agent));
    }
}

/// Asks before outputs are saved into files.
pub(super) fn save(model: &mut Model) {
    let Some(open) = &model.open else { return };
    let tasks =
        if open.output.is_some() { open.current_task().into_iter().collect() } else { open.current_tasks() };
    let agents: Vec<AgentName> = tasks.iter().filter_map(|task| open.agent(*task).cloned()).collect();
    let (id, number) = (open.job.id, open.job.number);
    let text = format!(
        "Save the output of {} to {} here?",
        on(&agents),
        match agents.as_slice() {
            [agent] => format!("job-{number}-{agent}.log"),
            _ => format!("job-{number}-*.log"),
        }
    );
    questions::ask(model, text, Confirmation::Yes, Asked::Save(id, number, agents));
}

/// Asks before the output under the cursor is shown in the pager.
pub(super) fn pager(model: &mut Model) {
    let Some(open) = &model.open else { return };
    let Some(agent) = open.current_task().and_then(|task| open.agent(task).cloned()) else { return };
    let id = open.job.id;
    let text = format!("Open the output of {agent} in the pager?");
    questions::ask(model, text, Confirmation::Yes, Asked::Pager(id, agent));
}

/// Asks before the command and the agents of a job are loaded into the command line.
pub(super) fn load(model: &mut Model, failed: bool) {
    let Some(found) = loading::find(model, failed) else { return };
    let first = found.command.lines().next().unwrap_or_default();
    let command = clipped(first, MAX_COMMAND_WIDTH, "…");
    let (count, agents) = (found.names.len(), plural("agent", found.names.len()));
    let replaced = match model.fleet.picks.agents.len() {
        0 => "",
        _ => " The picks are replaced.",
    };
    let text = format!("Load `{command}` and its {count} {agents} into the command line?{replaced}");
    questions::ask(model, text, Confirmation::Yes, Asked::Load(Box::new(found)));
}

/// Closes a layer. Asks before the program ends.
pub(super) fn quit(model: &mut Model, own_active: usize) {
    let mut reasons = Vec::new();
    let picks = model.fleet.picks.agents.len();
    if picks > 0 {
        reasons.push(format!("{picks} {} picked", form(picks, "agent is", "agents are")));
    }
    // With --read-only the line of an earlier session is not on the screen. It is kept.
    if !model.command.is_blank() && !model.settings.read_only {
        reasons.push("the command line is not empty".to_owned());
    }
    if own_active > 0 {
        let (jobs, continues) = (plural("job", own_active), form(own_active, "continues", "continue"));
        reasons.push(format!("{own_active} {jobs} of yours {continues}"));
    }
    let text = if reasons.is_empty() { "Quit?".to_owned() } else { format!("Quit? {}.", reasons.join(", ")) };
    if !matches!(model.overlays.last(), Some(Overlay::Question(_))) {
        questions::ask(model, text, Confirmation::Yes, Asked::Quit);
    }
}
