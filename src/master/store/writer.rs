//! The one thread that writes: everything that waits goes into one transaction, and only then is anyone told.
//!
//! What it is given is written in order. Of what the database does not take, that which has happened is kept, in front of
//! all that comes later, and tried again, whatever the reason: a damaged database may be repaired, and nothing that
//! happened may be forgotten without a word. What was only asked for fails.

use std::{
    collections::VecDeque,
    mem,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, Transaction, params};

use crate::{
    domain::{ids::RunId, outcome::Outcome},
    master::core::{
        messages::{Keeping, WriteToken},
        stored::{StoredRun, StoredTask, Write},
    },
};

/// How a write went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on the disk, as part of this revision.
    Done(WriteToken, u64),
    /// It is not yet, for this reason; it is tried again until it is.
    Delayed(WriteToken, String),
    /// It is not and will not be, for this reason.
    Failed(WriteToken, String),
    /// It is not, because the same is there already.
    Conflict(WriteToken),
}

/// Whether an error says that the same row is there already.
fn is_conflict(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
    error.sqlite_error().is_some_and(|error| {
        [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE].contains(&error.extended_code)
    })
}

/// Whether an error is one of the disk, which may go by itself.
fn is_of_disk(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked,
        )
    )
}

/// An error for people, and what to do about one that does not go by itself.
fn explain(error: &rusqlite::Error) -> String {
    if is_of_disk(error) {
        error.to_string()
    } else {
        format!(
            "{error} (`sloth-runner doctor` checks the database, `sloth-runner master salvage` saves what can be read)"
        )
    }
}

/// What is to be written together.
#[derive(Debug)]
struct Job {
    token: WriteToken,
    writes: Vec<Write>,
    keeping: Keeping,
    /// Its delay was told.
    is_told: bool,
}

/// A handle to the thread. The thread ends, after its last write, when this is dropped.
#[derive(Debug)]
pub struct StoreWriter {
    // Unbounded: the core must not wait, and whoever caused a write waits for its end before causing another.
    jobs: Option<Sender<Vec<Job>>>,
    thread: Option<JoinHandle<()>>,
    /// What waits here for others that may go with it, so that the thread does not have to be woken for each.
    waiting: Vec<Job>,
    /// Until when.
    due: Option<Instant>,
}

/// Most writes that go into one transaction, but for those that were given or kept together.
const BATCH: usize = 512;
/// How long a write waits for others that may go with it, where nobody waits for it.
const COMPANY: Duration = Duration::from_millis(5);
/// How long nothing is written before texts are indexed.
const INDEX_AFTER: Duration = Duration::from_millis(200);
/// How often it is tried again to write what was kept.
const RETRY: Duration = Duration::from_millis(500);

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
        let body = move || {
            let kept = VecDeque::new();
            Thread { connection, inbox, written, kept, has_texts: true, is_log_sound: false }.run();
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(body)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), waiting: Vec::new(), due: None })
    }

    /// Writes soon, after all that was to be written before. What is written at leisure waits until it is due, or
    /// something else comes.
    pub fn write(&mut self, token: WriteToken, writes: Vec<Write>, keeping: Keeping) {
        self.waiting.push(Job { token, writes, keeping, is_told: false });
        if keeping == Keeping::AtLeisure && self.waiting.len() < BATCH {
            self.due.get_or_insert_with(|| Instant::now() + COMPANY);
        } else {
            self.send();
        }
    }

    /// When what waits has to be sent.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Gives the thread what waits.
    pub fn send(&mut self) {
        self.due = None;
        let waiting = mem::take(&mut self.waiting);
        if let Some(jobs) = &self.jobs
            && !waiting.is_empty()
        {
            // The thread only ends with this handle.
            let _ = jobs.send(waiting);
        }
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.send();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own state.
struct Thread<F> {
    connection: Connection,
    inbox: Receiver<Vec<Job>>,
    written: F,
    /// What the disk did not take, in order.
    kept: VecDeque<Job>,
    /// There may be runs whose texts are not indexed.
    has_texts: bool,
    /// All that an earlier process left in the write-ahead log is on the disk.
    is_log_sound: bool,
}

impl<F: Fn(Written)> Thread<F> {
    fn run(mut self) {
        loop {
            let first = if self.kept.is_empty() && !self.has_texts {
                self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else if self.kept.is_empty() {
                self.inbox.recv_timeout(INDEX_AFTER)
            } else {
                self.inbox.recv_timeout(RETRY)
            };
            if matches!(first, Err(RecvTimeoutError::Timeout)) && self.kept.is_empty() {
                self.index();
                continue;
            }
            self.has_texts = true;
            let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
            let mut batch: Vec<Job> = self.kept.drain(..).collect();
            batch.extend(first.into_iter().flatten());
            while batch.len() < BATCH
                && let Ok(more) = self.inbox.try_recv()
            {
                batch.extend(more);
            }
            self.write(batch);
            if is_over {
                return leave(self.connection);
            }
        }
    }

    /// Indexes texts, while there is nothing else to do: nobody waits for that.
    fn index(&mut self) {
        self.has_texts = index_texts(&mut self.connection).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot index what runs were; they are found more slowly");
            false
        });
    }

    fn commit(&mut self, batch: &[Job]) -> rusqlite::Result<u64> {
        if !self.is_log_sound {
            empty_log(&self.connection)?;
            self.is_log_sound = true;
        }
        commit(&mut self.connection, batch)
    }

    /// Overwrites a failed commit in the write-ahead log, which may hold all of it: another process would find it there.
    /// `SQLite` writes nothing for a commit that changes nothing.
    fn overwrite_failed(&self) -> rusqlite::Result<()> {
        self.connection.execute("UPDATE meta SET revision = revision + 1", []).map(drop)
    }

    fn write(&mut self, batch: Vec<Job>) {
        let error = match self.commit(&batch) {
            Ok(revision) => {
                return batch.iter().for_each(|job| (self.written)(Written::Done(job.token, revision)));
            }
            Err(error) => error,
        };
        // One of them may be impossible by itself; the others must not suffer for it.
        let mut alone = (batch.len() == 1).then_some(Err(error));
        let mut trouble: Option<String> = None;
        for job in batch {
            if let Some(reason) = &trouble {
                self.set_aside(job, reason);
                continue;
            }
            let result = alone.take().unwrap_or_else(|| self.commit(std::slice::from_ref(&job)));
            match result {
                Ok(revision) => (self.written)(Written::Done(job.token, revision)),
                Err(error) if job.keeping == Keeping::Asked && is_conflict(&error) => {
                    (self.written)(Written::Conflict(job.token));
                }
                Err(error) => {
                    let mut reason = explain(&error);
                    if job.keeping == Keeping::Asked && is_of_disk(&error) && self.overwrite_failed().is_err()
                    {
                        reason += "; a master that is started before the disk works again may find it there all the same";
                    }
                    let is_kept = job.keeping.is_kept();
                    self.set_aside(job, &reason);
                    // Nothing may be written before what is kept.
                    trouble = is_kept.then_some(reason);
                }
            }
        }
    }

    /// Keeps what has happened, and gives up what has not.
    fn set_aside(&mut self, mut job: Job, reason: &str) {
        if !job.keeping.is_kept() {
            return (self.written)(Written::Failed(job.token, reason.to_owned()));
        }
        if !mem::replace(&mut job.is_told, true) {
            tracing::error!(
                reason,
                "the database does not take what has happened; it is kept and tried again"
            );
            (self.written)(Written::Delayed(job.token, reason.to_owned()));
        }
        self.kept.push_back(job);
    }
}

/// Brings everything that the write-ahead log holds into the database itself, so that nothing is read from the log any more:
/// a sync of it may have failed, and then it is in the system's memory alone, and looks as if it were on the disk.
pub(super) fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (frames, moved) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], counts)?;
    // Somebody reads an older state: it is tried again.
    let is_busy =
        || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
    if frames == moved { Ok(()) } else { Err(is_busy()) }
}

/// Leaves the database at the master's end, with everything in its own file and an empty write-ahead log beside it. Closed,
/// `SQLite` would remove the log, and a master that is started on a full disk could not make another one.
fn leave(connection: Connection) {
    // What cannot be moved now is moved at the next start.
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    mem::forget(connection);
}

fn commit(connection: &mut Connection, batch: &[Job]) -> rusqlite::Result<u64> {
    let transaction = connection.transaction()?;
    for write in batch.iter().flat_map(|job| &job.writes) {
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
                    "INSERT OR REPLACE INTO agents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
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
                    agent.drain.as_ref().map(to_json).transpose()?,
                    agent.ahead.as_ref().map(to_json).transpose()?
                ])?;
        }
        Write::DeleteAgent(name) => {
            transaction.prepare_cached("DELETE FROM agents WHERE name = ?1")?.execute([name.as_str()])?;
        }
        Write::PutToken(token) => {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO tokens VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    token.hash,
                    token.expires_ms,
                    token.uses_left,
                    token.made_ms,
                    token.made_by
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
        Write::StartTask(id, started_ms) => {
            transaction
                .prepare_cached(
                    "UPDATE tasks SET started_ms = coalesce(started_ms, ?3) WHERE run = ?1 AND position = ?2",
                )?
                .execute(params![id.run.to_string(), id.index, started_ms])?;
        }
        Write::DeleteRun(run, reason) => {
            let run = run.to_string();
            transaction.prepare_cached("DELETE FROM tasks WHERE run = ?1")?.execute([&run])?;
            let number = "(SELECT number FROM runs WHERE id = ?1)";
            transaction
                .prepare_cached(&format!("DELETE FROM texts WHERE rowid = {number}"))?
                .execute([&run])?;
            transaction
                .prepare_cached(&format!(
                    "DELETE FROM outcomes WHERE number = {number} AND kind IN \
                     ('signaled', 'timed_out', 'cancelled', 'refused', 'undeliverable', 'lost', 'skipped')"
                ))?
                .execute([&run])?;
            transaction
                .prepare_cached("UPDATE runs SET gone = ?2 WHERE id = ?1 AND ended_ms IS NOT NULL")?
                .execute(params![run, reason])?;
        }
        Write::PutTerm(term) => {
            transaction.prepare_cached("UPDATE meta SET term = max(term, ?1)")?.execute([term])?;
        }
        Write::PutClock(ms) => {
            transaction.prepare_cached("UPDATE meta SET clock_ms = ?1")?.execute([ms])?;
        }
        Write::PutLater(id, outcome) => {
            let outcome = to_json(outcome)?;
            transaction
                .prepare_cached(
                    "UPDATE tasks SET later = ?3 \
                     WHERE run = ?1 AND position = ?2 AND outcome IS NOT NULL AND outcome <> ?3",
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
             started_ms, duration_ns, end_offset, batch, start_by_ms, cancelled_by, number) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
             coalesce((SELECT number FROM runs WHERE id = ?1), 0))",
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
    // Nearly every run has a task that exited: those are found without an entry.
    if let Some((kind, _)) = outcome.map(Outcome::kind).filter(|(kind, _)| *kind != "exited") {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO outcomes SELECT ?2, number FROM runs WHERE id = ?1")?
            .execute(params![run.to_string(), kind])?;
    }
    Ok(())
}

/// Runs whose texts are indexed at once.
const INDEXED_AT_ONCE: u64 = 1_000;

/// Indexes the texts of runs that are not indexed yet, some of the oldest of them. False when there are none.
pub(super) fn index_texts(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let (indexed, last): (u64, u64) = transaction
        .prepare_cached("SELECT indexed, (SELECT coalesce(max(number), 0) FROM runs) FROM meta")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let to = last.min(indexed + INDEXED_AT_ONCE);
    if to <= indexed {
        return Ok(false);
    }
    transaction
        .prepare_cached(
            "INSERT INTO texts (rowid, command, target) \
             SELECT number, command, target FROM runs WHERE number > ?1 AND number <= ?2 AND gone IS NULL",
        )?
        .execute([indexed, to])?;
    transaction.prepare_cached("UPDATE meta SET indexed = ?1")?.execute([to])?;
    transaction.commit()?;
    Ok(true)
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

#[cfg(test)]
mod tests {
    use rusqlite::{Error, ffi};

    use super::*;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn what_goes_by_itself_is_told_from_what_needs_somebody() {
        let disk = [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_READONLY, ffi::SQLITE_BUSY];
        for code in disk {
            assert!(is_of_disk(&failure(code)) && !is_conflict(&failure(code)), "{code}");
            assert!(!explain(&failure(code)).contains("salvage"), "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_CONSTRAINT_NOTNULL] {
            assert!(!is_of_disk(&failure(code)) && !is_conflict(&failure(code)), "{code}");
            assert!(explain(&failure(code)).contains("`sloth-runner master salvage`"), "{code}");
        }
        for code in [ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_UNIQUE] {
            assert!(is_conflict(&failure(code)) && !is_of_disk(&failure(code)), "{code}");
        }
    }
}
