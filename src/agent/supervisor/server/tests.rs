//! Requests to the supervisor, and the end of its tasks without a connector.

use super::*;
use crate::domain::ids::JobId;

fn supervisor(layout: &Layout) -> Supervisor {
    fs::create_dir(layout.tasks()).unwrap();
    Supervisor {
        layout: layout.clone(),
        listener: socket::listen(&layout.supervisor_socket(), 0o600).unwrap(),
        signals: SignalFd::new(&SigSet::empty()).unwrap(),
        clients: Vec::new(),
        lifetime: Lifetime::begin(Instant::now()),
        pool: Pool::new(layout.clone()),
        reserve: Reserve::new(Instant::now(), true),
    }
}

/// Connects a new client that sends `request`. Returns its socket, and the result of the request.
fn connect(
    supervisor: &mut Supervisor,
    request: &SupervisorRequest,
) -> (UnixStream, io::Result<RequestOutcome>) {
    let (mut client, socket) = UnixStream::pair().unwrap();
    supervisor.clients.push(Client {
        socket,
        lines: Lines::default(),
        is_connector: false,
        waits_for_end: false,
    });
    client.write_all(&line(request)).unwrap();
    let heard = supervisor.read_requests(supervisor.clients.len() - 1);
    (client, heard)
}

fn connector(version: &str) -> SupervisorRequest {
    SupervisorRequest::Connector { version: version.to_owned() }
}

fn told(client: &UnixStream) -> SupervisorReply {
    let mut lines = Lines::default();
    lines.read_from(client).unwrap();
    lines.take().unwrap().unwrap()
}

#[test]
fn a_supervisor_works_for_its_own_version_and_makes_way_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(&Layout::new(dir.path()));
    let (_other, heard) = connect(&mut supervisor, &connector("another"));
    assert!(matches!(heard, Ok(RequestOutcome::End)));
    assert!(!supervisor.lifetime.accepts_tasks());
    let (_own, heard) = connect(&mut supervisor, &connector(SOFTWARE_VERSION));
    assert!(matches!(heard, Ok(RequestOutcome::Alive)));
    assert_eq!(supervisor.connector(), Some(1));
    assert!(supervisor.lifetime.accepts_tasks());
}

#[test]
fn a_client_that_stops_the_agent_is_answered_and_the_connector_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(&Layout::new(dir.path()));
    let (half, _) = connect(&mut supervisor, &connector(SOFTWARE_VERSION));
    let (person, heard) = connect(&mut supervisor, &SupervisorRequest::Stop { grace_ms: 7 });
    assert!(matches!(heard, Ok(RequestOutcome::Alive)));
    assert_eq!(told(&person), SupervisorReply::Stopping { running: 0 });
    assert_eq!(told(&half), SupervisorReply::StopOrdered { grace_ms: 7 });
    assert!(!supervisor.is_done(), "it ends when the connector says so");
    assert!(supervisor.end().is_ok());
    assert_eq!(told(&person), SupervisorReply::Stopped { left: 0 });
}

#[test]
fn without_a_connector_tasks_are_killed_after_their_grace_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let mut supervisor = supervisor(&layout);
    let task = layout.task(TaskId { job: JobId::from_parts(1, 1), index: 0 });
    fs::create_dir(task.root()).unwrap();
    let lock = Lock::try_take(&task.lock()).unwrap().unwrap();
    let listener = socket::listen(&task.socket(), 0o600).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (person, _) = connect(&mut supervisor, &SupervisorRequest::Stop { grace_ms: 3_600_000 });
    assert_eq!(told(&person), SupervisorReply::Stopping { running: 1 });
    assert!(!supervisor.is_done());
    assert!(listener.accept().is_err(), "it has its grace");
    let (_hurried, _) = connect(&mut supervisor, &SupervisorRequest::Stop { grace_ms: 0 });
    assert!(!supervisor.is_done());
    let mut lines = Lines::default();
    lines.read_from(&listener.accept().unwrap().0).unwrap();
    let order = lines.take::<TaskRequest>().unwrap();
    assert_eq!(order, Some(TaskRequest::Kill { by: AGENT_STOP.into(), seal: None, grace_ms: KILL_GRACE_MS }));
    drop(lock);
    assert!(supervisor.is_done());
}

#[test]
fn only_events_count_as_activity() {
    let nothing =
        || Ready { signalled: false, connecting: false, clients: vec![], shims: vec![false, false] };
    assert!(nothing().is_nothing());
    for something in [
        Ready { signalled: true, ..nothing() },
        Ready { connecting: true, ..nothing() },
        Ready { clients: vec![0], ..nothing() },
        Ready { shims: vec![false, true], ..nothing() },
    ] {
        assert!(!something.is_nothing());
    }
}

#[test]
fn a_task_lives_while_its_lock_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    assert_eq!(known_tasks(&layout).unwrap(), []);
    fs::write(layout.tasks(), "no directory").unwrap();
    assert!(known_tasks(&layout).is_err(), "nobody knows");
    fs::remove_file(layout.tasks()).unwrap();
    let [lives, ended, unlocked] = [1, 2, 3].map(|index| TaskId { job: JobId::from_parts(1, 1), index });
    for id in [lives, ended, unlocked] {
        fs::create_dir_all(layout.task(id).root()).unwrap();
    }
    fs::write(layout.task(ended).lock(), "1\n").unwrap();
    let _lock = Lock::try_take(&layout.task(lives).lock()).unwrap().unwrap();
    let mut known = known_tasks(&layout).unwrap();
    known.sort_unstable();
    assert_eq!(known, [lives, ended, unlocked]);
    assert_eq!(live_tasks(&layout).unwrap(), [lives]);
}

#[test]
fn only_directories_of_shims_that_are_gone_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    fs::create_dir(layout.tasks()).unwrap();
    let [gone, lives, unlocked] = [1, 2, 3].map(|shim| layout.spare(shim));
    for spare in [&gone, &lives, &unlocked] {
        fs::create_dir(spare.root()).unwrap();
    }
    fs::write(gone.lock(), "1\n").unwrap();
    let _lock = Lock::try_take(&lives.lock()).unwrap().unwrap();
    remove_left_over(&layout).unwrap();
    assert_eq!([gone, lives, unlocked].map(|spare| spare.root().exists()), [false, true, false]);
}
