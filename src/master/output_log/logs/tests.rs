//! The promises of the log: exact bytes from any position, nothing after a torn frame, and correct indices.

mod reading;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::{
    frame::{Frame, Stream},
    offset::OutputOffset,
    time::UnixMs,
};

fn frame(offset: u64, data: &[u8]) -> Frame {
    Frame {
        stream: Stream::Stdout,
        offset: OutputOffset(offset),
        time_ns: 1,
        data: Bytes::copy_from_slice(data),
    }
}

fn logs() -> (tempfile::TempDir, OutputLogs, JobId) {
    let dir = tempfile::tempdir().unwrap();
    let logs = OutputLogs::new(dir.path().to_owned());
    (dir, logs, JobId::from_parts(1, 1))
}

/// Drops a log when nothing else holds it.
async fn close(log: Arc<JobLog>) {
    while Arc::strong_count(&log) > 1 {
        tokio::task::yield_now().await;
    }
}

async fn read_all(mut reader: LogReader, until: u64) -> Vec<(u32, Frame)> {
    let mut all = Vec::new();
    loop {
        let frames = reader.next(LogPosition(until)).await.unwrap();
        if frames.is_empty() {
            return all;
        }
        all.extend(frames);
    }
}

#[tokio::test]
async fn frames_that_come_twice_are_written_once() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    log.append(0, &[frame(0, b"hello ")]).await.unwrap();
    log.append(0, &[frame(3, b"lo world")]).await.unwrap();
    log.append(0, &[frame(0, b"hello")]).await.unwrap();
    log.append(0, &[frame(6, b"world"), frame(9, b"ld!"), frame(12, b" Hello")]).await.unwrap();
    log.append(1, &[frame(0, b"other")]).await.unwrap();
    let end = *log.appended().borrow();
    let all = read_all(logs.reader(job, LogPosition::START), end.0).await;
    let bytes = |task| -> Vec<u8> {
        let of_task = all.iter().filter(|(of, _)| *of == task);
        of_task.flat_map(|(_, frame)| frame.data.to_vec()).collect()
    };
    assert_eq!(bytes(0), b"hello world! Hello");
    assert_eq!(bytes(1), b"other");
    assert_eq!(
        (log.task_end(0), log.task_end(1), log.task_end(2)),
        (OutputOffset(18), OutputOffset(5), OutputOffset::START)
    );
}

#[tokio::test]
async fn a_torn_end_is_cut_and_appending_continues() {
    let (dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    let whole = log.append(0, &[frame(0, b"whole")]).await.unwrap();
    log.append(0, &[frame(5, b"torn")]).await.unwrap();
    close(log).await;
    let path = file_path(&dir.path().join(job.to_string()), 0);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let log = logs.open(job).await.unwrap();
    assert_eq!((log.task_end(0), *log.appended().borrow()), (OutputOffset(5), whole));
    log.append(0, &[frame(5, b"again")]).await.unwrap();
    let all = read_all(logs.reader(job, LogPosition::START), logs.end(job).await.unwrap().0).await;
    assert_eq!(all.len(), 2);
    assert_eq!(&all[1].1.data[..], b"again");
}

#[tokio::test]
async fn a_log_rolls_and_is_found_again_by_offset() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    let chunk = vec![7; 256 * 1024];
    for n in 0..600u64 {
        let task = u32::from(n % 2 == 1);
        log.append(task, &[frame(n / 2 * chunk.len() as u64, &chunk)]).await.unwrap();
    }
    assert_eq!(
        logs.disk.numbers(&logs.directory(job), LOG_EXTENSION).unwrap().len(),
        3,
        "150 MB in files of 64"
    );
    close(log).await;
    let log = logs.open(job).await.unwrap();
    let wanted = OutputOffset(70 * 1024 * 1024);
    let position = log.position_behind(&[(1, wanted)]);
    assert!(position > LogPosition(FILE_SIZE), "the index leads near the place");
    assert_eq!(logs.position_behind(job, vec![(1, wanted)]).await.unwrap(), position);
    let mut reader = logs.reader(job, position);
    let (_, first) = reader
        .next(logs.end(job).await.unwrap())
        .await
        .unwrap()
        .into_iter()
        .find(|(task, _)| *task == 1)
        .unwrap();
    assert!(first.offset <= wanted && first.offset + 2 * 1024 * 1024 > wanted);
    assert_eq!(
        read_all(logs.reader(job, LogPosition::START), logs.end(job).await.unwrap().0).await.len(),
        600
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_appended_is_soon_on_the_disk() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    let end = log.append(0, &[frame(0, b"hello")]).await.unwrap();
    log.synced().wait_for(|synced| *synced >= end).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_cut_leaves_whole_frames_and_the_rest_can_be_sent_again(
        sizes in proptest::collection::vec((0u32..3, 1usize..400), 1..40), cut_share in 0.0..1.0f64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let (dir, logs, job) = logs();
        let log = runtime.block_on(logs.open(job)).unwrap();
        let mut sent: HashMap<u32, Vec<u8>> = HashMap::new();
        for (n, (task, size)) in sizes.iter().enumerate() {
            let bytes = sent.entry(*task).or_default();
            let data = vec![u8::try_from(n).unwrap(); *size];
            runtime.block_on(log.append(*task, &[frame(bytes.len() as u64, &data)])).unwrap();
            bytes.extend_from_slice(&data);
        }
        runtime.block_on(close(log));
        let path = file_path(&dir.path().join(job.to_string()), 0);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a test's share")]
        file.set_len((file.metadata().unwrap().len() as f64 * cut_share) as u64).unwrap();
        // The agents resend everything, and the log drops what it already has.
        let log = runtime.block_on(logs.open(job)).unwrap();
        for (task, bytes) in &sent {
            let end = usize::try_from(log.task_end(*task).0).unwrap();
            prop_assert!(end <= bytes.len());
            if end < bytes.len() {
                let pieces = bytes.chunks(97).enumerate().map(|(n, piece)| frame(n as u64 * 97, piece));
                runtime.block_on(log.append(*task, &pieces.collect::<Vec<_>>())).unwrap();
            }
        }
        let mut read: HashMap<u32, Vec<u8>> = HashMap::new();
        let end = runtime.block_on(logs.end(job)).unwrap();
        for (task, frame) in runtime.block_on(read_all(logs.reader(job, LogPosition::START), end.0)) {
            let bytes = read.entry(task).or_default();
            prop_assert_eq!(bytes.len() as u64, frame.offset.0);
            bytes.extend_from_slice(&frame.data);
        }
        prop_assert_eq!(read, sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_that_append_at_once_lose_nothing_and_share_no_place() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    let appending: Vec<_> = (0..8)
        .map(|task| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let mut ends = Vec::new();
                for n in 0..500 {
                    ends.push(log.append(task, &[frame(n * 3, b"abc")]).await.unwrap());
                }
                ends
            })
        })
        .collect();
    let mut ends = Vec::new();
    for task in appending {
        ends.extend(task.await.unwrap());
    }
    let end = *log.appended().borrow();
    assert_eq!(ends.into_iter().max(), Some(end));
    let mut known = [OutputOffset::START; 8];
    for (task, frame) in read_all(logs.reader(job, LogPosition::START), end.0).await {
        let known = &mut known[task as usize];
        assert_eq!((frame.offset, &frame.data[..]), (*known, &b"abc"[..]));
        *known = frame.end();
    }
    assert_eq!(known, [OutputOffset(1_500); 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn frames_that_are_queued_during_a_write_are_written_too() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    for n in 0..1_000 {
        // No later caller would write what these leave in the queue.
        let appending: Vec<_> = (0..4)
            .map(|task| {
                let log = Arc::clone(&log);
                tokio::spawn(async move { log.append(task, &[frame(n * 3, b"abc")]).await.unwrap() })
            })
            .collect();
        for task in appending {
            let patience = std::time::Duration::from_mins(1);
            tokio::time::timeout(patience, task).await.expect("it is written").unwrap();
        }
    }
}

#[tokio::test]
async fn a_log_tells_when_it_was_written_to_last() {
    let (_dir, logs, job) = logs();
    assert_eq!(logs.last_change_ms(job), None);
    let now = || UnixMs(0) + std::time::UNIX_EPOCH.elapsed().unwrap();
    let before = now();
    let log = logs.open(job).await.unwrap();
    log.append(0, &[frame(0, b"abc")]).await.unwrap();
    let changed = logs.last_change_ms(job).unwrap();
    // A file system's clock may be a tick behind.
    assert!((before - Duration::from_secs(1)..=now()).contains(&changed), "{changed:?} since {before:?}");
}

#[test]
fn the_directory_of_all_logs_outlives_a_power_failure_with_what_is_in_it() {
    for seed in 0..20 {
        let model = crate::sys::disk::model::Model::new(seed);
        let disk = Disk::model(model.clone());
        disk.make_directory(std::path::Path::new("/data")).unwrap();
        disk.sync_names(std::path::Path::new("/")).unwrap();
        let logs = OutputLogs::on(disk.clone(), PathBuf::from("/data/runs"));
        logs.make_root().unwrap();
        let directory = logs.directory(JobId::from_parts(1, 1));
        let log = opening::open(&disk, directory.clone(), FILE_SIZE).unwrap();
        log.append_here(0, &[frame(0, b"abc")]).unwrap();
        log.sync_once().unwrap();
        drop(log);
        model.crash();
        assert_eq!(
            opening::open(&disk, directory, FILE_SIZE).unwrap().task_end(0),
            OutputOffset(3),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn logs_are_listed_sized_and_removed() {
    let (_dir, logs, job) = logs();
    let other = JobId::from_parts(1, 2);
    for id in [job, other] {
        let log = logs.open(id).await.unwrap();
        let end = log.append(0, &[frame(0, b"hello")]).await.unwrap();
        assert!(Arc::ptr_eq(&log, &logs.open(id).await.unwrap()), "one log a job");
        close(log).await;
        assert_eq!(logs.end(id).await.unwrap(), end);
    }
    let mut listed = logs.jobs().unwrap();
    listed.sort();
    assert_eq!(listed, [job, other]);
    assert!((1..100_000).contains(&logs.size(job)));
    logs.remove(job).unwrap();
    logs.remove(job).unwrap();
    assert_eq!((logs.jobs().unwrap(), logs.size(job)), (vec![other], 0));
    fs::write(logs.directory(job), "no directory").unwrap();
    assert!(logs.remove(job).is_err(), "a failure to remove is reported");
}

#[tokio::test]
async fn logs_of_an_earlier_version_move_to_their_new_directory() {
    let (dir, job) = (tempfile::tempdir().unwrap(), JobId::from_parts(1, 1));
    let old = OutputLogs::new(dir.path().join("old"));
    let log = old.open(job).await.unwrap();
    let end = log.append(0, &[frame(0, b"hello")]).await.unwrap();
    close(log).await;
    let new = OutputLogs::new(dir.path().join("new"));
    new.make_root().unwrap();
    new.adopt(old.root()).unwrap();
    assert_eq!((new.jobs().unwrap(), new.end(job).await.unwrap()), (vec![job], end));
    assert!(!old.root().exists());
    new.adopt(old.root()).unwrap();
}

#[tokio::test]
async fn a_follower_that_keeps_up_is_fed_from_memory() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    let before = log.append(0, &[frame(0, b"nobody follows")]).await.unwrap();
    assert_eq!(log.recent(LogPosition::START), None, "nothing is kept without a follower");
    let _follower = log.appended();
    let _another = log.appended();
    log.append(0, &[frame(14, b"one")]).await.unwrap();
    let end = log.append(1, &[frame(0, b"two")]).await.unwrap();
    let (frames, to) = log.recent(before).unwrap();
    let texts: Vec<_> = frames.iter().map(|(task, frame)| (*task, &frame.data[..])).collect();
    assert_eq!((texts, to), (vec![(0, &b"one"[..]), (1, b"two")], end));
    assert_eq!(log.recent_from(), Some(before));
    assert_eq!(log.recent(LogPosition(before.0 + 1)), None, "no frame begins there");
}

#[tokio::test]
async fn the_slowest_of_those_who_are_waited_for_is_told() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    let slowest = log.slowest();
    assert_eq!(*slowest.borrow(), None);
    let (first, second) = (log.pace(LogPosition(10)), log.pace(LogPosition(20)));
    assert_eq!(*slowest.borrow(), Some(LogPosition(10)));
    first.moved(LogPosition(30));
    assert_eq!(*slowest.borrow(), Some(LogPosition(20)));
    drop(second);
    assert_eq!(*slowest.borrow(), Some(LogPosition(30)));
    drop(first);
    assert_eq!(*slowest.borrow(), None);
}

#[tokio::test]
async fn files_that_nobody_needs_are_dropped_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(opening::open(&Disk::default(), dir.path().to_owned(), 700).unwrap());
    tokio::spawn(syncing::keep_synced(&log));
    let mut firsts = vec![0];
    for n in 0..12u64 {
        let end = log.append(0, &[frame(n * 300, &[7; 300])]).await.unwrap();
        log.flush();
        log.synced().wait_for(|synced| *synced >= end).await.unwrap();
        let newest = *log.state().contents.files.keys().next_back().unwrap();
        if firsts.last() != Some(&newest) {
            firsts.push(newest);
        }
    }
    assert!(firsts.len() >= 4, "{firsts:?}");
    let there = || Disk::default().numbers(dir.path(), LOG_EXTENSION).unwrap();
    // Only closed and synced files with an index may be dropped.
    while log.state().indexed.len() < firsts.len() - 1 {
        tokio::task::yield_now().await;
    }
    log.drop_spare(LogPosition(firsts[2]), |_, _| false).unwrap();
    assert_eq!(there(), firsts, "somebody needs all of them");
    log.drop_spare(LogPosition(firsts[2]), |(_, to), end| to + 300 <= end).unwrap();
    assert_eq!(there(), firsts[2..], "what lies before the position");
    log.drop_spare(LogPosition(u64::MAX), |_, _| true).unwrap();
    assert_eq!(there(), firsts[firsts.len() - 1..], "never the one that is written");
}

#[test]
fn a_log_that_is_deleted_while_it_is_open_needs_no_sync() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("run");
    let log = opening::open(&Disk::default(), directory.clone(), FILE_SIZE).unwrap();
    log.append_here(0, &[frame(0, b"abc")]).unwrap();
    fs::remove_dir_all(directory).unwrap();
    log.sync_once().unwrap();
    assert_eq!(*log.trouble().borrow(), None);
}

#[test]
fn all_of_a_long_file_is_written_again_after_a_failed_sync() {
    let model = crate::sys::disk::model::Model::new(1);
    let disk = Disk::model(model.clone());
    disk.make_directory(std::path::Path::new("/runs")).unwrap();
    disk.sync_names(std::path::Path::new("/")).unwrap();
    let directory = PathBuf::from("/runs/run");
    let log = opening::open(&disk, directory.clone(), FILE_SIZE).unwrap();
    let piece = vec![7; 200_000];
    let mut end = 0;
    for n in 0..20u64 {
        end = log.append_here(0, &[frame(n * 200_000, &piece)]).unwrap().0;
    }
    let mut trouble = log.trouble();
    model.fail(1);
    assert!(log.sync_once().is_err());
    assert!(trouble.has_changed().unwrap());
    let told = trouble.borrow_and_update().clone().unwrap();
    assert!(!told.is_failure() && told.text().starts_with("the master's disk does not take its output"));
    model.fail(0);
    assert_eq!(log.append_here(1, &[frame(0, b"meanwhile")]).unwrap(), *log.appended().borrow());
    let end = (*log.appended().borrow()).max(LogPosition(end));
    log.sync_once().unwrap();
    assert_eq!((*log.synced().borrow(), log.trouble().borrow().clone()), (end, None));
    drop(log);
    model.crash();
    let log = opening::open(&disk, directory, FILE_SIZE).unwrap();
    assert_eq!((*log.appended().borrow(), log.task_end(0)), (end, OutputOffset(4_000_000)));
}

#[tokio::test]
async fn what_is_kept_in_memory_for_followers_is_bounded() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    let (_follower, _another) = (log.appended(), log.appended());
    let piece = vec![7; 100_000];
    let mut end = 0;
    for n in 0..100u64 {
        end = log.append(0, &[frame(n * 100_000, &piece)]).await.unwrap().0;
    }
    let kept = LogPosition(end).bytes_since(log.recent_from().unwrap());
    assert!((5_500_000..6_500_000).contains(&kept), "{kept} bytes");
}

#[test]
fn two_who_are_about_to_open_a_log_wait_for_each_other_whatever_is_forgotten_meanwhile() {
    let (_dir, logs, job) = logs();
    let other = |number| JobId::from_parts(1, number);
    let first = logs.opened(job);
    logs.opened(other(2));
    assert!(Arc::ptr_eq(&logs.opened(job), &first), "opened twice, it would be written to from two sides");
    drop(first);
    logs.opened(other(3));
    assert!(!logs.open.lock().unwrap().contains_key(&job), "nobody opens it any more");
}

#[tokio::test]
async fn logs_that_nobody_has_are_forgotten() {
    let (_dir, logs, job) = logs();
    let held = logs.open(job).await.unwrap();
    for number in 2..30 {
        close(logs.open(JobId::from_parts(1, number)).await.unwrap()).await;
    }
    assert!(logs.open.lock().unwrap().len() <= 3);
    assert!(Arc::ptr_eq(&held, &logs.open(job).await.unwrap()), "one log a job");
}

#[tokio::test]
async fn what_lies_where_is_remembered_of_few_jobs_and_of_the_right_one() {
    let (_dir, logs, _) = logs();
    let jobs: Vec<JobId> = (1..=12).map(|number| JobId::from_parts(1, number)).collect();
    for (at, job) in jobs.iter().enumerate() {
        let log = logs.open(*job).await.unwrap();
        log.append(0, &[frame(0, &vec![7; 10 + at])]).await.unwrap();
        close(log).await;
    }
    for _ in 0..2 {
        for job in &jobs {
            let end = logs.end(*job).await.unwrap();
            assert_eq!(
                logs.position_behind(*job, vec![(0, OutputOffset(1_000))]).await.unwrap(),
                LogPosition(end.0),
                "all of it is known"
            );
        }
    }
    assert_eq!(logs.remembered.lock().unwrap().len(), MAX_CACHED_CONTENTS);
}

#[tokio::test]
async fn a_log_that_somebody_has_is_not_removed_with_those_that_nobody_knows() {
    let (_dir, logs, job) = logs();
    let log = logs.open(job).await.unwrap();
    log.append(0, &[frame(0, b"hello")]).await.unwrap();
    let remove = || {
        let logs = logs.clone();
        tokio::task::spawn_blocking(move || logs.remove_unused(job).unwrap())
    };
    assert!(!remove().await.unwrap());
    assert!(logs.size(job) > 0);
    close(log).await;
    assert!(remove().await.unwrap());
    assert_eq!(logs.size(job), 0);
}
