//! Tasks of agents that connect and disconnect: a returning agent receives the tasks that wait for it, and a
//! task whose agent does not return before the deadline ends.

use super::{
    LiveJob,
    task::{Progress, TaskRow},
};
use crate::{
    domain::{ids::TaskId, name::AgentName, outcome::Ending, plan::GateState, time::UnixMs},
    master::core::{Core, messages::Now},
};

impl Core {
    /// Handles an agent that is connected again: its tasks are attached, or queued for their turn.
    pub(in crate::master::core) fn agent_is_back(&mut self, name: &AgentName, now: Now) {
        for id in self.open_tasks_of(name) {
            let is_eligible = self.jobs.change(id, |row| {
                row.failures = 0;
                let is_eligible = matches!(row.progress, Progress::Eligible { .. });
                if is_eligible {
                    row.wait_for_nothing();
                }
                is_eligible
            });
            if is_eligible == Some(true) {
                if let Some(job) = self.jobs.get_mut(&id.job) {
                    job.enqueue(id.index, now);
                }
                self.jobs.mark_changed(id.job);
            } else {
                self.dispatch(id, now);
            }
        }
    }

    /// Handles the end of an agent's connection. A task that was not sent to the agent no longer counts for
    /// the fan-out, so that another task can start instead.
    pub(in crate::master::core) fn agent_is_gone(&mut self, name: &AgentName, heard_ms: UnixMs, now: Now) {
        for id in self.open_tasks_of(name) {
            self.jobs.change(id, |row| match &mut row.progress {
                Progress::Dispatched { attached } => {
                    *attached = None;
                    row.task.no_contact_since_ms = Some(heard_ms);
                }
                Progress::Admitted => {
                    row.progress = Progress::Eligible { queued_at: None };
                    row.wait_for_agent(now);
                }
                Progress::Eligible { .. } => row.wait_for_agent(now),
                _ => {}
            });
            self.skip_if_stopped(id, now);
            self.jobs.mark_changed(id.job);
            self.publish(id);
        }
    }

    /// Ends a task that is eligible, if its job was stopped: no more tasks of that job start.
    fn skip_if_stopped(&mut self, id: TaskId, now: Now) {
        let is_eligible =
            self.jobs.row(id).is_some_and(|row| matches!(row.progress, Progress::Eligible { .. }));
        if is_eligible
            && let Some(job) = self.jobs.get(&id.job)
            && let GateState::Stopped(reason) = &job.gate.state
        {
            let skipped = Ending::Skipped(reason.clone());
            self.end_unstarted(id, skipped, now);
        }
    }

    /// Handles the passing of time: ends tasks whose agents were not connected before the deadline.
    pub(in crate::master::core) fn tick_jobs(&mut self, now: Now) {
        self.tick_gates(now);
        self.end_withheld(now);
        // Only tasks of disconnected agents end at the deadline; other tasks wait for their turn.
        let is_overdue = |row: &TaskRow| {
            matches!(row.progress, Progress::Eligible { .. })
                && now.monotonic >= row.start_by
                && self.agents.get(&row.task.agent).is_none_or(|agent| agent.session.is_none())
        };
        let overdue = |live: &LiveJob| -> Vec<(TaskId, AgentName)> {
            let rows = live.rows().iter().filter(|row| is_overdue(row));
            let named =
                |row: &TaskRow| (TaskId { job: live.job.id, index: row.task.index }, row.task.agent.clone());
            rows.map(named).collect()
        };
        let overdue: Vec<_> = self.jobs.values().filter(|job| job.has_begun()).flat_map(overdue).collect();
        for (id, agent) in overdue {
            let text = self.offline_text(&agent, now);
            self.end_unstarted(id, Ending::Undeliverable(text.into()), now);
        }
    }
}
