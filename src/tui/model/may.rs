//! The context of keys, and the actions that are possible in it. Dispatch, hints and the palette all use it.

use super::{Focus, Model, Overlay, burst::Field};
use crate::{
    domain::{agent::AgentState, job::TaskState, plan::GateState},
    tui::{
        keymap::{Action, Context},
        model::job::View,
    },
};

fn no(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

/// Reports whether an action starts, ends or changes something on the master.
fn changes(action: Action) -> bool {
    use Action as A;
    matches!(
        action,
        A::CancelRow
            | A::CancelJob
            | A::Promote
            | A::StopJob
            | A::Approve
            | A::Reject
            | A::Execute
            | A::Shell
            | A::AddAgent
            | A::Label
            | A::DrainAgents
            | A::ResumeAgents
            | A::StopAgents
            | A::DeleteAgents
            | A::GoCommand
            | A::LoadAgain
            | A::LoadFailed
    )
}

impl Model {
    /// Returns the context in which the next key is interpreted.
    #[must_use]
    pub fn context(&self) -> Context {
        match self.overlays.last() {
            Some(Overlay::Help(_) | Overlay::Notice { .. } | Overlay::Question(_)) => Context::Reading,
            Some(Overlay::Details { .. }) => Context::Details,
            Some(Overlay::History { .. }) => Context::History,
            Some(Overlay::Prompt(_)) => Context::Prompt,
            None => match self.focus {
                Focus::Fleet => Context::Fleet,
                Focus::Job if self.open.as_ref().is_some_and(|job| job.output.is_some()) => Context::Output,
                Focus::Job => Context::Job,
                Focus::Command => Context::Command,
            },
        }
    }

    /// Returns the field that takes the text that is typed, if there is one.
    #[must_use]
    pub fn field(&self) -> Option<Field> {
        match (self.context(), self.overlays.last()) {
            (Context::Command, _) => Some(Field::Command),
            (Context::Prompt, Some(Overlay::Prompt(prompt))) => Some(Field::Prompt(prompt.kind)),
            _ => None,
        }
    }

    /// Reports whether `q` closes a layer instead of ending the program.
    #[must_use]
    pub fn has_layer(&self) -> bool {
        let in_job = self.focus == Focus::Job;
        !self.overlays.is_empty()
            || self.is_zoomed
            || in_job
            || !self.fleet.filter.is_empty()
            || self.fleet.unfolds_pending
    }

    /// Reports whether the cursor of the fleet is on a row that stands for several pending keys.
    fn is_on_folded_keys(&self) -> bool {
        let row = self.fleet.cursor.as_ref().filter(|_| self.overlays.is_empty());
        row.is_some_and(|row| self.fleet.folded_at(row).is_some())
    }

    /// Reports whether Enter creates the line that starts an agent on another machine: in an empty fleet.
    #[must_use]
    pub fn creates_join_line(&self) -> bool {
        let is_fleet = self.overlays.is_empty() && self.focus == Focus::Fleet;
        is_fleet && self.fleet.is_empty() && self.fleet.is_complete && !self.settings.read_only
    }

    /// Reports whether an action is performed only if its key comes alone.
    #[must_use]
    pub fn needs_care(&self, action: Action) -> bool {
        action.needs_care() || (action == Action::Open && self.creates_join_line())
    }

    /// Checks whether an action is possible now.
    ///
    /// # Errors
    /// The reason why it is not, as text for operators.
    pub fn may(&self, action: Action) -> Result<(), String> {
        use Action as A;
        if changes(action) && self.settings.read_only {
            return no("this is --read-only: nothing is started, ended or changed");
        }
        let open = self.open.as_ref();
        match action {
            A::Execute if self.command.is_blank() && open.is_none() => no("there is no command yet"),
            A::GoJob | A::CopyReport | A::NextView | A::Masks | A::Unfold if open.is_none() => {
                no("no job is open; H shows past ones")
            }
            A::CancelRow | A::CancelJob => self.may_cancel(action == A::CancelRow),
            A::LoadFailed => match open {
                None => no("no job is open"),
                Some(open) if open.job.tasks.iter().any(|task| has_failed(&task.state)) => Ok(()),
                Some(_) => no("no task of this job has failed"),
            },
            A::Open | A::Pick | A::Difference | A::Save | A::Pager | A::CopyRow | A::Shell
                if self.overlays.is_empty()
                    && self.focus == Focus::Job
                    && open.is_some_and(|open| open.view == View::Stream && open.output.is_none()) =>
            {
                no("the stream has no rows: v goes to them")
            }
            A::LoadAgain if self.history_cursor().is_some() => Ok(()),
            A::LoadAgain | A::Save | A::Pager if open.is_none() => no("no job is open"),
            A::Save | A::Pager if open.is_some_and(|open| open.current_task().is_none()) => {
                no("no task is under the cursor")
            }
            A::Promote | A::StopJob => match open {
                Some(open) if matches!(open.job.gate.state, GateState::Held(_)) => Ok(()),
                _ => no("no job waits at a gate"),
            },
            A::Difference => match open {
                None => no("no job is open"),
                Some(open) if open.groups.len() < 2 => no("there are no different outputs to compare"),
                Some(_) => Ok(()),
            },
            A::Follow if open.is_some_and(|open| open.output.is_none() && open.view != View::Stream) => {
                no("open an output first: Enter")
            }
            A::Search | A::SearchNext | A::SearchPrevious
                if self.focus == Focus::Job && open.is_some_and(|open| !open.can_search()) =>
            {
                no("open an output first: Enter")
            }
            A::Shell => match self.shell_agent() {
                _ if !self.is_up() => no("the master does not answer"),
                None => no("no agent is under the cursor"),
                Some(_) => Ok(()),
            },
            A::Approve | A::Reject if self.is_on_folded_keys() => {
                no("this row stands for several keys: Enter shows them")
            }
            A::Approve | A::Reject => match self.inspected_agent() {
                Some(agent) if agent.state == AgentState::Pending => Ok(()),
                Some(agent) if action == A::Approve && !agent.proposed.is_empty() => Ok(()),
                Some(_) if action == A::Approve => no("it has no proposal to accept"),
                _ => no("no waiting key is under the cursor"),
            },
            A::DrainAgents | A::ResumeAgents | A::StopAgents | A::DeleteAgents | A::Label
                if self.recipients().agents.is_empty() =>
            {
                no("no agent is picked")
            }
            A::NextJob | A::PreviousJob if self.jobs.is_empty() => no("there is no job yet"),
            A::Invert | A::PickShown | A::PickRange | A::Pick
                if self.focus == Focus::Fleet && self.fleet.is_empty() =>
            {
                no("there are no agents yet")
            }
            A::Unpick if self.fleet.picks.agents.is_empty() && self.fleet.unpicked.is_none() => {
                no("no agent is selected")
            }
            _ => Ok(()),
        }
    }

    fn may_cancel(&self, only_row: bool) -> Result<(), String> {
        let Some(open) = &self.open else { return no("no job is open") };
        if open.job.ended_ms.is_some() {
            return no("the job is over");
        }
        if !only_row {
            return Ok(());
        }
        if open.view == View::Stream && open.output.is_none() {
            return no("the stream has no rows: v goes to them, X cancels the whole job");
        }
        let is_open = |index: &u32| open.job.task(*index).is_some_and(|task| task.state.outcome().is_none());
        if open.current_tasks().iter().any(is_open) {
            Ok(())
        } else {
            no("no task of this row is still running")
        }
    }

    /// Returns the agent or pending key whose details are shown, or else the one under the cursor.
    #[must_use]
    pub fn inspected_agent(&self) -> Option<&crate::domain::agent::AgentView> {
        match self.overlays.last() {
            Some(Overlay::Details { row, .. }) => self.fleet.row(row),
            _ => self.fleet.under_cursor(),
        }
    }

    /// Returns the agent on which a shell would be opened: that of the task under the cursor, of the details,
    /// or of the fleet's row.
    #[must_use]
    pub fn shell_agent(&self) -> Option<crate::domain::name::AgentName> {
        let is_job = self.overlays.is_empty() && self.focus == Focus::Job;
        if let (true, Some(open)) = (is_job, &self.open) {
            return open.current_task().and_then(|task| open.agent(task).cloned());
        }
        self.inspected_agent()
            .filter(|agent| agent.state != AgentState::Pending)
            .map(|agent| agent.name.clone())
    }

    /// Returns the job under the cursor of the history, if the history is shown.
    #[must_use]
    pub fn history_cursor(&self) -> Option<&crate::domain::job::Job> {
        match self.overlays.last() {
            Some(Overlay::History { cursor, filter }) => self.history_rows(filter).get(*cursor).copied(),
            _ => None,
        }
    }
}

/// Reports whether a task has ended with anything but status 0.
#[must_use]
pub(crate) fn has_failed(state: &TaskState) -> bool {
    state.outcome().is_some_and(|outcome| !outcome.is_success())
}
