//! The tables, and the migration of older databases.

use rusqlite::{Connection, Transaction};
use rusqlite_migration::{M, Migrations};

use crate::master::core::stored::audit_detail_of_job;

/// The format that this version writes, in `user_version`.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// One script per format, applied in order.
pub(super) const MIGRATIONS: [&str; 11] = [
    "
    CREATE TABLE meta (only INTEGER PRIMARY KEY CHECK (only = 1), epoch INTEGER NOT NULL, revision INTEGER NOT NULL) STRICT;
    INSERT INTO meta VALUES (1, 1, 0);
    CREATE TABLE agents (
        name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, enrolled_ms INTEGER NOT NULL, last_seen_ms INTEGER NOT NULL,
        labels TEXT NOT NULL, version TEXT NOT NULL, address TEXT NOT NULL, trust TEXT NOT NULL
    ) STRICT;
    CREATE TABLE operators (
        name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, role TEXT NOT NULL, scope TEXT NOT NULL DEFAULT '',
        revoked INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE tokens (hash TEXT PRIMARY KEY, expires_ms INTEGER NOT NULL, uses_left INTEGER NOT NULL) STRICT;
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, operator TEXT NOT NULL, target TEXT NOT NULL,
        plain_name INTEGER NOT NULL, command TEXT NOT NULL, options TEXT NOT NULL, created_ms INTEGER NOT NULL,
        ended_ms INTEGER, left_out TEXT NOT NULL, task_count INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX runs_open ON runs (number) WHERE ended_ms IS NULL;
    CREATE TABLE tasks (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, position INTEGER NOT NULL, agent TEXT NOT NULL,
        fingerprint TEXT NOT NULL, incarnation TEXT, outcome TEXT, succeeded INTEGER NOT NULL, started_ms INTEGER,
        duration_ns INTEGER NOT NULL, end_offset INTEGER NOT NULL, batch INTEGER NOT NULL,
        start_by_ms INTEGER NOT NULL, cancelled_by TEXT, PRIMARY KEY (run, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, detail TEXT NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE agents ADD COLUMN set_labels TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE runs ADD COLUMN gate TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE runs ADD COLUMN gone TEXT;
    ALTER TABLE tasks ADD COLUMN later TEXT;
    ALTER TABLE meta ADD COLUMN clock_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN succeeded INTEGER;
    CREATE INDEX runs_ended ON runs (ended_ms) WHERE gone IS NULL;
    CREATE INDEX tasks_agent ON tasks (agent, run);
",
    "
    ALTER TABLE agents ADD COLUMN drain TEXT;
    DROP TABLE operators;
    CREATE TABLE operators (
        name TEXT PRIMARY KEY, role TEXT NOT NULL, unix_user TEXT NOT NULL, keys TEXT NOT NULL,
        login TEXT, added_ms INTEGER NOT NULL, added_by TEXT NOT NULL, logged_in_ms INTEGER NOT NULL,
        revoked INTEGER NOT NULL
    ) STRICT;
",
    // Runs that are not over come first in `runs_ended`; an index of their own would add a page to each
    // commit.
    "DROP INDEX runs_open;",
    "
    ALTER TABLE tokens ADD COLUMN made_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE tokens ADD COLUMN made_by TEXT NOT NULL DEFAULT '';
",
    "
    ALTER TABLE meta ADD COLUMN term INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE agents ADD COLUMN ahead TEXT;
    ALTER TABLE tasks ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
    UPDATE tasks SET number = (SELECT number FROM runs WHERE id = run);
    DROP INDEX tasks_agent;
    CREATE INDEX tasks_agent ON tasks (agent, number);
    CREATE TABLE outcomes (kind TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (kind, number)) STRICT, WITHOUT ROWID;
    INSERT OR IGNORE INTO outcomes
        SELECT ending.key, number FROM tasks, json_each(outcome, '$.ending') AS ending
        WHERE outcome IS NOT NULL AND ending.key <> 'exited';
    CREATE INDEX runs_operator ON runs (operator, number) WHERE gone IS NULL;
    CREATE INDEX runs_created ON runs (created_ms);
    CREATE INDEX runs_ok ON runs (number) WHERE gone IS NULL AND ended_ms IS NOT NULL AND succeeded = task_count;
    CREATE INDEX runs_failed ON runs (number) WHERE gone IS NULL AND ended_ms IS NOT NULL AND succeeded < task_count;
    CREATE VIRTUAL TABLE texts USING fts5 (command, target, content = '', contentless_delete = 1, tokenize = 'trigram', detail = none);
    ALTER TABLE meta ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
",
    "ALTER TABLE agents ADD COLUMN proof TEXT;",
    // Removes secrets from the store: the values of variables of ended runs, and the commands of deleted
    // runs.
    r#"
    UPDATE runs SET options = json_set(options, '$.environment', json('[]'), '$.forgotten',
        json((SELECT json_group_array(json_extract(value, '$.name')) FROM json_each(options, '$.environment'))))
        WHERE ended_ms IS NOT NULL AND options NOT LIKE '{"environment":[]%';
    UPDATE runs SET command = '["erased"]' WHERE gone IS NOT NULL;
"#,
    // Labels that agents reported before were in use, and stay in use.
    "
    ALTER TABLE agents ADD COLUMN accepted TEXT NOT NULL DEFAULT '{}';
    UPDATE agents SET accepted = json_object('labels', json(labels));
    ALTER TABLE tokens ADD COLUMN terms TEXT NOT NULL DEFAULT '{}';
",
    // An agent that was named and did not take part counts as failed.
    r#"
    DROP INDEX runs_ok;
    DROP INDEX runs_failed;
    CREATE INDEX runs_ok ON runs (number) WHERE gone IS NULL AND ended_ms IS NOT NULL
        AND succeeded = task_count + instr(left_out, '"named":true');
    CREATE INDEX runs_failed ON runs (number) WHERE gone IS NULL AND ended_ms IS NOT NULL
        AND succeeded < task_count + instr(left_out, '"named":true');
"#,
    // Renames runs to jobs.
    r#"
    ALTER TABLE runs RENAME TO jobs;
    ALTER TABLE tasks RENAME COLUMN run TO job;
    DROP INDEX runs_ended;
    DROP INDEX runs_operator;
    DROP INDEX runs_created;
    DROP INDEX runs_ok;
    DROP INDEX runs_failed;
    CREATE INDEX jobs_ended ON jobs (ended_ms) WHERE gone IS NULL;
    CREATE INDEX jobs_operator ON jobs (operator, number) WHERE gone IS NULL;
    CREATE INDEX jobs_created ON jobs (created_ms);
    CREATE INDEX jobs_ok ON jobs (number) WHERE gone IS NULL AND ended_ms IS NOT NULL
        AND succeeded = task_count + instr(left_out, '"named":true');
    CREATE INDEX jobs_failed ON jobs (number) WHERE gone IS NULL AND ended_ms IS NOT NULL
        AND succeeded < task_count + instr(left_out, '"named":true');
"#,
];

/// The first format in which runs are called jobs.
pub(super) const WITH_JOBS: usize = 11;
/// The first format in which audit records contain no commands.
const WITHOUT_COMMANDS: usize = 8;
/// Number of records that are converted at once.
const AT_ONCE: usize = 1_000;

/// Replaces the commands in audit records with digests: otherwise they would stay until the database is
/// replaced.
fn digest_commands(connection: &Connection) -> rusqlite::Result<()> {
    let mut from = 0;
    loop {
        let records: Vec<(i64, String)> = connection
            .prepare_cached(
                "SELECT id, detail FROM audit WHERE action = 'run' AND id > ?1 ORDER BY id LIMIT ?2",
            )?
            .query_map((from, AT_ONCE), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, detail) in &records {
            let number = |text: &str| text.strip_prefix("run ")?.parse::<u64>().ok();
            if let Some((run, command)) = detail.split_once(": ")
                && let Some(number) = number(run)
            {
                connection
                    .prepare_cached("UPDATE audit SET detail = ?2 WHERE id = ?1")?
                    .execute((id, audit_detail_of_job(number, command)))?;
            }
        }
        match records.last() {
            Some((last, _)) => from = *last,
            None => return Ok(()),
        }
    }
}

/// Returns the format of a database; 0 for a new one.
pub(super) fn format(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Returns the numbered migrations; `user_version` counts those that were applied.
fn migrations() -> Migrations<'static> {
    let numbered = (1..).zip(MIGRATIONS);
    let step = |(format, script)| {
        if format == WITHOUT_COMMANDS {
            M::up_with_hook(script, |transaction: &Transaction<'_>| Ok(digest_commands(transaction)?))
        } else {
            M::up(script)
        }
    };
    Migrations::new(numbered.map(step).collect())
}

/// Converts a database to the format of this version.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    convert(connection, VERSION)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Converts a database to a later format.
pub(super) fn convert(connection: &mut Connection, to: usize) -> rusqlite::Result<()> {
    migrations().to_version(connection, to).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => err,
        other => rusqlite::Error::ToSqlConversionFailure(other.into()),
    })
}
