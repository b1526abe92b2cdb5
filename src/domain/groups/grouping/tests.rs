//! Compares groups at each step with groups that are computed from the whole text.

use proptest::prelude::*;

use super::*;
use crate::domain::{offset::OutputOffset, outcome::Ending, time::UnixMs};

fn plain(tasks: usize) -> Grouping {
    Grouping::new(vec![Masker::default(); tasks])
}

fn exited(status: u8) -> Outcome {
    Ending::Exited(status).into()
}

/// The output of a task, and its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    streams: [Vec<u8>; 2],
    outcome: Option<Outcome>,
}

impl Told {
    fn lines(&self, stream: usize) -> Vec<Vec<u8>> {
        let text = &self.streams[stream];
        let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let last = lines.pop().unwrap_or_default();
        if self.outcome.is_some() && !last.is_empty() {
            lines.push(last);
        }
        lines
    }

    fn is_prefix(&self, other: &Self) -> bool {
        (0..2).all(|stream| other.lines(stream).starts_with(&self.lines(stream)))
    }
}

/// Computes the tasks of each group from scratch.
fn from_scratch(all: &[Told]) -> Vec<Vec<u32>> {
    let index = |task: usize| u32::try_from(task).unwrap();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    let ended: Vec<usize> = (0..all.len()).filter(|task| all[*task].outcome.is_some()).collect();
    for task in ended {
        let same = |other: u32| {
            let other = &all[other as usize];
            other.outcome == all[task].outcome && other.is_prefix(&all[task]) && all[task].is_prefix(other)
        };
        match groups.iter_mut().find(|group| same(group[0])) {
            Some(group) => group.push(index(task)),
            None => groups.push(vec![index(task)]),
        }
    }
    let running: Vec<usize> = (0..all.len()).filter(|task| all[*task].outcome.is_none()).collect();
    // An end is not a prefix of any longer output.
    let is_end = |task: &usize| {
        !running.iter().any(|other| all[*task].is_prefix(&all[*other]) && !all[*other].is_prefix(&all[*task]))
    };
    let mut ends: Vec<Vec<usize>> = Vec::new();
    for task in running.iter().copied().filter(is_end) {
        match ends.iter_mut().find(|end| all[end[0]].is_prefix(&all[task])) {
            Some(end) => end.push(task),
            None => ends.push(vec![task]),
        }
    }
    let weight = |end: &[usize]| running.iter().filter(|task| all[**task].is_prefix(&all[end[0]])).count();
    let mut members = ends.clone();
    for task in running.iter().copied().filter(|task| !is_end(task)) {
        let fits = (0..ends.len()).filter(|end| all[task].is_prefix(&all[ends[*end][0]]));
        let best = fits.max_by_key(|end| (weight(&ends[*end]), std::cmp::Reverse(ends[*end][0]))).unwrap();
        members[best].push(task);
    }
    groups.extend(members.into_iter().map(|group| group.into_iter().map(index).collect()));
    for group in &mut groups {
        group.sort_unstable();
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), group[0]));
    groups
}

#[derive(Clone, Debug)]
enum Step {
    Print(usize, usize, &'static str),
    End(usize, u8),
}

fn steps(tasks: usize) -> impl Strategy<Value = Vec<Step>> {
    let text = prop_oneof![Just("a\n"), Just("b\n"), Just("a"), Just("\n"), Just("a\nb\n"), Just("b")];
    let print = (0..tasks, 0usize..2, text).prop_map(|(task, stream, text)| Step::Print(task, stream, text));
    let end = (0..tasks, 0u8..2).prop_map(|(task, status)| Step::End(task, status));
    proptest::collection::vec(prop_oneof![8 => print, 1 => end], 0..60)
}

proptest! {
    #[test]
    fn groups_are_what_regrouping_from_scratch_gives_at_every_step(steps in steps(6)) {
        let mut grouping = plain(6);
        let mut told = vec![Told::default(); 6];
        for step in steps {
            match step {
                Step::Print(task, stream, text) if told[task].outcome.is_none() => {
                    let which = [Stream::Stdout, Stream::Stderr][stream];
                    grouping.feed(u32::try_from(task).unwrap(), which, text.as_bytes(), UnixMs(0));
                    told[task].streams[stream].extend_from_slice(text.as_bytes());
                }
                Step::End(task, status) if told[task].outcome.is_none() => {
                    grouping.end(u32::try_from(task).unwrap(), exited(status));
                    told[task].outcome = Some(exited(status));
                }
                Step::Print(..) | Step::End(..) => {}
            }
            let groups: Vec<Vec<u32>> = grouping.groups().into_iter().map(|group| group.tasks).collect();
            prop_assert_eq!(&groups, &from_scratch(&told), "{:?}", told);
        }
    }

    #[test]
    fn ancestors_are_found_as_by_walking(choices in proptest::collection::vec((0usize..40, 0u64..3), 1..200)) {
        let mut tree = Tree::default();
        let mut known: Vec<(NodeId, Vec<u64>)> = vec![(ROOT, Vec::new())];
        for (from, hash) in choices {
            let (node, mut path) = known[from % known.len()].clone();
            path.push(hash);
            known.push((tree.step(node, hash, b""), path));
        }
        for (a, path_a) in &known {
            for (b, path_b) in known.iter().step_by(3) {
                let common = path_a.iter().zip(path_b).take_while(|(x, y)| x == y).count();
                prop_assert_eq!(tree.common(*a, *b) as usize, common);
                prop_assert_eq!(tree.is_prefix(*a, *b), path_b.starts_with(path_a));
            }
        }
    }
}

#[test]
fn the_line_at_which_tasks_part_is_told() {
    let mut grouping = plain(3);
    for task in 0..3 {
        grouping.feed(task, Stream::Stdout, b"one\ntwo\n", UnixMs(5));
    }
    grouping.feed(2, Stream::Stdout, b"tree\n", UnixMs(6));
    grouping.feed(0, Stream::Stdout, b"three\n", UnixMs(7));
    let groups = grouping.groups();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0].tasks, [0, 1], "what is only behind is in step");
    assert_eq!(groups[1].parted, Some(Parting { stream: Stream::Stdout, line: 3 }));
    assert_eq!(grouping.last_output_ms(2), Some(UnixMs(6)));
    for task in 0..3 {
        grouping.end(task, exited(0));
    }
    assert_eq!(grouping.groups().len(), 3, "ended tasks agree only as a whole");
}

#[test]
fn running_and_ended_tasks_never_share_a_group() {
    let mut grouping = plain(2);
    grouping.feed(0, Stream::Stdout, b"x\n", UnixMs(0));
    grouping.feed(1, Stream::Stdout, b"x\n", UnixMs(0));
    assert_eq!(grouping.groups().len(), 1);
    grouping.end(0, exited(0));
    assert_eq!(grouping.groups().len(), 2);
    grouping.end(1, exited(1));
    assert_eq!(grouping.groups().len(), 2, "another status is another group");
}

#[test]
fn how_pieces_arrive_and_streams_mix_does_not_matter() {
    let mut grouping = plain(2);
    grouping.feed(0, Stream::Stdout, b"a\nbc", UnixMs(0));
    grouping.feed(0, Stream::Stderr, b"err\n", UnixMs(0));
    grouping.feed(0, Stream::Stdout, b"d\nlast", UnixMs(0));
    grouping.feed(1, Stream::Stderr, b"err\n", UnixMs(0));
    grouping.feed(1, Stream::Stdout, b"a\n\x1b[31mbcd\x1b[0m\nla", UnixMs(0));
    grouping.feed(1, Stream::Stdout, b"st", UnixMs(0));
    grouping.end(0, exited(0));
    grouping.end(1, exited(0));
    assert_eq!(grouping.groups().len(), 1);
    assert!(grouping.agree(0, 1));
    assert_eq!(grouping.first_line(1), Some((Stream::Stdout, &b"a"[..])));
}

#[test]
fn masks_make_equal_what_differs_in_them_only() {
    let masker = |name: &str| Masker::new("names,numbers".parse().unwrap(), [name]);
    let mut grouping = Grouping::new(vec![masker("web-1"), masker("web-2")]);
    grouping.feed(0, Stream::Stdout, b"web-1\n123\n", UnixMs(0));
    grouping.feed(1, Stream::Stdout, b"web-2\n45\n", UnixMs(0));
    assert_eq!(grouping.groups().len(), 1);
}

#[test]
fn memory_stays_within_its_bound_whatever_is_printed() {
    let mut grouping = plain(20);
    for task in 0..20u32 {
        for line in 0..60_000u32 {
            grouping.feed(task, Stream::Stdout, format!("{} {line}\n", task % 19).as_bytes(), UnixMs(0));
        }
        grouping.feed(task, Stream::Stderr, &vec![b'x'; 3_000_000], UnixMs(0));
    }
    assert!(grouping.memory() < 64 * 1024 * 1024, "{}", grouping.memory());
    let groups = grouping.groups();
    assert!(groups.iter().all(|group| group.long));
    assert_eq!(groups[0].tasks, [0, 19]);
    grouping.feed(19, Stream::Stdout, b"other\n", UnixMs(0));
    (0..20).for_each(|task| grouping.end(task, exited(0)));
    assert_eq!(grouping.groups().len(), 20, "what lies beyond counts at the end");
}

#[test]
fn what_is_missing_joins_no_lines_and_makes_nothing_equal() {
    let frame = |offset, text: &'static str| Frame {
        stream: Stream::Stdout,
        offset,
        time_ns: 0,
        data: bytes::Bytes::from_static(text.as_bytes()),
    };
    let mut grouping = plain(4);
    // Two tasks with the same missing part, one task without a missing part, and one with a smaller missing
    // part.
    for task in [0, 1] {
        grouping.take(task, &frame(OutputOffset::START, "1\n27"), UnixMs(0));
        grouping.take(task, &frame(OutputOffset(1000), "95\n3\n"), UnixMs(0));
    }
    grouping.take(2, &frame(OutputOffset::START, "1\n27\n95\n3\n"), UnixMs(0));
    grouping.take(3, &frame(OutputOffset::START, "1\n27"), UnixMs(0));
    grouping.take(3, &frame(OutputOffset(999), "95\n3\n"), UnixMs(0));
    for task in 0..4 {
        grouping.end(task, exited(0));
    }
    let groups = grouping.groups();
    let tasks: Vec<_> = groups.iter().map(|group| (group.tasks.clone(), group.lines, group.long)).collect();
    // Whether the missing parts were the same is unknown.
    let alone = |task, long| (vec![task], [4, 0], long);
    assert_eq!(tasks, [alone(0, true), alone(1, true), alone(2, false), alone(3, true)]);
    assert!(groups.iter().all(|group| group.parted.is_none()), "nor whether it differs: {groups:?}");
    assert!(!grouping.agree(0, 1) && grouping.agree(0, 0));
    grouping.miss(2, OutputOffset(10));
    assert!(!grouping.groups()[2].long, "nothing of it is missing");
    grouping.miss(2, OutputOffset(20));
    assert!(grouping.groups()[2].long, "its end is");
}

#[test]
fn the_lines_at_a_difference_are_known_unless_there_are_too_many() {
    let mut all = plain(3);
    for (task, text) in [(0, "one\ntwo\nthree\n"), (1, "one\ntwo\nthree\n"), (2, "one\nother\n")] {
        all.feed(task, Stream::Stdout, text.as_bytes(), UnixMs(1));
    }
    let parted = all.groups()[1].parted.unwrap();
    assert_eq!((all.line_at(0, parted), all.line_at(2, parted)), (Some(&b"two"[..]), Some(&b"other"[..])));
    let beyond = Parting { line: 9, ..parted };
    assert_eq!(all.line_at(2, beyond), None);
    // The first lines of each task fit, the last ones do not, and nothing is shown in their place.
    let mut many = plain(2);
    for line in 0..10_000 {
        let text = format!("{line:<100}\n");
        many.feed(0, Stream::Stdout, text.as_bytes(), UnixMs(1));
    }
    let at = |line| many.line_at(0, Parting { stream: Stream::Stdout, line });
    assert_eq!(at(1).map(|line| line[0]), Some(b'0'));
    assert_eq!(at(10_000), None);
}

#[test]
fn the_last_error_is_that_of_stderr() {
    let mut all = plain(1);
    assert_eq!(all.last_error(0), None);
    all.feed(0, Stream::Stderr, b"W: slow\nE: broken\n", UnixMs(1));
    all.feed(0, Stream::Stdout, b"a\nb\nc\n", UnixMs(1));
    assert_eq!(all.last_error(0), Some(&b"E: broken"[..]));
}
