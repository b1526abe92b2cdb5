//! The store: agents, tokens, operators, jobs, tasks and audit records in `SQLite`. Output is stored elsewhere.
//!
//! One thread writes, and takes all that waits into one transaction; readers share a few connections of their own.

mod listing;
mod rows;
pub mod salvage;
mod schema;
mod writer;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use rows::{json, last_jobs, load_job, parsed};

pub use listing::Wanted;
pub use writer::{StoreWriter, Written};

use super::core::{
    Remembered,
    stored::{InStore, KnownNumber, KnownTask, StoredJob},
};
use crate::{
    domain::{
        ids::{JobId, JobReference},
        job::{Job, JobOptions},
        name::AgentName,
    },
    sys::{file::sync_directory, paths::make_owners},
};

/// The database's name in the data directory.
const FILE: &str = "sloth-runner.db";
/// How long another connection is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// What the store cannot do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `SQLite` cannot.
    #[error("the database {path}: {source}{}", way_out(source))]
    Sqlite {
        /// Which file.
        path: String,
        /// The cause of the error.
        source: rusqlite::Error,
    },
    /// Its files cannot be made, or not the owner's alone.
    #[error("the database {path} cannot be made, or not this user's alone: {source}")]
    File {
        /// Which file.
        path: String,
        /// The cause of the error.
        source: std::io::Error,
    },
    /// It could not be copied before its format is changed.
    #[error(
        "the database {path} is of an older format, and cannot be copied to {copy} before it is converted: {source}{}",
        no_copy(source)
    )]
    Backup {
        /// Which file.
        path: String,
        /// Where the copy would be.
        copy: String,
        /// The cause of the error.
        source: rusqlite::Error,
    },
    /// It was written by a newer version.
    #[error(
        "the database {path} was written by a newer version (its format is {found}, this version knows {known}); use that version"
    )]
    TooNew {
        /// Which file.
        path: String,
        /// Its format.
        found: usize,
        /// The newest that is known.
        known: usize,
    },
}

/// What to do about a database that is damaged.
fn way_out(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            "; `sloth-runner master salvage` saves what can be read of it"
        }
        _ => "",
    }
}

/// What to do about a database that cannot be copied.
fn no_copy(error: &rusqlite::Error) -> &'static str {
    match way_out(error) {
        "" => "; make room, or move the copy that is there",
        way_out => way_out,
    }
}

/// Bytes of the write-ahead log at which `SQLite` begins to write it over: 1,000 pages, each with its header.
const LOG: u64 = 1_000 * (4_096 + 24) + 32;

/// The write-ahead log of a database.
fn log_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Fills a write-ahead log that is not as long yet with zeros, in which `SQLite` finds nothing: a commit into a file that
/// grows has the disk write the file's new size too, and every job begins with one.
fn make_room_in_log(path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    let missing = LOG.saturating_sub(file.metadata()?.len());
    std::io::copy(&mut std::io::repeat(0).take(missing), &mut file)?;
    file.sync_all()
}

/// Connections for reading that are kept for the next ones.
const MOST_READERS: usize = 4;

/// Where the store lies; lends connections for reading.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    readers: Arc<Mutex<Vec<Connection>>>,
}

impl Store {
    fn at(path: PathBuf) -> Self {
        Self { path, readers: Arc::default() }
    }

    /// Opens the store of a data directory, and makes it on the first start.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(directory: &Path) -> Result<(Self, Connection), StoreError> {
        let store = Self::at(directory.join(FILE));
        // SQLite would let everybody read it, and gives the files beside it the same mode.
        let file = |source| StoreError::File { path: store.path.display().to_string(), source };
        make_owners(&store.path).map_err(file)?;
        let mut connection = store.connect().map_err(|source| store.error(source))?;
        let found = schema::format(&connection).map_err(|source| store.error(source))?;
        if found > schema::VERSION {
            let path = store.path.display().to_string();
            return Err(StoreError::TooNew { path, found, known: schema::VERSION });
        }
        if (1..schema::VERSION).contains(&found) {
            store.keep_copy(&connection, found)?;
        }
        schema::migrate(&mut connection).map_err(|source| store.error(source))?;
        // Only now: of a new database SQLite makes the log anew.
        if let Err(error) = make_room_in_log(&log_of(&directory.join(FILE))) {
            tracing::warn!(%error, "the database's log has no room in it; each job begins a little later");
        }
        Ok((store, connection))
    }

    /// Copies a database before it is converted: an older version of the program can only read the copy.
    fn keep_copy(&self, connection: &Connection, format: usize) -> Result<(), StoreError> {
        let copy = self.path.with_extension(format!("db.format-{format}"));
        let (path, shown) = (self.path.display().to_string(), copy.display().to_string());
        let file = |source| StoreError::File { path: shown.clone(), source };
        // SQLite fills a file that is there and empty, and keeps its mode. One that was not finished is no copy.
        let part = copy.with_extension(format!("format-{format}.part"));
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file(error)),
            _ => make_owners(&part).map_err(file)?,
        }
        let copied = connection.execute("VACUUM INTO ?1", [part.display().to_string()]);
        copied.map_err(|source| StoreError::Backup { path, copy: shown.clone(), source })?;
        // Converting may outlive a power failure, and then the copy has to.
        std::fs::File::open(&part).and_then(|part| part.sync_all()).map_err(file)?;
        std::fs::rename(&part, &copy).map_err(file)?;
        copy.parent().map_or(Ok(()), sync_directory).map_err(file)?;
        tracing::info!(copy = shown, "copied the database before it is converted");
        Ok(())
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite { path: self.path.display().to_string(), source }
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // What is deleted may have been a secret.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.busy_timeout(BUSY)?;
        Ok(connection)
    }

    /// Reads with a connection that nobody else uses meanwhile. Call it where blocking is allowed.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = readers().pop();
        let lent = kept.map_or_else(|| self.connect(), Ok).and_then(|connection| {
            let found = read(&connection)?;
            Ok((connection, found))
        });
        // One with which reading failed is not used again.
        let (connection, found) = lent.map_err(|source| self.error(source))?;
        let mut readers = readers();
        if readers.len() < MOST_READERS {
            readers.push(connection);
        }
        Ok(found)
    }

    /// Everything that a core continues from.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn remembered(&self, connection: &Connection) -> Result<Remembered, StoreError> {
        let read = || {
            let (agents, tokens, operators) =
                (rows::agents(connection)?, rows::tokens(connection)?, rows::operators(connection)?);
            let mut statement = connection
                .prepare("SELECT id FROM jobs WHERE gone IS NULL AND ended_ms IS NULL ORDER BY number")?;
            let ids = statement.query_map([], |row| parsed::<JobId>(row, "id"))?;
            let ids: Vec<JobId> = ids.collect::<rusqlite::Result<_>>()?;
            let mut jobs = Vec::new();
            for id in ids {
                jobs.extend(load_job(connection, JobReference::Id(id))?);
            }
            let last_number =
                connection.query_row("SELECT coalesce(max(number), 0) FROM jobs", [], |row| row.get(0))?;
            let meta = |row: &Row<'_>| {
                Ok((row.get("epoch")?, row.get("revision")?, row.get("term")?, row.get("clock_ms")?))
            };
            let (epoch, revision, term, judged_ms) =
                connection.query_row("SELECT epoch, revision, term, clock_ms FROM meta", [], meta)?;
            let last_jobs = last_jobs(connection, &agents)?;
            Ok(Remembered {
                agents,
                tokens,
                operators,
                jobs,
                last_jobs,
                last_number,
                epoch,
                revision,
                term,
                judged_ms,
                trouble: None,
            })
        };
        read().map_err(|source| self.error(source))
    }

    /// Begins another epoch, before anything else is written: agents that have seen a later state of the store are
    /// believed again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_epoch(&self, connection: &Connection, epoch: u64) -> Result<(), StoreError> {
        let written = connection
            .execute("UPDATE meta SET epoch = ?1", [epoch])
            .and_then(|_| connection.execute("UPDATE agents SET ahead = NULL", []));
        written.map(drop).map_err(|source| self.error(source))
    }

    /// Counts a start of a master, and returns its term. What was read before is on the disk then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_term(&self, connection: &Connection) -> Result<u64, StoreError> {
        let begun = writer::empty_log(connection).and_then(|()| {
            connection.query_row("UPDATE meta SET term = term + 1 RETURNING term", [], |row| row.get(0))
        });
        begun.map_err(|source| self.error(source))
    }

    /// A job with its tasks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn job(&self, reference: JobReference) -> Result<Option<Job>, StoreError> {
        Ok(self.stored_job(reference)?.map(|stored| {
            let tasks = stored.tasks.into_iter().map(|stored| stored.task).collect();
            Job { tasks, ..stored.job }
        }))
    }

    /// What there is to know of tasks that an agent still has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(
        &self,
        agent: &AgentName,
        known: Vec<KnownTask>,
    ) -> Result<Vec<(KnownTask, InStore)>, StoreError> {
        self.read(|connection| {
            let found = |known: KnownTask| find(connection, agent, &known).map(|found| (known, found));
            known.into_iter().map(found).collect()
        })
    }

    /// Jobs without their tasks, newest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn jobs(&self, wanted: &Wanted) -> Result<Vec<Job>, StoreError> {
        self.read(|connection| listing::jobs(connection, wanted))
    }

    /// Whether the texts of all jobs are in the index by which they are found.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_indexed(&self) -> Result<bool, StoreError> {
        let query = "SELECT indexed >= (SELECT coalesce(max(number), 0) FROM jobs) FROM meta";
        self.read(|connection| connection.query_row(query, [], |row| row.get(0)))
    }

    /// A job with everything that was asked for.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stored_job(&self, reference: JobReference) -> Result<Option<StoredJob>, StoreError> {
        self.read(|connection| load_job(connection, reference))
    }

    /// Why a job is gone, where it is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn why_gone(&self, reference: JobReference) -> Result<Option<String>, StoreError> {
        let (column, value) = match reference {
            JobReference::Id(id) => ("id", id.to_string()),
            JobReference::Number(number) => ("number", number.to_string()),
            JobReference::Last => return Ok(None),
        };
        let query = format!("SELECT gone FROM jobs WHERE {column} = ?1 AND gone IS NOT NULL");
        self.read(|connection| connection.query_row(&query, [value], |row| row.get(0)).optional())
    }

    /// Jobs that are over and not gone, oldest end first, and the time by which ages were judged last; 0 for never.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn ended(&self) -> Result<(Vec<Ended>, u64), StoreError> {
        self.read(|connection| {
            let clock = connection.query_row("SELECT clock_ms FROM meta", [], |row| row.get(0))?;
            let mut statement = connection.prepare(
                "SELECT id, number, ended_ms FROM jobs WHERE gone IS NULL AND ended_ms IS NOT NULL ORDER BY ended_ms",
            )?;
            let ended = |row: &Row<'_>| {
                Ok(Ended {
                    id: parsed(row, "id")?,
                    number: row.get("number")?,
                    ended_ms: row.get("ended_ms")?,
                })
            };
            Ok((statement.query_map([], ended)?.collect::<rusqlite::Result<_>>()?, clock))
        })
    }

    /// Those of these jobs that are gone, and those that the store does not know.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn gone_and_unknown(&self, jobs: &[JobId]) -> Result<(Vec<JobId>, Vec<JobId>), StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare("SELECT gone IS NOT NULL FROM jobs WHERE id = ?1")?;
            let (mut gone, mut unknown) = (Vec::new(), Vec::new());
            for job in jobs {
                match statement.query_row([job.to_string()], |row| row.get(0)).optional()? {
                    Some(true) => gone.push(*job),
                    Some(false) => {}
                    None => unknown.push(*job),
                }
            }
            Ok((gone, unknown))
        })
    }
}

fn find(connection: &Connection, agent: &AgentName, known: &KnownTask) -> rusqlite::Result<InStore> {
    let id = known.id.job.to_string();
    let job = |row: &Row<'_>| {
        let gone: Option<String> = row.get("gone")?;
        Ok((gone, json::<JobOptions>(row, "options")?, row.get::<_, u64>("number")?))
    };
    let job = connection
        .prepare_cached("SELECT gone, options, number FROM jobs WHERE id = ?1")?
        .query_row([&id], job)
        .optional()?;
    if matches!(&job, Some((Some(_), ..))) {
        return Ok(InStore::Deleted);
    }
    let task = |row: &Row<'_>| Ok((row.get::<_, String>("agent")?, row.get::<_, bool>("has_ended")?));
    let task = connection
        .prepare_cached(
            "SELECT agent, outcome IS NOT NULL AS has_ended FROM tasks WHERE job = ?1 AND position = ?2",
        )?
        .query_row(params![id, known.id.index], task)
        .optional()?;
    match (task, job) {
        (Some((owner, has_ended)), _) if owner == agent.as_str() => {
            return Ok(if has_ended { InStore::Ended } else { InStore::Open });
        }
        (Some(_), _) => return Ok(InStore::Foreign),
        (None, _) if !known.is_proved => return Ok(InStore::Unproved),
        // Of a job that the store knows, it knows all tasks, unless agents told of them.
        (None, Some((_, options, _))) if !options.recovered => return Ok(InStore::Foreign),
        (None, Some((.., number))) => return Ok(InStore::Nothing { number: KnownNumber::Is(number) }),
        (None, None) => {}
    }
    let taken = connection
        .prepare_cached("SELECT 1 FROM jobs WHERE number = ?1")?
        .query_row([known.spec.job_number], |_| Ok(()))
        .optional()?;
    let number = if taken.is_some() { KnownNumber::Taken } else { KnownNumber::Free };
    Ok(InStore::Nothing { number })
}

/// A job that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The id of the job.
    pub id: JobId,
    /// Its number.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub ended_ms: u64,
}

#[cfg(test)]
mod tests;
