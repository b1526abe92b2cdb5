//! The one thread that writes: everything that waits goes into one transaction, and only then is anyone told.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use rusqlite::{Connection, Transaction, params};

use crate::{
    domain::{ids::RunId, outcome::Outcome},
    master::core::{
        messages::WriteToken,
        stored::{StoredRun, StoredTask, Write},
    },
};

/// How a write went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on the disk, as part of this revision.
    Done(WriteToken, u64),
    /// It is not, for this reason.
    Failed(WriteToken, String),
    /// It is not, because the same is there already.
    Conflict(WriteToken),
}

impl Written {
    fn failed(token: WriteToken, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => Self::Conflict(token),
            _ => Self::Failed(token, error.to_string()),
        }
    }
}

/// A handle to the thread. The thread ends, after its last write, when this is dropped.
#[derive(Debug)]
pub struct StoreWriter {
    // Unbounded: the core must not wait, and whoever caused a write waits for its end before causing another.
    jobs: Option<Sender<(WriteToken, Vec<Write>)>>,
    thread: Option<JoinHandle<()>>,
}

/// Most writes that go into one transaction.
const BATCH: usize = 512;

impl StoreWriter {
    /// Starts the thread. `written` is called from it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        connection: Connection,
        written: impl Fn(Written) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        let body = move || run(connection, &inbox, written);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(body)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Writes soon.
    pub fn write(&self, token: WriteToken, writes: Vec<Write>) {
        if let Some(jobs) = &self.jobs {
            // The thread only ends with this handle.
            let _ = jobs.send((token, writes));
        }
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut connection: Connection, inbox: &Receiver<(WriteToken, Vec<Write>)>, written: impl Fn(Written)) {
    while let Ok(first) = inbox.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = inbox.try_recv()
        {
            batch.push(next);
        }
        match commit(&mut connection, &batch) {
            Ok(revision) => batch.iter().for_each(|(token, _)| written(Written::Done(*token, revision))),
            Err(_) if batch.len() > 1 => {
                // One of them may be impossible by itself; the others must not suffer for it.
                for job in &batch {
                    written(match commit(&mut connection, std::slice::from_ref(job)) {
                        Ok(revision) => Written::Done(job.0, revision),
                        Err(error) => Written::failed(job.0, &error),
                    });
                }
            }
            Err(error) => written(Written::failed(batch[0].0, &error)),
        }
    }
}

fn commit(connection: &mut Connection, batch: &[(WriteToken, Vec<Write>)]) -> rusqlite::Result<u64> {
    let transaction = connection.transaction()?;
    for write in batch.iter().flat_map(|(_, writes)| writes) {
        apply(&transaction, write)?;
    }
    let revision = transaction
        .prepare_cached("UPDATE meta SET revision = revision + 1 RETURNING revision")?
        .query_row([], |row| row.get(0))?;
    transaction.commit()?;
    Ok(revision)
}

fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn apply(transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::PutAgent(agent) => {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO agents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    agent.name.as_str(),
                    agent.fingerprint.to_string(),
                    agent.enrolled_ms,
                    agent.last_seen_ms,
                    to_json(&agent.labels)?,
                    agent.version,
                    agent.address,
                    agent.trust,
                    to_json(&agent.set_labels)?,
                    agent.drain.as_ref().map(to_json).transpose()?
                ])?;
        }
        Write::DeleteAgent(name) => {
            transaction.prepare_cached("DELETE FROM agents WHERE name = ?1")?.execute([name.as_str()])?;
        }
        Write::PutToken(token) => {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO tokens VALUES (?1, ?2, ?3)")?
                .execute(params![token.hash, token.expires_ms, token.uses_left])?;
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
        Write::PutRun(stored) => put_run(transaction, "INSERT", stored)?,
        Write::TakeBack(stored) => {
            put_run(transaction, "INSERT OR IGNORE", stored)?;
            transaction
                .prepare_cached(
                    "UPDATE runs SET ended_ms = NULL, \
                     task_count = (SELECT count(*) FROM tasks WHERE run = runs.id) WHERE id = ?1",
                )?
                .execute([stored.run.id.to_string()])?;
        }
        Write::PutTask(run, task) => put_task(transaction, *run, task)?,
        Write::DeleteRun(run, reason) => {
            let run = run.to_string();
            transaction.prepare_cached("DELETE FROM tasks WHERE run = ?1")?.execute([&run])?;
            transaction
                .prepare_cached("UPDATE runs SET gone = ?2 WHERE id = ?1 AND ended_ms IS NOT NULL")?
                .execute(params![run, reason])?;
        }
        Write::PutClock(ms) => {
            transaction.prepare_cached("UPDATE meta SET clock_ms = ?1")?.execute([ms])?;
        }
        Write::PutLater(id, outcome) => {
            let outcome = to_json(outcome)?;
            transaction
                .prepare_cached(
                    "UPDATE tasks SET later = ?3 WHERE run = ?1 AND position = ?2 AND outcome <> ?3",
                )?
                .execute(params![id.run.to_string(), id.index, outcome])?;
        }
        Write::PutGate(run, gate) => {
            transaction
                .prepare_cached("UPDATE runs SET gate = ?2 WHERE id = ?1")?
                .execute(params![run.to_string(), to_json(gate)?])?;
        }
        Write::EndRun(run, ended_ms) => {
            transaction
                .prepare_cached(
                    "UPDATE runs SET ended_ms = ?2, \
                     succeeded = (SELECT count(*) FROM tasks WHERE run = runs.id AND succeeded) WHERE id = ?1",
                )?
                .execute(params![run.to_string(), ended_ms])?;
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

fn put_task(transaction: &Transaction<'_>, run: RunId, stored: &StoredTask) -> rusqlite::Result<()> {
    let task = &stored.task;
    let outcome = task.state.outcome();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO tasks (run, position, agent, fingerprint, incarnation, outcome, succeeded, \
             started_ms, duration_ns, end_offset, batch, start_by_ms, cancelled_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            run.to_string(),
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
            stored.cancelled_by
        ])?;
    Ok(())
}

fn put_run(transaction: &Transaction<'_>, insert: &str, stored: &StoredRun) -> rusqlite::Result<()> {
    let run = &stored.run;
    transaction
        .prepare_cached(&format!(
            "{insert} INTO runs (id, number, operator, target, plain_name, command, options, created_ms, ended_ms, \
             left_out, task_count) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        ))?
        .execute(params![
            run.id.to_string(),
            run.number,
            run.operator,
            run.target,
            run.plain_name,
            to_json(&run.command)?,
            to_json(&stored.options)?,
            run.created_ms,
            run.ended_ms,
            to_json(&run.left_out)?,
            run.task_count
        ])?;
    stored.tasks.iter().try_for_each(|task| put_task(transaction, run.id, task))
}
