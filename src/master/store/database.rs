//! The store: opens the database, and reads it.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    listing::{self, Wanted},
    rows::{self, json, last_jobs, load_job, parsed},
    schema, writer,
};
use crate::{
    domain::{
        ids::{JobId, JobReference},
        job::{Job, JobOptions},
        name::AgentName,
        time::UnixMs,
    },
    master::core::{
        Remembered,
        stored::{KnownTask, StoredJob, StoredJobNumber, StoredTaskState},
    },
    sys::{file::sync_directory, paths::make_owners},
};

/// The database's name in the data directory.
pub(super) const FILE: &str = "sloth-runner.db";
/// How long to wait for another connection.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `SQLite` failed.
    #[error("the database {path}: {source}{}", advice_for_damage(source))]
    Sqlite {
        /// The path of the database.
        path: String,
        /// The cause of the error.
        source: rusqlite::Error,
    },
    /// A file cannot be created, or cannot be made private to its owner.
    #[error("the database {path} cannot be created, or made private to this user: {source}")]
    File {
        /// The path of the database.
        path: String,
        /// The cause of the error.
        source: std::io::Error,
    },
    /// The database could not be copied before the conversion of its format.
    #[error(
        "the database {path} is of an older format, and cannot be copied to {copy} before it is converted: {source}{}",
        no_copy(source)
    )]
    Backup {
        /// The path of the database.
        path: String,
        /// The path of the copy.
        copy: String,
        /// The cause of the error.
        source: rusqlite::Error,
    },
    /// It was written by a newer version.
    #[error(
        "the database {path} was written by a newer version (its format is {found}, this version knows {known}); use that version"
    )]
    TooNew {
        /// The path of the database.
        path: String,
        /// The format of the database.
        found: usize,
        /// The newest format that this version knows.
        known: usize,
    },
}

/// Returns the advice for a damaged database.
fn advice_for_damage(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            "; `sloth-runner master salvage` saves what can be read of it"
        }
        _ => "",
    }
}

/// Returns the advice for a database that cannot be copied.
fn no_copy(error: &rusqlite::Error) -> &'static str {
    match advice_for_damage(error) {
        "" => "; make room, or move the copy that is there",
        way_out => way_out,
    }
}

/// Size of the write-ahead log at which `SQLite` starts to overwrite it, in bytes: 1,000 pages, each with its
/// header.
const LOG_BYTES: u64 = 1_000 * (4_096 + 24) + 32;

/// Returns the path of the write-ahead log of a database.
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Extends a write-ahead log to its full size with zeros, which `SQLite` ignores. A commit to a growing file
/// also writes its new size to the disk, and every job begins with a commit.
pub(super) fn make_room_in_log(path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    let missing = LOG_BYTES.saturating_sub(file.metadata()?.len());
    std::io::copy(&mut std::io::repeat(0).take(missing), &mut file)?;
    file.sync_all()
}

/// Maximum number of idle connections for reading.
const MAX_IDLE_READERS: usize = 4;

/// The path of the store, and its connections for reading.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    pub(super) readers: Arc<Mutex<Vec<Connection>>>,
}

impl Store {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, readers: Arc::default() }
    }

    /// Opens the store of a data directory, or creates it at the first start.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(directory: &Path) -> Result<(Self, Connection), StoreError> {
        let store = Self::at(directory.join(FILE));
        // SQLite would create it readable for all users, and creates the files beside it with the same mode.
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
        // Only now, since SQLite creates the log of a new database again.
        if let Err(error) = make_room_in_log(&log_of(&directory.join(FILE))) {
            tracing::warn!(%error, "cannot reserve space in the database's log; jobs start a little later");
        }
        Ok((store, connection))
    }

    /// Copies a database before it is converted: an older version of the program can only read the copy.
    fn keep_copy(&self, connection: &Connection, format: usize) -> Result<(), StoreError> {
        let copy = self.path.with_extension(format!("db.format-{format}"));
        let (path, shown) = (self.path.display().to_string(), copy.display().to_string());
        let file = |source| StoreError::File { path: shown.clone(), source };
        // SQLite fills an existing empty file, and keeps its mode. An unfinished copy must not have the final
        // name.
        let part = copy.with_extension(format!("format-{format}.part"));
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file(error)),
            _ => make_owners(&part).map_err(file)?,
        }
        let copied = connection.execute("VACUUM INTO ?1", [part.display().to_string()]);
        copied.map_err(|source| StoreError::Backup { path, copy: shown.clone(), source })?;
        // The conversion may survive a power failure, so the copy must survive it too.
        std::fs::File::open(&part).and_then(|part| part.sync_all()).map_err(file)?;
        std::fs::rename(&part, &copy).map_err(file)?;
        copy.parent().map_or(Ok(()), sync_directory).map_err(file)?;
        tracing::info!(copy = shown, "copied the database before it is converted");
        Ok(())
    }

    pub(super) fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite { path: self.path.display().to_string(), source }
    }

    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Deleted data may contain secrets.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    }

    /// Reads with a connection of its own. Call it where blocking is allowed.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = readers().pop();
        let lent = kept.map_or_else(|| self.connect(), Ok).and_then(|connection| {
            let found = read(&connection)?;
            Ok((connection, found))
        });
        // A connection that failed is not used again.
        let (connection, found) = lent.map_err(|source| self.error(source))?;
        let mut readers = readers();
        if readers.len() < MAX_IDLE_READERS {
            readers.push(connection);
        }
        Ok(found)
    }

    /// Returns everything that a core needs to continue.
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

    /// Begins a new epoch. Must come before all other writes. Agents that have seen a later state of the
    /// store are trusted again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_epoch(&self, connection: &Connection, epoch: u64) -> Result<(), StoreError> {
        let written = connection
            .execute("UPDATE meta SET epoch = ?1", [epoch])
            .and_then(|_| connection.execute("UPDATE agents SET ahead = NULL", []));
        written.map(drop).map_err(|source| self.error(source))
    }

    /// Counts a start of a master, and returns its term. Everything that was read before is on the disk then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_term(&self, connection: &Connection) -> Result<u64, StoreError> {
        let begun = writer::checkpoint(connection).and_then(|()| {
            connection.query_row("UPDATE meta SET term = term + 1 RETURNING term", [], |row| row.get(0))
        });
        begun.map_err(|source| self.error(source))
    }

    /// Returns a job with its tasks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn job(&self, reference: JobReference) -> Result<Option<Job>, StoreError> {
        Ok(self.stored_job(reference)?.map(|stored| {
            let tasks = stored.tasks.into_iter().map(|stored| stored.task).collect();
            Job { tasks, ..stored.job }
        }))
    }

    /// Returns what the store knows of tasks that an agent still has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(
        &self,
        agent: &AgentName,
        known: Vec<KnownTask>,
    ) -> Result<Vec<(KnownTask, StoredTaskState)>, StoreError> {
        self.read(|connection| {
            let found = |known: KnownTask| find(connection, agent, &known).map(|found| (known, found));
            known.into_iter().map(found).collect()
        })
    }

    /// Returns jobs without their tasks, newest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn jobs(&self, wanted: &Wanted) -> Result<Vec<Job>, StoreError> {
        self.read(|connection| listing::jobs(connection, wanted))
    }

    /// Reports whether the texts of all jobs are in the text index.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_indexed(&self) -> Result<bool, StoreError> {
        let query = "SELECT indexed >= (SELECT coalesce(max(number), 0) FROM jobs) FROM meta";
        self.read(|connection| connection.query_row(query, [], |row| row.get(0)))
    }

    /// Returns a job with its tasks and options.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stored_job(&self, reference: JobReference) -> Result<Option<StoredJob>, StoreError> {
        self.read(|connection| load_job(connection, reference))
    }

    /// Returns why a job was deleted; `None` if it was not.
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

    /// Returns the ended jobs that are not deleted, oldest end first, and the time by which ages were last
    /// judged; 0 for never.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn ended(&self) -> Result<(Vec<Ended>, UnixMs), StoreError> {
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

    /// Returns which of these jobs are deleted, and which the store does not know.
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

fn find(connection: &Connection, agent: &AgentName, known: &KnownTask) -> rusqlite::Result<StoredTaskState> {
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
        return Ok(StoredTaskState::Deleted);
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
            return Ok(if has_ended { StoredTaskState::Ended } else { StoredTaskState::Open });
        }
        (Some(_), _) => return Ok(StoredTaskState::Foreign),
        (None, _) if !known.is_proved => return Ok(StoredTaskState::Unproved),
        // The store knows all tasks of a job that it knows, unless the job was recovered from agents.
        (None, Some((_, options, _))) if !options.recovered => return Ok(StoredTaskState::Foreign),
        (None, Some((.., number))) => {
            return Ok(StoredTaskState::Nothing { number: StoredJobNumber::Is(number) });
        }
        (None, None) => {}
    }
    let taken = connection
        .prepare_cached("SELECT 1 FROM jobs WHERE number = ?1")?
        .query_row([known.spec.job_number], |_| Ok(()))
        .optional()?;
    let number = if taken.is_some() { StoredJobNumber::Taken } else { StoredJobNumber::Free };
    Ok(StoredTaskState::Nothing { number })
}

/// A job that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The id of the job.
    pub id: JobId,
    /// Its number.
    pub number: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub ended_ms: UnixMs,
}

#[cfg(test)]
mod tests;
