use std::{path::Path, time::Duration};

use super::*;
use crate::{
    agent::{
        core::{Cancelled, DiskError, FinalRecord},
        handle::{Agent, AgentError, Description},
        incarnation::keep_promises_out,
        troubles::Troubles,
    },
    domain::{
        agent::LinkPreference,
        attach::StartPermission,
        command::TaskSpec,
        fingerprint::Fingerprint,
        ids::JobId,
        name::Labels,
        offset::OutputOffset,
        outcome::{Ending, TaskEnding},
        revision::{Revision, SealedRevision},
    },
    sys::paths::make_private,
};

fn agent(root: &Path) -> Agent {
    let layout = Layout::new(root);
    make_private(&layout.tasks()).unwrap();
    let directory = DirectoryId::open(&layout, true).unwrap();
    let description = Description {
        name: "a".parse().unwrap(),
        labels: Labels::new(),
        link: LinkPreference::Auto,
        direct: None,
    };
    let (orders, _) = mpsc::channel(1);
    let supervisor = (Supervisor::disconnected(), Troubles::default());
    let (agent, core) = Agent::new(description, layout, supervisor, directory, orders, false).unwrap();
    tokio::spawn(core);
    agent
}

fn id(index: u32) -> TaskId {
    TaskId { job: JobId::from_parts(1, 1), index }
}

fn ending() -> TaskEnding {
    TaskEnding { outcome: Ending::Exited(3).into(), end_offset: OutputOffset(7), duration_ns: 0 }
}

async fn incarnation(agent: &Agent) -> Incarnation {
    agent.introduce().await.unwrap().incarnation
}

/// An Attach to task `index` with a permission to start it.
async fn attach(agent: &Agent, index: u32, attempt: u64) -> OpenedAttach {
    attach_in(incarnation(agent).await, index, attempt)
}

fn attach_in(incarnation: Incarnation, index: u32, attempt: u64) -> OpenedAttach {
    OpenedAttach {
        id: id(index),
        attempt,
        incarnation,
        start: Some(StartPermission { spec: TaskSpec::example(), within: Duration::from_secs(10) }),
        sent: None,
        arrived: boottime_ms(),
        revision: SealedRevision::default(),
    }
}

async fn decision(agent: &Agent, attach: OpenedAttach) -> Decision {
    agent.open(attach).await.unwrap().decision
}

/// Waits until this number of task directories exists.
async fn until_left(agent: &Agent, count: usize) {
    tokio::time::timeout(Duration::from_secs(30), async {
        while known_tasks(&agent.layout).unwrap().len() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{:?}", known_tasks(&agent.layout)));
}

#[tokio::test]
async fn what_has_ended_or_was_promised_is_not_started_by_any_later_permission_or_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = agent(dir.path());
    let life = incarnation(&first).await;
    first.finish(id(0), ending()).await.unwrap();
    assert_eq!(decision(&first, attach(&first, 0, 2).await).await, Decision::Recall(ending()));
    drop(first);
    let again = agent(dir.path());
    assert_eq!(incarnation(&again).await, life);
    assert_eq!(decision(&again, attach(&again, 0, 3).await).await, Decision::Recall(ending()));
    let unpermitted = OpenedAttach { start: None, ..attach(&again, 1, 1).await };
    assert_eq!(decision(&again, unpermitted).await, Decision::NeverStarted(life.clone()));
    assert_eq!(again.cancel(id(2)).await, Ok(Cancelled::NeverStarted(life.clone())));
    drop(again);
    let again = agent(dir.path());
    for index in [1, 2] {
        let promised = decision(&again, attach(&again, index, 2).await).await;
        assert_eq!(promised, Decision::NeverStarted(life.clone()));
    }
}

#[tokio::test]
async fn memory_that_is_removed_begins_another_incarnation_of_which_the_master_is_notified() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let life = incarnation(&agent).await;
    let attach = attach(&agent, 0, 1).await;
    std::fs::remove_dir_all(agent.layout.tasks()).unwrap();
    let decision = decision(&agent, attach).await;
    assert!(matches!(decision, Decision::OtherIncarnation { .. }), "{decision:?}");
    assert_ne!(incarnation(&agent).await, life);
    agent.incarnation_changed.notified().await;
    // Without a task the next check finds it.
    std::fs::remove_dir_all(agent.layout.tasks()).unwrap();
    agent.tell(Input::CheckMemory).await;
    agent.incarnation_changed.notified().await;
}

#[tokio::test]
async fn a_start_without_a_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let refused = Decision::Refuse("the agent cannot start it: the agent is ending".to_owned());
    assert_eq!(decision(&agent, attach(&agent, 0, 1).await).await, refused);
    assert_eq!(agent.running().await, Ok(Vec::new()));
}

#[tokio::test]
async fn every_start_during_which_the_memory_was_removed_reports_that() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Arc::new(Layout::new(dir.path()));
    make_private(&layout.tasks()).unwrap();
    let directory = DirectoryId::open(&layout, true).unwrap();
    let incarnation = directory.incarnation().unwrap();
    let (inbox, _messages) = mpsc::channel(8);
    let shown = Shown { stopping: watch::channel(false).0, incarnation_changed: Arc::default() };
    let (name, supervisor) = ("a".parse().unwrap(), Supervisor::disconnected());
    let mut actor =
        Actor::new(Arc::clone(&layout), name, supervisor, directory, inbox.downgrade(), shown).unwrap();
    let mut opened = Vec::new();
    for index in 0..3 {
        let (caller, answer) = oneshot::channel();
        opened.push(answer);
        actor.take(Message::Open(Box::new(attach_in(incarnation.clone(), index, 1)), caller));
    }
    let mut fail = |index| {
        actor.take(Message::Started(id(index), Err("no process".to_owned())));
        opened.remove(0).try_recv().unwrap().unwrap().decision
    };
    assert_eq!(fail(0), Decision::Refuse("the agent cannot start it: no process".to_owned()));
    fs::remove_dir_all(layout.tasks()).unwrap();
    assert_eq!(fail(1), Decision::MemoryRemoved);
    // The memory was replaced meanwhile.
    assert_eq!(fail(2), Decision::MemoryRemoved);
}

#[tokio::test]
async fn an_end_is_recorded_with_the_day() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let today = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        since.as_secs() / (24 * 60 * 60)
    };
    let before = today();
    agent.finish(id(0), ending()).await.unwrap();
    let file = std::fs::read_to_string(agent.layout.finished()).unwrap();
    let entry: serde_json::Value = serde_json::from_str(file.lines().last().unwrap()).unwrap();
    let day = entry["day"].as_u64().unwrap();
    assert!((before..=today()).contains(&day), "{day}");
}

#[tokio::test]
async fn what_was_seen_of_a_masters_store_outlives_the_agent_and_says_nothing_of_another_master() {
    let dir = tempfile::tempdir().unwrap();
    let ca = |name: &str| Fingerprint::of(name.as_bytes());
    let revision = SealedRevision { revision: Revision { epoch: 2, number: 40 }, seal: Some([7; 32].into()) };
    let first = agent(dir.path());
    first.tell(Input::BelongTo(ca("first"))).await;
    let unpermitted = OpenedAttach { start: None, revision, ..attach(&first, 0, 1).await };
    first.open(unpermitted).await.unwrap();
    assert_eq!(first.introduce().await.unwrap().seen, revision);
    drop(first);
    let again = agent(dir.path());
    again.tell(Input::BelongTo(ca("first"))).await;
    assert_eq!(again.introduce().await.unwrap().seen, revision);
    again.tell(Input::BelongTo(ca("second"))).await;
    assert_eq!(again.introduce().await.unwrap().seen, SealedRevision::default());
}

#[tokio::test]
async fn an_agent_that_stops_says_so_and_starts_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let mut stopping = agent.stopping.clone();
    assert!(!agent.is_stopping());
    agent.tell(Input::Stop).await;
    stopping.changed().await.unwrap();
    assert!(agent.is_stopping());
    let decision = decision(&agent, attach(&agent, 0, 1).await).await;
    assert!(matches!(decision, Decision::Refuse(_)), "{decision:?}");
}

#[tokio::test]
async fn an_attach_is_notified_of_the_one_that_takes_its_place_and_only_while_it_has_the_task() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    std::fs::create_dir(agent.layout.task(id(0)).root()).unwrap();
    let first = agent.open(attach(&agent, 0, 1).await).await.unwrap();
    let second = agent.open(attach(&agent, 0, 2).await).await.unwrap();
    assert_eq!(first.superseded.by().await, 2);
    agent.tell(Input::AttachEnded { id: id(0), attempt: 2 }).await;
    agent.open(attach(&agent, 0, 3).await).await.unwrap();
    let by = tokio::time::timeout(Duration::from_millis(1), second.superseded.by()).await;
    assert!(by.is_err(), "{by:?}");
    assert_eq!(decision(&agent, attach(&agent, 0, 1).await).await, Decision::Superseded(3));
}

#[tokio::test]
async fn finished_tasks_are_remembered_and_their_directories_removed() {
    let dir = tempfile::tempdir().unwrap();
    let first = agent(dir.path());
    for index in 0..3 {
        std::fs::create_dir(first.layout.task(id(index)).root()).unwrap();
    }
    assert_eq!(first.unfinished().await.unwrap().len(), 3);
    first.finish(id(0), ending()).await.unwrap();
    first.finish(id(1), ending()).await.unwrap();
    assert_eq!(known_tasks(&first.layout).unwrap().len(), 3, "commands come first");
    assert_eq!(first.unfinished().await.unwrap(), [id(2)]);
    first.remove_left_over().await.unwrap();
    assert_eq!(known_tasks(&first.layout).unwrap(), [id(2)]);
    first.finish(id(2), ending()).await.unwrap();
    drop(first);
    // The next agent removes the left-over directories when it is idle.
    let again = agent(dir.path());
    assert_eq!(again.unfinished().await.unwrap(), []);
    until_left(&again, 0).await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_says_nothing_about_a_task() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    // A file where the directory with the tasks should be.
    std::fs::remove_dir_all(agent.layout.tasks()).unwrap();
    std::fs::write(agent.layout.tasks(), "").unwrap();
    let failed = agent.open(attach(&agent, 0, 1).await).await.unwrap_err();
    assert!(matches!(&failed, AgentError::Disk(DiskError(_))), "{failed}");
    assert!(agent.cancel(id(0)).await.is_err());
}

#[test]
fn records_of_the_promise_and_the_end_are_stored_as_before() {
    let promise = FinalRecord::NeverStarted(Incarnation::new("dir", "boot"));
    let text = serde_json::to_string(&promise).unwrap();
    assert!(text.starts_with(r#"{"never_started":"#), "{text}");
    assert!(serde_json::to_string(&FinalRecord::Ending(ending())).unwrap().starts_with(r#"{"ending":"#));
}

#[test]
fn a_promise_is_not_written_for_a_task_that_has_begun_or_while_a_shim_looks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    make_private(&layout.tasks()).unwrap();
    let mut memory = TaskMemory::open(layout.clone(), DirectoryId::open(&layout, true).unwrap()).unwrap();
    let promise = FinalRecord::NeverStarted(memory.incarnation().unwrap());
    // A shim that a killed connector has sent the task begins it between the look-up and the promise.
    assert_eq!(memory.knowledge(id(0)).unwrap(), Knowledge::Nothing);
    fs::create_dir(layout.task(id(0)).root()).unwrap();
    assert!(memory.record(id(0), promise.clone()).is_err());
    assert_eq!(memory.knowledge(id(0)).unwrap(), Knowledge::Spooled);
    let looking = keep_promises_out(&layout.directory_id()).unwrap();
    assert!(memory.record(id(1), promise.clone()).is_err());
    drop(looking);
    memory.record(id(1), promise.clone()).unwrap();
    assert_eq!(memory.knowledge(id(1)).unwrap(), Knowledge::Recorded(promise));
    // The promise has released its lock.
    keep_promises_out(&layout.directory_id()).unwrap();
}
