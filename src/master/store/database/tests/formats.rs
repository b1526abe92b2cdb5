//! Databases that this version did not write, or cannot read: older, newer and damaged ones.

use super::*;
use crate::master::store::salvage;

#[test]
fn a_newer_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (_, connection) = Store::open(dir.path()).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::TooNew { found: 99, .. })));
}

#[test]
fn a_database_of_0_1_0_is_copied_and_then_converted_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    // A database as version 0.1.0 wrote it: format 5.
    let old = Connection::open(&path).unwrap();
    for script in &schema::MIGRATIONS[..5] {
        old.execute_batch(script).unwrap();
    }
    old.execute_batch(
        &r#"PRAGMA user_version = 5;
        UPDATE meta SET revision = 41;
        INSERT INTO agents VALUES ('web-1', '{KEY}', 1, 2, '{"role":"web"}', '0.1.0', '', '', '{}', NULL);
        INSERT INTO runs (id, number, operator, target, plain_name, command, options, created_ms, ended_ms, left_out, task_count, succeeded)
            SELECT '0000000000000000000000000' || value, value, 'ana', 'web-1', 1, '["systemctl restart nginx"]',
                '{"environment":[],"working_directory":null,"timeout_ms":null,"start_within_ms":null,"kill_grace_ms":null,
                  "now":false,"plan":{"fanout":null,"canary":null,"batch":null,"max_failures":null,"pause_ms":null,
                  "stop_if":{"failures":false,"differs":false},"masks":""},"overflow":"block","taken_back":false,
                  "output_cap":null,"input":"nothing"}',
                value * 1000, value * 1000 + 1, '[]', 1, value % 2 FROM json_each('[1,2,3]');
        INSERT INTO tasks (run, position, agent, fingerprint, incarnation, outcome, succeeded, started_ms, duration_ns, end_offset, batch, start_by_ms)
            SELECT id, 0, 'web-1', 'AB', 'x/y', CASE number WHEN 2 THEN '{"ending":{"lost":"gone"},"background":0}'
                ELSE '{"ending":{"exited":0},"background":0}' END, number % 2, 1, 1, 1, 0, 1 FROM runs;
        UPDATE runs SET options = replace(options, '"environment":[]', '"environment":[{"name":"A","value":"secret"}]') WHERE number = 2;
        INSERT INTO runs SELECT '00000000000000000000000004', 4, operator, target, plain_name, '["secret"]', options, created_ms, ended_ms,
            left_out, task_count, gate, 'deleted by ana', succeeded FROM runs WHERE number = 1;
        INSERT INTO audit (at_ms, actor, action, subject, detail)
            VALUES (1, 'ana', 'run', 'web-1', 'run 4: secret: x'), (2, 'ana', 'cancel', 'run 4', '1 tasks');"#
            .replace("{KEY}", &Fingerprint::of(b"key").to_string()),
    )
    .unwrap();
    drop(old);
    let (store, mut connection) = Store::open(dir.path()).unwrap();
    assert_eq!(schema::format(&connection).unwrap(), schema::VERSION);
    let agents = store.remembered(&connection).unwrap().agents;
    let [agent] = agents.as_slice() else { panic!("{agents:?}") };
    assert_eq!(agent.accepted.counting(&agent.labels), agent.labels, "what it brought before still counts");
    assert_eq!(agent.labels.len(), 1);
    let meta: (u64, u64) = connection
        .query_row("SELECT revision, term FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(meta, (41, 0));
    let numbers = |wanted: Wanted| -> Vec<u64> {
        let wanted = Wanted { limit: 9, ..wanted };
        let query = store.jobs(&wanted);
        query.unwrap().into_iter().map(|job| job.number).collect()
    };
    while writer::index_texts(&mut connection).unwrap() {}
    assert_eq!(numbers(Wanted { agent: "web-1".into(), ..Wanted::default() }), [3, 2, 1]);
    assert_eq!(numbers(Wanted { outcome: "lost".into(), ..Wanted::default() }), [2]);
    assert_eq!(numbers(Wanted { text: "nginx".into(), outcome: "ok".into(), ..Wanted::default() }), [3, 1]);
    let options = |number: u64| -> JobOptions {
        connection
            .query_row("SELECT options FROM jobs WHERE number = ?1", [number], |row| json(row, "options"))
            .unwrap()
    };
    assert_eq!((options(2).environment, options(2).forgotten), (vec![], vec![Bytes(b"A".to_vec())]));
    assert_eq!(options(1), JobOptions { overflow: Overflow::Block, ..JobOptions::default() });
    let audit: String =
        connection.query_row("SELECT group_concat(detail, '; ') FROM audit", [], |row| row.get(0)).unwrap();
    let digest = "a6544c333bd718e83c46d6e283f0d4f2e9338d2287657cce6bf8ad2cf7e8cdfd";
    assert_eq!(audit, format!("job 4, command sha256 {digest}; 1 tasks"));
    let gone: String = connection
        .query_row("SELECT command FROM jobs WHERE gone IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(gone, rows::ERASED_COMMAND);
    let copy = Connection::open(dir.path().join(format!("{FILE}.format-5"))).unwrap();
    assert_eq!(schema::format(&copy).unwrap(), 5, "an older version of the program can read it");
    let kept: u64 = copy.query_row("SELECT count(*) FROM tasks", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 3);
}

#[test]
fn a_database_that_is_damaged_says_what_saves_it() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!salvage::is_there(dir.path()));
    fs::write(dir.path().join(FILE), [7; 8192]).unwrap();
    assert!(salvage::is_there(dir.path()));
    let error = Store::open(dir.path()).err().unwrap().to_string();
    assert!(error.ends_with("; `sloth-runner master salvage` saves what can be read of it"), "{error}");
    // A database that cannot be copied because it is damaged gives the same advice, and not to make room.
    let damaged =
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None);
    assert!(no_copy(&damaged).contains("salvage"));
    let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
    assert!(no_copy(&full).contains("make room"));
}

/// Creates a database of version 0.1.0, converted by the migrations up to a later format.
fn of_format(directory: &Path, format: usize) {
    let mut connection = Connection::open(directory.join(FILE)).unwrap();
    connection.execute_batch(include_str!("format-5.sql")).unwrap();
    schema::convert(&mut connection, format).unwrap();
    assert_eq!(schema::format(&connection).unwrap(), format);
}

#[test]
fn everything_in_a_database_of_every_format_since_0_1_0_is_there() {
    for format in 5..schema::VERSION {
        let dir = tempfile::tempdir().unwrap();
        of_format(dir.path(), format);
        let (store, mut connection) = Store::open(dir.path()).unwrap();
        let found = store.remembered(&connection).unwrap();
        let agents: Vec<(&str, usize, bool)> = found
            .agents
            .iter()
            .map(|agent| (agent.name.as_str(), agent.set_labels.len(), agent.drain.is_some()))
            .collect();
        assert_eq!(agents, [("web-1", 1, false), ("web-2", 0, true)], "{format}");
        let [operator] = found.operators.as_slice() else { panic!("{format}: {:?}", found.operators) };
        assert_eq!(
            (operator.name.as_str(), operator.role.word(), operator.login.is_some()),
            ("ana", "viewer", true)
        );
        let [token] = found.tokens.as_slice() else { panic!("{format}: {:?}", found.tokens) };
        assert_eq!(
            (token.uses_left, token.made_by.as_str(), token.terms.to_string().as_str()),
            (3, "root", "")
        );
        let live: Vec<u64> = found.jobs.iter().map(|stored| stored.job.number).collect();
        assert_eq!((live, found.last_number), (vec![5, 6], 7), "{format}");
        while writer::index_texts(&mut connection).unwrap() {}
        let words = |number: u64| -> Vec<&str> {
            let job = store.job(JobReference::Number(number)).unwrap().unwrap();
            job.tasks.iter().map(|task| task.state.word()).collect()
        };
        let all: Vec<Vec<&str>> = (1..=7).map(words).collect();
        let expected: [&[&str]; 7] = [
            &["exited"],
            &["exited", "exited"],
            &["timed_out"],
            &["cancelled"],
            &["running"],
            &["exited", "queued"],
            &["signaled", "skipped"],
        ];
        assert_eq!(all, expected, "{format}");
        let numbers = |wanted: Wanted| -> Vec<u64> {
            store.jobs(&Wanted { limit: 9, ..wanted }).unwrap().into_iter().map(|job| job.number).collect()
        };
        assert_eq!(numbers(Wanted { text: "nginx".into(), ..Wanted::default() }), [1], "{format}");
        assert_eq!(
            numbers(Wanted { outcome: "failed".into(), ..Wanted::default() }),
            [7, 4, 3, 2],
            "{format}"
        );
        assert_eq!(
            numbers(Wanted { agent: "web-1".into(), outcome: "skipped".into(), ..Wanted::default() }),
            [7]
        );
        let records: u64 = connection.query_row("SELECT count(*) FROM audit", [], |row| row.get(0)).unwrap();
        assert_eq!(records, 16, "{format}");
        let commands: u64 = connection
            .query_row("SELECT count(*) FROM audit WHERE detail LIKE '%sleep%'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(commands, 0, "{format}: audit records hold no commands");
    }
}

#[test]
fn databases_from_before_0_1_0_keep_their_agents_and_jobs() {
    for format in 1..5 {
        let dir = tempfile::tempdir().unwrap();
        let mut old = Connection::open(dir.path().join(FILE)).unwrap();
        schema::convert(&mut old, format).unwrap();
        let options = serde_json::to_string(&JobOptions::default()).unwrap();
        old.execute_batch(&format!(
            "INSERT INTO agents (name, fingerprint, enrolled_ms, last_seen_ms, labels, version, address, trust)
                VALUES ('web-1', '{}', 1, 2, '{{}}', '0.0.9', '', '');
            INSERT INTO tokens (hash, expires_ms, uses_left) VALUES ('AB', 9, 1);
            INSERT INTO runs (id, number, operator, target, plain_name, command, options, created_ms, left_out, task_count)
                VALUES ('00000000000000000000000001', 1, 'root', 'web-1', 1, '[\"true\"]', '{options}', 1, '[]', 1);
            INSERT INTO tasks (run, position, agent, fingerprint, succeeded, duration_ns, end_offset, batch, start_by_ms)
                VALUES ('00000000000000000000000001', 0, 'web-1', '{}', 0, 0, 0, 0, 1);",
            Fingerprint::of(b"key"),
            Fingerprint::of(b"key"),
        ))
        .unwrap();
        drop(old);
        let (store, connection) = Store::open(dir.path()).unwrap();
        let found = store.remembered(&connection).unwrap();
        assert_eq!((found.agents.len(), found.tokens.len(), found.jobs.len()), (1, 1, 1), "{format}");
        assert_eq!(found.jobs[0].tasks.len(), 1, "{format}");
    }
}

#[test]
fn readers_are_kept_for_the_next_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _connection) = Store::open(dir.path()).unwrap();
    let kept = || store.readers.lock().unwrap().len();
    for _ in 0..9 {
        store
            .read(|_| store.jobs(&Wanted::default()).map(drop).map_err(|_| rusqlite::Error::InvalidQuery))
            .unwrap();
    }
    assert_eq!(kept(), 2, "one for each that read at the same time");
    assert!(store.read(|_| Err::<(), _>(rusqlite::Error::InvalidQuery)).is_err());
    assert_eq!(kept(), 1, "the one that failed is gone");
}
