//! The thread that writes: all waiting changes go into one transaction, and callers are notified after it.
//!
//! Changes are written in order. When a write fails, its durability decides. A change that has already
//! happened is kept before all later ones and retried, whatever the reason is: a damaged database may be
//! repaired, and such a change must not be lost silently. A change that was only requested fails.

use std::{
    collections::VecDeque,
    mem,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};

use super::{BUSY_TIMEOUT, log_of, make_room_in_log, rows::apply};
use crate::{
    master::core::{
        messages::{WriteDurability, WriteId},
        stored::Write,
    },
    sys::vital::Vital,
};

/// The result of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on the disk, as part of this revision.
    Done(WriteId, u64),
    /// It is not on the disk yet, for this reason. It is retried until it is.
    Delayed(WriteId, String),
    /// It is not on the disk and will not be, for this reason.
    Failed(WriteId, String),
    /// It is not on the disk, because a row with the same key already exists.
    Conflict(WriteId),
}

/// Reports whether an error means that a row with the same key already exists.
fn is_conflict(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
    error.sqlite_error().is_some_and(|error| {
        [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE].contains(&error.extended_code)
    })
}

/// Reports whether an error comes from the system (disk, memory or locks), so that it may disappear without a
/// repair.
fn is_transient(error: &rusqlite::Error) -> bool {
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

/// Returns the text of an error, with advice if it does not disappear without a repair.
fn explain(error: &rusqlite::Error) -> String {
    if is_transient(error) {
        error.to_string()
    } else {
        format!(
            "{error} (`sloth-runner doctor` checks the database, `sloth-runner master salvage` saves what can be read)"
        )
    }
}

/// Reports whether a write erases data that may be secret.
fn erases(write: &Write) -> bool {
    matches!(write, Write::DeleteJob(..) | Write::PutOptions(..))
}

/// Changes that are written together.
#[derive(Debug)]
struct Transaction {
    token: WriteId,
    writes: Vec<Write>,
    durability: WriteDurability,
    /// Whether its delay was reported.
    is_told: bool,
}

/// A handle to the thread. The thread ends, after its last write, when this is dropped.
#[derive(Debug)]
pub struct StoreWriter {
    // Unbounded: the core must not wait, and each caller waits for its write before it causes another.
    transactions: Option<Sender<Vec<Transaction>>>,
    thread: Option<JoinHandle<()>>,
    /// Transactions that wait for others, so that the thread is not woken for each of them.
    waiting: Vec<Transaction>,
    /// When `waiting` must be sent.
    due: Option<Instant>,
}

/// Maximum number of transactions that are committed together, unless more were sent or kept together.
const MAX_BATCH: usize = 512;
/// How long a write that no caller waits for waits for others, to be committed with them.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// How long the thread must be idle before texts are indexed.
const INDEX_AFTER: Duration = Duration::from_millis(200);
/// Interval at which kept changes are retried.
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
        let (transactions, inbox) = channel();
        let body = move || {
            let _vital = Vital::new("the store's thread");
            let kept = VecDeque::new();
            Thread {
                connection,
                inbox,
                written,
                kept,
                has_texts: true,
                has_erased: true,
                is_log_sound: false,
            }
            .run();
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(body)?;
        Ok(Self { transactions: Some(transactions), thread: Some(thread), waiting: Vec::new(), due: None })
    }

    /// Writes soon, and after all earlier writes. A `RetryBatched` write waits until it is due, or until another write
    /// comes.
    pub fn write(&mut self, token: WriteId, writes: Vec<Write>, durability: WriteDurability) {
        self.waiting.push(Transaction { token, writes, durability, is_told: false });
        if durability == WriteDurability::RetryBatched && self.waiting.len() < MAX_BATCH {
            self.due.get_or_insert_with(|| Instant::now() + BATCH_DELAY);
        } else {
            self.send();
        }
    }

    /// Returns when the waiting transactions must be sent.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Sends the waiting transactions to the thread.
    pub fn send(&mut self) {
        self.due = None;
        let waiting = mem::take(&mut self.waiting);
        if let Some(transactions) = &self.transactions
            && !waiting.is_empty()
        {
            // The thread only ends with this handle.
            let _ = transactions.send(waiting);
        }
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.send();
        self.transactions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own state.
struct Thread<F> {
    connection: Connection,
    inbox: Receiver<Vec<Transaction>>,
    written: F,
    /// Transactions that failed and are retried, in order.
    kept: VecDeque<Transaction>,
    /// Whether there may be jobs whose texts are not indexed.
    has_texts: bool,
    /// Whether the write-ahead log may still contain erased data.
    has_erased: bool,
    /// Whether everything that an earlier process left in the write-ahead log is on the disk.
    is_log_sound: bool,
}

impl<F: Fn(Written)> Thread<F> {
    fn run(mut self) {
        loop {
            let first = if self.kept.is_empty() && !self.has_texts && !self.has_erased {
                self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else if self.kept.is_empty() {
                self.inbox.recv_timeout(INDEX_AFTER)
            } else {
                self.inbox.recv_timeout(RETRY)
            };
            if matches!(first, Err(RecvTimeoutError::Timeout)) && self.kept.is_empty() {
                self.tidy();
                continue;
            }
            self.has_texts = true;
            let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
            let mut batch: Vec<Transaction> = self.kept.drain(..).collect();
            batch.extend(first.into_iter().flatten());
            while batch.len() < MAX_BATCH
                && let Ok(more) = self.inbox.try_recv()
            {
                batch.extend(more);
            }
            self.write(batch);
            if is_over {
                return close_without_removal(self.connection);
            }
        }
    }

    /// Does work that no caller waits for, while the thread is idle: indexes texts, and removes erased data
    /// from the write-ahead log.
    fn tidy(&mut self) {
        if self.has_erased {
            // Not possible while a reader uses an older state.
            self.has_erased = !clear_log(&self.connection).unwrap_or_else(|error| {
                tracing::warn!(%error, "what was erased is still in the write-ahead log");
                true
            });
        }
        self.has_texts = index_texts(&mut self.connection).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot index the texts of jobs; they are found more slowly");
            false
        });
    }

    fn commit(&mut self, batch: &[Transaction]) -> rusqlite::Result<u64> {
        if !self.is_log_sound {
            checkpoint(&self.connection)?;
            self.is_log_sound = true;
        }
        commit(&mut self.connection, batch)
    }

    /// Overwrites a failed commit in the write-ahead log, which may contain all of it: another process would
    /// find it there. Changes the revision, since `SQLite` writes nothing for a commit that changes nothing.
    fn overwrite_failed(&self) -> rusqlite::Result<()> {
        self.connection.execute("UPDATE meta SET revision = revision + 1", []).map(drop)
    }

    fn write(&mut self, batch: Vec<Transaction>) {
        let error = match self.commit(&batch) {
            Ok(revision) => {
                self.has_erased |= batch.iter().flat_map(|transaction| &transaction.writes).any(erases);
                return batch
                    .iter()
                    .for_each(|transaction| (self.written)(Written::Done(transaction.token, revision)));
            }
            Err(error) => error,
        };
        // One transaction may be impossible by itself, which must not affect the others.
        let mut alone = (batch.len() == 1).then_some(Err(error));
        let mut trouble: Option<String> = None;
        for transaction in batch {
            if let Some(reason) = &trouble {
                self.keep_or_fail(transaction, reason);
                continue;
            }
            let result = alone.take().unwrap_or_else(|| self.commit(std::slice::from_ref(&transaction)));
            match result {
                Ok(revision) => {
                    self.has_erased |= transaction.writes.iter().any(erases);
                    (self.written)(Written::Done(transaction.token, revision));
                }
                Err(error)
                    if transaction.durability == WriteDurability::FailOnError && is_conflict(&error) =>
                {
                    (self.written)(Written::Conflict(transaction.token));
                }
                Err(error) => {
                    let mut reason = explain(&error);
                    if transaction.durability == WriteDurability::FailOnError
                        && is_transient(&error)
                        && self.overwrite_failed().is_err()
                    {
                        reason += "; a master that is started before the disk works again may find it there all the same";
                    }
                    let is_kept = transaction.durability.is_retried();
                    self.keep_or_fail(transaction, &reason);
                    // Nothing may be written before the kept transactions.
                    trouble = is_kept.then_some(reason);
                }
            }
        }
    }

    /// Keeps a transaction that must be retried. Reports the failure of any other.
    fn keep_or_fail(&mut self, mut transaction: Transaction, reason: &str) {
        if !transaction.durability.is_retried() {
            return (self.written)(Written::Failed(transaction.token, reason.to_owned()));
        }
        if !mem::replace(&mut transaction.is_told, true) {
            tracing::error!(reason, "cannot write a change to the database; it is kept and retried");
            (self.written)(Written::Delayed(transaction.token, reason.to_owned()));
        }
        self.kept.push_back(transaction);
    }
}

/// Moves the contents of the write-ahead log into the database itself, so that nothing is read from the log
/// any more. If a sync of the log failed earlier, its contents exist only in the memory of the system, but
/// look as if they were on the disk.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (frames, moved) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], counts)?;
    // A reader uses an older state. The caller tries again.
    let is_busy =
        || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
    if frames == moved { Ok(()) } else { Err(is_busy()) }
}

/// Truncates the write-ahead log if no reader uses it, and extends it with zeros again: a log that cannot
/// grow on a full disk accepts no commit. Returns true if it was truncated.
fn clear_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::ZERO)?;
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let is_cleared = !is_busy?;
    if is_cleared && let Some(path) = connection.path() {
        // If this fails, the log grows when needed.
        let _ = make_room_in_log(&log_of(Path::new(path)));
    }
    Ok(is_cleared)
}

/// Leaves the database when the master ends: everything is in the database file, and an empty write-ahead log
/// stays beside it. `SQLite` would remove the log when the connection is closed, and a master that starts on
/// a full disk could not create another one.
fn close_without_removal(connection: Connection) {
    // If this fails, the next start does it.
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    mem::forget(connection);
}

fn commit(connection: &mut Connection, batch: &[Transaction]) -> rusqlite::Result<u64> {
    let transaction = connection.transaction()?;
    for write in batch.iter().flat_map(|transaction| &transaction.writes) {
        apply(&transaction, write)?;
    }
    let revision = transaction
        .prepare_cached("UPDATE meta SET revision = revision + 1 RETURNING revision")?
        .query_row([], |row| row.get(0))?;
    transaction.commit()?;
    Ok(revision)
}

/// Maximum number of jobs whose texts are indexed at once.
const INDEXED_AT_ONCE: u64 = 1_000;

/// Indexes the texts of the oldest jobs that are not indexed yet. Returns false if there are none.
pub(super) fn index_texts(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let (indexed, last): (u64, u64) = transaction
        .prepare_cached("SELECT indexed, (SELECT coalesce(max(number), 0) FROM jobs) FROM meta")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let to = last.min(indexed + INDEXED_AT_ONCE);
    if to <= indexed {
        return Ok(false);
    }
    transaction
        .prepare_cached(
            "INSERT INTO texts (rowid, command, target) \
             SELECT number, command, target FROM jobs WHERE number > ?1 AND number <= ?2 AND gone IS NULL",
        )?
        .execute([indexed, to])?;
    transaction.prepare_cached("UPDATE meta SET indexed = ?1")?.execute([to])?;
    transaction.commit()?;
    Ok(true)
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
            assert!(is_transient(&failure(code)) && !is_conflict(&failure(code)), "{code}");
            assert!(!explain(&failure(code)).contains("salvage"), "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_CONSTRAINT_NOTNULL] {
            assert!(!is_transient(&failure(code)) && !is_conflict(&failure(code)), "{code}");
            assert!(explain(&failure(code)).contains("`sloth-runner master salvage`"), "{code}");
        }
        for code in [ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_UNIQUE] {
            assert!(is_conflict(&failure(code)) && !is_transient(&failure(code)), "{code}");
        }
    }
}
