//! Maps the stored data to rows: writes it, and reads it back. Knows nothing of transactions.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params, params, types::Value};

use crate::{
    domain::{
        bounded::{Line, Reason},
        command::Command,
        fingerprint::Fingerprint,
        ids::{JobId, JobReference, TaskId},
        job::{Job, JobOptions, LastJob, Task, TaskState},
        name::{AgentName, Labels},
        outcome::Outcome,
        seal::Seal,
    },
    master::core::stored::{StoredAgent, StoredJob, StoredOperator, StoredTask, StoredToken, Write},
};

/// The columns of an agent.
const AGENT: [&str; 13] = [
    "name",
    "fingerprint",
    "enrolled_ms",
    "last_seen_ms",
    "labels",
    "version",
    "address",
    "trust",
    "set_labels",
    "drain",
    "ahead",
    "proof",
    "accepted",
];

/// The columns of a join token.
const TOKEN: [&str; 6] = ["hash", "expires_ms", "uses_left", "made_ms", "made_by", "terms"];

/// The columns of an operator.
const OPERATOR: [&str; 9] =
    ["name", "role", "unix_user", "keys", "login", "added_ms", "added_by", "logged_in_ms", "revoked"];

/// The columns of a job, and counts of its tasks.
pub(super) const JOB: &str = "jobs.id, jobs.number, operator, jobs.target, plain_name, jobs.command, options, created_ms, \
    ended_ms, left_out, task_count, gate, \
    coalesce(jobs.succeeded, (SELECT count(*) FROM tasks WHERE job = jobs.id AND succeeded)) AS well, \
    CASE WHEN ended_ms IS NULL THEN (SELECT count(*) FROM tasks WHERE job = jobs.id AND outcome IS NULL) ELSE 0 END \
    AS unfinished";

/// The columns of a task that are read.
const TASK: &str = "position, agent, fingerprint, incarnation, outcome, started_ms, duration_ns, end_offset, batch, \
    start_by_ms, cancelled_by, later";

/// Returns a statement that inserts a row, or updates the row with the same key. The name of each column is
/// its parameter.
fn upsert(table: &str, key: &str, columns: &[&str]) -> String {
    let changed = columns.iter().filter(|column| **column != key);
    let changed: Vec<String> = changed.map(|column| format!("{column} = excluded.{column}")).collect();
    format!(
        "INSERT INTO {table} ({}) VALUES (:{}) ON CONFLICT ({key}) DO UPDATE SET {}",
        columns.join(", "),
        columns.join(", :"),
        changed.join(", ")
    )
}

static PUT_AGENT: LazyLock<String> = LazyLock::new(|| upsert("agents", "name", &AGENT));
static PUT_TOKEN: LazyLock<String> = LazyLock::new(|| upsert("tokens", "hash", &TOKEN));
static PUT_OPERATOR: LazyLock<String> = LazyLock::new(|| upsert("operators", "name", &OPERATOR));

/// Inserts or updates a task. An outcome that was reported after its end stays.
const PUT_TASK: &str = "INSERT INTO tasks (job, position, agent, fingerprint, incarnation, outcome, succeeded, started_ms, \
    duration_ns, end_offset, batch, start_by_ms, cancelled_by, number) \
    VALUES (:job, :position, :agent, :fingerprint, :incarnation, :outcome, :succeeded, :started_ms, :duration_ns, \
    :end_offset, :batch, :start_by_ms, :cancelled_by, coalesce((SELECT number FROM jobs WHERE id = :job), 0)) \
    ON CONFLICT (job, position) DO UPDATE SET agent = excluded.agent, fingerprint = excluded.fingerprint, \
    incarnation = excluded.incarnation, outcome = excluded.outcome, succeeded = excluded.succeeded, \
    started_ms = excluded.started_ms, duration_ns = excluded.duration_ns, end_offset = excluded.end_offset, \
    batch = excluded.batch, start_by_ms = excluded.start_by_ms, cancelled_by = excluded.cancelled_by, \
    number = excluded.number";

fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Executes a write within a transaction.
pub(super) fn apply(transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::PutAgent(agent) => put_agent(transaction, agent)?,
        Write::DeleteAgent(name) => {
            transaction.prepare_cached("DELETE FROM agents WHERE name = ?1")?.execute([name.as_str()])?;
        }
        Write::PutToken(token) => put_token(transaction, token)?,
        Write::DeleteToken(hash) => {
            transaction.prepare_cached("DELETE FROM tokens WHERE hash = ?1")?.execute([hash])?;
        }
        Write::PutOperator(operator) => put_operator(transaction, operator)?,
        Write::PutJob(stored) => put_job(transaction, stored, "")?,
        Write::Recover(stored) => {
            put_job(transaction, stored, "ON CONFLICT DO NOTHING")?;
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
        Write::DeleteJob(job, reason) => delete_job(transaction, *job, reason)?,
        Write::PutTerm(term) => {
            transaction.prepare_cached("UPDATE meta SET term = max(term, ?1)")?.execute([term])?;
        }
        Write::PutClock(ms) => {
            transaction.prepare_cached("UPDATE meta SET clock_ms = ?1")?.execute([ms])?;
        }
        Write::PutLater(id, outcome) => put_late_outcome(transaction, *id, outcome)?,
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

fn put_agent(transaction: &Transaction<'_>, agent: &StoredAgent) -> rusqlite::Result<()> {
    transaction.prepare_cached(&PUT_AGENT)?.execute(named_params! {
        ":name": agent.name.as_str(),
        ":fingerprint": agent.fingerprint.to_string(),
        ":enrolled_ms": agent.enrolled_ms,
        ":last_seen_ms": agent.last_seen_ms,
        ":labels": to_json(&agent.labels)?,
        ":version": agent.version.as_str(),
        ":address": agent.address,
        ":trust": agent.trust.as_str(),
        ":set_labels": to_json(&agent.set_labels)?,
        ":drain": agent.drain.as_ref().map(to_json).transpose()?,
        ":ahead": agent.ahead.as_ref().map(to_json).transpose()?,
        ":proof": agent.proof.map(String::from),
        ":accepted": to_json(&agent.accepted)?,
    })?;
    Ok(())
}

fn put_token(transaction: &Transaction<'_>, token: &StoredToken) -> rusqlite::Result<()> {
    transaction.prepare_cached(&PUT_TOKEN)?.execute(named_params! {
        ":hash": token.hash,
        ":expires_ms": token.expires_ms,
        ":uses_left": token.uses_left,
        ":made_ms": token.made_ms,
        ":made_by": token.made_by,
        ":terms": to_json(&token.terms)?,
    })?;
    Ok(())
}

fn put_operator(transaction: &Transaction<'_>, operator: &StoredOperator) -> rusqlite::Result<()> {
    transaction.prepare_cached(&PUT_OPERATOR)?.execute(named_params! {
        ":name": operator.name.as_str(),
        ":role": operator.role.word(),
        ":unix_user": operator.unix_user,
        ":keys": to_json(&operator.keys)?,
        ":login": operator.login.as_ref().map(to_json).transpose()?,
        ":added_ms": operator.added_ms,
        ":added_by": operator.added_by,
        ":logged_in_ms": operator.logged_in_ms,
        ":revoked": operator.is_revoked,
    })?;
    Ok(())
}

/// Deletes a job. Its row stays without command and options, and with the reason.
fn delete_job(transaction: &Transaction<'_>, job: JobId, reason: &str) -> rusqlite::Result<()> {
    let job = job.to_string();
    transaction.prepare_cached("DELETE FROM tasks WHERE job = ?1")?.execute([&job])?;
    let number = "(SELECT number FROM jobs WHERE id = ?1)";
    transaction.prepare_cached(&format!("DELETE FROM texts WHERE rowid = {number}"))?.execute([&job])?;
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
    Ok(())
}

/// Stores an outcome that was reported after the end of a task.
fn put_late_outcome(transaction: &Transaction<'_>, id: TaskId, outcome: &Outcome) -> rusqlite::Result<()> {
    let record = transaction
        .prepare_cached("SELECT cancelled_by FROM tasks WHERE job = ?1 AND position = ?2")?
        .query_row(params![id.job.to_string(), id.index], |row| row.get::<_, Option<String>>("cancelled_by"))
        .optional()?;
    let Some(by) = record else { return Ok(()) };
    let outcome = to_json(&outcome.clone().cancelled_on_record(by.map(Into::into)))?;
    transaction
        .prepare_cached(
            "UPDATE tasks SET later = ?3 \
             WHERE job = ?1 AND position = ?2 AND outcome IS NOT NULL AND outcome <> ?3",
        )?
        .execute(params![id.job.to_string(), id.index, outcome])?;
    Ok(())
}

/// The command of a deleted job. It is never shown, and the real one may contain secrets.
pub(super) const ERASED_COMMAND: &str = r#"["erased"]"#;

fn put_task(transaction: &Transaction<'_>, job: JobId, stored: &StoredTask) -> rusqlite::Result<()> {
    let task = &stored.task;
    let outcome = task.state.outcome();
    transaction.prepare_cached(PUT_TASK)?.execute(named_params! {
        ":job": job.to_string(),
        ":position": task.index,
        ":agent": task.agent.as_str(),
        ":fingerprint": stored.fingerprint.to_string(),
        ":incarnation": stored.incarnation.as_ref().map(ToString::to_string),
        ":outcome": outcome.map(to_json).transpose()?,
        ":succeeded": outcome.is_some_and(Outcome::is_success),
        ":started_ms": task.started_ms,
        ":duration_ns": task.duration_ns,
        ":end_offset": task.end_offset,
        ":batch": task.batch,
        ":start_by_ms": stored.start_by_ms,
        ":cancelled_by": stored.cancelled_by.as_deref(),
    })?;
    // Nearly every job has a task that exited: these tasks are found without an entry.
    if let Some((kind, _)) = outcome.map(Outcome::kind).filter(|(kind, _)| *kind != "exited") {
        transaction
            .prepare_cached(
                "INSERT INTO outcomes (kind, number) SELECT ?2, number FROM jobs WHERE id = ?1 \
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![job.to_string(), kind])?;
    }
    Ok(())
}

/// Inserts a new job. `otherwise` is the clause for a job that already exists.
fn put_job(transaction: &Transaction<'_>, stored: &StoredJob, otherwise: &str) -> rusqlite::Result<()> {
    let job = &stored.job;
    let insert = format!(
        "INSERT INTO jobs (id, number, operator, target, plain_name, command, options, created_ms, ended_ms, left_out, \
         task_count) VALUES (:id, :number, :operator, :target, :plain_name, :command, :options, :created_ms, :ended_ms, \
         :left_out, :task_count) {otherwise}"
    );
    transaction.prepare_cached(&insert)?.execute(named_params! {
        ":id": job.id.to_string(),
        ":number": job.number,
        ":operator": job.operator.as_str(),
        ":target": job.target.as_str(),
        ":plain_name": job.plain_name,
        ":command": to_json(&job.command)?,
        ":options": to_json(&stored.options)?,
        ":created_ms": job.created_ms,
        ":ended_ms": job.ended_ms,
        ":left_out": to_json(&job.left_out)?,
        ":task_count": job.task_count,
    })?;
    stored.tasks.iter().try_for_each(|task| put_task(transaction, job.id, task))
}

/// Reads a column with text, and parses it.
pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| bad_column(row, column, format!("{text:?} is not valid")))
}

/// Reads a column with one line of text.
fn line<const MAX: usize>(row: &Row<'_>, column: &str) -> rusqlite::Result<Line<MAX>> {
    row.get::<_, String>(column).map(Into::into)
}

/// Reads a column with JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| bad_column(row, column, error.to_string()))
}

/// Reads a column with JSON or NULL.
fn optional_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    let read = |text: String| serde_json::from_str(&text);
    text.map(read).transpose().map_err(|error| bad_column(row, column, error.to_string()))
}

fn bad_column(row: &Row<'_>, column: &str, text: String) -> rusqlite::Error {
    let at = row.as_ref().column_index(column).unwrap_or_default();
    let text = format!("{column}: {text}");
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, text.into())
}

/// Reads all agents.
pub(super) fn agents(connection: &Connection) -> rusqlite::Result<Vec<StoredAgent>> {
    let agent = |row: &Row<'_>| {
        Ok(StoredAgent {
            name: parsed(row, "name")?,
            fingerprint: parsed(row, "fingerprint")?,
            enrolled_ms: row.get("enrolled_ms")?,
            last_seen_ms: row.get("last_seen_ms")?,
            labels: json::<Labels>(row, "labels")?,
            version: line(row, "version")?,
            address: row.get("address")?,
            trust: line(row, "trust")?,
            set_labels: json::<Labels>(row, "set_labels")?,
            drain: optional_json(row, "drain")?,
            ahead: optional_json(row, "ahead")?,
            proof: row.get::<_, Option<String>>("proof")?.and_then(|seal| Seal::try_from(seal).ok()),
            accepted: json(row, "accepted")?,
        })
    };
    let mut statement = connection.prepare(&format!("SELECT {} FROM agents", AGENT.join(", ")))?;
    statement.query_map([], agent)?.collect()
}

/// Reads all join tokens.
pub(super) fn tokens(connection: &Connection) -> rusqlite::Result<Vec<StoredToken>> {
    let token = |row: &Row<'_>| {
        Ok(StoredToken {
            hash: row.get("hash")?,
            expires_ms: row.get("expires_ms")?,
            uses_left: row.get("uses_left")?,
            made_ms: row.get("made_ms")?,
            made_by: row.get("made_by")?,
            terms: json(row, "terms")?,
        })
    };
    let mut statement = connection.prepare(&format!("SELECT {} FROM tokens", TOKEN.join(", ")))?;
    statement.query_map([], token)?.collect()
}

/// Reads all operators.
pub(super) fn operators(connection: &Connection) -> rusqlite::Result<Vec<StoredOperator>> {
    let operator = |row: &Row<'_>| {
        Ok(StoredOperator {
            name: parsed(row, "name")?,
            role: parsed(row, "role")?,
            unix_user: row.get("unix_user")?,
            keys: json::<Vec<Fingerprint>>(row, "keys")?,
            login: optional_json(row, "login")?,
            added_ms: row.get("added_ms")?,
            added_by: row.get("added_by")?,
            logged_in_ms: row.get("logged_in_ms")?,
            is_revoked: row.get("revoked")?,
        })
    };
    let mut statement = connection.prepare(&format!("SELECT {} FROM operators", OPERATOR.join(", ")))?;
    statement.query_map([], operator)?.collect()
}

/// Reads a job without its tasks from the columns in [`JOB`].
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<StoredJob> {
    let options: JobOptions = json(row, "options")?;
    let job = Job {
        id: parsed(row, "id")?,
        number: row.get("number")?,
        operator: line(row, "operator")?,
        target: line(row, "target")?,
        plain_name: row.get("plain_name")?,
        command: json::<Command>(row, "command")?,
        created_ms: row.get("created_ms")?,
        ended_ms: row.get("ended_ms")?,
        tasks: Vec::new(),
        task_count: row.get("task_count")?,
        succeeded: row.get("well")?,
        unfinished: row.get("unfinished")?,
        left_out: json(row, "left_out")?,
        gate: json(row, "gate")?,
        masks: options.plan.masks,
        command_left_out: 0,
    };
    Ok(StoredJob { job, options, tasks: Vec::new() })
}

/// Reads a task from the columns in [`TASK`].
fn task(row: &Row<'_>) -> rusqlite::Result<StoredTask> {
    let task = Task {
        index: row.get("position")?,
        agent: parsed(row, "agent")?,
        state: task_state(row)?,
        no_contact_since_ms: None,
        started_ms: row.get("started_ms")?,
        duration_ns: row.get("duration_ns")?,
        end_offset: row.get("end_offset")?,
        batch: row.get("batch")?,
        waiting: Reason::default(),
        later: optional_json(row, "later")?,
    };
    Ok(StoredTask {
        task,
        fingerprint: parsed(row, "fingerprint")?,
        incarnation: row.get::<_, Option<String>>("incarnation")?.map(Into::into),
        start_by_ms: row.get("start_by_ms")?,
        cancelled_by: row.get::<_, Option<String>>("cancelled_by")?.map(Into::into),
    })
}

/// Reads the last job of each agent: one lookup in an index for each, however many tasks there are.
pub(super) fn last_jobs(
    connection: &Connection,
    agents: &[StoredAgent],
) -> rusqlite::Result<Vec<(AgentName, LastJob)>> {
    let mut statement = connection.prepare(
        "SELECT number, (SELECT operator FROM jobs WHERE jobs.number = tasks.number) AS operator, outcome, incarnation, \
         started_ms \
         FROM tasks WHERE agent = ?1 ORDER BY number DESC LIMIT 1",
    )?;
    let last = |row: &Row<'_>| {
        let state = task_state(row)?;
        Ok(LastJob { number: row.get("number")?, operator: line(row, "operator")?, state, no_contact: false })
    };
    let mut found = Vec::new();
    for agent in agents {
        let last = statement.query_row([agent.name.as_str()], last).optional()?;
        found.extend(last.map(|last| (agent.name.clone(), last)));
    }
    Ok(found)
}

/// Reads the state of a task from the columns of its outcome, of its agent's incarnation, and of its start.
fn task_state(row: &Row<'_>) -> rusqlite::Result<TaskState> {
    if let Some(outcome) = optional_json::<Outcome>(row, "outcome")? {
        return Ok(TaskState::Ended(outcome));
    }
    let is_sent = row.get::<_, Option<String>>("incarnation")?.is_some();
    Ok(match row.get::<_, Option<u64>>("started_ms")? {
        Some(_) => TaskState::Running,
        None if is_sent => TaskState::Dispatched,
        None => TaskState::Queued,
    })
}

/// Reads a job with its tasks, unless it is deleted.
pub(super) fn load_job(
    connection: &Connection,
    reference: JobReference,
) -> rusqlite::Result<Option<StoredJob>> {
    let (condition, value) = match reference {
        JobReference::Id(id) => ("id = ?1", Value::from(id.to_string())),
        JobReference::Number(number) => {
            ("number = ?1", Value::from(i64::try_from(number).unwrap_or(i64::MAX)))
        }
        JobReference::Last => ("?1 IS NULL ORDER BY number DESC LIMIT 1", Value::Null),
    };
    let found = connection
        .query_row(&format!("SELECT {JOB} FROM jobs WHERE gone IS NULL AND {condition}"), [value], job)
        .optional()?;
    let Some(mut found) = found else { return Ok(None) };
    let mut statement =
        connection.prepare(&format!("SELECT {TASK} FROM tasks WHERE job = ?1 ORDER BY position"))?;
    let tasks = statement.query_map([found.job.id.to_string()], task)?;
    found.tasks = tasks.collect::<rusqlite::Result<_>>()?;
    Ok(Some(found))
}
