//! Jobs that a master with a restored store recovers from its agents.

use super::*;
use crate::{
    domain::{
        command::{Bytes, TaskSpec, Variable},
        input::StandardInput,
        offset::OutputOffset,
        time::UnixMs,
    },
    master::core::stored::{KnownTask, StoredJob, StoredJobNumber, StoredTaskState},
};

fn known(job: u128, index: u32, job_number: u64) -> KnownTask {
    let spec = TaskSpec {
        job_number,
        operator: "ana".into(),
        target: "@all".into(),
        command: Command::new(vec![b"true".to_vec()]).unwrap(),
        environment: vec![Variable::new(b"A".to_vec(), b"b".to_vec()).unwrap()],
        working_directory: Some(Bytes(b"/srv".to_vec())),
        timeout_ms: Some(60_000),
        kill_grace_ms: 700,
        input: StandardInput::Nothing,
        by_admin: false,
        seal: None,
    };
    KnownTask { id: task(job, index), spec, started_ms: UnixMs(5), is_proved: true }
}

impl World {
    /// Two agents, which are connected in sessions 1 and 2.
    pub(super) fn two_agents() -> Self {
        let mut world = Self::with_agent("web-1", "boot");
        world.agent("web-2");
        world.connect(2, "web-2", "boot");
        world
    }

    fn tells(&mut self, session: u64, known: KnownTask, number: StoredJobNumber) -> Vec<AttachOrder> {
        self.put(Input::LookedUp(SessionId(session), vec![(known, StoredTaskState::Nothing { number })]));
        self.attaches()
    }

    fn recovered(&self) -> Vec<&StoredJob> {
        let recovered = |write: &'_ Write| matches!(write, Write::Recover(_));
        let writes = self.written.iter().flatten().filter(|write| recovered(write));
        writes.filter_map(|write| if let Write::Recover(job) = write { Some(&**job) } else { None }).collect()
    }

    fn found(&mut self, number: u64) -> Option<Job> {
        self.ask(|reply| Input::FindJob(JobReference::Number(number), reply)).map(|job| *job)
    }
}

#[test]
fn a_job_is_recovered_from_each_agent_that_reports_it_and_ends_with_the_last_task() {
    let mut world = World::two_agents();
    let mut orders = world.tells(2, known(9, 3, 7), StoredJobNumber::Free);
    orders.extend(world.tells(1, known(9, 0, 7), StoredJobNumber::Free));
    assert!(world.tells(1, known(9, 0, 7), StoredJobNumber::Free).is_empty(), "it is here already");
    assert_eq!(orders.iter().map(|order| order.id).collect::<Vec<_>>(), [task(9, 3), task(9, 0)]);
    assert!(orders.iter().all(|order| order.start.is_none()));

    let job = world.found(7).unwrap();
    assert_eq!(job.tasks.iter().map(|task| task.index).collect::<Vec<_>>(), [0, 3]);
    assert_eq!((job.task_count, job.unfinished, job.created_ms), (2, 2, UnixMs(5)));
    assert_eq!(job.operator, "ana", "the master's own word, which the agent has proved");
    let stored = world.recovered();
    assert_eq!(stored.len(), 2);
    for job in stored {
        let options = &job.options;
        assert!(options.recovered);
        let asked = known(9, 0, 7).spec;
        assert_eq!(options.environment, []);
        let names: Vec<_> = asked.environment.into_iter().map(|variable| variable.name).collect();
        assert_eq!(options.forgotten, names, "the task has its variables, and nobody else needs them");
        assert_eq!(options.working_directory, asked.working_directory);
        assert_eq!((options.timeout_ms, options.kill_grace_ms), (Some(60_000), Some(700)));
        let [task] = &job.tasks[..] else { panic!("{:?}", job.tasks) };
        assert_eq!(task.task.state, TaskState::Dispatched);
        assert!(task.incarnation.is_some());
    }

    world.put(Input::SessionClosed(SessionId(1)));
    world.connect(3, "web-1", "boot");
    let again = world.attaches();
    assert_eq!(again.iter().map(|order| order.id).collect::<Vec<_>>(), [task(9, 0)]);
    world.end(&again[0], 0);
    let job = world.found(7).expect("one of its tasks continues");
    assert_eq!((job.succeeded, job.unfinished), (1, 1));
    world.end(&orders[0], 0);
    assert!(world.core.jobs.is_empty());
}

#[test]
fn a_recovered_job_keeps_its_number_unless_another_job_has_it() {
    let last = 41;
    for (told, in_store, number) in [
        (7, StoredJobNumber::Free, 7),
        (7, StoredJobNumber::Taken, 42),
        (7, StoredJobNumber::Is(12), 12),
        (42, StoredJobNumber::Free, 42),
        (last + 1_000_000, StoredJobNumber::Free, last + 1_000_000),
    ] {
        let mut world = World::two_agents();
        world.core.last_number = last;
        world.tells(1, known(9, 0, told), in_store);
        assert_eq!(world.recovered()[0].job.number, number, "{told}");
        let next = world.run(1, "web-2").number;
        assert_eq!(next, number.max(last) + 1, "{told}: later ones count on");
    }
    let mut world = World::two_agents();
    world.tells(1, known(9, 0, 7), StoredJobNumber::Free);
    world.tells(2, known(10, 0, 7), StoredJobNumber::Free);
    assert_eq!(world.recovered()[1].job.number, 8, "another job is called that");
}

#[test]
fn tasks_can_be_recovered_in_any_order() {
    let mut world = World::two_agents();
    for index in [5, 2, 7, 0, 6] {
        world.tells(1, known(9, index, 7), StoredJobNumber::Free);
    }
    let job = world.found(7).unwrap();
    assert_eq!(job.tasks.iter().map(|task| task.index).collect::<Vec<_>>(), [0, 2, 5, 6, 7]);
    for index in [7, 5, 0, 2, 6] {
        let outcome = Ending::Exited(0).into();
        world.put(Input::TaskEnded {
            id: task(9, index),
            outcome,
            end_offset: OutputOffset::START,
            duration_ns: 1,
        });
    }
    assert!(world.core.jobs.is_empty());
}

#[test]
fn a_recovered_job_keeps_its_standard_input() {
    let mut world = World::two_agents();
    let mut fed = known(9, 0, 7);
    fed.spec.input = StandardInput::Stream;
    assert!(world.tells(1, fed, StoredJobNumber::Free)[0].is_fed);
    assert_eq!(world.recovered()[0].options.input, StandardInput::Stream);
}

#[test]
fn each_recall_has_a_higher_attempt_than_all_before() {
    let mut world = World::two_agents();
    let mut last = 0;
    for _ in 0..3 {
        world.put(Input::LookedUp(SessionId(1), vec![(known(9, 0, 7), StoredTaskState::Ended)]));
        let order = world.attaches().pop().unwrap();
        assert!(order.attempt > last && order.attempt > world.core.first_attempt() + 1_000_000);
        assert!(order.attempt < world.core.first_attempt() + (1 << 24), "within this master's term");
        last = order.attempt;
    }
}
