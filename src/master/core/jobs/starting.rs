//! Starts jobs: resolves the target, creates the tasks, and waits until the job is on the disk.

use std::{collections::HashSet, time::Duration};

use super::{
    LiveJob,
    live::Phase,
    task::{Progress, StartLife, TaskRow},
};
use crate::{
    domain::{
        agent::{Drain, START_WITHIN},
        fingerprint::Fingerprint,
        ids::JobId,
        job::{Job, LeftOut, LeftOutKind, MOST_TASKS, Task},
        name::AgentName,
        outcome::Ending,
        plan::{Gate, Plan},
        time::{UnixMs, format_duration},
    },
    master::core::{
        Continuation, Core, audit,
        messages::{Denied, JobAsked, JobStart, Now, ReplyTo},
        snapshot::all_draining,
        stored::{StoredJob, Write, audit_detail_of_job},
    },
};

impl Core {
    pub(in crate::master::core) fn on_start_job(
        &mut self,
        asked: JobAsked,
        reply: ReplyTo<JobStart>,
        now: Now,
    ) {
        if let Some(known) = self.jobs.get_mut(&asked.id) {
            if !asked.is_for(&known.job) {
                return self.refuse(reply, asked.foreign_id());
            }
            // The same request again, after a lost answer: the answer is the existing job, when it is on the
            // disk.
            if let Phase::Starting { also_asked } = &mut known.phase {
                return also_asked.push(reply);
            }
            let view = known.view();
            return self.reply(reply, JobStart::Live(Box::new(view)));
        }
        let refusal = self.refusal_of_jobs();
        if !refusal.is_empty() {
            return self.refuse(reply, refusal);
        }
        let (names, left_out) = match self.resolve(&asked) {
            Ok(resolved) => resolved,
            Err(answer) => return self.reply(reply, answer),
        };
        if names.len() > MOST_TASKS as usize {
            let text = format!(
                "{} means {} agents, and a job has at most {MOST_TASKS} tasks: start several",
                asked.choice.target,
                names.len()
            );
            return self.refuse(reply, text);
        }
        if asked.options.input.is_fed() && (names.len() != 1 || asked.choice.plain_name.is_none()) {
            let text = format!(
                "{} is more than one plain name: a command that is fed runs on one agent",
                asked.choice.target
            );
            return self.refuse(reply, text);
        }
        let ahead = names.iter().filter_map(|name| self.refusal_of_ahead(name));
        if let Some(reason) = ahead.clone().next()
            && ahead.count() == names.len()
        {
            return self.refuse(reply, reason);
        }
        let id = asked.id;
        let operator = asked.operator.clone();
        let job = self.new_job(asked, names, left_out, now);
        let detail = audit_detail_of_job(job.job.number, &job.job.command.shown());
        let stored = StoredJob {
            job: job.view(),
            options: job.options.clone(),
            tasks: job.rows().iter().map(TaskRow::to_store).collect(),
        };
        let target = job.job.target.clone();
        self.jobs.insert(job);
        let writes = vec![Write::PutJob(Box::new(stored)), audit(now, &operator, "run", &target, detail)];
        self.persist(writes, Continuation::StartJob(id, reply));
    }

    /// Returns the agents that a request selects and those that are left out, or the answer to send instead.
    fn resolve(&self, asked: &JobAsked) -> Result<(Vec<AgentName>, Vec<LeftOut>), JobStart> {
        let matching = self.chosen(&asked.choice);
        if asked.shown.is_empty() {
            let matching: Vec<AgentName> = matching.map_err(JobStart::Denied)?.into_iter().collect();
            return self.without_draining(matching, Vec::new(), asked);
        }
        // The job runs on the agents that a person was shown, even if none of them matches any more.
        let matching = matching.unwrap_or_default();
        let is_same = |name: &AgentName, key: &Fingerprint| {
            self.agents.get(name).is_some_and(|row| row.stored.fingerprint == *key)
        };
        let gone: Vec<LeftOut> = asked
            .shown
            .iter()
            .filter(|(name, key)| !is_same(name, key))
            .map(|(name, _)| LeftOut {
                agent: name.to_string(),
                kind: LeftOutKind::Changed,
                reason: "it is gone, or has a new key, since it was shown".into(),
                named: false,
            })
            .collect();
        let shown: HashSet<&AgentName> = asked.shown.iter().map(|(name, _)| name).collect();
        let was_shown = |name: &AgentName| shown.contains(name);
        let more = matching.iter().filter(|name| !was_shown(name));
        if !gone.is_empty() {
            return Err(JobStart::TargetChanged { gone, more: more.cloned().collect() });
        }
        let reason = "it matches only since the agents were shown";
        let left_out = more.map(|name| LeftOut {
            agent: name.to_string(),
            kind: LeftOutKind::NewMatch,
            reason: reason.into(),
            named: false,
        });
        let names = self.agents.keys().filter(|name| was_shown(name)).cloned().collect();
        self.without_draining(names, left_out.collect(), asked)
    }

    /// Leaves out draining agents that an expression selected. An agent that was given by its plain name
    /// stays: its task is refused, with the reason.
    fn without_draining(
        &self,
        names: Vec<AgentName>,
        mut left_out: Vec<LeftOut>,
        asked: &JobAsked,
    ) -> Result<(Vec<AgentName>, Vec<LeftOut>), JobStart> {
        if asked.choice.plain_name.is_some() {
            return Ok((names, left_out));
        }
        let (draining, names): (Vec<AgentName>, Vec<AgentName>) =
            names.into_iter().partition(|name| self.drain_of(name).is_some());
        if names.is_empty() {
            return Err(JobStart::Denied(Denied::Refused(all_draining(&draining))));
        }
        let reason = |name: &AgentName| self.drain_of(name).map(ToString::to_string).unwrap_or_default();
        left_out.extend(draining.iter().map(|name| LeftOut {
            agent: name.to_string(),
            kind: LeftOutKind::Draining,
            reason: reason(name).into(),
            named: asked.choice.spells(name),
        }));
        Ok((names, left_out))
    }

    /// Returns the drain because of which an agent accepts no new tasks.
    pub(super) fn drain_of(&self, name: &AgentName) -> Option<&Drain> {
        self.agents.get(name).and_then(|row| row.stored.drain.as_ref())
    }

    fn new_job(
        &mut self,
        asked: JobAsked,
        names: Vec<AgentName>,
        left_out: Vec<LeftOut>,
        now: Now,
    ) -> LiveJob {
        self.last_number += 1;
        let batches = self.batches(&asked.options.plan, &names);
        let first_wave = asked.options.plan.most_at_once();
        let rows: Vec<TaskRow> = (0u32..)
            .zip(names)
            .zip(batches)
            .map(|((index, name), batch)| {
                let mut row = self.new_row_of(index, name, batch);
                if batch == 0 {
                    self.open_row(&mut row, asked.options.start_within_ms, now);
                }
                if index as usize >= first_wave {
                    // The incarnation is recorded when the turn of the task comes.
                    row.life = StartLife::Unknown;
                }
                row
            })
            .collect();
        let job = Job {
            id: asked.id,
            number: self.last_number,
            operator: asked.operator.into(),
            plain_name: asked.choice.plain_name.is_some(),
            target: asked.choice.target,
            command: asked.command,
            created_ms: now.unix_ms,
            ended_ms: None,
            tasks: Vec::new(),
            task_count: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            succeeded: 0,
            unfinished: 0,
            left_out,
            gate: Gate::default(),
            masks: asked.options.plan.masks,
            command_left_out: 0,
        };
        LiveJob::new(job, asked.options, rows)
    }

    /// Returns the batch of each task. Canaries are connected agents, if there are enough: others would come to no end with which
    /// the rest can be compared.
    fn batches(&self, plan: &Plan, names: &[AgentName]) -> Vec<u32> {
        let in_order = plan.batches(names.len());
        if plan.canary.is_none() {
            return in_order;
        }
        let canaries = in_order.iter().filter(|batch| **batch == 0).count();
        let is_connected = |name: &AgentName| self.agents.get(name).is_some_and(|row| row.session.is_some());
        let mut left = canaries;
        let mut is_canary: Vec<bool> = names
            .iter()
            .map(|name| {
                let is_canary = left > 0 && is_connected(name);
                left -= usize::from(is_canary);
                is_canary
            })
            .collect();
        for is_canary in is_canary.iter_mut().filter(|is_canary| !**is_canary).take(left) {
            *is_canary = true;
        }
        let mut later = in_order.into_iter().skip(canaries);
        is_canary.into_iter().map(|is_canary| if is_canary { 0 } else { later.next().unwrap_or(0) }).collect()
    }

    /// Returns the time until which a task waits for its agent, on the core's clock.
    pub(super) fn deadline(&self, agent: &AgentName, within_ms: Option<u64>, now: Now) -> Duration {
        let row = self.agents.get(agent);
        let (session, since) = row.map_or((None, None), |row| (row.session.as_ref(), row.offline_since));
        match (within_ms, session, since) {
            (Some(within), ..) => now.monotonic + Duration::from_millis(within),
            (None, Some(session), _) => session.heard + START_WITHIN,
            (None, None, Some(since)) => since + START_WITHIN,
            // The agent has not connected to this master yet: the time counts from the master's start.
            (None, None, None) => START_WITHIN,
        }
    }

    fn new_row_of(&self, index: u32, agent: AgentName, batch: u32) -> TaskRow {
        let fingerprint = self.agents[&agent].stored.fingerprint;
        TaskRow::new(Task { batch, ..Task::queued(index, agent) }, fingerprint, self.first_attempt())
    }

    /// Makes a task of a new job eligible, or ends it. The job's first transaction contains the result.
    fn open_row(&self, row: &mut TaskRow, within_ms: Option<u64>, now: Now) {
        row.progress = Progress::Eligible { queued_at: None };
        let agent = &row.task.agent;
        let drained = || self.drain_of(agent).map(ToString::to_string);
        if let Some(reason) = self.refusal_of_ahead(agent).or_else(drained) {
            return row.end(Ending::Refused(reason.into()).into(), false);
        }
        let session = self.agents[agent].session.as_ref();
        let deadline = self.deadline(agent, within_ms, now);
        row.set_deadline(deadline, now);
        row.life = StartLife::recorded(session.map(|session| session.incarnation.clone()));
        if session.is_some() {
            return;
        }
        if row.start_by <= now.monotonic {
            let text = self.offline_text(&row.task.agent, now);
            row.end(Ending::Undeliverable(text.into()).into(), false);
        } else {
            row.wait_for_agent(now);
        }
    }

    pub(super) fn offline_text(&self, name: &AgentName, now: Now) -> String {
        let Some(row) = self.agents.get(name) else { return "the agent is gone".to_owned() };
        if row.stored.last_seen_ms == UnixMs(0) {
            return "it is enrolled, but never connected".to_owned();
        }
        let silent = now.unix_ms.since(row.stored.last_seen_ms);
        format!(
            "offline for {} (last seen at {}); --start-within 1h waits for it",
            format_duration(silent),
            row.stored.address
        )
    }

    /// Handles a job whose beginning is on the disk: answers all callers that requested it, and queues its
    /// tasks.
    pub(in crate::master::core) fn begin_job(&mut self, id: JobId, reply: ReplyTo<JobStart>, now: Now) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let also_asked = match std::mem::replace(&mut job.phase, Phase::Begun) {
            Phase::Starting { also_asked } => also_asked,
            Phase::Resumed | Phase::Begun => Vec::new(),
        };
        self.last_begun = self.last_begun.max(job.job.number);
        // The tasks that ended at the beginning were written with it. A task that ended since, because its
        // agent was deleted, waits for its own write.
        for index in job.indices_of(|row| matches!(row.progress, Progress::Ended { .. })) {
            job.change(index, |row| row.progress = Progress::Ended { stored: true });
        }
        let is_ready =
            |row: &TaskRow| matches!(row.progress, Progress::Eligible { .. }) && row.task.waiting.is_empty();
        for index in job.indices_of(is_ready) {
            job.enqueue(index, now);
        }
        let view = job.view();
        if let Some(forgotten) = job.forget_values() {
            self.persist(vec![forgotten], Continuation::MustBeWritten);
        }
        for to in also_asked.into_iter().chain([reply]) {
            self.reply(to, JobStart::Live(Box::new(view.clone())));
        }
        self.mark_begun(id);
        self.jobs.mark_changed(id);
        self.end_job_if_over(id, now);
    }
}
