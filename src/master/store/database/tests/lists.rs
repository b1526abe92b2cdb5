//! Lists of jobs: each filter, and the length of lists.

use super::*;
use crate::domain::{job::LeftOutKind, time::UnixMs};

/// Returns the same list by examining every job.
fn looked_at(all: &[StoredJob], wanted: &Wanted) -> Vec<u64> {
    let fits = |stored: &&StoredJob| {
        let job = &stored.job;
        let has = |kind: &str| {
            let outcomes = stored.tasks.iter().filter_map(|task| task.task.state.outcome());
            outcomes.clone().any(|outcome| outcome.word() == kind)
        };
        let succeeded =
            stored.tasks.iter().all(|task| task.task.state.outcome().is_some_and(Outcome::is_success))
                && job.missed().next().is_none();
        let text = (serde_json::to_string(&job.command).unwrap() + "\n" + &job.target).to_lowercase();
        (wanted.before_number == 0 || job.number < wanted.before_number)
            && job.created_ms >= wanted.since_ms
            && (wanted.operator.is_empty() || job.operator == wanted.operator)
            && (wanted.agent.is_empty()
                || stored.tasks.iter().any(|task| task.task.agent.as_str() == wanted.agent))
            && (wanted.text.is_empty() || text.contains(&wanted.text.to_lowercase()))
            && match wanted.outcome.as_str() {
                "" => true,
                "running" => job.ended_ms.is_none(),
                "ok" => job.ended_ms.is_some() && succeeded,
                "failed" => job.ended_ms.is_some() && !succeeded,
                kind => has(kind),
            }
    };
    let mut found: Vec<u64> = all.iter().filter(fits).map(|stored| stored.job.number).collect();
    found.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    found.truncate(wanted.limit as usize);
    found
}

#[test]
fn every_filter_finds_what_looking_at_every_job_finds() {
    let dir = tempfile::tempdir().unwrap();
    let endings = [
        Some(Ending::Exited(0)),
        Some(Ending::Exited(3)),
        Some(Ending::Lost("gone".into())),
        Some(Ending::Signaled(9)),
        None,
    ];
    let commands = ["systemctl restart nginx", "echo \"quoted\" 100%", "uptime", "Ünïcode ßtraße"];
    let mut all = Vec::new();
    let mut writes = Vec::new();
    for number in 1..=60u64 {
        let place = usize::try_from(number).unwrap();
        let mut stored = stored_job(number);
        stored.job.operator = ["ana", "ben"][place / 2 % 2].into();
        stored.job.target = ["web-1", "@site:here"][place / 3 % 2].into();
        stored.job.created_ms = UnixMs(1_000 + number);
        if number % 4 < 2 {
            let named = number % 4 == 0;
            // Text of an operator must not be taken for the mark.
            let reason = r#"draining: "named":true"#.into();
            stored.job.left_out =
                vec![LeftOut { agent: "web-9".into(), kind: LeftOutKind::Draining, reason, named }];
        }
        stored.job.command = Command::new(vec![commands[place % 4].as_bytes().to_vec()]).unwrap();
        stored.tasks[0].task.agent = ["web-1", "web-2", "db"][place % 3].parse().unwrap();
        writes.push(vec![Write::PutJob(Box::new(stored.clone()))]);
        if let Some(ending) = &endings[place % 5] {
            stored.tasks[0].task.state = TaskState::Ended(ending.clone().into());
            stored.job.ended_ms = Some(UnixMs(2_000 + number));
            let task = stored.tasks[0].clone();
            writes.push(vec![
                Write::PutTask(stored.job.id, task),
                Write::EndJob(stored.job.id, UnixMs(2_000 + number)),
            ]);
        }
        if number % 7 == 0 && stored.job.ended_ms.is_some() {
            writes.push(vec![Write::DeleteJob(stored.job.id, "old".into())]);
        } else {
            all.push(stored);
        }
    }
    let (store, _) = write(Store::open(dir.path()).unwrap(), writes);
    let check = |indexed: &str| {
        for before_number in [0, 31] {
            for since_ms in [0, 1_040, 9_000] {
                for operator in ["", "ben", "nobody"] {
                    for agent in ["", "web-2", "none"] {
                        for text in ["", "NGINX", "\"quoted", "ng", "site", "ßtr", "absent"] {
                            for outcome in
                                ["", "running", "ok", "failed", "exited", "lost", "signaled", "skipped"]
                            {
                                let [operator, agent, text, outcome] =
                                    [operator, agent, text, outcome].map(str::to_owned);
                                let wanted = Wanted {
                                    before_number,
                                    limit: 5,
                                    since_ms: UnixMs(since_ms),
                                    operator,
                                    agent,
                                    text,
                                    outcome,
                                };
                                let found: Vec<u64> =
                                    store.jobs(&wanted).unwrap().into_iter().map(|job| job.number).collect();
                                assert_eq!(found, looked_at(&all, &wanted), "{indexed}: {wanted:?}");
                            }
                        }
                    }
                }
            }
        }
    };
    let mut connection = store.connect().unwrap();
    check("some texts are indexed, or none");
    while writer::index_texts(&mut connection).unwrap() {}
    check("all texts are indexed");
}

#[test]
fn a_list_is_no_longer_than_asked_for_wherever_its_jobs_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let job = |number| {
        let stored = stored_job(number);
        let command = Command::new(vec![b"uptime".to_vec()]).unwrap();
        Write::PutJob(Box::new(StoredJob { job: Job { command, ..stored.job }, ..stored }))
    };
    let (store, _) = write(Store::open(dir.path()).unwrap(), vec![(1..=6).map(job).collect()]);
    // Half of the texts are in the text index.
    let connection = store.connect().unwrap();
    connection
        .execute_batch(
            "DELETE FROM texts; UPDATE meta SET indexed = 3;
             INSERT INTO texts (rowid, command, target) SELECT number, command, target FROM jobs WHERE number <= 3;",
        )
        .unwrap();
    assert!(!store.is_indexed().unwrap());
    for (limit, numbers) in [(2, vec![6, 5]), (4, vec![6, 5, 4, 3]), (9, vec![6, 5, 4, 3, 2, 1])] {
        let wanted = Wanted { text: "uptime".into(), limit, ..Wanted::default() };
        let found: Vec<u64> = store.jobs(&wanted).unwrap().iter().map(|job| job.number).collect();
        assert_eq!(found, numbers, "{limit}");
    }
    connection.execute("UPDATE meta SET indexed = 6", []).unwrap();
    assert!(store.is_indexed().unwrap());
}
