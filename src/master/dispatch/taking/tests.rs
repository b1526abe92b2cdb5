//! Which output of an agent is kept, and when more is requested.

use std::path::PathBuf;

use super::*;
use crate::{
    domain::{frame::Stream, ids::JobId, offset::OutputOffset},
    master::output_log::OutputLogs,
    sys::disk::{Disk, model::Model},
};

#[tokio::test(start_paused = true)]
async fn an_agent_is_not_asked_for_what_follows_before_what_lies_before_is_on_the_disk() {
    let model = Model::new(1);
    let logs = OutputLogs::on(Disk::model(model.clone()), PathBuf::from("/runs"));
    let job = JobId::from_parts(1, 1);
    let log = logs.open(job).await.unwrap();
    let frame =
        Frame { stream: Stream::Stdout, offset: OutputOffset::START, time_ns: 0, data: vec![7; 1000].into() };
    log.append(0, &[frame]).await.unwrap();
    // Every call fails, so no sync succeeds.
    model.fail(1);
    let taking = |index, from| {
        let cap = Cap::new(1 << 30, Overflow::Gap);
        let id = TaskId { job, index };
        Taking::new(id, Handle::disconnected(), Arc::clone(&log), from, cap, &Budget::default())
    };
    taking(1, OutputOffset::START)
        .wait_until_begin_is_safe()
        .await
        .ok()
        .expect("it has nothing to let go of");
    let mut again = taking(0, OutputOffset(1000));
    let patience = std::time::Duration::from_mins(1);
    let waited = tokio::time::timeout(patience, again.wait_until_begin_is_safe()).await;
    assert!(waited.is_err(), "the log may be lost, and then nobody has it");
    model.fail(0);
    again.wait_until_begin_is_safe().await.ok().expect("it is on the disk now");
    assert_eq!(*log.synced().borrow(), *log.appended().borrow());
}

#[tokio::test]
async fn frames_that_are_small_on_purpose_do_not_make_the_log_larger_than_the_cap() {
    const CAP: u64 = 1 << 20;
    let logs = OutputLogs::on(Disk::model(Model::new(1)), PathBuf::from("/runs"));
    let job = JobId::from_parts(1, 1);
    let log = logs.open(job).await.unwrap();
    let id = TaskId { job, index: 0 };
    let cap = Cap::new(CAP, Overflow::Gap);
    let mut taking = Taking::new(
        id,
        Handle::disconnected(),
        Arc::clone(&log),
        OutputOffset::START,
        cap,
        &Budget::default(),
    );
    taking.granted = OutputOffset::MAX;
    // Bytes of alternating streams, which cannot be joined.
    for offset in 0..100_000u64 {
        let stream = if offset % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
        let frame = Frame { stream, offset: OutputOffset(offset), time_ns: 0, data: b"x".to_vec().into() };
        taking.append(vec![frame]).await.ok().expect("it is taken");
    }
    taking.finish().await.ok().expect("it is written");
    let written = log.appended().borrow().0;
    assert!((CAP / 2..CAP * 5 / 4).contains(&written), "{written} bytes");
    assert_eq!(log.task_end(0), OutputOffset(100_000), "its end is there");
}

#[tokio::test]
async fn a_frame_that_reaches_over_the_cap_is_kept_as_far_as_the_beginning_goes() {
    let logs = OutputLogs::on(Disk::model(Model::new(1)), PathBuf::from("/runs"));
    let job = JobId::from_parts(1, 1);
    let log = logs.open(job).await.unwrap();
    let id = TaskId { job, index: 0 };
    let cap = Cap::new(64 * 1024, Overflow::Gap);
    let mut taking = Taking::new(
        id,
        Handle::disconnected(),
        Arc::clone(&log),
        OutputOffset::START,
        cap,
        &Budget::default(),
    );
    taking.granted = OutputOffset::MAX;
    // Frames as agents send them: much longer than what is kept.
    for offset in (0..1_200_000u64).step_by(60_000) {
        let frame = Frame {
            stream: Stream::Stdout,
            offset: OutputOffset(offset),
            time_ns: 0,
            data: vec![b'x'; 60_000].into(),
        };
        taking.append(vec![frame]).await.ok().expect("it is taken");
    }
    taking.finish().await.ok().expect("it is written");
    let mut reader = logs.reader(job, LogPosition::START);
    let mut kept = Vec::new();
    let end = *log.appended().borrow();
    loop {
        let frames = reader.next(end).await.unwrap();
        if frames.is_empty() {
            break;
        }
        kept.extend(frames.into_iter().map(|(_, frame)| (frame.offset, frame.end())));
    }
    let before: u64 =
        kept.iter().filter(|(from, _)| *from < OutputOffset(32_768)).map(|(from, to)| to.since(*from)).sum();
    let behind: u64 =
        kept.iter().filter(|(from, _)| *from >= OutputOffset(32_768)).map(|(from, to)| to.since(*from)).sum();
    assert_eq!(
        (before, kept.last().map(|(_, end)| *end)),
        (32_768, Some(OutputOffset(1_200_000))),
        "{kept:?}"
    );
    assert_eq!(behind, 32_768, "the end");
}
