//! Shows what agents propose, and accepts exactly what was shown.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::{
    cli::{
        args::agent::ApproveArgs,
        asking::{agrees, may_ask},
        exit::{self, Failure, Status},
        output::{note, say},
    },
    domain::{
        agent::{AgentState, AgentView},
        proposal::{Proposal, acceptance},
        target::{fold::fold, selection::Selection},
    },
    wire::{agent::state_in, client::ControlClient, proto, status::CallError},
};

/// What an agent proposes, and how it is accepted; nothing for one that proposes nothing.
pub(super) fn proposed(agent: &proto::Agent) -> String {
    let proposed = proposed_words(agent);
    match (proposed.is_empty(), state_in(agent.state())) {
        (true, _) => String::new(),
        (false, AgentState::Pending) => format!("{proposed}; can be accepted with its approval"),
        (false, _) => format!("{proposed}; `{}` accepts it", acceptance(&agent.name)),
    }
}

/// What an agent proposes, in words.
fn proposed_words(agent: &proto::Agent) -> String {
    AgentView::try_from(agent.clone()).map(|entry| entry.proposed.to_string()).unwrap_or_default()
}

/// Which agents propose what does not count yet; `None` where none does.
pub(super) fn footer(agents: &[proto::Agent]) -> Option<String> {
    let is_proposing = |agent: &&proto::Agent| {
        let proposes = !agent.proposed_labels.is_empty() || !agent.proposed_address.is_empty();
        proposes && state_in(agent.state()) != AgentState::Pending
    };
    let names: Vec<&str> = agents.iter().filter(is_proposing).map(|agent| agent.name.as_str()).collect();
    let count = names.len();
    (count > 0).then(|| {
        let propose = if count == 1 { "agent proposes" } else { "agents propose" };
        let accept = acceptance(fold(names));
        format!("{count} {propose} labels or addresses that do not count before they are accepted: {accept}")
    })
}

/// A waiting key as it was shown.
pub(super) fn shown_key(agent: proto::Agent) -> proto::ShownKey {
    proto::ShownKey {
        fingerprint: agent.fingerprint,
        labels: agent.proposed_labels,
        address: agent.proposed_address,
    }
}

/// Whether what a waiting key proposes is accepted. On a terminal the operator is shown it, and asked.
pub(super) fn accepts_proposals(args: &ApproveArgs, waiting: &[proto::Agent]) -> Result<bool, Failure> {
    let proposing: Vec<String> =
        waiting.iter().map(proposed_words).filter(|words| !words.is_empty()).collect();
    if args.accept || args.accept_nothing || proposing.is_empty() {
        return Ok(args.accept);
    }
    let (name, words) = (&args.name, proposing.join("; or, with another key, "));
    if may_ask() {
        return Ok(agrees(&format!("{name} proposes {words}. Is that to count?"))?);
    }
    note(&format!(
        "{name} proposes {words}: it has no effect. --accept accepts it, or later `{}`",
        acceptance(name)
    ));
    Ok(false)
}

/// Bytes of proposals that are sent at once.
const PROPOSALS: usize = 1024 * 1024;

/// Accepts what agents propose, as it is shown here and not otherwise.
pub(super) async fn accept(
    client: &ControlClient,
    selection: Selection,
    without_question: bool,
) -> Result<Status, Failure> {
    let agents = client.agents(Some(selection)).await?;
    let names = fold(agents.iter().map(|agent| agent.name.as_str()));
    let proposal = |agent: proto::Agent| proto::Proposal {
        name: agent.name,
        labels: agent.proposed_labels,
        address: agent.proposed_address,
    };
    let mut proposals: Vec<proto::Proposal> = agents.into_iter().map(proposal).collect();
    proposals.retain(|proposal| !Proposal::from(proposal.clone()).is_empty());
    if proposals.is_empty() {
        note(&format!("nothing is proposed by {names}"));
        return Ok(exit::OK);
    }
    if may_ask() && !without_question {
        for (words, names) in by_words(&proposals) {
            say(&format!("{names}: {words}\n"))?;
        }
        if !agrees("Is that to count?")? {
            note("nothing was accepted");
            return Ok(exit::OK);
        }
    }
    let (mut accepted, mut changed) = (Vec::new(), Vec::new());
    while !proposals.is_empty() {
        let mut size = 0;
        let mut fits = |proposal: &proto::Proposal| {
            size += proposal.encoded_len();
            size <= PROPOSALS
        };
        let count = proposals.iter().take_while(|proposal| fits(proposal)).count().max(1);
        let shown: Vec<proto::Proposal> = proposals.drain(..count).collect();
        let target = fold(shown.iter().map(|proposal| proposal.name.as_str()));
        let selection = Some(proto::Selection { target, ..proto::Selection::default() });
        let request = proto::LabelAgentsRequest {
            selection,
            accept: true,
            shown,
            ..proto::LabelAgentsRequest::default()
        };
        let answer = client.calls().label_agents(request).await.map_err(CallError::from)?.into_inner();
        accepted.extend(answer.accepted);
        changed.extend(answer.changed);
    }
    for (words, names) in by_words(&accepted) {
        say(&format!("{names}: {words} counts now\n"))?;
    }
    if changed.is_empty() {
        return Ok(exit::OK);
    }
    let changed = fold(changed.iter().map(String::as_str));
    Err(Failure::new(format!(
        "{changed}: something else is proposed by now than was shown, and was not accepted; look again"
    )))
}

/// Proposals in words, and who makes each, folded.
fn by_words(proposals: &[proto::Proposal]) -> BTreeMap<String, String> {
    let mut agents_of: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for proposal in proposals {
        let words = Proposal::from(proposal.clone()).to_string();
        agents_of.entry(words).or_default().push(&proposal.name);
    }
    agents_of.into_iter().map(|(words, names)| (words, fold(names))).collect()
}
