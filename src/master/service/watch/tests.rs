//! Digests of jobs that are live, over, or lose their log.

use tokio_stream::StreamExt as _;

use super::*;
use crate::{
    domain::{
        command::Command,
        frame::{Frame, Stream},
        job::{Task, TaskState},
        outcome::Ending,
        plan::Gate,
        time::UnixMs,
    },
    wire::{
        budget::{Budget, Principal},
        convert::Carried,
        outbox::Answers,
    },
};

fn job() -> Job {
    let task = |index: u32| Task {
        state: TaskState::Running,
        ..Task::queued(index, format!("web-{index}").parse().unwrap())
    };
    Job {
        id: JobId::from_parts(1, 1),
        number: 1,
        operator: "ana".into(),
        plain_name: false,
        target: "web-[0-1]".into(),
        command: Command::new(vec![b"true".to_vec()]).unwrap(),
        created_ms: UnixMs(1),
        ended_ms: None,
        tasks: vec![task(0), task(1)],
        task_count: 2,
        succeeded: 0,
        unfinished: 2,
        left_out: Vec::new(),
        gate: Gate::default(),
        masks: Masks::default(),
        command_left_out: 0,
    }
}

struct World {
    watched: Watched,
    journal: Arc<Journal>,
    logs: OutputLogs,
    shutdown: Shutdown,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            watched: Watched::default(),
            journal: Arc::default(),
            logs: OutputLogs::new(directory.path().to_owned()),
            shutdown: Shutdown::default(),
            _directory: directory,
        }
    }

    fn watch(&self, masks: Masks, follow: bool) -> Answers<JobDigest> {
        let budget = Budget::unlimited(Principal::Operator("ana".into()));
        let (digests, heard) = Outbox::new(budget, 1);
        let maskers = vec![Masker::default(); 2];
        let watch = Watch { job: job(), live: Some(Arc::clone(&self.journal)), masks, maskers, follow };
        let (logs, shutdown) = (self.logs.clone(), self.shutdown.clone());
        tokio::spawn(self.watched.clone().serve(watch, logs, shutdown, digests));
        heard
    }

    async fn print(&self, task: u32, text: &'static str) {
        let log = self.logs.open(job().id).await.unwrap();
        let offset = log.task_end(task);
        let frame = Frame { stream: Stream::Stdout, offset, time_ns: 0, data: text.into() };
        log.append(task, &[frame]).await.unwrap();
    }

    fn end(&self, index: u32) {
        let state = TaskState::Ended(Ending::Exited(0).into());
        self.journal.put(Task { state, ..job().tasks[index as usize].clone() });
    }
}

async fn next(heard: &mut Answers<JobDigest>) -> JobDigest {
    next_or_end(heard).await.unwrap()
}

async fn next_or_end(heard: &mut Answers<JobDigest>) -> Option<JobDigest> {
    Some(JobDigest::from_message(heard.next().await?.unwrap()).unwrap())
}

#[tokio::test]
async fn watchers_with_the_same_view_share_one_computation_and_receive_all_of_it() {
    let world = World::new();
    world.print(0, "one\n").await;
    let mut first = world.watch(Masks::default(), true);
    let begun = next(&mut first).await;
    assert_eq!(begun.job.unwrap().tasks.len(), 2);
    let mut second = world.watch(Masks::default(), true);
    let mut other = world.watch(Masks { numbers: true, ..Masks::default() }, true);
    let joined = next(&mut second).await;
    assert_eq!(joined.job.unwrap().tasks.len(), 2, "a later watcher receives the whole job");
    next(&mut other).await;
    assert_eq!(world.watched.all().len(), 2, "one computation for each set of masks");

    world.print(1, "one\n").await;
    (0..2).for_each(|index| world.end(index));
    world.journal.end(UnixMs(5));
    for heard in [&mut first, &mut second, &mut other] {
        let (mut changed, mut last) = (Vec::new(), None);
        while let Some(digest) = next_or_end(heard).await {
            changed.extend(digest.tasks.iter().map(|task| task.index));
            last = Some(digest);
        }
        let last = last.unwrap();
        assert_eq!(
            (last.ended_ms, last.groups.len(), &last.groups[0].tasks),
            (Some(UnixMs(5)), 1, &vec![0, 1])
        );
        assert!(changed.contains(&0) && changed.contains(&1), "{changed:?}");
    }
    world.shutdown.finish(Duration::from_secs(5)).await;
    assert!(world.watched.all().is_empty());
}

#[tokio::test]
async fn nothing_is_worked_out_when_nobody_watches_any_more() {
    let world = World::new();
    let mut heard = world.watch(Masks::default(), true);
    next(&mut heard).await;
    drop(heard);
    world.shutdown.tracker.close();
    world.shutdown.tracker.wait().await;
    assert!(world.watched.all().is_empty());
}

#[tokio::test]
async fn a_watcher_that_joins_while_the_computation_ends_is_asked_to_reconnect() {
    let world = World::new();
    let mut first = world.watch(Masks::default(), true);
    next(&mut first).await;
    let standing = Arc::clone(world.watched.all().values().next().unwrap());
    let mut second = world.watch(Masks::default(), true);
    next(&mut second).await;
    standing.leave();
    while let Some(digest) = next_or_end(&mut second).await {
        if let Some(closing) = digest.closing {
            assert_eq!(closing.reason, LOG_REOPENED);
            return;
        }
    }
    panic!("it was not asked to reconnect");
}

#[tokio::test]
async fn a_single_digest_has_everything_that_was_printed_before_it_was_asked_for() {
    let world = World::new();
    let mut first = world.watch(Masks::default(), true);
    next(&mut first).await;
    world.print(0, "one\ntwo\n").await;
    let mut single = world.watch(Masks::default(), false);
    let digest = next(&mut single).await;
    assert_eq!(digest.groups.iter().map(|group| group.lines[0]).max(), Some(2));
    assert!(next_or_end(&mut single).await.is_none(), "one, and no more");
}
