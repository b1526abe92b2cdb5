//! The fleet table: the agents, which of them are visible and in which order, and which of them are picked.
//! Independent of drawing.

use std::collections::{BTreeMap, BTreeSet};

use super::filter;
use crate::domain::{
    agent::{AgentState, AgentView, Facts},
    fingerprint::Fingerprint,
    name::AgentName,
    outcome::Ending,
    target::{Candidate, Target},
    time::UnixMs,
};

/// The key of a row: an agent, or one of the pending keys under a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The name of the agent.
    pub name: AgentName,
    /// The fingerprint of the pending key; `None` for an agent.
    pub waiting: Option<Fingerprint>,
}

/// The order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// By urgency: rows that need attention come first.
    #[default]
    Attention,
    /// By name, in natural order.
    Name,
    /// The highest CPU usage first.
    Cpu,
    /// The highest memory usage first.
    Memory,
    /// The highest load first.
    Load,
    /// The shortest uptime first.
    Uptime,
    /// The newest last job first.
    LastJob,
}

impl SortBy {
    /// All orders, in the sequence in which `o` selects them.
    pub const ALL: [Self; 7] =
        [Self::Attention, Self::Name, Self::Cpu, Self::Memory, Self::Load, Self::Uptime, Self::LastJob];

    /// Returns the word for the order.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Uptime => "uptime",
            Self::LastJob => "last job",
        }
    }
}

/// A picked agent, as it was when it was picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The fingerprint of its key at that time.
    pub fingerprint: Fingerprint,
    /// When it was picked, in milliseconds since the Unix epoch.
    pub at_ms: UnixMs,
}

/// The picked agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picks {
    /// The agents by name.
    pub agents: BTreeMap<AgentName, Pick>,
    /// The expression that picked the agents; `None` if there was none, or if the picks were changed since.
    pub target: Option<Target>,
}

/// The fleet table.
#[derive(Debug, Default)]
pub struct Fleet {
    agents: BTreeMap<RowKey, AgentView>,
    shown: Vec<RowKey>,
    /// The row under the cursor.
    pub cursor: Option<RowKey>,
    /// The first row on the screen.
    pub top: usize,
    /// The text of the filter; empty for no filter.
    pub filter: String,
    /// The order of the rows.
    pub sort: SortBy,
    /// The picked agents.
    pub picks: Picks,
    /// The picks that were all removed at once, so that they can be restored.
    pub unpicked: Option<Picks>,
    /// The row at which a range of picks begins.
    pub range_from: Option<RowKey>,
    /// Whether many pending keys are shown one by one.
    pub unfolds_pending: bool,
    /// The number of pending keys for which one row stands; 0 if each has its row.
    folded_pending: usize,
    /// For each agent, the number of its last job when the operator acknowledged that this failed.
    acknowledged: BTreeMap<AgentName, u64>,
    /// The agents that were known before the master started to send all agents again, and that it has not
    /// sent yet.
    unseen: BTreeSet<RowKey>,
    /// Whether the master has sent all agents at least once.
    pub is_complete: bool,
    /// Whether agents have changed since the rows were arranged.
    pub is_stale: bool,
}

/// The number of agents in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The counts, in the order of [`Counts::STATES`].
    pub states: [usize; 5],
}

impl Counts {
    /// The order in which states are shown, most urgent first.
    pub const STATES: [AgentState; 5] = [
        AgentState::Offline,
        AgentState::Late,
        AgentState::Pending,
        AgentState::Draining,
        AgentState::Active,
    ];

    /// Returns the number of agents in a state.
    #[must_use]
    pub fn of(&self, state: AgentState) -> usize {
        Self::STATES.iter().position(|known| *known == state).map_or(0, |at| self.states[at])
    }
}

/// The number of pending keys above which one row stands for all.
const MAX_PENDING_ROWS: usize = 3;

/// The value of `attention` from which on an agent needs no attention.
const NO_ATTENTION: u8 = 4;

fn attention(agent: &AgentView, acknowledged: &BTreeMap<AgentName, u64>) -> u8 {
    let last = agent.last_job.as_ref();
    let is_known = last.is_some_and(|last| acknowledged.get(&agent.name) >= Some(&last.number));
    let is_deliberate = last
        .and_then(|last| last.state.outcome())
        .is_some_and(|outcome| matches!(outcome.ending, Ending::Skipped(_) | Ending::Cancelled { .. }));
    match agent.state {
        AgentState::Pending => 0,
        AgentState::Offline => 1,
        AgentState::Late => 2,
        AgentState::Draining | AgentState::Active
            if agent.last_job_failed() && !is_known && !is_deliberate =>
        {
            3
        }
        AgentState::Draining => NO_ATTENTION,
        AgentState::Active => NO_ATTENTION + 1,
    }
}

impl Fleet {
    /// Starts a full update from the master. Known agents stay until the update is complete, so that the
    /// cursor and the scroll position are kept.
    pub fn begin(&mut self) {
        self.unseen = self.agents.keys().filter(|key| key.waiting.is_none()).cloned().collect();
    }

    /// Ends a full update: removes the agents that were not part of it.
    pub fn complete(&mut self) {
        for key in std::mem::take(&mut self.unseen) {
            self.agents.remove(&key);
            self.is_stale = true;
        }
        self.is_complete = true;
    }

    /// Inserts or replaces an agent.
    pub fn put(&mut self, agent: AgentView) {
        self.is_stale = true;
        let key = RowKey { name: agent.name.clone(), waiting: None };
        self.unseen.remove(&key);
        self.agents.insert(key, agent);
    }

    /// Removes an agent.
    pub fn remove(&mut self, name: &AgentName) {
        self.is_stale = true;
        self.agents.remove(&RowKey { name: name.clone(), waiting: None });
    }

    /// Replaces all pending keys.
    pub fn set_pending_keys(&mut self, keys: Vec<AgentView>) {
        self.is_stale = true;
        self.agents.retain(|key, _| key.waiting.is_none());
        for key in keys {
            let row = RowKey { name: key.name.clone(), waiting: Some(key.fingerprint) };
            self.agents.insert(row, key);
        }
    }

    /// Returns an agent by name.
    #[must_use]
    pub fn agent(&self, name: &AgentName) -> Option<&AgentView> {
        self.agents.get(&RowKey { name: name.clone(), waiting: None })
    }

    /// Returns the agent or the pending key of a row.
    #[must_use]
    pub fn row(&self, key: &RowKey) -> Option<&AgentView> {
        self.agents.get(key)
    }

    /// Returns the number of rows, hidden ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Reports whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// Returns the enrolled agents.
    pub fn agents(&self) -> impl Iterator<Item = &AgentView> {
        self.agents.iter().filter(|(key, _)| key.waiting.is_none()).map(|(_, agent)| agent)
    }

    /// Returns the rows that match the filter, in order.
    #[must_use]
    pub fn shown(&self) -> &[RowKey] {
        &self.shown
    }

    /// Returns the number of rows in each state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for agent in self.agents.values() {
            if let Some(at) = Counts::STATES.iter().position(|state| *state == agent.state) {
                counts.states[at] += 1;
            }
        }
        counts
    }

    /// Filters and sorts the rows. Keeps the cursor on its row.
    pub fn arrange(&mut self) {
        self.is_stale = false;
        let place = self.cursor_place();
        let screen_row = place.map_or(0, |place| place.saturating_sub(self.top));
        let mut rows: Vec<(&RowKey, &AgentView)> = self.agents.iter().collect();
        let filtered: Vec<_> = rows.iter().map(|(key, agent)| (*agent, key.waiting.is_some())).collect();
        if let Some(matches) = filter::matching(&self.filter, &filtered) {
            let mut matches = matches.into_iter();
            rows.retain(|_| matches.next().unwrap_or(false));
        }
        let largest_first = |rows: &mut Vec<(&RowKey, &AgentView)>, figure: fn(&Facts) -> f64| {
            let of = |agent: &AgentView| agent.facts.as_ref().map_or(-1.0, figure);
            rows.sort_by(|(_, a), (_, b)| of(b).total_cmp(&of(a)));
        };
        match self.sort {
            // The map is in natural order already, and sorting is stable.
            SortBy::Attention => rows.sort_by_key(|(_, agent)| attention(agent, &self.acknowledged)),
            SortBy::Name => {}
            SortBy::Cpu => largest_first(&mut rows, |facts| facts.cpu_percent.into()),
            SortBy::Memory => largest_first(&mut rows, |facts| f64::from(memory_percent(facts))),
            SortBy::Load => largest_first(&mut rows, |facts| facts.load1.into()),
            SortBy::Uptime => {
                rows.sort_by_key(|(_, agent)| agent.facts.as_ref().map_or(u64::MAX, |facts| facts.uptime_s));
            }
            SortBy::LastJob => rows.sort_by_key(|(_, agent)| {
                std::cmp::Reverse(agent.last_job.as_ref().map_or(0, |last| last.number))
            }),
        }
        let pending = rows.iter().filter(|(key, _)| key.waiting.is_some()).count();
        let is_folded = pending > MAX_PENDING_ROWS && !self.unfolds_pending && self.filter.trim().is_empty();
        if is_folded {
            // One row stands for all: one machine can ask under many names.
            let mut is_first = true;
            rows.retain(|(key, _)| key.waiting.is_none() || std::mem::take(&mut is_first));
        }
        let shown: Vec<RowKey> = rows.into_iter().map(|(key, _)| key.clone()).collect();
        self.folded_pending = if is_folded { pending } else { 0 };
        self.shown = shown;
        let is_shown = self.cursor.as_ref().is_some_and(|cursor| self.shown.contains(cursor));
        if !is_shown {
            // The row that took its place.
            let place = place.unwrap_or(0).min(self.shown.len().saturating_sub(1));
            self.cursor = self.shown.get(place).cloned();
        }
        // The row under the cursor stays where it is on the screen.
        if place.is_some_and(|before| self.cursor_place() != Some(before)) {
            self.top = self.cursor_place().unwrap_or(0).saturating_sub(screen_row);
        }
    }

    /// Returns the position of the cursor in the shown rows.
    #[must_use]
    pub fn cursor_place(&self) -> Option<usize> {
        let cursor = self.cursor.as_ref()?;
        self.shown.iter().position(|row| row == cursor)
    }

    /// Returns the agent or the pending key under the cursor.
    #[must_use]
    pub fn under_cursor(&self) -> Option<&AgentView> {
        self.agents.get(self.cursor.as_ref()?)
    }

    /// Moves the cursor by a number of rows.
    pub fn move_cursor(&mut self, by: isize) {
        let Some(last) = self.shown.len().checked_sub(1) else { return };
        let place = self.cursor_place().unwrap_or(0).saturating_add_signed(by).min(last);
        self.cursor = self.shown.get(place).cloned();
    }

    /// Moves the cursor to the next or previous row that needs attention. Returns false if there is none.
    pub fn move_to_attention(&mut self, forwards: bool) -> bool {
        let count = self.shown.len();
        let from = self.cursor_place().unwrap_or(0);
        let needs = |place: &usize| {
            let row = self.shown.get(*place).and_then(|row| self.agents.get(row));
            row.is_some_and(|agent| attention(agent, &self.acknowledged) < NO_ATTENTION)
        };
        let found = (1..=count)
            .map(|step| if forwards { (from + step) % count } else { (from + count - step) % count })
            .find(needs);
        if let Some(place) = found {
            self.cursor = self.shown.get(place).cloned();
        }
        found.is_some()
    }

    /// Acknowledges the last failures of agents: they need no more attention until another job fails. Returns their number.
    pub fn acknowledge(&mut self, names: &[AgentName]) -> usize {
        let failed = names.iter().filter_map(|name| self.agent(name)).filter(|agent| agent.last_job_failed());
        let known: Vec<(AgentName, u64)> = failed
            .filter_map(|agent| Some((agent.name.clone(), agent.last_job.as_ref()?.number)))
            .filter(|(name, number)| self.acknowledged.get(name) != Some(number))
            .collect();
        let count = known.len();
        self.acknowledged.extend(known);
        self.is_stale = true;
        count
    }

    /// Returns the number of pending keys for which a row stands, if it stands for several.
    #[must_use]
    pub fn folded_at(&self, row: &RowKey) -> Option<usize> {
        (row.waiting.is_some() && self.folded_pending > 0).then_some(self.folded_pending)
    }

    /// Returns the number of agents and keys that the shown rows stand for.
    #[must_use]
    pub fn matched(&self) -> usize {
        self.shown.len() + self.folded_pending.saturating_sub(1)
    }

    /// Returns the number of rows before a place that need attention.
    #[must_use]
    pub fn urgent_above(&self, place: usize) -> usize {
        let needs = |row: &&RowKey| {
            self.agents.get(row).is_some_and(|agent| attention(agent, &self.acknowledged) < NO_ATTENTION)
        };
        // Sorted by urgency, they are all at the beginning.
        let urgent = self.shown[..place.min(self.shown.len())].iter();
        if self.sort == SortBy::Attention {
            urgent.take_while(needs).count()
        } else {
            urgent.filter(needs).count()
        }
    }

    /// Returns the agents that a target matches, in natural order.
    #[must_use]
    pub fn evaluate(&self, target: &Target) -> crate::domain::target::Matched {
        let candidates: Vec<Candidate<'_>> = self.agents().map(Candidate::from).collect();
        target.evaluate(&candidates)
    }

    /// Picks or unpicks an agent, with its current key. A pending key cannot be picked.
    pub fn pick(&mut self, row: &RowKey, is_picked: bool, now_ms: UnixMs) {
        if row.waiting.is_some() {
            return;
        }
        self.picks.target = None;
        self.unpicked = None;
        match self.agents.get(row) {
            Some(agent) if is_picked => {
                let pick = Pick { fingerprint: agent.fingerprint, at_ms: now_ms };
                self.picks.agents.insert(row.name.clone(), pick);
            }
            _ => {
                self.picks.agents.remove(&row.name);
            }
        }
    }

    /// Reports whether a row is picked.
    #[must_use]
    pub fn is_picked(&self, row: &RowKey) -> bool {
        row.waiting.is_none() && self.picks.agents.contains_key(&row.name)
    }

    /// Picks exactly these agents. `target` is the expression that selected them.
    pub fn pick_only(
        &mut self,
        names: impl IntoIterator<Item = AgentName>,
        target: Option<Target>,
        now_ms: UnixMs,
    ) {
        let pick = |name: AgentName| {
            let agent = self.agent(&name)?;
            let pick = Pick { fingerprint: agent.fingerprint, at_ms: now_ms };
            Some((name, pick))
        };
        let agents = names.into_iter().filter_map(pick).collect();
        self.picks = Picks { agents, target };
        self.unpicked = None;
    }

    /// Returns the number of picked agents that the filter hides.
    #[must_use]
    pub fn hidden_picks(&self) -> usize {
        let shown = self.shown.iter().filter(|row| self.is_picked(row)).count();
        self.picks.agents.len() - shown.min(self.picks.agents.len())
    }
}

/// Returns the used share of a machine's memory in per cent.
#[must_use]
pub(crate) fn memory_percent(facts: &Facts) -> u32 {
    let taken = u128::from(facts.memory_total.saturating_sub(facts.memory_available));
    let percent = (taken * 100).checked_div(u128::from(facts.memory_total)).unwrap_or(0);
    u32::try_from(percent).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::tests::agent;

    fn fleet(agents: &[(&str, AgentState)]) -> Fleet {
        let mut fleet = Fleet::default();
        for (name, state) in agents {
            fleet.put(AgentView { state: *state, ..agent(name) });
        }
        fleet.arrange();
        fleet
    }

    fn names(fleet: &Fleet) -> Vec<&str> {
        fleet.shown().iter().map(|row| row.name.as_str()).collect()
    }

    const STATES: [(&str, AgentState); 4] = [
        ("web-10", AgentState::Active),
        ("web-2", AgentState::Active),
        ("web-1", AgentState::Offline),
        ("web-3", AgentState::Late),
    ];

    #[test]
    fn urgent_agents_come_first_and_names_are_in_natural_order() {
        let mut fleet = fleet(&STATES);
        assert_eq!(names(&fleet), ["web-1", "web-3", "web-2", "web-10"]);
        fleet.sort = SortBy::Name;
        fleet.arrange();
        assert_eq!(names(&fleet), ["web-1", "web-2", "web-3", "web-10"]);
    }

    #[test]
    fn filters_are_text_targets_and_short_groups() {
        let mut fleet = fleet(&STATES);
        for (filter, expected) in [
            ("web-1", vec!["web-1", "web-10"]),
            ("state:late", vec!["web-3"]),
            ("@all!web-[1-3]", vec!["web-10"]),
            ("ROLE=web", vec!["web-1", "web-3", "web-2", "web-10"]),
            ("role:web", vec!["web-1", "web-3", "web-2", "web-10"]),
            ("web-*", vec!["web-1", "web-3", "web-2", "web-10"]),
            ("nobody", vec![]),
        ] {
            fleet.filter = filter.to_owned();
            fleet.arrange();
            assert_eq!(names(&fleet), expected, "{filter}");
        }
    }

    #[test]
    fn picks_belong_to_agents_and_the_cursor_stays_on_its_agent() {
        let mut fleet = fleet(&STATES);
        fleet.move_cursor(2);
        let row = fleet.cursor.clone().unwrap();
        fleet.pick(&row, true, UnixMs(5));
        fleet.filter = "state:late".to_owned();
        fleet.arrange();
        assert_eq!(fleet.hidden_picks(), 1);
        fleet.filter.clear();
        fleet.put(AgentView { state: AgentState::Offline, ..agent("web-10") });
        fleet.cursor = Some(row.clone());
        fleet.arrange();
        assert_eq!(fleet.cursor, Some(row.clone()));
        assert!(fleet.is_picked(&row));
    }
}
