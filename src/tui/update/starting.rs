//! Starts the command of the command line, after a confirmation if necessary, and handles the result.

use std::time::Duration;

use super::{
    super::{
        model::{Asked, Connection, Model, Starting, command::Recipients},
        msg::Cmd,
    },
    questions,
};
use crate::domain::{
    ids::JobId,
    job::{JobOptions, Overflow},
    name::AgentName,
    target::fold::fold,
    text::form,
    time::stopwatch,
};

/// The age of picks from which on a confirmation is required.
const OLD_PICKS: Duration = Duration::from_mins(10);

/// Handles Enter in the command line.
pub(super) fn execute(model: &mut Model, cmds: &mut Vec<Cmd>) {
    if model.command.is_blank() {
        return;
    }
    if !model.is_up() {
        let text = disconnected(model);
        return model.complain(text);
    }
    if !model.status.refusing_jobs.is_empty() {
        let text = format!("{}. Your line is kept", model.status.refusing_jobs);
        return model.complain(text);
    }
    if model.starting.is_some() {
        return model.complain("the previous command is still being sent; your line is kept");
    }
    let recipients = model.recipients();
    if recipients.agents.is_empty() {
        return model.complain("no agent is selected or under the cursor; press 1 to go to the fleet");
    }
    let text = model.command.value();
    let question = reason_to_ask(model, &text, &recipients);
    let names: Vec<&str> = recipients.agents.iter().map(|(name, _)| name.as_str()).collect();
    let expects = questions::by_name(&names);
    model.asked_job = Some((text, recipients));
    match question {
        Some(reason) => questions::ask(model, reason, expects, Asked::Run),
        None => send(model, cmds),
    }
}

/// Describes that a command cannot be sent because the master does not answer.
pub(super) fn disconnected(model: &Model) -> String {
    format!("{}. Your line is kept; nothing was sent", no_answer(model))
}

/// Describes for how long the master has not answered.
pub(super) fn no_answer(model: &Model) -> String {
    match &model.connection {
        Connection::Down { since, next_try, .. } => {
            let now = model.now.monotonic;
            format!(
                "{}: no answer for {} s, next try in {} s",
                model.master_name(),
                now.saturating_sub(*since).as_secs(),
                next_try.saturating_sub(now).as_secs() + 1
            )
        }
        Connection::Connecting | Connection::Up => "the master has not answered yet".to_owned(),
    }
}

fn reason_to_ask(model: &Model, text: &str, recipients: &Recipients) -> Option<String> {
    let count = recipients.agents.len();
    let on = if count == 1 { recipients.target.clone() } else { format!("{count} agents") };
    let age = model.now.unix_ms.since(recipients.picked_ms);
    if model.settings.destructive.iter().any(|pattern| pattern.is_match(text)) {
        Some(format!("This command looks destructive. Run it on {on}?"))
    } else if !recipients.is_cursor && age >= OLD_PICKS {
        Some(format!("These {count} were picked {} ago.", stopwatch(age)))
    } else if count > model.settings.confirm_over {
        Some(format!("Run on {count} agents?"))
    } else {
        None
    }
}

/// Creates a unique id from the time, this program's random number and a counter.
fn next_id(model: &mut Model) -> JobId {
    model.sent = model.sent.wrapping_add(1);
    JobId::from_parts(model.now.unix_ms.0, u128::from(model.seed) << 16 | u128::from(model.sent))
}

/// Sends the command that was confirmed, or that needs no confirmation.
pub(super) fn send(model: &mut Model, cmds: &mut Vec<Cmd>) {
    let Some((text, recipients)) = model.asked_job.take() else { return };
    if !model.is_up() {
        let text = disconnected(model);
        return model.complain(text);
    }
    let id = next_id(model);
    // No client reads every byte along, so output over the cap becomes a gap, which every view shows.
    let options = JobOptions { overflow: Overflow::Gap, ..model.command.parsed.clone() };
    if let Some(kept) = model.command.remember(&text) {
        cmds.push(Cmd::Remember(kept));
    }
    model.command.clear();
    model.starting =
        Some(Starting { id, text: text.clone(), recipients: recipients.clone(), is_unknown: false });
    cmds.push(Cmd::Start { id, text, recipients, options: Box::new(options) });
}

/// Restores the text of a job that was not started to the command line.
fn restore_line(model: &mut Model, id: JobId) -> Option<Starting> {
    let starting = model.starting.take_if(|starting| starting.id == id)?;
    model.command.replace(&starting.text);
    Some(starting)
}

/// Handles a job that was not started.
pub(super) fn not_started(model: &mut Model, id: JobId, reason: &str) {
    if restore_line(model, id).is_some() {
        model.complain(format!("nothing was started: {reason}"));
    }
}

/// Handles a start that was refused because agents have changed: removes them from the picks, so that Enter
/// runs the command on the others.
pub(super) fn target_changed(model: &mut Model, id: JobId, gone: &[String]) {
    let Some(starting) = restore_line(model, id) else { return };
    let left: Vec<AgentName> = starting
        .recipients
        .agents
        .iter()
        .map(|(name, _)| name.clone())
        .filter(|name| !gone.iter().any(|gone| gone == name.as_str()))
        .collect();
    let verb = form(gone.len(), "is gone, or has a new key,", "are gone, or have new keys,");
    let rest = match left.len() {
        0 => "No agent is left".to_owned(),
        count => format!("Enter runs on the other {count}"),
    };
    let text = format!(
        "{} {verb} since this was shown. Nothing started; {rest}",
        fold(gone.iter().map(String::as_str))
    );
    let now_ms = model.now.unix_ms;
    if starting.recipients.is_cursor {
        model.command.frozen = None;
    } else {
        model.fleet.pick_only(left, None, now_ms);
    }
    model.complain(text);
}
