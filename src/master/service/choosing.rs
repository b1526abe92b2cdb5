//! Evaluates selections outside of the core, at the caller's expense, and lists agents.

use std::{sync::Arc, time::Instant};

use tonic::Status;

use super::Master;
use crate::{
    domain::{agent::AgentView, name::AgentName, target::selection::Selection},
    master::core::snapshot::{Choice, Snapshot},
    wire::{
        outbox::{Gone, Outbox},
        serve::Connected,
    },
};

/// Maximum number of agents in one answer, and the size in bytes from which on no more are added to it.
const MAX_PART: (usize, usize) = (200, 256 * 1024);
/// Number of agents of a list that are requested from the core at once.
const LISTED_AT_ONCE: usize = 200;
/// Approximate memory use of a pending key, in bytes.
const PENDING_KEY_BYTES: usize = 2 * 1024;
/// Maximum cost of a selection that is evaluated on the current thread instead of a separate one.
const MAX_INLINE_COST: usize = 2_000;
/// Returns the next agents of a list for one answer. It stays far below the limit of clients, whatever agents
/// report.
pub(super) fn part_of(agents: &mut impl Iterator<Item = AgentView>) -> Vec<AgentView> {
    let (most, bytes) = MAX_PART;
    let (mut part, mut size) = (Vec::new(), 0);
    while part.len() < most
        && size < bytes
        && let Some(agent) = agents.next()
    {
        size += agent.size();
        part.push(agent);
    }
    part
}

impl Master {
    /// Returns the agents of a selection. It is evaluated here, and not in the core.
    ///
    /// # Errors
    /// When the master is ending.
    pub(super) async fn choose(
        &self,
        caller: &Connected,
        selection: Selection,
        at_once: bool,
    ) -> Result<Choice, Status> {
        if let Some(choice) = Choice::plain(&selection) {
            return Ok(choice);
        }
        let choose =
            move |snapshot: &Snapshot, selection: &Arc<Selection>| snapshot.choose(selection, at_once);
        self.evaluate(caller, Arc::new(selection), choose).await
    }

    /// Evaluates a selection on a snapshot of the registry, and charges the caller. An expensive selection is
    /// evaluated on a separate thread.
    async fn evaluate<T: Send + 'static>(
        &self,
        caller: &Connected,
        selection: Arc<Selection>,
        evaluate: impl FnOnce(&Snapshot, &Arc<Selection>) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let budget = &caller.budget;
        let _turn = budget.turn().await;
        budget.selecting().map_err(|met| caller.refuse(&met))?;
        let snapshot = self.handle.snapshot().await?;
        let begun = Instant::now();
        let evaluated = if snapshot.cost_of(&selection) < MAX_INLINE_COST {
            evaluate(&snapshot, &selection)
        } else {
            let evaluating = tokio::task::spawn_blocking(move || evaluate(&snapshot, &selection));
            evaluating.await.map_err(|error| Status::internal(error.to_string()))?
        };
        budget.charge_selecting(begun.elapsed());
        Ok(evaluated)
    }

    /// Returns the names for a list: the agents of the selection, or all.
    pub(super) async fn listed(
        &self,
        caller: &Connected,
        selection: Option<Selection>,
    ) -> Result<Vec<AgentName>, Status> {
        let Some(selection) = selection else {
            return Ok(self.handle.snapshot().await?.names().cloned().collect());
        };
        // A list shows all known agents even just after a start: their states show that they have not
        // reconnected yet.
        let matching = |snapshot: &Snapshot, selection: &Arc<Selection>| snapshot.matching(selection, true);
        Ok(self.evaluate(caller, Arc::new(selection), matching).await??)
    }

    /// Sends agents in parts. The next part is requested from the core when the client has taken the last
    /// one.
    pub(super) async fn send_listed(
        self,
        names: Vec<AgentName>,
        waiting: Vec<AgentView>,
        answers: Outbox<Vec<AgentView>>,
    ) -> Result<(), Gone> {
        let held = names.len() * size_of::<AgentName>() + waiting.len() * PENDING_KEY_BYTES;
        let _room = answers.hold(held).await?;
        let mut waiting = waiting.into_iter().peekable();
        let mut parts = names.chunks(LISTED_AT_ONCE).peekable();
        while parts.peek().is_some() || waiting.peek().is_some() {
            let part = parts.next().unwrap_or_default();
            let is_last = parts.peek().is_none();
            let Ok(mut views) = self.handle.agents(part).await else { return Err(Gone) };
            // Pending keys are listed among the agents, by name.
            let last = part.last();
            while let Some(key) = waiting.next_if(|key| is_last || last.is_some_and(|last| key.name <= *last))
            {
                views.push(key);
            }
            views.sort_by(|a, b| a.name.cmp(&b.name));
            let mut agents = views.into_iter().peekable();
            while agents.peek().is_some() {
                answers.send(Ok(part_of(&mut agents))).await?;
            }
        }
        Ok(())
    }
}
