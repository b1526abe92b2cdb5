//! How a run begins: whom it means, what it is made of, and when it is on the disk.

use std::time::Duration;

use super::{LiveRun, Slot};
use crate::{
    domain::{
        agent::START_WITHIN,
        ids::{RunId, TaskId},
        name::AgentName,
        outcome::Ending,
        run::{LeftOut, Run, Task, TaskState},
    },
    master::core::{
        Core, Parked, audit,
        messages::{Now, Reply, ReplyTo, RunAsked, StoredRun, Write},
    },
    sys::clock::spoken,
};

impl Core {
    pub(in crate::master::core) fn on_start_run(&mut self, asked: RunAsked, reply: ReplyTo, now: Now) {
        if let Some(known) = self.runs.get(&asked.id) {
            // The same wish again, after a lost answer: the run that there is.
            let view = known.view();
            return self.reply(reply, Reply::Live(Box::new(view)));
        }
        let refusal = self.refusal_of_runs();
        if !refusal.is_empty() {
            return self.reply(reply, Reply::Refused(refusal));
        }
        let (names, left_out) = match self.resolve(&asked, now) {
            Ok(resolved) => resolved,
            Err(answer) => return self.reply(reply, answer),
        };
        let id = asked.id;
        let operator = asked.operator.clone();
        let run = self.new_run(asked, names, left_out, now);
        let detail = format!("run {}: {}", run.run.number, run.run.command.shown());
        let stored = StoredRun {
            run: run.view(),
            options: run.options.clone(),
            tasks: run.slots.iter().map(Slot::to_store).collect(),
        };
        let target = run.run.target.clone();
        self.runs.insert(id, run);
        let writes = vec![Write::PutRun(Box::new(stored)), audit(now, &operator, "run", &target, detail)];
        self.persist(writes, Parked::StartRun(id, reply));
    }

    /// The agents that a wish means, or the answer that it gets instead.
    fn resolve(&self, asked: &RunAsked, now: Now) -> Result<(Vec<AgentName>, Vec<LeftOut>), Reply> {
        let matching = self.select(&asked.selection, asked.options.now, now);
        if asked.shown.is_empty() {
            return Ok((matching?.into_iter().collect(), Vec::new()));
        }
        // What a person was shown is what runs, even if nothing would match any more.
        let matching = matching.unwrap_or_default();
        let is_same = |name: &str, key: &str| {
            let row = self.agents.get(name);
            row.is_some_and(|row| row.stored.fingerprint.to_string() == key)
        };
        let gone: Vec<LeftOut> = asked
            .shown
            .iter()
            .filter(|(name, key)| !is_same(name, key))
            .map(|(name, _)| LeftOut {
                agent: name.clone(),
                reason: "it is gone, or has a new key, since it was shown".to_owned(),
            })
            .collect();
        let was_shown = |name: &AgentName| asked.shown.iter().any(|(shown, _)| shown == name.as_str());
        let more = matching.iter().filter(|name| !was_shown(name));
        if !gone.is_empty() {
            return Err(Reply::TargetChanged { gone, more: more.map(ToString::to_string).collect() });
        }
        let reason = "it matches only since the agents were shown";
        let left_out = more.map(|name| LeftOut { agent: name.to_string(), reason: reason.to_owned() });
        Ok((self.agents.keys().filter(|name| was_shown(name)).cloned().collect(), left_out.collect()))
    }

    fn new_run(
        &mut self,
        asked: RunAsked,
        names: Vec<AgentName>,
        left_out: Vec<LeftOut>,
        now: Now,
    ) -> LiveRun {
        self.last_number += 1;
        let slots: Vec<Slot> = names
            .into_iter()
            .enumerate()
            .map(|(index, name)| self.new_slot(index, name, asked.options.start_within_ms, now))
            .collect();
        let run = Run {
            id: asked.id,
            number: self.last_number,
            operator: asked.operator,
            plain_name: asked.selection.plain_name().is_some(),
            target: asked.selection.to_string(),
            command: asked.command,
            created_ms: now.unix_ms,
            ended_ms: None,
            tasks: Vec::new(),
            task_count: u32::try_from(slots.len()).unwrap_or(u32::MAX),
            succeeded: 0,
            unfinished: 0,
            left_out,
        };
        LiveRun { run, options: asked.options, slots, begun: false }
    }

    fn new_slot(&self, index: usize, agent: AgentName, start_within_ms: Option<u64>, now: Now) -> Slot {
        let row = &self.agents[&agent];
        let start_by = match (start_within_ms, &row.session, row.offline_since) {
            (Some(within), ..) => now.monotonic + Duration::from_millis(within),
            (None, Some(session), _) => session.heard + START_WITHIN,
            (None, None, Some(since)) => since + START_WITHIN,
            // This master has not seen it yet: a minute after its own start.
            (None, None, None) => START_WITHIN,
        };
        let left = start_by.saturating_sub(now.monotonic);
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let mut slot = Slot {
            task: Task::queued(u32::try_from(index).unwrap_or(u32::MAX), agent),
            fingerprint: row.stored.fingerprint,
            incarnation: row.session.as_ref().map(|session| session.incarnation.clone()),
            recording: false,
            start_by,
            start_by_ms: now.unix_ms.saturating_add(left_ms),
            cancelled_by: None,
            attempt: 0,
            attached: None,
            sent: false,
            failures: 0,
            stored: false,
        };
        if row.session.is_none() {
            if left.is_zero() {
                let text = self.offline_text(&slot.task.agent, now);
                slot.task.state = TaskState::Ended(Ending::Undeliverable(text).into());
            } else {
                slot.task.waiting = format!("offline; waited for up to {}", spoken(left));
            }
        }
        slot
    }

    pub(super) fn offline_text(&self, name: &AgentName, now: Now) -> String {
        let Some(row) = self.agents.get(name) else { return "the agent is gone".to_owned() };
        if row.stored.last_seen_ms == 0 {
            return "it was let in, but never connected".to_owned();
        }
        let silent = Duration::from_millis(now.unix_ms.saturating_sub(row.stored.last_seen_ms));
        format!(
            "offline for {} (last seen at {}); --start-within 1h waits for it",
            spoken(silent),
            row.stored.address
        )
    }

    pub(in crate::master::core) fn begin_run(&mut self, id: RunId, reply: ReplyTo, now: Now) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.begun = true;
        for slot in run.slots.iter_mut().filter(|slot| !slot.is_open()) {
            slot.stored = true;
        }
        let view = run.view();
        let count = view.task_count;
        self.reply(reply, Reply::Live(Box::new(view)));
        for index in 0..count {
            self.dispatch(TaskId { run: id, index }, now);
        }
        self.end_run_if_over(id, now);
    }
}
