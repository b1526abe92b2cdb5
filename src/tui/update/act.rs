//! Performs the action of a key or of the palette.

use super::{
    super::{
        keymap::Action,
        model::{
            Asked, Focus, Model, Overlay, Prompt, PromptKind,
            job::{Output, View},
        },
        msg::Cmd,
    },
    editing, loading, looking, moving, picking, prompts, questions, starting,
};
use crate::domain::{
    agent::AgentState, groups::mask::Masks, name::AgentName, plan::GateState, target::fold::fold,
    text::plural,
};

/// Performs an action. The caller has checked that it is possible.
pub(super) fn perform(model: &mut Model, action: Action, cmds: &mut Vec<Cmd>) {
    use Action as A;
    match action {
        A::NextPane => next_pane(model, true),
        A::PreviousPane => next_pane(model, false),
        A::GoFleet => focus(model, Focus::Fleet),
        A::GoJob => focus(model, Focus::Job),
        A::GoCommand => enter_command(model),
        A::Shell => cmds.extend(model.shell_agent().map(Cmd::Shell)),
        A::Down
        | A::Up
        | A::First
        | A::Last
        | A::HalfDown
        | A::HalfUp
        | A::PageDown
        | A::PageUp
        | A::Left
        | A::Right => moving::go(model, action, cmds),
        A::ScrollUp => moving::scroll_job(model, false, cmds),
        A::ScrollDown => moving::scroll_job(model, true, cmds),
        A::Pick => picking::pick(model),
        A::PickRange => picking::range(model),
        A::PickShown => picking::shown(model),
        A::Unpick => picking::unpick(model),
        A::Invert => picking::invert(model),
        A::PickTarget => prompts::open(model, PromptKind::Target),
        A::Filter if matches!(model.overlays.last(), Some(Overlay::History { .. })) => {
            prompts::open(model, PromptKind::HistoryFilter);
        }
        A::Filter => prompts::open(model, PromptKind::Filter),
        A::Search => prompts::open(model, PromptKind::Search),
        A::SearchNext => moving::next_match(model, true, cmds),
        A::SearchPrevious => moving::next_match(model, false, cmds),
        A::Close => close(model),
        A::Quit => close_or_quit(model, cmds),
        A::Open => open(model, cmds),
        A::NextView => next_view(model),
        A::NextAttention => moving::attention(model, true),
        A::PreviousAttention => moving::attention(model, false),
        A::Zoom => model.is_zoomed = !model.is_zoomed,
        A::Sort => looking::sort(model),
        A::PreviousJob => loading::other_job(model, false),
        A::NextJob => loading::other_job(model, true),
        A::Follow => moving::follow(model),
        A::Wrap => model.look.wraps = !model.look.wraps,
        A::Times => model.look.has_times = !model.look.has_times,
        A::Streams => looking::streams(model),
        A::Masks => next_masks(model),
        A::Unfold => looking::unfold(model),
        A::CancelRow => cancel(model, false, cmds),
        A::CancelJob => cancel(model, true, cmds),
        A::LoadAgain => loading::load(model, false),
        A::LoadFailed => loading::load(model, true),
        A::Difference => looking::difference(model),
        A::Save => save(model, cmds),
        A::Pager => pager(model, cmds),
        A::CopyRow => copy(model, cmds),
        A::CopyReport => copy_report(model, cmds),
        A::Promote => cmds.extend(model.open.as_ref().map(|open| Cmd::Promote(open.job.id))),
        A::StopJob => cmds.extend(model.open.as_ref().map(|open| Cmd::Stop(open.job.id))),
        A::History => model.overlays.push(Overlay::History { cursor: 0, filter: String::new() }),
        A::Palette => prompts::open(model, PromptKind::Palette),
        A::Help => model.overlays.push(Overlay::Help(0)),
        A::Redraw => cmds.push(Cmd::Redraw),
        A::Suspend => cmds.push(Cmd::Suspend),
        A::Interrupt => interrupt(model),
        A::Approve | A::Reject => ask_about_key(model, action == A::Approve),
        A::Execute => starting::execute(model, cmds),
        A::NewLine => model.command.text.insert_newline(),
        A::Complete => editing::complete(model),
        A::Past => prompts::open(model, PromptKind::Past),
        A::Options => prompts::open(model, PromptKind::Options),
        A::Editor => cmds.push(Cmd::Edit(model.command.value())),
        A::Prefix => model.command.has_prefix = true,
        A::ClearOrLeave if !model.command.value().is_empty() => model.command.clear(),
        A::DeleteOrLeave if !model.command.value().is_empty() => {
            model.command.text.delete_next_char();
        }
        A::ClearOrLeave | A::DeleteOrLeave | A::Leave => leave_command(model),
        A::Older | A::Newer => browse(model, action == A::Older),
        A::Undo => undo(model),
        A::Accept => prompts::accept(model, cmds),
        A::Abandon => prompts::abandon(model),
        A::ChoiceDown => prompts::choose(model, 1),
        A::ChoiceUp => prompts::choose(model, -1),
        A::AddAgent => cmds.push(Cmd::MakeJoinLine),
        A::Label => prompts::open(model, PromptKind::Label),
        A::DrainAgents => prompts::open(model, PromptKind::DrainReason),
        A::ResumeAgents => cmds.push(Cmd::DrainAgents(shown(model), None)),
        A::StopAgents => ask_about_agents(model, true),
        A::DeleteAgents => ask_about_agents(model, false),
        A::ShowLog => {
            let master = &model.status.version;
            model.say(format!("this program's log: {}; the master is version {master}", model.settings.log));
        }
    }
}

/// Copies a report of the open job.
fn copy_report(model: &Model, cmds: &mut Vec<Cmd>) {
    if let Some(open) = &model.open {
        let text = loading::report(open, model.now.zone, model.now.unix_ms);
        cmds.push(Cmd::Copy(text, format!("a report of job {}", open.job.number)));
    }
}

/// Shows the keys that quit and cancel.
fn interrupt(model: &mut Model) {
    let job = model.open.as_ref().filter(|open| open.job.ended_ms.is_none());
    let cancel = job.map_or_else(String::new, |open| format!(" · X cancels job {}", open.job.number));
    model.say(format!("q quits{cancel}"));
}

/// Moves the cursor within the command line, or selects another command at its first or last row.
fn browse(model: &mut Model, older: bool) {
    let row = model.command.text.cursor().0;
    let is_edge = if older { row == 0 } else { row + 1 >= model.command.rows() };
    if is_edge {
        model.command.browse(older);
    } else {
        let to = if older { tui_textarea::CursorMove::Up } else { tui_textarea::CursorMove::Down };
        model.command.text.move_cursor(to);
    }
}

/// Undoes what was typed last.
fn undo(model: &mut Model) {
    match model.overlays.last_mut() {
        Some(Overlay::Prompt(prompt)) => {
            prompt.text.undo();
            prompts::changed(model);
        }
        _ => model.command.undo(),
    }
}

/// Moves the focus to a pane.
pub(super) fn focus(model: &mut Model, focus: Focus) {
    model.focus = focus;
    match focus {
        Focus::Fleet => {
            model.room = Focus::Fleet;
            model.command.frozen = None;
        }
        Focus::Job => model.room = Focus::Job,
        Focus::Command => {}
    }
    model.overlays.retain(|overlay| matches!(overlay, Overlay::Question(_)));
}

/// Moves the focus to the command line. If no agents are picked, freezes the agent under the cursor as the
/// recipient.
pub(super) fn enter_command(model: &mut Model) {
    let from_job = model.focus == Focus::Job;
    if model.focus != Focus::Command && model.fleet.picks.agents.is_empty() {
        let details = match model.overlays.last() {
            Some(Overlay::Details { row, .. }) => Some(row.clone()),
            _ => None,
        };
        if let Some(row) = details {
            model.fleet.cursor = Some(row);
        }
        if model.command.frozen.is_none() || !from_job {
            model.command.frozen = Some(model.recipients_at_cursor());
        }
    }
    focus(model, Focus::Command);
}

fn leave_command(model: &mut Model) {
    let to = if model.room == Focus::Job && model.open.is_some() { Focus::Job } else { Focus::Fleet };
    focus(model, to);
}

fn next_pane(model: &mut Model, forwards: bool) {
    let all = [Focus::Fleet, Focus::Job, Focus::Command];
    let at = all.iter().position(|pane| *pane == model.focus).unwrap_or(0);
    let may = |pane: Focus, model: &Model| match pane {
        Focus::Fleet => true,
        Focus::Job => model.open.is_some(),
        Focus::Command => !model.settings.read_only,
    };
    let next = (1..=3)
        .map(|step| all[if forwards { (at + step) % 3 } else { (at + 3 - step) % 3 }])
        .find(|pane| may(*pane, model));
    match next {
        Some(Focus::Command) => enter_command(model),
        Some(pane) => focus(model, pane),
        None => {}
    }
}

fn next_view(model: &mut Model) {
    let shows_both = model.layout.shows_both;
    let Some(open) = &mut model.open else { return };
    open.output = None;
    let at = View::ALL.iter().position(|view| *view == open.view).unwrap_or(0);
    open.view = View::ALL[(at + 1) % View::ALL.len()];
    open.assign_panes();
    if open.view == View::Grid && !shows_both {
        let current = open.rows.current().map(|row| row.example);
        open.pane = current.and_then(|task| open.places.iter().position(|place| *place == task)).unwrap_or(0);
    }
    focus(model, Focus::Job);
}

fn next_masks(model: &mut Model) {
    let Some(open) = &mut model.open else { return };
    let all = ["", "times", "names", "numbers", "names,times", "names,times,numbers"];
    let now = open.masks.to_string();
    let at = all.iter().position(|masks| masks.parse::<Masks>().is_ok_and(|masks| masks.to_string() == now));
    open.masks = all[at.map_or(1, |at| (at + 1) % all.len())].parse().unwrap_or_default();
    let text = if open.masks.any() {
        format!("compared without {}", open.masks)
    } else {
        "compared without masks".to_owned()
    };
    // Watch again with the new masks, even if the job has ended.
    open.is_over = false;
    model.watching = None;
    model.say(text);
}

/// Closes the topmost layer. Returns false if there was none.
fn close_layer(model: &mut Model) -> bool {
    if model.overlays.pop().is_some() {
        return true;
    }
    if let Some(open) = &mut model.open
        && model.focus == Focus::Job
    {
        if open.output.take().is_some() {
            return true;
        }
        if open.is_diff {
            open.is_diff = false;
            return true;
        }
    }
    if model.is_zoomed {
        model.is_zoomed = false;
        return true;
    }
    if model.focus == Focus::Fleet && !model.fleet.filter.is_empty() {
        model.fleet.filter.clear();
        model.fleet.is_stale = true;
        return true;
    }
    if model.focus == Focus::Job {
        focus(model, Focus::Fleet);
        return true;
    }
    false
}

fn close(model: &mut Model) {
    model.fleet.range_from = None;
    if !close_layer(model) {
        model.say("q quits");
    }
}

fn close_or_quit(model: &mut Model, cmds: &mut Vec<Cmd>) {
    if close_layer(model) {
        return;
    }
    let own = own_active(model).len();
    let mut reasons = Vec::new();
    let picks = model.fleet.picks.agents.len();
    if picks > 0 {
        reasons.push(format!("{picks} {} picked", if picks == 1 { "agent is" } else { "agents are" }));
    }
    if !model.command.is_blank() {
        reasons.push("the command line is not empty".to_owned());
    }
    if own > 0 {
        reasons.push(format!(
            "{own} {} of yours {} on",
            plural("job", own),
            if own == 1 { "goes" } else { "go" }
        ));
    }
    if reasons.is_empty() {
        return quit(model, cmds);
    }
    let text = format!("Quit? {}.", reasons.join(", "));
    questions::ask(model, text, "y".to_owned(), Asked::Quit);
}

fn own_active(model: &Model) -> Vec<u64> {
    let own = model.active_jobs().filter(|job| model.own_jobs.contains(&job.id));
    own.map(|job| job.number).collect()
}

/// Ends the program. It prints how to return to the jobs that continue.
pub(super) fn quit(model: &mut Model, cmds: &mut Vec<Cmd>) {
    let line = |number: u64| format!("job {number} continues: sloth-runner job attach {number}");
    model.quits = Some(own_active(model).into_iter().map(line).collect());
    if !model.command.is_blank() {
        cmds.push(Cmd::KeepDraft(model.command.value()));
    }
    cmds.push(Cmd::Quit);
}

/// Opens the item under the cursor.
fn open(model: &mut Model, cmds: &mut Vec<Cmd>) {
    if let Some(job) = model.history_cursor() {
        let number = job.number;
        model.overlays.clear();
        return loading::open_job(model, number, cmds);
    }
    if model.focus == Focus::Fleet {
        if model.fleet.is_empty() {
            if model.fleet.is_complete && !model.settings.read_only {
                cmds.push(Cmd::MakeJoinLine);
            }
            return;
        }
        let Some(row) = model.fleet.cursor.clone() else { return };
        if row.waiting.is_none() && model.is_up() {
            cmds.push(Cmd::Recent(row.name.clone()));
        }
        model.overlays.push(Overlay::Details { row, top: 0 });
        return;
    }
    let Some(open) = &mut model.open else { return };
    if open.output.is_some() {
        // If an output is open already, Enter opens the details of its agent.
        let agent = open.current_task().and_then(|task| open.agent(task).cloned());
        if let Some(name) = agent {
            if model.is_up() {
                cmds.push(Cmd::Recent(name.clone()));
            }
            let row = super::super::model::fleet::RowKey { name, waiting: None };
            model.overlays.push(Overlay::Details { row, top: 0 });
        }
        return;
    }
    if let Some(task) = open.current_task() {
        let end = open.job.task(task).map_or(0, |task| task.end_offset);
        open.output = Some(Output::new(task, loading::tail_offset(end)));
    }
}

fn cancel(model: &mut Model, whole: bool, cmds: &mut Vec<Cmd>) {
    let Some(open) = &model.open else { return };
    let tasks =
        if whole { open.job.tasks.iter().map(|task| task.index).collect() } else { open.current_tasks() };
    let is_open = |task: &u32| open.job.task(*task).is_some_and(|task| task.state.outcome().is_none());
    let tasks: Vec<u32> = tasks.into_iter().filter(is_open).collect();
    let names: Vec<&str> = tasks.iter().filter_map(|task| open.agent(*task)).map(AgentName::as_str).collect();
    let (id, number, count) = (open.job.id, open.job.number, tasks.len());
    let indices = if whole { Vec::new() } else { tasks.clone() };
    if !model.is_up() {
        return model.complain(format!("{}. Nothing was sent", starting::no_answer(model)));
    }
    if count > model.settings.confirm_over {
        let expects = questions::confirmation_text(&names);
        let text = format!("Cancel {count} tasks of job {number}?");
        return questions::ask(model, text, expects, Asked::Cancel(id, indices));
    }
    model.say(format!("cancelling {count} {} of job {number} …", plural("task", count)));
    cmds.push(Cmd::Cancel(id, indices));
}

fn ask_about_key(model: &mut Model, approves: bool) {
    let Some(agent) = model.inspected_agent() else { return };
    let (name, digits) = (agent.name.clone(), agent.fingerprint);
    let row = super::super::model::fleet::RowKey { name: name.clone(), waiting: Some(digits) };
    let (changed, proposed) = (agent.key_changed, agent.proposed.clone());
    if approves && agent.state != AgentState::Pending {
        let text = format!("Accept the proposal of {name}: {proposed}?");
        return questions::ask(model, text, name.to_string(), Asked::Accept(name, proposed));
    }
    if approves && agent.has_code {
        prompts::open(model, PromptKind::Code);
        if let Some(Overlay::Prompt(prompt)) = model.overlays.last_mut() {
            prompt.key = Some((name, digits, proposed));
        }
        return;
    }
    let (text, asked) = if approves {
        let warning = if changed { " It replaces the key that is known under this name." } else { "" };
        let with = if proposed.is_empty() { String::new() } else { format!(" It also accepts: {proposed}.") };
        (format!("Enroll {name} with the key {digits}?{with}{warning}"), Asked::Approve(row, proposed))
    } else {
        (format!("Reject the pending key {digits} of {name}?"), Asked::Reject(row))
    };
    questions::ask(model, text, name.to_string(), asked);
}

/// Returns the recipients by name. The expression that picked them may match other agents by now.
pub(super) fn shown(model: &Model) -> String {
    fold(model.recipients().agents.iter().map(|(name, _)| name.as_str()))
}

/// Drains the picked agents. Asks first if there are many.
pub(super) fn drain(model: &mut Model, reason: &str, cmds: &mut Vec<Cmd>) {
    let recipients = model.recipients();
    let reason = reason.trim().to_owned();
    if recipients.agents.len() <= model.settings.confirm_over {
        return cmds.push(Cmd::DrainAgents(shown(model), Some(reason)));
    }
    let text =
        format!("Drain {} agents? Running tasks continue; no new tasks start.", recipients.agents.len());
    let expects = recipients.agents.len().to_string();
    let agents = shown(model);
    questions::ask(model, text, expects, Asked::DrainAgents(agents, reason));
}

fn ask_about_agents(model: &mut Model, stops: bool) {
    let recipients = model.recipients();
    let names: Vec<AgentName> = recipients.agents.iter().map(|(name, _)| name.clone()).collect();
    let expects = questions::confirmation_text(&names.iter().map(AgentName::as_str).collect::<Vec<_>>());
    let noun = if names.len() == 1 { names[0].to_string() } else { format!("{} agents", names.len()) };
    let (text, asked) = if stops {
        (format!("Stop {noun} on their machines? They come back only by hand."), Asked::StopAgents(names))
    } else {
        (format!("Delete {noun} from the registry? Their keys are deleted."), Asked::DeleteAgents(names))
    };
    questions::ask(model, text, expects, asked);
}

fn save(model: &mut Model, cmds: &mut Vec<Cmd>) {
    let Some(open) = &model.open else { return };
    let tasks =
        if open.output.is_some() { open.current_task().into_iter().collect() } else { open.current_tasks() };
    let agents: Vec<AgentName> = tasks.iter().filter_map(|task| open.agent(*task).cloned()).collect();
    cmds.push(Cmd::Save(open.job.id, open.job.number, agents));
}

fn pager(model: &mut Model, cmds: &mut Vec<Cmd>) {
    let Some(open) = &model.open else { return };
    let agent = open.current_task().and_then(|task| open.agent(task).cloned());
    cmds.extend(agent.map(|agent| Cmd::Pager(open.job.id, agent, model.look)));
}

fn copy(model: &mut Model, cmds: &mut Vec<Cmd>) {
    match model.overlays.last() {
        Some(Overlay::Notice { copy: Some(copy), .. }) => {
            return cmds.push(Cmd::Copy(copy.clone(), "the line".to_owned()));
        }
        Some(Overlay::Details { row, .. }) => {
            let name = row.name.to_string();
            return cmds.push(Cmd::Copy(name.clone(), name));
        }
        Some(_) => return,
        None => {}
    }
    if model.focus == Focus::Fleet {
        let name = model.fleet.under_cursor().map(|agent| agent.name.to_string());
        return cmds.extend(name.map(|name| Cmd::Copy(name.clone(), name)));
    }
    let Some(open) = &model.open else { return };
    if let Some(agent) = open.current_task().and_then(|task| open.agent(task).cloned()) {
        cmds.push(Cmd::CopyOutput(open.job.id, agent));
    }
}

/// Reports whether the open job waits at a gate.
#[must_use]
pub(super) fn is_held(model: &Model) -> bool {
    model.open.as_ref().is_some_and(|open| matches!(open.job.gate.state, GateState::Held(_)))
}

/// Opens a prompt that contains a text.
pub(super) fn prompt(model: &mut Model, kind: PromptKind, text: &str) {
    model.overlays.push(Overlay::Prompt(Box::new(Prompt::new(kind, text))));
}
