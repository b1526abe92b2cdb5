//! Written data is read back, whatever else is in the same transaction.

mod formats;
mod lists;

use std::{
    fs,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    domain::{
        agent::Drain,
        command::{Bytes, Command},
        fingerprint::Fingerprint,
        groups::mask::Masks,
        ids::{Incarnation, TaskId},
        job::{LeftOut, Overflow, Task, TaskState},
        name::Labels,
        offset::OutputOffset,
        outcome::{Ending, Outcome},
        plan::Gate,
        proposal::{Accepted, DirectAddress, Proposal},
        terms::Terms,
    },
    master::{
        core::{
            messages::{WriteDurability, WriteId},
            stored::{StoredAgent, StoredTask, StoredToken, Write},
        },
        store::{StoreWriter, Written},
    },
};

fn stored_job(number: u64) -> StoredJob {
    let task = Task::queued(0, "web-1".parse().unwrap());
    let task = StoredTask {
        task,
        fingerprint: Fingerprint::of(b"key"),
        incarnation: None,
        start_by_ms: UnixMs(5),
        cancelled_by: None,
    };
    let job = Job {
        id: JobId::from_parts(1, number.into()),
        number,
        operator: "ana".into(),
        target: "web-1".into(),
        plain_name: true,
        command: Command::new(vec![b"printf '\xff'".to_vec()]).unwrap(),
        created_ms: UnixMs(7),
        ended_ms: None,
        tasks: Vec::new(),
        task_count: 1,
        succeeded: 0,
        unfinished: 1,
        left_out: Vec::new(),
        gate: Gate::default(),
        masks: Masks::default(),
        command_left_out: 0,
    };
    StoredJob { job, options: JobOptions::default(), tasks: vec![task] }
}

fn stored_agent(name: &str) -> StoredAgent {
    StoredAgent {
        name: name.parse().unwrap(),
        fingerprint: Fingerprint::of(name.as_bytes()),
        enrolled_ms: UnixMs(1),
        last_seen_ms: UnixMs(2),
        labels: Labels::new(),
        set_labels: Labels::new(),
        accepted: Accepted::default(),
        version: "1".into(),
        address: "10.0.0.1:1".into(),
        trust: "token".into(),
        drain: None,
        ahead: None,
        proof: Some([7; 32].into()),
    }
}

fn write(store: (Store, Connection), batches: Vec<Vec<Write>>) -> (Store, Vec<Written>) {
    let (told, news) = mpsc::channel();
    let count = batches.len();
    let mut writer = StoreWriter::start(store.1, move |written| told.send(written).unwrap()).unwrap();
    for (token, writes) in (1..).zip(batches) {
        writer.write(WriteId(token), writes, WriteDurability::FailOnError);
    }
    drop(writer);
    let written: Vec<Written> = news.iter().collect();
    assert_eq!(written.len(), count, "everybody is told");
    (store.0, written)
}

#[test]
fn jobs_and_outcomes_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = stored_job(1);
    let mut ended = first.tasks[0].clone();
    ended.task.state = TaskState::Ended(Ending::Exited(0).into());
    ended.task.end_offset = OutputOffset(9);
    let batches = vec![
        vec![Write::PutJob(Box::new(first.clone()))],
        vec![Write::PutJob(Box::new(stored_job(2)))],
        vec![Write::PutTask(first.job.id, ended), Write::EndJob(first.job.id, UnixMs(99))],
    ];
    let (store, written) = write(Store::open(dir.path()).unwrap(), batches);
    assert!(written.iter().all(|written| matches!(written, Written::Done(..))), "{written:?}");
    let job = store.job(JobReference::Number(1)).unwrap().unwrap();
    assert_eq!((job.ended_ms, job.succeeded, job.unfinished), (Some(UnixMs(99)), 1, 0));
    assert_eq!((job.tasks[0].end_offset, &job.command), (OutputOffset(9), &first.job.command));
    assert_eq!(store.job(JobReference::Last).unwrap().unwrap().number, 2);
    assert_eq!(store.jobs(&Wanted { limit: 10, ..Wanted::default() }).unwrap().len(), 2);
    assert!(store.job(JobReference::Number(3)).unwrap().is_none());

    let (store, connection) = Store::open(dir.path()).unwrap();
    let remembered = store.remembered(&connection).unwrap();
    assert_eq!(remembered.jobs, [stored_job(2)], "only what has not ended");
    assert_eq!(remembered.last_number, 2);
    assert!(remembered.revision >= 1);
}

#[test]
fn agents_come_back_with_their_labels() {
    let dir = tempfile::tempdir().unwrap();
    let label = |text: &str| {
        let label: crate::domain::name::Label = text.parse().unwrap();
        Labels::from([(label.key, label.value)])
    };
    let agent = StoredAgent {
        labels: label("role=web"),
        set_labels: label("role=db"),
        accepted: {
            let mut accepted = Accepted::default();
            let direct = DirectAddress::new("gateway", 50051, None);
            accepted.accept(Proposal::new(label("role=web"), direct));
            accepted
        },
        drain: Some(Drain { reason: "a new disk".into(), by: "ana".into(), since_ms: UnixMs(3) }),
        ahead: Some((3, 9).into()),
        ..stored_agent("web-1")
    };
    let token = StoredToken {
        hash: "AB".to_owned(),
        expires_ms: UnixMs(9),
        uses_left: 1,
        made_ms: UnixMs(2),
        made_by: "ana".to_owned(),
        terms: Terms {
            labels: label("role=web"),
            names: "web-*".parse().ok(),
            from: vec!["10.0.0.0/8".parse().unwrap()],
            direct: vec!["gateway".parse().unwrap()],
        },
    };
    let batches = vec![vec![Write::PutAgent(agent.clone()), Write::PutToken(token.clone())]];
    let _ = write(Store::open(dir.path()).unwrap(), batches);
    let (store, connection) = Store::open(dir.path()).unwrap();
    let remembered = store.remembered(&connection).unwrap();
    assert_eq!((remembered.agents, remembered.tokens), (vec![agent], vec![token]));
}

#[test]
fn one_impossible_write_does_not_hurt_its_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let batches = vec![
        vec![Write::PutJob(Box::new(stored_job(1)))],
        vec![Write::PutJob(Box::new(stored_job(1)))],
        vec![Write::PutJob(Box::new(stored_job(2)))],
    ];
    let (store, written) = write(Store::open(dir.path()).unwrap(), batches);
    let failed: Vec<_> =
        written.iter().filter(|written| matches!(written, Written::Conflict(WriteId(2)))).collect();
    assert_eq!(failed.len(), 1, "{written:?}");
    assert_eq!(store.jobs(&Wanted { limit: 10, ..Wanted::default() }).unwrap().len(), 2);
}

#[test]
fn what_an_agent_tells_of_others_tasks_is_not_believed() {
    use crate::domain::{command::TaskSpec, ids::TaskId, time::UnixMs};
    let dir = tempfile::tempdir().unwrap();
    let mut recovered = stored_job(2);
    recovered.options.recovered = true;
    let mut ended = stored_job(4);
    ended.tasks[0].task.state = TaskState::Ended(Ending::Exited(0).into());
    let batches = vec![
        vec![Write::PutJob(Box::new(stored_job(1)))],
        vec![Write::Recover(Box::new(recovered))],
        vec![Write::EndJob(stored_job(1).job.id, UnixMs(9))],
        vec![Write::PutJob(Box::new(ended))],
    ];
    let (store, _) = write(Store::open(dir.path()).unwrap(), batches);
    let spec = TaskSpec {
        job_number: 1,
        operator: "ana".into(),
        target: "@all".into(),
        command: stored_job(1).job.command,
        environment: Vec::new(),
        working_directory: None,
        timeout_ms: None,
        kill_grace_ms: 1,
        input: crate::domain::input::StandardInput::Nothing,
        by_admin: false,
        seal: None,
    };
    let look_up = |agent: &str, known: KnownTask| {
        let found = store.find(&agent.parse().unwrap(), vec![known.clone()]).unwrap();
        let [(of, found)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(*of, known);
        *found
    };
    let known = |job: u64, index| {
        let id = TaskId { job: JobId::from_parts(1, job.into()), index };
        KnownTask { id, spec: spec.clone(), started_ms: UnixMs(1), is_proved: true }
    };
    let find = |agent: &str, job: u64, index| look_up(agent, known(job, index));
    assert_eq!(find("web-1", 1, 0), StoredTaskState::Open, "a task that has a row need not have ended");
    assert_eq!(find("web-1", 4, 0), StoredTaskState::Ended);
    assert_eq!(find("web-2", 1, 0), StoredTaskState::Foreign, "another agent's task");
    assert_eq!(find("web-2", 1, 5), StoredTaskState::Foreign, "a task that the job never had");
    let number = StoredJobNumber::Is(2);
    assert_eq!(
        find("web-2", 2, 5),
        StoredTaskState::Nothing { number },
        "a job that agents told of, by another number"
    );
    assert_eq!(find("web-2", 3, 0), StoredTaskState::Nothing { number: StoredJobNumber::Taken });
    let free = KnownTask { spec: TaskSpec { job_number: 77, ..spec.clone() }, ..known(9, 0) };
    assert_eq!(look_up("web-2", free), StoredTaskState::Nothing { number: StoredJobNumber::Free });
    // A task without a proof is only accepted if the store knows it.
    let unproved = |job, index| KnownTask { is_proved: false, ..known(job, index) };
    assert_eq!(look_up("web-1", unproved(4, 0)), StoredTaskState::Ended);
    for (job, index) in [(9, 0), (2, 5), (1, 5)] {
        assert_eq!(look_up("web-2", unproved(job, index)), StoredTaskState::Unproved);
    }
}

#[test]
fn what_has_happened_is_kept_in_order_and_what_was_asked_for_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (store, connection) = Store::open(dir.path()).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let job = stored_job(1);
    let ended = |status: u8| {
        let mut task = job.tasks[0].clone();
        task.task.state = TaskState::Ended(Ending::Exited(status).into());
        vec![Write::PutTask(job.job.id, task)]
    };
    let (told, news) = mpsc::channel();
    let mut writer = StoreWriter::start(connection, move |written| told.send(written).unwrap()).unwrap();
    writer.write(WriteId(1), vec![Write::PutJob(Box::new(job.clone()))], WriteDurability::FailOnError);
    assert!(matches!(news.recv().unwrap(), Written::Done(WriteId(1), _)));

    // Another connection locks the database, so that nothing can be written.
    let other = Connection::open(dir.path().join("sloth-runner.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    writer.write(WriteId(2), ended(2), WriteDurability::RetryBatched);
    assert!(writer.due().is_some(), "it waits for other changes");
    writer.send();
    assert_eq!(writer.due(), None);
    assert!(matches!(news.recv().unwrap(), Written::Delayed(WriteId(2), _)));
    writer.write(WriteId(3), vec![Write::PutJob(Box::new(stored_job(2)))], WriteDurability::FailOnError);
    writer.write(WriteId(4), ended(4), WriteDurability::RetryUntilWritten);
    writer.write(WriteId(5), Vec::new(), WriteDurability::BestEffort);
    let mut said: Vec<Written> = (0..3).map(|_| news.recv().unwrap()).collect();
    said.sort_by_key(|written| match written {
        Written::Done(token, _)
        | Written::Delayed(token, _)
        | Written::Failed(token, _)
        | Written::Conflict(token) => *token,
    });
    assert!(
        matches!(
            said[..],
            [Written::Failed(WriteId(3), _), Written::Delayed(WriteId(4), _), Written::Failed(WriteId(5), _)]
        ),
        "{said:?}"
    );

    other.execute_batch("ROLLBACK").unwrap();
    drop(writer);
    let said: Vec<Written> = news.iter().collect();
    assert!(matches!(said[..], [Written::Done(WriteId(2), _), Written::Done(WriteId(4), _)]), "{said:?}");
    let stored = store.job(JobReference::Number(1)).unwrap().unwrap();
    assert_eq!(
        stored.tasks[0].state,
        TaskState::Ended(Ending::Exited(4).into()),
        "the later one was written later"
    );
}

#[test]
fn a_log_with_room_in_it_keeps_what_a_crash_left_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, connection) = Store::open(dir.path()).unwrap();
    connection.execute_batch("UPDATE meta SET revision = 7").unwrap();
    let log = |directory: &std::path::Path| directory.join("sloth-runner.db-wal");
    assert_eq!(fs::metadata(log(dir.path())).unwrap().len(), LOG_BYTES, "a commit does not make it longer");

    // A crash leaves a copy of the current files, cut to what was written.
    let copy = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join("sloth-runner.db"), copy.path().join("sloth-runner.db")).unwrap();
    let written = fs::read(log(dir.path())).unwrap();
    let end = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    fs::write(log(copy.path()), &written[..end]).unwrap();
    let (store, connection) = Store::open(copy.path()).unwrap();
    assert_eq!(store.remembered(&connection).unwrap().revision, 7);
    assert_eq!(fs::metadata(log(copy.path())).unwrap().len(), LOG_BYTES);
}

#[test]
fn every_start_has_a_term_of_its_own_and_an_epoch_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = Write::PutAgent(StoredAgent { ahead: Some((1, 9).into()), ..stored_agent("web-1") });
    let _ = write(Store::open(dir.path()).unwrap(), vec![vec![ahead]]);
    for term in 1..4 {
        let (store, connection) = Store::open(dir.path()).unwrap();
        assert_eq!(store.begin_term(&connection).unwrap(), term);
    }
    // A term that could not be written at the start is written when the disk works.
    let (store, _) = write(Store::open(dir.path()).unwrap(), vec![vec![Write::PutTerm(9)]]);
    let connection = store.connect().unwrap();
    assert_eq!(store.begin_term(&connection).unwrap(), 10);
    store.set_epoch(&connection, 7).unwrap();
    let remembered = store.remembered(&connection).unwrap();
    assert_eq!((remembered.epoch, remembered.agents[0].ahead), (7, None), "agents are believed again");
}

#[test]
fn a_task_is_remembered_as_far_as_it_had_come() {
    let dir = tempfile::tempdir().unwrap();
    let sent = |number: u64| {
        let mut job = stored_job(number);
        job.tasks[0].incarnation = Some(Incarnation::new("dir", "boot"));
        job
    };
    let mut ended = sent(4);
    ended.tasks[0].task.state = TaskState::Ended(Ending::Exited(3).into());
    let started = TaskId { job: sent(3).job.id, index: 0 };
    let put = |job: StoredJob| vec![Write::PutJob(Box::new(job))];
    let agent = vec![Write::PutAgent(stored_agent("web-1"))];
    let begun = vec![Write::StartTask(started, UnixMs(5))];
    let batches = vec![agent, put(stored_job(1)), put(sent(2)), put(sent(3)), begun, put(ended)];
    let (store, _) = write(Store::open(dir.path()).unwrap(), batches);
    let state =
        |number| store.stored_job(JobReference::Number(number)).unwrap().unwrap().tasks[0].task.state.clone();
    let words: Vec<_> = (1..=4).map(|number| state(number).word()).collect();
    assert_eq!(words, ["queued", "dispatched", "running", "exited"]);
    let remembered = store.remembered(&store.connect().unwrap()).unwrap();
    let [(name, last)] = &remembered.last_jobs[..] else { panic!("{:?}", remembered.last_jobs) };
    assert_eq!((name.as_str(), last.number, last.operator.as_str()), ("web-1", 4, "ana"));
}

#[test]
fn what_is_gone_says_why_and_is_no_job_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = [stored_job(1), stored_job(2), stored_job(3)];
    let mut batches: Vec<_> = jobs.iter().map(|job| vec![Write::PutJob(Box::new(job.clone()))]).collect();
    batches.push(vec![
        Write::EndJob(jobs[1].job.id, UnixMs(50)),
        Write::EndJob(jobs[0].job.id, UnixMs(90)),
        Write::PutClock(UnixMs(77)),
    ]);
    batches.push(vec![
        Write::EndJob(jobs[2].job.id, UnixMs(10)),
        Write::DeleteJob(jobs[2].job.id, "it was old".into()),
    ]);
    let (store, _) = write(Store::open(dir.path()).unwrap(), batches);
    let (ended, clock_ms) = store.ended().unwrap();
    let ended: Vec<_> = ended.iter().map(|job| (job.number, job.ended_ms)).collect();
    assert_eq!((ended, clock_ms), (vec![(2, UnixMs(50)), (1, UnixMs(90))], UnixMs(77)), "oldest end first");
    for reference in [JobReference::Number(3), JobReference::Id(jobs[2].job.id)] {
        assert_eq!(store.why_gone(reference).unwrap().as_deref(), Some("it was old"));
        assert!(store.job(reference).unwrap().is_none());
    }
    assert_eq!(store.why_gone(JobReference::Number(1)).unwrap(), None);
    let unauthenticated = JobId::from_parts(9, 9);
    let ids = [jobs[0].job.id, jobs[2].job.id, unauthenticated];
    assert_eq!(store.gone_and_unknown(&ids).unwrap(), (vec![jobs[2].job.id], vec![unauthenticated]));
}

/// Returns the revision in the database file, without the contents of its log.
fn revision_in_file(directory: &Path) -> u64 {
    let alone = tempfile::tempdir().unwrap();
    fs::copy(directory.join(FILE), alone.path().join(FILE)).unwrap();
    let copy = Connection::open(alone.path().join(FILE)).unwrap();
    copy.query_row("SELECT revision FROM meta", [], |row| row.get(0)).unwrap_or(0)
}

/// Creates a database whose last commit is only in the log, as after a process was killed.
fn left_in_log(directory: &Path) -> (Store, Connection) {
    let (store, connection) = Store::open(directory).unwrap();
    connection.execute("UPDATE meta SET revision = 7", []).unwrap();
    std::mem::forget(connection);
    assert_eq!(revision_in_file(directory), 0);
    let connection = store.connect().unwrap();
    (store, connection)
}

#[test]
fn what_an_earlier_process_left_in_the_log_is_in_the_database_before_a_term_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (store, connection) = left_in_log(dir.path());
    store.begin_term(&connection).unwrap();
    assert_eq!(revision_in_file(dir.path()), 7);
}

#[test]
fn what_no_start_could_move_out_of_the_log_is_moved_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (_, connection) = left_in_log(dir.path());
    let (told, written) = mpsc::channel();
    let mut writer = StoreWriter::start(connection, move |written| told.send(written).unwrap()).unwrap();
    writer.write(WriteId(1), vec![Write::PutJob(Box::new(stored_job(1)))], WriteDurability::FailOnError);
    assert!(matches!(written.recv().unwrap(), Written::Done(..)));
    assert_eq!(revision_in_file(dir.path()), 7, "what came after it is in the log");
}

#[test]
fn texts_are_indexed_when_there_is_nothing_else_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (store, connection) = Store::open(dir.path()).unwrap();
    let (told, written) = mpsc::channel();
    let mut writer = StoreWriter::start(connection, move |written| told.send(written).unwrap()).unwrap();
    let looking = store.connect().unwrap();
    let indexed = || looking.query_row("SELECT indexed FROM meta", [], |row| row.get::<_, u64>(0)).unwrap();
    for number in 1..=2 {
        writer.write(
            WriteId(number),
            vec![Write::PutJob(Box::new(stored_job(number)))],
            WriteDurability::FailOnError,
        );
        assert!(matches!(written.recv().unwrap(), Written::Done(..)));
        let began = Instant::now();
        while indexed() < number {
            assert!(began.elapsed() < Duration::from_mins(1), "it is never indexed");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn at_the_end_what_waits_is_written_and_the_next_start_needs_no_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let (_, connection) = Store::open(dir.path()).unwrap();
    let mut writer = StoreWriter::start(connection, |_| {}).unwrap();
    writer.write(WriteId(1), vec![Write::PutJob(Box::new(stored_job(1)))], WriteDurability::RetryBatched);
    assert!(writer.due().is_some(), "it waits for other changes");
    drop(writer);
    assert!(dir.path().join(format!("{FILE}-wal")).exists(), "a full disk gives no other one");
    // Everything is in the database file.
    let alone = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join(FILE), alone.path().join(FILE)).unwrap();
    let (store, _) = Store::open(alone.path()).unwrap();
    assert_eq!(store.job(JobReference::Last).unwrap().unwrap().number, 1);
}
