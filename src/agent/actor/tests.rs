use super::{
    finishing::{MOST_LEFT_OVER, REMOVE_AFTER},
    *,
};
use crate::{
    agent::supervisor::server::known_tasks,
    domain::{
        command::TaskSpec,
        ids::JobId,
        outcome::Ending,
        revision::{Revision, SealedRevision},
    },
    sys::paths::make_private,
};

fn agent(root: &std::path::Path) -> Agent {
    let layout = Layout::new(root);
    make_private(&layout.tasks()).unwrap();
    let directory = DirectoryId::open(&layout, true).unwrap();
    let description = Description {
        name: "a".parse().unwrap(),
        labels: Labels::new(),
        link: LinkPreference::Auto,
        direct: None,
    };
    let (orders, _) = tokio::sync::mpsc::channel(1);
    Agent::new(
        description,
        layout.clone(),
        (Supervisor::nobody(&layout), Troubles::default()),
        directory,
        orders,
        false,
    )
    .unwrap()
}

fn permission(agent: &Agent, attempt: u64, incarnation: Incarnation) -> ReceivedOpen {
    let id = TaskId { job: JobId::from_parts(1, 1), index: 0 };
    let arrived = clock::boottime_ms();
    let start_within = Some(Duration::from_secs(10));
    assert!(!agent.layout.task(id).root().exists());
    ReceivedOpen { id, attempt, incarnation, start_within, sent: None, arrived, by_admin: false }
}

fn incarnation(agent: &Agent) -> Incarnation {
    agent.inner().core.incarnation().clone()
}

fn decision(agent: &Agent, open: &ReceivedOpen) -> Decision {
    agent.decide(open, true).unwrap().unwrap().decision
}

#[test]
fn what_has_ended_or_was_promised_is_not_started_by_any_later_permission_or_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = agent(dir.path());
    let life = incarnation(&first);
    let open = permission(&first, 1, life.clone());
    let outcome = Ending::Exited(3).into();
    first.finish(open.id, TaskEnding { outcome, end_offset: 0, duration_ns: 0 }).unwrap();
    assert_eq!(decision(&first, &permission(&first, 2, life.clone())), Decision::Recall);
    drop(first);
    let again = agent(dir.path());
    assert_eq!(incarnation(&again), life);
    assert_eq!(decision(&again, &permission(&again, 3, life.clone())), Decision::Recall);
    let other = ReceivedOpen {
        id: TaskId { job: JobId::from_parts(1, 2), index: 0 },
        start_within: None,
        ..permission(&again, 1, life.clone())
    };
    assert_eq!(decision(&again, &other), Decision::Promise);
    assert!(again.promise(other.id, other.attempt).unwrap());
    drop(again);
    let again = agent(dir.path());
    let permission = ReceivedOpen { attempt: 2, start_within: open.start_within, ..other };
    assert_eq!(decision(&again, &permission), Decision::Promised);
}

#[test]
fn memory_that_is_removed_begins_another_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let life = incarnation(&agent);
    std::fs::remove_dir_all(agent.layout.tasks()).unwrap();
    let decision = decision(&agent, &permission(&agent, 1, life.clone()));
    assert!(matches!(decision, Decision::OtherIncarnation(_)), "{decision:?}");
    assert_ne!(incarnation(&agent), life);
}

#[tokio::test]
async fn only_a_start_that_finds_no_memory_says_that_it_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let life = incarnation(&agent);
    let first = agent.open(&permission(&agent, 1, life.clone())).await.unwrap();
    // No supervisor gives it a process.
    let fails = first.starting.unwrap().start(TaskSpec::example()).await;
    assert_eq!(fails.unwrap_err(), "the agent is ending");
    let second = agent.open(&permission(&agent, 2, life)).await.unwrap();
    std::fs::remove_dir_all(agent.layout.tasks()).unwrap();
    let is_gone = second.starting.unwrap().start(TaskSpec::example()).await;
    assert!(matches!(is_gone, Ok(StartResult::MemoryGone)), "{is_gone:?}");
}

#[test]
fn an_ending_is_written_down_with_the_day() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let today = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        since.as_secs() / (24 * 60 * 60)
    };
    let id = TaskId { job: JobId::from_parts(1, 1), index: 0 };
    let before = today();
    agent
        .finish(id, TaskEnding { outcome: Ending::Exited(3).into(), end_offset: 0, duration_ns: 0 })
        .unwrap();
    let file = std::fs::read_to_string(agent.layout.finished()).unwrap();
    let entry: serde_json::Value = serde_json::from_str(file.lines().last().unwrap()).unwrap();
    let day = entry["day"].as_u64().unwrap();
    assert!((before..=today()).contains(&day), "{day}");
}

#[test]
fn what_was_seen_of_a_masters_store_outlives_the_agent_and_says_nothing_of_another_master() {
    let dir = tempfile::tempdir().unwrap();
    let ca = |name: &str| Fingerprint::of(name.as_bytes());
    let seen = SealedRevision { revision: Revision { epoch: 2, number: 40 }, seal: Some([7; 32].into()) };
    let first = agent(dir.path());
    first.belong_to(&ca("first"));
    first.see(seen);
    first.save_seen();
    drop(first);
    let again = agent(dir.path());
    again.belong_to(&ca("first"));
    assert_eq!(again.seen(), seen);
    again.belong_to(&ca("second"));
    assert_eq!(again.seen(), SealedRevision::default());
}

#[test]
fn an_agent_that_stops_starts_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    assert!(!agent.is_stopping());
    agent.stop();
    assert!(agent.is_stopping());
    let decision = decision(&agent, &permission(&agent, 1, incarnation(&agent)));
    assert!(matches!(decision, Decision::Refuse(_)), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn a_permission_waits_until_it_is_known_how_old_it_is_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let sent = SentAt { clock: 7, at_ms: 1_000_000 };
    let open = ReceivedOpen { sent: Some(sent), ..permission(&agent, 1, incarnation(&agent)) };
    let began = Instant::now();
    assert_eq!(agent.open(&open).await.unwrap().decision, Decision::Expired);
    assert!(began.elapsed() >= WAIT_FOR_CLOCK);
    // The session tells while it waits.
    let open = ReceivedOpen { attempt: 2, ..open };
    let (opened, ()) = tokio::join!(agent.open(&open), async {
        tokio::task::yield_now().await;
        agent.note_master_clock(sent, Some(Echo { at_ms: clock::boottime_ms(), age_ms: 0 }));
    });
    assert_eq!(opened.unwrap().decision, Decision::Start);
}

#[tokio::test]
async fn nothing_is_decided_on_a_task_that_is_being_started() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let open = permission(&agent, 1, incarnation(&agent));
    let id = open.id;
    assert_eq!(agent.running_count(), 0);
    let starting = agent.open(&open).await.unwrap().starting.unwrap();
    assert_eq!((agent.running().unwrap(), agent.running_count()), (vec![id], 1));
    assert!(!agent.promise(id, 1).unwrap(), "it may be running in a moment");
    let cancelled = agent.cancel(id);
    tokio::pin!(cancelled);
    tokio::select! {
        biased;
        answer = &mut cancelled => panic!("{answer:?}"),
        () = tokio::task::yield_now() => {}
    }
    drop(starting);
    assert_eq!(cancelled.await.unwrap(), Cancelled::NeverStarted);
    assert_eq!(agent.running().unwrap(), []);
    assert_eq!(decision(&agent, &permission(&agent, 2, incarnation(&agent))), Decision::Promised);
}

#[test]
fn only_the_attach_that_has_a_task_promises_not_to_start_it_and_only_of_one_that_is_not_here() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let asked = ReceivedOpen { start_within: None, ..permission(&agent, 2, incarnation(&agent)) };
    assert_eq!(decision(&agent, &asked), Decision::Promise);
    assert!(!agent.promise(asked.id, 1).unwrap(), "a later one has it");
    let task = agent.layout.task(asked.id);
    std::fs::create_dir(task.root()).unwrap();
    assert!(!agent.promise(asked.id, 2).unwrap(), "it is here");
    std::fs::remove_dir(task.root()).unwrap();
    assert!(agent.promise(asked.id, 2).unwrap());
}

#[test]
fn an_attach_that_has_ended_is_not_told_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let mut attempt = 0;
    let mut is_told_after_release_of = |which: fn(u64) -> u64| {
        attempt += 2;
        let open =
            |attempt| ReceivedOpen { start_within: None, ..permission(&agent, attempt, incarnation(&agent)) };
        let token = agent.decide(&open(attempt), true).unwrap().unwrap().superseded;
        agent.release(open(attempt).id, which(attempt));
        agent.decide(&open(attempt + 1), true).unwrap().unwrap();
        token.is_told()
    };
    assert!(!is_told_after_release_of(|attempt| attempt));
    assert!(is_told_after_release_of(|attempt| attempt - 1), "an earlier one's end is not its end");
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_remembered_and_its_directory_removed_in_a_quiet_moment_or_when_there_are_many() {
    let dir = tempfile::tempdir().unwrap();
    let first = agent(dir.path());
    let id = |index| TaskId { job: JobId::from_parts(1, 1), index };
    let ending = || TaskEnding { outcome: Ending::Exited(3).into(), end_offset: 7, duration_ns: 0 };
    let most = u32::try_from(MOST_LEFT_OVER).unwrap();
    for index in 0..=most {
        std::fs::create_dir(first.layout.task(id(index)).root()).unwrap();
    }
    assert_eq!(first.unfinished().unwrap().len(), MOST_LEFT_OVER + 1);
    let left = |agent: &Agent| known_tasks(&agent.layout).unwrap().len();
    for index in 0..most - 1 {
        first.finish(id(index), ending()).unwrap();
    }
    assert_eq!(left(&first), MOST_LEFT_OVER + 1, "commands come first");
    assert_eq!(first.unfinished().unwrap().len(), 2);
    first.finish(id(most - 1), ending()).unwrap();
    assert_eq!(left(&first), 1);
    first.finish(id(most), ending()).unwrap();
    assert_eq!(first.recall(id(most)).unwrap(), Some(ending()));
    assert_eq!(first.recall(id(most + 1)).unwrap(), None);
    drop(first);
    // What the last one left is removed by the next.
    let again = agent(dir.path());
    assert_eq!(left(&again), 1);
    let tidy = tokio::spawn(again.clone().keep_tidy());
    tokio::time::sleep(2 * REMOVE_AFTER).await;
    assert_eq!(left(&again), 0);
    tidy.abort();
}

#[test]
fn a_permission_that_was_too_long_on_its_way_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let mut open = permission(&agent, 1, incarnation(&agent));
    open.arrived = open.arrived.saturating_sub(11_000);
    assert_eq!(decision(&agent, &open), Decision::Expired);
}
