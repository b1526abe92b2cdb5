//! Actions on agents that ask first: keys and proposals, drains, stops and deletions.

use super::{
    super::{
        model::{Asked, Confirmation, Model, Overlay, Prompt, PromptKind, fleet::RowKey},
        msg::Cmd,
    },
    questions,
};
use crate::domain::{agent::AgentState, name::AgentName, target::fold::fold};

/// Asks before a pending key is approved or rejected, or a proposal is accepted.
pub(super) fn ask_about_key(model: &mut Model, approves: bool) {
    let Some(agent) = model.inspected_agent() else { return };
    let (name, digits) = (agent.name.clone(), agent.fingerprint);
    let row = RowKey { name: name.clone(), waiting: Some(digits) };
    let (changed, proposed) = (agent.key_changed, agent.proposed.clone());
    if approves && agent.state != AgentState::Pending {
        let text = format!("Accept the proposal of {name}: {proposed}?");
        return questions::ask(
            model,
            text,
            Confirmation::Text(name.to_string()),
            Asked::Accept(name, proposed),
        );
    }
    if approves && agent.has_code {
        let mut prompt = Prompt::new(PromptKind::Code, "");
        prompt.key = Some((name, digits, proposed));
        return model.overlays.push(Overlay::Prompt(Box::new(prompt)));
    }
    let (text, asked) = if approves {
        let warning = if changed { "This REPLACES the key that is known under this name. " } else { "" };
        let with = if proposed.is_empty() { String::new() } else { format!(" It also accepts: {proposed}.") };
        let key = digits.short();
        (format!("{warning}Enroll {name} with the key {key}…?{with}"), Asked::Approve(row, proposed))
    } else {
        (format!("Reject the pending key {}… of {name}?", digits.short()), Asked::Reject(row))
    };
    questions::ask(model, text, Confirmation::Text(name.to_string()), asked);
}

/// Returns the recipients by name. The expression that picked them may match other agents by now.
pub(super) fn recipients_by_name(model: &Model) -> String {
    fold(model.recipients().agents.iter().map(|(name, _)| name.as_str()))
}

/// Drains the picked agents. Asks first if there are many.
pub(super) fn drain(model: &mut Model, reason: &str, cmds: &mut Vec<Cmd>) {
    let recipients = model.recipients();
    let reason = reason.trim().to_owned();
    if recipients.agents.len() <= model.settings.confirm_over {
        return cmds.push(Cmd::DrainAgents(recipients_by_name(model), Some(reason)));
    }
    let text =
        format!("Drain {} agents? Running tasks continue; no new tasks start.", recipients.agents.len());
    let expects = Confirmation::Text(recipients.agents.len().to_string());
    let agents = recipients_by_name(model);
    questions::ask(model, text, expects, Asked::DrainAgents(agents, reason));
}

/// Asks before the picked agents are stopped or deleted.
pub(super) fn ask_about_agents(model: &mut Model, stops: bool) {
    let recipients = model.recipients();
    let names: Vec<AgentName> = recipients.agents.iter().map(|(name, _)| name.clone()).collect();
    let expects = questions::by_name(&names.iter().map(AgentName::as_str).collect::<Vec<_>>());
    let noun = if names.len() == 1 { names[0].to_string() } else { format!("{} agents", names.len()) };
    let (text, asked) = if stops {
        (format!("Stop {noun} on their machines? They come back only by hand."), Asked::StopAgents(names))
    } else {
        (format!("Delete {noun} from the registry? Their keys are deleted."), Asked::DeleteAgents(names))
    };
    questions::ask(model, text, expects, asked);
}
