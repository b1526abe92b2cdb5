//! The thread that writes: all waiting changes go into one transaction, and callers are notified after it.
//!
//! What it is given is written in order. Of what the database does not take, that which has happened is kept, in front of
//! all that comes later, and tried again, whatever the reason: a damaged database may be repaired, and nothing that
//! happened may be forgotten without a word. What was only asked for fails.

use std::{
    collections::VecDeque,
    mem,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};

use super::{BUSY, log_of, make_room_in_log, rows::apply};
use crate::{
    master::core::{
        messages::{WriteDurability, WriteId},
        stored::Write,
    },
    sys::vital::Vital,
};

/// How a write went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on the disk, as part of this revision.
    Done(WriteId, u64),
    /// It is not yet, for this reason; it is tried again until it is.
    Delayed(WriteId, String),
    /// It is not and will not be, for this reason.
    Failed(WriteId, String),
    /// It is not, because the same is there already.
    Conflict(WriteId),
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

/// Whether what the database no longer holds after this may be a secret.
fn erases(write: &Write) -> bool {
    matches!(write, Write::DeleteJob(..) | Write::PutOptions(..))
}

/// What is to be written together.
#[derive(Debug)]
struct Transaction {
    token: WriteId,
    writes: Vec<Write>,
    durability: WriteDurability,
    /// Its delay was told.
    is_told: bool,
}

/// A handle to the thread. The thread ends, after its last write, when this is dropped.
#[derive(Debug)]
pub struct StoreWriter {
    // Unbounded: the core must not wait, and whoever caused a write waits for its end before causing another.
    transactions: Option<Sender<Vec<Transaction>>>,
    thread: Option<JoinHandle<()>>,
    /// What waits here for others that may go with it, so that the thread does not have to be woken for each.
    waiting: Vec<Transaction>,
    /// Until when.
    due: Option<Instant>,
}

/// Most writes that go into one transaction, but for those that were given or kept together.
const BATCH: usize = 512;
/// How long a write waits for others that may go with it, where nobody waits for it.
const BATCH_DELAY: Duration = Duration::from_millis(5);
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
        if durability == WriteDurability::RetryBatched && self.waiting.len() < BATCH {
            self.due.get_or_insert_with(|| Instant::now() + BATCH_DELAY);
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
    /// What the disk did not take, in order.
    kept: VecDeque<Transaction>,
    /// There may be jobs whose texts are not indexed.
    has_texts: bool,
    /// The write-ahead log may still hold what was erased.
    has_erased: bool,
    /// All that an earlier process left in the write-ahead log is on the disk.
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

    /// While there is nothing else to do, for nobody waits for it: indexes texts, and takes what was erased out of the
    /// write-ahead log.
    fn tidy(&mut self) {
        if self.has_erased {
            // Not while somebody reads an older state.
            self.has_erased = !clear_log(&self.connection).unwrap_or_else(|error| {
                tracing::warn!(%error, "what was erased is still in the write-ahead log");
                true
            });
        }
        self.has_texts = index_texts(&mut self.connection).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot index what jobs were; they are found more slowly");
            false
        });
    }

    fn commit(&mut self, batch: &[Transaction]) -> rusqlite::Result<u64> {
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
        // One of them may be impossible by itself; the others must not suffer for it.
        let mut alone = (batch.len() == 1).then_some(Err(error));
        let mut trouble: Option<String> = None;
        for transaction in batch {
            if let Some(reason) = &trouble {
                self.set_aside(transaction, reason);
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
                        && is_of_disk(&error)
                        && self.overwrite_failed().is_err()
                    {
                        reason += "; a master that is started before the disk works again may find it there all the same";
                    }
                    let is_kept = transaction.durability.is_retried();
                    self.set_aside(transaction, &reason);
                    // Nothing may be written before what is kept.
                    trouble = is_kept.then_some(reason);
                }
            }
        }
    }

    /// Keeps what has happened, and gives up what has not.
    fn set_aside(&mut self, mut transaction: Transaction, reason: &str) {
        if !transaction.durability.is_retried() {
            return (self.written)(Written::Failed(transaction.token, reason.to_owned()));
        }
        if !mem::replace(&mut transaction.is_told, true) {
            tracing::error!(
                reason,
                "the database does not take what has happened; it is kept and tried again"
            );
            (self.written)(Written::Delayed(transaction.token, reason.to_owned()));
        }
        self.kept.push_back(transaction);
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

/// Empties the write-ahead log's file too, where nobody reads from it just now, and fills it with zeros: a log that cannot
/// grow again on a full disk takes nothing.
fn clear_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::ZERO)?;
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(BUSY)?;
    let is_cleared = !is_busy?;
    if is_cleared && let Some(path) = connection.path() {
        // What it lacks of its room it takes when it is needed.
        let _ = make_room_in_log(&log_of(Path::new(path)));
    }
    Ok(is_cleared)
}

/// Leaves the database at the master's end, with everything in its own file and an empty write-ahead log beside it. Closed,
/// `SQLite` would remove the log, and a master that is started on a full disk could not make another one.
fn leave(connection: Connection) {
    // What cannot be moved now is moved at the next start.
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

/// Jobs whose texts are indexed at once.
const INDEXED_AT_ONCE: u64 = 1_000;

/// Indexes the texts of jobs that are not indexed yet, some of the oldest of them. False when there are none.
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
