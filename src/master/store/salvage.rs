//! Detects a damaged database, and creates a new one from its readable parts.
//!
//! A table is read from its beginning up to the damage, and from its end down to it, so that only the rows on
//! damaged pages are lost. The damaged files are kept beside the new database.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, types::Value};

use super::{Store, StoreError, schema};
use crate::sys::{clock::unix_ms, file::sync_directory};

/// Returns the name of the table of jobs in a format, and of the column with the job of a task.
fn names_of_jobs(format: usize) -> (&'static str, &'static str) {
    if format < schema::WITH_JOBS { ("runs", "run") } else { ("jobs", "job") }
}

/// Returns the tables of a format, and the columns by which their rows are ordered. A table comes before
/// those that refer to it.
fn tables_of(format: usize) -> [(&'static str, &'static str); 8] {
    let jobs = (names_of_jobs(format).0, "number");
    let tasks = ("tasks", if format < schema::WITH_JOBS { "run, position" } else { "job, position" });
    let [outcomes, audit] = [("outcomes", "kind, number"), ("audit", "id")];
    [
        ("meta", "only"),
        ("agents", "name"),
        ("operators", "name"),
        ("tokens", "hash"),
        jobs,
        tasks,
        outcomes,
        audit,
    ]
}

/// Maximum number of faults of a database that are reported.
const MAX_FAULTS: u32 = 5;

/// The result of salvaging a database.
#[derive(Debug)]
pub(crate) struct Salvaged {
    /// Where the damaged database is kept.
    pub damaged: PathBuf,
    /// The tables, the number of their rows that were read, and why some are missing if they are.
    pub tables: Vec<(&'static str, u64, Option<String>)>,
}

/// Reports whether there is a database in a data directory.
#[must_use]
pub(crate) fn is_there(directory: &Path) -> bool {
    directory.join(super::FILE).exists()
}

/// Checks the database of a data directory for damage. A master may be using it. Reads all of it and returns
/// the faults as text; none if it is sound.
///
/// # Errors
/// When it cannot be read at all.
pub(crate) fn check(directory: &Path) -> Result<Vec<String>, StoreError> {
    let path = directory.join(super::FILE);
    let faults = || {
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = connection.prepare(&format!("PRAGMA quick_check({MAX_FAULTS})"))?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    let faults =
        faults().map_err(|source| StoreError::Sqlite { path: path.display().to_string(), source })?;
    Ok(faults.into_iter().filter(|fault| fault != "ok").collect())
}

/// Replaces the database of a data directory with a new one from its readable parts. No master may be using
/// it.
///
/// # Errors
/// When the new database cannot be created, or cannot replace the damaged one, which then stays as it was.
pub(crate) fn salvage(directory: &Path) -> Result<Salvaged, StoreError> {
    let path = directory.join(super::FILE);
    let damaged = directory.join(format!("{}.damaged-{}", super::FILE, unix_ms() / 1_000));
    let fresh = directory.join(format!("{}.salvaged", super::FILE));
    let files = |source: io::Error| StoreError::File { path: fresh.display().to_string(), source };
    remove(&fresh).map_err(files)?;
    let store = Store::at(fresh.clone());
    crate::sys::paths::make_owners(&fresh).map_err(files)?;
    let mut connection = store.connect().map_err(|source| store.error(source))?;
    let mut made = || {
        let source = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE);
        // Copied in its format and then converted like any other database: an older format lacks data that
        // the conversion computes.
        let found = source.as_ref().ok().and_then(|source| schema::format(source).ok()).unwrap_or(0);
        let format = if (1..schema::VERSION).contains(&found) { found } else { schema::VERSION };
        schema::convert(&mut connection, format)?;
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.execute_batch("BEGIN")?;
        let mut tables = Vec::new();
        for (table, order) in tables_of(format) {
            if columns(&connection, table)?.is_empty() {
                continue;
            }
            let (rows, trouble) = match &source {
                Ok(source) => copy(source, &connection, table, order)?,
                Err(error) => (0, Some(error.to_string())),
            };
            tables.push((table, rows, trouble));
        }
        // Tasks without their job are useless.
        let (jobs, job) = names_of_jobs(format);
        let orphans = format!("DELETE FROM tasks WHERE {job} NOT IN (SELECT id FROM {jobs}); COMMIT;");
        connection.execute_batch(&orphans)?;
        schema::migrate(&mut connection)?;
        // The texts must be indexed again.
        connection.execute("UPDATE meta SET indexed = 0", [])?;
        // Everything must be in the one file that is renamed.
        connection.pragma_update(None, "journal_mode", "DELETE")?;
        Ok(tables)
    };
    let tables = made().map_err(|source| store.error(source))?;
    drop(connection);
    take_place(&path, &fresh, &damaged).map_err(files)?;
    Ok(Salvaged { damaged, tables })
}

/// Replaces the damaged database with the `fresh` one, and keeps its files under another name. At every
/// moment there is a database, and each damaged file has at least one name.
fn take_place(path: &Path, fresh: &Path, damaged: &Path) -> io::Result<()> {
    let with = |path: &Path, ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    let link =
        |from: &Path, to: &Path, ending: &str| match fs::hard_link(with(from, ending), with(to, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    let logs = ["-wal", "-shm"];
    logs.into_iter().chain([""]).try_for_each(|ending| link(path, damaged, ending))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    sync_directory(directory)?;
    // The new database would use these files as its own log.
    let replaced = logs
        .into_iter()
        .try_for_each(|ending| remove(&with(path, ending)))
        .and_then(|()| fs::rename(fresh, path))
        .and_then(|()| sync_directory(directory));
    if replaced.is_err() {
        for ending in logs {
            let _ = link(damaged, path, ending);
        }
    }
    replaced
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies the readable rows of a table. Returns their number, and why some are missing if they are.
fn copy(
    source: &Connection,
    fresh: &Connection,
    table: &str,
    order: &str,
) -> rusqlite::Result<(u64, Option<String>)> {
    // A damaged table may have no columns.
    let known = columns(fresh, table)?;
    let columns: Vec<String> = columns(source, table)
        .unwrap_or_default()
        .into_iter()
        .filter(|column| known.contains(column))
        .collect();
    if columns.is_empty() {
        return Ok((0, Some("it cannot be read at all".to_owned())));
    }
    let (names, places) = (columns.join(", "), vec!["?"; columns.len()].join(", "));
    // A row may exist: the new database has its own row of `meta`, and rows may be read in both directions.
    let changed: Vec<String> = columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let mut insert = fresh.prepare(&format!(
        "INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT ({order}) DO UPDATE SET {}",
        changed.join(", ")
    ))?;
    let mut trouble = None;
    for direction in ["ASC", "DESC"] {
        let ordered: Vec<String> = order.split(", ").map(|column| format!("{column} {direction}")).collect();
        let query = format!("SELECT {names} FROM {table} ORDER BY {}", ordered.join(", "));
        let mut copied = || -> rusqlite::Result<Option<rusqlite::Error>> {
            let mut statement = match source.prepare(&query) {
                Ok(statement) => statement,
                Err(error) => return Ok(Some(error)),
            };
            let mut rows = match statement.query([]) {
                Ok(rows) => rows,
                Err(error) => return Ok(Some(error)),
            };
            loop {
                let row = match rows.next() {
                    Ok(Some(row)) => row,
                    Ok(None) => return Ok(None),
                    Err(error) => return Ok(Some(error)),
                };
                let values: rusqlite::Result<Vec<Value>> = (0..columns.len()).map(|at| row.get(at)).collect();
                // A row that violates the constraints of its table is damaged too.
                if let Err(error) =
                    values.and_then(|values| insert.execute(rusqlite::params_from_iter(values)))
                {
                    trouble.get_or_insert_with(|| error.to_string());
                }
            }
        };
        match copied()? {
            None => break,
            Some(error) => trouble = Some(error.to_string()),
        }
    }
    let rows = fresh.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    Ok((rows, trouble))
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn filled(directory: &Path, jobs: u64) {
        let (_, connection) = Store::open(directory).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        for number in 1..=jobs {
            let (id, json) = (format!("{number:026}"), "{}");
            connection
                .execute(
                    "INSERT INTO jobs (id, number, operator, target, plain_name, command, options, created_ms, ended_ms, \
                     left_out, task_count, succeeded) VALUES (?1, ?2, 'ana', 'web', 1, '[\"true\"]', ?3, 1, 2, '[]', 1, 1)",
                    (&id, number, json),
                )
                .unwrap();
        }
        connection.execute("UPDATE meta SET revision = 41, epoch = 3", []).unwrap();
        connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }

    fn listed(directory: &Path) -> Vec<u64> {
        let (_, connection) = Store::open(directory).unwrap();
        let mut statement = connection.prepare("SELECT number FROM jobs ORDER BY number").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_lies_before_and_behind_the_damage_is_saved_and_the_damaged_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 5_000);
        assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
        let path = dir.path().join(crate::master::store::FILE);
        let before = fs::read(&path).unwrap();
        // Some pages in the middle of the table of jobs.
        let file = fs::File::options().write(true).open(&path).unwrap();
        let text = br#"["true"]"#;
        let places: Vec<usize> = before
            .windows(text.len())
            .enumerate()
            .filter(|(_, bytes)| bytes == text)
            .map(|(at, _)| at)
            .collect();
        let page = places[places.len() / 2] / 4096 * 4096;
        file.write_all_at(&[0xff; 4096], page as u64).unwrap();
        assert!(!check(dir.path()).unwrap_or_else(|error| vec![error.to_string()]).is_empty());
        let damaged = fs::read(&path).unwrap();
        let salvaged = salvage(dir.path()).unwrap();
        assert_eq!(fs::read(&salvaged.damaged).unwrap(), damaged);
        assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
        let jobs = listed(dir.path());
        assert!(jobs.contains(&1) && jobs.contains(&5_000), "both ends are there");
        assert!(jobs.len() > 4_800 && jobs.len() < 5_000, "{} of 5000", jobs.len());
        let (_, connection) = Store::open(dir.path()).unwrap();
        let meta: (u64, u64) = connection
            .query_row("SELECT epoch, revision FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(meta, (3, 41), "agents that have seen this much are believed");
    }

    #[test]
    fn a_new_database_gets_no_log_of_the_old_one_which_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, fresh, damaged) =
            (dir.path().join("db"), dir.path().join("fresh"), dir.path().join("damaged"));
        let beside = |path: &Path, ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
        for ending in ["", "-wal", "-shm"] {
            fs::write(beside(&path, ending), format!("old{ending}")).unwrap();
        }
        // Without a new database everything stays as it was.
        assert!(take_place(&path, &fresh, &damaged).is_err());
        let is_old = |path: &Path| {
            for ending in ["", "-wal", "-shm"] {
                assert_eq!(fs::read_to_string(beside(path, ending)).unwrap(), format!("old{ending}"));
            }
        };
        is_old(&path);
        is_old(&damaged);
        for ending in ["", "-wal", "-shm"] {
            fs::remove_file(beside(&damaged, ending)).unwrap();
        }
        fs::write(&fresh, "new").unwrap();
        take_place(&path, &fresh, &damaged).unwrap();
        is_old(&damaged);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(!beside(&path, "-wal").exists() && !beside(&path, "-shm").exists());

        // If a log cannot be removed, the old database keeps its place.
        fs::create_dir(beside(&path, "-wal")).unwrap();
        fs::write(&fresh, "newer").unwrap();
        assert!(take_place(&path, &fresh, &dir.path().join("other")).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(remove(&beside(&path, "-wal")).is_err());

        // The same if the other name is taken: the old database has no other.
        fs::remove_dir(beside(&path, "-wal")).unwrap();
        assert!(take_place(&path, &fresh, &damaged).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn an_older_database_is_converted_when_it_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(crate::master::store::FILE);
        let mut old = Connection::open(&path).unwrap();
        schema::convert(&mut old, 2).unwrap();
        let outcome = r#"{"ending":{"lost":"rebooted"},"background":0}"#;
        old.execute_batch(&format!(
            "PRAGMA foreign_keys = OFF;
             INSERT INTO runs VALUES ('r', 7, 'ana', 'web', 1, '[]', '{{}}', 1, 2, '[]', 1, '{{}}', NULL, 0);
             INSERT INTO tasks VALUES ('r', 0, 'web', 'key', NULL, '{outcome}', 0, 1, 1, 1, 0, 1, NULL, NULL);
             INSERT INTO tasks VALUES ('lost', 0, 'web', 'key', NULL, '{outcome}', 0, 1, 1, 1, 0, 1, NULL, NULL);"
        ))
        .unwrap();
        drop(old);
        let salvaged = salvage(dir.path()).unwrap();
        assert!(salvaged.tables.iter().all(|(_, _, trouble)| trouble.is_none()), "{:?}", salvaged.tables);
        let (_, connection) = Store::open(dir.path()).unwrap();
        let number: u64 = connection.query_row("SELECT number FROM tasks", [], |row| row.get(0)).unwrap();
        let kind: (String, u64) = connection
            .query_row("SELECT kind, number FROM outcomes", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!((number, kind), (7, ("lost".to_owned(), 7)));
    }

    #[test]
    fn of_what_is_no_database_any_more_an_empty_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 10);
        fs::write(dir.path().join(crate::master::store::FILE), "this is nothing").unwrap();
        let salvaged = salvage(dir.path()).unwrap();
        assert!(salvaged.tables.iter().all(|(_, _, trouble)| trouble.is_some()));
        assert_eq!(listed(dir.path()), [0u64; 0]);
    }
}
