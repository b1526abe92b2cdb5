//! Shows what agents propose, and accepts exactly what was shown.

use std::collections::BTreeMap;

use crate::{
    cli::{
        args::agent::ApproveArgs,
        asking::{agrees, can_prompt},
        exit::{self, Failure, Status},
        output::{note, say},
    },
    domain::{
        agent::{AgentState, AgentView},
        control::{ChangeLabels, LabelAgents, NamedProposal, ShownKey},
        name::AgentName,
        proposal::acceptance,
        target::{Target, fold::fold, selection::Selection},
        text::form,
    },
    wire::client::ControlClient,
};

/// Returns what an agent proposes, and how to accept it; empty if it proposes nothing.
pub(super) fn proposed(agent: &AgentView) -> String {
    let proposed = &agent.proposed;
    match (proposed.is_empty(), agent.state) {
        (true, _) => String::new(),
        (false, AgentState::Pending) => format!("{proposed}; can be accepted with its approval"),
        (false, _) => format!("{proposed}; `{}` accepts it", acceptance(&agent.name)),
    }
}

/// Returns the line about agents with unaccepted proposals; `None` if there are none.
pub(super) fn footer(agents: &[AgentView]) -> Option<String> {
    let is_proposing = |agent: &&AgentView| !agent.proposed.is_empty() && agent.state != AgentState::Pending;
    let names: Vec<&str> = agents.iter().filter(is_proposing).map(|agent| agent.name.as_str()).collect();
    let count = names.len();
    (count > 0).then(|| {
        let propose = form(count, "agent proposes", "agents propose");
        let accept = acceptance(fold(names));
        format!("{count} {propose} labels or addresses that have no effect until they are accepted: {accept}")
    })
}

/// Returns a waiting key as it was shown to the operator.
pub(super) fn shown_key(agent: AgentView) -> ShownKey {
    ShownKey { fingerprint: agent.fingerprint, proposal: agent.proposed }
}

/// Whether to accept the proposals of a waiting key. On a terminal, they are shown to the operator, who is
/// asked.
pub(super) fn accepts_proposals(args: &ApproveArgs, waiting: &[AgentView]) -> Result<bool, Failure> {
    let proposals = waiting.iter().map(|agent| &agent.proposed).filter(|proposal| !proposal.is_empty());
    let proposing: Vec<String> = proposals.map(ToString::to_string).collect();
    if args.accept || args.accept_nothing || proposing.is_empty() {
        return Ok(args.accept);
    }
    let (name, words) = (&args.name, proposing.join("; or, with another key, "));
    if can_prompt() {
        return Ok(agrees(&format!("{name} proposes {words}. Accept it?"))?);
    }
    note(&format!(
        "{name} proposes {words}: it has no effect. --accept accepts it, or later `{}`",
        acceptance(name)
    ));
    Ok(false)
}

/// Maximum number of proposals in one request: a message may have 4 MiB, and a proposal at most 9 KiB of
/// labels.
const MAX_PROPOSALS_PER_REQUEST: usize = 256;

/// Accepts what agents propose, exactly as it is shown here.
pub(super) async fn accept(
    client: &ControlClient,
    selection: Selection,
    without_question: bool,
) -> Result<Status, Failure> {
    let agents = client.agents(Some(selection)).await?;
    let names = fold(agents.iter().map(|agent| agent.name.as_str()));
    let proposal = |agent: AgentView| NamedProposal { name: agent.name, proposal: agent.proposed };
    let mut proposals: Vec<NamedProposal> = agents.into_iter().map(proposal).collect();
    proposals.retain(|named| !named.proposal.is_empty());
    if proposals.is_empty() {
        note(&format!("nothing is proposed by {names}"));
        return Ok(exit::OK);
    }
    if can_prompt() && !without_question {
        for (words, names) in group_by_text(&proposals) {
            say(&format!("{names}: {words}\n"))?;
        }
        if !agrees("Accept these proposals?")? {
            note("nothing was accepted");
            return Ok(exit::OK);
        }
    }
    let (mut accepted, mut changed) = (Vec::new(), Vec::new());
    while !proposals.is_empty() {
        let shown: Vec<NamedProposal> =
            proposals.drain(..proposals.len().min(MAX_PROPOSALS_PER_REQUEST)).collect();
        let target = fold(shown.iter().map(|named| named.name.as_str()));
        let target: Target = target.parse().map_err(Failure::new)?;
        let change = ChangeLabels::Accept(shown);
        let answer =
            client.label_agents(LabelAgents { selection: target.into(), now: false, change }).await?;
        accepted.extend(answer.accepted);
        changed.extend(answer.changed);
    }
    for (words, names) in group_by_text(&accepted) {
        say(&format!("{names}: accepted {words}\n"))?;
    }
    if changed.is_empty() {
        return Ok(exit::OK);
    }
    let changed = fold(changed.iter().map(AgentName::as_str));
    Err(Failure::new(format!(
        "{changed}: the proposal has changed since it was shown, and was not accepted; run the command again"
    )))
}

/// Groups proposals by their text. The values are the folded names of the agents that make them.
fn group_by_text(proposals: &[NamedProposal]) -> BTreeMap<String, String> {
    let mut agents_of: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for NamedProposal { name, proposal } in proposals {
        agents_of.entry(proposal.to_string()).or_default().push(name.as_str());
    }
    agents_of.into_iter().map(|(words, names)| (words, fold(names))).collect()
}
