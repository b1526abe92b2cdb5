//! Maps the stored data to rows: writes it, and reads it back. Knows nothing of transactions.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    domain::{
        bounded::{Line, Reason},
        command::Command,
        fingerprint::Fingerprint,
        ids::{JobId, JobReference},
        job::{Job, JobOptions, LastJob, Task, TaskState},
        name::{AgentName, Labels},
        outcome::Outcome,
        seal::Seal,
    },
    master::core::stored::{StoredAgent, StoredJob, StoredOperator, StoredTask, Write},
};

/// The columns of a job, in the order in which [`job`] reads them.
pub(super) const COLUMNS: &str = "jobs.id, jobs.number, operator, jobs.target, plain_name, jobs.command, options, created_ms, ended_ms, \
    left_out, task_count, \
    coalesce(jobs.succeeded, (SELECT count(*) FROM tasks WHERE job = jobs.id AND succeeded)), \
    CASE WHEN ended_ms IS NULL THEN (SELECT count(*) FROM tasks WHERE job = jobs.id AND outcome IS NULL) ELSE 0 END, \
    gate";

fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Does what a write asks for, within a transaction.
pub(super) fn apply(transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::PutAgent(agent) => {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO agents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                )?
                .execute(params![
                    agent.name.as_str(),
                    agent.fingerprint.to_string(),
                    agent.enrolled_ms,
                    agent.last_seen_ms,
                    to_json(&agent.labels)?,
                    agent.version.as_str(),
                    agent.address,
                    agent.trust.as_str(),
                    to_json(&agent.set_labels)?,
                    agent.drain.as_ref().map(to_json).transpose()?,
                    agent.ahead.as_ref().map(to_json).transpose()?,
                    agent.proof.map(String::from),
                    to_json(&agent.accepted)?
                ])?;
        }
        Write::DeleteAgent(name) => {
            transaction.prepare_cached("DELETE FROM agents WHERE name = ?1")?.execute([name.as_str()])?;
        }
        Write::PutToken(token) => {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    token.hash,
                    token.expires_ms,
                    token.uses_left,
                    token.made_ms,
                    token.made_by,
                    to_json(&token.terms)?
                ])?;
        }
        Write::DeleteToken(hash) => {
            transaction.prepare_cached("DELETE FROM tokens WHERE hash = ?1")?.execute([hash])?;
        }
        Write::PutOperator(operator) => {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO operators VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    operator.name.as_str(),
                    operator.role.word(),
                    operator.unix_user,
                    to_json(&operator.keys)?,
                    operator.login.as_ref().map(to_json).transpose()?,
                    operator.added_ms,
                    operator.added_by,
                    operator.logged_in_ms,
                    operator.is_revoked
                ])?;
        }
        Write::PutJob(stored) => put_job(transaction, "INSERT", stored)?,
        Write::Recover(stored) => {
            put_job(transaction, "INSERT OR IGNORE", stored)?;
            transaction
                .prepare_cached(
                    "UPDATE jobs SET ended_ms = NULL, \
                     task_count = (SELECT count(*) FROM tasks WHERE job = jobs.id) WHERE id = ?1",
                )?
                .execute([stored.job.id.to_string()])?;
        }
        Write::PutTask(job, task) => put_task(transaction, *job, task)?,
        Write::StartTask(id, started_ms) => {
            transaction
                .prepare_cached(
                    "UPDATE tasks SET started_ms = coalesce(started_ms, ?3) WHERE job = ?1 AND position = ?2",
                )?
                .execute(params![id.job.to_string(), id.index, started_ms])?;
        }
        Write::DeleteJob(job, reason) => {
            let job = job.to_string();
            transaction.prepare_cached("DELETE FROM tasks WHERE job = ?1")?.execute([&job])?;
            let number = "(SELECT number FROM jobs WHERE id = ?1)";
            transaction
                .prepare_cached(&format!("DELETE FROM texts WHERE rowid = {number}"))?
                .execute([&job])?;
            transaction
                .prepare_cached(&format!(
                    "DELETE FROM outcomes WHERE number = {number} AND kind IN \
                     ('signaled', 'timed_out', 'cancelled', 'refused', 'undeliverable', 'lost', 'skipped')"
                ))?
                .execute([&job])?;
            transaction
                .prepare_cached(
                    "UPDATE jobs SET gone = ?2, command = ?3, options = ?4 \
                     WHERE id = ?1 AND ended_ms IS NOT NULL",
                )?
                .execute(params![job, reason, ERASED_COMMAND, to_json(&JobOptions::default())?])?;
        }
        Write::PutTerm(term) => {
            transaction.prepare_cached("UPDATE meta SET term = max(term, ?1)")?.execute([term])?;
        }
        Write::PutClock(ms) => {
            transaction.prepare_cached("UPDATE meta SET clock_ms = ?1")?.execute([ms])?;
        }
        Write::PutLater(id, outcome) => {
            let record = transaction
                .prepare_cached("SELECT cancelled_by FROM tasks WHERE job = ?1 AND position = ?2")?
                .query_row(params![id.job.to_string(), id.index], |row| row.get::<_, Option<String>>(0))
                .optional()?;
            let Some(by) = record else { return Ok(()) };
            let outcome = to_json(&outcome.clone().cancelled_on_record(by.map(Into::into)))?;
            transaction
                .prepare_cached(
                    "UPDATE tasks SET later = ?3 \
                     WHERE job = ?1 AND position = ?2 AND outcome IS NOT NULL AND outcome <> ?3",
                )?
                .execute(params![id.job.to_string(), id.index, outcome])?;
        }
        Write::PutGate(job, gate) => {
            transaction
                .prepare_cached("UPDATE jobs SET gate = ?2 WHERE id = ?1")?
                .execute(params![job.to_string(), to_json(gate)?])?;
        }
        Write::PutOptions(job, options) => {
            transaction
                .prepare_cached("UPDATE jobs SET options = ?2 WHERE id = ?1")?
                .execute(params![job.to_string(), to_json(options.as_ref())?])?;
        }
        Write::EndJob(job, ended_ms) => {
            transaction
                .prepare_cached(
                    "UPDATE jobs SET ended_ms = ?2, \
                     succeeded = (SELECT count(*) FROM tasks WHERE job = jobs.id AND succeeded) WHERE id = ?1",
                )?
                .execute(params![job.to_string(), ended_ms])?;
        }
        Write::Audit { at_ms, actor, action, subject, detail } => {
            transaction
                .prepare_cached(
                    "INSERT INTO audit (at_ms, actor, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![at_ms, actor, action, subject, detail])?;
        }
    }
    Ok(())
}

/// The command of a job that is gone: nobody is shown it, and the real one may hold secrets.
pub(super) const ERASED_COMMAND: &str = r#"["erased"]"#;

fn put_task(transaction: &Transaction<'_>, job: JobId, stored: &StoredTask) -> rusqlite::Result<()> {
    let task = &stored.task;
    let outcome = task.state.outcome();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO tasks (job, position, agent, fingerprint, incarnation, outcome, succeeded, \
             started_ms, duration_ns, end_offset, batch, start_by_ms, cancelled_by, number) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
             coalesce((SELECT number FROM jobs WHERE id = ?1), 0))",
        )?
        .execute(params![
            job.to_string(),
            task.index,
            task.agent.as_str(),
            stored.fingerprint.to_string(),
            stored.incarnation.as_ref().map(ToString::to_string),
            outcome.map(to_json).transpose()?,
            outcome.is_some_and(Outcome::is_success),
            task.started_ms,
            task.duration_ns,
            task.end_offset,
            task.batch,
            stored.start_by_ms,
            stored.cancelled_by.as_deref()
        ])?;
    // Nearly every job has a task that exited: those are found without an entry.
    if let Some((kind, _)) = outcome.map(Outcome::kind).filter(|(kind, _)| *kind != "exited") {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO outcomes SELECT ?2, number FROM jobs WHERE id = ?1")?
            .execute(params![job.to_string(), kind])?;
    }
    Ok(())
}

fn put_job(transaction: &Transaction<'_>, insert: &str, stored: &StoredJob) -> rusqlite::Result<()> {
    let job = &stored.job;
    transaction
        .prepare_cached(&format!(
            "{insert} INTO jobs (id, number, operator, target, plain_name, command, options, created_ms, ended_ms, \
             left_out, task_count) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        ))?
        .execute(params![
            job.id.to_string(),
            job.number,
            job.operator.as_str(),
            job.target.as_str(),
            job.plain_name,
            to_json(&job.command)?,
            to_json(&stored.options)?,
            job.created_ms,
            job.ended_ms,
            to_json(&job.left_out)?,
            job.task_count
        ])?;
    stored.tasks.iter().try_for_each(|task| put_task(transaction, job.id, task))
}

/// A column that holds something's text.
pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| bad_column(column, format!("{text:?} is not valid")))
}

/// A column that holds one line of text.
fn line<const MAX: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<Line<MAX>> {
    row.get::<_, String>(column).map(Into::into)
}

/// A column that holds JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| bad_column(column, error.to_string()))
}

/// A column that holds JSON, or nothing.
pub(super) fn optional_json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    let read = |text: String| serde_json::from_str(&text);
    text.map(read).transpose().map_err(|error| bad_column(column, error.to_string()))
}

pub(super) fn bad_column(column: usize, text: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, text.into())
}

pub(super) fn agent(row: &Row<'_>) -> rusqlite::Result<StoredAgent> {
    Ok(StoredAgent {
        name: parsed(row, 0)?,
        fingerprint: parsed(row, 1)?,
        enrolled_ms: row.get(2)?,
        last_seen_ms: row.get(3)?,
        labels: json::<Labels>(row, 4)?,
        version: line(row, 5)?,
        address: row.get(6)?,
        trust: line(row, 7)?,
        set_labels: json::<Labels>(row, 8)?,
        drain: optional_json(row, 9)?,
        ahead: optional_json(row, 10)?,
        proof: row.get::<_, Option<String>>(11)?.and_then(|seal| Seal::try_from(seal).ok()),
        accepted: json(row, 12)?,
    })
}

pub(super) fn operator(row: &Row<'_>) -> rusqlite::Result<StoredOperator> {
    Ok(StoredOperator {
        name: parsed(row, 0)?,
        role: parsed(row, 1)?,
        unix_user: row.get(2)?,
        keys: json::<Vec<Fingerprint>>(row, 3)?,
        login: optional_json(row, 4)?,
        added_ms: row.get(5)?,
        added_by: row.get(6)?,
        logged_in_ms: row.get(7)?,
        is_revoked: row.get(8)?,
    })
}

pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<StoredJob> {
    let options: JobOptions = json(row, 6)?;
    let job = Job {
        id: parsed(row, 0)?,
        number: row.get(1)?,
        operator: line(row, 2)?,
        target: line(row, 3)?,
        plain_name: row.get(4)?,
        command: json::<Command>(row, 5)?,
        created_ms: row.get(7)?,
        ended_ms: row.get(8)?,
        tasks: Vec::new(),
        task_count: row.get(10)?,
        succeeded: row.get(11)?,
        unfinished: row.get(12)?,
        left_out: json(row, 9)?,
        gate: json(row, 13)?,
        masks: options.plan.masks,
        command_left_out: 0,
    };
    Ok(StoredJob { job, options, tasks: Vec::new() })
}

pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<StoredTask> {
    let incarnation: Option<String> = row.get(3)?;
    let cancelled_by: Option<String> = row.get(10)?;
    let state = task_state(row, 4, 3, 5)?;
    let task = Task {
        index: row.get(0)?,
        agent: parsed(row, 1)?,
        state,
        no_contact_since_ms: None,
        started_ms: row.get(5)?,
        duration_ns: row.get(6)?,
        end_offset: row.get(7)?,
        batch: row.get(8)?,
        waiting: Reason::default(),
        later: row.get::<_, Option<String>>(11)?.map(|_| json(row, 11)).transpose()?,
    };
    Ok(StoredTask {
        task,
        fingerprint: parsed(row, 2)?,
        incarnation: incarnation.map(Into::into),
        start_by_ms: row.get(9)?,
        cancelled_by: cancelled_by.map(Into::into),
    })
}

/// What each agent did last: one look into an index for each, however many tasks there are.
pub(super) fn last_jobs(
    connection: &Connection,
    agents: &[StoredAgent],
) -> rusqlite::Result<Vec<(AgentName, LastJob)>> {
    let mut statement = connection.prepare(
        "SELECT number, (SELECT operator FROM jobs WHERE jobs.number = tasks.number), outcome, incarnation, started_ms \
         FROM tasks WHERE agent = ?1 ORDER BY number DESC LIMIT 1",
    )?;
    let last = |row: &Row<'_>| {
        let state = task_state(row, 2, 3, 4)?;
        Ok(LastJob { number: row.get(0)?, operator: line(row, 1)?, state, no_contact: false })
    };
    let mut found = Vec::new();
    for agent in agents {
        let last = statement.query_row([agent.name.as_str()], last).optional()?;
        found.extend(last.map(|last| (agent.name.clone(), last)));
    }
    Ok(found)
}

/// Where a task is, by the columns of its outcome, of its agent's incarnation, and of its start.
pub(super) fn task_state(
    row: &Row<'_>,
    outcome: usize,
    incarnation: usize,
    started: usize,
) -> rusqlite::Result<TaskState> {
    if let Some(outcome) = optional_json::<Outcome>(row, outcome)? {
        return Ok(TaskState::Ended(outcome));
    }
    let is_sent = row.get::<_, Option<String>>(incarnation)?.is_some();
    Ok(match row.get::<_, Option<u64>>(started)? {
        Some(_) => TaskState::Running,
        None if is_sent => TaskState::Dispatched,
        None => TaskState::Queued,
    })
}

pub(super) fn load_job(
    connection: &Connection,
    reference: JobReference,
) -> rusqlite::Result<Option<StoredJob>> {
    let found = match reference {
        JobReference::Id(id) => connection
            .query_row(
                &format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1 AND gone IS NULL"),
                [id.to_string()],
                job,
            )
            .optional()?,
        JobReference::Number(number) => connection
            .query_row(
                &format!("SELECT {COLUMNS} FROM jobs WHERE number = ?1 AND gone IS NULL"),
                [number],
                job,
            )
            .optional()?,
        JobReference::Last => connection
            .query_row(
                &format!("SELECT {COLUMNS} FROM jobs WHERE gone IS NULL ORDER BY number DESC LIMIT 1"),
                [],
                job,
            )
            .optional()?,
    };
    let Some(mut found) = found else { return Ok(None) };
    let mut statement = connection.prepare(
        "SELECT position, agent, fingerprint, incarnation, outcome, started_ms, duration_ns, end_offset, batch, \
         start_by_ms, cancelled_by, later FROM tasks WHERE job = ?1 ORDER BY position",
    )?;
    let tasks = statement.query_map([found.job.id.to_string()], task)?;
    found.tasks = tasks.collect::<rusqlite::Result<_>>()?;
    Ok(Some(found))
}
