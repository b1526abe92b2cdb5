//! Random histories of questions, starts and failures of the disk.

use proptest::prelude::*;

use super::*;

/// A step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Open { task: u32, attempt: u64, may_start: bool, is_dated: bool },
    AttachEnded { task: u32, attempt: u64 },
    Promise { task: u32, attempt: u64 },
    Cancel(u32),
    Finish(u32),
    EndStart(StartEnd, bool),
    Clock,
    Stop,
    Wait(u64),
    DiskFails(bool),
    Removed,
}

fn any_step() -> impl Strategy<Value = Step> {
    let (task, attempt) = (0_u32..3, 1_u64..6);
    prop_oneof![
        6 => (task.clone(), attempt.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(task, attempt, may_start, is_dated)| Step::Open { task, attempt, may_start, is_dated }),
        2 => (task.clone(), attempt.clone()).prop_map(|(task, attempt)| Step::AttachEnded { task, attempt }),
        1 => (task.clone(), attempt).prop_map(|(task, attempt)| Step::Promise { task, attempt }),
        1 => task.clone().prop_map(Step::Cancel),
        1 => task.prop_map(Step::Finish),
        4 => (any_end(), any::<bool>()).prop_map(|(end, has_begun)| Step::EndStart(end, has_begun)),
        1 => Just(Step::Clock),
        1 => (0_u32..20).prop_map(|roll| if roll == 0 { Step::Stop } else { Step::Clock }),
        2 => (0_u64..1_500).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::DiskFails),
        1 => Just(Step::Removed),
    ]
}

fn any_end() -> impl Strategy<Value = StartEnd> {
    prop_oneof![Just(StartEnd::Started), Just(StartEnd::Expired), Just(failed())]
}

proptest! {
    /// In any history a task is started at most once, never with a record or a promise against it (see
    /// `World::perform`), and every caller gets exactly one answer.
    #[test]
    fn tasks_are_started_once_and_every_caller_gets_one_answer(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::new();
        let (mut opened, mut asked) = (Vec::new(), Vec::new());
        let mut started: HashMap<TaskId, u32> = HashMap::new();
        for step in steps {
            match step {
                Step::Open { task, attempt, may_start, is_dated } => {
                    let sent = (!is_dated).then_some(SentAt { clock: 7, at_ms: world.now });
                    let arrived = world.now;
                    opened.push(world.open(OpenedAttach { id: id(task), sent, arrived, ..attach(attempt, may_start, "boot") }));
                }
                Step::AttachEnded { task, attempt } => world.step(Input::AttachEnded { id: id(task), attempt }),
                Step::Promise { task, attempt } => {
                    let ticket = world.ticket();
                    asked.push(ticket);
                    world.step(Input::Promise { id: id(task), attempt, reply: ReplyTo::new(ticket) });
                }
                Step::Cancel(task) => {
                    let ticket = world.ticket();
                    asked.push(ticket);
                    world.step(Input::Cancel(id(task), ReplyTo::new(ticket)));
                }
                // Only of a task that was started: the master has stored its end.
                Step::Finish(task) if world.disk.get(&id(task)) == Some(&Knowledge::Spooled) => {
                    let ticket = world.ticket();
                    asked.push(ticket);
                    world.step(Input::Finish(id(task), ending(), ReplyTo::new(ticket)));
                }
                Step::EndStart(end, has_begun) => {
                    if let Some(id) = world.starting.front().copied() {
                        // A process can begin a task and fail before it confirms that.
                        let has_begun = has_begun && matches!(end, StartEnd::Failed(_));
                        if has_begun || end == StartEnd::Started {
                            world.disk.insert(id, Knowledge::Spooled);
                            *started.entry(id).or_default() += 1;
                            prop_assert_eq!(started[&id], 1);
                        }
                        world.end_start(end);
                    }
                }
                Step::Clock => {
                    let sent = SentAt { clock: 7, at_ms: world.now };
                    let echo = Some(Echo { at_ms: world.now, age_ms: 0 });
                    world.step(Input::Pinged { revision: None, sent, echo });
                }
                Step::Stop => world.step(Input::Stop),
                Step::Wait(ms) => {
                    world.now += ms;
                    world.step(Input::Tick);
                }
                Step::DiskFails(fails) => world.disk_fails = fails,
                Step::Removed => world.step(Input::Removed),
                Step::Finish(_) => {}
            }
        }
        world.disk_fails = false;
        world.now += WAIT_FOR_CLOCK_MS;
        world.step(Input::Tick);
        while !world.starting.is_empty() {
            world.end_start(StartEnd::Expired);
        }
        for ticket in opened {
            prop_assert!(world.decisions.contains_key(&ticket), "an Attach was not answered");
        }
        for ticket in asked {
            prop_assert!(world.replies.contains_key(&ticket), "a caller was not answered");
        }
    }
}
